"""The vendors by name."""

from __future__ import annotations

from collections.abc import Callable

import cirq

from ...errors import QumosError, unknown
from .adapter import VendorAdapter
from .aqt import AqtAdapter
from .google import GoogleAdapter
from .ionq import IonqAdapter
from .local import LocalAdapter
from .pasqal import PasqalAdapter

VENDORS: dict[str, Callable[[cirq.Sampler | None], VendorAdapter]] = {
    "local": LocalAdapter,
    "google": GoogleAdapter,
    "ionq": IonqAdapter,
    "aqt": AqtAdapter,
    "pasqal": PasqalAdapter,
}
"""Adapters; each is called with the service, or ``None`` for the local engine."""
NO_ADAPTER = {"rigetti": "its package cirq-rigetti ended with Cirq 1.5"}
"""Vendors that had a package of Cirq's, and why there is no adapter."""


def vendor(name: str, service: cirq.Sampler | None = None) -> VendorAdapter:
    """The adapter of vendor ``name``; see the adapters for what ``service`` may be.

    Raises:
        QumosError: no such vendor.
    """
    if name in NO_ADAPTER:
        raise QumosError(f"vendor {name}: {NO_ADAPTER[name]}; choose from {', '.join(VENDORS)}")
    if name not in VENDORS:
        raise unknown("vendor", name, VENDORS)
    return VENDORS[name](service)
