"""A design as a fixed number of figures, for models that predict what it is worth.

The figures do not depend on how parts are numbered: they say which qubits share a part, not which part that is.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations

import numpy as np

from qumos_env.design.gates import REGISTRY
from qumos_env.env.actions import DesignState
from qumos_env.scenario import Scenario

_KIND = {name: number for number, name in enumerate(REGISTRY)}
WHOLE = ("gates", "trainable", "depth", "parts", "largest part", "providers", "cuts", "shots")


@cache
def _pairs(qubits: int) -> dict[tuple[int, int], int]:
    return {pair: number for number, pair in enumerate(combinations(range(qubits), 2))}


def feature_names(scenario: Scenario) -> tuple[str, ...]:
    """What the figures of ``features`` are, in their order."""
    qubits = range(scenario.design.qubits)
    pairs = list(_pairs(len(qubits)))
    return (
        *WHOLE,
        *(f"{kind}" for kind in _KIND),
        *(f"{kind} on {qubit}" for kind in _KIND for qubit in qubits),
        *(f"depth of {qubit}" for qubit in qubits),
        *(f"partners of {qubit}" for qubit in qubits),
        *(f"turns of {qubit} after its last entangler" for qubit in qubits),
        *(f"size of the part of {qubit}" for qubit in qubits),
        *(f"gates of the part of {qubit}" for qubit in qubits),
        *(f"{qubit} at {name}" for name in scenario.provider_names for qubit in qubits),
        *(f"{a} and {b} in one part" for a, b in pairs),
        *(f"{a} and {b} at one provider" for a, b in pairs),
        *(f"entanglers of {a} and {b}" for a, b in pairs),
    )


def features(state: DesignState) -> np.ndarray:
    """The figures of the design that ``state`` has built, float32 ``[len(feature_names(scenario))]``.

    Counts of gates by kind, by kind and qubit, and by part; the layers of the register and of every qubit; how many partners a qubit is
    entangled with, and how often it is turned out of the Z axis after the last of them; entanglers of every pair; which qubits share a part
    and a provider; the logarithm of the shots, 0 for exact values. Layers are counted in the order in which gates were placed: to find the
    canonical order of a ``Design`` would cost more than all the rest.
    """
    scenario, partition, gates = state.scenario, state.partition, state.gates
    qubits = scenario.design.qubits
    pairs = _pairs(qubits)
    # Plain lists: the arrays are too short for NumPy to pay.
    kinds = [[0] * qubits for _ in _KIND]
    total, of_part = [0] * len(_KIND), [0] * state.n_parts
    depth, turns = [0] * qubits, [0] * qubits
    entanglers = [0] * len(pairs)
    for gate in gates:
        kind = _KIND[gate.name]
        total[kind] += 1
        of_part[partition[gate.qubits[0]]] += 1
        layer = 1 + max(depth[qubit] for qubit in gate.qubits)
        for qubit in gate.qubits:
            kinds[kind][qubit] += 1
            depth[qubit] = layer
        if len(gate.qubits) == 2:
            entanglers[pairs[min(gate.qubits), max(gate.qubits)]] += 1
            for qubit in gate.qubits:
                turns[qubit] = 0
        elif REGISTRY[gate.name].axes != ("Z",):
            turns[gate.qubits[0]] += 1
    partners = [0] * qubits
    for (first, second), count in zip(pairs, entanglers, strict=True):
        partners[first] += count > 0
        partners[second] += count > 0
    providers = [state.assignment[part] for part in partition]
    sizes = [partition.count(part) for part in range(state.n_parts)]
    shots = None if state.shots is None else scenario.design.shots[state.shots]
    whole = (
        len(gates),
        sum(gate.trainable for gate in gates),
        max(depth),
        state.n_parts,
        max(sizes),
        len(set(state.assignment)),
        state.cuts,
        math.log(shots) if shots else 0.0,
    )
    figures = [
        *whole,
        *total,
        *(count for row in kinds for count in row),
        *depth,
        *partners,
        *turns,
        *(sizes[part] for part in partition),
        *(of_part[part] for part in partition),
        *(there == provider for provider in range(len(scenario.providers)) for there in providers),
        *(partition[first] == partition[second] for first, second in pairs),
        *(providers[first] == providers[second] for first, second in pairs),
        *entanglers,
    ]
    return np.array(figures, np.float32)
