"""All attacks: importing this module fills the registry."""

from . import (
    availability,
    canaries,
    extraction,
    integrity,
    inversion,
    labels,
    latency,
    membership_audit,
    membership_studies,
    poisoning,
    service_modes,
    side_channels,
    theft_audit,
    transpiled,
)
from .registry import ATTACKS

__all__ = [
    "ATTACKS",
    "availability",
    "canaries",
    "extraction",
    "integrity",
    "inversion",
    "labels",
    "latency",
    "membership_audit",
    "membership_studies",
    "poisoning",
    "service_modes",
    "side_channels",
    "theft_audit",
    "transpiled",
]
