"""All attacks: importing this module fills the registry."""

from .availability import outage, slowdown
from .confidentiality import (
    extraction,
    label_recovery,
    member_scores,
    membership_shots,
    model_inversion,
    side_channels,
    theft,
    transpiled_theft,
)
from .integrity import canary_detector, deviation, poisoning, service
from .registry import ATTACKS

__all__ = [
    "ATTACKS",
    "canary_detector",
    "deviation",
    "extraction",
    "label_recovery",
    "member_scores",
    "membership_shots",
    "model_inversion",
    "outage",
    "poisoning",
    "service",
    "side_channels",
    "slowdown",
    "theft",
    "transpiled_theft",
]
