"""Surrogate evolution: the best designs are mutated, and an ensemble of trees chooses which of the children are measured.

Source: White, Neiswanger and Savani, *BANANAS: Bayesian optimization with neural architectures for neural architecture search* (2021):
mutations of the best propose, an ensemble ranks by independent Thompson sampling. Its ensemble is of neural networks on paths of the
architecture; here trees on the figures of ``features`` take their place, which are fitted in a tenth of a second.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from sklearn.ensemble import ExtraTreesRegressor

from qumos_env.env.actions import DesignState
from qumos_env.scenario import Scenario

from .ask_tell import Proposal, ask_tell_search
from .features import features
from .mutations import mutated, recut
from .protocol import Outcome
from .racing import Actions, Ladder
from .sequences import balanced_actions, genome_of, played
from .settings import Count, RacingSettings, Share, Weight

AGENT = "surrogate"
REFIT_GROWTH = 0.1
"""The ensemble is fitted again when there are so many more designs, as a share: the time for it stays in proportion."""


class Settings(RacingSettings):
    """Settings of surrogate evolution.

    Attributes:
        opening: random designs (the starting designs included) before the ensemble chooses.
        parents: how many of the best designs are mutated.
        children: children made for each one that is measured; those that were not chosen stay in the running.
        pool: children in the running at a time, the latest.
        mutations: mean number of mutations of a child; at least one is made.
        share_gates: share of mutations that edit gates; the others edit cut, assignment and shots.
        crossover: chance that a child takes the cut and assignment of a second parent.
        fresh: share of the measured designs that are random ones, so that the ensemble learns of what is far away.
        trees: of the ensemble.
        choice: ``thompson`` ranks children by a draw from what the trees say (normal, with their mean and spread), ``optimistic`` by the
            mean plus ``optimism`` times the spread.
        optimism: see ``choice``.
        warm_start: evaluate the hand-made designs first and let them breed.
        racing, first_draws, promoted: whether children are measured with few draws first, with how many, and the share of them that is
            measured again with more.
        lag: designs under way at a time.
    """

    opening: Count = 30
    parents: Count = 16
    children: Count = 6
    pool: Count = 200
    mutations: Annotated[float, Field(ge=1, le=10_000)] = 1.5
    share_gates: Share = 0.75
    crossover: Share = 0.1
    fresh: Share = 0.05
    trees: Annotated[int, Field(ge=2, le=10_000)] = 32
    choice: Literal["thompson", "optimistic"] = "thompson"
    optimism: Weight = 1.0
    warm_start: bool = True


@dataclass
class _Child:
    actions: Actions
    figures: np.ndarray
    mean: float = 0.0
    spread: float = 0.0


class SurrogateSearcher:
    """Asks for random designs at first, then for the children that the ensemble ranks highest."""

    def __init__(self, scenario: Scenario, settings: Settings, seed: int, starts: int = 0) -> None:
        self._scenario = scenario
        self._settings = settings
        self._rng = np.random.default_rng(seed)
        self._ladder = Ladder(scenario, settings)
        self._to_open = max(settings.opening - starts, 0)
        self._figures: dict[Actions, np.ndarray] = {}
        self._rewards: dict[Actions, float] = {}
        self._asked: set[Actions] = set()
        self._pool: deque[_Child] = deque(maxlen=settings.pool)
        self._trees: ExtraTreesRegressor | None = None
        self._fitted = 0
        self._news = 0

    def ask(self) -> Proposal:
        """A promotion, a random design, or the best child in the running."""
        promotion = self._ladder.promotion()
        if promotion is not None:
            return promotion
        if self._to_open > 0 or len(self._rewards) < 2:
            self._to_open -= 1
            return self._entry(tuple(balanced_actions(self._scenario, self._rng)))
        if self._rng.random() < self._settings.fresh:
            return self._entry(tuple(balanced_actions(self._scenario, self._rng)))
        self._refit()
        self._breed()
        if not self._pool:
            return self._entry(tuple(balanced_actions(self._scenario, self._rng)))
        means, spreads = (np.array([getattr(one, name) for one in self._pool]) for name in ("mean", "spread"))
        if self._settings.choice == "thompson":
            worth = means + spreads * self._rng.standard_normal(len(means))
        else:
            worth = means + self._settings.optimism * spreads
        chosen = self._pool[int(worth.argmax())]
        self._pool.remove(chosen)
        self._figures[chosen.actions] = chosen.figures
        return self._entry(chosen.actions)

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Learns the reward of a design; the ensemble hears of it when it is fitted again."""
        self._ladder.tell(proposal, outcome)
        actions = proposal.actions
        if actions not in self._figures:
            self._figures[actions] = features(DesignState(self._scenario).replay(actions))
        self._asked.add(actions)
        self._rewards[actions] = outcome.reward
        self._news += 1

    def _entry(self, actions: Actions) -> Proposal:
        self._asked.add(actions)
        return self._ladder.entry(actions)

    def _refit(self) -> None:
        if self._trees is not None and self._news < max(self._settings.lag, REFIT_GROWTH * self._fitted):
            return
        table = np.stack([self._figures[actions] for actions in self._rewards])
        self._trees = ExtraTreesRegressor(
            self._settings.trees, min_samples_leaf=2, max_features=0.5, random_state=int(self._rng.integers(2**31))
        )
        self._trees.fit(table, np.array(list(self._rewards.values())))
        self._fitted, self._news = len(self._rewards), 0
        self._rate(list(self._pool))

    def _breed(self) -> None:
        """Adds new children of the best designs."""
        ranked = sorted(self._rewards, key=lambda actions: -self._rewards[actions])
        parents = [genome_of(self._scenario, actions) for actions in ranked[: self._settings.parents]]
        known = self._asked | {one.actions for one in self._pool}
        fresh: list[_Child] = []
        for _ in range(self._settings.children):
            genome = parents[int(self._rng.integers(len(parents)))]
            if self._rng.random() < self._settings.crossover:
                genome = recut(genome, parents[int(self._rng.integers(len(parents)))])
            genome = mutated(genome, self._scenario, self._settings.mutations, self._settings.share_gates, self._rng)
            state = played(self._scenario, genome, self._rng)
            actions = tuple(state.history)
            if actions not in known:
                known.add(actions)
                fresh.append(_Child(actions, features(state)))
        self._rate(fresh)
        self._pool.extend(fresh)

    def _rate(self, children: list[_Child]) -> None:
        if not children or self._trees is None:
            return
        table = np.stack([one.figures for one in children])
        said = np.stack([tree.predict(table, check_input=False) for tree in self._trees.estimators_])
        for one, mean, spread in zip(children, said.mean(axis=0), said.std(axis=0), strict=True):
            one.mean, one.spread = float(mean), float(spread)


search = ask_tell_search(
    AGENT, Settings, lambda task, settings: SurrogateSearcher(task.scenario, settings, task.seed, starts=len(task.starts))
)
