"""Tables of all designs: enumeration, making, reading, and what answers from them."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from agents.clock import Clock
from agents.meter import DIED
from agents.pool import Answer, Job, LocalPool, Pending
from agents.protocol import Outcome
from qumos_env import Design, Evaluator, load_scenario
from qumos_env.env.actions import DesignState
from qumos_env.env.enumeration import all_designs
from qumos_env.env.table_env import TableEnv
from qumos_env.errors import QumosError
from qumos_env.evaluation.table import Table, columns_of, read_table
from qumos_env.evaluation.table_evaluator import TableEvaluator, evaluator_of
from qumos_env.evaluation.workload import ROWS
from qumos_env.registration import list_tables, table_folder
from qumos_env.scenario import Scenario, looked_up, parse_scenario
from qumos_env.scenario import scenario as library
from training import table_maker
from training.display import Display
from training.table_maker import make_table
from training.table_report import noise_ceiling, regret_curve, search, write_report


def tiny(**design: object) -> Scenario:
    limits = {"qubits": 2, "max_parts": 2, "max_part_qubits": 2, "max_gates": 3, "gates": ["ry", "cz"], "vocabulary": "blocks"}
    data: dict[str, Any] = {
        "name": "tiny",
        "title": "tiny",
        "data": {"source": "hyperplanes", "parameters": {"rows": 120, "features": 2, "dimensions": 2}, "reducer": "none"},
        "draws": {"count": 2, "train_rows": 20, "thief_rows_per_class": 2, "tuning_rows": 12},
        "design": limits | design,
        "model": {"steps": 4},
        "threat": {"steps": 4, "thief": "rational"},
        "providers": [{"name": "aurora", "max_parts": 1}, {"name": "borealis", "max_parts": 1, "gates": ["ry"]}],
    }
    return parse_scenario(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("table") / "tiny"
    make_table(tiny(), 2, 0, place, Display(quiet=True))
    return place


@pytest.fixture(scope="module")
def table(folder: Path) -> Table:
    return read_table(folder)


@pytest.fixture(scope="module")
def scenario(folder: Path) -> Scenario:
    return load_scenario(folder)


# Enumeration


def every_episode(state: DesignState) -> Iterator[DesignState]:
    """Every finished state, by trying every sequence of valid actions."""
    if state.done:
        yield state
        return
    for number in state.mask().nonzero()[0]:
        yield from every_episode(DesignState(state.scenario).replay([*state.history, int(number)]))


@pytest.mark.parametrize(
    "design",
    [
        {"max_gates": 4},
        {"max_gates": 3, "vocabulary": "both"},
        {"max_gates": 3, "vocabulary": "gates", "shots": [10, 100]},
        {"max_gates": 3, "gates": ["ry", "rzz"], "max_gate_cuts": 1},
    ],
    ids=["blocks", "both", "shots", "cuts"],
)
def test_every_design_is_listed_once(design: dict[str, object]) -> None:
    scenario = tiny(**design)
    shortest: dict[str, int] = {}
    for state in every_episode(DesignState(scenario)):
        name = state.design().hash
        shortest[name] = min(shortest.get(name, 99), len(state.history))
    listed = list(all_designs(scenario))
    assert len(listed) == len({one.design.hash for one in listed}) == len(shortest)
    for one in listed:
        state = DesignState(scenario).replay(one.actions)
        assert state.done and state.design() == one.design and tuple(state.history) == one.actions
        assert len(one.actions) == shortest[one.design.hash]


def test_a_copy_of_a_state_goes_its_own_way() -> None:
    state = DesignState(tiny(max_gates=6)).replay([0, 0, 2])
    before = state.design()
    other = state.copy()
    while not other.done:
        other.apply(int(other.mask().nonzero()[0][0]) if len(other.gates) < 3 else other.table.finish)
    assert state.design() == before and not state.counts.any() and not state.done


# Evaluations of every kind at once


def test_evaluations_of_every_level_are_those_that_are_asked_for_singly() -> None:
    scenario = tiny()
    design = next(one.design for one in all_designs(scenario) if one.design.n_parts == 2)
    for rows, draws, evaluation in Evaluator(scenario).evaluate_levels(design, seed=3):
        assert evaluation.to_json() == Evaluator(scenario).evaluate(design, seed=3, rows=rows, draws=draws).to_json()


# Making


def test_the_table_holds_what_the_evaluator_says(table: Table) -> None:
    scenario, columns = tiny(), columns_of(tiny())
    evaluator = Evaluator(scenario)
    for place in np.random.default_rng(0).choice(table.manifest.designs, 4, replace=False):
        design = DesignState(scenario).replay(table.episode(int(place))).design()
        assert table.place(design.hash) == place
        for number, rows in enumerate(ROWS):
            for level, draws in enumerate(scenario.draw_levels):
                figures = evaluator.evaluate(design, seed=1, rows=rows, draws=draws).to_dict()
                found = [float(figures.get(name, np.nan)) for name in columns]
                held = [table.columns[name][place, 1, number, level] for name in columns]
                np.testing.assert_array_equal(np.array(found, np.float32), held)
    assert (table.seconds > 0).all()


def test_a_killed_maker_goes_on_and_evaluates_nothing_twice(tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_maker, "CHUNK", 5)
    real, evaluated = LocalPool.submit, list[tuple[int, str]]()

    def counting(pool: LocalPool, job: Any) -> Pending:
        if len(evaluated) == 10 and not (tmp_path / "resumed").exists():
            (tmp_path / "resumed").touch()
            raise KeyboardInterrupt
        evaluated.append((job.seed, job.design.hash))
        return real(pool, job)

    monkeypatch.setattr(LocalPool, "submit", counting)
    place = tmp_path / "table"
    with pytest.raises(KeyboardInterrupt):
        make_table(tiny(), 1, 0, place, Display(quiet=True))
    assert not (place / "manifest.json").exists()
    make_table(tiny(), 1, 0, place, Display(quiet=True))
    count = table.manifest.designs
    assert len(evaluated) == len(set(evaluated)) == count
    make_table(tiny(), 2, 0, place, Display(quiet=True))
    assert len(evaluated) == len(set(evaluated)) == 2 * count, "a larger table goes on from the smaller one"
    made = read_table(place)
    for name, values in table.columns.items():
        np.testing.assert_array_equal(made.columns[name], values)


def test_work_on_something_else_is_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalPool, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_table(tiny(), 1, 0, tmp_path, Display(quiet=True))
    with pytest.raises(QumosError, match="another scenario or evaluation version"):
        make_table(tiny(max_gates=2), 1, 0, tmp_path, Display(quiet=True))


def test_workers_make_the_same_table_and_one_that_dies_costs_nothing(tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_maker, "CHUNK", 20)
    real, killed = LocalPool.attend, list[int]()

    def killing(pool: LocalPool) -> None:
        real(pool)
        if not killed:
            killed.append(pool.processes[0])
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(LocalPool, "attend", killing)
    make_table(tiny(), 1, 2, tmp_path, Display(quiet=True))
    assert killed
    made = read_table(tmp_path)
    for name, values in table.columns.items():
        np.testing.assert_array_equal(made.columns[name], values[:, :1])


def test_deaths_of_workers_are_not_taken_for_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.pool.local.evaluate", lambda evaluator, job: Answer(Outcome(0.0, {}, DIED)))
    with pytest.raises(QumosError, match="the same command goes on"):
        make_table(tiny(), 1, 0, tmp_path, Display(quiet=True))
    assert not (tmp_path / "manifest.json").exists()


def test_a_table_is_not_made_of_a_table(scenario: Scenario, tmp_path: Path) -> None:
    with pytest.raises(QumosError, match="is that of a table"):
        make_table(scenario, 1, 0, tmp_path, Display(quiet=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", list_tables())
def test_twenty_rows_of_a_built_in_table_are_what_training_again_gives(name: str) -> None:
    """On another processor training rounds otherwise, so figures agree within what the draws leave open."""
    table = read_table(table_folder() / name.removesuffix("-table"))
    evaluator = Evaluator(table.scenario)
    assert table.scenario.hash == load_scenario(table.scenario.name).hash, "the scenario has changed: make the table again"
    generator = np.random.default_rng(12)
    off = []
    for place in generator.choice(table.manifest.designs, 20, replace=False):
        seed = int(generator.integers(len(table.manifest.seeds)))
        design = DesignState(table.scenario).replay(table.episode(int(place))).design()
        found = evaluator.evaluate(design, seed=table.manifest.seeds[seed])
        held = float(table.columns["reward"][place, seed, 0, -1])
        error = max(found.reward_se, float(table.columns["reward_se"][place, seed, 0, -1]), 0.01)
        off.append(abs(found.reward - held) / error)
        assert table.columns["cost"][place, seed, 0, -1] == pytest.approx(found.cost)
        assert table.columns["control"][place, seed, 0, -1] == pytest.approx(found.control, abs=0.1)
    assert np.median(off) < 1 and np.mean(np.array(off) < 4) >= 0.9


# Reading


def damaged(folder: Path, tmp_path: Path, **changes: object) -> Path:
    """A copy of the table with ``changes`` in its manifest."""
    data = json.loads((folder / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(data | changes))
    (tmp_path / "table.npz").write_bytes((folder / "table.npz").read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checksum": "0" * 64}, "its checksum is"),
        ({"schema_version": 2}, "schema_version"),
        ({"evaluation_version": 1}, "evaluation version 1, this release has"),
        ({"scenario_hash": "0" * 64}, "the scenario hashes to"),
        ({"designs": 7}, "missing or not"),
        ({"draw_levels": [1, 2, 3]}, "missing or not"),
        ({"more": 1}, "unknown field"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_table_is_refused_in_one_line(folder: Path, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    place = damaged(folder, tmp_path, **changes)
    with pytest.raises(QumosError, match=message) as caught:
        read_table(place)
    assert "\n" not in str(caught.value) and str(place) in str(caught.value)


def test_a_table_with_other_numbers_or_a_pickle_is_refused(folder: Path, tmp_path: Path) -> None:
    place = damaged(folder, tmp_path)
    content = bytearray((place / "table.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (place / "table.npz").write_bytes(content)
    with pytest.raises(QumosError, match="its checksum is"):
        read_table(place)
    np.savez(place / "pickled.npz", actions=np.array([{}], dtype=object))
    with pytest.raises(QumosError, match="no NPZ file of numbers"):
        table_maker.from_bytes((place / "pickled.npz").read_bytes(), "here")
    (place / "table.npz").unlink()
    with pytest.raises(QumosError, match=r"table\.npz"):
        read_table(place)


def test_a_table_of_another_scenario_is_refused(folder: Path) -> None:
    other = looked_up(tiny(max_gates=2), folder)
    with pytest.raises(QumosError, match="not of tiny-table"):
        TableEvaluator(other)


def test_a_built_in_table_of_a_scenario_that_has_changed_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "list_tables", lambda: ("tiny-table",))
    monkeypatch.setattr(library, "table_folder", lambda: folder.parent)
    assert load_scenario("tiny-table").table is not None, "the library has no scenario of that name"
    text = (library.scenario_folder() / "waves-tiny.toml").read_text()
    (tmp_path / "tiny.toml").write_text(text.replace('"waves-tiny"', '"tiny"'))
    monkeypatch.setattr(library, "list_scenarios", lambda: ("tiny",))
    monkeypatch.setattr(library, "scenario_folder", lambda: tmp_path)
    with pytest.raises(QumosError, match="scenario tiny has changed since the table was made; make it again with: python"):
        load_scenario("tiny-table")


def test_a_scenario_with_a_table_is_told_from_the_one_without(scenario: Scenario) -> None:
    assert scenario.name == "tiny-table" and scenario.hash != tiny().hash
    assert parse_scenario(scenario.model_dump(mode="json")) == scenario
    assert isinstance(evaluator_of(scenario), TableEvaluator) and not isinstance(evaluator_of(tiny()), TableEvaluator)
    with pytest.raises(QumosError, match="unknown scenario"):
        load_scenario("tiny-tables")


# Answering


def test_seeds_answer_for_themselves_and_others_count_round(table: Table, scenario: Scenario) -> None:
    evaluator = TableEvaluator(scenario)
    design = DesignState(tiny()).replay(table.episode(table.best)).design()
    for seed, place in ((0, 0), (1, 1), (2, 0), (1_000_001, 1)):
        found = evaluator.evaluate(design, seed=seed)
        assert found.reward == table.columns["reward"][table.best, place, 0, -1] and found.seed == seed
        assert found.seconds == pytest.approx(table.seconds[table.best, place])
        assert sum(found.rewards.values()) == pytest.approx(found.reward, abs=1e-6)
    one = evaluator.evaluate(design, draws=1, rows="test")
    assert one.accuracy == table.columns["accuracy"][table.best, 0, 1, 0] and one.draws == 1
    assert one.seconds == pytest.approx(table.seconds[table.best, 0] / 2)


def test_the_mean_is_over_seeds(table: Table, scenario: Scenario) -> None:
    assert scenario.table is not None
    section = scenario.table.model_dump() | {"answer": "mean"}
    evaluator = TableEvaluator(parse_scenario(scenario.model_dump(mode="json") | {"table": section}))
    design = DesignState(tiny()).replay(table.episode(3)).design()
    assert evaluator.evaluate(design, seed=0).reward == pytest.approx(float(table.columns["reward"][3, :, 0, -1].mean()))
    assert evaluator.evaluate(design, seed=1).reward == evaluator.evaluate(design, seed=0).reward
    assert evaluator.evaluate(design).reward == pytest.approx(float(table.rewards[3]))


def test_designs_beyond_the_limits_are_really_evaluated_as_references_only(scenario: Scenario) -> None:
    evaluator = TableEvaluator(scenario)
    design = next(one.design for one in all_designs(tiny(max_gates=5)) if len(one.design.gates) == 5)
    assert evaluator.evaluate(design, limits=False).reward == Evaluator(tiny()).evaluate(design, limits=False).reward
    with pytest.raises(QumosError, match="has no design"):
        evaluator.evaluate(design)
    with pytest.raises(QumosError, match="its own providers"):
        evaluator.serving(scenario)


def test_an_evaluation_that_had_broken_down_is_a_failure(table: Table, scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {name: np.full_like(values, np.nan) for name, values in table.columns.items()}
    evaluator = TableEvaluator(scenario)
    evaluator.table = replace(table, columns=broken)
    with LocalPool(scenario, 0) as pool:
        pool._evaluator = evaluator
        (outcome,) = pool.run([Job(Design((0, 0), ("borealis",), DesignState(tiny()).replay(table.episode(0)).design().gates))])
    assert outcome.reward == 0 and "broke down" in outcome.failure


# The environment


def play(env: TableEnv, episode: tuple[int, ...]) -> tuple[float, dict[str, Any]]:
    env.reset()
    for action in episode:
        _, reward, terminated, _, info = env.step(action)
    assert terminated
    return reward, info


def test_the_environment_knows_the_optimum(table: Table, scenario: Scenario) -> None:
    env = TableEnv(scenario, noise="mean")
    reward, info = play(env, table.episode(table.best))
    assert info["regret"] == 0 and reward == pytest.approx(float(table.rewards.max()))
    worst = int(table.rewards.argmin())
    reward, info = play(env, table.episode(worst))
    assert info["regret"] == pytest.approx(float(table.rewards.max()) - reward)


def test_the_environment_answers_as_the_one_that_trains(table: Table, scenario: Scenario) -> None:
    real, looked = gym.make("qumos/IrisSmoke-v1").unwrapped.__class__(tiny()), TableEnv(scenario)
    seen, _ = looked.reset(seed=0)
    expected, _ = real.reset(seed=0)
    for action in table.episode(5):
        np.testing.assert_array_equal(seen["observations"], expected["observations"])
        np.testing.assert_array_equal(seen["action_mask"], expected["action_mask"])
        seen, reward, *_ = looked.step(action)
        expected, wanted, *_ = real.step(action)
    assert reward == pytest.approx(wanted, abs=1e-6)


def test_seeds_are_drawn_at_reset(table: Table, scenario: Scenario) -> None:
    env = TableEnv(scenario, noise="seed")
    rewards = table.columns["reward"][:, :, 0, -1]
    place = int(np.abs(rewards[:, 0] - rewards[:, 1]).argmax())
    assert rewards[place, 0] != rewards[place, 1]
    env.reset(seed=0)
    first = [play(env, table.episode(place))[0] for _ in range(20)]
    env.reset(seed=0)
    assert first == [play(env, table.episode(place))[0] for _ in range(20)]
    assert set(first) == set(rewards[place].tolist())


def test_wrong_arguments_of_the_environment(scenario: Scenario) -> None:
    with pytest.raises(QumosError, match="unknown noise"):
        TableEnv(scenario, noise="means")
    with pytest.raises(QumosError, match="has no table"):
        TableEnv("iris-smoke")
    with pytest.raises(QumosError, match="no evaluation_seed to choose"):
        TableEnv(scenario, noise="mean", evaluation_seed=1)
    with pytest.raises(QumosError, match="its own providers"):
        TableEnv(scenario).reset(options={"providers": "random"})


# Searches


def test_the_clock_adds_what_evaluations_took() -> None:
    clock = Clock(workers=2)
    assert clock.passed({}, 1.0) < 1
    assert 500 <= clock.passed({"seconds": 1000.0}, 1.0) < 501
    assert 625 <= clock.passed({"seconds": 1000.0}, 0.25) < 626, "a quarter was new"
    clock.go_on_from(10.0)
    assert 10 <= clock.passed({}, 1.0) < 11


def test_agents_search_a_table(table: Table, scenario: Scenario) -> None:
    found = search(scenario.model_dump(mode="json"), "evolution", 0, 20)
    assert found.regret.shape == (20,) and np.isfinite(found.regret[-1]) and found.simulated > 0
    everything = search(scenario.model_dump(mode="json"), "random", 0, table.manifest.designs)
    first = table.columns["reward"][:, 0, 0, -1]
    if np.isfinite(everything.regret[-1]):
        assert everything.regret[-1] >= table.regret(int(first.argmax())) - 1e-6


def test_regret_is_that_of_the_best_measured_design(table: Table, scenario: Scenario) -> None:
    assert regret_curve(table, scenario, [], 3).tolist() == pytest.approx([np.nan] * 3, nan_ok=True)


def test_the_noise_ceiling_is_that_of_its_columns(table: Table) -> None:
    from scipy.stats import kendalltau

    rewards = table.columns["reward"][:, :, 0, :]
    few, full = noise_ceiling(table)
    assert full.full == 1 and full.seeds == full.other_full == pytest.approx(kendalltau(rewards[:, 0, 1], rewards[:, 1, 1]).statistic)
    assert few.full == pytest.approx(np.mean([kendalltau(rewards[:, seed, 0], rewards[:, seed, 1]).statistic for seed in (0, 1)]))


def test_the_report_is_written(folder: Path, tmp_path: Path) -> None:
    text = write_report(folder, tmp_path / "report", ("random",), 2, 10, 0, Display(quiet=True))
    assert "| random |" in text and (tmp_path / "report" / "table.md").read_text() == text
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"table.md", "distribution.png", "regret.png"}
    with pytest.raises(QumosError, match="unknown agent"):
        write_report(folder, tmp_path / "other", ("randon",), 2, 10, 0, Display(quiet=True))
    assert not (tmp_path / "other").exists()


def test_built_in_tables_are_registered() -> None:
    for name in list_tables():
        identifier = f"qumos/{''.join(word.capitalize() for word in name.split('-'))}-v0"
        assert gym.spec(identifier).kwargs == {"scenario": name}
        assert (table_folder() / name.removesuffix("-table") / "table.npz").stat().st_size < 20e6
