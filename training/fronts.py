"""The designs of a search that no other one beats in accuracy, security and cost at once."""

from __future__ import annotations

from collections.abc import Sequence

from agents.objectives import as_losses, non_dominated, objectives
from agents.protocol import Trial
from qumos_env.scenario import Scenario

from .results import FrontPoint


def front_of(scenario: Scenario, trials: Sequence[Trial]) -> tuple[FrontPoint, ...]:
    """The non-dominated designs among those measured with all draws of ``scenario``, the most accurate first."""
    whole = [trial for trial in trials if trial.is_full(scenario) and not trial.repeated]
    found = [(trial, worth) for trial in whole if (worth := objectives(trial.evaluation)) is not None]
    keep = non_dominated(as_losses([worth for _, worth in found]))
    points = [
        FrontPoint(design=trial.design, design_hash=trial.design_hash, reward=trial.reward, **worth._asdict())
        for (trial, worth), kept in zip(found, keep, strict=True)
        if kept
    ]
    return tuple(sorted(points, key=lambda point: (-point.accuracy, -point.security, point.cost)))
