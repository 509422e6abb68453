"""All designs of a scenario that is small enough for that."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from ..design import Design
from ..design.design import canonical_order
from ..scenario import Scenario
from .actions import DesignState


@dataclass(frozen=True)
class Reached:
    """A design, and the actions of a shortest episode that builds it, ``finish`` included."""

    design: Design
    actions: tuple[int, ...]


def all_designs(scenario: Scenario) -> Iterator[Reached]:
    """Every canonical design that the actions of ``scenario`` reach, each exactly once, those of fewer actions first.

    What may follow depends on the design so far and not on the order in which its gates were placed, so a design met in two ways is gone
    on from once. Time and memory grow with the number of designs, which grows exponentially with the gate budget.
    """
    level, met = [DesignState(scenario)], set[Hashable]()
    while level:
        following = []
        for state in level:
            for number in map(int, state.mask().nonzero()[0]):
                if number == state.table.finish:
                    yield Reached(state.design(), (*state.history, number))
                    continue
                child = state.copy()
                child.apply(number)
                identity = _identity(child)
                if identity not in met:
                    met.add(identity)
                    following.append(child)
        level = following


def _identity(state: DesignState) -> Hashable:
    gates = tuple(placed.gate for placed in canonical_order(state.gates))
    return tuple(state.partition), tuple(state.assignment), gates, state.shots
