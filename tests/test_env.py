"""The environment: episodes, their ends, information, determinism, rendering."""

import copy
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

from qumos_env.design import Design
from qumos_env.env.actions import Action
from qumos_env.env.design_env import DesignEnv
from qumos_env.env.observation import ObservationEncoder
from qumos_env.env.random_designs import uniform_actions
from qumos_env.errors import EvaluationFailure, QumosError
from qumos_env.evaluation.evaluator import Evaluation, Evaluator
from qumos_env.scenario import list_scenarios, load_scenario, parse_scenario

ID = "qumos_env:qumos/IrisSmoke-v1"
ROOT = Path(__file__).resolve().parent.parent

TINY: dict[str, Any] = {
    "name": "tiny",
    "title": "tiny",
    "data": {"source": "iris", "reducer": "none"},
    "draws": {"count": 2, "train_rows": 30, "thief_rows_per_class": 3, "tuning_rows": 15},
    "design": {"qubits": 4, "max_parts": 2, "max_part_qubits": 3, "max_gates": 12, "vocabulary": "both", "shots": [100]},
    "model": {"steps": 3},
    "threat": {"steps": 3},
    "providers": [{"name": "aurora"}, {"name": "borealis"}],
}


def tiny(**sections: Any) -> dict[str, Any]:
    """``TINY`` with ``sections`` merged in."""
    data = copy.deepcopy(TINY)
    for name, values in sections.items():
        data[name] = data.get(name, {}) | values
    return data


def shortest(env: DesignEnv) -> list[int]:
    """Actions of a good short episode: interleaved halves, an RY layer each, and finish."""
    table = env.table
    layers = [table.index(Action("layer", "ry", (part,))) for part in (0, 1)]
    return [*table.opening((0, 1, 0, 1), (0, 1)), *layers, table.finish]


def play(env: gym.Env[Any, Any], actions: list[int]) -> list[tuple[Any, ...]]:
    """Everything that reset and the steps returned."""
    record: list[tuple[Any, ...]] = [env.reset(seed=5)]
    for action in actions:
        record.append(env.step(action))
        if record[-1][2]:
            break
    return record


def plain(info: dict[str, Any]) -> dict[str, Any]:
    """``info`` without the mask, after a trip through JSON, which must not change it."""
    rest = {key: value for key, value in info.items() if key != "action_mask"}
    assert json.loads(json.dumps(rest)) == rest
    return rest


def test_a_whole_episode() -> None:
    """Rewards are 0 until the end, then the scenario's blend of what an evaluator measures."""
    env = DesignEnv(tiny())
    record = play(env, shortest(env))
    info = record[0][-1]
    assert info["phase"] == "cut" and not {"design", "evaluation", "rewards", "failure", "actions"} & info.keys()
    for _, reward, terminated, truncated, info in record[1:-1]:
        assert (reward, terminated, truncated) == (0.0, False, False)
        plain(info)
    assert [entry[-1]["phase"] for entry in record] == ["cut"] * 4 + ["assign"] * 2 + ["gates"] * 3 + ["done"]
    _, reward, terminated, truncated, info = record[-1]
    assert (terminated, truncated) == (True, False)
    assert type(reward) is float and type(terminated) is bool and type(truncated) is bool
    assert "failure" not in info and info["actions"] == shortest(env)
    information = plain(info)
    design = Design.from_dict(information["design"])
    assert design.partition == (0, 1, 0, 1) and len(design.gates) == 4
    evaluation = Evaluator(parse_scenario(tiny())).evaluate(design)
    assert information["evaluation"] == evaluation.to_dict()
    assert all(isinstance(value, (str, int, float, bool)) for value in information["evaluation"].values())
    assert reward == evaluation.reward
    assert sum(information["rewards"].values()) == pytest.approx(reward, abs=1e-12)
    assert set(information["rewards"]) == {"accuracy", "theft", "membership", "cost"}


def test_the_three_masks_are_one() -> None:
    """Observation, info and action_masks() say the same, and what is returned is the caller's own copy."""
    env = DesignEnv(tiny())
    for entry in play(env, shortest(env))[:-1]:
        observation, info = entry[0], entry[-1]
        assert observation["action_mask"].dtype == np.int8
        np.testing.assert_array_equal(observation["action_mask"], info["action_mask"])
    env.reset()
    observation, info = env.reset()
    np.testing.assert_array_equal(env.action_masks(), observation["action_mask"].astype(bool))
    assert env.action_masks().dtype == bool
    before = env.action_masks().copy()
    for mask in (observation["action_mask"], info["action_mask"], env.action_masks()):
        mask[:] = 0
    np.testing.assert_array_equal(env.action_masks(), before)
    assert env.observation_space.contains(env.reset()[0])


