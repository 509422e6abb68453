"""Vendors: parts of a design on the devices that Cirq's hardware packages reach, and on local engines that stand in for them."""

from __future__ import annotations

from .adapter import READOUT, VendorAdapter
from .registry import VENDORS, vendor
from .runs import Backend, bundle_probabilities, bundle_values, run_part

__all__ = ["READOUT", "VENDORS", "Backend", "VendorAdapter", "bundle_probabilities", "bundle_values", "run_part", "vendor"]
