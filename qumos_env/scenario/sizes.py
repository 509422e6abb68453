"""What in a scenario is too large only together, though every number is within its own bound."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import shown
from .providers import Provider
from .sections import LEAST_QUERIES, BudgetSection, DesignSection, DrawSection, ModelSection, ServiceSection, ThreatSection

MOST_NOISY_QUBITS = 10
"""Of circuits that providers' noise is simulated in: a density matrix has 4**qubits entries."""
_MOST_PASSES = 10**10  # rows that training sees, over all draws and steps: about a day
_MOST_AMPLITUDES = 2**32  # of the training rows of all draws, if one part held the register: 32 GiB
_MOST_ANSWERED = 4 * 10**6  # draws × queries²: matrices between queries, of which a customer inverts 75, take 2.4 GB
_USUAL_QUERIES = 100
_MOST_COALITIONS = 10_000  # a thief each
_MOST_OPENINGS = 1000  # choices of providers for the parts; where there is a budget each is priced, which takes milliseconds


def check_training(draws: DrawSection, model: ModelSection, threat: ThreatSection) -> None:
    """Raises ValueError where training a model, or a thief's, on all draws would not end."""
    for steps, field, rows, rows_field in (
        (model.steps, "model.steps", draws.train_rows, "draws.train_rows"),
        (threat.steps, "threat.steps", draws.thief_rows_per_class, "draws.thief_rows_per_class"),
    ):
        if draws.count * rows * steps > _MOST_PASSES:
            product = f"{draws.count:,} × {rows:,} × {steps:,}"
            raise ValueError(f"draws.count × {rows_field} × {field} is {product}, at most {_MOST_PASSES:,} can be trained on")


def queries_of(draws: DrawSection, threat: ThreatSection) -> int:
    """How many queries a customer sends: as many as the scenario says, or half of the tuning rows, at most 100."""
    return threat.queries or min(draws.tuning_rows // 2, _USUAL_QUERIES)


def check_queries(draws: DrawSection, threat: ThreatSection, extraction: float) -> None:
    """Raises ValueError where there are fewer rows than queries, or more queries than can be learned from.

    Args:
        draws, threat: of the scenario.
        extraction: the weight of extraction; without any, nobody asks unless ``threat.queries`` says so.
    """
    queries = queries_of(draws, threat)
    if not (threat.queries or extraction):
        return
    if threat.query_rows == "real" and queries >= draws.tuning_rows:
        raise ValueError(
            f"threat.queries is {queries}, draws.tuning_rows {draws.tuning_rows}: real queries are tuning rows, and one at least "
            f"must be left to choose the clone; at most {draws.tuning_rows - 1} are possible, or query_rows = 'synthetic'"
        )
    if queries < LEAST_QUERIES:
        raise ValueError(f"draws.tuning_rows is {draws.tuning_rows}: half of them are queries, at least {LEAST_QUERIES} are needed")
    if draws.count * queries**2 > _MOST_ANSWERED:
        most = math.isqrt(_MOST_ANSWERED // draws.count)
        raise ValueError(f"threat.queries is {queries:,}: with {draws.count:,} draws at most {most:,} can be learned from")


def check_states(draws: DrawSection, design: DesignSection) -> None:
    """Raises ValueError where no memory could hold the states of the training rows."""
    amplitudes = draws.count * draws.train_rows * 2**design.qubits
    if amplitudes > _MOST_AMPLITUDES:
        product = f"{draws.count:,} × {draws.train_rows:,} × 2**{design.qubits}"
        raise ValueError(
            f"draws.count × draws.train_rows × 2**design.qubits is {product} amplitudes, which take "
            f"{amplitudes / 2**27:,.0f} GiB, at most {_MOST_AMPLITUDES / 2**27:,.0f} GiB are possible"
        )


def check_choices(providers: Sequence[Provider], design: DesignSection, threat: ThreatSection, budget: BudgetSection) -> None:
    """Raises ValueError where there are too many coalitions of thieves to train, or too many choices of providers to price."""
    coalitions = math.comb(len(providers), threat.coalition)
    if coalitions > _MOST_COALITIONS:
        raise ValueError(
            f"threat.coalition {threat.coalition} of {len(providers)} providers gives {shown(coalitions)} thieves, "
            f"at most {_MOST_COALITIONS:,} are possible"
        )
    parts = min(design.max_parts, design.qubits)
    openings = math.comb(len(providers) + parts, parts)
    if budget.is_set and openings > _MOST_OPENINGS:
        raise ValueError(
            f"budget: {parts} parts at {len(providers)} providers are {shown(openings)} choices to price, "
            f"at most {_MOST_OPENINGS:,} are possible; lower design.max_parts"
        )


def check_noise(providers: Sequence[Provider], design: DesignSection, service: ServiceSection) -> None:
    """Raises ValueError where the service would be scored with noise on circuits that are too wide for it."""
    widest = min(max(provider.max_qubits for provider in providers), design.max_part_qubits, design.qubits)
    # Parts that a gate cut joins are simulated as one circuit.
    simulated = design.qubits if design.max_gate_cuts else widest
    if service.noise and simulated > MOST_NOISY_QUBITS:
        lower = "set design.max_gate_cuts to 0" if widest <= MOST_NOISY_QUBITS else "lower design.max_part_qubits"
        raise ValueError(
            f"service.noise: circuits of up to {simulated} qubits would be simulated, at most {MOST_NOISY_QUBITS} are possible; {lower}"
        )