def test_a_masked_action_is_a_step_that_changes_nothing() -> None:
    """It is no exception and ends nothing; it counts towards the step limit only."""
    env = DesignEnv(tiny())
    observation, _ = env.reset()
    for masked in (env.table.finish, env.table.index(Action("assign", targets=(0,)))):
        assert not observation["action_mask"][masked]
        again, reward, terminated, truncated, info = env.step(masked)
        assert (reward, terminated, truncated, info["phase"]) == (0.0, False, False, "cut")
        assert data_equivalence(again, observation)
    record = [env.step(action) for action in shortest(env)]
    assert record[-1][2] and record[-1][-1]["actions"] == shortest(env)


def test_the_step_limit_ends_the_episode_with_a_reason() -> None:
    """Terminated, not truncated, with reward 0, through masked actions too; the design so far is not evaluated."""
    env = DesignEnv(tiny(design={"max_steps": 7}))
    env.reset()
    record = [env.step(env.table.finish) for _ in range(3)] + [env.step(action) for action in (0, 1, 0, 1)]
    assert [entry[2] for entry in record] == [False] * 6 + [True]
    _, reward, terminated, truncated, info = record[-1]
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert plain(info)["failure"] == "step limit of 7 reached without finish"
    assert info["actions"] == [0, 1, 0, 1]
    assert not {"evaluation", "rewards"} & info.keys()


def test_finishing_on_the_last_step_counts() -> None:
    """The limit is on steps without finish."""
    env = DesignEnv(tiny(design={"max_steps": 9}))
    record = play(env, shortest(env))
    assert len(record) == 10 and record[-1][2]
    assert "failure" not in record[-1][-1] and "evaluation" in record[-1][-1]


@pytest.mark.parametrize("ending", ["finish", "limit"])
def test_stepping_after_the_end_asks_for_a_reset(ending: str) -> None:
    """As Gymnasium does it."""
    env = DesignEnv(tiny(design={"max_steps": 9 if ending == "finish" else 1}))
    play(env, shortest(env))
    for _ in range(2):
        with pytest.raises(gym.error.ResetNeeded):
            env.step(0)
    assert env.reset()[1]["phase"] == "cut"
    env.step(0)


@pytest.mark.parametrize("head", ["scaled", "linear", "fixed"])
def test_training_that_diverges_is_a_failure(head: str) -> None:
    """A learning rate beyond all bounds, also of the schema: text in info, reward 0, terminated, no exception."""
    scenario = parse_scenario(tiny(model={"head": head, "steps": 5}))
    env = DesignEnv(scenario.model_copy(update={"model": scenario.model.model_copy(update={"learning_rate": 1e308})}))
    with np.errstate(all="ignore"):
        _, reward, terminated, truncated, info = play(env, shortest(env))[-1]
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert plain(info)["failure"]
    assert Design.from_dict(info["design"]).n_qubits == 4
    assert not {"evaluation", "rewards"} & info.keys()


def test_a_failed_evaluation_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is the evaluator's."""

    def fail(*_: Any, **__: Any) -> Evaluation:
        raise EvaluationFailure("the loss is nan")

    monkeypatch.setattr(Evaluator, "evaluate", fail)
    env = DesignEnv(tiny())
    *_, info = play(env, shortest(env))[-1]
    assert info["failure"] == "the loss is nan"


def test_same_actions_same_everything() -> None:
    """Two environments made from the id agree exactly, info included, whatever their reset seeds."""
    first, second = gym.make(ID), gym.make(ID)
    actions = uniform_actions(load_scenario("iris-smoke"), np.random.default_rng(3))
    records = [play(first, actions), play(second, actions)]
    assert data_equivalence(records[0], records[1], exact=True)
    second.reset(seed=77)
    for action in actions:
        last = second.step(action)
    assert data_equivalence(last, records[0][-1], exact=True)
    assert records[0][-1][2]


