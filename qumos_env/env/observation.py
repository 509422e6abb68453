"""What an agent sees: the design so far as a flat vector in [0, 1]."""

from __future__ import annotations

import numpy as np

from ..design.gates import REGISTRY
from ..evaluation.evaluator import Evaluation
from ..scenario import Scenario
from ..scenario.providers import Provider
from .actions import DesignState

_PHASES = ("cut", "assign", "gates", "done")
PROVIDER_FIGURES = 10
MEASURED_FIGURES = 5
# Rates, dollars per 1,000 shots and seconds that make half of the scale.
_HALF_ONE_QUBIT, _HALF_TWO_QUBIT, _HALF_READOUT, _HALF_DOLLARS, _HALF_QUEUE = 1e-3, 1e-2, 1e-2, 1.0, 600.0
GATES_SEEN = 8  # counts of one gate kind on one qubit are scaled by this and clipped at 1


class ObservationEncoder:
    """Turns a ``DesignState`` into the observation vector.

    The vector holds, in this order: phase (one-hot, 4), part of each qubit (one-hot, qubits × max_parts), provider of each
    part (one-hot, max_parts × providers), share of the gate budget used, share of gate cuts used, whether a trainable gate
    is placed, whether shots are chosen, how often each gate kind acts on each qubit (kinds × qubits, over 8, clipped), what
    each provider is (providers × 10, see ``provider_figures``), and the last effective action (one-hot). Where finished designs are
    measured until they are accepted, ``measured_figures`` follow; their design is done in the meantime.

    Args:
        scenario: the scenario.
        measured: whether they are.
    """

    def __init__(self, scenario: Scenario, *, measured: bool = False) -> None:
        rules = scenario.design
        self._scenario = scenario
        self._measured = MEASURED_FIGURES if measured else 0
        self._partition = len(_PHASES)
        self._assignment = self._partition + rules.qubits * rules.max_parts
        self._shares = self._assignment + rules.max_parts * len(scenario.providers)
        self._counts = self._shares + 4
        self._providers = self._counts + len(REGISTRY) * rules.qubits
        self._last = self._providers + len(scenario.providers) * PROVIDER_FIGURES
        self._figures: dict[str, np.ndarray] = {}

    def size(self, n_actions: int) -> int:
        """Length of the vector for an action space of ``n_actions``."""
        return self._last + n_actions + self._measured

    def encode(self, state: DesignState, evaluation: Evaluation | None = None) -> np.ndarray:
        """float32 vector in [0, 1]; ``evaluation`` is what was measured of the finished design."""
        rules = self._scenario.design
        vector = np.zeros(self.size(len(state.table)), np.float32)
        vector[_PHASES.index("done" if state.phase == "measure" else state.phase)] = 1
        for qubit, part in enumerate(state.partition):
            vector[self._partition + qubit * rules.max_parts + part] = 1
        for part, provider in enumerate(state.assignment):
            vector[self._assignment + part * len(self._scenario.providers) + provider] = 1
        vector[self._shares] = len(state.gates) / rules.max_gates
        vector[self._shares + 1] = state.cuts / max(1, rules.max_gate_cuts)
        vector[self._shares + 2] = state.trainable
        vector[self._shares + 3] = state.shots is not None
        if state.gates:
            vector[self._counts : self._providers] = np.minimum(state.counts.ravel() / GATES_SEEN, 1.0)
        vector[self._providers : self._last] = self._of_providers(state.scenario)
        if state.history:
            vector[self._last + state.history[-1]] = 1
        if self._measured:
            vector[-self._measured :] = measured_figures(evaluation, self._scenario.draws.count)
        return vector

    def _of_providers(self, scenario: Scenario) -> np.ndarray:
        if scenario.hash not in self._figures:
            self._figures[scenario.hash] = np.concatenate([provider_figures(provider) for provider in scenario.providers])
        return self._figures[scenario.hash]


def provider_figures(provider: Provider) -> np.ndarray:
    """What an agent sees of a provider, float32 ``[10]`` in [0, 1].

    Width over 20 qubits, parts over 8, share of the gates that it runs, whether it measures in mid-circuit; then x/(x + half) of: price
    of a gate, error rates of gates on one and two qubits and of readout, dollars per 1,000 shots of one circuit, median seconds in
    the queue. The last two are 0 without a device.
    """
    noise, profile = provider.noise, provider.profile
    readout = (noise.readout_zero_as_one + noise.readout_one_as_zero) / 2
    dollars = seconds = 0.0
    if profile is not None:
        seconds = profile.queue.median
        dollars = profile.price.total(1, 1000, 1000 * (profile.times.readout + profile.times.reset))
    amounts = (
        (provider.price, 1.0),
        (noise.one_qubit, _HALF_ONE_QUBIT),
        (noise.two_qubit, _HALF_TWO_QUBIT),
        (readout, _HALF_READOUT),
        (dollars, _HALF_DOLLARS),
        (seconds, _HALF_QUEUE),
    )
    limits = [min(1.0, provider.max_qubits / 20), min(1.0, provider.max_parts / 8), len(set(provider.gates)) / len(REGISTRY)]
    return np.array([*limits, provider.mid_circuit_measurement, *(value / (value + half) for value, half in amounts)], np.float32)


def measured_figures(evaluation: Evaluation | None, count: int) -> np.ndarray:
    """What an agent sees of the measurements of a finished design, float32 ``[5]`` in [0, 1]; zeros before there are any.

    Share of the ``count`` draws that were measured, reward, its standard error, accuracy, theft; clipped.
    """
    if evaluation is None:
        return np.zeros(MEASURED_FIGURES, np.float32)
    found = [evaluation.draws / count, evaluation.reward, evaluation.reward_se, evaluation.accuracy, evaluation.theft]
    return np.nan_to_num(np.clip(np.array(found, np.float32), 0, 1))
