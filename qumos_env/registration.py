"""The scenario library, one Gymnasium id per scenario of it, and those over many scenarios.

Light: registering environments loads no simulator.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import gymnasium as gym

CONTEXT_IDS = {
    "qumos/Context-v0": "qumos_env.env.context_env:ContextEnv",
    "qumos/ContextFlat-v0": "qumos_env.env.context_env:flat_context_env",
}
"""Environments over many scenarios, with their entry points."""


def scenario_folder() -> Path:
    """The folder of the built-in scenarios: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "scenarios"
    return installed if installed.is_dir() else package.parent / "scenarios"


def list_scenarios() -> tuple[str, ...]:
    """Names of the built-in scenarios, sorted."""
    return tuple(sorted(path.stem for path in scenario_folder().glob("*.toml")))


def env_id(scenario: str) -> str:
    """The id of a built-in scenario: ``digits-theft`` in its first version is ``qumos/DigitsTheft-v0``."""
    with open(scenario_folder() / f"{scenario}.toml", "rb") as file:
        version = tomllib.load(file).get("version", 0)
    return f"qumos/{''.join(word.capitalize() for word in scenario.split('-'))}-v{version}"


def register_all() -> None:
    """Registers every built-in scenario and what spans many; harmless when repeated. The environments own their step limits."""
    for scenario in list_scenarios():
        if (identifier := env_id(scenario)) not in gym.registry:
            gym.register(id=identifier, entry_point="qumos_env.env.design_env:DesignEnv", kwargs={"scenario": scenario})
    for name, entry_point in CONTEXT_IDS.items():
        if name not in gym.registry:
            gym.register(id=name, entry_point=entry_point)
