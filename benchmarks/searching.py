"""What searches do beside evaluating."""

from __future__ import annotations

import time
from typing import Any
from unittest.mock import patch

import numpy as np

from agents import SearchTask, load_agent
from agents.baselines import starting_points
from qumos_env import Design, load_scenario

from .registry import Outcome, Row, Target, case

SCENARIO = "hyperplanes-four"
BUDGET = 300
OVERHEAD = Target(below=50)
_MOST_REPEATS = 3
_AGENTS: tuple[tuple[str, dict[str, object]], ...] = (
    ("random", {}),
    ("random-halving", {}),
    ("local", {}),
    ("annealing", {}),
    ("evolution", {}),
    ("evolution", {"racing": True}),
    ("surrogate", {}),
    ("surrogate", {"racing": True}),
    ("tpe", {}),
    ("nsga2", {}),
    ("partition", {}),
    ("architecture", {}),
)


class _Stub:
    """Evaluates a design in no time: by its share of RY, blurred by a figure of the design alone."""

    def __init__(self, scenario: Any, cache: str | None = None) -> None:
        self._count = scenario.draws.count

    def evaluate(self, design: Design, **_: object) -> _Stub:
        noise = float(np.random.default_rng(int(design.hash[:8], 16)).normal(0, 0.05))
        self.reward = sum(gate.name == "ry" for gate in design.gates) / len(design.gates) + noise
        self._cost = len(design.gates)
        return self

    def to_dict(self) -> dict[str, float]:
        return {"accuracy": self.reward, "rewards.theft": self.reward / 2, "cost": float(self._cost)}


@case("search", f"What the agents without Ray do beside evaluating, {BUDGET} designs of scenario {SCENARIO}, evaluations taking no time.")
def run(repeats: int) -> Outcome:
    """Times whole searches; more than ``_MOST_REPEATS`` of each would take minutes."""
    scenario = load_scenario(SCENARIO)
    rows = []
    with patch("agents.pool.Evaluator", _Stub):
        for name, over in _AGENTS:
            agent = load_agent(name)
            settings = agent.settings_for(SCENARIO, over)
            starts = starting_points(scenario) if settings.warm_start else ()
            values = []
            for seed in range(min(repeats, _MOST_REPEATS)):
                task = SearchTask(scenario, BUDGET, seed, 0, None, settings.model_dump(), starts)
                start = time.process_time()
                agent.search(task, on_trial=lambda _: None, should_stop=lambda: False, on_stage=lambda _: None)
                values.append(1e3 * (time.process_time() - start) / BUDGET)
            title = f"{name}, racing" if over else name
            rows.append(Row(f"{title}: processor time for every {scenario.draws.count} trained models", "ms", values, OVERHEAD))
    return Outcome(rows)
