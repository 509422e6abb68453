"""Registers one Gymnasium id per built-in scenario."""

from __future__ import annotations

import gymnasium as gym

from .library import list_scenarios


def env_id(scenario: str) -> str:
    """The id of a built-in scenario: ``digits-theft`` is ``qumos/DigitsTheft-v0``."""
    return f"qumos/{''.join(word.capitalize() for word in scenario.split('-'))}-v0"


def register_all() -> None:
    """Registers every built-in scenario; harmless when repeated. The environment owns its step limit."""
    for scenario in list_scenarios():
        if env_id(scenario) not in gym.registry:
            gym.register(id=env_id(scenario), entry_point="qumos_env.env:DesignEnv", kwargs={"scenario": scenario})
