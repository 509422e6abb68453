"""What a design costs to run on the devices of its providers."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..design import Design
from ..hardware.estimate import estimate_parts, inference_job, training_job
from ..scenario import Scenario
from ..scenario.providers import device_profiles
from .terms import Evidence, Observed, TermResult, term

GATE_CUT_OVERHEAD = 9  # shots per cut, the same for every cut angle


@dataclass(frozen=True)
class RunningCosts:
    """Estimates from the device profiles; seconds are means with the queues, dollars are US dollars.

    Attributes:
        native_one_qubit, native_two_qubit: native gates of all parts, each counted once.
        depth, circuit_seconds: of the gates of the longest part.
        error: probability that something goes wrong in one run of the worst part, 1 − the product of all fidelities.
        query_seconds, query_dollars: of answering the budget's rows.
        training_seconds, training_dollars: of training by parameter shift on the train rows, would it run on the devices.
    """

    native_one_qubit: int
    native_two_qubit: int
    depth: int
    circuit_seconds: float
    error: float
    query_seconds: float
    query_dollars: float
    training_seconds: float
    training_dollars: float

    def to_dict(self) -> dict[str, float]:
        """Flat JSON numbers."""
        return asdict(self)


def running_costs(design: Design, scenario: Scenario, *, quick: bool) -> RunningCosts | None:
    """The running costs of ``design``; ``None`` where one of its providers names no device.

    Args:
        design: within the scenario's limits.
        scenario: names devices, shots and rows.
        quick: count native gates instead of transpiling.
    """
    profiles = device_profiles(scenario.providers)
    if not set(design.assignment) <= profiles.keys():
        return None
    parts = estimate_parts(design, profiles, scenario.data.axis, quick=quick)
    shots = design.shots or scenario.budget.shots
    query = inference_job(parts, scenario.budget.rows, shots)
    training = training_job(parts, scenario.draws.train_rows, scenario.model.steps, shots)
    return RunningCosts(
        native_one_qubit=sum(part.counts.n_one_qubit for part in parts),
        native_two_qubit=sum(part.counts.n_two_qubit for part in parts),
        depth=max(part.counts.depth for part in parts),
        circuit_seconds=max(part.counts.seconds for part in parts),
        error=max(part.error for part in parts),
        query_seconds=query.mean_seconds,
        query_dollars=query.dollars,
        training_seconds=training.mean_seconds,
        training_dollars=training.dollars,
    )


def design_cost(design: Design, scenario: Scenario) -> float:
    """Qubits acted on by every gate, times the provider's price, 9-fold per gate cut; a scenario with shots charges per 1,000."""
    price = [scenario.provider(name).price for name in design.assignment]
    local = sum(price[design.partition[qubit]] for gate in design.gates for qubit in gate.qubits)
    return float(local * GATE_CUT_OVERHEAD ** len(design.cut_gates) * (1.0 if design.shots is None else design.shots / 1000))


@term("cost", always=True)
def cost(evidence: Evidence, _: Observed) -> TermResult:
    """Reports ``cost`` in the reward's unit, and ``running``: see ``RunningCosts``, empty where a provider names no device.

    Native gates are counted in a search and transpiled for the test rows.
    """
    scenario, design = evidence.scenario, evidence.design
    estimates = running_costs(design, scenario, quick=evidence.rows == "search")
    running = {} if estimates is None else estimates.to_dict()
    unit = scenario.reward.cost_unit
    spent = design_cost(design, scenario) if unit == "gates" else running[f"query_{unit}"]
    return TermResult({}, lambda *_: -spent / scenario.reward.cost_budget, {"cost": spent, "running": running})
