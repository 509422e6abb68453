"""Designs as Cirq circuits: what a provider runs, and what the owner simulates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cirq
import numpy as np
import sympy

from .design import Design, PlacedGate
from .encodings import axis_called
from .gates import gate_spec


def input_symbol(qubit: int) -> str:
    """Name of the symbol that holds the feature encoded on ``qubit``."""
    return f"x{qubit}"


def weight_symbol(index: int) -> str:
    """Name of the symbol of trainable angle ``index``, numbered in the design's canonical gate order."""
    return f"w{index}"


@dataclass(frozen=True)
class Fragment:
    """A piece of a design that is simulated as one circuit.

    Attributes:
        qubits: its qubits, ascending.
        weights: indices of the design's trainable angles that it holds, in the order of its weight symbols.
        circuit: encoding and gates, parametrised by input and weight symbols.
    """

    qubits: tuple[int, ...]
    weights: tuple[int, ...]
    circuit: cirq.Circuit


def _weight_numbers(design: Design) -> dict[PlacedGate, int]:
    trainable = [placed for placed in design.placed_gates if placed.gate.trainable]
    return {placed: index for index, placed in enumerate(trainable)}


def build_fragment(design: Design, qubits: Sequence[int], gates: Sequence[PlacedGate], axis: str) -> Fragment:
    """The fragment of ``design`` on ``qubits`` with ``gates``; features enter about ``axis``, see ``encodings``."""
    encoding = axis_called(axis)
    numbers = _weight_numbers(design)
    line = {qubit: cirq.LineQubit(qubit) for qubit in qubits}
    feature = {qubit: sympy.Symbol(input_symbol(qubit)) for qubit in qubits}
    operations = [operation for qubit in qubits for operation in encoding.operations(feature[qubit], line[qubit])]
    weights = []
    for placed in gates:
        gate, build = placed.gate, gate_spec(placed.gate.name).operation
        if build is None:
            operations += [encoding.rotation(feature[qubit], line[qubit]) for qubit in gate.qubits]
            continue
        angle = None
        if gate.trainable:
            weights.append(numbers[placed])
            angle = sympy.Symbol(weight_symbol(numbers[placed]))
        operations.append(build(angle, *(line[qubit] for qubit in gate.qubits)))
    return Fragment(tuple(qubits), tuple(weights), cirq.Circuit(operations))


def part_fragments(design: Design, axis: str) -> tuple[Fragment, ...]:
    """One fragment per part, without the gates that span parts: what the providers hold."""
    return tuple(build_fragment(design, part.qubits, part.gates, axis) for part in design.parts)


def joint_fragments(design: Design, axis: str, parts: Iterable[int] | None = None) -> tuple[Fragment, ...]:
    """One fragment per group of ``parts`` (default all) that gate cuts join, cuts uncut: what the owner simulates.

    With the parts of one provider: what its thief can put together, since it holds every variant of both sides of such a cut.
    """
    chosen = set(range(design.n_parts) if parts is None else parts)
    group = list(range(design.n_parts))
    for placed in design.cut_gates:
        homes = [design.partition[qubit] for qubit in placed.gate.qubits]
        if chosen.issuperset(homes):
            a, b = sorted(group[home] for home in homes)
            group = [a if member == b else member for member in group]
    fragments = []
    for root in sorted({group[part] for part in chosen}):
        qubits = tuple(qubit for qubit, part in enumerate(design.partition) if group[part] == root)
        gates = [placed for placed in design.placed_gates if set(placed.gate.qubits) <= set(qubits)]
        fragments.append(build_fragment(design, qubits, gates, axis))
    return tuple(fragments)


def bind(circuit: cirq.Circuit, weights: Mapping[str, float]) -> cirq.Circuit:
    """``circuit`` with trained angles filled in; input symbols stay."""
    values = {name: float(value) for name, value in weights.items()}

    def resolve(operation: cirq.Operation, _: int) -> cirq.Operation:
        # Resolving a gate of another symbol would leave it as 1/pi·pi·x.
        return cirq.resolve_parameters(operation, values) if cirq.parameter_names(operation) & values.keys() else operation

    return cirq.map_operations(circuit, resolve)


def initial_angles(design: Design, key: Sequence[int]) -> np.ndarray:
    """Initial trainable angles, float64 ``[n_trainable]`` in radians, uniform in [-pi, pi).

    Each is drawn from its own generator keyed by ``key``, part, moment, qubits and kind, so that neither the order of
    commuting gates nor a gate elsewhere in the design re-rolls it.
    """
    angles = []
    for placed in design.placed_gates:
        if placed.gate.trainable:
            gate = placed.gate
            part = design.partition[gate.qubits[0]]
            kind = int.from_bytes(gate.name.encode(), "big")
            generator = np.random.default_rng([*key, part, placed.moment, *gate.qubits, kind, placed.copy])
            angles.append(generator.uniform(-np.pi, np.pi))
    return np.array(angles)
