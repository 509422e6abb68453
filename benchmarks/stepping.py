"""Steps of the environment that do not finish a design."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np

from qumos_env.env.context_env import ContextEnv, FlatContext
from qumos_env.env.design_env import DesignEnv
from qumos_env.env.random_designs import uniform_actions

from .registry import Outcome, Row, Target, case

SCENARIO = "digits-theft"
STEP = Target(below=100)
_EPISODES = 40


@case("env", f"Steps of random episodes without the finishing action, observation and mask included, scenario {SCENARIO}.")
def run(repeats: int) -> Outcome:
    """Times every step of random episodes, up to but without ``finish``, in the environment of one scenario and in those of many."""
    env = DesignEnv(SCENARIO)
    context = ContextEnv([SCENARIO])
    generator = np.random.default_rng(0)
    episodes = [uniform_actions(env.scenario, generator)[:-1] for _ in range(_EPISODES)]
    padded = [context.table.from_own(env.scenario, actions) for actions in episodes]
    start = time.perf_counter()
    context.reset()
    first = 1e3 * (time.perf_counter() - start)
    rows = []
    played: list[tuple[str, gym.Env[Any, Any], list[list[int]], Target | None]] = [
        ("DesignEnv", env, episodes, STEP),
        ("ContextEnv", context, padded, STEP),
        ("FlatContext", FlatContext(context), padded, STEP),
    ]
    for name, one, actions, target in played:
        measured = [_play(one, actions) for _ in range(repeats)]
        rows.append(Row(f"{name}: step without finish", "µs", [steps for steps, _ in measured], target))
        rows.append(Row(f"{name}: reset", "µs", [resets for _, resets in measured]))
    return Outcome([*rows, Row("ContextEnv: first reset of a scenario, descriptors included", "ms", [first])])


def _play(env: gym.Env[Any, Any], episodes: list[list[int]]) -> tuple[float, float]:
    """Microseconds of a step and of a reset."""
    stepping = resetting = 0.0
    for actions in episodes:
        start = time.perf_counter()
        env.reset()
        middle = time.perf_counter()
        for action in actions:
            env.step(np.int64(action))
        stepping += time.perf_counter() - middle
        resetting += middle - start
    return 1e6 * stepping / sum(map(len, episodes)), 1e6 * resetting / len(episodes)
