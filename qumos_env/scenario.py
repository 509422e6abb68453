"""Scenarios: everything that defines one distributed-design problem, as validated, immutable TOML.

A scenario names its data and encoding, the providers, the limits of a design, the training of a model, the adversary and
the blend of the reward. ``load_scenario`` takes the name of a scenario of the library or the path of a TOML file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from .design import Design
from .errors import QumosError, one_line, unknown
from .files import read_toml, write_text
from .gates import REGISTRY
from .library import list_scenarios, scenario_folder
from .providers import Provider, noise_spec
from .simulation.channels import NoiseSpec

SCHEMA_VERSION = 1
_TABLE_SUFFIXES = (".csv", ".parquet", ".npz")
MIN_ADVANTAGE = 2.0
"""Standard errors by which a model must beat the no-loot control to be worth stealing."""
LEAST_LIRA_DRAWS = 16
"""Draws that can serve each other as shadow models."""
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSection(_Section):
    """Where rows come from and how they reach the qubits.

    Attributes:
        source: a data set of ``qumos_env.data`` or the path of a CSV, Parquet or NPZ file.
        classes: the labels to keep, in this order; empty keeps all.
        parameters: numbers passed to a generated data set.
        reducer: how features are reduced to the width of the encoding.
        scaler: how reduced features are brought to ``angle_range``.
        angle_range: angles in radians that a feature is mapped to.
        encoding: ``angle`` puts feature ``i`` on qubit ``i``; ``basis`` too, but as a bit: angle 0 or pi, whichever is nearer.
        axis: rotation axis of the angle encoding.
        test_fraction: share of rows fixed as test split, used for reports only.
        split_seed: seed of that split.
    """

    source: str
    classes: tuple[str | int, ...] = ()
    parameters: dict[str, float | int] = {}
    reducer: Literal["pca", "lda", "none"] = "pca"
    scaler: Literal["min-max", "max-abs"] = "min-max"
    angle_range: tuple[FiniteFloat, FiniteFloat] = (0.0, math.pi)
    encoding: Literal["angle", "basis"] = "angle"
    axis: Literal["rx", "ry", "rz"] = "ry"
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    split_seed: Count = 0

    @model_validator(mode="after")
    def _bits_fit(self) -> DataSection:
        if self.encoding == "basis" and self.axis == "rz":
            raise ValueError("encoding basis needs axis rx or ry: about rz a bit would not set a basis state")
        if self.encoding == "basis" and self.angle_range != (0.0, math.pi):
            raise ValueError("encoding basis has the angles 0 and pi, so angle_range must be left out")
        return self


class DrawSection(_Section):
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


class DesignSection(_Section):
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


class ModelSection(_Section):
    """The owner's model and its training.

    Attributes:
        head: how ⟨Z⟩ of all qubits become class logits, see ``qumos_env.heads``.
        steps: full-batch Adam steps.
        learning_rate: of Adam, for angles (radians) and head alike.
    """

    head: Literal["scaled", "linear", "fixed"] = "scaled"
    steps: Positive = 80
    learning_rate: Annotated[FiniteFloat, Field(gt=0)] = 0.1


class ThreatSection(_Section):
    """The adversary of the reward.

    Attributes:
        thief: ``loot`` rebuilds the model from its part; ``rational`` keeps the no-loot control where that is better.
        tiers: the ways in which the thief uses its part, see ``qumos_env.attacks.theft``.
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


class ServiceSection(_Section):
    """How the service is scored, beside the shots that a design may choose.

    Attributes:
        noise: answer with the noise of the providers' hardware, as exact density matrices; training stays exact.
    """

    noise: bool = False


class BudgetSection(_Section):
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


