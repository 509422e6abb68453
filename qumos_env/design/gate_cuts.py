"""RZZ gates between parts as local circuits: what every provider runs when a design has gate cuts.

With S = diag(1, i) and M the measurement of Z that keeps the state and contributes its sign (+1 for outcome 0),

    RZZ(θ) = cos²(θ/2)·I⊗I + sin²(θ/2)·Z⊗Z + ½·sin θ·(M⊗S − M⊗S† + S⊗M − S†⊗M)

as maps on states. Source: Mitarai and Fujii, "Constructing a virtual two-qubit gate by sampling single-qubit operations"
(New J. Phys. 23, 023021, 2021); the signs are those of exp(−iθ/2·Z⊗Z), checked against it.

θ is in the coefficients alone, which the owner keeps: the circuits below hold no trace of it. That lasts only while every variant
is run equally often, for shots allotted by the size of a coefficient would show θ, and while the owner trains in its own
simulation, for updates of the local angles would show it too. Number and place of the cuts are visible. And it is not held, which does
not mean that it cannot be inferred: a service that answers gives it away (``model.cutting.inference``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import cirq
import sympy

from ..errors import QumosError
from .circuits import Fragment, build_fragment, part_fragments, weight_symbol
from .cut_terms import LABELS, MAX_GATE_CUTS, coefficients, cuts_of_parts, variant_counts
from .design import Design

__all__ = [
    "LABELS",
    "MAX_GATE_CUTS",
    "CutPart",
    "Variant",
    "coefficients",
    "cut_angles",
    "cut_parts",
    "cuts_of_parts",
    "variant_counts",
]
# Rotations about Z that equal the labels up to a phase, which one circuit alone does not show.
_TURNS = {"Z": math.pi, "S": math.pi / 2, "Sdg": -math.pi / 2}


@dataclass(frozen=True)
class Variant:
    """One circuit of a cut part.

    Attributes:
        labels: one of ``LABELS`` per cut of the part.
        circuit: parametrised by input and weight symbols. Every M is a CX to an ancilla, which takes a qubit more of its
            provider, so that no measurement is needed in mid-circuit.
        qubits: those of the part, then one ancilla per M in the order of the cuts. All are measured at the end; the signs of the
            ancillas' outcomes multiply those of the part's qubits.
    """

    labels: tuple[str, ...]
    circuit: cirq.Circuit
    qubits: tuple[cirq.LineQubit, ...]


@dataclass(frozen=True)
class CutPart:
    """A part of a design with gate cuts.

    Attributes:
        index, provider, qubits: as in the design's part.
        cuts: numbers, in ``design.cut_gates``, of the cuts that touch it.
        angles: of these cuts, the numbers among the design's trainable angles.
        ancillas: for every one of these cuts the qubit that takes the outcome of its M.
        fragment: for simulation: the part with RZ, by the symbol of the cut, in the place of every cut.
    """

    index: int
    provider: str
    qubits: tuple[int, ...]
    cuts: tuple[int, ...]
    angles: tuple[int, ...]
    ancillas: tuple[cirq.LineQubit, ...]
    fragment: Fragment

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """What its provider runs, by labels in the order of ``product(LABELS, repeat=len(cuts))``; just the part if no cut touches it."""
        return tuple(self._variant(labels) for labels in product(LABELS, repeat=len(self.cuts)))

    def _variant(self, labels: tuple[str, ...]) -> Variant:
        stands = {weight_symbol(angle): item for angle, item in zip(self.angles, zip(labels, self.ancillas, strict=True), strict=True)}
        operations: list[cirq.Operation] = []
        for operation in self.fragment.circuit.all_operations():
            symbol = next(iter(cirq.parameter_names(operation) & stands.keys()), None)
            if symbol is None:
                operations.append(operation)
                continue
            label, ancilla = stands[symbol]
            if label == "M":
                operations.append(cirq.CX(operation.qubits[0], ancilla))
            elif label in _TURNS:
                operations.append(cirq.rz(_TURNS[label]).on(operation.qubits[0]))
        measured = (ancilla for label, ancilla in zip(labels, self.ancillas, strict=True) if label == "M")
        return Variant(labels, cirq.Circuit(operations), (*(cirq.LineQubit(qubit) for qubit in self.qubits), *measured))


def cut_angles(design: Design) -> tuple[int, ...]:
    """For every cut of ``design`` its number among the trainable angles."""
    trainable = [placed for placed in design.placed_gates if placed.gate.trainable]
    return tuple(trainable.index(placed) for placed in design.cut_gates)


def cut_parts(design: Design, axis: str) -> tuple[CutPart, ...]:
    """The parts of ``design`` with their variants; features enter by a rotation about ``axis``.

    Raises:
        QumosError: more cuts than ``MAX_GATE_CUTS``, or an unknown axis.
    """
    if len(design.cut_gates) > MAX_GATE_CUTS:
        raise QumosError(f"design: {len(design.cut_gates)} gate cuts, at most {MAX_GATE_CUTS} can be recombined")
    numbers = cut_angles(design)
    whole = build_fragment(design, range(design.n_qubits), design.placed_gates, axis).circuit
    local: list[list[cirq.Operation]] = [[] for _ in design.parts]
    for operation in whole.all_operations():
        homes = [design.partition[qubit.x] for qubit in operation.qubits if isinstance(qubit, cirq.LineQubit)]
        if len(set(homes)) == 1:
            local[homes[0]].append(operation)
            continue
        (symbol,) = cirq.parameter_names(operation)
        for home, qubit in zip(homes, operation.qubits, strict=True):
            local[home].append(cirq.rz(sympy.Symbol(symbol)).on(qubit))
    found = []
    for part, held, operations, cuts in zip(design.parts, part_fragments(design, axis), local, cuts_of_parts(design), strict=True):
        angles = tuple(numbers[cut] for cut in cuts)
        fragment = Fragment(part.qubits, (*held.weights, *angles), cirq.Circuit(operations))
        ancillas = tuple(cirq.LineQubit(design.n_qubits + cut) for cut in cuts)
        found.append(CutPart(part.index, part.provider, part.qubits, cuts, angles, ancillas, fragment))
    return tuple(found)
