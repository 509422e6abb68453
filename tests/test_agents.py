"""Searchers and agents: the protocol, what they play, what they learn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agents.pool.local
from agents import AGENTS, Agent, SearchSummary, SearchTask, Trial, load_agent, register_agent
from agents.ask_tell import Proposal, run_ask_tell
from agents.baselines import Ansatz, baselines, starting_points
from agents.evolution import EvolutionSearcher
from agents.evolution import Settings as EvolutionSettings
from agents.mutations import mutate
from agents.pool import Job, LocalPool
from agents.protocol import EPISODES_PER_BUDGET, Ledger, Outcome
from agents.random_search import RandomSearcher
from agents.registry import declared
from agents.sequences import balanced_actions, canonical, genome_of, play
from agents.settings import AgentSettings, Count, parse_overrides, parse_settings
from qumos_env import Design, load_scenario
from qumos_env.design import Gate
from qumos_env.env.actions import Action, DesignState
from qumos_env.errors import EvaluationFailure, QumosError
from qumos_env.records import parse
from qumos_env.scenario import Scenario, parse_scenario
from training.display import Display
from training.rundir import RunDirectory
from training.workflow import make_plan, run_to_results, with_budget

ROOT = Path(__file__).resolve().parent.parent


def scenario_with(**design: object) -> Scenario:
    """The smoke scenario with other limits."""
    data = load_scenario("iris-smoke").model_dump(mode="json")
    return parse_scenario(data | {"design": data["design"] | design})


VARIANTS = {
    "blocks": scenario_with(),
    "gates": scenario_with(vocabulary="gates", max_gates=7),
    "both": scenario_with(vocabulary="both", max_parts=3, max_part_qubits=2),
    "cuts and shots": scenario_with(max_gate_cuts=2, shots=[64, 256]),
    "one part": scenario_with(max_parts=1, max_part_qubits=4),
}


class FakeEvaluation:
    """What the stub evaluator returns."""

    def __init__(self, reward: float) -> None:
        self.reward = reward

    def to_dict(self) -> dict[str, float]:
        """Flat scalars."""
        return {"reward": self.reward}


class FakeEvaluator:
    """Scores a design by its number of RY gates; counts its calls."""

    calls = 0
    hits = 0

    def __init__(self, scenario: Scenario, cache: str | None = None) -> None:
        self.scenario = scenario

    def evaluate(
        self, design: Design, *, seed: int | None = None, rows: str = "search", limits: bool = True, draws: int | None = None
    ) -> FakeEvaluation:
        """A reward in [0, 1]."""
        type(self).calls += 1
        names = [gate.name for gate in design.gates]
        if names.count("h") > names.count("ry"):
            raise EvaluationFailure("more H\nthan RY")
        return FakeEvaluation(names.count("ry") / 20)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeEvaluator]:
    """Pools with ``workers=0`` use the stub evaluator."""
    monkeypatch.setattr(agents.pool.local, "evaluator_of", FakeEvaluator)
    monkeypatch.setattr(FakeEvaluator, "calls", 0)
    return FakeEvaluator


def run(agent: str, task: SearchTask, stop_after: int | None = None) -> tuple[list[Trial], Any]:
    """Runs an agent and collects its trials."""
    trials: list[Trial] = []
    summary = load_agent(agent).search(
        task,
        on_trial=trials.append,
        should_stop=lambda: stop_after is not None and len(trials) >= stop_after,
        on_stage=lambda _: None,
    )
    return trials, summary


def essence(trials: list[Trial]) -> list[tuple[object, ...]]:
    """Everything of a trace that must be reproducible."""
    return [(t.index, t.actions, t.design_hash, t.reward, t.repeated, t.failure, t.draws) for t in trials]


def is_finished(scenario: Scenario, actions: list[int]) -> bool:
    """Whether ``actions`` are all effective and build a design that keeps the limits."""
    state = DesignState(scenario)
    effective = [state.apply(action) for action in actions]
    scenario.check_design(state.design())
    return all(effective) and state.done


class TestSequences:
    """Random and repaired action sequences."""

    @pytest.mark.parametrize("name", VARIANTS)
    def test_random_episodes_finish_within_the_limits(self, name: str) -> None:
        rng = np.random.default_rng(0)
        assert all(is_finished(VARIANTS[name], balanced_actions(VARIANTS[name], rng)) for _ in range(50))

    def test_random_lengths_cover_the_gate_budget(self) -> None:
        scenario, rng = VARIANTS["gates"], np.random.default_rng(0)
        gates = [len(genome_of(scenario, balanced_actions(scenario, rng)).gates) for _ in range(300)]
        counts = np.bincount(gates, minlength=8)[1:]
        assert counts.min() > 10  # uniform would be 43 each; a geometric law leaves almost none at 7

    @settings(max_examples=60, deadline=None)
    @given(name=st.sampled_from(sorted(VARIANTS)), seed=st.integers(0, 10_000), edits=st.integers(1, 12))
    def test_any_number_of_mutations_is_repaired(self, name: str, seed: int, edits: int) -> None:
        scenario, rng = VARIANTS[name], np.random.default_rng(seed)
        genome = genome_of(scenario, balanced_actions(scenario, rng))
        for _ in range(edits):
            genome = mutate(genome, scenario, 0.5, rng)
        assert is_finished(scenario, play(scenario, genome, rng))

    def test_a_valid_genome_is_played_unchanged(self) -> None:
        for scenario in VARIANTS.values():
            rng = np.random.default_rng(3)
            actions = balanced_actions(scenario, rng)
            assert play(scenario, genome_of(scenario, actions), rng) == actions

    def test_relabelled_parts_keep_their_blocks(self) -> None:
        ry0, ry1 = Action("layer", "ry", (0,)), Action("layer", "rx", (1,))
        genome = genome_of(VARIANTS["blocks"], [])
        moved = canonical(replace(genome, partition=(1, 1, 0, 0), assignment=(0, 1), gates=(ry0, ry1)))
        assert moved.partition == (0, 0, 1, 1)
        assert moved.assignment == (1, 0)
        assert moved.gates == (Action("layer", "ry", (1,)), Action("layer", "rx", (0,)))

    def test_mutations_reach_every_cut_of_the_register(self) -> None:
        scenario, rng = VARIANTS["blocks"], np.random.default_rng(1)
        genome = genome_of(scenario, balanced_actions(scenario, rng))
        seen = set()
        for _ in range(600):
            genome = genome_of(scenario, play(scenario, mutate(genome, scenario, 0.0, rng), rng))
            seen.add(genome.partition)
        assert len(seen) == 7  # four qubits in at most two parts of at most three: all but "uncut"


class TestBaselines:
    """The hand-made designs."""

    def test_actions_build_the_design(self) -> None:
        for scenario in (load_scenario("iris-smoke"), load_scenario("digits-theft"), VARIANTS["both"], VARIANTS["gates"]):
            for baseline in baselines(scenario):
                if baseline.actions is not None:
                    state = DesignState(scenario).replay(baseline.actions)
                    assert state.done and state.design() == baseline.design, baseline.name

    def test_digits_have_all_of_them(self) -> None:
        found = {baseline.name: baseline for baseline in baselines(load_scenario("digits-theft"))}
        cuts = [f"{cut}-{layers}" for cut in ("contiguous", "interleaved") for layers in (1, 2, 3)]
        pairs = ["masked-pair-1", "masked-pair-2"]  # with three layers the mask is beyond the gate budget
        assert set(found) == {"encode-only", "centralised-1", "centralised-2", "centralised-3", *cuts, *pairs}
        assert all(found[name].limits and found[name].actions for name in cuts)
        assert not found["centralised-1"].limits and found["centralised-1"].actions is None
        assert found["interleaved-1"].design.partition == (0, 1) * 4
        assert len(starting_points(load_scenario("digits-theft"))) == 8

    def test_a_masked_pair_turns_every_qubit_before_it_is_measured(self) -> None:
        found = {baseline.name: baseline for baseline in baselines(load_scenario("digits-theft"))}
        plain, masked = found["interleaved-2"].design, found["masked-pair-2"].design
        assert masked.partition == plain.partition and masked.assignment == plain.assignment
        assert sorted(set(masked.gates) - set(plain.gates)) == [Gate("rx", (qubit,)) for qubit in range(8)]
        assert all(part.gates[-1].gate.name == "rx" for part in masked.parts)

    def test_parts_of_one_qubit_have_no_entanglers(self) -> None:
        scenario = load_scenario("iris-smoke")
        actions = Ansatz(2).actions(scenario, (0, 0, 0, 1), (0, 1))
        assert actions is not None
        design = DesignState(scenario).replay(actions).design()
        assert design == Ansatz(2).design((0, 0, 0, 1), scenario.provider_names)
        assert [placed.gate.name for placed in design.parts[1].gates] == ["ry"] * 3

    def test_designs_beyond_the_gate_budget_are_left_out(self) -> None:
        names = [baseline.name for baseline in baselines(scenario_with(max_gates=10))]
        assert "interleaved-1" in names and "interleaved-2" not in names


class TestAskTell:
    """The driver of the classical searchers."""

    def test_the_budget_counts_distinct_designs(self, fake: type[FakeEvaluator]) -> None:
        scenario = scenario_with(vocabulary="gates", max_gates=1, gates=["ry"], max_parts=1, max_part_qubits=4)
        trials, summary = run("random", SearchTask(scenario, budget=7, seed=0, workers=0))
        # Eight designs exist (four places, two providers), so random search repeats itself.
        assert summary.distinct == 7 == fake.calls
        assert summary.episodes == len(trials) > 7
        assert sum(not trial.repeated for trial in trials) == 7

    def test_a_searcher_that_repeats_itself_is_stopped(self, fake: type[FakeEvaluator]) -> None:
        scenario = load_scenario("iris-smoke")
        actions = list(starting_points(scenario)[0])

        class Stubborn:
            def ask(self) -> Proposal:
                return Proposal(tuple(actions))

            def tell(self, proposal: Proposal, outcome: Outcome) -> None:
                assert outcome.reward > 0

        trials: list[Trial] = []
        task = SearchTask(scenario, 6, workers=0)
        summary = run_ask_tell(task, Stubborn(), on_trial=trials.append, should_stop=lambda: False, on_stage=lambda _: None)
        assert (summary.distinct, summary.episodes, summary.stopped) == (1, 6 * EPISODES_PER_BUDGET, "episodes")
        assert fake.calls == 1
        assert [trial.repeated for trial in trials[:3]] == [False, True, True]

    def test_results_are_told_with_a_fixed_lag(self, fake: type[FakeEvaluator]) -> None:
        scenario = load_scenario("iris-smoke")
        events: list[str] = []

        class Recording(RandomSearcher):
            def ask(self) -> Proposal:
                events.append("ask")
                return super().ask()

            def tell(self, proposal: Proposal, outcome: Outcome) -> None:
                events.append("tell")

        searcher = Recording(scenario, 0)
        task = SearchTask(scenario, 6, workers=0)
        run_ask_tell(task, searcher, on_trial=lambda _: None, should_stop=lambda: False, on_stage=lambda _: None, lag=3)
        assert events[:7] == ["ask", "ask", "ask", "tell", "ask", "tell", "ask"]

    def test_stopping_keeps_what_was_found(self, fake: type[FakeEvaluator]) -> None:
        trials, summary = run("evolution", SearchTask(load_scenario("iris-smoke"), 50, workers=0), stop_after=10)
        assert summary.stopped == "stopped" and 10 <= len(trials) < 50
        assert [trial.index for trial in trials] == list(range(len(trials)))

    def test_an_interrupted_search_goes_on_to_the_same_trace(self, fake: type[FakeEvaluator]) -> None:
        task = SearchTask(load_scenario("iris-smoke"), 60, seed=4, workers=0, settings={"population": 10, "tournament": 3})
        whole, _ = run("evolution", task)
        first, _ = run("evolution", task, stop_after=25)
        fake.calls = 0
        rest, summary = run("evolution", replace(task, history=tuple(first)))
        assert essence(first + rest) == essence(whole)
        assert summary.distinct == 60
        assert fake.calls == 60 - sum(not trial.repeated for trial in first)
        assert rest[0].seconds >= first[-1].seconds

    def test_a_foreign_history_is_refused(self, fake: type[FakeEvaluator]) -> None:
        task = SearchTask(load_scenario("iris-smoke"), 20, seed=0, workers=0)
        trials, _ = run("random", task)
        with pytest.raises(QumosError, match="trial 0 of the trace"):
            run("random", replace(task, seed=1, budget=30, history=tuple(trials)))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"index": 5}, "its index is 5"),
            ({"actions": (10**6,)}, "actions do not build its design"),
            ({"design_hash": "0" * 64}, "actions do not build its design"),
            ({"design": {}}, "its design is not the one of its hash"),
        ],
    )
    def test_a_trial_that_contradicts_itself_is_refused(self, change: dict[str, object], message: str, fake: type[FakeEvaluator]) -> None:
        task = SearchTask(load_scenario("iris-smoke"), 8, seed=0, workers=0)
        trials, _ = run("random", task)
        ledger = Ledger(task, lambda _: None, lambda: False)
        ledger.restore(trials[0])
        with pytest.raises(QumosError, match=f"trial 1 of the trace: .*{message}"):
            ledger.restore(trials[1].model_copy(update=change))

    def test_stages_say_what_is_going_on(self, fake: type[FakeEvaluator]) -> None:
        task = SearchTask(load_scenario("iris-smoke"), 6, seed=0, workers=0)
        trials, _ = run("random", task)

        def stages(of: SearchTask) -> list[str]:
            told: list[str] = []
            load_agent("random").search(of, on_trial=lambda _: told.append("trial"), should_stop=lambda: False, on_stage=told.append)
            return [stage for number, stage in enumerate(told) if number == 0 or stage != told[number - 1]]

        assert stages(replace(task, history=tuple(trials), budget=9)) == ["replaying the trace", "searching", "trial"]
        assert stages(task)[-2:] == ["searching", "trial"]

    def test_failures_become_trials(self, fake: type[FakeEvaluator]) -> None:
        trials, _ = run("random", SearchTask(load_scenario("iris-smoke"), 60, workers=0))
        failed = [trial for trial in trials if trial.failure]
        assert failed and all(trial.reward == 0 and trial.failure == "more H than RY" and not trial.evaluation for trial in failed)

    def test_starts_come_first(self, fake: type[FakeEvaluator]) -> None:
        scenario = load_scenario("iris-smoke")
        starts = starting_points(scenario)
        trials, _ = run("evolution", SearchTask(scenario, 20, workers=0, starts=starts))
        assert tuple(trial.actions for trial in trials[: len(starts)]) == starts

    def test_evolution_beats_random_search(self, fake: type[FakeEvaluator]) -> None:
        scenario = scenario_with(vocabulary="gates", max_gates=20)
        means = {}
        for agent, over in (("random", {}), ("evolution", {"population": 20, "tournament": 5})):
            trials, _ = run(agent, SearchTask(scenario, 200, seed=0, workers=0, settings=over))
            means[agent] = np.mean([trial.reward for trial in trials[-50:]])
        assert means["evolution"] > means["random"] + 0.15

    def test_the_oldest_member_dies(self) -> None:
        searcher = EvolutionSearcher(load_scenario("iris-smoke"), EvolutionSettings(population=2, tournament=1), seed=0)
        for reward in (0.9, 0.1, 0.2):
            searcher.tell(Proposal((0,)), Outcome(reward))
        assert [reward for _, reward in searcher.population] == [0.1, 0.2]

    @pytest.mark.slow
    @pytest.mark.parametrize("agent", ["random", "evolution"])
    def test_the_trace_does_not_depend_on_the_number_of_workers(self, agent: str) -> None:
        over = {"population": 6, "tournament": 2} if agent == "evolution" else {}
        task = SearchTask(load_scenario("iris-smoke"), 20, seed=5, workers=1, settings=over)
        traces = [essence(run(agent, replace(task, workers=workers))[0]) for workers in (0, 1, 2)]
        assert traces[0] == traces[1] == traces[2]
        assert traces[0] != essence(run(agent, replace(task, workers=0, seed=6))[0])


@pytest.mark.slow
class TestPool:
    """Worker processes."""

    def test_a_killed_worker_is_replaced(self) -> None:
        scenario = load_scenario("iris-smoke")
        jobs = [Job(baseline.design, seed, limits=baseline.limits) for baseline in baselines(scenario) for seed in range(3)]
        with LocalPool(scenario, 0) as pool:
            expected = pool.run(jobs)
        with LocalPool(scenario, 2) as pool:
            pending = [pool.submit(job) for job in jobs]
            first = pending[0].result()
            os.kill(pool.processes[0], signal.SIGKILL)
            outcomes = [first, *(one.result() for one in pending[1:])]
        assert outcomes == expected


class TestSettings:
    """Shipped and given settings."""

    def test_every_shipped_file_is_valid(self) -> None:
        assert {path.stem for path in (ROOT / "agents" / "tuned").glob("*.toml")} == set(AGENTS)
        for agent in ("random", "evolution"):
            for scenario in ("iris-smoke", "digits-theft", "no-such-scenario"):
                load_agent(agent).settings_for(scenario)

    def test_overrides_win_over_scenario_and_default(self) -> None:
        agent = load_agent("evolution")
        default, special = (agent.settings_for(scenario).model_dump() for scenario in ("digits-theft", "iris-smoke"))
        assert default["population"] != special["population"]
        assert agent.settings_for("iris-smoke", {"population": 99}).model_dump() == special | {"population": 99}

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"populaton": 3}, "did you mean population"),
            ({"population": "many"}, "population: Input should be a valid integer"),
            ({"population": True}, "population: Input should be a valid integer"),
            ({"population": 3, "tournament": 4}, "tournament is 4"),
        ],
    )
    def test_wrong_settings_are_named(self, given: dict[str, object], message: str) -> None:
        with pytest.raises(QumosError, match=message):
            parse_settings(EvolutionSettings, given, "evolution")

    def test_overrides_from_a_command_line(self) -> None:
        assert parse_overrides(["a=1", "b = 0.5", "c='x'", "d=true"]) == {"a": 1, "b": 0.5, "c": "x", "d": True}
        for wrong in ("a", "a=", "a=x"):
            with pytest.raises(QumosError, match="setting"):
                parse_overrides([wrong])


class Toy:
    """An agent from elsewhere: it tries the hand-made designs, as often as it is told to."""

    class Settings(AgentSettings):
        """Settings of the toy."""

        rounds: Count = 1

    @staticmethod
    def search(
        task: SearchTask,
        *,
        on_trial: Callable[[Trial], None],
        should_stop: Callable[[], bool],
        on_stage: Callable[[str], None],
    ) -> SearchSummary:
        """Plays the hand-made designs."""
        settings = parse_settings(Toy.Settings, task.settings, "toy")
        ledger = Ledger(task, on_trial, should_stop)
        for trial in task.history:
            ledger.restore(trial)
        for actions in settings.rounds * starting_points(task.scenario):
            if not ledger.finished():
                ledger.record(actions, Outcome(0.5, {"reward": 0.5}))
        return ledger.summary()


@pytest.fixture
def toy() -> Iterator[None]:
    """The toy is registered."""
    register_agent("toy", Agent("toy", Toy.Settings, Toy.search))
    yield
    del AGENTS["toy"]


class TestRegistry:
    """Finding agents."""

    def test_unknown_names_get_the_nearest(self) -> None:
        with pytest.raises(QumosError, match="did you mean evolution"):
            load_agent("evolutoin")

    def test_modules_are_found_by_what_they_say(self, tmp_path: Path) -> None:
        (tmp_path / "clever.py").write_text('"""Clever."""\n\nimport no_such_package\n\nAGENT = "cleverer"\n')
        (tmp_path / "helper.py").write_text("AGENTS = ['no']\nagent = 'no'\n")
        assert list(declared(tmp_path, "zoo")) == [("cleverer", "zoo.clever")]
        assert {"random", "evolution", "ppo", "reinforce"} <= set(AGENTS)

    def test_a_module_from_elsewhere_brings_its_tuned_settings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "my_agent.py").write_text("from agents.evolution import Settings, search\n")
        (tmp_path / "tuned").mkdir()
        (tmp_path / "tuned" / "mine.toml").write_text("[default]\npopulation = 7\ntournament = 2\n[scenario.iris-smoke]\nlag = 3\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setitem(AGENTS, "mine", "my_agent")
        settings = load_agent("mine").settings_for("iris-smoke", {"tournament": 1}).model_dump()
        assert (settings["population"], settings["tournament"], settings["lag"]) == (7, 1, 3)
        (tmp_path / "tuned" / "mine.toml").write_text("[defaults]\npopulation = 7\n")
        with pytest.raises(QumosError, match="unknown table in mine\\.toml 'defaults'; did you mean default"):
            load_agent("mine").settings_for("iris-smoke")

    def test_a_name_is_given_once(self, toy: None) -> None:
        register_agent("random", "agents.random_search")
        with pytest.raises(QumosError, match="agent toy: the name is taken"):
            register_agent("toy", "agents.random_search")

    def test_an_agent_from_elsewhere_is_trained_and_resumed(self, toy: None, fake: type[FakeEvaluator], tmp_path: Path) -> None:
        plan = make_plan(
            scenario="iris-smoke",
            agent="toy",
            budget=2,
            seed=0,
            workers=0,
            time_limit=None,
            warm_start=None,
            random_budget=0,
            contenders=2,
            test_seeds=2,
            overrides={"rounds": 2},
        )
        assert plan.settings == {"rounds": 2, "warm_start": False}
        with RunDirectory.create(tmp_path / "run", plan, force=False) as run:
            results = run_to_results(run, Display(quiet=True), with_references=False)
        assert results.distinct == 2 and run.state == "done"
        with RunDirectory.resume(tmp_path / "run") as run:
            run.plan = with_budget(run.plan, 4, None)
            results = run_to_results(run, Display(quiet=True), run.trials(), with_references=False)
        assert results.distinct == 4 and [trial.index for trial in run.trials()] == list(range(results.episodes))

    def test_the_zoo_is_found_without_importing_ray(self) -> None:
        code = "import sys, agents, training.cli; sys.exit(bool({'ray', 'agents.ppo', 'agents.evolution'} & sys.modules.keys()))"
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0

    def test_classical_searchers_do_not_import_ray(self) -> None:
        code = "import sys, agents.evolution, agents.random_search, agents.baselines; sys.exit('ray' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0

    def test_the_package_does_not_import_the_zoo(self) -> None:
        sources = [path.read_text(encoding="utf-8") for path in (ROOT / "qumos_env").rglob("*.py")]
        assert not any("import agents" in source or "from agents" in source for source in sources)
        zoo = [path.read_text(encoding="utf-8") for path in (ROOT / "agents").rglob("*.py")]
        assert not any("import training" in source or "from training" in source or "rllib.examples" in source for source in zoo)


class TestTrials:
    """The records of a trace."""

    def test_round_trip(self, fake: type[FakeEvaluator]) -> None:
        trials, _ = run("random", SearchTask(load_scenario("iris-smoke"), 3, workers=0))
        assert [parse(Trial, json.dumps(trial.to_dict()).encode(), "trace") for trial in trials] == trials
        assert Design.from_dict(trials[0].design).hash == trials[0].design_hash
        with pytest.raises(QumosError, match="trace: design: Field required"):
            parse(Trial, {"index": 0}, "trace")

    def test_tasks_check_their_numbers(self) -> None:
        with pytest.raises(QumosError, match="budget"):
            SearchTask(load_scenario("iris-smoke"), 0)
        with pytest.raises(QumosError, match="workers"):
            SearchTask(load_scenario("iris-smoke"), 1, workers=-1)


@pytest.mark.rllib
class TestReinforceParts:
    """The pieces of REINFORCE, without Ray running."""

    def test_only_the_best_quarter_is_used(self) -> None:
        from agents.reinforce import policy_weights

        rewards = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9]
        weights = policy_weights(rewards, 0.25, baseline=0.0)
        spread = np.std(rewards)
        assert weights == pytest.approx([0] * 7 + [0.2 / spread / 2])
        plain = policy_weights(rewards, 1.0, baseline=0.5)
        assert plain == pytest.approx([(reward - 0.5) / spread / 8 for reward in rewards])
        assert np.isfinite(policy_weights([0.3] * 4, 0.25, 0.0)).all()

    def test_the_queue_keeps_the_best_distinct_designs(self) -> None:
        from agents.search_algorithm import replay
        from agents.weighted import BestQueue
        from qumos_env import DesignEnv

        env = DesignEnv("iris-smoke")
        played = [replay(env, actions) for actions in starting_points(env.scenario)]
        queue = BestQueue(2)
        for number, one in enumerate([*played, played[0]]):
            queue.add(f"design-{number % len(played)}", one)
        best = sorted((one.outcome.reward for one in played), reverse=True)[:2]
        assert [episode.get_return() for episode in queue.episodes()] == pytest.approx(best)
        assert len({episode.id_ for episode in queue.episodes()}) == 2

    def test_masked_actions_are_never_sampled(self) -> None:
        import torch
        from ray.rllib.core.columns import Columns

        from agents.modules import DesignModule

        observations = gym.spaces.Box(0, 1, (5,), np.float32)
        space = gym.spaces.Dict({"observations": observations, "action_mask": gym.spaces.Box(0, 1, (7,), np.int8)})
        module = DesignModule(observation_space=space, action_space=gym.spaces.Discrete(7), model_config={"hidden": 8, "max_seq_len": 3})
        rng = np.random.default_rng(0)
        mask = (rng.random((64, 3, 7)) < 0.3).astype(np.int8)
        mask[..., 0] |= mask.sum(-1) == 0
        batch = {
            Columns.OBS: {"observations": torch.rand(64, 3, 5), "action_mask": torch.from_numpy(mask)},
            Columns.STATE_IN: {"h": torch.zeros(64, 8)},
        }
        with torch.no_grad():
            # Large weights: a mask must hold against a policy that wants the action badly.
            module._policy.weight.mul_(1e4)
        output = module.forward_exploration(batch)
        distribution = module.get_exploration_action_dist_cls().from_logits(output[Columns.ACTION_DIST_INPUTS])
        for _ in range(50):
            chosen = distribution.sample().numpy()
            assert np.take_along_axis(mask, chosen[..., None], axis=2).all()
        assert torch.isfinite(distribution.entropy()).all()
        assert module.compute_values(batch).shape == (64, 3)


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """One local Ray for all tests that need it."""
    from agents.ray_session import ray_session

    with ray_session(2, lambda _: None):
        yield


class FirstThenSecond(gym.Env[Any, Any]):
    """A stub: three steps of four actions, one masked; the reward is the share of steps that follow 0, 1, 2."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Dict(
            {"observations": gym.spaces.Box(0, 1, (4,), np.float32), "action_mask": gym.spaces.Box(0, 1, (4,), np.int8)}
        )
        self.action_space = gym.spaces.Discrete(4)
        self._taken: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """An empty episode."""
        super().reset(seed=seed)
        self._taken = []
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One action."""
        self._taken.append(int(action))
        done = len(self._taken) == 3
        reward = float(np.mean(np.array(self._taken) == [0, 1, 2])) if done else 0.0
        return self._observe(), reward, done, False, {"actions": list(self._taken)} if done else {}

    def _observe(self) -> dict[str, np.ndarray]:
        place = np.eye(4, dtype=np.float32)[len(self._taken)]
        return {"observations": place, "action_mask": np.array([1, 1, 1, 0], np.int8)}


@pytest.mark.rllib
@pytest.mark.slow
@pytest.mark.usefixtures("one_ray")
class TestRLlib:
    """The agents on Ray."""

    @pytest.mark.parametrize("agent", ["appo", "dqn", "ppo", "reinforce", "replay"])
    def test_the_policy_learns_a_rewarded_sequence(self, agent: str) -> None:
        import importlib

        from ray.rllib.core.rl_module.rl_module import RLModuleSpec
        from ray.tune.registry import register_env

        from agents.dqn import DesignQModule
        from agents.modules import AnchoredModule
        from agents.search_algorithm import Played

        register_env("first-then-second", lambda _: FirstThenSecond())
        names = {"appo": "AsyncConfig", "dqn": "DesignDQNConfig", "ppo": "DesignPPOConfig", "reinforce": "ReinforceConfig"}
        config = getattr(importlib.import_module(f"agents.{agent}"), names.get(agent, "ReplayConfig"))()
        config.environment("first-then-second").env_runners(num_env_runners=0, batch_mode="complete_episodes")
        network = DesignQModule if agent == "dqn" else AnchoredModule
        spec = RLModuleSpec(module_class=network, model_config={"hidden": 16, "max_seq_len": 4, "epsilon": 1.0})
        config.rl_module(rl_module_spec=spec).debugging(seed=0, log_level="ERROR").training(lr=1e-2, gamma=1.0)
        if agent == "ppo":
            config.training(minibatch_size=None, num_epochs=4, use_kl_loss=False)
            config.num_episodes_per_batch = 20
        elif agent == "dqn":
            config.training(train_batch_size_per_learner=64, n_step=(1, 4), tau=0.05, target_network_update_freq=0)
            config.design_batch = 20
        elif agent == "appo":
            config.design_batch = 20
        elif agent == "replay":
            # Three steps of three actions are 27 sequences: most samples are known, which is no collapse here.
            config.training(batch=20, novelty=0.0, prior_weight=0.0)
        else:
            config.training(batch=20, imitation=0.0, entropy=0.02, novelty=0.0)
        algorithm = config.build_algo()
        means: list[float] = []

        def sink(played: list[Played]) -> None:
            assert all(3 not in one.actions for one in played)
            means.append(float(np.mean([one.outcome.reward for one in played])))
            for one in played:
                algorithm.remember(str(one.actions), one)

        algorithm.sink = sink
        for _ in range(50 if agent == "reinforce" else 25):
            algorithm.train()
        algorithm.stop()
        assert np.mean(means[:10]) < 0.5 and np.mean(means[-10:]) > 0.7

    @pytest.mark.parametrize("agent", ["appo", "dqn", "ppo", "reinforce", "replay"])
    def test_a_search_with_two_runners(self, agent: str, tmp_path: Path) -> None:
        scenario = load_scenario("iris-smoke")
        over = {**load_agent(agent).settings_for("iris-smoke").model_dump(), "batch": 6}
        cache, checkpoint = str(tmp_path / "cache.sqlite"), str(tmp_path / "checkpoint.npz")
        task = SearchTask(scenario, 14, 1, 2, cache, over, starting_points(scenario)[:2], checkpoint=checkpoint)
        trials, summary = run(agent, task)
        assert summary.distinct == 14 and summary.stopped == "budget"
        assert [trial.index for trial in trials] == list(range(len(trials)))
        assert tuple(trial.actions for trial in trials[:2]) == task.starts
        for trial in trials:
            assert is_finished(scenario, list(trial.actions))
            assert trial.evaluation["reward"] == trial.reward and isinstance(trial.evaluation["accuracy"], float)
        hashes = [trial.design_hash for trial in trials if not trial.repeated]
        assert len(hashes) == len(set(hashes)) == 14
        # The same seed and number of workers give the same search, unless it is asynchronous; a checkpoint lets it go on.
        if agent == "appo":
            assert {"weights_age"} <= trials[-1].evaluation.keys() - trials[0].evaluation.keys()
            assert all(0 <= int(trial.evaluation["weights_age"] or 0) <= 14 for trial in trials[2:])
        else:
            again, _ = run(agent, replace(task, checkpoint=None))
            assert essence(again) == essence(trials)
        more, summary = run(agent, replace(task, budget=20, history=tuple(trials)))
        assert summary.distinct == 20 and more[0].index == len(trials)

    @pytest.mark.parametrize("agent", ["appo", "dqn", "ppo", "reinforce", "replay"])
    def test_a_checkpoint_holds_what_was_learned(self, agent: str, tmp_path: Path) -> None:
        import importlib

        from agents import checkpoint
        from agents.search_algorithm import start

        module = importlib.import_module(f"agents.{agent}")
        over = {**load_agent(agent).settings_for("iris-smoke").model_dump(), "batch": 3, "hidden": 8}
        task = SearchTask(load_scenario("iris-smoke"), 30, 1, 0, str(tmp_path / "cache.sqlite"), over)
        settings = module.Settings(**over)
        path = tmp_path / "checkpoint.npz"
        first, second = (start(module.configuration(replace(task, seed=seed), settings)) for seed in (1, 2))
        try:
            first.sink = lambda played: [first.remember(str(one.actions), one) for one in played]
            first.train()
            checkpoint.save(path, first.learner_group, first.own())
            second.set_own(checkpoint.load(path, second.learner_group))
            second.sync()
            states = [algorithm.learner_group.get_state()["learner"] for algorithm in (first, second)]
            assert first.own() == second.own()
            assert states[0]["optimizer"]["default_policy_default_optimizer"]["state"]["state"]
            for part in ("rl_module", "optimizer"):
                np.testing.assert_equal(states[1][part], states[0][part])
            runner = second.env_runner_group.local_env_runner.module.get_state()
            # Runners do without copies of the network.
            learned = {name: states[0]["rl_module"]["default_policy"][name] for name in runner}
            np.testing.assert_equal({name: np.asarray(value) for name, value in runner.items()}, learned)
            second.train()
        finally:
            first.stop()
            second.stop()

    def test_an_unreadable_checkpoint_costs_the_learners_state_only(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        path = tmp_path / "checkpoint.npz"
        over = {**load_agent("ppo").settings_for("iris-smoke").model_dump(), "batch": 4}
        task = SearchTask(load_scenario("iris-smoke"), 5, 1, 0, str(tmp_path / "cache.sqlite"), over, checkpoint=str(path))
        trials, _ = run("ppo", task)
        assert path.is_file()
        path.write_bytes(b"not a checkpoint")
        more, summary = run("ppo", replace(task, budget=8, history=tuple(trials)))
        assert summary.distinct == 8 and more[0].index == len(trials)
        (warning,) = [record.getMessage() for record in caplog.records if record.name.startswith("agents")]
        assert str(path) in warning and "learns anew" in warning and "\n" not in warning

    def test_a_killed_runner_comes_back(self) -> None:
        over = {**load_agent("reinforce").settings_for("iris-smoke").model_dump(), "batch": 6}
        killed: list[int] = []
        trials: list[Trial] = []

        def on_trial(trial: Trial) -> None:
            trials.append(trial)
            if len(trials) in (8, 30):
                killed.append(env_runners()[0])
                os.kill(killed[-1], signal.SIGKILL)

        task = SearchTask(load_scenario("iris-smoke"), 60, 0, 2, settings=over)
        summary = load_agent("reinforce").search(task, on_trial=on_trial, should_stop=lambda: False, on_stage=lambda _: None)
        assert len(set(killed)) == 2 and summary.distinct == 60
        assert [trial.index for trial in trials] == list(range(len(trials)))
        hashes = [trial.design_hash for trial in trials if not trial.repeated]
        assert len(hashes) == len(set(hashes)) == 60


def env_runners() -> list[int]:
    """The env runners among the descendants of this process."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split(None, 2) for line in listed]
    family = {os.getpid()}
    for _ in range(4):
        family |= {int(pid) for pid, parent, _ in rows if int(parent) in family}
    return [int(pid) for pid, _, command in rows if int(pid) in family and "SingleAgentEnvRunner" in command]