class RewardSection(_Section):
    """The blend of the reward: weights of accuracy, of resistance to theft by a provider, privacy of membership, resistance to extraction
    by a customer and resilience to the outage of a provider, and the price of cost.

    The weights but that of cost sum to 1; what has no weight is not measured, theft and membership excepted. ``cost_budget`` is the
    cost that counts as 1, in ``cost_unit``: gates, or the dollars or seconds of answering the rows of ``[budget]`` on the providers'
    devices.
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

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> RewardSection:
        total = self.accuracy + self.theft + self.membership + self.extraction + self.resilience
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            raise ValueError(f"accuracy + theft + membership + extraction + resilience must be 1, they sum to {total:g}")
        return self


class Scenario(_Section):
    """One distributed-design problem; see the module and the classes of its sections."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    title: str
    description: str = ""
    seed: Count = 0
    compare: bool = True
    data: DataSection
    draws: DrawSection = DrawSection()
    design: DesignSection = DesignSection()
    model: ModelSection = ModelSection()
    threat: ThreatSection = ThreatSection()
    service: ServiceSection = ServiceSection()
    budget: BudgetSection = BudgetSection()
    reward: RewardSection = RewardSection()
    providers: Annotated[tuple[Provider, ...], Field(min_length=1)]
    calibration: dict[str, float | int | str | bool] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Scenario:
        names = [provider.name for provider in self.providers]
        if len(set(names)) != len(names):
            raise ValueError("providers: two have the same name")
        limits = self.design
        for gate in (*limits.gates, *(gate for provider in self.providers for gate in provider.gates)):
            if gate not in REGISTRY:
                raise ValueError(str(unknown("gate", gate, REGISTRY)))
        if not any(REGISTRY[gate].trainable and REGISTRY[gate].qubits == 1 for gate in limits.gates):
            raise ValueError("design.gates: at least one of rx, ry, rz is needed, or nothing could be trained")
        if limits.max_parts * limits.max_part_qubits < limits.qubits:
            raise ValueError(
                f"design: {limits.max_parts} part(s) of at most {limits.max_part_qubits} qubits cannot hold {limits.qubits} qubits"
            )
        rotations = {gate for gate in limits.gates if REGISTRY[gate].trainable and REGISTRY[gate].qubits == 1}
        for provider in self.providers:
            if not rotations & set(provider.gates):
                raise ValueError(f"provider {provider.name}: runs none of the scenario's trainable gates {', '.join(sorted(rotations))}")
        if limits.max_gates < min(limits.max_part_qubits, limits.qubits) and limits.vocabulary == "blocks":
            raise ValueError(f"design.max_gates is {limits.max_gates}: too few for one layer on {limits.max_part_qubits} qubits")
        slots = sorted((min(p.max_qubits, limits.max_part_qubits) for p in self.providers for _ in range(p.max_parts)), reverse=True)
        if sum(slots[: limits.max_parts]) < limits.qubits:
            raise ValueError(f"providers: together they cannot hold {limits.qubits} qubits in {limits.max_parts} part(s)")
        if self.draws.half_split and self.draws.count % 2:
            raise ValueError(f"draws: half_split needs an even count, got {self.draws.count}")
        if self.reward.membership and not self.draws.half_split:
            raise ValueError("reward.membership above 0 needs draws.half_split = true")
        estimated = self.reward.cost_unit != "gates" or self.budget.is_set
        without = [provider.name for provider in self.providers if provider.device is None]
        if estimated and without:
            raise ValueError(f"costs in dollars or seconds need a device for every provider, {without[0]} has none")
        if self.budget.is_set:
            self._check_budget()
        if self.service.noise and not self.provider_noise:
            raise ValueError("service.noise is true, but no provider has noise")
        if self.threat.coalition > len(self.providers):
            raise ValueError(f"threat.coalition is {self.threat.coalition}, there are {len(self.providers)} providers")
        if self.threat.membership == "lira" and not (self.draws.half_split and self.draws.count >= LEAST_LIRA_DRAWS):
            raise ValueError(f"threat.membership 'lira' needs draws.half_split = true and draws.count of {LEAST_LIRA_DRAWS} or more")
        if self.data.angle_range[0] >= self.data.angle_range[1]:
            raise ValueError("data.angle_range: the first angle must be below the second")
        return self

    def _check_budget(self) -> None:
        from .running_costs import Budget

        budget = Budget(self)
        if not budget.some_design_fits():
            dollars, seconds = budget.least()
            raise ValueError(f"budget: no design can meet it: at least {dollars:.4g} dollars and {seconds:.4g} seconds are needed")

    @property
    def provider_names(self) -> tuple[str, ...]:
        """Names of the providers, in the order in which actions number them."""
        return tuple(provider.name for provider in self.providers)

    @cached_property
    def provider_noise(self) -> dict[str, NoiseSpec]:
        """Provider -> the noise of its hardware; those without are left out."""
        found = {provider.name: noise_spec(provider.noise) for provider in self.providers}
        return {name: noise for name, noise in found.items() if noise is not None}

    @property
    def service_noise(self) -> dict[str, NoiseSpec]:
        """The noise with which the service is scored."""
        return self.provider_noise if self.service.noise else {}

    @cached_property
    def hash(self) -> str:
        """SHA-256 over everything that defines the problem (prose and calibration figures are left out)."""
        content = self.model_dump(mode="json", exclude={"title", "description", "calibration", "compare"})
        devices = [provider.profile for provider in self.providers]
        if any(devices):
            content["devices"] = [None if profile is None else profile.model_dump(mode="json") for profile in devices]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def on_devices(self, devices: Sequence[str]) -> Scenario:
        """The same problem with other hardware: provider ``i`` has the device profile ``devices[i]`` (a name or a path).

        Names, numbers of parts, gates and prices of gates stay; width, noise and mid-circuit measurement are the device's.

        Raises:
            QumosError: another number of devices than providers, an unknown profile, or a problem that cannot be solved on them.
        """
        if len(devices) != len(self.providers):
            raise QumosError(f"{len(self.providers)} devices needed, one per provider, got {len(devices)}")
        kept = [provider.model_dump(mode="json", include={"name", "max_parts", "gates", "price"}) for provider in self.providers]
        providers = [fields | {"device": device} for fields, device in zip(kept, devices, strict=True)]
        where = f"scenario {self.name} on {', '.join(devices)}"
        return parse_scenario(self.model_dump(mode="json") | {"providers": providers}, where=where)

    def provider(self, name: str) -> Provider:
        """The provider called ``name``.

        Raises:
            QumosError: the scenario has no such provider.
        """
        for provider in self.providers:
            if provider.name == name:
                return provider
        raise unknown(f"provider in scenario {self.name}", name, self.provider_names)

    def check_design(self, design: Design, *, limits: bool = True) -> None:
        """Checks that ``design`` can be evaluated in this scenario.

        Args:
            design: the design.
            limits: also hold it against the limits of ``design`` and the providers; reference designs such as the
                centralised baseline are evaluated without.

        Raises:
            QumosError: names the first limit that is broken.
        """
        where = f"design breaks scenario {self.name}"
        rules = self.design
        if design.n_qubits != rules.qubits:
            raise QumosError(f"{where}: {design.n_qubits} qubits, the register has {rules.qubits}")
        if design.n_trainable == 0:
            raise QumosError(f"{where}: no trainable gate")
        for name in design.assignment:
            self.provider(name)
        if not limits:
            return
        if design.n_parts > rules.max_parts:
            raise QumosError(f"{where}: {design.n_parts} parts, at most {rules.max_parts} are allowed")
        if len(design.gates) > rules.max_gates:
            raise QumosError(f"{where}: {len(design.gates)} gates, at most {rules.max_gates} are allowed")
        if len(design.cut_gates) > rules.max_gate_cuts:
            raise QumosError(f"{where}: {len(design.cut_gates)} gate cuts, at most {rules.max_gate_cuts} are allowed")
        for gate in design.gates:
            if gate.name not in rules.gates:
                raise QumosError(f"{where}: gate {gate.name} is not among {', '.join(rules.gates)}")
        if design.shots is not None and design.shots not in rules.shots:
            raise QumosError(f"{where}: {design.shots} shots is not a level of {list(rules.shots)}")
        for placed in design.cut_gates:
            for qubit in placed.gate.qubits:
                name = design.assignment[design.partition[qubit]]
                if not self.provider(name).mid_circuit_measurement:
                    raise QumosError(f"{where}: provider {name} cannot run gate cuts, it has no mid-circuit measurement")
        for part in design.parts:
            provider = self.provider(part.provider)
            widest = min(rules.max_part_qubits, provider.max_qubits)
            if len(part.qubits) > widest:
                raise QumosError(f"{where}: part {part.index} has {len(part.qubits)} qubits, at most {widest} fit on {provider.name}")
            for placed in part.gates:
                if placed.gate.name not in provider.gates:
                    raise QumosError(f"{where}: provider {provider.name} does not run {placed.gate.name}")
        for provider in self.providers:
            if len(design.held_by(provider.name)) > provider.max_parts:
                raise QumosError(f"{where}: provider {provider.name} takes at most {provider.max_parts} part(s)")
        if self.budget.is_set:
            from .running_costs import Budget

            Budget(self).check(design)


