"""Google's processors: circuits in CZ and PhasedXZ gates on a line of coupled grid qubits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import cirq
import numpy as np

from ...errors import QumosError, unknown
from ...simulation.channels import NoiseSpec
from .adapter import checked, compiled, measured, placed, validated, vendor_package
from .local import service_or, simulator

_PACKAGE = "cirq_google"


@dataclass(frozen=True)
class GoogleAdapter:
    """A processor of Google's Quantum Engine.

    Attributes:
        service: from ``cirq_google.get_engine_sampler``; the device is then the one of its processor. ``None`` for a virtual
            processor that validates as the engine does.
        processor: name of the virtual processor, one of ``cirq_google.engine.list_virtual_processors()``.
    """

    service: cirq.Sampler | None = None
    processor: str = "willow_pink"

    @property
    def name(self) -> str:
        return "google"

    @property
    def width(self) -> int:
        return len(self.device.metadata.qubit_set)

    @cached_property
    def device(self) -> Any:
        """The ``cirq_google.GridDevice``.

        Raises:
            QumosError: the package is missing, no such virtual processor, or a service that is not a processor's sampler.
        """
        if self.service is None:
            return _virtual_device(self.processor)
        processor = getattr(self.service, "processor", None)
        if processor is None:
            raise QumosError("vendor google: the service has no processor; use cirq_google.get_engine_sampler")
        return processor.get_device()

    def native(self, circuit: cirq.AbstractCircuit, qubits: Sequence[cirq.LineQubit]) -> cirq.Circuit:
        device = self.device
        part = checked(self.name, len(device.metadata.qubit_set), circuit, qubits)
        routed, ends = placed(part, qubits, _line(device, len(qubits)), device.metadata.nx_graph)
        native = compiled(self.name, routed, device.metadata.compilation_target_gatesets[0])
        return validated(self.name, device, measured(native, ends))

    def sampler(self, generator: np.random.Generator, noise: NoiseSpec | None = None) -> cirq.Sampler:
        return service_or(self.name, self.service, noise) or self._virtual_engine(simulator(generator, noise))

    def _virtual_engine(self, engine: cirq.Sampler) -> cirq.Sampler:
        """A processor that refuses what the Quantum Engine would refuse, and runs the rest on ``engine``."""
        package = vendor_package(f"{_PACKAGE}.engine")
        validator = vendor_package(f"{_PACKAGE}.engine.engine_validator")
        processor = package.SimulatedLocalProcessor(
            processor_id=self.processor,
            device=self.device,
            validator=validator.create_engine_validator(),
            program_validator=validator.create_program_validator(),
            sampler=engine,
        )
        sampler: cirq.Sampler = package.SimulatedLocalEngine([processor]).get_sampler(self.processor)
        return sampler


@lru_cache(maxsize=8)
def _virtual_device(processor: str) -> Any:
    engine = vendor_package(f"{_PACKAGE}.engine")
    if processor not in engine.list_virtual_processors():
        raise unknown("virtual processor of vendor google", processor, engine.list_virtual_processors())
    return engine.create_device_from_processor_id(processor)


@lru_cache(maxsize=64)
def _line(device: Any, length: int) -> tuple[cirq.Qid, ...]:
    package = vendor_package(_PACKAGE)
    not_found = vendor_package(f"{_PACKAGE}.line.placement.sequence").NotFoundError
    try:
        return tuple(package.line_on_device(device, length))
    except not_found as error:
        raise QumosError(f"vendor google: the device has no line of {length} coupled qubits") from error
