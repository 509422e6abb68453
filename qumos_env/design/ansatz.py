"""Hand-made designs: the references that a search must beat, and the circuits that controls and thieves guess."""

from __future__ import annotations

from collections.abc import Sequence

from .blocks import Block
from .design import Design, Gate


def contiguous(n_qubits: int, n_parts: int) -> tuple[int, ...]:
    """The partition into neighbouring runs of (nearly) equal length: first qubits | ... | last qubits."""
    return tuple(qubit * n_parts // n_qubits for qubit in range(n_qubits))


def interleaved(n_qubits: int, n_parts: int) -> tuple[int, ...]:
    """The partition that deals qubits to the parts in turn."""
    return tuple(qubit % n_parts for qubit in range(n_qubits))


def ry_cz_blocks(layers: int) -> list[Block]:
    """One RY layer, then ``layers`` times a ring of CZ and another RY layer."""
    return [Block("layer", "ry"), *(Block("ring", "cz"), Block("layer", "ry")) * layers]


def ry_cz_ry(partition: Sequence[int], assignment: Sequence[str], layers: int) -> Design:
    """The RY-CZ-RY ansatz of ``layers`` layers on every part."""
    gates: list[Gate] = []
    for part in range(len(assignment)):
        qubits = tuple(qubit for qubit, home in enumerate(partition) if home == part)
        for block in ry_cz_blocks(layers):
            gates += block.fitted(qubits).gates(qubits)
    return Design(tuple(partition), tuple(assignment), tuple(gates))


def encode_only(partition: Sequence[int], assignment: Sequence[str]) -> Design:
    """The encoder and one idle RZ in front of the head: what the head does without a circuit."""
    return Design(tuple(partition), tuple(assignment), (Gate("rz", (0,)),))
