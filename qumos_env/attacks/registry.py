"""The registry of attacks: name -> what the adversary is, and the function that runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..evaluation.service import Service
from .results import AttackResult, Goal


@dataclass(frozen=True)
class Attack:
    """An attack of the audit.

    Attributes:
        name: in the registry.
        goal: which property of the service it threatens.
        adversary: what the adversary sees, has and may do: one sentence without its subject, such as ``runs one provider``.
        run: the attack; takes the victim and returns what it measured, one value per trained model.
    """

    name: str
    goal: Goal
    adversary: str
    run: Callable[[Service], AttackResult]


ATTACKS: dict[str, Attack] = {}


def attack(name: str, goal: Goal, adversary: str) -> Callable[[Callable[[Service], AttackResult]], Callable[[Service], AttackResult]]:
    """Registers the decorated function as the attack ``name``."""

    def register(run: Callable[[Service], AttackResult]) -> Callable[[Service], AttackResult]:
        ATTACKS[name] = Attack(name, goal, adversary, run)
        return run

    return register
