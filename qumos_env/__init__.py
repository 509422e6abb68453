"""QuMoS-Env: designing distributed quantum machine-learning models as a reinforcement-learning problem.

Importing the package registers its environments: ``gymnasium.make("qumos_env:qumos/WavesPairs-v0")``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .registration import register_all

if TYPE_CHECKING:
    from .design import Design
    from .env.context_env import ContextEnv
    from .env.design_env import DesignEnv
    from .evaluation.evaluator import Evaluation, Evaluator
    from .model.estimator import DistributedQNN
    from .scenario import Scenario, list_scenarios, load_scenario
    from .simulation.layer import QuantumLayer

__version__ = "0.1.0"
_EXPORTS = {
    "ContextEnv": "env.context_env",
    "Design": "design",
    "DesignEnv": "env.design_env",
    "DistributedQNN": "model.estimator",
    "Evaluation": "evaluation.evaluator",
    "Evaluator": "evaluation.evaluator",
    "QuantumLayer": "simulation.layer",
    "Scenario": "scenario",
    "list_scenarios": "scenario",
    "load_scenario": "scenario",
}
__all__ = [
    "ContextEnv",
    "Design",
    "DesignEnv",
    "DistributedQNN",
    "Evaluation",
    "Evaluator",
    "QuantumLayer",
    "Scenario",
    "list_scenarios",
    "load_scenario",
]

register_all()


def __getattr__(name: str) -> object:
    # Lazy, so that registering the environments does not load Cirq, qsim, torch and scikit-learn.
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
