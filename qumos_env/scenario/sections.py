"""The sections of a scenario: what may be written in its TOML file.

Every number, name and list has a bound, some hundred to some thousand times what anyone needs, so that a slip of the finger is an error
when the file is read and not an hour later when memory runs out. What is only too large together is checked in ``sizes``.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from ..design.design import MOST_GATES
from ..design.encodings import FULL_RANGE, axis_called, encoding_called
from ..design.gates import REGISTRY
from ..errors import shown

LEAST_LIRA_DRAWS = 16
"""Draws that can serve each other as shadow models."""
MOST_QUBITS = 20
"""Of a register: a simulator holds all amplitudes of a part."""
MOST_PARTS = 100
"""Of a design, and of a provider: a register of 20 qubits has 20 at most."""
MOST_WIDTH = 10_000
"""Qubits of a provider or of its device; the largest devices have some thousand."""
MOST_CLASSES = 1000
"""Of a data set."""
MOST_LABEL = 100
"""Characters of the name of a class."""
MOST_ROWS = 1_000_000
"""Of a generated data set, and of a role of a draw."""
MOST_CELLS = 20_000_000
"""Rows × columns of a generated data set: 160 MB."""
MOST_SHOTS = 10**9
"""Of a circuit: what a device runs in a day."""
LEAST_QUERIES = 2
"""Of a customer: preprocessing is fitted on two rows or more."""
MOST_QUERIES = 10_000
"""Of a customer; a matrix between all of them is inverted."""
MOST_AMOUNT = 1e12
"""Dollars, seconds or units of cost."""

Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Share = Annotated[float, Field(ge=0, le=1)]
Rows = Annotated[int, Field(ge=1, le=MOST_ROWS)]
Steps = Annotated[int, Field(ge=1, le=100_000)]
Shots = Annotated[int, Field(ge=1, le=MOST_SHOTS)]
Angle = Annotated[FiniteFloat, Field(ge=-10_000, le=10_000)]
Limit = Annotated[FiniteFloat, Field(gt=0, le=MOST_AMOUNT)]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=100)]
PathOrName = Annotated[str, Field(max_length=4096)]
GateNames = Annotated[tuple[Annotated[str, Field(max_length=100)], ...], Field(max_length=100)]

_MOST_PARAMETER: dict[str, float] = {
    "rows": MOST_ROWS,
    "seed": 2**63 - 1,
    "features": 10_000,
    "relevant": 10_000,
    "degree": 1000,
    "manifold": 1000,
    "planes": 1000,
    "dimensions": 1000,
}
"""Largest size of a parameter of a data set; of those not named here it is ``_MOST_OTHER``."""
_MOST_OTHER = 1e6
_DEFAULT_ROWS = 1000  # of a generated data set


def _bounded_label(label: str | int) -> str | int:
    if isinstance(label, str) and len(label) > MOST_LABEL:
        raise ValueError(f"a label has at most {MOST_LABEL} characters, got {shown(label)}")
    if isinstance(label, int) and abs(label) >= 2**63:
        raise ValueError(f"a label must be below 2**63, got {shown(label)}")
    return label


def _bounded_parameters(parameters: dict[str, float | int]) -> dict[str, float | int]:
    for name, value in parameters.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{shown(name)} must be finite, got {value}")
        most = _MOST_PARAMETER.get(name, _MOST_OTHER)
        if abs(value) > most:
            raise ValueError(f"{shown(name)} must be at most {most:,.0f}, got {shown(value)}")
    rows = parameters.get("rows", _DEFAULT_ROWS)
    widths = {name: parameters[name] for name in ("features", "degree", "manifold", "planes", "dimensions") if name in parameters}
    for name, width in widths.items():
        if rows * width > MOST_CELLS:
            raise ValueError(f"rows × {name} must be at most {MOST_CELLS:,}, got {shown(rows)} × {shown(width)}")
    return parameters


class Section(BaseModel):
    """What all sections have in common: immutable, and nothing unknown in them."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSection(Section):
    """Where rows come from and how they reach the qubits.

    Attributes:
        source: a data set of ``qumos_env.data`` or the path of a CSV, Parquet or NPZ file.
        classes: the labels to keep, in this order, at most 1,000; empty keeps all.
        parameters: numbers passed to a generated data set; rows up to 10⁶, features up to 10⁴, rows × features up to 2·10⁷.
        mixing: what is done to the raw features first: ``none``, a random ``permutation`` of the columns, or a random ``rotation``.
        mixing_seed: seed of it, below 2⁶³.
        reducer: how features are reduced to the width of the encoding.
        scaler: how reduced features are brought to ``angle_range``.
        angle_range: angles in radians that a feature is mapped to, from -10⁴ to 10⁴.
        encoding: ``angle`` puts feature ``i`` on qubit ``i``; ``basis`` too, but as a bit: angle 0 or pi, whichever is nearer; or another
            of ``qumos_env.design.encodings``.
        axis: rotation axis of the encoding: ``rx``, ``ry``, ``rz``.
        test_fraction: share of rows fixed as test split, used for reports only.
        split_seed: seed of that split, and of the label noise, below 2⁶³ as all seeds.
        label_noise: share of the rows outside the test split, up to ½, whose label is another class in the owner's records: what trains
            the model, and what an adversary knows of a row whose membership it tests. Scores are held against true labels.
    """

    source: PathOrName
    classes: Annotated[tuple[Annotated[str | int, AfterValidator(_bounded_label)], ...], Field(max_length=MOST_CLASSES)] = ()
    parameters: Annotated[dict[str, float | int], Field(max_length=100), AfterValidator(_bounded_parameters)] = {}
    mixing: Literal["none", "permutation", "rotation"] = "none"
    mixing_seed: Seed = 0
    reducer: Literal["pca", "lda", "none"] = "pca"
    scaler: Literal["min-max", "max-abs"] = "min-max"
    angle_range: tuple[Angle, Angle] = FULL_RANGE
    encoding: Annotated[str, AfterValidator(lambda name: encoding_called(name).name)] = "angle"
    axis: Annotated[str, AfterValidator(lambda name: axis_called(name).name)] = "ry"
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    split_seed: Seed = 0
    label_noise: Annotated[float, Field(ge=0, le=0.5)] = 0.0

    @model_validator(mode="after")
    def _angles_fit(self) -> DataSection:
        axis, encoding = axis_called(self.axis), encoding_called(self.encoding)
        if encoding.axes is not None and axis.name not in encoding.axes:
            raise ValueError(f"encoding {encoding.name} needs axis {' or '.join(encoding.axes)}: {encoding.reason}")
        if encoding.fixed_range not in (None, self.angle_range):
            raise ValueError(f"encoding {encoding.name} has an angle range of its own, so angle_range must be left out")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Scenarios without label noise or mixing hash as they did before there was any."""
        data: dict[str, Any] = dump(self)
        if not self.label_noise:
            data.pop("label_noise", None)
        if self.mixing == "none":
            data.pop("mixing", None)
            data.pop("mixing_seed", None)
        return data


class DrawSection(Section):
    """The K common redraws of the rows outside the test split.

    Attributes:
        count: K, at most 10,000.
        train_rows: rows that train the model, per draw, at most 10⁶.
        thief_rows_per_class: labelled rows the thief owns, per draw, at most 10⁶.
        tuning_rows: rows on which the strongest thief is chosen, per draw, at most 10⁶; disjoint from the scored rows.
        half_split: draw the train rows from a fixed pool of ``2 * train_rows`` so that every row of it is a member in
            exactly half of the draws (membership scenarios; ``count`` must be even).
    """

    count: Annotated[int, Field(ge=1, le=10_000)] = 4
    train_rows: Rows = 100
    thief_rows_per_class: Rows = 3
    tuning_rows: Rows = 40
    half_split: bool = False


class DesignSection(Section):
    """Limits of a design and the vocabulary of actions.

    Attributes:
        qubits: width of the register, one feature a qubit, at most 20.
        max_parts, max_part_qubits: limits of the partition, at most 100 and 10,000.
        max_gates: gate budget, at most 2,000.
        max_gate_cuts: how many rzz may span two parts, at most 3: a part that c cuts touch runs 5**c circuits.
        gates: the gates that may be placed.
        vocabulary: single gates, whole-part blocks, or both.
        shots: ladder of repetitions, at most 1,000 levels of at most 10⁹; empty scores exact expectation values.
        max_steps: step limit of an episode, at most 10⁶; 0 derives it from the other limits.
    """

    qubits: Annotated[int, Field(ge=1, le=MOST_QUBITS)] = 8
    max_parts: Annotated[int, Field(ge=1, le=MOST_PARTS)] = 2
    max_part_qubits: Annotated[int, Field(ge=1, le=MOST_WIDTH)] = 5
    max_gates: Annotated[int, Field(ge=1, le=MOST_GATES)] = 56
    max_gate_cuts: Annotated[int, Field(ge=0, le=3)] = 0
    gates: GateNames = tuple(REGISTRY)
    vocabulary: Literal["gates", "blocks", "both"] = "blocks"
    shots: Annotated[tuple[Shots, ...], Field(max_length=1000)] = ()
    max_steps: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class ModelSection(Section):
    """The owner's model and its training.

    Attributes:
        head: how ⟨Z⟩ of all qubits become class logits, see ``qumos_env.model.heads``.
        steps: full-batch Adam steps, at most 100,000.
        learning_rate: of Adam, for angles (radians) and head alike, from 10⁻⁹ to 1,000.
    """

    head: Literal["scaled", "linear", "fixed"] = "scaled"
    steps: Steps = 80
    learning_rate: Annotated[FiniteFloat, Field(ge=1e-9, le=1000)] = 0.1


class ThreatSection(Section):
    """The adversary of the reward.

    Attributes:
        thief: ``loot`` rebuilds the model from its part; ``rational`` keeps the no-loot control where that is better.
        tiers: the ways in which the thief uses its part, see ``qumos_env.evaluation.thief``.
        steps: training steps of a thief, and of a clone, at most 100,000.
        coalition: how many providers the thief has broken into.
        membership: how membership is inferred: by a threshold on the loss, or by LiRA with the other draws as shadow models, which costs
            nothing more but needs ``draws.half_split`` and at least 16 draws.
        queries: rows that a customer asks who clones the service, from 2 to 10,000; 0 derives it from ``draws.tuning_rows``.
        query_rows: ``real`` are tuning rows, the rest of which chooses the clone; ``synthetic`` ones it draws from a Gaussian fitted to as
            many rows as the thief has.
        answers: what the service tells those who ask it, customers and thieves: class probabilities, or the likeliest class alone.
    """

    thief: Literal["loot", "rational"] = "loot"
    tiers: Annotated[
        tuple[Literal["stacked", "as-is", "frozen-head", "fine-tune", "guessed-rest"], ...], Field(min_length=1, max_length=20)
    ] = ("stacked",)
    steps: Steps = 80
    coalition: Annotated[int, Field(ge=1, le=100)] = 1
    membership: Literal["loss", "lira"] = "loss"
    queries: Annotated[int, Field(ge=0, le=MOST_QUERIES)] = 0
    query_rows: Literal["real", "synthetic"] = "real"
    answers: Literal["probabilities", "labels"] = "probabilities"

    @field_validator("queries")
    @classmethod
    def _none_or_enough(cls, queries: int) -> int:
        if 0 < queries < LEAST_QUERIES:
            raise ValueError(f"{queries} is too few to fit any preprocessing on: at least {LEAST_QUERIES}, or 0 for as many as there are")
        return queries

    @model_serializer(mode="wrap")
    def _without_default_queries(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Scenarios that say nothing of queries hash as they did before there was anything to say."""
        data: dict[str, Any] = dump(self)
        for name in ("queries", "query_rows", "answers"):
            if getattr(self, name) == type(self).model_fields[name].default:
                data.pop(name, None)
        return data


