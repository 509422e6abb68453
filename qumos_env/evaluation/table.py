"""Tables: all designs of a small scenario, evaluated once, so that searches on it take no time and the optimum is known.

A table is a folder: ``table.npz`` holds the designs and the measurements, ``manifest.json`` says what they are, of which scenario, and how
they were made. Nothing in it is trusted when it is read: it is what the manifest says or an error names what is wrong, in one line.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ..design import Design
from ..errors import QumosError, one_line
from ..files import file_status, read_bytes, write_bytes, write_text
from ..records import Record, parse
from ..scenario import Scenario, parse_scenario
from .evaluator import EVALUATION_VERSION
from .workload import ROWS, Rows

SCHEMA_VERSION = 1
MANIFEST, TABLE = "manifest.json", "table.npz"
HASH_BYTES = 16
"""Of a design's SHA-256; enough to tell a million designs apart."""
_MOST_BYTES = 2**28
_FILL = np.iinfo(np.uint16).max  # behind the last action of an episode

COLUMNS = {
    "reward": "the scenario's blend, 1 at most",
    "reward_se": "standard error of the reward over draws; 0 for one draw",
    "accuracy": "share of rows, mean over draws",
    "theft": "accuracy of the strongest thief, share of rows",
    "control": "accuracy without loot, share of rows; of all designs alike",
    "query_control": "accuracy with rows and answers but without loot, share of rows",
    "theft_gain": "what the loot adds, share of rows",
    "membership_auc": "area under the curve, 0.5 where members cannot be told",
    "chance": "majority frequency, share of rows; of all designs alike",
    "cost": "in the scenario's unit",
    "nothing_worth_stealing": "1 where the model is not clearly better than the control, else 0",
}
"""Measurements that every table has, by the names of ``Evaluation.to_dict``, with their units; shares of the reward come beside."""
SECONDS = "seconds"
_SHARE = "rewards."


class Manifest(Record):
    """What a table holds and how it was made.

    Attributes:
        scenario, scenario_hash: the problem, complete, and its hash.
        data_digest: SHA-256 of its rows.
        evaluation_version: of the code that measured.
        designs: how many.
        seeds: of evaluation.
        draw_levels, rows: numbers of draws, and which rows are scored.
        columns: name -> unit; each float32 ``[designs, seeds, rows, draw_levels]``, NaN where an evaluation broke down.
        seconds: what the column ``seconds`` is, float32 ``[designs, seeds]``.
        versions: of Python, the machine and the libraries.
        command: what made it.
        checksum: SHA-256 of ``table.npz``.
    """

    kind: Literal["table"] = "table"
    schema_version: Literal[1] = 1
    scenario: dict[str, Any]
    scenario_hash: str
    data_digest: str
    evaluation_version: int
    designs: Annotated[int, Field(ge=1, le=10**7)]
    seeds: Annotated[tuple[int, ...], Field(min_length=1, max_length=1000)]
    draw_levels: Annotated[tuple[int, ...], Field(min_length=1, max_length=100)]
    rows: tuple[Rows, ...] = ROWS
    columns: dict[str, str]
    seconds: str
    versions: dict[str, str]
    command: str
    checksum: str


def columns_of(scenario: Scenario) -> dict[str, str]:
    """Names and units of what a table of ``scenario`` holds."""
    parts = {f"{_SHARE}{name}": "share of the reward" for name in scenario.reward.terms if scenario.reward.weight(name)}
    return COLUMNS | parts


@dataclass(frozen=True, eq=False)
class Table:
    """All designs of a scenario with what was measured of them.

    Attributes:
        scenario: the scenario.
        manifest: what is known of the table.
        actions: the shortest episode that builds each design, uint16 ``[designs, most]``, filled up with 65,535.
        hashes: the first 16 bytes of each design's hash, uint8 ``[designs, 16]``.
        columns: name -> float32 ``[designs, seeds, rows, draw_levels]``.
        seconds: processor seconds of a full evaluation, float32 ``[designs, seeds]``.
    """

    scenario: Scenario
    manifest: Manifest
    actions: np.ndarray
    hashes: np.ndarray
    columns: Mapping[str, np.ndarray]
    seconds: np.ndarray

    @cached_property
    def _places(self) -> dict[bytes, int]:
        return {row.tobytes(): number for number, row in enumerate(self.hashes)}

    def has(self, design: Design) -> bool:
        """Whether ``design`` is in the table."""
        return _key(design.hash) in self._places

    def place(self, design_hash: str) -> int:
        """The row of the design of that hash.

        Raises:
            QumosError: the table has no such design.
        """
        try:
            return self._places[_key(design_hash)]
        except (KeyError, ValueError):
            name = self.scenario.name
            raise QumosError(
                f"the table of {name} has no design {design_hash[:8]}: it has those that the actions of {name} reach"
            ) from None

    def episode(self, place: int) -> tuple[int, ...]:
        """The actions that build the design in row ``place``."""
        return unpacked(self.actions[place])

    @cached_property
    def rewards(self) -> np.ndarray:
        """The reward with all draws on the search rows, mean over seeds, float64 ``[designs]``; 0 where an evaluation broke down."""
        return np.nan_to_num(self.columns["reward"][:, :, 0, -1].astype(float)).mean(axis=1)

    @cached_property
    def best(self) -> int:
        """The row of the design with the highest of ``rewards``: the optimum."""
        return int(self.rewards.argmax())

    def regret(self, place: int) -> float:
        """By how much the design in row ``place`` falls short of the optimum."""
        return float(self.rewards[self.best] - self.rewards[place])


