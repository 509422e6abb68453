"""Scenarios: everything that defines one distributed-design problem, as validated, immutable TOML.

A scenario names its data and encoding, the providers, the limits of a design, the training of a model, the adversary and
the blend of the reward. ``load_scenario`` takes the name of a scenario of the library or the path of a TOML file.
"""

from __future__ import annotations

import hashlib
import json
import operator
import os
import tomllib
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Literal

import tomlkit
from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable, Table

from ..design import Design
from ..design.gates import REGISTRY
from ..errors import QumosError, one_line, problem, shown, unknown
from ..files import absolute_path, file_status, parse_json, read_bytes, read_toml, write_bytes
from ..registration import TABLE_SUFFIX, list_scenarios, list_tables, scenario_folder, table_folder
from ..simulation.channels import NoiseSpec
from .budget import Budget
from .limits import DesignLimits
from .providers import Provider, noise_spec
from .sections import (
    LEAST_LIRA_DRAWS,
    BudgetSection,
    DataSection,
    DesignSection,
    DrawSection,
    Identifier,
    ModelSection,
    RewardSection,
    Section,
    Seed,
    ServiceSection,
    TableSection,
    ThreatSection,
)
from .sizes import check_choices, check_noise, check_queries, check_states, check_training, queries_of

MANIFEST = "manifest.json"
"""The file that says what a table holds."""
_TABLE_SUFFIXES = (".csv", ".parquet", ".npz")
MIN_ADVANTAGE = 2.0
"""Standard errors by which a model must beat the no-loot control to be worth stealing."""
MOST_PROVIDERS = 100


def _storable(figure: float | int | str | bool) -> float | int | str | bool:
    if isinstance(figure, int) and abs(figure) >= 2**63:
        raise ValueError(f"a figure must be below 2**63, got {shown(figure)}")
    if isinstance(figure, str) and len(figure) > 10_000:
        raise ValueError(f"a figure has at most 10,000 characters, got {shown(figure)}")
    return figure


Figure = Annotated[float | int | str | bool, AfterValidator(_storable)]


