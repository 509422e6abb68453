"""Tuned settings of the agents: one TOML file each, a ``[default]`` table and overrides per scenario.

The allowed keys and their types are the fields of the agent's settings class, so a misspelt key is an error and not ignored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import TypeVar, get_type_hints

from qumos_env.errors import QumosError, unknown

FOLDER = Path(__file__).resolve().parent / "tuned"
T = TypeVar("T")


def parse_settings(kind: type[T], data: Mapping[str, object], where: str = "settings") -> T:
    """``data`` as an instance of the settings class ``kind``, a dataclass.

    Raises:
        QumosError: an unknown key (nearest ones offered), a value of the wrong type or outside its range.
    """
    assert is_dataclass(kind)
    hints = get_type_hints(kind)
    values: dict[str, object] = {}
    for key, value in data.items():
        if key not in hints:
            raise unknown(f"setting in {where}", key, hints)
        values[key] = _typed(value, hints[key], f"{where}: {key}")
    try:
        return kind(**values)
    except ValueError as error:
        raise QumosError(f"{where}: {error}") from error


def tuned_settings(agent: str, scenario: str, overrides: Mapping[str, object] | None = None) -> dict[str, object]:
    """The settings shipped for ``agent`` on the scenario of that name, with ``overrides`` on top.

    Raises:
        QumosError: the file is malformed or holds a table that is neither ``default`` nor ``scenario``.
    """
    path = FOLDER / f"{agent}.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise QumosError(f"{path.name}: malformed TOML: {error}") from error
    for table in data:
        if table not in ("default", "scenario"):
            raise unknown(f"table in {path.name}", table, ("default", "scenario"))
    return {**data.get("default", {}), **data.get("scenario", {}).get(scenario, {}), **(overrides or {})}


def settings_files() -> tuple[Path, ...]:
    """The shipped settings files."""
    return tuple(sorted(FOLDER.glob("*.toml")))


def parse_overrides(pairs: Iterable[str]) -> dict[str, object]:
    """Overrides written ``key=value`` on a command line, values as in TOML.

    Raises:
        QumosError: a pair without ``=`` or a value that is not TOML.
    """
    overrides: dict[str, object] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        try:
            overrides[key.strip()] = tomllib.loads(f"value = {value}")["value"] if equals else None
        except tomllib.TOMLDecodeError as error:
            raise QumosError(f"setting {pair!r}: {value!r} is not a TOML value") from error
        if not equals:
            raise QumosError(f"setting {pair!r}: write it as key=value")
    return overrides


def _typed(value: object, expected: object, where: str) -> object:
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if expected in (int, float, str, bool) and type(value) is not expected:
        raise QumosError(f"{where} is {value!r}; {getattr(expected, '__name__', expected)} is expected")
    return value
