"""The classical agents: each obeys the protocol, and those that optimise find what was planted."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agents.ask_tell
import agents.pool.local
from agents import AGENTS, SearchSummary, SearchTask, Trial, load_agent
from agents.architecture import centralised
from agents.ask_tell import Proposal, run_ask_tell
from agents.baselines import starting_points
from agents.features import WHOLE, feature_names, features
from agents.mutations import crossed, mutated
from agents.nsga2 import NSGA2Searcher
from agents.nsga2 import Settings as NSGA2Settings
from agents.objectives import Objectives, non_dominated, objectives
from agents.partition import partitions, placements
from agents.pool import Job, LocalPool, Pending
from agents.pool.jobs import evaluate
from agents.protocol import EPISODES_PER_BUDGET, Ledger, Outcome, full_draws, possible_draws
from agents.racing import Ladder
from agents.sequences import balanced_actions, genome_of, play
from agents.settings import RacingSettings
from agents.tpe import Choices
from qumos_env import Design, load_scenario
from qumos_env.env.actions import DesignState
from qumos_env.errors import EvaluationFailure, QumosError
from qumos_env.scenario import Scenario, parse_scenario
from training.curves import best_per_design, search_best
from training.display import Display
from training.fronts import front_of
from training.report import write_report
from training.results import Results
from training.rundir import BEST, REPORT, RESULTS, TRACE, RunDirectory, read_record, read_trace
from training.tables import result_notes
from training.workflow import make_plan, run_to_results, with_budget

RACING = ("random-halving", "evolution", "surrogate", "architecture")
CLASSICAL = ("annealing", "architecture", "evolution", "local", "nsga2", "partition", "random", "random-halving", "surrogate", "tpe")
SMOKE = load_scenario("iris-smoke")
WIDE = load_scenario("hyperplanes-four")
PLANTED = (0, 1, 1, 0, 1, 0, 0, 1)


def scenario_with(base: Scenario, **sections: dict[str, Any]) -> Scenario:
    """``base`` with other values in some sections."""
    data = base.model_dump(mode="json")
    return parse_scenario(data | {name: data[name] | values for name, values in sections.items()})


MANY_DRAWS = scenario_with(SMOKE, draws={"count": 8})
HALVES = scenario_with(load_scenario("cancer-membership"), threat={"membership": "loss"})
CUTS_AND_SHOTS = scenario_with(SMOKE, design={"max_gate_cuts": 2, "shots": [64, 256], "vocabulary": "both"}, draws={"count": 4})


def worth(design: Design) -> float:
    """In [0, 1]: half for the planted partition, half for its gates: two RY on every qubit and an entangler of every neighbouring pair."""
    qubits = range(design.n_qubits)
    right = np.mean([(design.partition[a] == design.partition[b]) == (PLANTED[a] == PLANTED[b]) for a, b in combinations(qubits, 2)])
    turned = np.mean([min(2, sum(gate.name == "ry" and gate.qubits == (qubit,) for gate in design.gates)) / 2 for qubit in qubits])
    superfluous = sum(gate.name in ("h", "rz", "reupload") for gate in design.gates)
    return float(0.5 * right**2 + 0.5 * turned * math.exp(-superfluous / 10))


class PlantedEvaluation:
    """What the stub evaluator returns."""

    def __init__(self, design: Design, draws: int, full: int) -> None:
        noise = np.random.default_rng(int(design.hash[:8], 16)).normal()
        self.reward = worth(design) + 0.05 * float(noise) * (1 / draws - 1 / full)
        secure = len(set(design.assignment)) > 1
        self._flat = {
            "reward": self.reward,
            "accuracy": worth(design),
            "cost": float(len(design.gates)),
            "rewards.accuracy": worth(design) / 2,
            "rewards.theft": 0.5 if secure else 0.0,
            "rewards.cost": 0.0,
        }

    def to_dict(self) -> dict[str, float]:
        """Flat scalars."""
        return self._flat


class PlantedEvaluator:
    """Knows what was planted; noisier with few draws; counts trained models, and refuses what has an H on qubit 0."""

    trained = 0
    hits = 0

    def __init__(self, scenario: Scenario, cache: str | None = None) -> None:
        self.scenario = scenario
        self._known: dict[str, int] = {}

    def evaluate(
        self, design: Design, *, seed: int | None = None, rows: str = "search", limits: bool = True, draws: int | None = None
    ) -> PlantedEvaluation:
        """The worth, blurred."""
        full = full_draws(self.scenario)
        wanted = full if draws is None else self.scenario.checked_draws(draws)
        type(self).trained += max(0, wanted - self._known.get(design.hash, 0))
        self._known[design.hash] = max(wanted, self._known.get(design.hash, 0))
        if [gate.name for gate in design.gates].count("h") > 6:
            raise EvaluationFailure("too many H")
        return PlantedEvaluation(design, wanted, full)


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> type[PlantedEvaluator]:
    """Pools without workers use the stub evaluator."""
    monkeypatch.setattr(agents.pool.local, "evaluator_of", PlantedEvaluator)
    monkeypatch.setattr(PlantedEvaluator, "trained", 0)
    return PlantedEvaluator


def run(agent: str, task: SearchTask, stop_after: int | None = None) -> tuple[list[Trial], SearchSummary]:
    """Runs an agent and collects its trials."""
    trials: list[Trial] = []
    summary = load_agent(agent).search(
        task,
        on_trial=trials.append,
        should_stop=lambda: stop_after is not None and len(trials) >= stop_after,
        on_stage=lambda _: None,
    )
    return trials, summary


def task_of(agent: str, scenario: Scenario, budget: int, seed: int = 0, **over: object) -> SearchTask:
    """A search with the tuned settings and starting points, if the agent wants them."""
    found = load_agent(agent).settings_for(scenario.name, over)
    starts = starting_points(scenario) if found.warm_start else ()
    return SearchTask(scenario, budget, seed, workers=0, settings=found.model_dump(), starts=starts)


def essence(trials: list[Trial]) -> list[tuple[object, ...]]:
    """Everything of a trace that must be reproducible."""
    return [(t.index, t.actions, t.design_hash, t.reward, t.repeated, t.failure, t.draws) for t in trials]


def small(agent: str, seed: int = 0, budget: int = 24, **over: object) -> SearchTask:
    """A search of the smoke scenario with eight draws, racing where the agent can."""
    return task_of(agent, MANY_DRAWS, budget, seed, **({"racing": True} if agent in RACING else {}), **over)


class LazyPool(LocalPool):
    """Evaluates when somebody wants the result, the latest first: as if worker processes were done in another order."""

    def submit(self, job: Job) -> Any:
        """Does nothing yet."""
        pool = self
        pool._open = [*getattr(pool, "_open", []), one := _Lazy(pool, job)]
        return one


class _Lazy(Pending):
    def result(self) -> Outcome:
        pool: Any = self._pool
        pool._evaluator = pool._evaluator or PlantedEvaluator(pool.scenario)
        for one in reversed(pool._open):
            one.answer = evaluate(pool._evaluator, one.job).result
        pool._open = []
        assert isinstance(self.answer, Outcome)
        return self.answer


@pytest.mark.parametrize("agent", CLASSICAL)
class TestEveryAgent:
    """What holds for all."""

    def test_the_budget_counts_trained_models(self, agent: str, fake: type[PlantedEvaluator]) -> None:
        trials, summary = run(agent, small(agent))
        assert summary.stopped == "budget" and summary.draws == fake.trained == 24 * 8
        assert summary.distinct == len({trial.design_hash for trial in trials})
        known: dict[str, int] = {}
        for trial in trials:
            assert trial.draws is not None and 1 <= trial.draws <= 8
            assert trial.repeated == (trial.draws <= known.get(trial.design_hash, 0))
            known[trial.design_hash] = max(trial.draws, known.get(trial.design_hash, 0))
        assert sum(known.values()) == 24 * 8
        if agent in RACING:
            assert summary.distinct > 24 and {1, 4, 8} <= set(known.values())

    def test_actions_are_valid_and_designs_within_the_limits(self, agent: str) -> None:
        task = task_of(agent, CUTS_AND_SHOTS, 40)
        scenario = centralised(task.scenario) if agent == "architecture" else task.scenario
        trials, _ = run(agent, task)
        for trial in trials:
            state = DesignState(scenario)
            assert all(state.apply(action) for action in trial.actions) and state.done
            scenario.check_design(Design.from_dict(trial.design))

    def test_the_seed_and_nothing_else_decides(self, agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
        trace = essence(run(agent, small(agent))[0])
        assert essence(run(agent, small(agent))[0]) == trace
        assert essence(run(agent, small(agent, seed=1))[0]) != trace
        monkeypatch.setattr(agents.ask_tell, "open_pool", lambda scenario, workers, *_, **__: LazyPool(scenario, workers))
        assert essence(run(agent, small(agent))[0]) == trace

    def test_an_interrupted_search_goes_on_to_the_same_trace(self, agent: str, fake: type[PlantedEvaluator]) -> None:
        task = small(agent)
        whole, _ = run(agent, task)
        first, _ = run(agent, task, stop_after=9)
        assert 9 <= len(first) < len(whole)
        before = fake.trained
        fake.trained = 0
        rest, summary = run(agent, replace(task, history=tuple(Trial.model_validate_json(one.model_dump_json()) for one in first)))
        assert essence(first + rest) == essence(whole) and summary.draws == 24 * 8
        assert fake.trained <= before  # an evaluator that knows nothing of the first session trains what is extended again

    def test_a_finished_search_goes_on_with_a_larger_budget(self, agent: str) -> None:
        trials, _ = run(agent, small(agent))
        more, summary = run(agent, replace(small(agent, budget=30), history=tuple(trials)))
        assert more and summary.stopped in ("budget", "exhausted")
        assert [trial.index for trial in trials + more] == list(range(len(trials) + len(more)))

    def test_wrong_settings_are_named(self, agent: str) -> None:
        with pytest.raises(QumosError, match=f"the settings of {agent}.*'warm_strat'; did you mean warm_start"):
            load_agent(agent).settings_for("iris-smoke", {"warm_strat": True})
        with pytest.raises(QumosError, match="lag"):
            load_agent(agent).settings_for("iris-smoke", {"lag": 0})

    @pytest.mark.slow
    def test_the_trace_does_not_depend_on_the_number_of_workers(self, agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        over: dict[str, object] = {"racing": True} if agent in RACING else {}
        task = task_of(agent, SMOKE, 14, 5, **over)
        traces = [essence(run(agent, replace(task, workers=workers))[0]) for workers in (0, 1, 2)]
        assert traces[0] == traces[1] == traces[2]


def test_the_list_above_is_complete() -> None:
    assert set(CLASSICAL) == AGENTS.keys() - {"ppo", "reinforce"} - {name for name in AGENTS if _needs_ray(name)}


def _needs_ray(name: str) -> bool:
    module = AGENTS[name]
    source = (Path(__file__).parent.parent / f"{str(module).replace('.', '/')}.py").read_text(encoding="utf-8")
    return "rllib" in source


@pytest.fixture(scope="module")
def by_chance() -> float:
    """What random search finds of what was planted: the mean worth of its ten best."""
    patch = pytest.MonkeyPatch()
    patch.setattr(agents.pool.local, "evaluator_of", PlantedEvaluator)
    best = ten_best(run("random", task_of("random", WIDE, 120))[0])
    patch.undo()
    return best


def ten_best(trials: list[Trial]) -> float:
    """Mean worth of the ten best designs of a search, whatever was measured of them."""
    found = {trial.design_hash: worth(Design.from_dict(trial.design)) for trial in trials}
    return float(np.mean(sorted(found.values())[-10:]))


@pytest.mark.parametrize(
    ("agent", "over"),
    [
        ("evolution", {"population": 20, "tournament": 6}),
        ("evolution", {"population": 20, "tournament": 6, "racing": True}),
        ("local", {}),
        ("annealing", {}),
        ("surrogate", {}),
        ("surrogate", {"racing": True}),
        ("surrogate", {"choice": "optimistic"}),
        ("tpe", {}),
        ("nsga2", {"population": 20}),
    ],
)
def test_what_was_planted_is_found(agent: str, over: dict[str, object], by_chance: float) -> None:
    trials, _ = run(agent, task_of(agent, WIDE, 120, warm_start=False, **over))
    assert ten_best(trials) > by_chance + 0.08


class TestDraws:
    """Many fidelities in the protocol."""

    def searched(self, proposals: list[Proposal], budget: int = 4, scenario: Scenario = MANY_DRAWS) -> tuple[list[Trial], list[Any], Any]:
        """Runs a script of proposals one after the other; returns trials, what was told and the summary."""
        told: list[tuple[Proposal, Outcome]] = []

        class Scripted:
            def ask(self) -> Proposal | None:
                return proposals.pop(0) if proposals else None

            def tell(self, proposal: Proposal, outcome: Outcome) -> None:
                told.append((proposal, outcome))

        trials: list[Trial] = []
        summary = run_ask_tell(
            SearchTask(scenario, budget, workers=0),
            Scripted(),
            on_trial=trials.append,
            should_stop=lambda: False,
            on_stage=lambda _: None,
            lag=1,
        )
        return trials, told, summary

    def test_more_draws_cost_the_new_ones(self, fake: type[PlantedEvaluator]) -> None:
        a, b, *_ = starting_points(MANY_DRAWS)
        trials, told, summary = self.searched([Proposal(a, 2), Proposal(b, 8), Proposal(a, 5), Proposal(a, 3), Proposal(a)])
        assert [(trial.draws, trial.repeated) for trial in trials] == [(2, False), (8, False), (5, False), (5, True), (8, False)]
        assert [proposal.draws for proposal, _ in told] == [2, 8, 5, 5, 8]
        assert told[3][1].reward == told[2][1].reward != told[4][1].reward
        assert (summary.distinct, summary.draws, summary.stopped) == (2, 16, "exhausted") and fake.trained == 16

    def test_the_last_design_gets_what_is_left(self) -> None:
        a, b, *_ = starting_points(MANY_DRAWS)
        trials, _, summary = self.searched([Proposal(a, 5), Proposal(b)], budget=1)
        assert [trial.draws for trial in trials] == [5, 3] and summary.stopped == "budget"
        assert not trials[1].is_full(MANY_DRAWS)

    def test_halves_come_in_pairs(self) -> None:
        assert [possible_draws(HALVES, wanted) for wanted in (1, 2, 3, 31, 32, 99, None)] == [2, 2, 4, 32, 32, 32, 32]
        assert [possible_draws(load_scenario("cancer-membership"), wanted) for wanted in (1, 17, None)] == [16, 18, 32]
        assert possible_draws(MANY_DRAWS, 0) == 1

    def test_failures_are_paid_for(self) -> None:
        scenario = scenario_with(WIDE, design={"vocabulary": "gates"})
        state = DesignState(scenario)
        while state.phase in ("cut", "assign"):
            state.apply(int(np.flatnonzero(state.mask())[0]))
        names = [str(action) for action in state.table.actions]
        state.replay([names.index("ry(0)"), *[names.index("h(0)")] * 7, state.table.finish])
        trials, told, summary = self.searched([Proposal(tuple(state.history), 2)], scenario=scenario)
        assert trials[0].failure == "too many H" and trials[0].draws == summary.draws == 2 and told[0][1].reward == 0

    def test_older_traces_count_all_draws(self) -> None:
        trials, _ = run("random", task_of("random", MANY_DRAWS, 3))
        old = [Trial.model_validate({name: value for name, value in trial if name != "draws"}) for trial in trials]
        assert [trial.draws for trial in old] == [None] * 3 and all(trial.is_full(MANY_DRAWS) for trial in old)
        more, summary = run("random", replace(task_of("random", MANY_DRAWS, 5), history=tuple(old)))
        assert len(more) == 2 and summary.draws == 5 * 8

    def test_a_trace_with_more_draws_than_there_are_is_refused(self) -> None:
        trials, _ = run("random", task_of("random", MANY_DRAWS, 1))
        ledger = Ledger(SearchTask(MANY_DRAWS, 1), lambda _: None, lambda: False)
        with pytest.raises(QumosError, match="trial 0 of the trace: measured with 9 draws, the scenario has 8"):
            ledger.restore(trials[0].model_copy(update={"draws": 9}))

    def test_episodes_that_measure_nothing_are_limited(self) -> None:
        a = starting_points(MANY_DRAWS)[0]
        trials, _, summary = self.searched([Proposal(a, 1)] * 100, budget=2)
        assert summary.stopped == "episodes" and summary.draws == 1
        assert len(trials) == EPISODES_PER_BUDGET * 2 + 1

    def test_agents_that_know_no_draws_use_all(self) -> None:
        ledger = Ledger(SearchTask(MANY_DRAWS, 2), lambda _: None, lambda: False)
        a, b, *_ = starting_points(MANY_DRAWS)
        assert ledger.record(a, Outcome(0.1)).draws == 8 and ledger.episodes_left == 1
        assert ledger.record(a, Outcome(0.1)).repeated and ledger.episodes_left == 1
        ledger.record(b, Outcome(0.2))
        assert ledger.finished() and ledger.summary() == SearchSummary(2, 3, "budget", 16)
        nothing = Ledger(SearchTask(MANY_DRAWS, 2), lambda _: None, lambda: False)
        assert nothing.record(a[:2], Outcome(0.0, {}, "step limit")).draws == 0 and nothing.draws == 0


class TestLadder:
    """Successive halving."""

    def ladder(self, scenario: Scenario = MANY_DRAWS, **over: Any) -> Ladder:
        """One that races."""
        return Ladder(scenario, RacingSettings(racing=True, **over))

    def test_rungs_grow_by_the_inverse_share(self) -> None:
        assert self.ladder().rungs == (1, 4, 8)
        assert self.ladder(promoted=0.5).rungs == (1, 2, 4, 8)
        assert self.ladder(first_draws=2).rungs == (2, 8)
        assert self.ladder(first_draws=99).rungs == (8,) == Ladder(MANY_DRAWS, RacingSettings()).rungs
        assert self.ladder(HALVES, promoted=0.3).rungs == (2, 8, 28, 32)
        assert self.ladder(load_scenario("cancer-membership")).rungs == (16, 32)

    def test_the_best_share_is_promoted_once(self) -> None:
        ladder = self.ladder()
        for number in range(8):
            proposal = ladder.entry((number,))
            assert proposal.draws == 1
            ladder.tell(proposal, Outcome(number / 10))
        assert [ladder.promotion() for _ in range(3)] == [Proposal((7,), 4), Proposal((6,), 4), None]
        ladder.tell(Proposal((8,), 1), Outcome(0.9))
        ladder.tell(Proposal((9,), 1), Outcome(1.0, {}, "diverged"))
        assert ladder.promotion() == Proposal((8,), 4)
        for number in (6, 7, 8, 5):
            ladder.tell(Proposal((number,), 4), Outcome(number / 10))
        assert ladder.promotion() == Proposal((8,), 8)

    def test_racing_finds_more_at_equal_draws(self, by_chance: float) -> None:
        trials, summary = run("random-halving", task_of("random-halving", WIDE, 120))
        assert summary.distinct > 300 and ten_best(trials) > by_chance + 0.02

    def test_only_full_measurements_count_as_best(self) -> None:
        trials, _ = run("random-halving", task_of("random-halving", WIDE, 20))
        full = [trial.reward for trial in trials if trial.draws == 8]
        assert search_best(WIDE, trials) == max(full) == best_per_design(WIDE, trials)[-1]
        assert len(best_per_design(WIDE, trials)) == 20


class TestFeatures:
    """Designs as figures."""

    @pytest.mark.parametrize("scenario", [SMOKE, CUTS_AND_SHOTS, WIDE], ids=lambda one: f"{one.name}-{one.design.vocabulary}")
    def test_they_count_what_the_design_has(self, scenario: Scenario) -> None:
        names, rng = feature_names(scenario), np.random.default_rng(0)
        assert len(set(names)) == len(names)
        for _ in range(30):
            state = DesignState(scenario).replay(balanced_actions(scenario, rng))
            design = state.design()
            found = dict(zip(names, features(state), strict=True))
            assert [found[name] for name in WHOLE[:2]] == [len(design.gates), design.n_trainable]
            assert found["cuts"] == len(design.cut_gates) and found["parts"] == design.n_parts
            assert found["shots"] == pytest.approx(math.log(design.shots or 1))
            for qubit, part in enumerate(design.partition):
                assert found[f"ry on {qubit}"] == sum(gate.name == "ry" and qubit in gate.qubits for gate in design.gates)
                assert found[f"size of the part of {qubit}"] == design.partition.count(part)
                at = [name for name in scenario.provider_names if found[f"{qubit} at {name}"]]
                assert at == [design.assignment[part]]
            for a, b in combinations(range(design.n_qubits), 2):
                assert found[f"{a} and {b} in one part"] == (design.partition[a] == design.partition[b])
                assert found[f"entanglers of {a} and {b}"] == sum(set(gate.qubits) == {a, b} for gate in design.gates)

    def test_turns_after_the_last_entangler_leave_the_axis_that_is_measured(self) -> None:
        scenario = scenario_with(SMOKE, design={"vocabulary": "gates"})
        state = DesignState(scenario)
        names = {str(action): number for number, action in enumerate(state.table.actions)}
        cut = ["part(0)", "part(0)", "part(1)", "part(1)", "assign(0)", "assign(1)"]
        state.replay([names[name] for name in [*cut, "ry(0)", "cz(0, 1)", "rz(0)", "rx(0)", "ry(1)", "h(1)"]])
        found = dict(zip(feature_names(scenario), features(state), strict=True))
        assert [found[f"turns of {qubit} after its last entangler"] for qubit in range(4)] == [1, 2, 0, 0]
        assert [found[f"depth of {qubit}"] for qubit in range(4)] == [4, 4, 0, 0]
        assert [found[f"partners of {qubit}"] for qubit in range(4)] == [1, 1, 0, 0]


class TestObjectives:
    """Several respects at once."""

    def test_they_come_from_the_evaluation(self) -> None:
        flat = {
            "accuracy": 0.8,
            "cost": 12,
            "rewards.accuracy": 0.3,
            "rewards.theft": 0.1,
            "rewards.membership": 0.05,
            "rewards.cost": -0.2,
        }
        assert objectives(flat) == Objectives(0.8, pytest.approx(0.15), 12)
        assert objectives({}) is None and objectives(flat | {"accuracy": None}) is None and objectives(flat | {"cost": math.nan}) is None

    @given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=12))
    def test_non_dominated_rows(self, rows: list[tuple[int, int, int]]) -> None:
        keep = non_dominated(np.array(rows, float).reshape(-1, 3))
        beaten = [any(all(x <= y for x, y in zip(a, b, strict=True)) and a != b for a in rows) for b in rows]
        assert {row for row, kept in zip(rows, keep, strict=True) if kept} == {
            row for row, lost in zip(rows, beaten, strict=True) if not lost
        }
        assert sum(keep) == len({row for row, kept in zip(rows, keep, strict=True) if kept})

    def test_nsga2_keeps_what_is_best_in_any_respect(self) -> None:
        searcher = NSGA2Searcher(SMOKE, NSGA2Settings(population=3), seed=0)
        told = [(0.9, 0.0, 30), (0.5, 0.0, 2), (0.6, 0.4, 20), (0.5, 0.3, 25), (0.4, 0.0, 2)]
        for number, (accuracy, security, cost) in enumerate(told):
            flat: dict[str, Any] = {"accuracy": accuracy, "rewards.theft": security, "cost": cost}
            searcher.tell(Proposal((number,)), Outcome(0.0, flat))
        searcher.tell(Proposal((9,)), Outcome(0.0, {}, "diverged"))
        assert set(searcher.members) == {(0,), (1,), (2,)}

    def test_the_front_of_a_search(self) -> None:
        trials, _ = run("nsga2", task_of("nsga2", WIDE, 80))
        front = front_of(WIDE, trials)
        worths = {trial.design_hash: objectives(trial.evaluation) for trial in trials}
        assert len(front) > 3 and [point.accuracy for point in front] == sorted((point.accuracy for point in front), reverse=True)
        assert max(one.accuracy for one in worths.values() if one) == front[0].accuracy
        assert min(one.cost for one in worths.values() if one) == min(point.cost for point in front)
        assert front_of(WIDE, [trial.model_copy(update={"draws": 1}) for trial in trials]) == ()


class TestTPE:
    """Designs as choices."""

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10_000), wide=st.booleans())
    def test_choices_lead_back_to_the_design(self, seed: int, wide: bool) -> None:
        scenario = WIDE if wide else CUTS_AND_SHOTS
        genome = genome_of(scenario, balanced_actions(scenario, np.random.default_rng(seed)))
        choices = Choices(scenario, slots=len(genome.gates) + 2)
        found = choices.leading_to(genome)
        assert found is not None
        assert play(scenario, choices.chosen(_fixed(found)), np.random.default_rng(0)) == play(scenario, genome, np.random.default_rng(0))
        assert set(choices.distributions(found)) == set(found)
        assert Choices(scenario, slots=max(1, len(genome.gates) - 1)).leading_to(genome) is None or len(genome.gates) <= 1


def _fixed(choices: dict[str, Any]) -> Any:
    """A trial that takes these choices, and the first where there is none (for a part that the design has not)."""

    class First(optuna.trial.FixedTrial):
        def suggest_categorical(self, name: str, choices: Any) -> Any:
            return super().suggest_categorical(name, choices) if name in self._params else choices[0]

    return First(choices)


class TestPartition:
    """Textbook × every partition."""

    @pytest.mark.parametrize("name", ["iris-smoke", "hyperplanes-four", "parity-three"])
    def test_every_partition_is_listed_once(self, name: str) -> None:
        scenario = load_scenario(name)
        qubits, most = scenario.design.qubits, scenario.design.max_parts
        canonical = {
            tuple({part: number for number, part in enumerate(dict.fromkeys(labels))}[part] for part in labels)
            for labels in product(range(most), repeat=qubits)
        }
        fits = {one for one in canonical if scenario.design_limits.fits(np.bincount(one).tolist())}
        listed = list(partitions(scenario))
        assert len(listed) == len(fits) and set(listed) == fits

    def test_equal_providers_are_not_told_apart(self) -> None:
        listed = list(placements(SMOKE))
        assert len(listed) == len(set(listed)) == 2 * len(list(partitions(SMOKE)))
        assert {one.assignment for one in listed} == {(0, 0), (0, 1)}
        data = SMOKE.model_dump(mode="json")
        data["providers"][1]["price"] = 2.0
        assert {one.assignment for one in placements(parse_scenario(data))} == set(product(range(2), repeat=2))

    def test_it_ends_when_everything_has_been_tried(self) -> None:
        trials, summary = run("partition", task_of("partition", SMOKE, 500))
        assert summary.stopped == "exhausted" and summary.distinct == len(trials)
        cuts = {Design.from_dict(trial.design).partition for trial in trials}
        assert cuts == set(partitions(SMOKE))

    def test_the_planted_partition_is_found(self, by_chance: float) -> None:
        trials, _ = run("partition", task_of("partition", WIDE, 140))
        best = max(trials, key=lambda trial: trial.reward)
        assert Design.from_dict(best.design).partition == PLANTED and best.reward > by_chance

    def test_large_registers_are_sampled(self) -> None:
        trials, _ = run("partition", task_of("partition", WIDE, 60, most=20))
        assert len({trial.design_hash for trial in trials}) == 60


class TestArchitecture:
    """The centralised baseline."""

    def test_the_problem_is_accuracy_alone(self) -> None:
        for scenario in (SMOKE, WIDE, load_scenario("cancer-membership"), load_scenario("wine-combined")):
            central = centralised(scenario)
            assert central.design.max_parts == len(central.providers) == 1 and central.reward.accuracy == 1
            assert central.draws == scenario.draws and central.data == scenario.data

    def test_designs_are_in_one_piece(self) -> None:
        trials, _ = run("architecture", task_of("architecture", WIDE, 30))
        assert {Design.from_dict(trial.design).partition for trial in trials} == {(0,) * 8}
        WIDE.check_design(Design.from_dict(trials[0].design), limits=False)
        with pytest.raises(QumosError):
            WIDE.check_design(Design.from_dict(trials[0].design))

    def test_devices_too_small_are_named(self) -> None:
        scenario = load_scenario("digits-devices")
        widest = max(provider.max_qubits for provider in scenario.providers)
        if widest >= scenario.design.qubits:
            assert centralised(scenario).providers[0].max_qubits == widest
        data = scenario.model_dump(mode="json")
        data["providers"] = [provider | {"max_qubits": scenario.design.qubits // 2 + 1} for provider in data["providers"]]
        with pytest.raises(QumosError, match="no provider holds all"):
            centralised(parse_scenario(data))


class TestMutations:
    """Edits that searches share."""

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10_000))
    def test_children_of_two_are_repaired(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        first, second = (genome_of(CUTS_AND_SHOTS, balanced_actions(CUTS_AND_SHOTS, rng)) for _ in range(2))
        genome = mutated(crossed(first, second, rng), CUTS_AND_SHOTS, 3.0, 0.5, rng)
        state = DesignState(CUTS_AND_SHOTS)
        assert all(state.apply(action) for action in play(CUTS_AND_SHOTS, genome, rng)) and state.done
        CUTS_AND_SHOTS.check_design(state.design())


@pytest.mark.parametrize(("agent", "library"), [("tpe", "optuna"), ("nsga2", "pymoo")])
def test_a_missing_library_names_its_extra(agent: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, str(AGENTS[agent]))
    with pytest.raises(QumosError, match=rf"agent {agent} needs {library}.*qumos-env\[{library}\]"):
        load_agent(agent)


def test_the_stub_is_used(fake: Callable[..., Any]) -> None:
    assert agents.pool.local.evaluator_of is fake


class TestRuns:
    """From search to results, with the stub evaluator."""

    def finished(self, agent: str, folder: Path, budget: int = 12) -> Results:
        """A run of that agent, interrupted by nothing."""
        plan = make_plan(
            scenario="hyperplanes-four",
            agent=agent,
            budget=budget,
            seed=0,
            workers=0,
            time_limit=None,
            warm_start=None,
            random_budget=0,
            contenders=4,
            test_seeds=2,
            overrides={},
        )
        with RunDirectory.create(folder, plan, force=False) as run:
            results = run_to_results(run, Display(quiet=True))
        write_report(run)
        return results

    def test_a_search_that_races_goes_on(self, tmp_path: Path) -> None:
        results = self.finished("random-halving", tmp_path / "run")
        assert results.draws == 12 * 8 and results.distinct > 24 and "(96 trained models)" in result_notes(results)[0]
        full = {trial.design_hash: trial.reward for trial in read_trace(tmp_path / "run" / TRACE) if trial.draws == 8}
        assert results.search_best == max(full.values())
        assert len(full) < 4 or {one.design_hash for one in results.race} <= full.keys()
        best = Design.load(tmp_path / "run" / BEST)
        assert best.hash in {one.design_hash for one in results.race}
        with RunDirectory.resume(tmp_path / "run") as run:
            run.plan = with_budget(run.plan, 20, None)
            results = run_to_results(run, Display(quiet=True), run.trials())
        assert results.draws == 20 * 8
        assert [trial.index for trial in read_trace(tmp_path / "run" / TRACE)] == list(range(results.episodes))

    def test_a_winner_beyond_the_limits_is_a_reference(self, tmp_path: Path) -> None:
        results = self.finished("architecture", tmp_path / "run")
        assert not results.winner.within_limits and not any(one.within_limits for one in results.race)
        assert any("breaks the limits" in note for note in result_notes(results))

    def test_the_front_is_reported(self, tmp_path: Path) -> None:
        results = self.finished("nsga2", tmp_path / "run", budget=30)
        assert read_record(Results, tmp_path / "run" / RESULTS).front == results.front != ()
        page = (tmp_path / "run" / REPORT).read_text(encoding="utf-8")
        assert all(f"<td>{point.design_hash[:8]}</td>" in page for point in results.front)
        assert any("not beaten in accuracy, security and cost at once" in note for note in result_notes(results))

    def test_results_of_older_releases_are_read(self, tmp_path: Path) -> None:
        self.finished("partition", tmp_path / "run")
        data = json.loads((tmp_path / "run" / RESULTS).read_text(encoding="utf-8"))
        del data["draws"], data["front"]
        (tmp_path / "run" / RESULTS).write_text(json.dumps(data))
        older = read_record(Results, tmp_path / "run" / RESULTS)
        assert older.draws is None and older.front == () and "trained models" not in result_notes(older)[0]
