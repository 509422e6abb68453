"""Whole draws of a search evaluation per second."""

from __future__ import annotations

import time

from qumos_env.design.ansatz import interleaved, ry_cz_ry
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.scenario import load_scenario

from .registry import Outcome, Row, Target, case

SCENARIO = "digits-theft"
LAYERS = 2
DRAWS = Target(at_least=8)


@case(
    "evaluation",
    f"search evaluation of a design with two interleaved parts of 4 qubits (RY, then {LAYERS} times CZ ring and RY) in the scenario"
    f" {SCENARIO}: a draw trains the model and attacks it by every tier at both providers. Data and controls are prepared before.",
)
def run(repeats: int) -> Outcome:
    """Times ``Evaluator.evaluate`` without its cache; draws per second of processor time are draws per second and core."""
    scenario = load_scenario(SCENARIO)
    design = ry_cz_ry(interleaved(scenario.design.qubits, 2), scenario.provider_names[:2], LAYERS)
    prepared = Evaluator(scenario)
    draws = prepared.evaluate(design).draws
    by_core, by_clock = [], []
    for _ in range(repeats):
        fresh = Evaluator(scenario)  # an empty cache
        fresh.workload = prepared.workload
        clock, core = time.perf_counter(), time.process_time()
        fresh.evaluate(design)
        by_core.append(draws / (time.process_time() - core))
        by_clock.append(draws / (time.perf_counter() - clock))
    rows = [
        Row("draws per second of processor time", "1/s", by_core, DRAWS),
        Row("draws per second by the clock", "1/s", by_clock),
    ]
    shape = f"{draws} draws of {scenario.draws.train_rows} train rows, {scenario.model.steps} training steps"
    return Outcome(rows, [f"{shape}, thief tiers {', '.join(scenario.threat.tiers)}. On a busy machine the clock says less."])