class Scenario(Section):
    """One distributed-design problem; see the module and the classes of its sections.

    Attributes:
        name: also of the registered environment, at most 100 characters.
        version: of the registered environment; another problem under the same name is another version.
        title, description: prose, at most 1,000 and 100,000 characters.
        tags: what it is about and how hard it is, in words; at most 20.
        seed: evaluation seed of searches, below 2⁶³.
        compare: offered for comparisons.
        providers: at most 100.
        table: where evaluations are looked up; ``None``: they are made. Given by ``load_scenario``, see there.
        calibration: figures of the last check, at most 1,000.
        extensions: settings of what was registered beside the package's own terms and attacks, a table for each.
    """

    schema_version: Literal[1] = 1
    name: Identifier
    version: Annotated[int, Field(ge=0, le=999)] = 0
    title: Annotated[str, Field(max_length=1000)]
    description: Annotated[str, Field(max_length=100_000)] = ""
    tags: Annotated[tuple[Identifier, ...], Field(max_length=20)] = ()
    seed: Seed = 0
    compare: bool = True
    data: DataSection
    draws: DrawSection = DrawSection()
    design: DesignSection = DesignSection()
    model: ModelSection = ModelSection()
    threat: ThreatSection = ThreatSection()
    service: ServiceSection = ServiceSection()
    budget: BudgetSection = BudgetSection()
    reward: RewardSection = RewardSection()
    providers: Annotated[tuple[Provider, ...], Field(min_length=1, max_length=MOST_PROVIDERS)]
    table: TableSection | None = None
    extensions: Annotated[dict[str, dict[str, Figure]], Field(max_length=100)] = Field(default={})
    calibration: dict[str, Figure] = Field(default={}, max_length=1000)

    @model_validator(mode="after")
    def _not_too_large_together(self) -> Scenario:
        check_training(self.draws, self.model, self.threat)
        check_states(self.draws, self.design)
        check_queries(self.draws, self.threat, self.reward.extraction)
        check_choices(self.providers, self.design, self.threat, self.budget)
        check_noise(self.providers, self.design, self.service)
        return self

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
        if self.design_limits.capacity < limits.qubits:
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
        if not self.cost_limits.some_design_fits():
            dollars, seconds = self.cost_limits.least()
            raise ValueError(f"budget: no design can meet it: at least {dollars:.4g} dollars and {seconds:.4g} seconds are needed")

    @cached_property
    def design_limits(self) -> DesignLimits:
        """The limits of ``design`` and the providers on what a design may be."""
        return DesignLimits(self.design, self.providers)

    @cached_property
    def cost_limits(self) -> Budget:
        """The limits of ``budget`` on what a design may cost."""
        return Budget(self.budget, self.design, self.providers, self.data.axis, self.design_limits)

    @property
    def provider_names(self) -> tuple[str, ...]:
        """Names of the providers, in the order in which actions number them."""
        return tuple(provider.name for provider in self.providers)

    @property
    def queries(self) -> int:
        """How many queries a customer sends who clones the service."""
        return queries_of(self.draws, self.threat)

    @property
    def least_draws(self) -> int:
        """The fewest draws that a design can be evaluated on: LiRA needs shadow models, and halves come in pairs."""
        if self.threat.membership == "lira":
            return LEAST_LIRA_DRAWS
        return 2 if self.draws.half_split else 1

    @property
    def draw_levels(self) -> tuple[int, ...]:
        """Numbers of draws to evaluate a design on, from a first look to all K: ascending, each about twice the one before."""
        doubled = (self.least_draws << power for power in range(self.draws.count.bit_length()))
        return (*(level for level in doubled if level < self.draws.count), self.draws.count)

    def checked_draws(self, count: int) -> int:
        """``count`` as a plain integer.

        Raises:
            QumosError: a design cannot be evaluated on so many draws.
        """
        try:
            value = operator.index(count)
        except TypeError:
            value = 0
        step = 2 if self.draws.half_split else 1
        if not self.least_draws <= value <= self.draws.count or value % step:
            kind = "an even number" if step == 2 else "a whole number"
            nearest = min(self.draw_levels, key=lambda level: abs(level - value))
            raise QumosError(
                f"{count!r} draws: scenario {self.name} needs {kind} from {self.least_draws} to {self.draws.count}, nearest is {nearest}"
            )
        return value

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
        content = self.model_dump(mode="json", exclude={"version", "title", "description", "tags", "calibration", "compare", "table"})
        if not self.extensions:
            del content["extensions"]  # as before there were any
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
        if design.n_qubits != self.design.qubits:
            raise QumosError(f"{where}: {design.n_qubits} qubits, the register has {self.design.qubits}")
        if design.n_trainable == 0:
            raise QumosError(f"{where}: no trainable gate")
        for name in design.assignment:
            self.provider(name)
        if not limits:
            return
        broken = self.design_limits.broken_by(design) or self.cost_limits.broken_by(design)
        if broken is not None:
            raise QumosError(f"{where}: {broken}")


def load_scenario(name_or_path: str | Path) -> Scenario:
    """The built-in scenario of that name, or the one in that TOML file.

    The folder of a table is a scenario too: the one whose designs it holds, under its name with ``-table`` behind it, and with evaluations
    that are looked up there. Built-in tables go by that name.

    Raises:
        QumosError: unknown name (nearest ones offered), unreadable or malformed TOML, a contradiction between fields.
    """
    text = str(name_or_path)
    if text in list_tables():
        return _built_in_table(text.removesuffix(TABLE_SUFFIX))
    # Unlike a Path's, this question has an answer for names that no file can have.
    if os.path.isfile(os.path.join(text, MANIFEST)):
        return of_table(Path(text))
    if text in list_scenarios():
        path = scenario_folder() / f"{text}.toml"
    elif text.endswith(".toml") or os.sep in text:
        path = Path(text)
    else:
        raise unknown("scenario", text, (*list_scenarios(), *list_tables()))
    stamp = file_status(path).st_mtime_ns
    return _read(path.resolve(), stamp)


@lru_cache(maxsize=64)
def _read(path: Path, stamp: int) -> Scenario:
    data = read_toml(path)
    # A file named in a scenario lies where the scenario says, whoever reads it from wherever.
    section = data.get("data")
    if isinstance(section, dict):
        _locate(section, "source", _TABLE_SUFFIXES, path.parent)
    providers = data.get("providers")
    for provider in providers if isinstance(providers, list) else ():
        if isinstance(provider, dict):
            _locate(provider, "device", (".toml",), path.parent)
    return parse_scenario(data, where=str(path))


