"""What an agent sees: the design so far as a flat vector in [0, 1]."""

from __future__ import annotations

import numpy as np

from .actions import DesignState
from .gates import REGISTRY
from .scenario import Scenario

_PHASES = ("cut", "assign", "gates", "done")
_GATES_SEEN = 8  # counts of one gate kind on one qubit are scaled by this and clipped at 1


class ObservationEncoder:
    """Turns a ``DesignState`` into the observation vector.

    The vector holds, in this order: phase (one-hot, 4), part of each qubit (one-hot, qubits × max_parts), provider of each
    part (one-hot, max_parts × providers), share of the gate budget used, share of gate cuts used, whether a trainable gate
    is placed, whether shots are chosen, how often each gate kind acts on each qubit (kinds × qubits, over 8, clipped), and the
    last effective action (one-hot).
    """

    def __init__(self, scenario: Scenario) -> None:
        rules = scenario.design
        self._scenario = scenario
        self._partition = len(_PHASES)
        self._assignment = self._partition + rules.qubits * rules.max_parts
        self._shares = self._assignment + rules.max_parts * len(scenario.providers)
        self._counts = self._shares + 4
        self._last = self._counts + len(REGISTRY) * rules.qubits

    def size(self, n_actions: int) -> int:
        """Length of the vector for an action space of ``n_actions``."""
        return self._last + n_actions

    def encode(self, state: DesignState) -> np.ndarray:
        """float32 vector in [0, 1]."""
        rules = self._scenario.design
        vector = np.zeros(self.size(len(state.table)), np.float32)
        vector[_PHASES.index(state.phase)] = 1
        for qubit, part in enumerate(state.partition):
            vector[self._partition + qubit * rules.max_parts + part] = 1
        for part, provider in enumerate(state.assignment):
            vector[self._assignment + part * len(self._scenario.providers) + provider] = 1
        vector[self._shares] = len(state.gates) / rules.max_gates
        vector[self._shares + 1] = state.cuts / max(1, rules.max_gate_cuts)
        vector[self._shares + 2] = state.trainable
        vector[self._shares + 3] = state.shots is not None
        if state.gates:
            vector[self._counts : self._last] = np.minimum(state.counts.ravel() / _GATES_SEEN, 1.0)
        if state.history:
            vector[self._last + state.history[-1]] = 1
        return vector
