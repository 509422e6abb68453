"""The `qumos` command."""

from . import audits, claims, designs, hardware, scenarios
from .app import app, main, run

__all__ = ["app", "audits", "claims", "designs", "hardware", "main", "run", "scenarios"]
