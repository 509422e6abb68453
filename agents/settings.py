"""Settings of the agents: the class they derive from, and the tuned values, one TOML file per agent.

A file holds a ``[default]`` table and overrides per scenario. The allowed keys, their types and bounds are the fields of the agent's
settings class, so a misspelt key is an error and not ignored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from qumos_env.errors import QumosError, shortened
from qumos_env.files import read_toml
from qumos_env.records import SHOWN, Record, parse

# Bounds a thousand times what anyone needs: they catch slips, and files that mean harm.
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Width = Annotated[int, Field(ge=1, le=4096)]  # memory grows with its square
Number = Annotated[int, Field(ge=0, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Rate = Annotated[float, Field(gt=0, le=1e3)]
LAG = 8
"""Designs under way at a time: keeps up to eight workers busy."""


class AgentSettings(Record):
    """What the settings of every agent have.

    Attributes:
        warm_start: evaluate the hand-made designs first.
    """

    warm_start: bool = False


class SearcherSettings(AgentSettings):
    """What the settings of every agent that is asked and told have.

    Attributes:
        lag: designs under way at a time.
    """

    lag: Count = LAG


class RacingSettings(SearcherSettings):
    """Settings of an agent that may look at a design with few draws first, see ``racing.Ladder``.

    Attributes:
        racing: whether it does; otherwise every design is measured with all draws.
        first_draws: draws of the first look.
        promoted: share of the designs that are measured again with more draws, at every rung.
    """

    racing: bool = False
    first_draws: Count = 1
    promoted: Annotated[float, Field(gt=0, lt=1)] = 0.25


class _Tuned(Record):
    """A file of tuned settings."""

    default: dict[str, object] = Field(default_factory=dict)
    scenario: dict[str, dict[str, object]] = Field(default_factory=dict)


S = TypeVar("S", bound=AgentSettings)


def parse_settings(kind: type[S], data: Mapping[str, object], where: str = "settings") -> S:
    """``data`` as an instance of the settings class ``kind``.

    Raises:
        QumosError: an unknown key (nearest ones offered), a value of the wrong type or outside its range.
    """
    return parse(kind, data, where, what="setting")


def tuned_settings(path: Path, scenario: str) -> dict[str, object]:
    """What the file ``path`` says for the scenario of that name; nothing where there is no file.

    Raises:
        QumosError: the file is malformed or holds a table that is neither ``default`` nor ``scenario``.
    """
    if not path.exists():
        return {}
    tuned = parse(_Tuned, read_toml(path), path.name, what="table")
    return {**tuned.default, **tuned.scenario.get(scenario, {})}


def parse_overrides(pairs: Iterable[str]) -> dict[str, object]:
    """Overrides written ``key=value`` on a command line, values as in TOML.

    Raises:
        QumosError: a pair without ``=`` or a value that is not TOML.
    """
    overrides: dict[str, object] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise QumosError(f"setting {shortened(pair, SHOWN)!r}: write it as key=value")
        try:
            overrides[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError) as error:
            raise QumosError(f"setting {shortened(pair, SHOWN)!r}: {shortened(value, SHOWN)!r} is not a TOML value") from error
    return overrides
