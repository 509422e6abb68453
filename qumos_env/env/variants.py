"""Randomised scenarios: other classes, features, rows, providers and adversaries of a known problem, by number.

A variant is an ordinary ``Scenario``, with a hash, rows and an evaluator of its own; the same scenario, number and axes give the same one
everywhere. Along each axis a generator of its own draws, so that what varies along one does not depend on which others vary.

The fixed test split of a variant is its own: a row of it may be a search row of the scenario that it was made from, or of another
variant. Policies that were trained over variants are therefore tested on other data sets or generator seeds, where rows matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import make_protocol
from ..data.generators import GENERATORS
from ..data.sources import load_dataset
from ..errors import QumosError, shown, unknown
from ..hardware.profile import list_profiles
from ..scenario import Scenario, parse_scenario
from ..seeds import label

_TRIES = 100  # drawings until the variant can be solved
_MOST_PROVIDERS = 4
_THIEF_ROWS = (1, 2, 3, 4, 6, 8, 12)
_ENTANGLERS = ("cz", "cx", "rzz")
_LEAST_WEIGHT, _MOST_WEIGHT = 0.3, 0.7  # of accuracy

Data = dict[str, Any]
"""A scenario as plain data, whose sections an axis may change."""


def _classes(data: Data, scenario: Scenario, generator: np.random.Generator) -> None:
    """Some of the classes of the data set, at most as many as the scenario has."""
    if scenario.data.source in GENERATORS:
        return
    names = load_dataset(scenario.data.model_copy(update={"classes": ()})).class_names
    most = len(scenario.data.classes) or len(names)
    chosen = generator.choice(len(names), int(generator.integers(2, most + 1)), replace=False)
    data["data"]["classes"] = [names[index] for index in sorted(chosen)]


def _features(data: Data, scenario: Scenario, generator: np.random.Generator) -> None:
    """Other coordinates, where the columns are what the qubits encode: a permutation, or a rotation.

    Parities stay parities of single features only under permutations.
    """
    if scenario.data.reducer != "none":
        return
    mixings = ("permutation",) if scenario.data.source.startswith("parity") else ("permutation", "rotation")
    data["data"] |= {"mixing": str(generator.choice(mixings)), "mixing_seed": int(generator.integers(2**31))}


def _generator(data: Data, scenario: Scenario, generator: np.random.Generator) -> None:
    """Another seed of generated rows."""
    if scenario.data.source in GENERATORS:
        data["data"]["parameters"] = dict(scenario.data.parameters) | {"seed": int(generator.integers(1, 2**31))}


def _providers(data: Data, scenario: Scenario, generator: np.random.Generator) -> None:
    """Two to four providers and as many parts at most; other devices where they have devices, else other widths and gates."""
    count = int(generator.integers(2, _MOST_PROVIDERS + 1))
    rules, drawn = scenario.design, []
    on_devices = all(provider.device is not None for provider in scenario.providers)
    for index in range(count):
        given = scenario.providers[index % len(scenario.providers)]
        name = given.name if index < len(scenario.providers) else f"provider-{index + 1}"
        fields: Data = {"name": name, "max_parts": given.max_parts, "price": given.price, "gates": list(given.gates)}
        if on_devices:
            fields["device"] = str(generator.choice(list_profiles()))
        else:
            widest = rules.max_part_qubits + rules.max_gate_cuts
            fields["max_qubits"] = int(generator.integers(max(1, rules.max_part_qubits - 2), widest + 1))
            if given.noise != type(given.noise)():
                fields["noise"] = given.noise.model_dump(mode="json")
            if generator.uniform() < 0.3:
                lacking = str(generator.choice(_ENTANGLERS))
                fields["gates"] = [gate for gate in given.gates if gate != lacking]
        drawn.append(fields)
    data["providers"] = drawn
    data["design"]["max_parts"] = int(generator.integers(2, count + 1))
    data["threat"]["coalition"] = min(scenario.threat.coalition, count - 1)


def _thief(data: Data, scenario: Scenario, generator: np.random.Generator) -> None:
    """From one to twelve thief rows of every class."""
    data["draws"]["thief_rows_per_class"] = int(generator.choice(_THIEF_ROWS))


def _threat(data: Data, scenario: Scenario, generator: np.random.Generator) -> None:
    """A loot or a rational thief, alone or in a coalition that leaves at least one provider out; probabilities or labels as answers."""
    providers = len(data["providers"])
    data["threat"] |= {
        "thief": str(generator.choice(("loot", "rational"))),
        "coalition": int(generator.integers(1, max(2, providers))),
        "answers": str(generator.choice(("probabilities", "labels"), p=(0.75, 0.25))),
    }


def _weights(data: Data, scenario: Scenario, generator: np.random.Generator) -> None:
    """Another weight of accuracy, from 0.3 to 0.7; the other weights keep their proportions."""
    reward = scenario.reward
    others = {name: reward.weight(name) for name in reward.terms if name not in ("accuracy", "cost") and reward.weight(name)}
    if not others:
        return
    accuracy = round(float(generator.uniform(_LEAST_WEIGHT, _MOST_WEIGHT)), 2)
    scaled = {name: weight * (1 - accuracy) / sum(others.values()) for name, weight in others.items()}
    section = data["reward"]
    section["accuracy"] = accuracy
    for name, weight in scaled.items():
        (section["others"] if name in reward.others else section)[name] = weight


AXES: dict[str, Callable[[Data, Scenario, np.random.Generator], None]] = {
    "classes": _classes,
    "features": _features,
    "generator": _generator,
    "providers": _providers,
    "thief": _thief,
    "threat": _threat,
    "weights": _weights,
}
"""What may vary, in the order in which it is drawn: the threat after the providers, of whom a coalition leaves one out."""


def variant(scenario: Scenario, number: int, axes: Sequence[str] = tuple(AXES)) -> Scenario:
    """Variant ``number`` of ``scenario`` along ``axes``.

    Where what was drawn contradicts itself, or leaves a class without rows, all of it is drawn again.

    Raises:
        QumosError: an unknown axis, or no variant that can be solved.
    """
    for name in axes:
        if name not in AXES:
            raise unknown("axis of variation", name, AXES)
    name = f"{scenario.name[:80]}-variant-{number}"
    problem = None
    for attempt in range(_TRIES):
        data = scenario.model_dump(mode="json") | {"name": name, "compare": False, "calibration": {}, "tags": ["variant"]}
        data["title"] = f"{scenario.title[:900]}, variant {number} along {', '.join(axes)}"
        try:
            for axis, change in AXES.items():
                if axis in axes:
                    change(data, scenario, np.random.default_rng([number, attempt, label(axis), label(scenario.name)]))
            found = parse_scenario(data, where=name)
            make_protocol(found.data, found.draws, found.design.qubits)
        except QumosError as error:
            problem = error
            continue
        return found
    raise QumosError(f"scenario {scenario.name}: no variant {number} that can be solved in {_TRIES} tries; the last: {problem}")


@dataclass(frozen=True)
class Variation:
    """Which variants an environment plays.

    Attributes:
        axes: what varies.
        seeds: first number of a variant that is drawn, and the one behind the last; numbers beyond are left for tests.
    """

    axes: tuple[str, ...] = tuple(AXES)
    seeds: tuple[int, int] = (0, 1000)

    def __post_init__(self) -> None:
        for name in self.axes:
            if name not in AXES:
                raise unknown("axis of variation", name, AXES)
        whole = all(isinstance(seed, int) and not isinstance(seed, bool) for seed in self.seeds)
        if len(self.seeds) != 2 or not whole or not 0 <= self.seeds[0] < self.seeds[1] <= 2**31:
            raise QumosError(f"randomise.seeds is {shown(list(self.seeds))}, [start, stop] with 0 <= start < stop is needed")

    @classmethod
    def of(cls, randomise: bool | Mapping[str, Any]) -> Variation | None:
        """What ``randomise`` of an environment asks for: nothing, everything, or the named ``axes`` and ``seeds``.

        Raises:
            QumosError: an unknown field or axis, or seeds that are no range.
        """
        if isinstance(randomise, bool):
            return cls() if randomise else None
        if not isinstance(randomise, Mapping):
            raise QumosError(f"randomise is {shown(randomise)}, true, false or a table with axes and seeds is needed")
        for name, value in randomise.items():
            if name not in cls.__dataclass_fields__:
                raise unknown("field of randomise", name, cls.__dataclass_fields__)
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise QumosError(f"randomise.{name} is {shown(value)}, a list is needed")
        return cls(**{name: tuple(value) for name, value in randomise.items()})

    def draw(self, generator: np.random.Generator) -> int:
        """The number of a variant, every one as likely."""
        return int(generator.integers(*self.seeds))

    def variant(self, scenario: Scenario, number: int) -> Scenario:
        """Variant ``number`` of ``scenario``, see ``variant``."""
        return variant(scenario, number, self.axes)
