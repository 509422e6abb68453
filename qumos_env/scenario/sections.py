"""The sections of a scenario: what may be written in its TOML file."""

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
    model_serializer,
    model_validator,
)

from ..design.encodings import FULL_RANGE, axis_called, encoding_called
from ..design.gates import REGISTRY

LEAST_LIRA_DRAWS = 16
"""Draws that can serve each other as shadow models."""
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """What all sections have in common: immutable, and nothing unknown in them."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSection(Section):
    """Where rows come from and how they reach the qubits.

    Attributes:
        source: a data set of ``qumos_env.data`` or the path of a CSV, Parquet or NPZ file.
        classes: the labels to keep, in this order; empty keeps all.
        parameters: numbers passed to a generated data set.
        reducer: how features are reduced to the width of the encoding.
        scaler: how reduced features are brought to ``angle_range``.
        angle_range: angles in radians that a feature is mapped to.
        encoding: ``angle`` puts feature ``i`` on qubit ``i``; ``basis`` too, but as a bit: angle 0 or pi, whichever is nearer; or another
            of ``qumos_env.design.encodings``.
        axis: rotation axis of the encoding: ``rx``, ``ry``, ``rz``.
        test_fraction: share of rows fixed as test split, used for reports only.
        split_seed: seed of that split.
    """

    source: str
    classes: tuple[str | int, ...] = ()
    parameters: dict[str, float | int] = {}
    reducer: Literal["pca", "lda", "none"] = "pca"
    scaler: Literal["min-max", "max-abs"] = "min-max"
    angle_range: tuple[FiniteFloat, FiniteFloat] = FULL_RANGE
    encoding: Annotated[str, AfterValidator(lambda name: encoding_called(name).name)] = "angle"
    axis: Annotated[str, AfterValidator(lambda name: axis_called(name).name)] = "ry"
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    split_seed: Count = 0

    @model_validator(mode="after")
    def _angles_fit(self) -> DataSection:
        axis, encoding = axis_called(self.axis), encoding_called(self.encoding)
        if encoding.axes is not None and axis.name not in encoding.axes:
            raise ValueError(f"encoding {encoding.name} needs axis {' or '.join(encoding.axes)}: {encoding.reason}")
        if encoding.fixed_range not in (None, self.angle_range):
            raise ValueError(f"encoding {encoding.name} has an angle range of its own, so angle_range must be left out")
        return self


class DrawSection(Section):
    """The K common redraws of the rows outside the test split.

    Attributes:
        count: K.
        train_rows: rows that train the model, per draw.
        thief_rows_per_class: labelled rows the thief owns, per draw.
        tuning_rows: rows on which the strongest thief is chosen, per draw; disjoint from the scored rows.
        half_split: draw the train rows from a fixed pool of ``2 * train_rows`` so that every row of it is a member in
            exactly half of the draws (membership scenarios; ``count`` must be even).
    """

    count: Positive = 4
    train_rows: Positive = 100
    thief_rows_per_class: Positive = 3
    tuning_rows: Positive = 40
    half_split: bool = False


class DesignSection(Section):
    """Limits of a design and the vocabulary of actions.

    Attributes:
        qubits: width of the register, one feature a qubit.
        max_parts, max_part_qubits: limits of the partition.
        max_gates: gate budget.
        max_gate_cuts: how many rzz may span two parts, at most 3: a part that c cuts touch runs 5**c circuits.
        gates: the gates that may be placed.
        vocabulary: single gates, whole-part blocks, or both.
        shots: ladder of repetitions; empty scores exact expectation values.
        max_steps: step limit of an episode; 0 derives it from the other limits.
    """

    qubits: Annotated[int, Field(ge=1, le=20)] = 8
    max_parts: Positive = 2
    max_part_qubits: Positive = 5
    max_gates: Positive = 56
    max_gate_cuts: Annotated[int, Field(ge=0, le=3)] = 0
    gates: tuple[str, ...] = tuple(REGISTRY)
    vocabulary: Literal["gates", "blocks", "both"] = "blocks"
    shots: tuple[Positive, ...] = ()
    max_steps: Count = 0


class ModelSection(Section):
    """The owner's model and its training.

    Attributes:
        head: how ⟨Z⟩ of all qubits become class logits, see ``qumos_env.model.heads``.
        steps: full-batch Adam steps.
        learning_rate: of Adam, for angles (radians) and head alike.
    """

    head: Literal["scaled", "linear", "fixed"] = "scaled"
    steps: Positive = 80
    learning_rate: Annotated[FiniteFloat, Field(gt=0)] = 0.1


class ThreatSection(Section):
    """The adversary of the reward.

    Attributes:
        thief: ``loot`` rebuilds the model from its part; ``rational`` keeps the no-loot control where that is better.
        tiers: the ways in which the thief uses its part, see ``qumos_env.evaluation.theft``.
        steps: training steps of a thief, and of a clone.
        coalition: how many providers the thief has broken into.
        membership: how membership is inferred: by a threshold on the loss, or by LiRA with the other draws as shadow models, which costs
            nothing more but needs ``draws.half_split`` and at least 16 draws.
    """

    thief: Literal["loot", "rational"] = "loot"
    tiers: Annotated[tuple[Literal["as-is", "frozen-head", "fine-tune", "guessed-rest"], ...], Field(min_length=1)] = (
        "frozen-head",
        "fine-tune",
        "guessed-rest",
    )
    steps: Positive = 80
    coalition: Positive = 1
    membership: Literal["loss", "lira"] = "loss"


class ServiceSection(Section):
    """How the service is scored, beside the shots that a design may choose.

    Attributes:
        noise: answer with the noise of the providers' hardware, as exact density matrices; training stays exact.
    """

    noise: bool = False


class BudgetSection(Section):
    """What running a design may cost at most, by the profiles of the providers' devices. Over budget, actions are masked.

    Attributes:
        rows: rows that are answered in one batch; costs are those of this batch.
        shots: per circuit, where the design chooses none.
        dollars, seconds: limits, seconds as the mean with the queues; ``None`` sets none.
    """

    rows: Positive = 100
    shots: Positive = 1000
    dollars: Annotated[FiniteFloat, Field(gt=0)] | None = None
    seconds: Annotated[FiniteFloat, Field(gt=0)] | None = None

    @property
    def is_set(self) -> bool:
        """Whether there is a limit."""
        return self.dollars is not None or self.seconds is not None


_TERMS = ("accuracy", "theft", "membership", "cost", "extraction", "resilience")


class RewardSection(Section):
    """The blend of the reward: weights of accuracy, of resistance to theft by a provider, privacy of membership, resistance to extraction
    by a customer and resilience to the outage of a provider, and the price of cost.

    The weights but that of cost sum to 1; what has no weight is not measured, theft and membership excepted. ``cost_budget`` is the
    cost that counts as 1, in ``cost_unit``: gates, or the dollars or seconds of answering the rows of ``[budget]`` on the providers'
    devices. ``others`` are weights of terms that were registered beside those of the package.
    """

    blend: str = "default"
    accuracy: Share = 0.5
    theft: Share = 0.5
    membership: Share = 0.0
    extraction: Share = 0.0
    resilience: Share = 0.0
    cost: Share = 0.0
    cost_budget: Annotated[FiniteFloat, Field(gt=0)] = 100.0
    cost_unit: Literal["gates", "dollars", "seconds"] = "gates"
    others: dict[str, Share] = Field(default={})

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
