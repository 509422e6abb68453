"""The `qumos` command."""

from . import audits, bundles, designs, hardware, scenarios, serving
from .app import app, main, run

__all__ = ["app", "audits", "bundles", "designs", "hardware", "main", "run", "scenarios", "serving"]
