"""The audit of a design: every known threat to a quantum machine-learning service, measured beside its control."""

from .run import Audit, audit

__all__ = ["Audit", "audit"]
