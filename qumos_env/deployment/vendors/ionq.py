"""IonQ's ion traps: circuits in the gates of its service, which compiles them on; every pair of qubits is coupled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cirq
import numpy as np

from ...errors import QumosError, one_line
from ...simulation.channels import NoiseSpec
from .adapter import checked, compiled, measured, validated, vendor_package
from .local import CheckedSampler, service_or, simulator

_PACKAGE = "cirq_ionq"


@dataclass(frozen=True)
class IonqAdapter:
    """A target of IonQ's service. The package has no engine of its own: without a service, circuits go through its serialiser.

    Attributes:
        service: from ``cirq_ionq.Service().sampler(target)``.
        width: of the target; the default is Aria's, IonQ's cloud simulator has 29 qubits.
    """

    service: cirq.Sampler | None = None
    width: int = 25

    @property
    def name(self) -> str:
        return "ionq"

    def native(self, circuit: cirq.AbstractCircuit, qubits: Sequence[cirq.LineQubit]) -> cirq.Circuit:
        package = vendor_package(_PACKAGE)
        part = checked(self.name, self.width, circuit, qubits)
        ions = cirq.LineQubit.range(len(qubits))
        moved = part.transform_qubits(dict(zip(qubits, ions, strict=True)))
        native = measured(compiled(self.name, moved, package.IonQTargetGateset()), ions)
        validated(self.name, package.IonQAPIDevice(self.width), native)
        self._serialised(native)
        return native

    def sampler(self, generator: np.random.Generator, noise: NoiseSpec | None = None) -> cirq.Sampler:
        return service_or(self.name, self.service, noise) or CheckedSampler(self._serialised, simulator(generator, noise))

    def _serialised(self, circuit: cirq.AbstractCircuit) -> cirq.AbstractCircuit:
        """``circuit``, if IonQ's serialiser takes it."""
        try:
            vendor_package(_PACKAGE).Serializer().serialize_single_circuit(circuit)
        except ValueError as error:
            raise QumosError(f"vendor ionq: the service cannot take the circuit ({one_line(error)[:200]})") from error
        return circuit
