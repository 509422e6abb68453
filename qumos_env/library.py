"""Where the built-in scenarios lie. Apart from ``scenario.py``, so that registering environments loads no simulator."""

from __future__ import annotations

from pathlib import Path


def scenario_folder() -> Path:
    """The folder of the built-in scenarios: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "scenarios"
    return installed if installed.is_dir() else package.parent / "scenarios"


def list_scenarios() -> tuple[str, ...]:
    """Names of the built-in scenarios, sorted."""
    return tuple(sorted(path.stem for path in scenario_folder().glob("*.toml")))
