"""The reward: a named blend of accuracy, resistance to theft, privacy of membership and cost.

With chance the majority frequency, A = max(0, acc − chance)/(1 − chance), T the accuracy of the worst thief, M = 1 − 2·max(0, AUC − ½)
and C = cost/budget, the default blend is

    w_a·A + w_s·clip(acc − T, 0, acc − chance)/(1 − chance) + w_m·A·M − w_c·C.

Two terms are there where the scenario weighs them: extraction, as theft with the accuracy of a customer's clone in the place of T,
and resilience, w_r·clip(F − chance, 0, acc − chance)/(1 − chance) with F the accuracy of the owner's fallback in the worst outage.

Nothing is divided by acc − chance, so nothing blows up near chance, and a model that learned nothing earns nothing for its
privacy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import unknown
from ..scenario.sections import RewardSection

_LEAST_ROOM = 1e-9  # scored rows of one class only: nothing can be learned, and nothing is divided by 0


@dataclass(frozen=True)
class Measured:
    """What a blend sees, averaged over draws: accuracies and ``chance`` in [0, 1], ``auc``, ``cost`` in units of the budget.

    ``extraction`` is the accuracy of a customer's clone and ``fallback`` that of the owner in the worst outage, where they are weighed.
    """

    accuracy: float
    theft: float
    chance: float
    auc: float
    cost: float
    extraction: float | None = None
    fallback: float | None = None


def default(measured: Measured, weights: RewardSection) -> dict[str, float]:
    """The blend of the module's formula."""
    room = max(1 - measured.chance, _LEAST_ROOM)
    gain = max(0.0, measured.accuracy - measured.chance)
    learned = gain / room
    privacy = 1 - 2 * max(0.0, measured.auc - 0.5)
    parts = {
        "accuracy": weights.accuracy * learned,
        "theft": weights.theft * float(np.clip(measured.accuracy - measured.theft, 0.0, gain)) / room,
        "membership": weights.membership * learned * privacy,
        "cost": -weights.cost * measured.cost,
    }
    if measured.extraction is not None:
        parts["extraction"] = weights.extraction * float(np.clip(measured.accuracy - measured.extraction, 0.0, gain)) / room
    return parts | _resilience(measured, weights)


def product(measured: Measured, weights: RewardSection) -> dict[str, float]:
    """Accuracy scaled by how much of it survives each threat: A·(w_a + w_s·min(1, 2·(acc − T)/(1 − chance)) + w_m·M) − w_c·C."""
    room = max(1 - measured.chance, _LEAST_ROOM)
    learned = max(0.0, measured.accuracy - measured.chance) / room
    secure = float(np.clip(2 * (measured.accuracy - measured.theft) / room, 0.0, 1.0))
    privacy = 1 - 2 * max(0.0, measured.auc - 0.5)
    parts = {
        "accuracy": weights.accuracy * learned,
        "theft": weights.theft * learned * secure,
        "membership": weights.membership * learned * privacy,
        "cost": -weights.cost * measured.cost,
    }
    if measured.extraction is not None:
        parts["extraction"] = weights.extraction * learned * float(np.clip(2 * (measured.accuracy - measured.extraction) / room, 0.0, 1.0))
    return parts | _resilience(measured, weights)


def _resilience(measured: Measured, weights: RewardSection) -> dict[str, float]:
    """What is left of the gain over chance in the worst outage; the same in every blend."""
    if measured.fallback is None:
        return {}
    gain = max(0.0, measured.accuracy - measured.chance)
    left = float(np.clip(measured.fallback - measured.chance, 0.0, gain)) / max(1 - measured.chance, _LEAST_ROOM)
    return {"resilience": weights.resilience * left}


BLENDS: dict[str, Callable[[Measured, RewardSection], dict[str, float]]] = {"default": default, "product": product}


def check_blend(weights: RewardSection) -> None:
    """Raises QumosError where the blend is not in the registry."""
    if weights.blend not in BLENDS:
        raise unknown("reward blend", weights.blend, BLENDS)


def reward_parts(measured: Measured, weights: RewardSection) -> dict[str, float]:
    """The named parts of the scenario's blend; their sum is the reward. Raises QumosError for an unknown blend."""
    check_blend(weights)
    return BLENDS[weights.blend](measured, weights)