def load_scenario(name_or_path: str | Path) -> Scenario:
    """The built-in scenario of that name, or the one in that TOML file.

    Raises:
        QumosError: unknown name (nearest ones offered), unreadable or malformed TOML, a contradiction between fields.
    """
    text = str(name_or_path)
    if text in list_scenarios():
        path = scenario_folder() / f"{text}.toml"
    elif text.endswith(".toml") or os.sep in text:
        path = Path(text)
    else:
        raise unknown("scenario", text, list_scenarios())
    try:
        stamp = path.stat().st_mtime_ns
    except OSError as error:
        raise QumosError(f"{path}: cannot be read ({error.strerror})") from error
    return _read(path.resolve(), stamp)


@lru_cache(maxsize=64)
def _read(path: Path, stamp: int) -> Scenario:
    data = read_toml(path)
    section = data.get("data")
    if isinstance(section, dict) and str(section.get("source", "")).endswith(_TABLE_SUFFIXES):
        # A file named in a scenario lies where the scenario says, whoever reads it from wherever.
        section["source"] = str((path.parent / str(section["source"])).resolve())
    providers = data.get("providers")
    for provider in providers if isinstance(providers, list) else ():
        if isinstance(provider, dict) and str(provider.get("device", "")).endswith(".toml"):
            provider["device"] = str((path.parent / str(provider["device"])).resolve())
    return parse_scenario(data, where=str(path))


