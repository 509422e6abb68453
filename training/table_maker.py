"""Evaluates every design of a scenario and makes a table of it; killed at any time, the same command goes on.

Designs are evaluated in chunks, one seed after the other. A finished chunk is a file in the folder ``.parts`` of the table, written in one
step, so nothing is evaluated twice but what was under way.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.meter import DIED
from agents.pool import LevelsJob, Pending, level_name, open_pool
from qumos_env import Evaluator
from qumos_env.env.actions import DesignState
from qumos_env.env.enumeration import all_designs
from qumos_env.errors import QumosError
from qumos_env.evaluation.evaluator import EVALUATION_VERSION
from qumos_env.evaluation.table import (
    HASH_BYTES,
    SECONDS,
    Manifest,
    as_bytes,
    columns_of,
    from_bytes,
    packed,
    read_table,
    unpacked,
    write_table,
)
from qumos_env.evaluation.workload import ROWS
from qumos_env.files import read_bytes, write_bytes, write_text
from qumos_env.registration import TABLE_SUFFIX
from qumos_env.scenario import Scenario

from .display import Display, duration
from .locking import held
from .rundir import folder_at, versions, written

CHUNK = 100
PARTS = ".parts"
_IDENTITY, _DESIGNS = "identity.json", "designs.npz"
_MOST_BYTES = 2**28
SECONDS_ARE = "processor seconds of one thread, of an evaluation with all draws on the search rows"


@dataclass(frozen=True)
class _Part:
    """A chunk of designs under one seed."""

    seed: int
    first: int
    last: int

    @property
    def name(self) -> str:
        return f"seed-{self.seed}-designs-{self.first}-{self.last}.npz"


def make_table(scenario: Scenario, seeds: int, workers: int, out: Path, display: Display) -> Manifest:
    """Makes the table of ``scenario`` in the folder ``out``, or goes on with it.

    Seeds are the scenario's and those that follow it. A table that is there already and fits is extended by the seeds that it lacks.

    Args:
        scenario: the problem; small, or this takes days.
        seeds: how many.
        workers: processes; 0 uses this one.
        out: the folder.
        display: shows progress.

    Raises:
        QumosError: ``scenario`` is that of a table; ``out`` holds work on something else or cannot be written.
    """
    if scenario.table is not None:
        raise QumosError(f"scenario {scenario.name} is that of a table; make one of {scenario.name.removesuffix(TABLE_SUFFIX)}")
    folder = folder_at(out)
    with written(folder):
        (folder / PARTS).mkdir(parents=True, exist_ok=True)
    with held(folder):
        return _make(scenario, tuple(range(scenario.seed, scenario.seed + seeds)), workers, folder, display)


def _make(scenario: Scenario, seeds: tuple[int, ...], workers: int, folder: Path, display: Display) -> Manifest:
    parts = folder / PARTS
    identity = {
        "scenario_hash": scenario.hash,
        "data_digest": Evaluator(scenario).workload.digest,
        "evaluation_version": EVALUATION_VERSION,
        "chunk": CHUNK,
    }
    _check_identity(parts, identity)
    actions, hashes = _designs(scenario, parts, display)
    done = _finished(folder, identity, hashes)
    todo = [
        _Part(seed, first, min(first + CHUNK, len(actions)))
        for seed in seeds
        if seed not in done
        for first in range(0, len(actions), CHUNK)
    ]
    left = [part for part in todo if not (parts / part.name).exists()]
    total, count = len(actions) * len(seeds), sum(part.last - part.first for part in left)
    start, finished = time.monotonic(), 0
    with display.work(f"evaluating {scenario.name}", total) as work:
        work.at(total - count)
        for part, arrays in _evaluated(scenario, actions, left, workers):
            with written(parts / part.name):
                write_bytes(parts / part.name, as_bytes(arrays))
            finished += part.last - part.first
            rate = finished / (time.monotonic() - start)
            work.at(total - count + finished, f"{rate:.1f} designs/s  {duration((count - finished) / rate)} left")
    manifest, found = _joined(scenario, seeds, folder, identity, done, actions, hashes)
    with written(folder):
        complete = write_table(folder, manifest, found)
        # All of it is in the table now, from which a larger one goes on.
        shutil.rmtree(parts)
    return complete


def _check_identity(parts: Path, identity: Mapping[str, object]) -> None:
    path = parts / _IDENTITY
    text = json.dumps(identity, sort_keys=True, indent=2) + "\n"
    if not path.exists():
        with written(path):
            write_text(path, text)
    elif read_bytes(path) != text.encode():
        raise QumosError(f"{parts}: work on another scenario or evaluation version; choose another folder, or remove it to begin anew")


def _designs(scenario: Scenario, parts: Path, display: Display) -> tuple[np.ndarray, np.ndarray]:
    """Actions and hashes of all designs, as ``Table`` has them."""
    path = parts / _DESIGNS
    if not path.exists():
        episodes, found = [], []
        with display.work(f"listing the designs of {scenario.name}") as work:
            for one in all_designs(scenario):
                episodes.append(one.actions)
                found.append(bytes.fromhex(one.design.hash)[:HASH_BYTES])
                work.at(len(found))
        hashes = np.frombuffer(b"".join(found), np.uint8).reshape(-1, HASH_BYTES)
        with written(path):
            write_bytes(path, as_bytes({"actions": packed(episodes), "hashes": hashes}))
    arrays = from_bytes(read_bytes(path, _MOST_BYTES), str(path))
    return arrays["actions"], arrays["hashes"]


def _finished(folder: Path, identity: Mapping[str, object], hashes: np.ndarray) -> dict[int, dict[str, np.ndarray]]:
    """Seed -> arrays of the table that is there already, as far as it is of the same designs, measured alike."""
    try:
        table = read_table(folder)
    except QumosError:
        return {}
    manifest = table.manifest
    if manifest.data_digest != identity["data_digest"] or manifest.scenario_hash != identity["scenario_hash"]:
        return {}
    if not np.array_equal(table.hashes, hashes):
        return {}
    names = list(columns_of(table.scenario))
    return {
        seed: {"values": np.stack([table.columns[name][:, place] for name in names], axis=-1), SECONDS: table.seconds[:, place]}
        for place, seed in enumerate(manifest.seeds)
    }


def _joined(
    scenario: Scenario,
    seeds: tuple[int, ...],
    folder: Path,
    identity: Mapping[str, Any],
    done: Mapping[int, Mapping[str, np.ndarray]],
    actions: np.ndarray,
    hashes: np.ndarray,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Manifest, without its checksum, and arrays of the table."""
    seeds = tuple(sorted({*seeds, *done}))
    by_seed = [done[seed] if seed in done else _of_seed(folder / PARTS, seed, len(actions)) for seed in seeds]
    columns = columns_of(scenario)
    values = np.stack([one["values"] for one in by_seed], axis=1)
    arrays = {name: np.ascontiguousarray(values[..., number]) for number, name in enumerate(columns)}
    seconds = np.stack([one[SECONDS] for one in by_seed], axis=1)
    manifest = {
        "scenario": scenario.model_dump(mode="json"),
        "scenario_hash": scenario.hash,
        "data_digest": identity["data_digest"],
        "evaluation_version": EVALUATION_VERSION,
        "designs": len(actions),
        "seeds": seeds,
        "draw_levels": scenario.draw_levels,
        "columns": columns,
        "seconds": SECONDS_ARE,
        "versions": versions(),
        "command": f"python -m training table make {scenario.name} --seeds {len(seeds)} --out {_shown(folder)}",
    }
    return manifest, arrays | {SECONDS: seconds, "actions": actions, "hashes": hashes}


