"""Runs under bad conditions: nothing is lost, and nothing that lies in a folder is trusted."""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import agents.pool.local
import training.rundir
from agents import AGENTS, Agent, SearchSummary, SearchTask, Trial
from agents.protocol import Ledger, Outcome
from agents.random_search import RandomSearcher
from agents.settings import AgentSettings
from qumos_env import Design, load_scenario
from qumos_env.cli import run as run_app
from qumos_env.errors import QumosError
from qumos_env.evaluation.cache import EvaluationCache, set_aside_damaged
from qumos_env.scenario import Scenario
from training import cli
from training.cli import app
from training.locking import LOCK, held
from training.rundir import RunDirectory, RunPlan, is_run, read_record, read_trace
from training.workflow import make_plan

ROOT = Path(__file__).resolve().parent.parent
SCENARIO = load_scenario("iris-smoke")


class CountingEvaluator:
    """Scores a design by its number of gates, in no time; keeps something in the cache."""

    hits = 0

    def __init__(self, scenario: Scenario, cache: str | None = None) -> None:
        self._cache = EvaluationCache(cache)

    def evaluate(
        self, design: Design, *, seed: int | None = None, rows: str = "search", limits: bool = True, draws: int | None = None
    ) -> Any:
        """As an evaluator does."""
        key = f"{design.hash}/{rows}/{seed}"
        if self._cache.get(key) is None:
            self._cache.put(key, key)

        class Evaluation:
            reward = len(design.gates) / 100 + (seed or 0) % 7 / 1000

            def to_dict(self) -> dict[str, float]:
                return {"reward": self.reward, "accuracy": 0.5}

        return Evaluation()


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations cost nothing, except where they run in other processes."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(agents.pool.local, "evaluator_of", CountingEvaluator)


def train(out: Path, *options: str) -> int:
    """Runs ``train`` in this process on the smoke scenario."""
    small = ["--scenario", "iris-smoke", "--workers", "0", "--contenders", "2", "--test-seeds", "2", "--random-budget", "0"]
    return run_app(app, ["train", *small, "--agent", "random", "--budget", "6", "--out", str(out), *options])


