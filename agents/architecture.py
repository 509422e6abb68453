"""Centralised architecture search: the QuMoS baseline, which looks for accuracy alone.

Regularised evolution searches the circuit of one part at one provider with the weight of security at zero, as in the first stage of QuMoS
(Wang et al., *QuMoS: A framework for preserving security of quantum machine learning model*, 2023). Trials, and the rewards in them, are of
that problem: accuracy above chance. What the designs are worth in the scenario itself, where whoever breaks into the provider holds all of
the model, the race and the scoring after the search say; a design that breaks the limits of the scenario, as one part often does, is scored
as a reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from qumos_env.errors import QumosError
from qumos_env.scenario import Scenario, parse_scenario

from . import evolution
from .ask_tell import run_ask_tell
from .baselines import starting_points
from .protocol import SearchSummary, SearchTask, Trial
from .settings import parse_settings

AGENT = "architecture"


class Settings(evolution.Settings):
    """Settings of the architecture search: those of evolution.

    Attributes:
        share_gates: of no account: with one part at one provider there is nothing but gates (and shots) to edit.
    """


def centralised(scenario: Scenario) -> Scenario:
    """The problem of accuracy alone, with one part at one provider, over the rows of ``scenario``.

    Raises:
        QumosError: no provider's device holds the whole register.
    """
    qubits = scenario.design.qubits
    host = max(scenario.providers, key=lambda provider: provider.max_qubits)
    if host.max_qubits < qubits and host.device is not None:
        raise QumosError(
            f"scenario {scenario.name}: no provider holds all {qubits} qubits, so there is no centralised architecture to search"
        )
    data = scenario.model_dump(mode="json")
    data["providers"] = [host.model_dump(mode="json") | {"max_qubits": max(qubits, host.max_qubits)}]
    data["design"] |= {"max_parts": 1, "max_part_qubits": qubits, "max_gate_cuts": 0}
    data["threat"] |= {"coalition": 1}
    data["service"] |= {"noise": scenario.service.noise and host.name in scenario.provider_noise}
    data["reward"] |= {"accuracy": 1.0, "theft": 0.0, "membership": 0.0, "extraction": 0.0, "resilience": 0.0, "cost": 0.0, "others": {}}
    data["budget"] = {}
    data["calibration"] = {}
    return parse_scenario(data)


def search(
    task: SearchTask,
    *,
    on_trial: Callable[[Trial], None],
    should_stop: Callable[[], bool],
    on_stage: Callable[[str], None],
) -> SearchSummary:
    """Architecture search; see ``protocol.Search``."""
    settings = parse_settings(Settings, task.settings, AGENT)
    central = centralised(task.scenario)
    within = replace(task, scenario=central, starts=starting_points(central) if task.starts else ())
    searcher = evolution.EvolutionSearcher(central, settings, task.seed, starts=len(within.starts))
    return run_ask_tell(within, searcher, on_trial=on_trial, should_stop=should_stop, on_stage=on_stage, lag=settings.lag)
