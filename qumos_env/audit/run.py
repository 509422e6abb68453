"""Runs the attacks of the registry on freshly trained models of a design and gathers what they measured."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..attacks.registry import Attack
from ..attacks.results import AttackResult, Control, Curve, Measurement, Plot
from ..attacks.suite import all_attacks
from ..design import Design
from ..errors import EvaluationFailure, QumosError, one_line, unknown
from ..evaluation.controls import linear
from ..evaluation.service import Service
from ..evaluation.statistics import mean_interval
from ..evaluation.workload import Workload
from ..scenario import Scenario
from .scorecard import Yardstick, scorecard

FIRST_SEED = 10_000
"""Seeds of an audit start here, above the scenario's own: no search has been scored with them."""
NOT_RUN = "not run"
"""Name of the only measurement of an attack that cannot be run on a design."""


@dataclass(frozen=True)
class Audit:
    """What an audit measured.

    Attributes:
        design: the audited design.
        scenario: the scenario that it serves.
        seeds: evaluation seeds; every one trains a model per draw.
        accuracy: of the service as it runs, on the test split, one value per trained model.
        linear: of a logistic regression on the raw features of the same train rows, one value per trained model.
        chance: majority frequency of the test split.
        results: of every attack, in the order they ran: measurements over all trained models of all seeds, and curves as means over the
            seeds.
    """

    design: Design
    scenario: Scenario
    seeds: tuple[int, ...]
    accuracy: np.ndarray
    linear: np.ndarray
    chance: float
    results: Mapping[Attack, AttackResult]

    @property
    def yardstick(self) -> Yardstick:
        """The service against the linear model."""
        return Yardstick.of(self.accuracy, self.linear)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; what could not be measured is ``null``, its ``note`` says why."""
        return {
            "design": self.design.to_dict(),
            "design_hash": self.design.hash,
            "scenario": self.scenario.name,
            "scenario_hash": self.scenario.hash,
            "seeds": list(self.seeds),
            "accuracy": mean_interval(self.accuracy).to_dict(),
            "chance": self.chance,
            "yardstick": self.yardstick.to_dict(),
            "scorecard": [one.to_dict() for one in scorecard(self.results)],
            "attacks": [one.to_dict() for one in self.results],
            "figures": [
                {
                    "goal": attack.goal,
                    "attack": attack.name,
                    "name": one.name,
                    "case": one.case,
                    "quantity": one.quantity,
                    "headline": one.headline,
                    "value": one.interval.to_dict(),
                    "control": one.control_interval.to_dict(),
                    "control_name": "" if one.control is None else one.control.name,
                    "gain": one.gain.to_dict(),
                    "units": int(np.isfinite(one.values).sum()),
                    "note": one.note,
                }
                for attack, result in self.results.items()
                for one in result.measurements
            ],
            "curves": [
                {"attack": attack.name, "plot": curve.plot.title, "name": curve.name, "x": _numbers(curve.x), "y": _numbers(curve.y)}
                for attack, result in self.results.items()
                for curve in result.curves
            ],
        }

    def to_json(self) -> str:
        """``to_dict`` as text."""
        return json.dumps(self.to_dict(), indent=2)


def audit(
    design: Design,
    scenario: Scenario,
    *,
    seeds: int = 3,
    attacks: Sequence[str] = (),
    limits: bool = True,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Audit:
    """Audits ``design``.

    Args:
        design: the design.
        scenario: its scenario.
        seeds: how many fresh evaluation seeds.
        attacks: names of the attacks to run; default all that apply to the design.
        limits: hold the design against the scenario's limits.
        on_progress: called with steps done, steps in all and the name of the next attack.

    Raises:
        QumosError: the design does not fit the scenario, or an attack is unknown.
        EvaluationFailure: a training diverged.
    """
    if seeds < 1:
        raise QumosError(f"seeds is {seeds}, at least 1 is needed")
    every = all_attacks()
    names = [one.name for one in every]
    for name in attacks:
        if name not in names:
            raise unknown("attack", name, names)
    scenario.check_design(design, limits=limits)
    chosen = [one for one in every if (one.name in attacks if attacks else one.applies(design))]
    workload = Workload(scenario)
    accuracy, beside = [], []
    results: dict[Attack, list[AttackResult]] = {one: [] for one in chosen}
    steps = seeds * len(chosen)
    numbers = tuple(scenario.seed + FIRST_SEED + index for index in range(seeds))
    with threadpool_limits(1):  # as in evaluations: the same numbers on any number of cores
        for index, seed in enumerate(numbers):
            victim = Service.train(workload, design, seed)
            answers = victim.answer(victim.test, "accuracy of the service").argmax(axis=-1)
            accuracy.append(np.mean(answers == victim.labels[victim.test], axis=1))
            beside.append(_linear_accuracy(victim))
            for position, one in enumerate(chosen):
                if on_progress is not None:
                    on_progress(index * len(chosen) + position, steps, one.name)
                results[one].append(_run(one, victim))
    if on_progress is not None:
        on_progress(steps, steps, "done")
    labels = victim.labels[victim.rows[0].test]
    return Audit(
        design=design,
        scenario=scenario,
        seeds=numbers,
        accuracy=np.concatenate(accuracy),
        linear=np.concatenate(beside),
        chance=float(np.bincount(labels).max() / len(labels)),
        results={one: AttackResult(_joined_measurements(found), _joined_curves(found)) for one, found in results.items()},
    )


def _linear_accuracy(victim: Service) -> np.ndarray:
    """Of a linear model on the raw features of the train rows of every draw, on the test split, ``[K]``."""
    features, labels, observed = victim.features, victim.labels, victim.observed_labels
    rows = [(one.train, one.test) for one in victim.rows]
    return np.array([np.mean(linear(features[a], observed[a], features[b]) == labels[b]) for a, b in rows])


def _run(one: Attack, victim: Service) -> AttackResult:
    """What ``one`` measured or, where it cannot be run on this design and scenario, nothing and why."""
    try:
        return one.run(victim)
    except (QumosError, EvaluationFailure) as error:
        nothing = np.full(len(victim.rows), np.nan)
        return AttackResult([Measurement(NOT_RUN, "", nothing, note=f"n/a: {one_line(error)}", headline=True)])


def _joined_measurements(results: Sequence[AttackResult]) -> list[Measurement]:
    """Those of the same name, from several seeds, as one."""
    groups: dict[str, list[Measurement]] = {}
    for result in results:
        for one in result.measurements:
            groups.setdefault(one.name, []).append(one)
    return [_joined(same) for same in groups.values()]


def _joined(same: Sequence[Measurement]) -> Measurement:
    """One measurement of several seeds; a seed in which it could not be made may lack its control."""
    model = next((one for one in same if one.control is not None), same[0])
    control = model.control
    if control is not None and isinstance(control.values, np.ndarray):
        control = Control(control.name, np.concatenate([one.controls for one in same]))
    notes = list(dict.fromkeys(one.note for one in same if one.note))
    return replace(
        model,
        values=np.concatenate([one.values for one in same]),
        control=control,
        # Notes with counts of one seed each would fill a page.
        note=notes[0] + (" (first seed)" if len(notes) > 1 else "") if notes else "",
    )


def _joined_curves(results: Sequence[AttackResult]) -> list[Curve]:
    """Curves of the same plot, name and points, from several seeds, as their mean."""
    groups: dict[tuple[Plot, str, tuple[float, ...]], list[Curve]] = {}
    for result in results:
        for curve in result.curves:
            groups.setdefault((curve.plot, curve.name, tuple(curve.x)), []).append(curve)
    return [replace(same[0], y=np.mean([curve.y for curve in same], axis=0)) for same in groups.values()]


def _numbers(values: np.ndarray) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]
