"""The `qumos` command."""

from . import audits, designs, scenarios
from .app import app, main, run

__all__ = ["app", "audits", "designs", "main", "run", "scenarios"]