def test_the_evaluation_seed_is_an_argument() -> None:
    """Never drawn from reset(seed=...)."""
    seeds = {}
    for seed in (None, 0, 1):
        env = DesignEnv(tiny(), evaluation_seed=seed)
        *_, info = play(env, shortest(env))[-1]
        seeds[seed] = info["evaluation"]
    assert seeds[None] == seeds[0]
    assert seeds[1]["seed"] == 1
    assert seeds[1]["accuracy"] != seeds[0]["accuracy"] or seeds[1]["membership_auc"] != seeds[0]["membership_auc"]


def test_pickling_in_mid_episode() -> None:
    """A copy plays on from where the original is, before and after an evaluation."""
    env = DesignEnv(tiny(), render_mode="ansi")
    actions = shortest(env)
    env.reset()
    for action in actions[:-2]:
        env.step(action)
    other = pickle.loads(pickle.dumps(env))
    assert other.render() == env.render()
    for action in actions[-2:]:
        assert data_equivalence(env.step(action), other.step(action), exact=True)
    third = pickle.loads(pickle.dumps(env))
    with pytest.raises(gym.error.ResetNeeded):
        third.step(0)
    assert data_equivalence(play(third, actions), play(env, actions), exact=True)


def test_a_spawned_process_builds_it_from_the_id_alone() -> None:
    """What breaks on clusters: the worker has imported nothing of ours, and sends the environment back."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        remote = pool.submit(gym.make, ID).result(timeout=120)
    local = gym.make(ID)
    actions = shortest(local.unwrapped)  # type: ignore[arg-type]
    assert data_equivalence(play(remote, actions), play(local, actions), exact=True)


CHILD = """
import sys
import gymnasium
assert "qumos_env" not in sys.modules
env = gymnasium.make(sys.argv[1])
env.reset(seed=0)
for action in sys.argv[2:]:
    last = env.step(int(action))
print(repr(last[1]))
"""


def test_another_process_gives_the_same_reward(tmp_path: Path) -> None:
    """From another directory, bit for bit."""
    env = gym.make(ID)
    actions = shortest(env.unwrapped)  # type: ignore[arg-type]
    reward = play(env, actions)[-1][1]
    output = subprocess.run(
        [sys.executable, "-c", CHILD, ID, *map(str, actions)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.strip() == repr(reward)


def test_text_rendering_follows_the_episode() -> None:
    """The mode `ansi`."""
    env = DesignEnv(tiny(), render_mode="ansi")
    env.reset()
    assert "phase cut" in str(env.render())
    for action in shortest(env):
        env.step(action)
    text = str(env.render())
    assert "phase done" in text and "part 1 on borealis: qubits 1, 3" in text and "ry" in text


def test_picture_rendering_follows_the_episode() -> None:
    """The mode `rgb_array`; it changes with the design."""
    env = DesignEnv(tiny(), render_mode="rgb_array")
    env.reset()
    pictures: list[Any] = [env.render()]
    for action in shortest(env)[:-1]:
        env.step(action)
    pictures.append(env.render())
    for picture in pictures:
        assert isinstance(picture, np.ndarray)
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert pictures[0].shape != pictures[1].shape or not np.array_equal(*pictures)


def test_rendering_without_a_mode_warns() -> None:
    """And an unknown one is refused with the nearest."""
    env = DesignEnv(tiny())
    env.reset()
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None
    with pytest.raises(QumosError, match=r"unknown render_mode 'rgb'; did you mean rgb_array"):
        DesignEnv(tiny(), render_mode="rgb")


def test_a_scenario_is_given_by_name_file_dictionary_or_value(tmp_path: Path) -> None:
    """All four make the same environment; wrong ones are refused when it is made."""
    path = tmp_path / "iris.toml"
    name = "iris-smoke"
    source = ROOT / "scenarios" / f"{name}.toml"
    path.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    data = load_scenario(name).model_dump(mode="json")
    tables = {str(DesignEnv(value).table) for value in (name, path, str(path), data, json.loads(json.dumps(data)), load_scenario(name))}
    assert len(tables) == 1
    with pytest.raises(QumosError, match="did you mean iris-smoke"):
        DesignEnv("iris-smok")
    with pytest.raises(QumosError, match=r"design\.qubits"):
        DesignEnv(tiny(design={"qubits": 99}))
    env = gym.make(ID, scenario=tiny(design={"max_steps": 3}))
    assert env.unwrapped.table.step_limit == 3  # type: ignore[attr-defined]


def test_making_an_environment_reads_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that only play, and checkers, start at once: data are read at the first evaluation."""
    import qumos_env.evaluation.workload

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("data were read")

    monkeypatch.setattr(qumos_env.evaluation.workload, "make_protocol", fail)
    env = DesignEnv(tiny())
    play(env, shortest(env)[:-1])