def _key(design_hash: str) -> bytes:
    return bytes.fromhex(design_hash[: 2 * HASH_BYTES])


def packed(episodes: Sequence[Sequence[int]]) -> np.ndarray:
    """``episodes`` as the array ``Table.actions``."""
    found = np.full((len(episodes), max(map(len, episodes))), _FILL, np.uint16)
    for row, episode in zip(found, episodes, strict=True):
        row[: len(episode)] = episode
    return found


def unpacked(row: np.ndarray) -> tuple[int, ...]:
    """The episode in one row of the array ``Table.actions``."""
    return tuple(row[row != _FILL].tolist())


def as_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """``arrays`` as a compressed NPZ file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def from_bytes(content: bytes, where: str) -> dict[str, np.ndarray]:
    """The arrays of a compressed NPZ file; nothing in it is executed.

    Raises:
        QumosError: it is something else.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise QumosError(f"{where}: no NPZ file of numbers ({one_line(error)})") from error


def write_table(folder: Path, manifest: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Manifest:
    """Writes a table; ``manifest`` lacks the checksum. Returns the complete one."""
    content = as_bytes(arrays)
    complete = parse(Manifest, {**manifest, "checksum": hashlib.sha256(content).hexdigest()}, str(folder / MANIFEST))
    write_bytes(folder / TABLE, content)
    # Last: a manifest of other numbers is refused by its checksum, numbers without a manifest are no table.
    write_text(folder / MANIFEST, json.dumps(complete.model_dump(mode="json"), indent=2, sort_keys=True) + "\n")
    return complete


def read_manifest(folder: Path) -> tuple[Manifest, Scenario]:
    """The manifest of the table in ``folder``, and the scenario it names.

    Raises:
        QumosError: there is none, it is of another schema or evaluation version, or of another scenario than it says.
    """
    path = folder / MANIFEST
    manifest = parse(Manifest, read_bytes(path), str(path))
    scenario = parse_scenario(manifest.scenario, where=f"{path}: scenario")
    if scenario.hash != manifest.scenario_hash:
        raise QumosError(
            f"{path}: the scenario hashes to {scenario.hash[:8]}, the table is of {manifest.scenario_hash[:8]}; {_again(manifest)}"
        )
    if manifest.evaluation_version != EVALUATION_VERSION:
        raise QumosError(
            f"{path}: evaluation version {manifest.evaluation_version}, this release has {EVALUATION_VERSION}; {_again(manifest)}"
        )
    return manifest, scenario


def read_table(folder: str | Path) -> Table:
    """The table in ``folder``; the last few are kept.

    Raises:
        QumosError: as ``read_manifest``; or the numbers are not those that the manifest names.
    """
    path = Path(folder).resolve()
    return _read(path, file_status(path / MANIFEST).st_mtime_ns, file_status(path / TABLE).st_mtime_ns)


@lru_cache(maxsize=8)
def _read(folder: Path, *stamps: int) -> Table:
    manifest, scenario = read_manifest(folder)
    path = folder / TABLE
    content = read_bytes(path, _MOST_BYTES)
    if (found := hashlib.sha256(content).hexdigest()) != manifest.checksum:
        raise QumosError(f"{path}: its checksum is {found[:8]}, the manifest says {manifest.checksum[:8]}; {_again(manifest)}")
    arrays = from_bytes(content, str(path))
    shape = (manifest.designs, len(manifest.seeds), len(manifest.rows), len(manifest.draw_levels))
    wanted = dict.fromkeys(columns_of(scenario), shape) | {SECONDS: shape[:2], "hashes": (manifest.designs, HASH_BYTES)}
    for name, size in wanted.items():
        if name not in arrays or arrays[name].shape != size:
            raise QumosError(f"{path}: column {name} is missing or not {list(size)}; {_again(manifest)}")
    episodes = arrays.get("actions", np.empty(0))
    if episodes.ndim != 2 or len(episodes) != manifest.designs or manifest.rows != ROWS:
        raise QumosError(f"{path}: its actions are not those of {manifest.designs} designs; {_again(manifest)}")
    if manifest.draw_levels != scenario.draw_levels:
        raise QumosError(f"{path}: measured on {manifest.draw_levels} draws, the scenario has {scenario.draw_levels}; {_again(manifest)}")
    columns = {name: arrays[name] for name in columns_of(scenario)}
    return Table(scenario, manifest, episodes, arrays["hashes"], columns, arrays[SECONDS])


def _again(manifest: Manifest) -> str:
    return f"make it again with: {manifest.command}"
