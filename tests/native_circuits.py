"""Designs for tests of native circuits, and what becomes of them on every device: `python tests/native_circuits.py` prints it as JSON."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import Any

import cirq
import numpy as np

from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import ry_cz_ry
from qumos_env.design.circuits import part_fragments
from qumos_env.design.gates import REGISTRY
from qumos_env.hardware.counting import exact_counts, quick_counts
from qumos_env.hardware.profile import list_profiles, load_profile
from qumos_env.hardware.transpile import transpile_part


def random_design(width: int, n_gates: int, seed: int) -> Design:
    """One part with gates of every kind."""
    generator = np.random.default_rng([seed, width])
    kinds = [name for name, spec in REGISTRY.items() if spec.qubits <= width]
    gates = []
    for _ in range(n_gates):
        name = str(generator.choice(kinds))
        gates.append(Gate(name, tuple(int(q) for q in generator.choice(width, REGISTRY[name].qubits, replace=False))))
    return Design((0,) * width, ("a",), tuple(gates))


def part_circuit(design: Design) -> cirq.FrozenCircuit:
    """The first part."""
    return part_fragments(design, "ry")[0].circuit.freeze()


DESIGNS = (
    ry_cz_ry((0,) * 4, ["a"], 3),
    *(random_design(width, 18, seed) for width, seed in ((2, 7), (2, 8), (3, 2), (3, 3), (3, 4), (4, 0), (4, 5), (5, 1))),
)


def native_circuits() -> list[dict[str, Any]]:
    """Of every design on every device: exact and quick counts, and each gate with its qubits and its unitary as real numbers."""
    found = []
    for name in list_profiles():
        profile = load_profile(name)
        for design in DESIGNS:
            circuit = part_circuit(design)
            native = transpile_part(circuit, profile)
            gates = [(type(one.gate).__name__, [qubit.x for qubit in one.qubits]) for one in native.circuit.all_operations()]  # type: ignore[attr-defined]
            found.append(
                {
                    "exact": astuple(exact_counts(native, profile.times)),
                    "quick": astuple(quick_counts(circuit, profile)),
                    "gates": gates,
                    "unitaries": [cirq.unitary(one).ravel().view(float).tolist() for one in native.circuit.all_operations()],
                }
            )
    return found


if __name__ == "__main__":
    print(json.dumps(native_circuits()))
