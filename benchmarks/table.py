"""Steps of an environment that answers from a table, finished designs included."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from qumos_env.env.random_designs import uniform_actions
from qumos_env.env.table_env import TableEnv
from qumos_env.scenario import load_scenario, parse_scenario
from training.display import Display
from training.table_maker import make_table

from .registry import Outcome, Row, Target, case

SCENARIO = "waves-tiny"
STEP = Target(below=50)
_EPISODES = 300


@case("table", f"Steps of random episodes, finished designs included, looked up in a table of the smallest designs of {SCENARIO}.")
def run(repeats: int) -> Outcome:
    """Times whole episodes, ``reset`` and the answer included: 50 µs a step are 20,000 steps a second."""
    scenario = load_scenario(SCENARIO).model_dump(mode="json")
    scenario["design"] |= {"max_gates": 6}
    scenario["model"] |= {"steps": 2}
    scenario["draws"] |= {"count": 1}
    with tempfile.TemporaryDirectory() as folder:
        make_table(parse_scenario(scenario), 1, 0, Path(folder), Display(quiet=True))
        env = TableEnv(folder)
    generator = np.random.default_rng(0)
    episodes = [uniform_actions(env.scenario, generator) for _ in range(_EPISODES)]
    measured = [_play(env, episodes) for _ in range(repeats + 1)][1:]  # the first loads what is looked up
    return Outcome([Row("TableEnv: step, finish and reset included", "µs", measured, STEP)])


def _play(env: TableEnv, episodes: list[list[int]]) -> float:
    """Microseconds of a step."""
    start = time.perf_counter()
    for actions in episodes:
        env.reset()
        for action in actions:
            env.step(action)
    return 1e6 * (time.perf_counter() - start) / sum(map(len, episodes))
