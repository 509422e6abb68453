"""What an agent for all scenarios sees: the design so far and what the scenario is, padded to the maximal problem."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..design.gates import REGISTRY
from ..evaluation.evaluator import Evaluation
from ..scenario import Scenario
from .actions import DesignState
from .descriptors import FIGURES, QUBIT_FIGURES, Descriptors
from .observation import GATES_SEEN, PROVIDER_FIGURES, measured_figures, provider_figures
from .padding import PaddedTable, Padding

PHASES = ("cut", "assign", "gates", "measure", "done")
PROGRESS = ("gates", "cuts", "trainable", "shots", "steps", "dollars", "seconds")
SIZES = (
    "qubits",
    "parts",
    "part_qubits",
    "providers",
    "gates",
    "cuts",
    "single_gates",
    "blocks",
    "draws",
    "train_rows",
    "tuning_rows",
    "model_steps",
    "learning_rate",
    "head_scaled",
    "head_linear",
    "half_split",
)
ENCODING = ("angle", "basis", "amplitude", "rx", "ry", "rz", "angle_range")
THREAT = (
    "rational",
    "stacked",
    "as-is",
    "frozen-head",
    "fine-tune",
    "guessed-rest",
    "thief_rows",
    "steps",
    "coalition",
    "lira",
    "queries",
    "synthetic",
    "labels",
    "noise",
)
WEIGHTS = ("accuracy", "theft", "membership", "extraction", "resilience", "cost", "others", "cost_in_dollars", "cost_in_seconds")
_MOST_CUTS = 3
_LARGEST_LADDER = 9.0  # log10 of the shots that count as 1


class ContextEncoder:
    """Turns states of any scenario within the padding into named arrays of the same shapes, float32 in [0, 1].

    Args:
        table: the padded actions.
    """

    def __init__(self, table: PaddedTable) -> None:
        self.table = table
        size = table.padding
        self.shapes: dict[str, tuple[int, ...]] = {
            "phase": (len(PHASES),),
            "partition": (size.qubits, size.parts),
            "assignment": (size.parts, size.providers),
            "progress": (len(PROGRESS),),
            "counts": (len(REGISTRY), size.qubits),
            "last_action": (len(table),),
            "measured": (5,),
            "sizes": (len(SIZES),),
            "ladder": (size.shots,),
            "gates": (len(REGISTRY),),
            "encoding": (len(ENCODING),),
            "threat": (len(THREAT),),
            "weights": (len(WEIGHTS),),
            "providers": (size.providers, PROVIDER_FIGURES + 1),
            "data": (len(FIGURES),),
            "qubits": (size.qubits, len(QUBIT_FIGURES) + 1),
            "pairs": (size.qubits, size.qubits),
            "triples": (size.qubits, size.qubits),
            "correlations": (size.qubits, size.qubits),
        }

    def context(self, scenario: Scenario, descriptors: Descriptors) -> dict[str, np.ndarray]:
        """The entries that stay the same throughout an episode; what is padded is 0."""
        found: dict[str, Sequence[float] | Sequence[Sequence[float]] | np.ndarray] = {
            "sizes": _sizes(scenario, self.table.padding),
            "ladder": [np.log10(shots) / _LARGEST_LADDER for shots in scenario.design.shots],
            "gates": [float(name in scenario.design.gates) for name in REGISTRY],
            "encoding": _encoding(scenario),
            "threat": _threat(scenario),
            "weights": _weights(scenario),
            "providers": [[1.0, *provider_figures(provider)] for provider in scenario.providers],
            "data": descriptors.figures,
            "qubits": np.column_stack([np.ones(len(descriptors.qubits)), descriptors.qubits]),
            "pairs": descriptors.pairs,
            "triples": descriptors.triples,
            "correlations": descriptors.correlations,
        }
        return {name: _padded(values, self.shapes[name]) for name, values in found.items()}

    def encode(self, state: DesignState, number: int | None, steps: int, evaluation: Evaluation | None = None) -> dict[str, np.ndarray]:
        """The entries that change with every step.

        Args:
            state: the design in the making.
            number: padded number of the last effective action, if there was one.
            steps: how many steps were taken.
            evaluation: what was measured of the finished design.
        """
        found = {name: np.zeros(self.shapes[name], np.float32) for name in ("phase", "partition", "assignment", "counts", "last_action")}
        found["phase"][PHASES.index(state.phase)] = 1
        found["partition"][range(len(state.partition)), state.partition] = 1
        found["assignment"][range(len(state.assignment)), state.assignment] = 1
        if state.gates:
            np.minimum(state.counts / GATES_SEEN, 1.0, out=found["counts"][:, : state.counts.shape[1]], casting="same_kind")
        if number is not None:
            found["last_action"][number] = 1
        rules = state.scenario.design
        dollars, seconds = _spent(state)
        found["progress"] = np.array(
            [
                len(state.gates) / rules.max_gates,
                state.cuts / max(1, rules.max_gate_cuts),
                state.trainable,
                state.shots is not None,
                min(1.0, steps / state.table.step_limit),
                min(1.0, dollars),
                min(1.0, seconds),
            ],
            np.float32,
        )
        found["measured"] = measured_figures(evaluation, state.scenario.draws.count)
        return found


def _spent(state: DesignState) -> tuple[float, float]:
    limits = state.scenario.cost_limits
    return limits.spent_at_least(state.design()) if limits.is_set and state.phase not in ("cut", "assign") else (0.0, 0.0)


def _padded(values: Sequence[float] | Sequence[Sequence[float]] | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    found = np.zeros(shape, np.float32)
    given = np.asarray(values, np.float32)
    if given.size:
        found[tuple(slice(size) for size in given.shape)] = given
    return found


def _half(value: float, half: float) -> float:
    return value / (value + half)


def _sizes(scenario: Scenario, most: Padding) -> list[float]:
    rules, draws, model = scenario.design, scenario.draws, scenario.model
    return [
        rules.qubits / most.qubits,
        rules.max_parts / most.parts,
        min(1.0, rules.max_part_qubits / most.qubits),
        len(scenario.providers) / most.providers,
        _half(rules.max_gates, 50),
        rules.max_gate_cuts / _MOST_CUTS,
        rules.vocabulary != "blocks",
        rules.vocabulary != "gates",
        _half(draws.count, 8),
        _half(draws.train_rows, 100),
        _half(draws.tuning_rows, 50),
        _half(model.steps, 100),
        _half(model.learning_rate, 0.1),
        model.head == "scaled",
        model.head == "linear",
        draws.half_split,
    ]


def _encoding(scenario: Scenario) -> list[float]:
    data = scenario.data
    low, high = data.angle_range
    names = [float(name in (data.encoding, data.axis)) for name in ENCODING[:-1]]
    return [*names, min(1.0, (high - low) / (2 * np.pi))]


def _threat(scenario: Scenario) -> list[float]:
    threat = scenario.threat
    return [
        threat.thief == "rational",
        *(tier in threat.tiers for tier in ("stacked", "as-is", "frozen-head", "fine-tune", "guessed-rest")),
        _half(scenario.draws.thief_rows_per_class, 5),
        _half(threat.steps, 100),
        threat.coalition / len(scenario.providers),
        threat.membership == "lira",
        _half(scenario.queries, 50),
        threat.query_rows == "synthetic",
        threat.answers == "labels",
        scenario.service.noise,
    ]


def _weights(scenario: Scenario) -> list[float]:
    reward = scenario.reward
    return [
        *(reward.weight(name) for name in WEIGHTS[:6]),
        min(1.0, sum(reward.others.values())),
        reward.cost_unit == "dollars",
        reward.cost_unit == "seconds",
    ]
