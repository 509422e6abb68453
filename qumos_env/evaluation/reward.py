"""The reward: a weighted sum of terms, each of which is worth at most its weight.

Every term turns what it measured into a share between 0 and 1 (cost: from 0 down), in the light of how the owner's model stands.
With chance the majority frequency of the scored rows and acc the accuracy of the owner's model,

    accuracy      A = max(0, acc − chance)/(1 − chance)
    theft         margin of acc over the accuracy of the strongest thief
    extraction    margin of acc over the accuracy of a customer's clone
    membership    A·(1 − 2·max(0, AUC − ½))
    resilience    clip(fallback − chance, 0, acc − chance)/(1 − chance), fallback the owner's accuracy in the worst outage
    cost          −cost/budget

What a margin is, is the blend of the scenario: ``default`` takes clip(acc − rival, 0, acc − chance)/(1 − chance), ``product`` takes
A·min(1, 2·max(0, acc − rival)/(1 − chance)).

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
class Standing:
    """How the owner's model stands, averaged over draws: its ``accuracy`` and ``chance``, both in [0, 1], and the blend's margin."""

    accuracy: float
    chance: float
    blend: Blend

    @property
    def room(self) -> float:
        """1 − chance: what could be gained over chance."""
        return max(1 - self.chance, _LEAST_ROOM)

    @property
    def gain(self) -> float:
        """What was gained over chance, 0 for a model below it."""
        return max(0.0, self.accuracy - self.chance)

    @property
    def learned(self) -> float:
        """A: the share of the room that was gained."""
        return self.gain / self.room

    def margin(self, rival: float) -> float:
        """What the model's lead over an adversary of accuracy ``rival`` is worth, in [0, A]."""
        return self.blend(self, rival)

    def kept(self, accuracy: float) -> float:
        """What is left of the gain with only this ``accuracy``, in [0, A]."""
        return float(np.clip(accuracy - self.chance, 0.0, self.gain)) / self.room


Blend = Callable[[Standing, float], float]
"""The standing of a model and the accuracy of an adversary, to the worth of the lead over it."""


def default(standing: Standing, rival: float) -> float:
    """The lead as a share of the room, at most what was gained over chance."""
    return float(np.clip(standing.accuracy - rival, 0.0, standing.gain)) / standing.room


def product(standing: Standing, rival: float) -> float:
    """What was learned, scaled by how clear the lead is: half of the room is as good as all of it."""
    return standing.learned * float(np.clip(2 * (standing.accuracy - rival) / standing.room, 0.0, 1.0))


BLENDS: dict[str, Blend] = {"default": default, "product": product}


def blend_of(weights: RewardSection) -> Blend:
    """The blend that the scenario names; raises QumosError where the registry has no such blend."""
    if weights.blend not in BLENDS:
        raise unknown("reward blend", weights.blend, BLENDS)
    return BLENDS[weights.blend]
