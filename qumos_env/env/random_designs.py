"""Random designs for calibration."""

from __future__ import annotations

import numpy as np

from ..design import Design
from ..scenario import Scenario
from .actions import DesignState

MEAN_BLOCKS = 8


def uniform_actions(scenario: Scenario, generator: np.random.Generator) -> list[int]:
    """A random episode: uniformly random valid actions, the number of gate-phase actions drawn first.

    Every step is chosen as by an agent that has not learned anything: on such designs admission measures whether a reward tells designs
    apart. (Random search draws otherwise, balanced over numbers and kinds of gates.)

    Without that draw the episode would end at once or fill the budget, depending only on how many actions there are. The
    number is geometric with mean ``MEAN_BLOCKS`` for block vocabularies and uniform up to the gate budget for single gates.
    """
    rules = scenario.design
    if rules.vocabulary == "gates":
        wanted = int(generator.integers(1, rules.max_gates + 1))
    else:
        wanted = int(generator.geometric(1 / MEAN_BLOCKS))
    state = DesignState(scenario)
    while state.phase in ("cut", "assign"):
        state.apply(int(generator.choice(np.flatnonzero(state.mask()))))
    for _ in range(wanted):
        valid = np.flatnonzero(state.mask()[:-1])
        if len(valid) == 0:
            break
        state.apply(int(generator.choice(valid)))
    while not state.mask()[state.table.finish]:
        state.apply(int(generator.choice(np.flatnonzero(state.mask()))))
    state.apply(state.table.finish)
    return state.history


def random_design(scenario: Scenario, generator: np.random.Generator) -> Design:
    """The design of ``uniform_actions``."""
    return DesignState(scenario).replay(uniform_actions(scenario, generator)).design()
