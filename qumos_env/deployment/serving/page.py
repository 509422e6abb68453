"""The gateway's page: one HTML file without a build step and without anything from elsewhere.

It is the same for everybody and holds nothing of the model; what it shows it asks for with the key that is typed into it, which is kept
for the tab alone.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def page() -> str:
    """The page."""
    return (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
