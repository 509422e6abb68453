"""The `qumos` command."""

from . import audits, designs, hardware, scenarios
from .app import app, main, run

__all__ = ["app", "audits", "designs", "hardware", "main", "run", "scenarios"]