def _shown(folder: Path) -> str:
    """``folder`` as one would write it from here."""
    return str(folder.relative_to(Path.cwd())) if folder.is_relative_to(Path.cwd()) else folder.name


def _of_seed(parts: Path, seed: int, count: int) -> dict[str, np.ndarray]:
    found = []
    for first in range(0, count, CHUNK):
        path = parts / _Part(seed, first, min(first + CHUNK, count)).name
        found.append(from_bytes(read_bytes(path, _MOST_BYTES), str(path)))
    return {name: np.concatenate([one[name] for one in found]) for name in ("values", SECONDS)}


def _evaluated(
    scenario: Scenario, actions: np.ndarray, parts: Sequence[_Part], workers: int
) -> Iterator[tuple[_Part, dict[str, np.ndarray]]]:
    """Every part with its arrays, in order."""
    with open_pool(scenario, workers) as pool:
        under_way: deque[tuple[_Part, list[Pending]]] = deque()
        # One part ahead, so that workers have something to do while the last designs of a part are waited for.
        for part in parts:
            designs = (DesignState(scenario).replay(unpacked(row)).design() for row in actions[part.first : part.last])
            under_way.append((part, [pool.submit(LevelsJob(design, part.seed)) for design in designs]))
            if len(under_way) > (1 if workers else 0):
                yield _gathered(scenario, *under_way.popleft())
        while under_way:
            yield _gathered(scenario, *under_way.popleft())


def _gathered(scenario: Scenario, part: _Part, pending: Sequence[Pending]) -> tuple[_Part, dict[str, np.ndarray]]:
    """``values`` float32 ``[designs, rows, draw_levels, columns]`` and ``seconds`` ``[designs]``; NaN and 0 where training broke down.

    Raises:
        QumosError: workers die of a design again and again, which says nothing of the design.
    """
    columns = list(columns_of(scenario))
    names = [[[level_name(rows, draws, name) for name in columns] for draws in scenario.draw_levels] for rows in ROWS]
    values = np.full((len(pending), *np.shape(names)), np.nan, np.float32)
    seconds = np.zeros(len(pending), np.float32)
    for number, one in enumerate(pending):
        outcome = one.result()
        if outcome.failure == DIED:
            raise QumosError(f"{outcome.failure} again and again; the same command goes on from what is finished")
        if found := outcome.evaluation:
            values[number] = [[[found.get(name, np.nan) for name in level] for level in levels] for levels in names]
            seconds[number] = found[SECONDS]
    return part, {"values": values, SECONDS: seconds}
