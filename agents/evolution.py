"""Regularised evolution of designs.

Source: Real et al., *Regularized evolution for image classifier architecture search* (2019): the oldest member of the
population dies, the parent is the best of a random sample. With ``racing`` a child is first measured with few draws, and again with more
if it is among the promising ones.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from qumos_env.scenario import Scenario

from .ask_tell import Proposal, ask_tell_search
from .mutations import mutated, recut
from .protocol import Outcome
from .racing import Actions, Ladder
from .sequences import balanced_actions, genome_of, play
from .settings import Count, RacingSettings, Share

AGENT = "evolution"
ATTEMPTS = 20


class Settings(RacingSettings):
    """Settings of regularised evolution.

    Attributes:
        population: members alive at a time.
        tournament: members sampled per parent; more means stronger selection.
        mutations: mean number of mutations of a child; at least one is made.
        share_gates: share of mutations that edit gates; the others edit cut, assignment and shots.
        crossover: chance that a child takes the cut and assignment of a second parent.
        warm_start: evaluate the hand-made designs first and let them breed.
        racing, first_draws, promoted: whether children are measured with few draws first, with how many, and the share of them that is
            measured again with more.
        lag: designs under way at a time.
    """

    population: Count = 40
    tournament: Count = 8
    mutations: Annotated[float, Field(ge=1, le=10_000)] = 1.5
    share_gates: Share = 0.75
    crossover: Share = 0.1
    warm_start: bool = True

    @model_validator(mode="after")
    def _tournament_fits(self) -> Self:
        if self.tournament > self.population:
            raise ValueError(f"tournament is {self.tournament}; 1 to population ({self.population}) is expected")
        return self


class EvolutionSearcher:
    """Asks for random designs until the population is full, then for mutated winners of tournaments."""

    def __init__(self, scenario: Scenario, settings: Settings, seed: int, starts: int = 0) -> None:
        self._scenario = scenario
        self._settings = settings
        self._rng = np.random.default_rng(seed)
        self._ladder = Ladder(scenario, settings)
        self._population: OrderedDict[int, tuple[Actions, float]] = OrderedDict()
        self._born: dict[Actions, int] = {}
        self._births = 0
        self._to_fill = max(settings.population - starts, 0)
        self._asked: set[Actions] = set()

    @property
    def population(self) -> list[tuple[Actions, float]]:
        """Actions and reward of every member, the oldest first."""
        return list(self._population.values())

    def ask(self) -> Proposal:
        """A promotion, or a random design while the population fills, later a child."""
        promotion = self._ladder.promotion()
        if promotion is not None:
            return promotion
        if self._to_fill > 0 or not self._population:
            self._to_fill -= 1
            return self._ladder.entry(tuple(balanced_actions(self._scenario, self._rng)))
        actions: Actions = ()
        for _ in range(ATTEMPTS):
            actions = self._child()
            if actions not in self._asked:
                break
        self._asked.add(actions)
        return self._ladder.entry(actions)

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Adds a member, or corrects the reward of one measured again; a full population loses its oldest one."""
        self._ladder.tell(proposal, outcome)
        actions = proposal.actions
        self._asked.add(actions)
        number = self._born.get(actions) if self._settings.racing else None
        if number is None:
            number = self._births
            self._births += 1
            self._born[actions] = number
        elif number not in self._population:
            return  # it has died meanwhile
        self._population[number] = (actions, outcome.reward)
        if len(self._population) > self._settings.population:
            self._population.popitem(last=False)

    def _child(self) -> Actions:
        genome = genome_of(self._scenario, self._parent())
        if self._rng.random() < self._settings.crossover:
            genome = recut(genome, genome_of(self._scenario, self._parent()))
        genome = mutated(genome, self._scenario, self._settings.mutations, self._settings.share_gates, self._rng)
        return tuple(play(self._scenario, genome, self._rng))

    def _parent(self) -> Actions:
        members = self.population
        size = min(self._settings.tournament, len(members))
        rivals = self._rng.choice(len(members), size=size, replace=False)
        return max((members[int(index)] for index in sorted(rivals)), key=lambda member: member[1])[0]


search = ask_tell_search(
    AGENT, Settings, lambda task, settings: EvolutionSearcher(task.scenario, settings, task.seed, starts=len(task.starts))
)
