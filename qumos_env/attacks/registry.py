"""The registry of attacks: name -> what the threat is, who the adversary is, and the function that runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from ..design import Design
from ..errors import QumosError, unknown
from ..evaluation.service import Service
from .results import AttackResult

Goal = Literal["confidentiality", "integrity", "availability"]
GOALS: tuple[Goal, ...] = get_args(Goal)


def _any(design: Design) -> bool:
    return True


@dataclass(frozen=True)
class Attack:
    """An attack of the audit.

    Attributes:
        name: in the registry.
        goal: which property of the service it threatens.
        title: the threat in a few words, for people.
        adversary: what the adversary sees, has and may do: one sentence without its subject, such as ``runs one provider``.
        run: the attack; takes the victim and returns what it measured, one value per trained model.
        applies: whether a design has what is attacked; where not, an audit leaves the attack out unless it is asked for.
    """

    name: str
    goal: Goal
    title: str
    adversary: str
    run: Callable[[Service], AttackResult]
    applies: Callable[[Design], bool] = _any

    def to_dict(self) -> dict[str, str]:
        """Plain JSON data: all but the functions."""
        return {"name": self.name, "goal": self.goal, "title": self.title, "adversary": self.adversary}


ATTACKS: dict[str, Attack] = {}
_Run = TypeVar("_Run", bound=Callable[[Service], AttackResult])


def attack(
    name: str, *, goal: Goal, title: str, adversary: str, applies: Callable[[Design], bool] = _any
) -> Callable[[_Run], _Run]:
    """Registers the decorated function as the attack ``name``; the other arguments are those of ``Attack``.

    Audits run what is registered when they start, wherever it was defined.

    Raises:
        QumosError: there is no such goal, or another module has registered an attack of that name.
    """
    if goal not in GOALS:
        raise unknown("goal", goal, GOALS)

    def register(run: _Run) -> _Run:
        known = ATTACKS.get(name)
        if known is not None and known.run.__module__ != run.__module__:
            raise QumosError(f"attack {name!r} of {run.__module__}: {known.run.__module__} has registered one of that name")
        ATTACKS[name] = Attack(name, goal, title, adversary, run, applies)
        return run

    return register
