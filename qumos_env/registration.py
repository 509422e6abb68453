"""The scenario library, one Gymnasium id per scenario of it, those over many scenarios, and those that answer from a table.

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
TABLE_SUFFIX = "-table"
"""Behind the name of a scenario: the same problem, answered from the table of its designs."""


def scenario_folder() -> Path:
    """The folder of the built-in scenarios: inside the installed package, or beside it in a checkout."""
    return _folder("scenarios")


def table_folder() -> Path:
    """The folder of the built-in tables, likewise."""
    return _folder("tables")


def _folder(name: str) -> Path:
    package = Path(__file__).resolve().parent
    installed = package / name
    return installed if installed.is_dir() else package.parent / name


def list_scenarios() -> tuple[str, ...]:
    """Names of the built-in scenarios, sorted."""
    return tuple(sorted(path.stem for path in scenario_folder().glob("*.toml")))


def list_tables() -> tuple[str, ...]:
    """Names of the scenarios that answer from the built-in tables, sorted: ``waves-tiny-table`` for that of waves-tiny."""
    return tuple(sorted(path.parent.name + TABLE_SUFFIX for path in table_folder().glob("*/manifest.json")))


def env_id(scenario: str) -> str:
    """The id of a built-in scenario: ``digits-theft`` in its first version is ``qumos/DigitsTheft-v0``."""
    with open(scenario_folder() / f"{scenario}.toml", "rb") as file:
        version = tomllib.load(file).get("version", 0)
    return _id(scenario, version)


def _id(scenario: str, version: int) -> str:
    return f"qumos/{''.join(word.capitalize() for word in scenario.split('-'))}-v{version}"


def register_all() -> None:
    """Registers every built-in scenario and what spans many; harmless when repeated. The environments own their step limits."""
    for scenario in list_scenarios():
        if (identifier := env_id(scenario)) not in gym.registry:
            gym.register(id=identifier, entry_point="qumos_env.env.design_env:DesignEnv", kwargs={"scenario": scenario})
    for table in list_tables():
        if (identifier := _id(table, 0)) not in gym.registry:
            gym.register(id=identifier, entry_point="qumos_env.env.table_env:TableEnv", kwargs={"scenario": table})
    for name, entry_point in CONTEXT_IDS.items():
        if name not in gym.registry:
            gym.register(id=name, entry_point=entry_point)
