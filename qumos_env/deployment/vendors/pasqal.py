"""Pasqal's neutral atoms: circuits in CZ and one-qubit gates, one at a time, on a square of atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cirq
import networkx
import numpy as np

from ...errors import QumosError
from ...simulation.channels import NoiseSpec
from .adapter import checked, compiled, measured, placed, validated, vendor_package
from .local import CheckedSampler, service_or, simulator

_PACKAGE = "cirq_pasqal"
_RADIUS = 3.0
_MAX_SIDE = 10


@dataclass(frozen=True)
class PasqalAdapter:
    """A virtual device of Pasqal: atoms one apart on a square, gates on pairs up to three apart, the most that the package allows.

    The package has no engine of its own: without a service, circuits are validated and go through its format.

    Attributes:
        service: a ``cirq_pasqal.PasqalSampler`` made with ``device``.
        side: of the square, in atoms, from 1 to 10.

    Raises:
        QumosError: another ``side``.
    """

    service: cirq.Sampler | None = None
    side: int = 6

    def __post_init__(self) -> None:
        if not 1 <= self.side <= _MAX_SIDE:
            raise QumosError(f"vendor pasqal: side is {self.side}, from 1 to {_MAX_SIDE} is possible")

    @property
    def name(self) -> str:
        return "pasqal"

    @property
    def width(self) -> int:
        return self.side**2

    @cached_property
    def device(self) -> Any:
        """The ``cirq_pasqal.PasqalVirtualDevice``."""
        package = vendor_package(_PACKAGE)
        return package.PasqalVirtualDevice(_RADIUS, package.TwoDQubit.square(self.side))

    def native(self, circuit: cirq.AbstractCircuit, qubits: Sequence[cirq.LineQubit]) -> cirq.Circuit:
        package = vendor_package(_PACKAGE)
        part = checked(self.name, self.width, circuit, qubits)
        # Square by square from a corner: the first nine are all within reach of each other.
        atoms = sorted(package.TwoDQubit.square(self.side), key=lambda atom: (max(atom.x, atom.y), atom.x, atom.y))[: len(qubits)]
        routed, ends = placed(part, qubits, atoms, _couplings(atoms))
        native = compiled(self.name, routed, package.PasqalGateset(include_additional_controlled_ops=False))
        return validated(self.name, self.device, measured(native, ends))

    def sampler(self, generator: np.random.Generator, noise: NoiseSpec | None = None) -> cirq.Sampler:
        return service_or(self.name, self.service, noise) or CheckedSampler(self._received, simulator(generator, noise))

    def _received(self, circuit: cirq.AbstractCircuit) -> cirq.AbstractCircuit:
        """``circuit`` as the service reads it."""
        checked_circuit = validated(self.name, self.device, circuit.unfreeze())
        received: cirq.Circuit = cirq.read_json(json_text=cirq.to_json(checked_circuit))
        return received


def _couplings(atoms: Sequence[Any]) -> networkx.Graph:
    graph = networkx.Graph()
    graph.add_nodes_from(atoms)
    graph.add_edges_from(
        (a, b) for index, a in enumerate(atoms) for b in atoms[:index] if (a.x - b.x) ** 2 + (a.y - b.y) ** 2 <= _RADIUS**2
    )
    return graph
