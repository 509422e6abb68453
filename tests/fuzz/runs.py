"""The files of a run: ``run.json``, the trace and the results."""

from __future__ import annotations

import json
import tempfile
from functools import cache, partial
from pathlib import Path

import numpy as np

from agents.protocol import Ledger, Outcome, SearchTask
from agents.sequences import balanced_actions
from qumos_env import Design
from training.rundir import RESULTS, RUN, TRACE, RunDirectory, TraceWriter, read_trace
from training.scoring import Scored
from training.tables import result_notes, results_table
from training.workflow import check_unchanged, make_plan, results_of

from .mutators import damaged, mutated, text_of
from .subject import Reading, spoil, write

TRIALS = 5


@cache
def _files() -> dict[str, bytes]:
    """The files of a finished run, whose figures are made up."""
    plan = make_plan(
        scenario="iris-smoke",
        agent="random",
        budget=TRIALS,
        seed=0,
        workers=0,
        time_limit=None,
        warm_start=None,
        random_budget=0,
        contenders=2,
        test_seeds=2,
        overrides={},
    )
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, RunDirectory.create(Path(folder) / "run", plan, force=False) as run:
        ledger = Ledger(SearchTask(plan.scenario, plan.budget), on_trial=lambda _: None, should_stop=lambda: False)
        outcome = Outcome(0.5, {"reward": 0.5, "accuracy": 0.8, "theft": 0.6, "control": 0.5})
        with TraceWriter(run.path / TRACE) as trace:
            for _ in range(TRIALS):
                trace.write(ledger.record(balanced_actions(plan.scenario, generator), outcome))
        scored = [Scored(name, Design.from_dict(ledger.trials[0].design), True, (outcome, outcome)) for name in ("winner", "hand-made")]
        run.write_results(results_of(plan.scenario, ledger.summary(), ledger.trials, scored, scored[0], scored[1:], scored[0]))
        run.save("done")
        return {name: (run.path / name).read_bytes() for name in (RUN, TRACE, RESULTS)}


def _case(name: str, generator: np.random.Generator, folder: Path) -> Path:
    """A run in which the file ``name`` is mutated; its folder."""
    files = dict(_files())
    if generator.random() < 0.3:
        files[name] = damaged(files[name], generator)
    else:
        lines = files[name].splitlines() if name == TRACE else [files[name]]
        number = int(generator.integers(len(lines)))
        lines[number] = text_of(mutated(json.loads(lines[number]), generator, as_text=True), toml=False).encode("utf-8", "surrogatepass")
        files[name] = b"\n".join(lines) + b"\n"
    for one, content in files.items():
        write(folder, one, content)
    if generator.random() < 0.02:
        spoil(folder / name, generator)
    return folder


def run_case(generator: np.random.Generator, folder: Path) -> Reading:
    """What ``resume`` reads first."""
    run = _case(RUN, generator, folder)
    return lambda: check_unchanged(RunDirectory.open(run))


def trace_case(generator: np.random.Generator, folder: Path) -> Reading:
    """What a search goes on from."""
    return partial(_go_on, _case(TRACE, generator, folder))


def _go_on(run: Path) -> None:
    plan = RunDirectory.open(run).plan
    ledger = Ledger(SearchTask(plan.scenario, plan.budget), on_trial=lambda _: None, should_stop=lambda: False)
    for trial in read_trace(run / TRACE):
        ledger.restore(trial)
    assert ledger.summary().distinct <= ledger.summary().episodes


def results_case(generator: np.random.Generator, folder: Path) -> Reading:
    """What ``report`` shows."""
    return partial(_show, _case(RESULTS, generator, folder))


def _show(run: Path) -> None:
    results = RunDirectory.open(run).results()
    assert results_table(results).row_count == 1 + len(results.rivals) and result_notes(results)
    assert len(Design.from_dict(results.winner.design).hash) == 64
