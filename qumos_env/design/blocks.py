"""Blocks: layers, chains and rings of one gate on a whole part."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .design import Gate
from .gates import REGISTRY

BlockKind = Literal["layer", "chain", "ring"]
_KINDS: dict[str, tuple[BlockKind, ...]] = {"layer": ("layer",), "entangler": ("chain", "ring")}


@dataclass(frozen=True)
class Block:
    """One kind of gate all over a part: on every qubit (``layer``), or on neighbours, open (``chain``) or closed (``ring``)."""

    kind: BlockKind
    gate: str

    def gates(self, qubits: Sequence[int]) -> tuple[Gate, ...]:
        """The gates on a part with these ``qubits``; none where the part is too small.

        A ring closes the chain of neighbours; on two qubits it would only repeat it, so it needs three.
        """
        if self.kind == "layer":
            return tuple(Gate(self.gate, (qubit,)) for qubit in qubits)
        pairs = list(zip(qubits, qubits[1:], strict=False))
        if self.kind == "ring":
            if len(qubits) < 3:
                return ()
            pairs.append((qubits[0], qubits[-1]))
        return tuple(Gate(self.gate, pair) for pair in pairs)

    @classmethod
    def of_gates(cls, names: Collection[str]) -> list[Block]:
        """All blocks of the gates called ``names``: layers first, in the order of the registry."""
        specs = [spec for spec in REGISTRY.values() if spec.name in names]
        return [cls(kind, spec.name) for place, kinds in _KINDS.items() for spec in specs if spec.placed_as == place for kind in kinds]

    def fitted(self, qubits: Sequence[int]) -> Block:
        """The block, with a ring on fewer than three qubits replaced by the chain that it amounts to."""
        return replace(self, kind="chain") if self.kind == "ring" and len(qubits) < 3 else self
