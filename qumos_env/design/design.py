"""A distributed design as an immutable value: partition, provider assignment, gates and shots.

Two designs that differ only in the order of commuting gates are the same design: gates are brought to a canonical order
when the value is made, and hashing, training and initial angles all start from that order.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from ..errors import QumosError, shown
from ..files import parse_json, read_text
from .gates import cuttable_gates, gate_spec

SCHEMA_VERSION = 1
MOST_GATES = 2000
"""Of a design that is read: bringing so many to their canonical order takes seconds, and the time grows with the square."""
_MOST_QUBITS = 1000
_MOST_SHOTS = 2**63 - 1
_MOST_OF_A_NAME = 100


@dataclass(frozen=True, order=True)
class Gate:
    """One gate: its name in the registry and the qubits of the register it acts on."""

    name: str
    qubits: tuple[int, ...]

    def __post_init__(self) -> None:
        spec = gate_spec(self.name)
        qubits = tuple(int(qubit) for qubit in self.qubits)
        if len(qubits) != spec.qubits or len(set(qubits)) != len(qubits):
            raise QumosError(f"gate {self.name} acts on {spec.qubits} distinct qubit(s), got {list(qubits)}")
        if spec.symmetric:
            qubits = tuple(sorted(qubits))
        object.__setattr__(self, "qubits", qubits)

    @property
    def trainable(self) -> bool:
        """Whether training adjusts an angle of this gate."""
        return gate_spec(self.name).trainable

    def commutes_with(self, other: Gate) -> bool:
        """Whether the two gates act along the same axis on every qubit they share."""
        if self == other:
            return True
        mine = dict(zip(self.qubits, gate_spec(self.name).axes, strict=True))
        theirs = dict(zip(other.qubits, gate_spec(other.name).axes, strict=True))
        return all(mine[q] is not None and mine[q] == theirs[q] for q in mine.keys() & theirs.keys())


@dataclass(frozen=True)
class PlacedGate:
    """A gate of the canonical order.

    Attributes:
        gate: the gate.
        moment: the earliest layer it can move to past gates that commute with it.
        copy: its number among equal gates of the same moment.
    """

    gate: Gate
    moment: int
    copy: int


def canonical_order(gates: Sequence[Gate]) -> tuple[PlacedGate, ...]:
    """The Foata normal form of ``gates``: equal for two sequences exactly when commuting swaps turn one into the other.

    Source: Cartier and Foata, *Problèmes combinatoires de commutation et réarrangements* (1969).
    """
    levels: list[int] = []
    by_qubit: dict[int, list[int]] = {}
    for index, gate in enumerate(gates):
        earlier = {i for qubit in gate.qubits for i in by_qubit.get(qubit, ())}
        level = max((levels[i] + 1 for i in earlier if not gate.commutes_with(gates[i])), default=0)
        levels.append(level)
        for qubit in gate.qubits:
            by_qubit.setdefault(qubit, []).append(index)
    copies: Counter[tuple[int, Gate]] = Counter()
    placed = []
    for level, gate in sorted(zip(levels, gates, strict=True), key=lambda item: (item[0], item[1].qubits, item[1].name)):
        placed.append(PlacedGate(gate, level, copies[level, gate]))
        copies[level, gate] += 1
    return tuple(placed)


@dataclass(frozen=True)
class Part:
    """The piece of a design that one provider runs: its index, its qubits in ascending order, its provider and gates."""

    index: int
    qubits: tuple[int, ...]
    provider: str
    gates: tuple[PlacedGate, ...]


@dataclass(frozen=True)
class Design:
    """A distributed QML model before training.

    Attributes:
        partition: for every qubit of the register the part it belongs to; parts are numbered in order of first use.
        assignment: for every part the name of the provider that runs it.
        gates: in canonical order (any order is accepted when the value is made).
        shots: repetitions per circuit, or ``None`` for exact expectation values.
    """

    partition: tuple[int, ...]
    assignment: tuple[str, ...]
    gates: tuple[Gate, ...] = ()
    shots: int | None = None

    def __post_init__(self) -> None:
        partition = tuple(int(part) for part in self.partition)
        if not partition:
            raise QumosError("design: partition names no qubit")
        seen = -1
        for qubit, part in enumerate(partition):
            if not 0 <= part <= seen + 1:
                raise QumosError(
                    f"design: partition[{qubit}] is part {part}; parts are numbered in order of first use, so at most {seen + 1}"
                )
            seen = max(seen, part)
        if len(self.assignment) != seen + 1:
            raise QumosError(f"design: assignment names {len(self.assignment)} provider(s) for {seen + 1} part(s)")
        for gate in self.gates:
            if not isinstance(gate, Gate):
                raise QumosError(f"design: gates holds {gate!r}, a Gate is expected")
            outside = [qubit for qubit in gate.qubits if not 0 <= qubit < len(partition)]
            if outside:
                raise QumosError(f"design: gate {gate.name} acts on qubit {outside[0]}, the register has 0 to {len(partition) - 1}")
            if len({partition[qubit] for qubit in gate.qubits}) > 1 and not gate_spec(gate.name).cuttable:
                cuttable = ", ".join(cuttable_gates())
                raise QumosError(f"design: gate {gate.name}{list(gate.qubits)} spans two parts; only {cuttable} can be cut")
        if self.shots is not None and self.shots < 1:
            raise QumosError(f"design: shots is {self.shots}, at least 1 is needed")
        placed = canonical_order(tuple(self.gates))
        object.__setattr__(self, "partition", partition)
        object.__setattr__(self, "assignment", tuple(self.assignment))
        object.__setattr__(self, "gates", tuple(item.gate for item in placed))

    @property
    def n_qubits(self) -> int:
        """Width of the register."""
        return len(self.partition)

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        return len(self.assignment)

    @cached_property
    def placed_gates(self) -> tuple[PlacedGate, ...]:
        """The gates with their moments, in canonical order."""
        return canonical_order(self.gates)

    @cached_property
    def cut_gates(self) -> tuple[PlacedGate, ...]:
        """The gates that span two parts."""
        return tuple(p for p in self.placed_gates if len({self.partition[q] for q in p.gate.qubits}) > 1)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The parts, each with the gates that lie inside it; ``cut_gates`` are in none of them."""
        cut = set(self.cut_gates)
        return tuple(
            Part(
                index=index,
                qubits=tuple(q for q, part in enumerate(self.partition) if part == index),
                provider=provider,
                gates=tuple(p for p in self.placed_gates if p not in cut and self.partition[p.gate.qubits[0]] == index),
            )
            for index, provider in enumerate(self.assignment)
        )

    def held_by(self, provider: str) -> tuple[Part, ...]:
        """The parts that ``provider`` runs and its thief therefore sees."""
        return tuple(part for part in self.parts if part.provider == provider)

    @property
    def n_trainable(self) -> int:
        """Number of trainable angles."""
        return sum(gate.trainable for gate in self.gates)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON data, gates in canonical order."""
        return {
            "schema_version": SCHEMA_VERSION,
            "partition": list(self.partition),
            "assignment": list(self.assignment),
            "gates": [[gate.name, *gate.qubits] for gate in self.gates],
            "shots": self.shots,
        }

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no white space."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Design:
        """The design in ``data`` (as ``to_dict`` writes it): at most 1,000 qubits and 2,000 gates.

        Raises:
            QumosError: another schema version, a missing or unknown field, a value that is not a design, or is too large for one.
        """
        if not isinstance(data, Mapping):
            raise QumosError(f"design: expected a JSON object, got {type(data).__name__}")
        version = data.get("schema_version")
        if version != SCHEMA_VERSION:
            raise QumosError(f"design: schema_version is {shown(version)}, this release reads {SCHEMA_VERSION}")
        fields = {"schema_version", "partition", "assignment", "gates", "shots"}
        for name in sorted(fields - data.keys() - {"shots"}):
            raise QumosError(f"design: field {name!r} is missing")
        for name in sorted(data.keys() - fields, key=str):
            raise QumosError(f"design: field {shown(name)} is unknown; the fields are {', '.join(sorted(fields))}")
        shots = data.get("shots")
        if shots is not None and (isinstance(shots, bool) or not isinstance(shots, int)):
            raise QumosError(f"design: shots is {shown(shots)}, a whole number or null is expected")
        if shots is not None and abs(shots) > _MOST_SHOTS:
            raise QumosError(f"design: shots is {shown(shots)}, at most {_MOST_SHOTS} are possible")
        return cls(
            partition=tuple(_whole(item, "partition") for item in _items(data, "partition", _MOST_QUBITS)),
            assignment=tuple(_name(item) for item in _items(data, "assignment", _MOST_QUBITS)),
            gates=tuple(_gate(item) for item in _items(data, "gates", MOST_GATES)),
            shots=shots,
        )

    @classmethod
    def from_json(cls, text: str) -> Design:
        """The design in the JSON ``text``; errors as in ``from_dict``."""
        return cls.from_dict(parse_json(text, "design"))

    @classmethod
    def load(cls, path: str | Path) -> Design:
        """The design in the JSON file ``path`` of at most 1 MiB; errors name the file."""
        text = read_text(path)
        try:
            return cls.from_json(text)
        except QumosError as error:
            raise QumosError(f"{path}: {error}") from error


def _items(data: Mapping[str, object], name: str, most: int) -> Sequence[object]:
    value = data[name]
    if not isinstance(value, Iterable) or isinstance(value, (str, Mapping)):
        raise QumosError(f"design: {name} is a list, got {shown(value)}")
    items = list(islice(value, most + 1))
    if len(items) > most:
        size = f"{len(value):,}" if isinstance(value, Sequence) else "more"
        raise QumosError(f"design: {name} has {size} entries, at most {most:,} are possible")
    return items


def _whole(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise QumosError(f"design: {where} holds {shown(value)}, a whole number is expected")
    if abs(value) > _MOST_QUBITS:
        raise QumosError(f"design: {where} holds {shown(value)}, numbers up to {_MOST_QUBITS:,} are possible")
    return value


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise QumosError(f"design: assignment holds {shown(value)}, the name of a provider is expected")
    if not value.isprintable() or len(value) > _MOST_OF_A_NAME:
        raise QumosError(f"design: assignment holds {shown(value)}, a name has at most {_MOST_OF_A_NAME} printable characters")
    return value


def _gate(item: object) -> Gate:
    if not isinstance(item, (list, tuple)) or not item or not isinstance(item[0], str):
        raise QumosError(f'design: a gate is written ["name", qubit, ...], got {shown(item)}')
    return Gate(item[0], tuple(_whole(qubit, f"gate {item[0]}") for qubit in item[1:]))
