"""Scenarios: everything that defines one distributed-design problem, as validated, immutable TOML.

A scenario names its data and encoding, the providers, the limits of a design, the training of a model, the adversary and
the blend of the reward. ``load_scenario`` takes the name of a scenario of the library or the path of a TOML file.
"""

from .scenario import Scenario, list_scenarios, load_scenario, looked_up, parse_scenario, scenario_folder, write_calibration

__all__ = ["Scenario", "list_scenarios", "load_scenario", "looked_up", "parse_scenario", "scenario_folder", "write_calibration"]