def test_the_observation_vector_entry_by_entry() -> None:
    """Its documented layout, filled by hand for one state."""
    data = tiny(design={"qubits": 3, "max_part_qubits": 2, "max_gates": 10, "max_gate_cuts": 2})
    env = DesignEnv(data)
    env.reset()
    table = env.table
    placed = [Action("layer", "ry", (0,)), Action("gate", "rzz", (0, 1)), Action("gate", "cx", (2, 0)), Action("shots", targets=(0,))]
    for action in [*table.opening((0, 1, 0), (1, 0)), *map(table.index, placed)]:
        observation = env.step(action)[0]["observations"]
    kinds = ["rx", "ry", "rz", "h", "cz", "cx", "rzz", "reupload"]
    counts = np.zeros((8, 3))
    counts[kinds.index("ry")] = [1, 0, 1]
    counts[kinds.index("rzz")] = [1, 1, 0]
    counts[kinds.index("cx")] = [1, 0, 1]
    last = np.zeros(len(table))
    last[table.index(placed[-1])] = 1
    expected = [
        [0, 0, 1, 0],  # phase: cut, assign, gates, done
        [1, 0, 0, 1, 1, 0],  # part of qubits 0, 1, 2
        [0, 1, 1, 0],  # provider of parts 0, 1
        [4 / 10, 1 / 2, 1, 1],  # gate budget, cuts, trainable, shots
        (counts / 8).ravel(),
        [20 / 20, 8 / 8, 8 / 8, 1, 1 / 2, 0, 0, 0, 0, 0] * 2,  # providers as they are by default
        last,
    ]
    np.testing.assert_allclose(observation, np.concatenate([np.asarray(piece, float) for piece in expected]), atol=1e-7)
    assert observation.dtype == np.float32
    assert ObservationEncoder(parse_scenario(data)).size(len(table)) == len(observation)


@pytest.mark.parametrize("name", list_scenarios())
def test_observations_stay_in_their_space(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over whole random episodes that use up the budget."""
    monkeypatch.setattr(Evaluator, "evaluate", lambda *_, **__: (_ for _ in ()).throw(EvaluationFailure("stub")))
    env = DesignEnv(name)
    generator = np.random.default_rng(0)
    for _ in range(3):
        observation, info = env.reset()
        terminated = False
        while not terminated:
            assert env.observation_space.contains(observation)
            valid = np.flatnonzero(info["action_mask"])
            others = valid[valid != env.table.finish]
            observation, _, terminated, _, info = env.step(generator.choice(others if len(others) else valid))
        assert env.observation_space.contains(observation)
        assert info["failure"] == "stub"


@pytest.mark.parametrize("action", [1.7, "1", b"0", -1, 10**9, float("nan"), None, True, np.float64(0), [0], np.array([0, 1])])
def test_what_is_no_action_is_refused(action: Any) -> None:
    """Truncated, or taken for a masked one, it would hide a mistake; the step does not count."""
    env = DesignEnv(tiny())
    env.reset()
    with pytest.raises(gym.error.InvalidAction, match=rf"a whole number from 0 to {len(env.table) - 1} is needed"):
        env.step(action)
    assert not env.state.history
    env.step(np.int64(0))
    assert env.state.history == [0]


def test_all_frames_of_an_episode_have_one_shape() -> None:
    """Films need it, also of designs that are larger than a frame."""
    env = DesignEnv(tiny(), render_mode="rgb_array")
    _, info = env.reset()
    shapes, done, generator = set(), False, np.random.default_rng(0)
    while not done:
        frame = env.render()
        assert isinstance(frame, np.ndarray) and frame.dtype == np.uint8
        shapes.add(frame.shape)
        _, _, done, _, info = env.step(generator.choice(np.flatnonzero(info["action_mask"])))
    assert shapes == {(720, 1280, 3)}
