"""NSGA-II on accuracy, security and cost: a population spread over the designs that no other one beats in all three.

Source: Deb, Pratap, Agarwal and Meyarivan, *A fast and elitist multiobjective genetic algorithm: NSGA-II* (2002), in its steady-state form
(Durillo, Nebro, Luna and Alba, *On the effect of the steady-state selection scheme in multi-objective genetic algorithms*, 2009), in which
every design is taken in or not as soon as it is measured. Non-dominated sorting, crowding distance and survival are pymoo's.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from qumos_env.scenario import Scenario

from .ask_tell import Proposal, ask_tell_search
from .mutations import crossed, mutated
from .objectives import Objectives, as_losses, objectives
from .protocol import Outcome
from .racing import Actions
from .sequences import balanced_actions, genome_of, play
from .settings import SearcherSettings, Share

AGENT = "nsga2"
ATTEMPTS = 20


class Settings(SearcherSettings):
    """Settings of NSGA-II.

    Attributes:
        population: members that survive.
        mutations: mean number of mutations of a child; at least one is made.
        share_gates: share of mutations that edit gates; the others edit cut, assignment and shots.
        crossover: chance that a child is crossed from two parents before it is mutated.
        warm_start: evaluate the hand-made designs first and let them breed.
        lag: designs under way at a time.
    """

    population: Annotated[int, Field(ge=2, le=100_000)] = 40
    mutations: Annotated[float, Field(ge=1, le=10_000)] = 1.5
    share_gates: Share = 0.75
    crossover: Share = 0.3
    warm_start: bool = True


class NSGA2Searcher:
    """Asks for random designs until the population is full, then for children of winners of binary tournaments."""

    def __init__(self, scenario: Scenario, settings: Settings, seed: int, starts: int = 0) -> None:
        self._scenario = scenario
        self._settings = settings
        self._rng = np.random.default_rng(seed)
        self._to_fill = max(settings.population - starts, 0)
        self._members: dict[Actions, Objectives] = {}
        self._standing: dict[Actions, tuple[int, float]] = {}
        self._asked: set[Actions] = set()

    @property
    def members(self) -> dict[Actions, Objectives]:
        """The population: actions -> what they are worth."""
        return dict(self._members)

    def ask(self) -> Proposal:
        """A random design while the population fills, later a child."""
        actions: Actions = ()
        if self._to_fill > 0 or not self._members:
            self._to_fill -= 1
            actions = tuple(balanced_actions(self._scenario, self._rng))
        else:
            for _ in range(ATTEMPTS):
                actions = self._child()
                if actions not in self._asked:
                    break
        self._asked.add(actions)
        return Proposal(actions)

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Takes in a design that did not break down; a population that grows too large loses its worst member."""
        self._asked.add(proposal.actions)
        found = objectives(outcome.evaluation)
        if found is None:
            return
        self._members[proposal.actions] = found
        names = list(self._members)
        numbers = Population.new("X", np.arange(len(names))[:, None], "F", as_losses(list(self._members.values())))
        kept = RankAndCrowding().do(
            Problem(n_var=1, n_obj=len(Objectives._fields)), numbers, n_survive=self._settings.population, random_state=self._rng
        )
        survivors = [(names[int(one.X[0])], (int(one.get("rank")), float(one.get("crowding")))) for one in kept]
        self._standing = dict(sorted(survivors, key=lambda item: names.index(item[0])))
        self._members = {actions: self._members[actions] for actions in self._standing}

    def _child(self) -> Actions:
        genome = genome_of(self._scenario, self._parent())
        if self._rng.random() < self._settings.crossover:
            genome = crossed(genome, genome_of(self._scenario, self._parent()), self._rng)
        genome = mutated(genome, self._scenario, self._settings.mutations, self._settings.share_gates, self._rng)
        return tuple(play(self._scenario, genome, self._rng))

    def _parent(self) -> Actions:
        """The winner of a binary tournament: of the better front, or of the same one and with more room around it."""
        names = list(self._members)
        rivals = [names[int(self._rng.integers(len(names)))] for _ in range(2)]
        return min(rivals, key=lambda actions: (self._standing[actions][0], -self._standing[actions][1]))


search = ask_tell_search(AGENT, Settings, lambda task, settings: NSGA2Searcher(task.scenario, settings, task.seed, starts=len(task.starts)))
