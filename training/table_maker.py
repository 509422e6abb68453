"""Evaluates every design of a scenario and makes a table of it; killed at any time, the same command goes on.

Designs are evaluated in chunks, one seed after the other. A finished chunk is a file in the folder ``.parts`` of the table, written in one
step, so nothing is evaluated twice but what was under way.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from qumos_env import Design, Evaluator
from qumos_env.env.actions import DesignState
from qumos_env.env.enumeration import all_designs
from qumos_env.errors import EvaluationFailure, QumosError
from qumos_env.evaluation.evaluator import EVALUATION_VERSION
from qumos_env.evaluation.table import (
    HASH_BYTES,
    SECONDS,
    Manifest,
    as_bytes,
    columns_of,
    from_bytes,
    measurements,
    packed,
    read_table,
    write_table,
)
from qumos_env.evaluation.workload import ROWS
from qumos_env.files import read_bytes, write_bytes, write_text
from qumos_env.scenario import Scenario, parse_scenario

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
        QumosError: ``out`` holds work on something else, cannot be written, or a worker died; what was finished is kept.
    """
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
    """Every part with its arrays, in the order in which they are finished."""
    table_row = [tuple(row[row != np.iinfo(row.dtype).max].tolist()) for row in actions]
    if not workers:
        evaluator = Evaluator(scenario)
        for part in parts:
            yield part, evaluate_part(evaluator, table_row[part.first : part.last], part.seed)
        return
    waiting = iter(parts)
    under_way: dict[Future[dict[str, np.ndarray]], _Part] = {}
    with ProcessPoolExecutor(workers, get_context("forkserver"), _begin, (scenario.model_dump(mode="json"),)) as pool:
        try:
            while True:
                for part in _some(waiting, 2 * workers - len(under_way)):
                    under_way[pool.submit(_work, table_row[part.first : part.last], part.seed)] = part
                if not under_way:
                    return
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    yield under_way.pop(future), future.result()
        except BrokenProcessPool as error:
            raise QumosError("a worker died; the same command goes on from what is finished") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _some(parts: Iterator[_Part], count: int) -> Iterable[_Part]:
    return [part for _, part in zip(range(count), parts, strict=False)]


_EVALUATORS: list[Evaluator] = []


def _begin(scenario: dict[str, object]) -> None:
    _EVALUATORS.append(Evaluator(parse_scenario(scenario)))


def _work(episodes: Sequence[Sequence[int]], seed: int) -> dict[str, np.ndarray]:
    return evaluate_part(_EVALUATORS[0], episodes, seed)


def evaluate_part(evaluator: Evaluator, episodes: Sequence[Sequence[int]], seed: int) -> dict[str, np.ndarray]:
    """``values`` float32 ``[designs, rows, draw_levels, columns]`` and ``seconds`` ``[designs]`` of the designs that ``episodes`` build."""
    scenario = evaluator.scenario
    columns, levels = columns_of(scenario), scenario.draw_levels
    values = np.full((len(episodes), len(ROWS), len(levels), len(columns)), np.nan, np.float32)
    seconds = np.zeros(len(episodes), np.float32)
    for rows in ROWS:
        evaluator.workload.control(seed, rows)  # made once and not part of what a design takes
    with threadpool_limits(1):
        for number, episode in enumerate(episodes):
            seconds[number] = _evaluate(evaluator, DesignState(scenario).replay(episode).design(), seed, values[number])
    return {"values": values, SECONDS: seconds}


def _evaluate(evaluator: Evaluator, design: Design, seed: int, values: np.ndarray) -> float:
    """Fills ``values`` ``[rows, draw_levels, columns]``; returns the processor seconds of an evaluation on the search rows."""
    columns, levels = columns_of(evaluator.scenario), evaluator.scenario.draw_levels
    start = time.process_time()
    searched = start
    try:
        for rows, draws, evaluation in evaluator.evaluate_levels(design, seed=seed):
            values[ROWS.index(rows), levels.index(draws)] = measurements(evaluation, columns)
            if rows == "search":
                searched = time.process_time()
    except EvaluationFailure:
        values[:] = np.nan
        searched = time.process_time()
    return searched - start
