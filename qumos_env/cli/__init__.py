"""The `qumos` command."""

from . import audits, bundles, claims, designs, hardware, scenarios, serving
from .app import app, main, run

__all__ = ["app", "audits", "bundles", "claims", "designs", "hardware", "main", "run", "scenarios", "serving"]