class ServiceSection(Section):
    """How the service is scored, beside the shots that a design may choose.

    Attributes:
        noise: answer with the noise of the providers' hardware, as exact density matrices; training stays exact.
    """

    noise: bool = False


class BudgetSection(Section):
    """What running a design may cost at most, by the profiles of the providers' devices. Over budget, actions are masked.

    Attributes:
        rows: rows that are answered in one batch, at most 10⁹; costs are those of this batch.
        shots: per circuit, where the design chooses none, at most 10⁹.
        dollars, seconds: limits of at most 10¹², seconds as the mean with the queues; ``None`` sets none.
    """

    rows: Annotated[int, Field(ge=1, le=10**9)] = 100
    shots: Shots = 1000
    dollars: Limit | None = None
    seconds: Limit | None = None

    @property
    def is_set(self) -> bool:
        """Whether there is a limit."""
        return self.dollars is not None or self.seconds is not None


class TableSection(Section):
    """Where evaluations are looked up instead of made.

    Attributes:
        folder: of the table of all designs, absolute.
        answer: what a design is worth under an evaluation seed: ``seed``, what one of the table's seeds measured (the evaluation seed
            itself, or where the table lacks it the one that it falls on, counting round), or ``mean``, the mean over all of them.
    """

    folder: Annotated[str, Field(max_length=4096)]
    answer: Literal["seed", "mean"] = "seed"


