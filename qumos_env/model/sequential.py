"""Parts in sequence: ⟨Z⟩ of one, rescaled to angles, is encoded anew at the next.

What passes between the parts are numbers that the owner holds, so nothing quantum crosses and no cut is needed; the price is that
entanglement ends at every part. Re-encoding makes the model a non-linear composition of its parts, and torch's chain rule through
the exact gradients of every part with respect to its inputs trains it as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cirq
import torch

from ..design import Design
from ..design.circuits import input_symbol, part_fragments, weight_symbol
from ..errors import QumosError
from ..simulation.layer import QuantumLayer


class SequentialParts(torch.nn.Module):
    """Quantum layers run one after the other: ``[batch, inputs of the first] -> [batch, observables of the last]``.

    Args:
        parts: each takes as many inputs as the one before has observables, with values in [-1, 1].
        angle_range: angles in radians that -1 and 1 are mapped to between parts, linearly.

    Raises:
        QumosError: no part, or one that does not fit the one before.
    """

    def __init__(self, parts: Sequence[QuantumLayer], angle_range: tuple[float, float] = (0.0, math.pi)) -> None:
        super().__init__()
        if not parts:
            raise QumosError("parts: at least one is needed")
        for number in range(1, len(parts)):
            given, taken = len(parts[number - 1].engine.observables), parts[number].engine.program.n_inputs
            if given != taken:
                raise QumosError(f"parts: part {number} takes {taken} input(s), part {number - 1} gives {given}")
        self.parts = torch.nn.ModuleList(parts)
        self.angle_range = angle_range

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """⟨O⟩ of the last part; ``inputs`` in radians."""
        low, high = self.angle_range
        values = self.parts[0](inputs)
        for part in list(self.parts)[1:]:
            values = part(low + (values + 1) * (0.5 * (high - low)))
        return values


def sequential_parts(design: Design, axis: str, angle_range: tuple[float, float] = (0.0, math.pi), seed: int = 0) -> SequentialParts:
    """The parts of ``design`` in sequence, ⟨Z⟩ of every qubit passed on in ascending order of qubits.

    The first part takes the features of its qubits, each other part what the part before gives. Initial angles of part i are drawn
    from ``seed + i``.

    Raises:
        QumosError: gate cuts, or parts of different widths.
    """
    if design.cut_gates:
        raise QumosError(f"design: {len(design.cut_gates)} gate cut(s); parts in sequence share no gate")
    widths = {len(part.qubits) for part in design.parts}
    if len(widths) > 1:
        raise QumosError(f"design: parts of {min(widths)} and {max(widths)} qubits; in sequence all have the same width")
    layers = []
    for number, fragment in enumerate(part_fragments(design, axis)):
        line = [cirq.LineQubit(qubit) for qubit in fragment.qubits]
        layers.append(
            QuantumLayer(
                fragment.circuit,
                [cirq.PauliString(cirq.Z(qubit)) for qubit in line],
                [input_symbol(qubit) for qubit in fragment.qubits],
                [weight_symbol(weight) for weight in fragment.weights],
                qubits=line,
                seed=seed + number,
            )
        )
    return SequentialParts(layers, angle_range)