def resume(out: Path, *options: str) -> int:
    """Runs ``resume`` in this process."""
    return run_app(app, ["resume", str(out), *options])


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished run."""
    assert train(tmp_path / "run") == 0
    return tmp_path / "run"


def state(run: Path) -> str:
    """What ``run.json`` says."""
    found: str = json.loads((run / "run.json").read_text())["state"]
    return found


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def essence(run: Path) -> list[dict[str, object]]:
    """A trace without its clock."""
    return [trial.to_dict() | {"seconds": 0} for trial in read_trace(run / "trace.jsonl")]


def one_error(capfd: pytest.CaptureFixture[str]) -> str:
    """The error that was printed: one line, not too long."""
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.endswith("...")]
    assert len(lines) == 1 and lines[0].startswith("error: ") and len(lines[0]) < 500, lines
    return lines[0]


class TestFoldersOfOthers:
    """``--force`` replaces what we wrote and nothing else."""

    @pytest.mark.parametrize("marker", ['{"name": "my experiment"}', '{"schema_version": 1, "plan": {}}', "not JSON", ""])
    def test_a_foreign_run_json_does_not_make_a_folder_ours(self, marker: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        folder = tmp_path / "theirs"
        (folder / "checkpoint").mkdir(parents=True)
        (folder / "checkpoint" / "weights.bin").write_bytes(b"a month of work")
        (folder / "results.json").write_text("{}")
        (folder / "run.json").write_text(marker)
        before = content(folder)
        for options in ((), ("--force",)):
            assert train(folder, *options) == 2
            assert "other content" in one_error(capfd)
        assert content(folder) == before

    def test_a_foreign_results_json_neither(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "results.json").write_text('{"state": "running"}')
        (tmp_path / "random-0").mkdir()
        before = content(tmp_path)
        assert run_app(app, ["compare", "-s", "iris-smoke", "-a", "random", "--out", str(tmp_path), "--force"]) == 2
        assert "other content" in one_error(capfd)
        assert content(tmp_path) == before and not any((tmp_path / "random-0").iterdir())

    def test_in_our_own_folder_only_our_files_are_replaced(self, finished: Path) -> None:
        (finished / "notes.txt").write_text("the good one")
        (finished / "checkpoint").mkdir()
        (finished / "checkpoint" / "mine").write_text("mine")
        assert train(finished, "--seed", "1", "--force") == 0
        assert (finished / "notes.txt").read_text() == "the good one" and (finished / "checkpoint" / "mine").is_file()
        assert RunDirectory.open(finished).plan.seed == 1

    def test_what_an_earlier_try_left_is_no_other_content(self, tmp_path: Path) -> None:
        with held(tmp_path):
            pass
        assert is_run(tmp_path) and train(tmp_path, "--force") == 0

    def test_an_end_in_the_middle_of_the_first_write_is_no_other_content(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_json = training.rundir.write_json

        def killed(path: Path, data: Any) -> None:
            if path.name == "run.json":
                raise QumosError("as far as it got")
            write_json(path, data)

        with monkeypatch.context() as patched:
            patched.setattr(training.rundir, "write_json", killed)
            assert train(tmp_path / "run") == 2
        assert train(tmp_path / "run", "--force") == 0

    @pytest.mark.parametrize("name", ["report.html", "best_design.json", "trace.jsonl", "evaluations.sqlite", ".run.json.interrupted"])
    def test_links_in_a_run_lead_nowhere(self, name: str, finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
        elsewhere = finished.parent / "elsewhere"
        elsewhere.write_bytes(b"a month of work")
        (finished / name).unlink(missing_ok=True)
        (finished / name).symlink_to(elsewhere)
        capfd.readouterr()
        for command in (["report", str(finished)], ["resume", str(finished), "--budget", "8"]):
            assert run_app(app, command) == 2
            assert f"{name}: a link" in one_error(capfd)
        assert train(finished, "--force") == 2
        assert [entry.name for entry in finished.parent.iterdir() if entry.is_file()] == ["elsewhere"]
        assert elsewhere.read_bytes() == b"a month of work"

    def test_links_in_a_comparison_neither(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        out, elsewhere = tmp_path / "compared", tmp_path / "elsewhere"
        out.mkdir()
        (out / "results.json").write_text('{"kind": "comparison", "schema_version": 2}')
        elsewhere.write_bytes(b"a month of work")
        (out / "comparison.html").symlink_to(elsewhere)
        assert run_app(app, ["compare", "-s", "iris-smoke", "-a", "random", "--out", str(out), "--force"]) == 2
        assert "comparison.html: a link" in one_error(capfd)
        assert elsewhere.read_bytes() == b"a month of work"


HOLD = """
import sys, time
from pathlib import Path
from training.locking import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(finished: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works on the finished run."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(finished)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


class TestLock:
    """One driver at a time."""

    def test_a_second_driver_is_sent_away(self, finished: Path, holder: subprocess.Popen[str], capfd: pytest.CaptureFixture[str]) -> None:
        before = content(finished)
        for command in (lambda: resume(finished, "--budget", "9"), lambda: train(finished, "--force"), lambda: resume(finished)):
            assert command() == 2
            assert f"another process works on it (process {holder.pid} on" in one_error(capfd)
        assert content(finished) == before
        assert run_app(app, ["report", str(finished)]) == 0

    def test_the_lock_ends_with_its_holder(self, finished: Path, holder: subprocess.Popen[str]) -> None:
        holder.kill()
        holder.wait()
        assert resume(finished, "--budget", "9") == 0
        assert len({trial["design_hash"] for trial in essence(finished)}) == 9

    def test_a_comparison_is_held_too(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "compared"
        command = ["compare", "-s", "iris-smoke", "-a", "random", "--seeds", "1", "--budget", "3", "--workers", "0", "--out", str(out)]
        command += ["--contenders", "2", "--test-seeds", "2"]
        assert run_app(app, command) == 0
        capfd.readouterr()
        with held(out):
            assert run_app(app, [*command, "--force"]) == 2
            assert "another process works on it" in one_error(capfd)
        run = out / "iris-smoke" / "random-0"
        with held(run):
            (run / "run.json").write_bytes((run / "run.json").read_bytes().replace(b'"done"', b'"searching"'))
            assert run_app(app, [*command, "--force"]) == 2
        assert run_app(app, [*command, "--force"]) == 0

    def test_two_drivers_that_begin_at_once(self, tmp_path: Path) -> None:
        plan = plan_of()
        with RunDirectory.create(tmp_path / "run", plan, force=False) as run:
            for force in (False, True):
                with pytest.raises(QumosError, match=r"--force|another process"), RunDirectory.create(run.path, plan, force=force):
                    raise AssertionError("entered")
            with pytest.raises(QumosError, match="another process"), RunDirectory.resume(run.path):
                raise AssertionError("entered")

    def test_a_lock_that_is_a_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "precious").write_text("precious")
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / LOCK).symlink_to(tmp_path / "precious")
        with pytest.raises(QumosError, match="cannot be written"), held(tmp_path / "run"):
            raise AssertionError("entered")
        assert (tmp_path / "precious").read_text() == "precious"


