"""Hand-made designs: the references that a search must beat, and the circuits that controls and thieves guess."""

from __future__ import annotations

from collections.abc import Sequence

from .actions import Action, block_gates
from .design import Design, Gate


def contiguous(n_qubits: int, n_parts: int) -> tuple[int, ...]:
    """The partition into neighbouring runs of (nearly) equal length: first qubits | ... | last qubits."""
    return tuple(qubit * n_parts // n_qubits for qubit in range(n_qubits))


def interleaved(n_qubits: int, n_parts: int) -> tuple[int, ...]:
    """The partition that deals qubits to the parts in turn."""
    return tuple(qubit % n_parts for qubit in range(n_qubits))


def ry_cz_blocks(part: int, layers: int) -> list[Action]:
    """One RY layer, then ``layers`` times a ring of CZ and another RY layer, as block actions on ``part``."""
    blocks = [Action("layer", "ry", (part,))]
    for _ in range(layers):
        blocks += [Action("ring", "cz", (part,)), Action("layer", "ry", (part,))]
    return blocks


def ring_or_chain(block: Action, qubits: tuple[int, ...]) -> Action:
    """``block``, with a ring on fewer than three qubits replaced by the chain that it amounts to."""
    return Action("chain", block.gate, block.targets) if block.kind == "ring" and len(qubits) < 3 else block


def ry_cz_ry(partition: Sequence[int], assignment: Sequence[str], layers: int) -> Design:
    """The RY-CZ-RY ansatz of ``layers`` layers on every part."""
    gates: list[Gate] = []
    for part in range(len(assignment)):
        qubits = tuple(qubit for qubit, home in enumerate(partition) if home == part)
        for block in ry_cz_blocks(part, layers):
            gates += block_gates(ring_or_chain(block, qubits), qubits)
    return Design(tuple(partition), tuple(assignment), tuple(gates))


def encode_only(partition: Sequence[int], assignment: Sequence[str]) -> Design:
    """The encoder and one idle RZ in front of the head: what the head does without a circuit."""
    return Design(tuple(partition), tuple(assignment), (Gate("rz", (0,)),))
