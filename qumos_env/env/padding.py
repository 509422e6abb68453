"""One action space for all scenarios: the actions of a maximal problem, and which of them are a scenario's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np

from ..design import Design
from ..design.gates import REGISTRY
from ..errors import QumosError, shown, unknown
from ..scenario import Scenario
from .actions import ActionTable, DesignState, NumberedActions, action_table, list_actions

_MOST = 64  # of anything that is padded: the actions grow with the square of the qubits


@dataclass(frozen=True)
class Padding:
    """The maximal problem: what a scenario may have at most of qubits, parts, providers and levels of shots.

    Gates and blocks are all those of the registry.
    """

    qubits: int = 12
    parts: int = 4
    providers: int = 4
    shots: int = 4

    def __post_init__(self) -> None:
        for name, size in asdict(self).items():
            least = 0 if name == "shots" else 1
            if isinstance(size, bool) or not isinstance(size, int) or not least <= size <= _MOST:
                raise QumosError(f"padding.{name} is {shown(size)}, a whole number from {least} to {_MOST} is needed")

    @classmethod
    def of(cls, sizes: Padding | dict[str, int] | None) -> Padding:
        """The padding with these sizes, the defaults for all others.

        Raises:
            QumosError: another name, or no usable number.
        """
        if isinstance(sizes, Padding):
            return sizes
        for name in sizes or {}:
            if name not in cls.__dataclass_fields__:
                raise unknown("size of the padding", name, cls.__dataclass_fields__)
        return cls(**(sizes or {}))

    def check(self, scenario: Scenario) -> None:
        """Raises QumosError where ``scenario`` is larger than the padding, with the sizes that it needs."""
        needed = {
            "qubits": scenario.design.qubits,
            "parts": scenario.design.max_parts,
            "providers": len(scenario.providers),
            "shots": len(scenario.design.shots),
        }
        larger = {name: size for name, size in needed.items() if size > getattr(self, name)}
        if larger:
            name, size = next(iter(larger.items()))
            raise QumosError(
                f"scenario {scenario.name} has {size} {name}, the padding holds {getattr(self, name)}; make it larger with padding={larger}"
            )

    def fits(self, scenario: Scenario) -> bool:
        """Whether ``scenario`` is within the padding."""
        try:
            self.check(scenario)
        except QumosError:
            return False
        return True


class PaddedTable(NumberedActions):
    """The actions of the maximal problem, numbered; those of a scenario are a part of them, one to one.

    In this order: ``part``, ``assign``, single gates in the order of the registry, blocks part by part, ``shots``, ``finish``, and where
    finished designs are measured until they are accepted ``measure`` and ``accept``.

    Args:
        padding: the maximal problem.
        measured: whether there are ``measure`` and ``accept``.
    """

    def __init__(self, padding: Padding, *, measured: bool = False) -> None:
        sizes = (padding.qubits, padding.parts, padding.providers, padding.shots)
        super().__init__(list_actions(sizes, tuple(REGISTRY), "both", measured=measured), "the padded table")
        self.padding = padding

    def numbers(self, table: ActionTable) -> np.ndarray:
        """The padded number of every action of a scenario's own ``table``, int64 ``[own actions]``.

        Raises:
            QumosError: the scenario is larger than the padding.
        """
        self.padding.check(table.scenario)
        return np.array([self.index(action) for action in table.actions])

    def own(self, table: ActionTable) -> np.ndarray:
        """The number in a scenario's own ``table`` of every padded action, int64 ``[padded actions]``; -1 for those that it lacks."""
        found = np.full(len(self), -1)
        numbers = self.numbers(table)
        found[numbers] = np.arange(len(numbers))
        return found

    def to_own(self, scenario: Scenario, actions: Iterable[int]) -> list[int]:
        """Padded ``actions`` as traces of ``scenario`` hold them: by its own numbers, without ``measure``, ``accept`` and what it lacks."""
        own = self.own(action_table(scenario))
        return [int(own[action]) for action in actions if own[action] >= 0]

    def from_own(self, scenario: Scenario, actions: Sequence[int]) -> list[int]:
        """The ``actions`` of ``scenario``, by its own numbers, as padded ones: traces of one scenario teach an agent for all."""
        return self.numbers(action_table(scenario))[list(actions)].tolist() if actions else []


@lru_cache(maxsize=8)
def padded_table(padding: Padding | None = None, *, measured: bool = False) -> PaddedTable:
    """The padded table, see ``PaddedTable``; the last few are kept."""
    return PaddedTable(padding or Padding(), measured=measured)


def design_of_context_actions(scenario: Scenario, actions: Iterable[int], padding: Padding | None = None) -> Design:
    """The design that padded ``actions`` build in ``scenario``, skipping those that are masked.

    Raises:
        QumosError: the scenario is larger than the padding, or the actions do not cut and assign the whole register.
    """
    return DesignState(scenario).replay(padded_table(padding, measured=True).to_own(scenario, actions)).design()