def parse_scenario(data: object, where: str = "scenario") -> Scenario:
    """The scenario in plain data, as TOML or JSON reads it.

    Raises:
        QumosError: names ``where``, the field and what is wrong with it.
    """
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"]) or "scenario"
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = str(unknown("field", first["loc"][-1], _fields(first["loc"][:-1])))
        raise QumosError(f"{where}: {field}: {one_line(message)}") from error


def _fields(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Scenario
    for step in location:
        if step == "providers":
            model = Provider
        elif isinstance(step, str) and step in model.model_fields:
            annotation = model.model_fields[step].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
    return list(model.model_fields)


# The table up to the next one, comments and blank lines included.
_CALIBRATION = re.compile(r"^\[calibration\].*\n?(?:(?!\[).*\n?)*?(?=^\[|\Z)", re.MULTILINE)


def write_calibration(path: Path, figures: dict[str, float | int | str | bool]) -> None:
    """Puts ``figures`` into the ``[calibration]`` table of the TOML file ``path``, at its end; all else stays, the write is atomic."""
    rest = _CALIBRATION.sub("", path.read_text(encoding="utf-8")).rstrip("\n")
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in figures.items()]
    write_text(path, rest + "\n\n[calibration]\n" + "\n".join(lines) + "\n")


__all__ = ["Scenario", "list_scenarios", "load_scenario", "parse_scenario", "scenario_folder", "write_calibration"]
