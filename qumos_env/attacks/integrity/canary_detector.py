"""Canaries: how often an owner notices that a provider deviates, fault by fault, beside its false alarms.

How it inspects is in ``inspection``, what the provider does in ``faults``. The sessions that measure are not those that set the
threshold, and the faults that chose the canaries are not those that are looked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

from ...evaluation.roc import rates_on_grid
from ...evaluation.service import Service
from ...evaluation.statistics import CONFIDENCE
from ..registry import attack
from ..results import AttackResult, Control, Criterion, Curve, Measurement, Plot
from .faults import ANGLE_ERRORS, CROSSTALK, FLIPPED_RESULTS, TAMPERING, WORSE_HARDWARE, ExposedCircuits, Fault
from .inspection import Inspector, Protocol
from .noisy_circuits import TOO_WIDE, NoisyCircuits

FAULTS = (*TAMPERING, CROSSTALK, WORSE_HARDWARE)
HEADLINES = (FLIPPED_RESULTS, WORSE_HARDWARE)
"""The faults whose detection stands in the summary."""
CHECK = Criterion("no higher", 0.5)
"""A check serves its owner where one session exposes a fault more often than not, false alarms apart."""
# Of all models together.
HONEST_SESSIONS, FAULTY_SESSIONS = 1600, 40
_ROC_GRID = np.linspace(0.01, 1.0, 100)
_RATES = (0, 1.02)  # of an axis


def detection_interval(alarms: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Clopper–Pearson interval of the probability of an alarm, from independent sessions ``alarms`` (bool)."""
    interval = binomtest(int(alarms.sum()), alarms.size).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def inspectors(victim: Service, provider: str, noisy: NoisyCircuits, protocol: Protocol, sensitive: bool = True) -> list[Inspector]:
    """One inspector of ``provider`` per trained model; the canaries are held-out rows."""
    candidates = victim.encode(victim.together("score", protocol.candidates))
    angles = noisy.circuits.honest(victim.trained.angles)
    place = victim.scenario.provider_names.index(provider)
    keys = [(*key, place) for key in victim.keys("canaries")]
    models = zip(angles, candidates, keys, strict=True)
    return [Inspector(noisy, provider, mine, rows, protocol, key, sensitive) for mine, rows, key in models]


def honest_scores(team: Sequence[Inspector]) -> np.ndarray:
    """Scores of honest sessions ``[K, sessions]``; above 1 is a false alarm."""
    return np.stack([one.honest_scores() for one in team])


def faulty_scores(team: Sequence[Inspector], fault: Fault, strength: float) -> np.ndarray:
    """Scores of sessions in which the provider commits ``fault``, ``[K, sessions]``; above 1 it is detected."""
    return np.stack([one.faulty_scores(fault, strength) for one in team])


@attack(
    "canary-detector",
    goal="integrity",
    title="Undetected deviation",
    adversary="runs one provider and deviates; is inspected with inputs that it cannot tell from queries",
)
def run(victim: Service) -> AttackResult:
    """How often the owner's canaries expose each fault, beside the rate of false alarms, per provider.

    A measurement is about the weakest strength of a fault, its note about the one that accuracies are reported for; curves show those
    in between as well.
    """
    noisy = NoisyCircuits(ExposedCircuits(victim.design, victim.model.axis))
    models = len(victim.rows)
    shots = victim.design.shots or Protocol.shots
    protocol = Protocol(shots=shots, honest=math.ceil(HONEST_SESSIONS / models), faulty=math.ceil(FAULTY_SESSIONS / models))
    result = AttackResult()
    for provider in noisy.circuits.seats:
        if noisy.simulable:
            _inspect(victim, provider, noisy, protocol, result)
        else:
            nothing = np.full(models, np.nan)
            result.measurements.extend(_detection(provider, fault, nothing, nothing, TOO_WIDE) for fault in FAULTS)
    return result


def _inspect(victim: Service, provider: str, noisy: NoisyCircuits, protocol: Protocol, result: AttackResult) -> None:
    """Adds what is found about ``provider`` to ``result``."""
    team = inspectors(victim, provider, noisy, protocol)
    honest = honest_scores(team)
    rate = (honest > 1).mean(axis=1)
    note = f"{team[0].canaries} canaries of {protocol.shots} shots; {_counted(honest > 1)}"
    target = Control("target", protocol.false_alarms)
    result.measurements.append(Measurement(f"{provider}, honest", "false-alarm rate", rate, target, note, headline=True))
    roc = Plot(f"canary ROC, {provider}", "false-alarm rate", "detection rate", y_range=_RATES, guessing=True)
    for fault in FAULTS:
        strengths = [strength for strength in fault.strengths if strength <= fault.reference]
        found = [faulty_scores(team, fault, strength) for strength in strengths]
        note = f"{_counted(found[0] > 1)}; at {strengths[-1]:g}: {_counted(found[-1] > 1)}"
        result.measurements.append(_detection(provider, fault, (found[0] > 1).mean(axis=1), rate, note))
        rates = np.array([rate.mean(), *((one > 1).mean() for one in found)])
        plot = Plot(f"detection of {fault.name}", "strength", "detection rate", y_range=_RATES)
        result.curves.append(Curve(plot, provider, np.array([0, *strengths]), rates))
        # Over multiples of each model's own threshold.
        detected = rates_on_grid(found[0].ravel(), honest.ravel(), _ROC_GRID)
        result.curves.append(Curve(roc, _weakest(fault), _ROC_GRID, detected))
    plain = inspectors(victim, provider, noisy, protocol, sensitive=False)
    weakest = ANGLE_ERRORS.strengths[0]
    chosen, at_random = ((faulty_scores(one, ANGLE_ERRORS, weakest) > 1).mean(axis=1) for one in (team, plain))
    case = f"{provider}, canaries chosen for sensitivity, {_weakest(ANGLE_ERRORS)}"
    result.measurements.append(Measurement(case, "detection rate", chosen, Control("canaries taken at random", at_random)))


def _detection(provider: str, fault: Fault, values: np.ndarray, rate: np.ndarray, note: str) -> Measurement:
    case, control = f"{provider}, {_weakest(fault)}", Control("false-alarm rate", rate)
    headline = fault in HEADLINES
    return Measurement(case, "detection rate", values, control, note, headline=headline, criterion=CHECK if headline else None)


def _weakest(fault: Fault) -> str:
    return f"{fault.name} {fault.strengths[0]:g}"


def _counted(found: np.ndarray) -> str:
    low, high = detection_interval(found)
    return f"{int(found.sum())} of {found.size} sessions, {CONFIDENCE:.0%} interval {low:.3f} to {high:.3f}"
