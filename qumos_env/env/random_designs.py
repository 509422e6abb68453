"""Random designs for calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from ..design import Design, Gate
from ..design.ansatz import ry_cz_ry
from ..errors import QumosError
from ..scenario import Scenario
from .actions import DesignState

MEAN_BLOCKS = 8
_MOST_LAYERS = 3
_TRIES = 100


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


def textbook_design(scenario: Scenario, generator: np.random.Generator) -> Design:
    """An RY-CZ-RY ansatz on a random partition with random providers, and random gate cuts where the scenario allows any.

    What a careful engineer would try first: most of them are accurate, and they differ in who gets to see what. Where nothing of this
    kind fits, the design of ``uniform_actions`` takes its place.
    """
    for _ in range(_TRIES):
        state = DesignState(scenario)
        while state.phase in ("cut", "assign"):
            state.apply(int(generator.choice(np.flatnonzero(state.mask()))))
        names = [scenario.provider_names[provider] for provider in state.assignment]
        bare = ry_cz_ry(state.partition, names, int(generator.integers(1, _MOST_LAYERS + 1)))
        design = replace(bare, gates=(*_cuts(scenario, state.partition, generator), *bare.gates))
        try:
            scenario.check_design(design)
        except QumosError:
            continue
        return design
    return random_design(scenario, generator)


def _cuts(scenario: Scenario, partition: Sequence[int], generator: np.random.Generator) -> list[Gate]:
    """RZZ gates between random qubits of different parts, at most as many as the scenario allows."""
    qubits = range(len(partition))
    across = [pair for pair in combinations(qubits, 2) if partition[pair[0]] != partition[pair[1]]]
    wanted = int(generator.integers(scenario.design.max_gate_cuts + 1))
    if not across or not wanted:
        return []
    return [Gate("rzz", across[int(index)]) for index in generator.choice(len(across), wanted)]