def _locate(table: dict[str, object], field: str, suffixes: tuple[str, ...], folder: Path) -> None:
    name = table.get(field)
    if isinstance(name, str) and name.endswith(suffixes):
        table[field] = str(absolute_path(name, folder))


def parse_scenario(data: object, where: str = "scenario") -> Scenario:
    """The scenario in plain data, as TOML or JSON reads it.

    Raises:
        QumosError: names ``where``, the field and what is wrong with it.
    """
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise QumosError(f"{where}: {problem(first, data, _fields)}") from error


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


def of_table(folder: Path) -> Scenario:
    """The scenario whose evaluations are looked up in the table in ``folder``.

    Raises:
        QumosError: there is none, or its manifest holds no scenario.
    """
    path = folder.resolve() / MANIFEST
    data = parse_json(read_bytes(path), str(path))
    if not isinstance(data, dict) or not isinstance(data.get("scenario"), dict):
        raise QumosError(f"{path}: no manifest of a table")
    return looked_up(parse_scenario(data["scenario"], where=f"{path}: scenario"), folder)


def _built_in_table(name: str) -> Scenario:
    """The scenario of the built-in table of ``name``, whose scenario is that of the library still."""
    found = of_table(table_folder() / name)
    if name in list_scenarios() and looked_up(load_scenario(name), table_folder() / name).hash != found.hash:
        again = f"python -m training table make {name} --out {table_folder() / name}"
        raise QumosError(f"{table_folder() / name}: scenario {name} has changed since the table was made; make it again with: {again}")
    return found


def looked_up(scenario: Scenario, folder: Path) -> Scenario:
    """``scenario``, with evaluations looked up in the table in ``folder``."""
    changes = {"name": scenario.name + TABLE_SUFFIX, "version": 0, "table": {"folder": str(folder.resolve())}}
    return parse_scenario(scenario.model_dump(mode="json") | changes)


def write_calibration(path: Path, figures: dict[str, float | int | str | bool]) -> None:
    """Puts ``figures`` into the table ``calibration`` of the TOML file ``path``, in place of those that it holds.

    The table stays where it is, and comes to the end if there was none. All else stays too: comments, order and line ends, the file's
    mode, and a link that ``path`` may be. The write is atomic.

    Raises:
        QumosError: the file cannot be read, is no TOML, or is written in a way that cannot be edited safely; it is left as it was.
    """
    before = read_toml(path)
    text = read_bytes(path).decode("utf-8")
    # The library ends the lines that it adds with \n.
    windows = "\r\n" in text and text.count("\r\n") == text.count("\n")
    text = text.replace("\r\n", "\n") if windows else text
    try:
        document = tomlkit.parse(text if text.endswith("\n") else text + "\n")
        _put(document, "calibration", figures)
        edited = document.as_string()
        after = tomllib.loads(edited)
    except (TOMLKitError, tomllib.TOMLDecodeError) as error:
        raise QumosError(f"{path}: the calibration cannot be written ({one_line(error)})") from error
    if _canonical(after) != _canonical(before | {"calibration": figures}):
        raise QumosError(f"{path}: the calibration cannot be written without a change to the rest; make it a table of its own at the end")
    write_bytes(path, (edited.replace("\n", "\r\n") if windows else edited).encode())


def _put(document: tomlkit.TOMLDocument, name: str, content: dict[str, float | int | str | bool]) -> None:
    """Makes ``content`` that of the table ``name``, where and as it is written: a section, or inline; else in a new section at the end."""
    table = document.get(name)
    if isinstance(table, InlineTable):
        document[name] = tomlkit.inline_table()
        document[name].update(content)
        return
    if not isinstance(table, Table):
        document.pop(name, None)
        table = tomlkit.table()
        document.add(name, table)
    # Blank lines and comments behind the last entry are about what follows.
    body = table.value.body
    end = 1 + max((number for number, (key, _) in enumerate(body) if key is not None), default=-1)
    behind = body[end:]
    del body[end:]
    for key in [key for key in table if key not in content]:
        del table[key]
    table.update(content)
    body.extend(behind)


def _canonical(data: object) -> str:
    """One text for equal data; not a number equals itself here."""
    return json.dumps(data, sort_keys=True, default=str)


__all__ = ["Scenario", "list_scenarios", "load_scenario", "looked_up", "parse_scenario", "scenario_folder", "write_calibration"]
