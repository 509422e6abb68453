"""Textbook × every partition: what a careful engineer would try first.

The circuit is a hand-made one (RY-CZ-RY of one to three layers on every part, with gate cuts between neighbouring parts where the scenario
allows any), and only the cut of the register and the providers of the parts are searched: every one of them in random order, for the
circuit that has done best so far, beginning with those that give every part a provider of its own. When all have been tried for one
circuit, the next best one follows; when nothing is left the search is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product
from typing import NamedTuple

import numpy as np

from qumos_env.design.ansatz import contiguous, interleaved
from qumos_env.env.actions import DesignState
from qumos_env.scenario import Scenario

from .ask_tell import Proposal, ask_tell_search
from .baselines import LAYERS, Ansatz
from .protocol import Outcome
from .racing import Actions
from .settings import Count, Number, SearcherSettings

AGENT = "partition"
ATTEMPTS = 1000


class Settings(SearcherSettings):
    """Settings of the search for a partition.

    Attributes:
        cuts: most gate cuts that are tried between the parts, within the limits of the scenario.
        most: cuts of the register and assignments that are listed; where there are more, they are drawn at random.
        warm_start: evaluate the hand-made designs first; off, since the search begins with those that it is about.
        lag: designs under way at a time.
    """

    cuts: Number = 2
    most: Count = 5000


class Placement(NamedTuple):
    """A cut of the register and the provider (index) of every part."""

    partition: tuple[int, ...]
    assignment: tuple[int, ...]


def partitions(scenario: Scenario) -> Iterator[tuple[int, ...]]:
    """Every cut of the register that the limits of ``scenario`` admit, parts numbered in order of first use."""
    qubits, limits = scenario.design.qubits, scenario.design_limits

    def extended(start: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(start) == qubits:
            yield start
            return
        for part in range(min(max(start, default=-1) + 2, scenario.design.max_parts)):
            longer = (*start, part)
            if limits.fits(np.bincount(longer).tolist()):
                yield from extended(longer)

    return extended(())


def placements(scenario: Scenario) -> Iterator[Placement]:
    """Every cut and assignment that the limits admit, but for those that differ from another one by an exchange of equal providers."""
    kinds = [provider.model_dump_json(exclude={"name"}) for provider in scenario.providers]
    for partition in partitions(scenario):
        sizes = np.bincount(partition).tolist()
        seen = set()
        for assignment in product(range(len(scenario.providers)), repeat=len(sizes)):
            first_used = list(dict.fromkeys(assignment))
            key = tuple((kinds[provider], first_used.index(provider)) for provider in assignment)
            if key not in seen and scenario.design_limits.assignable(sizes, assignment):
                seen.add(key)
                yield Placement(partition, assignment)


class PartitionSearcher:
    """Asks for the circuits on the usual partitions first, then for the best circuit on every other one."""

    def __init__(self, scenario: Scenario, settings: Settings, seed: int) -> None:
        self._scenario = scenario
        rng = np.random.default_rng(seed)
        cuts = range(min(settings.cuts, scenario.design.max_gate_cuts) + 1)
        ansatze = [Ansatz(layers, number) for layers in LAYERS for number in cuts]
        listed = list(islice(placements(scenario), settings.most + 1))
        if len(listed) <= settings.most:
            order = [listed[int(number)] for number in rng.permutation(len(listed))]
            order.sort(key=lambda one: len(set(one.assignment)) < min(len(one.assignment), len(scenario.providers)))
            self._to_try: dict[Ansatz, Iterator[Placement]] = {ansatz: iter(order) for ansatz in ansatze}
        else:
            self._to_try = {ansatz: _random_placements(scenario, one) for ansatz, one in zip(ansatze, rng.spawn(len(ansatze)), strict=True)}
        parts = min(scenario.design.max_parts, len(scenario.providers), scenario.design.qubits)
        usual = [Placement(cut(scenario.design.qubits, parts), tuple(range(parts))) for cut in (interleaved, contiguous)]
        self._opening = [(ansatz, placement) for ansatz in ansatze for placement in dict.fromkeys(usual)]
        self._ansatz_of: dict[Actions, Ansatz] = {}
        self._worth = dict.fromkeys(ansatze, float("-inf"))

    def ask(self) -> Proposal | None:
        """The next design; ``None`` when all have been tried."""
        while self._opening:
            proposal = self._proposal(*self._opening.pop(0))
            if proposal is not None:
                return proposal
        # The first of equals is the one with the fewest gates.
        for ansatz in sorted(self._to_try, key=lambda one: -self._worth[one]):
            for placement in self._to_try[ansatz]:
                proposal = self._proposal(ansatz, placement)
                if proposal is not None:
                    return proposal
        return None

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Learns which circuit does best."""
        ansatz = self._ansatz_of.get(proposal.actions)
        if ansatz is not None:
            self._worth[ansatz] = max(self._worth[ansatz], outcome.reward)

    def _proposal(self, ansatz: Ansatz, placement: Placement) -> Proposal | None:
        actions = ansatz.actions(self._scenario, *placement)
        if actions is None or actions in self._ansatz_of:
            return None
        self._ansatz_of[actions] = ansatz
        return Proposal(actions)


def _random_placements(scenario: Scenario, rng: np.random.Generator) -> Iterator[Placement]:
    """Distinct random placements, until ``ATTEMPTS`` draws in a row bring nothing new."""
    seen: set[Placement] = set()
    failed = 0
    while failed < ATTEMPTS:
        state = DesignState(scenario)
        while state.phase in ("cut", "assign"):
            state.apply(int(rng.choice(np.flatnonzero(state.mask()))))
        found = Placement(tuple(state.partition), tuple(state.assignment))
        failed = failed + 1 if found in seen else 0
        if not failed:
            seen.add(found)
            yield found


search = ask_tell_search(AGENT, Settings, lambda task, settings: PartitionSearcher(task.scenario, settings, task.seed))