def plan_of(**change: Any) -> RunPlan:
    """A small plan."""
    values: dict[str, Any] = {"scenario": "iris-smoke", "agent": "random", "budget": 6, "seed": 0, "workers": 0, "time_limit": None}
    values |= {"warm_start": None, "random_budget": 0, "contenders": 2, "test_seeds": 2, "overrides": {}}
    return make_plan(**(values | change))


def csv_scenario(folder: Path, rows: int) -> Path:
    """A scenario over a CSV file of that many rows."""
    rng = np.random.default_rng(0)
    lines = ["a,b,c,d,label"]
    lines += [",".join(f"{value:.6f}" for value in rng.normal(row % 2, 1, 4)) + f",{row % 2}" for row in range(rows)]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    path = folder / "mine.toml"
    text = (ROOT / "scenarios" / "iris-smoke.toml").read_text()
    source = next(line for line in text.splitlines() if line.startswith("source"))
    path.write_text(text.replace(source, 'source = "rows.csv"'))
    return path


class TestData:
    """A search goes on over the rows that it began with, or not at all."""

    def test_rows_deleted_between_two_sessions_are_noticed(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        scenario = csv_scenario(tmp_path, 150)
        run = tmp_path / "run"
        assert train(run, "--scenario", str(scenario)) == 0
        before = content(run)
        capfd.readouterr()
        csv_scenario(tmp_path, 111)
        assert resume(run, "--budget", "9") == 2
        message = one_error(capfd)
        assert "rows.csv" in message and "not the rows" in message
        assert {name: data for name, data in content(run).items() if name != LOCK} == {
            name: data for name, data in before.items() if name != LOCK
        }
        (tmp_path / "rows.csv").unlink()
        assert resume(run, "--budget", "9") == 2
        assert "rows.csv" in one_error(capfd)
        csv_scenario(tmp_path, 150)
        assert resume(run, "--budget", "9") == 0

    def test_a_comparison_runs_again_over_other_rows(self, tmp_path: Path) -> None:
        scenario, out = csv_scenario(tmp_path, 150), tmp_path / "compared"
        command = ["compare", "-s", str(scenario), "-a", "random", "--seeds", "1", "--budget", "3", "--workers", "0", "--out", str(out)]
        command += ["--contenders", "2", "--test-seeds", "2", "--force"]
        assert run_app(app, command) == 0
        first = next(out.glob("*/random-0/trace.jsonl")).stat().st_mtime_ns
        assert run_app(app, command) == 0
        assert next(out.glob("*/random-0/trace.jsonl")).stat().st_mtime_ns == first
        csv_scenario(tmp_path, 111)
        assert run_app(app, command) == 0
        assert next(out.glob("*/random-0/trace.jsonl")).stat().st_mtime_ns != first

    def test_a_run_that_kept_no_digest_goes_on(self, finished: Path) -> None:
        data = json.loads((finished / "run.json").read_text())
        assert len(data["plan"].pop("data_digest")) == 64
        (finished / "run.json").write_text(json.dumps(data))
        assert resume(finished, "--budget", "8") == 0

    def test_another_scenario_under_the_same_plan_is_noticed(self, finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
        data = json.loads((finished / "run.json").read_text())
        data["scenario_hash"] = "0" * 64
        (finished / "run.json").write_text(json.dumps(data))
        capfd.readouterr()
        assert resume(finished, "--budget", "8") == 2
        assert "iris-smoke or its device profiles" in one_error(capfd)


class TestCache:
    """The evaluation cache of a run that is no cache."""

    @pytest.mark.parametrize("damage", ["junk", "torn", "another table", "a view"])
    def test_it_is_set_aside(self, damage: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        run = tmp_path / "run"
        assert train(run) == 0
        cache = run / "evaluations.sqlite"
        whole = cache.read_bytes()
        if damage == "junk":
            cache.write_bytes(b"junk " * 5000)
        elif damage == "torn":
            cache.write_bytes(whole[: len(whole) // 2])
        else:
            cache.unlink()
            with closing(sqlite3.connect(cache)) as connection, connection:
                endless = "WITH RECURSIVE n(key, value) AS (SELECT 1, 1 UNION ALL SELECT key, value FROM n) SELECT * FROM n"
                view = f"CREATE VIEW evaluations AS {endless}"
                connection.execute(view if damage == "a view" else "CREATE TABLE evaluations (x TEXT)")
        damaged = cache.read_bytes()
        capfd.readouterr()
        assert resume(run, "--budget", "7") == 0
        warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning")]
        assert len(warnings) == 1 and "set aside as evaluations.sqlite.damaged-1" in warnings[0]
        assert (run / "evaluations.sqlite.damaged-1").read_bytes() == damaged
        assert cache.read_bytes() != damaged and cache.stat().st_size > 0

    def test_names_of_damaged_files_are_not_used_twice(self, tmp_path: Path) -> None:
        cache = tmp_path / "cache.sqlite"
        assert set_aside_damaged(cache) is None
        for number in (1, 2):
            cache.write_bytes(b"junk" * number * 1000)
            (tmp_path / "cache.sqlite-journal").write_bytes(b"journal")
            assert set_aside_damaged(cache) == tmp_path / f"cache.sqlite.damaged-{number}"
            assert not (tmp_path / "cache.sqlite-journal").exists()
        EvaluationCache(cache).put("key", "value")
        assert set_aside_damaged(cache) is None and EvaluationCache(cache).get("key") == "value"


def registered(search: Callable[..., SearchSummary]) -> Agent:
    """An agent of this file."""
    return Agent("tried", AgentSettings, search)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., SearchSummary]], None]:
    """Registers a search function as the agent ``tried``."""

    def use(search: Callable[..., SearchSummary]) -> None:
        monkeypatch.setitem(AGENTS, "tried", registered(search))

    return use


class TestAborts:
    """Whatever ends a run, it can go on, and the message says what it was."""

    def test_a_full_disk_leaves_the_run_interrupted(
        self,
        tried: Callable[[Callable[..., SearchSummary]], None],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        def search(task: SearchTask, *, on_trial: Callable[[Trial], None], **others: Any) -> SearchSummary:
            def full(path: Path, text: str) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            # From now on nothing can be written any more, not even what the run's state is.
            monkeypatch.setattr(training.rundir, "write_text", full)
            ledger = Ledger(task, on_trial, lambda: False)
            ledger.record(RandomSearcher(task.scenario, 0).ask().actions, Outcome(0.5, {}))
            raise AssertionError("not reached")

        tried(search)
        assert train(tmp_path / "run", "--agent", "tried") == 2
        message = one_error(capfd)
        assert "best_design.json: cannot be written (No space left on device)" in message
        assert state(tmp_path / "run") == "interrupted"

    def test_a_disk_that_is_full_for_the_trace_as_well(self, tmp_path: Path) -> None:
        # The size limit of a process stands for the disk: the trace, or the cache, is the first file to reach it.
        limited = (
            "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\nfrom training.cli import main\nmain()\n"
        )
        run = tmp_path / "run"
        small = ["--scenario", "iris-smoke", "--workers", "0", "--contenders", "2", "--test-seeds", "2", "--random-budget", "0"]
        command = ["train", *small, "--agent", "random", "--budget", "30", "--out", str(run)]
        ended = subprocess.run([sys.executable, "-c", limited, *command], cwd=ROOT, capture_output=True, text=True)
        assert ended.returncode == 2
        (error,) = [line for line in ended.stderr.splitlines() if line.startswith("error")]
        assert str(run) in error and "error: file" not in error and len(error) < 500
        assert state(run) == "interrupted"
        found = essence(run)
        assert 0 < len(found) < 30

    def test_any_error_of_a_search_leaves_the_run_interrupted(
        self, tried: Callable[[Callable[..., SearchSummary]], None], tmp_path: Path
    ) -> None:
        for number, error in enumerate((QumosError("broken"), RuntimeError("broken"), KeyboardInterrupt(), SystemExit(15))):

            def search(task: SearchTask, error: BaseException = error, **others: Any) -> SearchSummary:
                raise error

            tried(search)
            with pytest.raises(type(error)), RunDirectory.create(tmp_path / str(number), plan_of(agent="tried"), force=False) as run:
                cli._finish(run, cli.Display(quiet=True), as_json=False)
            assert state(run.path) == "interrupted" == run.state
            assert {entry.name for entry in run.path.iterdir()} <= {"run.json", "trace.jsonl", LOCK}

    def test_an_interrupt_while_scoring_can_be_resumed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run = tmp_path / "run"

        def interrupted(*arguments: object, **options: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("training.workflow.score", interrupted)
            assert train(run) == 130
        assert state(run) == "interrupted" and not (run / "results.json").exists()
        before = essence(run)
        assert resume(run) == 0
        assert state(run) == "done" and essence(run) == before

    @pytest.mark.slow
    def test_sigterm_while_a_command_does_something_else_is_ctrl_c(self, tmp_path: Path) -> None:
        script = (
            "import os, signal, training.workflow as w\n"
            "from training.cli import main\n"
            "w.score = lambda *a, **k: os.kill(os.getpid(), signal.SIGTERM)\n"
            "main()\n"
        )
        small = ["--scenario", "iris-smoke", "--workers", "0", "--contenders", "2", "--test-seeds", "2", "--random-budget", "0"]
        command = ["train", *small, "--agent", "random", "--budget", "3", "--out", str(tmp_path / "run")]
        ended = subprocess.run([sys.executable, "-c", script, *command], cwd=ROOT, capture_output=True, text=True)
        assert ended.returncode == 130 and "Traceback" not in ended.stderr
        assert state(tmp_path / "run") == "interrupted"


class TestFinished:
    """A finished run is resumed."""

    def test_nothing_is_left_to_do(self, finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
        before = content(finished)
        capfd.readouterr()
        for options in ((), ("--budget", "6")):
            assert resume(finished, *options) == 0
            printed = capfd.readouterr()
            assert "nothing is left to do" in printed.err and "--budget" in printed.err
            assert "winner" in printed.out and "encode-only" in printed.out and "search: 6 designs" in printed.out
        assert resume(finished, "--json") == 0
        assert json.loads(capfd.readouterr().out) == json.loads((finished / "results.json").read_text())
        assert {name: data for name, data in content(finished).items() if name != LOCK} == {
            name: data for name, data in before.items() if name != LOCK
        }

    def test_results_that_were_deleted_are_made_again(self, finished: Path) -> None:
        before = essence(finished), json.loads((finished / "results.json").read_text()) | {"work": None}
        (finished / "results.json").unlink()
        assert resume(finished) == 0
        after = json.loads((finished / "results.json").read_text())
        assert (essence(finished), after | {"work": None}) == before
        assert after["work"]["evaluations"] > 0

    def test_a_path_that_is_no_text(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run = tmp_path / os.fsdecode(b"r\xe9n [/b]")
        monkeypatch.setattr(sys, "argv", ["training", "train", "--out", str(run)])
        assert train(run) == 0
        assert resume(run, "--budget", "7") == 0 and run_app(app, ["report", str(run)]) == 0

    def test_a_run_that_the_clock_ended_goes_on(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert train(tmp_path / "run", "--budget", "100000", "--time-limit", "0.2") == 0
        found = len(essence(tmp_path / "run"))
        capfd.readouterr()
        assert resume(tmp_path / "run", "--time-limit", "0.5") == 0
        assert "nothing is left" not in capfd.readouterr().err and len(essence(tmp_path / "run")) > found


DEEP = b"[" * 100_000
DIGITS = b"9" * 5_000


class TestHostileFiles:
    """What lies in a run's folder is read by somebody who does not trust it."""

    @pytest.mark.parametrize("name", ["run.json", "results.json", "trace.jsonl"])
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\0" * 100 + b"\n",
            b"null\n",
            b"[]\n",
            b"{}\n",
            b'{"index": ' + DEEP + b"\n",
            b'{"schema_version": ' + DIGITS + b"}\n",
            b'{"' + b"k" * 100_000 + b'": 1}\n',
            b'{"distinct": "' + b"x" * 100_000 + b'"}\n',
            b'{"a": "\xff"}\n',
            b'{"a": "\\ud800"}\n',
            b"NaN\n",
        ],
    )
    def test_one_line_and_no_more(self, name: str, data: bytes, finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
        (finished / name).write_bytes(data)
        capfd.readouterr()
        if name == "trace.jsonl" and data == b"":
            assert read_trace(finished / name) == []
            return
        for command in (["report", str(finished)], ["resume", str(finished), "--budget", "8"]):
            if (name, command[0]) == ("results.json", "resume"):
                command = command[:2]
            assert run_app(app, command) == 2
            assert name in one_error(capfd)

    @pytest.mark.parametrize("name", ["run.json", "results.json", "trace.jsonl"])
    def test_ten_gigabytes_of_nothing(self, name: str, finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
        with (finished / name).open("r+b") as handle:
            handle.truncate(10 * 2**30)
        capfd.readouterr()
        assert run_app(app, ["report", str(finished)]) == 2
        assert f"{name}" in (message := one_error(capfd)) and "longer than" in message

    @pytest.mark.parametrize("name", ["run.json", "results.json", "trace.jsonl"])
    def test_no_file_at_all(self, name: str, finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
        for make in (lambda path: path.mkdir(), os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
            path = finished / name
            path.rmdir() if path.is_dir() else path.unlink()
            make(path)  # type: ignore[no-untyped-call]
            capfd.readouterr()
            assert run_app(app, ["report", str(finished)]) == 2
            assert "not a file" in one_error(capfd)

    def test_paths_that_are_none(self, capfd: pytest.CaptureFixture[str]) -> None:
        for path in ("runs/\0mine", "x" * 10_000, "/dev/null/run"):
            for command in (["report", path], ["resume", path]):
                assert run_app(app, command) == 2
                one_error(capfd)
            with pytest.raises(QumosError), RunDirectory.create(path, plan_of(), force=True):
                raise AssertionError("entered")
            assert train(Path(path)) == 2
            one_error(capfd)

    def test_a_path_with_a_nul_among_the_data(self, finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
        data = json.loads((finished / "run.json").read_text())
        data["plan"]["scenario"]["data"]["source"] = "rows\0.csv"
        (finished / "run.json").write_text(json.dumps(data))
        capfd.readouterr()
        assert resume(finished, "--budget", "8") == 2
        one_error(capfd)

    def test_an_agent_whose_name_is_a_formula(self, finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
        data = json.loads((finished / "run.json").read_text())
        data["plan"]["agent"] = "$\\frac{$ [/b]"
        (finished / "run.json").write_text(json.dumps(data))
        capfd.readouterr()
        assert run_app(app, ["report", str(finished)]) == 0
        assert resume(finished, "--budget", "8") == 2
        assert "unknown agent" in one_error(capfd)

    def test_numbers_that_nobody_needs(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        options = [("--workers", 10**6), ("--budget", 10**12), ("--seed", 10**30), ("--contenders", 10**9), ("--test-seeds", 10**9)]
        for option, number in [*options, ("--set", f"lag={10**9}"), ("--set", "lag=0"), ("--set", "lag=" + "9" * 5000)]:
            assert train(tmp_path / "run", option, str(number)) == 2
            one_error(capfd)
        assert not (tmp_path / "run").exists()


def test_every_record_says_which_file(tmp_path: Path) -> None:
    with pytest.raises(QumosError, match=r"nothing\.json: not found \(a hint\)"):
        read_record(RunPlan, tmp_path / "nothing.json", hint="a hint")


@pytest.mark.slow
class TestSignals:
    """Requests of the system to end, and ends without one."""

    def driver(self, run: Path, agent: str, workers: int, budget: int = 3000) -> subprocess.Popen[bytes]:
        """A search in a process group of its own, past its eighth trial."""
        small = ["--scenario", "iris-smoke", "--contenders", "2", "--test-seeds", "2", "--random-budget", "2", "--out", str(run)]
        command = [sys.executable, "-m", "training", "train", *small, "--agent", agent, "--workers", str(workers), "--budget", str(budget)]
        with (run.parent / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 300
        while not (run / "trace.jsonl").exists() or (run / "trace.jsonl").read_bytes().count(b"\n") < 9:
            assert process.poll() is None and time.monotonic() < deadline, (run.parent / "log").read_text()
            time.sleep(0.1)
        return process

    @pytest.mark.parametrize(
        ("agent", "number", "to_group"),
        [
            ("evolution", signal.SIGTERM, False),
            ("evolution", signal.SIGINT, True),
            pytest.param("reinforce", signal.SIGTERM, False, marks=pytest.mark.rllib),
            pytest.param("reinforce", signal.SIGTERM, True, marks=pytest.mark.rllib),
            pytest.param("ppo", signal.SIGINT, True, marks=pytest.mark.rllib),
        ],
    )
    def test_a_search_ends_in_its_own_way(self, agent: str, number: int, to_group: bool, tmp_path: Path) -> None:
        run = tmp_path / "run"
        process = self.driver(run, agent, 1)
        (os.killpg if to_group else os.kill)(process.pid, number)
        assert process.wait(timeout=300) == 0, (tmp_path / "log").read_text()
        assert state(run) == "interrupted" and (run / "results.json").is_file() and (run / "best_design.json").is_file()
        assert "*** " not in (tmp_path / "log").read_text() and "Traceback" not in (tmp_path / "log").read_text()
        assert [trial["index"] for trial in essence(run)] == list(range(len(essence(run))))

    def test_a_killed_driver_is_resumed_to_the_same_trace(self, tmp_path: Path) -> None:
        whole = tmp_path / "whole"
        whole.mkdir()
        expected = self.driver(whole / "run", "evolution", 0, budget=40)
        assert expected.wait(timeout=300) == 0
        process = self.driver(tmp_path / "run", "evolution", 2, budget=40)
        process.kill()
        process.wait()
        assert state(tmp_path / "run") == "searching"
        assert resume(tmp_path / "run") == 0
        assert state(tmp_path / "run") == "done" and essence(tmp_path / "run") == essence(whole / "run")

    def test_a_hangup_ends_a_search_and_loses_nothing(self, tmp_path: Path) -> None:
        """The terminal is closed: the trace so far is whole, and resuming gives the uninterrupted one."""
        whole = tmp_path / "whole"
        whole.mkdir()
        expected = self.driver(whole / "run", "evolution", 0, budget=40)
        assert expected.wait(timeout=300) == 0
        process = self.driver(tmp_path / "run", "evolution", 2, budget=40)
        os.killpg(process.pid, signal.SIGHUP)
        process.wait(timeout=300)
        assert state(tmp_path / "run") == "done" or resume(tmp_path / "run") == 0
        assert essence(tmp_path / "run") == essence(whole / "run")

    def test_a_locked_cache_delays_and_loses_nothing(self, tmp_path: Path) -> None:
        """Somebody else has the cache for some seconds."""
        whole = tmp_path / "whole"
        whole.mkdir()
        expected = self.driver(whole / "run", "evolution", 0, budget=40)
        assert expected.wait(timeout=300) == 0
        process = self.driver(tmp_path / "run", "evolution", 2, budget=40)
        with closing(sqlite3.connect(tmp_path / "run" / "evaluations.sqlite", timeout=60, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            time.sleep(3)
            other.execute("ROLLBACK")
        assert process.wait(timeout=300) == 0, (tmp_path / "log").read_text()
        assert essence(tmp_path / "run") == essence(whole / "run")

    @pytest.mark.rllib
    @pytest.mark.parametrize(
        ("agent", "part"), [("reinforce", "gcs_server"), ("reinforce", "raylet/raylet"), ("reinforce", "driver"), ("ppo", "driver")]
    )
    def test_whatever_of_ray_is_killed_each_evaluation_is_there_once(self, agent: str, part: str, tmp_path: Path) -> None:
        run, budget = tmp_path / "run", 30
        process = self.driver(run, agent, 1, budget=budget)
        children = psutil.Process(process.pid).children(recursive=True)
        killed = [process.pid] if part == "driver" else [one.pid for one in children if part in " ".join(one.cmdline())]
        assert killed
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        process.wait(timeout=300)
        if state(run) != "done":
            command = [sys.executable, "-m", "training", "resume", str(run)]
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
            assert ended.returncode == 0, ended.stderr
        assert state(run) == "done"
        trials = essence(run)
        assert [trial["index"] for trial in trials] == list(range(len(trials)))
        evaluated = [trial["design_hash"] for trial in trials if trial["design_hash"] and not trial["repeated"]]
        assert len(evaluated) == len(set(evaluated)) and (len(evaluated) == budget or len(trials) == 5 * budget)
        assert not any(trial["failure"] for trial in trials if trial["design_hash"])
