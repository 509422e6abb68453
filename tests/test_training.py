"""``python -m training``: selection, run directories, resuming, comparing, the command line."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from agents.pool import Job
from agents.protocol import Outcome, Trial
from agents.random_search import RandomSearcher
from qumos_env import Design, load_scenario
from qumos_env.cli import run as run_app
from qumos_env.design import Gate
from qumos_env.env.actions import DesignState
from qumos_env.errors import QumosError
from qumos_env.registration import scenario_folder
from training.cli import app
from training.comparison.page import write_page
from training.comparison.results import AgentRuns, Comparison, ScenarioResults
from training.comparison.tables import aggregate, markdown
from training.curves import area_under, best_per_design, measured, search_best, top_ten
from training.locking import LOCK
from training.rundir import RunDirectory, read_record, read_trace
from training.scoring import RACE_SEED, TEST_SEED, Entrant, Scored, contenders, paired_difference, race, race_length, score
from training.statistics import (
    aggregate_iqm,
    bootstrap_interval,
    improvement_interval,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)
from training.stopping import StopRequest

SCENARIO = load_scenario("iris-smoke")


def designs(count: int) -> list[Design]:
    """Distinct random designs of the smoke scenario."""
    scenario = load_scenario("iris-smoke")
    searcher = RandomSearcher(scenario, 0)
    found: dict[str, Design] = {}
    while len(found) < count:
        design = DesignState(scenario).replay(searcher.ask().actions).design()
        found[design.hash] = design
    return list(found.values())


def trial(index: int, design: Design, reward: float, *, repeated: bool = False, failure: str = "", draws: int | None = None) -> Trial:
    """A trial as a trace holds it."""
    return Trial(
        index=index,
        design=design.to_dict(),
        design_hash=design.hash,
        actions=(),
        reward=reward,
        evaluation={},
        failure=failure,
        repeated=repeated,
        seconds=float(index),
        draws=draws,
    )


class NoisyPool:
    """A pool whose designs have a true value and whose evaluations are noisy; keeps the jobs."""

    def __init__(self, values: dict[str, float], noise: float) -> None:
        self.scenario = load_scenario("iris-smoke")
        self._values = values
        self._noise = noise
        self.jobs: list[Job] = []

    def run(self, jobs: list[Job], on_result: Callable[[int], None]) -> list[Outcome]:
        """Noise that depends on design and seed only."""
        outcomes = []
        for number, job in enumerate(jobs):
            assert job.seed is not None
            noise = np.random.default_rng([int(job.design.hash[:8], 16), job.seed]).normal() * self._noise
            outcomes.append(Outcome(self._values[job.design.hash] + float(noise), {"accuracy": 0.5}))
            on_result(number + 1)
        self.jobs += jobs
        return outcomes


class TestStatistics:
    """Intervals."""

    def test_intervals_over_seeds_are_students(self) -> None:
        values = (0.1, 0.4, 0.35, 0.2, 0.25)
        low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
        interval = Scored("x", designs(1)[0], True, tuple(Outcome(value) for value in values)).reward
        assert (interval.mean, interval.low, interval.high) == pytest.approx((np.mean(values), low, high))
        assert interval.half == pytest.approx((high - low) / 2)

    def test_one_figure_has_no_interval(self) -> None:
        single = Scored("x", designs(1)[0], True, (Outcome(0.3),)).reward
        assert math.isnan(single.half) and single.mean == 0.3
        assert math.isnan(bootstrap_interval([0.3]).half)

    def test_interquartile_mean_ignores_the_outer_quarters(self) -> None:
        assert interquartile_mean([0.0, 1.0, 2.0, 100.0]) == 1.5
        assert interquartile_mean([1.0, 3.0]) == 2.0

    def test_bootstrap_interval_covers_the_mean(self) -> None:
        rng = np.random.default_rng(0)
        covered = [(lambda i: i.low <= 0.5 <= i.high)(bootstrap_interval(rng.normal(0.5, 0.1, 20), seed)) for seed in range(40)]
        assert np.mean(covered) > 0.8


class TestSelection:
    """From many trials to one winner."""

    def test_contenders_are_distinct_and_the_best(self) -> None:
        a, b, c = designs(3)
        trials = [trial(0, a, 0.2), trial(1, b, 0.9, failure="diverged"), trial(2, c, 0.5), trial(3, a, 0.2, repeated=True)]
        assert contenders(SCENARIO, trials, 16) == [c, a]
        assert contenders(SCENARIO, trials, 1) == [c]

    def test_designs_measured_with_few_draws_only_fill_up(self) -> None:
        a, b, c = designs(3)
        trials = [trial(0, a, 0.9, draws=1), trial(1, b, 0.8, draws=1), trial(2, c, 0.3, draws=2), trial(3, b, 0.2, draws=2)]
        assert contenders(SCENARIO, trials, 16) == [c, b, a]
        assert search_best(SCENARIO, trials) == 0.3
        assert search_best(SCENARIO, trials[:2]) == 0.9

    def test_curves_count_what_was_paid_for(self) -> None:
        a, b, c = designs(3)
        trials = [trial(0, a, 0.9, draws=1), trial(1, b, 0.1, draws=2), trial(2, a, 0.9, draws=1, repeated=True), trial(3, a, 0.4, draws=2)]
        assert [(one.spent, one.full) for one in measured(SCENARIO, trials)] == [(0.5, False), (1.5, True), (2.0, True)]
        assert best_per_design(SCENARIO, trials) == pytest.approx([math.nan, 0.4], nan_ok=True)
        assert best_per_design(SCENARIO, [trial(0, a, 0.2), trial(1, b, 0.5), trial(2, c, 0.3)]) == [0.2, 0.5, 0.5]

    def test_designs_beyond_the_limits_race_as_references(self) -> None:
        free = Design((0, 0, 0, 0), ("aurora",), (Gate("ry", (0,)),))
        pool = NoisyPool({free.hash: 0.3}, 0.0)
        (scored,) = race(pool, [free], lambda _: None)  # type: ignore[arg-type]
        assert not scored.limits and not any(job.limits for job in pool.jobs)

    def test_the_race_finds_the_best_in_noise(self) -> None:
        entrants = designs(16)
        values = {design.hash: 0.4 + 0.01 * index for index, design in enumerate(entrants)}
        pool = NoisyPool(values, noise=0.02)
        done: list[int] = []
        ranked = race(pool, entrants, done.append)  # type: ignore[arg-type]
        assert values[ranked[0].design.hash] >= 0.53
        assert len(ranked) == 16 and len({one.design.hash for one in ranked}) == 16
        assert done[-1] == len(pool.jobs) == race_length(16)
        # The winner is judged by fresh seeds on search rows, eight of them, never by the test split.
        assert {job.rows for job in pool.jobs} == {"search"}
        assert {job.seed for job in pool.jobs} == {RACE_SEED + seed for seed in range(8)}
        assert [len(one.outcomes) for one in ranked] == [8] * 4 + [4] * 4 + [2] * 8

    def test_a_race_of_one_is_short(self) -> None:
        (only,) = designs(1)
        pool = NoisyPool({only.hash: 0.3}, 0.0)
        assert race(pool, [only], lambda _: None)[0].design == only  # type: ignore[arg-type]
        assert len(pool.jobs) == 2

    def test_test_scores_are_paired(self) -> None:
        a, b = designs(2)
        pool = NoisyPool({a.hash: 0.5, b.hash: 0.4}, 0.0)
        first, second = score(pool, [Entrant("a", a), Entrant("b", b, limits=False)], 3, lambda _: None)  # type: ignore[arg-type]
        assert {job.rows for job in pool.jobs} == {"test"}
        assert [job.seed for job in pool.jobs] == [TEST_SEED, TEST_SEED + 1, TEST_SEED + 2] * 2
        assert [job.limits for job in pool.jobs] == [True] * 3 + [False] * 3
        assert paired_difference(first, second).mean == pytest.approx(0.1)
        assert paired_difference(first, second).half == pytest.approx(0.0, abs=1e-12)

    def test_failed_evaluations_count_as_zero_reward_only(self) -> None:
        (design,) = designs(1)
        scored = Scored("x", design, True, (Outcome(0.6, {"accuracy": 0.8}), Outcome(0.0, {}, "diverged")))
        assert scored.reward.mean == 0.3 and scored.mean("accuracy") == 0.8 and scored.failures == 1


class TestStopping:
    """Time limits and signals."""

    def test_the_first_signal_asks_and_the_second_interrupts(self) -> None:
        before = signal.getsignal(signal.SIGINT)
        asked: list[bool] = []
        with StopRequest(None, lambda: asked.append(True)) as stop:
            assert not stop()
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop() and asked == [True]
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is before

    def test_the_time_limit(self) -> None:
        with StopRequest(0.0) as stop:
            assert stop() and not stop.requested
        with StopRequest(1000.0) as stop:
            assert not stop() and 990 < stop.seconds_left <= 1000


def train(out: Path, *options: str) -> int:
    """Runs ``train`` in this process on the smoke scenario."""
    small = ["--scenario", "iris-smoke", "--workers", "0", "--contenders", "3", "--test-seeds", "2", "--random-budget", "3"]
    return run_app(app, ["train", *small, "--out", str(out), *options])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert train(out, "--agent", "evolution", "--budget", "14", "--seed", "3", "--set", "population=6", "--set", "tournament=2") == 0
    return out


class TestTrain:
    """A whole run."""

    def test_the_run_directory_is_complete(self, finished: Path) -> None:
        names = {path.name for path in finished.iterdir()}
        assert names == {"run.json", "trace.jsonl", "best_design.json", "results.json", "report.html", "evaluations.sqlite", LOCK}
        run = json.loads((finished / "run.json").read_text())
        assert run["state"] == "done" and run["scenario_hash"] == load_scenario("iris-smoke").hash
        assert run["plan"]["settings"]["population"] == 6 and run["plan"]["seed"] == 3
        assert {"python", "torch", "cirq-core", "qsimcirq"} <= run["versions"].keys()

    def test_the_trace_holds_every_trial(self, finished: Path) -> None:
        trials = read_trace(finished / "trace.jsonl")
        assert sum(not one.repeated for one in trials) == 14
        assert [one.index for one in trials] == list(range(len(trials)))
        assert all(one.failure or one.evaluation["rows"] == "search" for one in trials)

    def test_the_results_set_winner_and_references_side_by_side(self, finished: Path) -> None:
        results = json.loads((finished / "results.json").read_text())
        assert Design.load(finished / "best_design.json").hash == results["winner"]["design_hash"]
        assert {one["name"] for one in results["hand_made"]} >= {"encode-only", "interleaved-1", "centralised-1"}
        assert results["random"]["name"].startswith("random")
        assert len(results["winner"]["rewards"]) == 2 and len(results["race"]) == 3
        best = next(one for one in results["hand_made"] if one["name"] == results["best_hand_made"])
        assert best["within_limits"] and all(one["reward"] <= best["reward"] for one in results["hand_made"] if one["within_limits"])
        difference = results["winner_minus_best_hand_made"]["mean"]
        assert difference == pytest.approx(results["winner"]["reward"] - best["reward"])

    def test_the_report_is_self_contained(self, finished: Path) -> None:
        page = (finished / "report.html").read_text(encoding="utf-8")
        assert page.count("data:image/png;base64,") == 2
        assert "http://" not in page and "https://" not in page and "<script" not in page
        assert "interleaved-1" in page and "python -m training" in page

    def test_report_can_be_written_again(self, finished: Path) -> None:
        (finished / "report.html").unlink()
        assert run_app(app, ["report", str(finished)]) == 0
        assert (finished / "report.html").is_file()

    def test_json_output_is_only_json(self, finished: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        assert train(tmp_path / "run", "--agent", "random", "--budget", "3", "--json") == 0
        results = json.loads(capsys.readouterr().out)
        assert results["distinct"] == 3 and results["random"] is not None

    def test_the_same_command_gives_the_same_figures(self, finished: Path, tmp_path: Path) -> None:
        out = tmp_path / "run"
        assert train(out, "--agent", "evolution", "--budget", "14", "--seed", "3", "--set", "population=6", "--set", "tournament=2") == 0
        assert strip(out / "trace.jsonl") == strip(finished / "trace.jsonl")
        kept = [json.loads((path / "results.json").read_text()) for path in (out, finished)]
        assert kept[0]["winner"] == kept[1]["winner"] and kept[0]["hand_made"] == kept[1]["hand_made"]


def strip(path: Path) -> list[dict[str, Any]]:
    """A trace without its clock."""
    return [{**one.to_dict(), "seconds": 0} for one in read_trace(path)]


class TestResume:
    """Going on after an interrupt."""

    def test_a_torn_trace_goes_on_to_the_same_end(self, finished: Path, tmp_path: Path) -> None:
        out = tmp_path / "run"
        assert train(out, "--agent", "evolution", "--budget", "14", "--seed", "3", "--set", "population=6", "--set", "tournament=2") == 0
        lines = (out / "trace.jsonl").read_text().splitlines(keepends=True)
        # As a process killed in the middle of a line leaves it.
        (out / "trace.jsonl").write_text("".join(lines[:6]) + lines[6][:40])
        (out / "results.json").unlink()
        RunDirectory.open(out).save("searching")
        assert run_app(app, ["resume", str(out)]) == 0
        assert strip(out / "trace.jsonl") == strip(finished / "trace.jsonl")
        assert json.loads((out / "run.json").read_text())["state"] == "done"

    def test_a_finished_run_shows_its_results(self, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_app(app, ["resume", str(finished)]) == 0
        assert "Test split" in capsys.readouterr().out
        assert run_app(app, ["resume", str(finished), "--budget", "5"]) == 2
        assert "can only grow" in capsys.readouterr().err

    def test_the_time_limit_keeps_what_was_found(self, tmp_path: Path) -> None:
        out = tmp_path / "run"
        assert train(out, "--agent", "random", "--budget", "100000", "--time-limit", "0.5") == 0
        results = json.loads((out / "results.json").read_text())
        assert results["stopped"] == "stopped" and 1 <= results["distinct"] < 100000

    def test_a_broken_trace_is_named(self, finished: Path, tmp_path: Path) -> None:
        trace = tmp_path / "trace.jsonl"
        trace.write_text("{}\n")
        with pytest.raises(QumosError, match="line 1: index: Field required"):
            read_trace(trace)
        trace.write_text("{\n" + "{}\n")
        with pytest.raises(QumosError, match="line 1: not JSON"):
            read_trace(trace)


class TestErrors:
    """Wrong input: one line, exit code 2, nothing written."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--scenario", "iris-smok"], "did you mean iris-smoke"),
            (["--agent", "evolve"], "did you mean evolution"),
            (["--agent", "evolution", "--set", "populaton=3"], "did you mean population"),
            (["--agent", "evolution", "--set", "population"], "key=value"),
            (["--budget", "0"], "budget"),
        ],
    )
    def test_one_line(self, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert train(tmp_path / "run", "--agent", "random", *options) == 2
        captured = capsys.readouterr()
        assert message in captured.err and captured.err.count("\n") == 1 and not captured.out
        assert not (tmp_path / "run").exists()

    def test_other_folders_are_never_touched(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "thesis.txt").write_text("years of work")
        assert train(tmp_path, "--agent", "random", "--budget", "2", "--force") == 2
        assert "other content" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    def test_an_earlier_run_needs_force(self, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert train(finished, "--agent", "random", "--budget", "2") == 2
        assert "--force" in capsys.readouterr().err

    def test_no_run_no_report(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_app(app, ["report", str(tmp_path)]) == 2
        assert "not a run directory" in capsys.readouterr().err


class TestCompare:
    """Several agents side by side."""

    def test_compare_and_continue(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "comparison"
        command = ["compare", "-s", "iris-smoke", "-a", "random", "-a", "evolution", "--seeds", "2", "--budget", "6", "--workers", "0"]
        command += ["--contenders", "2", "--test-seeds", "2", "--out", str(out)]
        assert run_app(app, command) == 0
        printed = capsys.readouterr().out
        assert "evolution" in printed and "interleaved-1" in printed
        assert {path.name for path in out.iterdir()} >= {"results.json", "results.md", "comparison.html", "iris-smoke"}
        assert {path.name for path in (out / "iris-smoke").iterdir()} >= {"random-0", "random-1", "evolution-0", "evolution-1"}
        first = read_record(Comparison, out / "results.json")
        random = first.scenarios["iris-smoke"].agents["random"]
        assert len(random.winners) == 2 and random.distinct == (6, 6) and random.draws == (12, 12)
        assert random.curve[0] is not None and len(random.curve) == 6
        # Finished runs are kept, a missing one is made again with the same result.
        runs = out / "iris-smoke"
        stamp = (runs / "random-0" / "trace.jsonl").stat().st_mtime_ns
        for name in ("results.json", "run.json", "trace.jsonl", "best_design.json", "evaluations.sqlite"):
            (runs / "random-1" / name).unlink()
        assert run_app(app, command) == 2
        assert run_app(app, [*command, "--force"]) == 0
        assert (runs / "random-0" / "trace.jsonl").stat().st_mtime_ns == stamp
        again = read_record(Comparison, out / "results.json").scenarios["iris-smoke"].agents["random"]
        assert again.winners == random.winners and again.curve == random.curve

    def test_two_scenarios_of_one_name_do_not_share_a_folder(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        text = (scenario_folder() / "iris-smoke.toml").read_text()
        (tmp_path / "1.toml").write_text(text)
        (tmp_path / "2.toml").write_text(text.replace("schema_version = 1", "schema_version = 1\nseed = 5"))
        scenarios = [part for number in (1, 2) for part in ("-s", str(tmp_path / f"{number}.toml"))]
        command = ["compare", *scenarios, "-a", "random", "--out", str(tmp_path / "out")]
        assert run_app(app, command) == 2
        assert "two different scenarios are called iris-smoke" in capsys.readouterr().err


def comparison(**rewards: list[list[float]]) -> Comparison:
    """Of agents by their rewards ``[scenarios][runs]``; the hand-made design of every scenario has 0.5."""
    design = designs(1)[0]
    plain = Scored("winner", design, True, (Outcome(0.5), Outcome(0.5))).record()

    def runs(values: list[float]) -> AgentRuns:
        n = len(values)
        winners = tuple(plain.model_copy(update={"reward": value}) for value in values)
        ones = (1,) * n
        return AgentRuns(
            winners=winners,
            search_best=(0.0,) * n,
            distinct=ones,
            draws=ones,
            episodes=ones,
            seconds=(1.0,) * n,
            top_ten=(0.1,) * n,
            curve=(None, 0.5),
        )

    count = len(next(iter(rewards.values())))
    found = {
        f"s{number}": ScenarioResults(
            scenario_hash="0" * 64, draws=2, agents={agent: runs(values[number]) for agent, values in rewards.items()}, hand_made=(plain,)
        )
        for number in range(count)
    }
    return Comparison(state="done", budget=5, seeds=3, test_seeds=2, command=("x",), versions={}, scenarios=found)


class TestAggregate:
    """Figures over several scenarios."""

    def test_scores_are_in_units_of_the_best(self) -> None:
        data = comparison(good=[[1.0, 0.5], [0.2, 0.3]], poor=[[0.25, 0.0], [0.1, 0.1]])
        assert [one.tolist() for one in data.scores("poor")] == [[0.25, 0.0], [0.2, 0.2]]
        assert [one.tolist() for one in data.reference()] == [[0.5], [1.0]]
        assert aggregate(data)["good"].mean == pytest.approx(np.mean([0.5, 0.6]))  # the middle two of 0.4, 0.5, 0.6, 1.0

    def test_probability_of_improvement_counts_pairs(self) -> None:
        generator = np.random.default_rng(0)
        first, second = ([generator.integers(4, size=5).astype(float) for _ in range(3)] for _ in range(2))
        counted = [np.mean([(a > b) + 0.5 * (a == b) for a in x for b in y]) for x, y in zip(first, second, strict=True)]
        found = improvement_interval(first, second, resamples=200)
        assert found.mean == pytest.approx(np.mean(counted)) and found.low <= found.mean <= found.high
        assert probability_of_improvement(first, first) == 0.5
        assert improvement_interval([np.ones(3)], [np.zeros(3)]).low == 1.0

    def test_the_bootstrap_draws_runs_and_keeps_scenarios(self) -> None:
        """Scenarios far apart, runs close together: the interval knows only the runs."""
        tasks = [np.array([0.0, 0.01, 0.02]), np.array([1.0, 1.01, 1.02])]
        found = stratified_interval(tasks, lambda scores: float(np.mean(np.concatenate(scores))))
        assert found.mean == pytest.approx(0.51) and 0.5 <= found.low < found.mean < found.high <= 0.52
        assert found == stratified_interval(tasks, lambda scores: float(np.mean(np.concatenate(scores))))
        assert math.isnan(stratified_interval([np.ones(1)], aggregate_iqm).low)

    def test_a_profile_is_the_share_of_runs_above(self) -> None:
        profile = performance_profile([np.array([0.1, 0.5]), np.array([0.5, 0.9, 0.9])], np.array([0.0, 0.5, 0.8, 1.0]), resamples=50)
        assert profile.share.tolist() == pytest.approx([1.0, (0 + 2 / 3) / 2, 1 / 3, 0.0])
        assert (profile.low <= profile.share).all() and (profile.share <= profile.high).all()

    def test_the_top_ten_count_from_the_start(self) -> None:
        """Missing ones are 0; looks with few draws do not count."""
        rewards = [0.5, 0.9, 0.7]
        trials = [trial(number, design, reward) for number, (design, reward) in enumerate(zip(designs(3), rewards, strict=True))]
        curve = top_ten(SCENARIO, trials, size=2)
        assert curve == pytest.approx([0.25, 0.7, 0.8])
        assert area_under(curve, 3) == pytest.approx(np.mean(curve)) and area_under(curve, 4) == pytest.approx((sum(curve) + 0.8) / 4)
        glance = trial(3, designs(4)[3], 9.0, draws=1)
        assert max(top_ten(SCENARIO, [*trials, glance], size=2)) == pytest.approx(0.8)

    def test_tables_and_page_show_every_agent(self, tmp_path: Path) -> None:
        data = comparison(random=[[0.4, 0.5]], **{"<b>": [[0.8, 0.9]]})
        text = markdown(data)
        assert "| <b> | .944 [.889, 1.000] | 1.000 [1.000, 1.000] |" in text and "| random |" in text
        write_page(data, tmp_path / "page.html")
        page = (tmp_path / "page.html").read_text()
        assert "&lt;b&gt;" in page and "<td><b></td>" not in page and 'src="http' not in page
