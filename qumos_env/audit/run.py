"""Runs the attacks of the registry on freshly trained models of a design and gathers what they measured."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ..attacks.registry import Attack
from ..attacks.results import AttackResult, Curve, Figure, Goal
from ..attacks.suite import ATTACKS
from ..design import Design
from ..errors import EvaluationFailure, QumosError, one_line, unknown
from ..evaluation.service import Service
from ..evaluation.statistics import mean_interval
from ..evaluation.workload import Workload
from ..scenario import Scenario

GOALS: tuple[Goal, ...] = ("confidentiality", "integrity", "availability")
FIRST_SEED = 10_000
"""Seeds of an audit start here, above the scenario's own: no search has been scored with them."""
NOT_RUN = "not run"
"""Name of the figure of an attack that cannot be run on a design."""


@dataclass(frozen=True)
class Audit:
    """What an audit measured.

    Attributes:
        design: the audited design.
        scenario: the scenario that it serves.
        seeds: evaluation seeds; every one trains a model per draw.
        accuracy: of the service as it runs, on the test split, one value per trained model.
        chance: majority frequency of the test split.
        attacks: the attacks that ran, in the order of the registry.
        figures: over all trained models of all seeds.
        curves: means over the seeds.
    """

    design: Design
    scenario: Scenario
    seeds: tuple[int, ...]
    accuracy: np.ndarray
    chance: float
    attacks: tuple[Attack, ...]
    figures: tuple[Figure, ...]
    curves: tuple[Curve, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; what could not be measured is ``null``, its figure's ``note`` says why."""
        return {
            "design": self.design.to_dict(),
            "design_hash": self.design.hash,
            "scenario": self.scenario.name,
            "scenario_hash": self.scenario.hash,
            "seeds": list(self.seeds),
            "accuracy": mean_interval(self.accuracy).to_dict(),
            "chance": self.chance,
            "attacks": [{"name": one.name, "goal": one.goal, "adversary": one.adversary} for one in self.attacks],
            "figures": [
                {
                    "goal": figure.goal,
                    "attack": figure.attack,
                    "name": figure.name,
                    "value": figure.interval.to_dict(),
                    "control": figure.control_interval.to_dict(),
                    "control_name": figure.control,
                    "gain": figure.gain.to_dict(),
                    "units": int(np.isfinite(figure.values).sum()),
                    "note": figure.note,
                }
                for figure in self.figures
            ],
            "curves": [
                {"plot": curve.plot, "name": curve.name, "x": _numbers(curve.x), "y": _numbers(curve.y)} for curve in self.curves
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
        attacks: names of the attacks to run; default all.
        limits: hold the design against the scenario's limits.
        on_progress: called with steps done, steps in all and the name of the next attack.

    Raises:
        QumosError: the design does not fit the scenario, or an attack is unknown.
        EvaluationFailure: a training diverged.
    """
    if seeds < 1:
        raise QumosError(f"seeds is {seeds}, at least 1 is needed")
    for name in attacks:
        if name not in ATTACKS:
            raise unknown("attack", name, ATTACKS)
    scenario.check_design(design, limits=limits)
    chosen = tuple(one for one in ATTACKS.values() if not attacks or one.name in attacks)
    workload = Workload(scenario)
    accuracy, results = [], []
    steps = seeds * len(chosen)
    numbers = tuple(scenario.seed + FIRST_SEED + index for index in range(seeds))
    with threadpool_limits(1):  # as in evaluations: the same figures on any number of cores
        for index, seed in enumerate(numbers):
            victim = Service.train(workload, design, seed)
            accuracy.append(np.mean(victim.answer(victim.test, 0).argmax(axis=-1) == victim.labels[victim.test], axis=1))
            for position, one in enumerate(chosen):
                if on_progress is not None:
                    on_progress(index * len(chosen) + position, steps, one.name)
                results.append(_run(one, victim))
    if on_progress is not None:
        on_progress(steps, steps, "done")
    labels = victim.labels[victim.rows[0].test]
    return Audit(
        design=design,
        scenario=scenario,
        seeds=numbers,
        accuracy=np.concatenate(accuracy),
        chance=float(np.bincount(labels).max() / len(labels)),
        attacks=chosen,
        figures=tuple(_gather_figures(results)),
        curves=tuple(_gather_curves(results)),
    )


def _run(one: Attack, victim: Service) -> AttackResult:
    """What ``one`` measured or, where it cannot be run on this design and scenario, a figure that says why."""
    try:
        return one.run(victim)
    except (QumosError, EvaluationFailure) as error:
        nothing = np.full(len(victim.rows), np.nan)
        return AttackResult([Figure(one.goal, one.name, NOT_RUN, nothing, note=f"n/a: {one_line(error)}")])


def _gather_figures(results: Sequence[AttackResult]) -> list[Figure]:
    """Figures of the same attack and name, from several seeds, as one."""
    groups: dict[tuple[str, str], list[Figure]] = {}
    for result in results:
        for figure in result.figures:
            groups.setdefault((figure.attack, figure.name), []).append(figure)
    return [_joined(same) for same in groups.values()]


def _joined(same: Sequence[Figure]) -> Figure:
    """One figure of several seeds; a seed in which it could not be measured may lack its control."""
    model = next((figure for figure in same if figure.control), same[0])
    controls = None
    if model.controls is not None:
        controls = np.concatenate([np.full(len(one.values), np.nan) if one.controls is None else one.controls for one in same])
    notes = list(dict.fromkeys(figure.note for figure in same if figure.note))
    return replace(
        model,
        values=np.concatenate([figure.values for figure in same]),
        controls=controls,
        # Notes with counts of one seed each would fill a page.
        note=notes[0] + (" (first seed)" if len(notes) > 1 else "") if notes else "",
    )


def _gather_curves(results: Sequence[AttackResult]) -> list[Curve]:
    """Curves of the same plot, name and points, from several seeds, as their mean."""
    groups: dict[tuple[str, str, tuple[float, ...]], list[Curve]] = {}
    for result in results:
        for curve in result.curves:
            groups.setdefault((curve.plot, curve.name, tuple(curve.x)), []).append(curve)
    return [replace(same[0], y=np.mean([curve.y for curve in same], axis=0)) for same in groups.values()]


def _numbers(values: np.ndarray) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]
