"""Steps of the environment that do not finish a design."""

from __future__ import annotations

import time

import numpy as np

from qumos_env.env.design_env import DesignEnv
from qumos_env.env.random_designs import uniform_actions

from .registry import Outcome, Row, Target, case

SCENARIO = "digits-theft"
STEP = Target(below=100)
_EPISODES = 40


@case("env", f"DesignEnv.step of random episodes without the finishing action, observation and mask included, scenario {SCENARIO}.")
def run(repeats: int) -> Outcome:
    """Times every step of random episodes, up to but without ``finish``."""
    env = DesignEnv(SCENARIO)
    generator = np.random.default_rng(0)
    episodes = [uniform_actions(env.scenario, generator)[:-1] for _ in range(_EPISODES)]
    steps, resets = [], []
    for _ in range(repeats):
        stepping = resetting = 0.0
        for actions in episodes:
            start = time.perf_counter()
            env.reset()
            middle = time.perf_counter()
            for action in actions:
                env.step(action)
            stepping += time.perf_counter() - middle
            resetting += middle - start
        steps.append(1e6 * stepping / sum(map(len, episodes)))
        resets.append(1e6 * resetting / len(episodes))
    return Outcome([Row("step without finish", "µs", steps, STEP), Row("reset", "µs", resets)])
