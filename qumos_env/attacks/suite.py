"""All attacks: importing this module fills the registry."""

from .availability import outage, slowdown
from .confidentiality import extraction, inversion, label_recovery, membership, membership_shots, side_channels, theft, transpiled_theft
from .integrity import canaries, poisoning, service, tampering
from .registry import ATTACKS

__all__ = [
    "ATTACKS",
    "canaries",
    "extraction",
    "inversion",
    "label_recovery",
    "membership",
    "membership_shots",
    "outage",
    "poisoning",
    "service",
    "side_channels",
    "slowdown",
    "tampering",
    "theft",
    "transpiled_theft",
]