_TERMS = ("accuracy", "theft", "membership", "cost", "extraction", "resilience")


class RewardSection(Section):
    """The blend of the reward: weights of accuracy, of resistance to theft by a provider, privacy of membership, resistance to extraction
    by a customer and resilience to the outage of a provider, and the price of cost.

    The weights but that of cost sum to 1; what has no weight is not measured, theft and membership excepted. ``cost_budget`` is the
    cost that counts as 1, from 10⁻⁹ to 10¹², in ``cost_unit``: gates, or the dollars or seconds of answering the rows of ``[budget]``
    on the providers' devices.
    ``others`` are weights of terms that were registered beside those of the package, at most 100.
    """

    blend: Annotated[str, Field(max_length=100)] = "default"
    accuracy: Share = 0.5
    theft: Share = 0.5
    membership: Share = 0.0
    extraction: Share = 0.0
    resilience: Share = 0.0
    cost: Share = 0.0
    cost_budget: Annotated[FiniteFloat, Field(ge=1e-9, le=MOST_AMOUNT)] = 100.0
    cost_unit: Literal["gates", "dollars", "seconds"] = "gates"
    others: dict[str, Share] = Field(default={}, max_length=100)

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the terms that have a weight here, be it 0."""
        return (*_TERMS, *self.others)

    def weight(self, term: str) -> float:
        """The weight of the term called ``term``; 0 where it has none."""
        return float(getattr(self, term)) if term in _TERMS else self.others.get(term, 0.0)

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> RewardSection:
        for name in self.others:
            if name in type(self).model_fields:
                raise ValueError(f"others.{name}: {name} is a field of the reward itself")
        total = sum(self.weight(name) for name in self.terms if name != "cost")
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            names = " + ".join(name for name in self.terms if name != "cost")
            raise ValueError(f"{names} must be 1, they sum to {total:g}")
        return self

    @model_serializer(mode="wrap")
    def _without_absent_terms(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Scenarios without them hash as they did before there were any."""
        data: dict[str, Any] = dump(self)
        if not self.others:
            data.pop("others", None)
        return data
