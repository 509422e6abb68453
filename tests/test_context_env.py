"""The environment over many scenarios: one action space, one observation, and what each scenario makes of them."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check

from qumos_env.design import Design
from qumos_env.design.gates import REGISTRY
from qumos_env.env.actions import Action, action_table
from qumos_env.env.context_env import ContextEnv, FlatContext, demonstrate, flat_context_env, play
from qumos_env.env.design_env import DesignEnv
from qumos_env.env.observation import provider_figures
from qumos_env.env.padding import PaddedTable, Padding, design_of_context_actions, padded_table
from qumos_env.env.random_designs import uniform_actions
from qumos_env.errors import EvaluationFailure, QumosError
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.scenario import list_scenarios, load_scenario, parse_scenario

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
OTHER: dict[str, Any] = {
    "name": "other",
    "title": "other",
    "data": {"source": "parity", "reducer": "none", "parameters": {"rows": 200, "features": 6}},
    "draws": {"count": 2, "train_rows": 40, "thief_rows_per_class": 3, "tuning_rows": 15},
    "design": {"qubits": 6, "max_parts": 3, "max_part_qubits": 4, "max_gates": 18, "max_gate_cuts": 1},
    "model": {"steps": 2},
    "threat": {"steps": 2, "thief": "rational"},
    "reward": {"accuracy": 0.6, "theft": 0.4},
    "providers": [{"name": "aurora"}, {"name": "borealis"}, {"name": "cirrus"}],
}
IDS = ["qumos/Context-v0", "qumos/ContextFlat-v0"]


def made(identifier: str, **arguments: Any) -> gym.Env[Any, Any]:
    return gym.make(f"qumos_env:{identifier}", scenarios=[TINY, OTHER], **arguments)


def masked_episode(env: gym.Env[Any, Any], seed: int, options: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """Everything that ``reset`` and the steps of random valid actions returned."""
    record: list[tuple[Any, ...]] = [env.reset(seed=seed, options=options)]
    generator, done = np.random.default_rng(seed), False
    while not done:
        valid = np.flatnonzero(record[-1][-1]["action_mask"])
        record.append(env.step(generator.choice(valid)))
        done = record[-1][2]
    return record


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations that fail at once."""

    def fail(*_: Any, **__: Any) -> None:
        raise EvaluationFailure("stub")

    monkeypatch.setattr(Evaluator, "evaluate", fail)


# Actions


@pytest.mark.parametrize("name", list_scenarios())
def test_the_actions_of_every_scenario_are_a_part_of_the_padded_ones(name: str) -> None:
    table, own = padded_table(), action_table(load_scenario(name))
    numbers = table.numbers(own)
    assert [table.actions[number] for number in numbers] == list(own.actions)
    back = table.own(own)
    np.testing.assert_array_equal(back[numbers], np.arange(len(own)))
    assert (back >= 0).sum() == len(own) == len(set(numbers.tolist()))
    assert str(table).count("\n") == len(table) - 1


@settings(max_examples=40, deadline=None)
@given(
    qubits=st.integers(1, 7),
    parts=st.integers(1, 4),
    providers=st.integers(1, 4),
    shots=st.integers(0, 4),
    vocabulary=st.sampled_from(["gates", "blocks", "both"]),
    gates=st.lists(st.sampled_from(list(REGISTRY)), unique=True),
    seed=st.integers(0, 2**20),
)
def test_padding_is_a_bijection_that_traces_survive(
    qubits: int, parts: int, providers: int, shots: int, vocabulary: str, gates: list[str], seed: int
) -> None:
    """For any scenario within the padding; and one design has one trace in either numbering."""
    design = {"qubits": qubits, "max_parts": parts, "max_part_qubits": 7, "max_gates": 20, "vocabulary": vocabulary}
    ladder = [10 * (level + 1) for level in range(shots)]
    names = [*{*gates, "ry"}]
    scenario = parse_scenario(
        TINY | {"design": design | {"gates": names, "shots": ladder}, "providers": [{"name": f"p{number}"} for number in range(providers)]}
    )
    table, own = padded_table(), action_table(scenario)
    numbers = table.numbers(own)
    assert len(set(numbers.tolist())) == len(own)
    actions = uniform_actions(scenario, np.random.default_rng(seed))
    padded = table.from_own(scenario, actions)
    assert [table.actions[number] for number in padded] == [own.actions[number] for number in actions]
    assert table.to_own(scenario, padded) == actions
    strange = np.flatnonzero(table.own(own) < 0)[:3].tolist()
    assert design_of_context_actions(scenario, [*strange, *padded]) == design_of_context_actions(scenario, padded)


def test_the_padded_table_is_printed_in_its_documented_order() -> None:
    table = PaddedTable(Padding(qubits=3, parts=2, providers=1, shots=1))
    text = str(table).split()[1::2]
    assert text[:3] == ["part(0)", "part(1)", "assign(0)"]
    assert [line.split(maxsplit=1)[1] for line in str(table).splitlines()][-3:] == ["rzz-ring(1)", "shots(0)", "finish"]
    kinds = [action.kind for action in table.actions]
    assert kinds == sorted(kinds, key=["part", "assign", "gate", "layer", "chain", "ring", "shots", "finish"].index) or "layer" in kinds
    # 5 gates on one qubit, two symmetric ones and one ordered one on two; 9 blocks on each of two parts
    assert len(table) == 2 + 1 + 5 * 3 + 2 * 3 + 6 + 2 * 9 + 1 + 1
    with pytest.raises(QumosError, match="the padded table has no action part"):
        table.index(Action("part", targets=(9,)))


def test_what_is_larger_than_the_padding_is_refused_with_the_sizes_that_it_needs() -> None:
    with pytest.raises(QumosError, match=r"scenario tiny has 4 qubits, the padding holds 3; make it larger with padding=\{'qubits': 4"):
        ContextEnv([TINY], padding={"qubits": 3})
    with pytest.raises(QumosError, match=r"unknown size of the padding 'qubit'; did you mean qubits"):
        ContextEnv([TINY], padding={"qubit": 3})
    with pytest.raises(QumosError, match=r"padding\.parts is 0, a whole number from 1"):
        Padding(parts=0)
    env = ContextEnv([TINY])
    with pytest.raises(QumosError, match="scenario tiny has 13 qubits"):
        env.reset(options={"scenario": TINY | {"design": {"qubits": 13, "max_part_qubits": 9}}})


# Against the environment of one scenario


@pytest.mark.parametrize("name", list_scenarios())
def test_masks_are_those_of_the_scenario_itself_step_by_step(name: str, stubbed: None) -> None:
    """Masked actions too: they cost a step in both."""
    env, own = ContextEnv([name]), DesignEnv(name)
    generator = np.random.default_rng(4)
    observation, info = env.reset(seed=0)
    _, other = own.reset(seed=0)
    numbers = env.table.numbers(own.table)
    done = False
    while not done:
        assert env.observation_space.contains(observation)
        np.testing.assert_array_equal(info["action_mask"][numbers], other["action_mask"])
        assert info["action_mask"].sum() == other["action_mask"].sum()
        assert (info["phase"], info["devices"]) == (other["phase"], other["devices"])
        if generator.uniform() < 0.1:
            # Of a padded action that the scenario lacks, its own environment has no number: its own masked one stands for it.
            strange = generator.choice(np.flatnonzero(info["action_mask"] == 0))
            observation, _, _, _, info = env.step(strange)
            _, _, _, _, other = own.step(int(np.flatnonzero(other["action_mask"] == 0)[0]))
            continue
        action = generator.choice(np.flatnonzero(other["action_mask"]))
        observation, reward, done, _, info = env.step(numbers[action])
        _, expected, ended, _, other = own.step(action)
        assert (reward, done) == (expected, ended)
    for field in ("failure", "actions", "design"):
        assert info.get(field) == other.get(field)
    assert info["context_actions"] == numbers[info["actions"]].tolist()


@pytest.mark.parametrize("data", [TINY, OTHER], ids=["tiny", "other"])
def test_a_design_is_worth_what_its_own_environment_says(data: dict[str, Any]) -> None:
    scenario = parse_scenario(data)
    own, env = DesignEnv(scenario), ContextEnv([OTHER, TINY])
    actions = uniform_actions(scenario, np.random.default_rng(1))
    own.reset()
    for action in actions:
        *_, expected, _, _, other = own.step(action)
    env.reset(options={"scenario": data})
    for action in env.table.from_own(scenario, actions):
        _, reward, terminated, truncated, info = env.step(action)
    assert terminated and not truncated
    assert reward == expected
    for field in ("design", "evaluation", "rewards", "actions"):
        assert info[field] == other[field]
    assert design_of_context_actions(scenario, info["context_actions"]) == Design.from_dict(info["design"])


def test_the_step_limit_is_that_of_the_scenario() -> None:
    limited = TINY | {"design": TINY["design"] | {"max_steps": 3}}
    env = ContextEnv([limited])
    env.reset()
    record = [env.step(0) for _ in range(3)]
    assert [entry[2] for entry in record] == [False, False, True]
    assert record[-1][-1]["failure"] == "step limit of 3 reached without finish"
    assert record[-1][0]["progress"][4] == 1
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)


# Observations


def test_the_observation_entry_by_entry() -> None:
    """What the documentation says of every entry, filled by hand for one state."""
    env = ContextEnv([OTHER], padding={"qubits": 7, "parts": 3, "providers": 4, "shots": 2})
    env.reset()
    scenario, table = env.scenario, env.table
    placed = [Action("layer", "ry", (0,)), Action("gate", "rzz", (0, 1))]
    own = action_table(scenario)
    actions = [*own.opening((0, 1, 0, 2, 1, 0), (2, 0, 2)), *map(own.index, placed)]
    for action in table.from_own(scenario, actions):
        observation = env.step(action)[0]
    expected = {name: np.zeros(box.shape) for name, box in env.encoder.shapes.items() for box in [env.observation_space[name]]}
    expected["phase"][2] = 1
    expected["partition"][range(6), (0, 1, 0, 2, 1, 0)] = 1
    expected["assignment"][range(3), (2, 0, 2)] = 1
    kinds = ["rx", "ry", "rz", "h", "cz", "cx", "rzz", "reupload"]
    expected["counts"][kinds.index("ry"), [0, 2, 5]] = 1 / 8
    expected["counts"][kinds.index("rzz"), [0, 1]] = 1 / 8
    expected["progress"][:] = [4 / 18, 1, 1, 0, 11 / (2 * (6 + 3 + 18 + 2)), 0, 0]
    expected["last_action"][table.index(placed[-1])] = 1
    expected["sizes"][:] = [
        *(6 / 7, 3 / 3, 4 / 7, 3 / 4, 18 / 68, 1 / 3, 0, 1),
        *(2 / 10, 40 / 140, 15 / 65, 2 / 102, 0.1 / 0.2, 1, 0, 0),
    ]
    expected["gates"][:] = 1
    expected["encoding"][:] = [1, 0, 0, 0, 1, 0, 1 / 2]
    expected["threat"][:] = [1, 1, 0, 0, 0, 0, 3 / 8, 2 / 102, 1 / 3, 0, 7 / 57, 0, 0, 0]
    expected["weights"][:] = [0.6, 0.4, 0, 0, 0, 0, 0, 0, 0]
    for number, provider in enumerate(scenario.providers):
        expected["providers"][number] = [1, *provider_figures(provider)]
    for name, values in expected.items():
        assert observation[name].dtype == np.float32
        if name not in ("data", "qubits", "pairs", "triples", "correlations"):
            np.testing.assert_allclose(observation[name], values, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(observation["qubits"][:, 0], [1, 1, 1, 1, 1, 1, 0])
    assert not observation["qubits"][6].any() and not observation["pairs"][6].any() and not observation["pairs"][:, 6].any()


def test_what_is_handed_out_is_the_callers_own() -> None:
    env = ContextEnv([TINY])
    first, info = env.reset(seed=0)
    for values in (*first.values(), info["action_mask"], env.action_masks()):
        values[...] = 0
    second, _ = env.reset(seed=0)
    assert second["sizes"].any() and second["data"].any() and second["action_mask"].any() and env.action_masks().any()


def test_the_flat_observation_is_all_entries_in_order() -> None:
    env = flat_context_env(scenarios=[TINY])
    assert isinstance(env, FlatContext)
    named, flat = env.env.reset(seed=0)[0], env.reset(seed=0)[0]
    assert set(flat) == {"observations", "action_mask"} == set(env.observation_space.spaces)
    assert flat["observations"].shape == env.observation_space["observations"].shape and flat["observations"].dtype == np.float32
    for name, place in env.layout.items():
        np.testing.assert_array_equal(flat["observations"][place], named[name].ravel())
    assert sum(place.stop - place.start for place in env.layout.values()) == len(flat["observations"])
    np.testing.assert_array_equal(env.action_masks(), named["action_mask"].astype(bool))
    with pytest.raises(QumosError, match="FlatContext flattens a ContextEnv"):
        FlatContext(DesignEnv(TINY))


# What is drawn


def test_scenarios_are_drawn_with_the_seed_of_reset() -> None:
    env = ContextEnv([TINY, OTHER])
    drawn = [env.reset(seed=seed)[1]["scenario"] for seed in range(20)]
    assert set(drawn) == {"tiny", "other"}
    assert drawn == [ContextEnv([TINY, OTHER]).reset(seed=seed)[1]["scenario"] for seed in range(20)]
    env.reset(seed=3)
    onwards = [env.reset()[1]["scenario"] for _ in range(8)]
    env.reset(seed=3)
    assert onwards == [env.reset()[1]["scenario"] for _ in range(8)]


def test_a_seed_that_is_given_again_and_again_counts_once() -> None:
    """RLlib does that; every other environment of Gymnasium is to start anew."""
    env, plain = (flat_context_env(scenarios=[TINY, OTHER], seed_once=once) for once in (True, False))
    drawn = [env.reset(seed=3)[1]["scenario"] for _ in range(12)]
    assert set(drawn) == {"tiny", "other"} and len({plain.reset(seed=3)[1]["scenario"] for _ in range(12)}) == 1
    plain.reset(seed=3)
    assert drawn[1:] == [plain.reset()[1]["scenario"] for _ in drawn[1:]]
    env.reset(seed=4)
    assert drawn == [env.reset(seed=3)[1]["scenario"] for _ in drawn]


def test_an_option_fixes_the_scenario() -> None:
    """Also one that is not among those of the distribution."""
    env = ContextEnv([TINY])
    assert env.reset(options={"scenario": "iris-smoke"})[1]["scenario"] == "iris-smoke"
    assert env.scenario.hash == load_scenario("iris-smoke").hash
    assert env.reset(options={"scenario": OTHER})[1] | {"action_mask": None} == {
        **{"action_mask": None, "phase": "cut", "devices": [None, None, None]},
        **{"scenario": "other", "variant": None},
    }
    assert env.reset()[1]["scenario"] == "tiny"
    with pytest.raises(QumosError, match="unknown scenario 'iris-smok'; did you mean iris-smoke"):
        env.reset(options={"scenario": "iris-smok"})
    with pytest.raises(QumosError, match="unknown option of reset 'scenarios'; did you mean scenario"):
        env.reset(options={"scenarios": "iris-smoke"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scenarios": []}, "scenarios is empty"),
        ({"scenarios": "digits-theft"}, "a list of scenarios is needed"),
        ({"scenarios": ["digits-thef"]}, "did you mean digits-theft"),
        ({"scenarios": [TINY, TINY]}, "scenarios lists tiny twice"),
        ({"keep": 0}, "keep is 0, a whole number from 1"),
        ({"render_mode": "text"}, "unknown render_mode 'text'"),
        ({"randomise": {"axis": ["classes"]}}, "unknown field of randomise 'axis'; did you mean axes"),
        ({"randomise": {"axes": ["class"]}}, "unknown axis of variation 'class'; did you mean classes"),
        ({"randomise": {"axes": "classes"}}, "randomise.axes is 'classes', a list is needed"),
        ({"randomise": {"seeds": [5, 5]}}, r"randomise.seeds is \[5, 5\]"),
        ({"randomise": 3}, "randomise is 3"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(QumosError, match=message):
        ContextEnv(**arguments)


def test_by_default_it_draws_from_what_is_offered_for_comparison() -> None:
    env = ContextEnv()
    offered = {name for name in list_scenarios() if load_scenario(name).compare}
    assert {scenario.name for scenario in env.scenarios} == offered
    assert gym.spec("qumos/Context-v0").kwargs == {} and gym.spec("qumos/Context-v0").max_episode_steps is None


def test_nothing_is_played_before_a_reset() -> None:
    env = ContextEnv([TINY])
    for ask in (env.action_masks, lambda: env.step(0), lambda: env.state, lambda: env.scenario):
        with pytest.raises(gym.error.ResetNeeded):
            ask()
    env.reset()
    with pytest.raises(gym.error.InvalidAction, match=f"a whole number from 0 to {len(env.table) - 1} is needed"):
        env.step(len(env.table))


# What libraries and clusters ask for


@pytest.mark.parametrize("identifier", IDS)
@pytest.mark.parametrize("randomise", [False, True])
def test_checkers_of_gymnasium_and_stable_baselines(identifier: str, randomise: bool, stubbed: None) -> None:
    """Not one warning; they play unmasked random actions."""
    env = made(identifier, randomise=randomise, render_mode="ansi")
    if identifier.endswith("Flat-v0"):
        checked: Any = flat_context_env(scenarios=[TINY, OTHER], randomise=randomise, render_mode="ansi")
    else:
        checked = env.unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Stable-Baselines3 advises to flatten matrices, which its own extractor does.
        warnings.filterwarnings("ignore", message=".*has an unconventional shape")
        # A wrapper is what is checked here; Gymnasium would rather check what it wraps.
        warnings.filterwarnings("ignore", message=".*is different from the unwrapped version.*")
        gymnasium_check(checked, skip_render_check=checked is not env.unwrapped)
        sb3_check(checked)


@pytest.mark.parametrize("identifier", IDS)
def test_the_same_seed_gives_the_same_rollout(identifier: str) -> None:
    arguments: dict[str, Any] = {"randomise": {"seeds": [0, 3]}}
    first, second = (masked_episode(made(identifier, **arguments), seed=2) for _ in range(2))
    assert data_equivalence(first, second, exact=True)
    info = {key: value for key, value in first[-1][-1].items() if key != "action_mask"}
    assert json.loads(json.dumps(info)) == info
    assert "evaluation" in info and info["variant"] in (0, 1, 2)


@pytest.mark.parametrize("identifier", IDS)
def test_a_pickle_plays_on(identifier: str) -> None:
    env = made(identifier)
    _, info = env.reset(seed=1)
    for _ in range(5):
        _, _, _, _, info = env.step(int(np.flatnonzero(info["action_mask"])[0]))
    other = pickle.loads(pickle.dumps(env))
    done = False
    while not done:
        action = int(np.flatnonzero(info["action_mask"])[-1])
        one, two = env.step(action), other.step(action)
        assert data_equivalence(one, two, exact=True)
        done, info = one[2], one[-1]
    assert data_equivalence(env.reset(), other.reset(), exact=True)


def _remote(identifier: str) -> Any:
    return masked_episode(gym.make(f"qumos_env:{identifier}", scenarios=[TINY]), seed=6)


def test_a_spawned_process_builds_it_from_the_id_alone() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        theirs = pool.submit(_remote, IDS[1]).result(timeout=120)
    assert data_equivalence(theirs, _remote(IDS[1]), exact=True)


def test_maskable_ppo_plays() -> None:
    """On either form, through wrappers; no step that it takes is masked."""
    from sb3_contrib import MaskablePPO

    for identifier in IDS:
        env = gym.wrappers.RecordEpisodeStatistics(made(identifier))
        taken: list[bool] = []
        inner: Any = env.unwrapped
        step = inner.step
        inner.step = lambda action, inner=inner, step=step, taken=taken: taken.append(inner.action_masks()[int(action)]) or step(action)
        model = MaskablePPO("MultiInputPolicy", env, n_steps=32, batch_size=16, n_epochs=1, seed=0, device="cpu")
        model.learn(64)
        assert len(taken) >= 64 and all(taken)


def test_play_designs_zero_shot() -> None:
    """A policy for any scenario: here the first valid action, the last once it can finish."""

    def choose(observation: dict[str, np.ndarray]) -> int:
        valid = np.flatnonzero(observation["action_mask"])
        return int(valid[-1] if observation["phase"][2] else valid[0])

    info = play(ContextEnv([TINY]), choose, scenario=OTHER)
    scenario = parse_scenario(OTHER)
    design = Design.from_dict(info["design"])
    scenario.check_design(design)
    assert design == design_of_context_actions(scenario, info["context_actions"])
    assert info["evaluation"]["reward"] == Evaluator(scenario).evaluate(design).reward


@pytest.mark.parametrize("flat", [False, True])
def test_demonstrations_are_what_an_episode_would_have_been(flat: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an evaluation."""
    scenario = parse_scenario(OTHER)
    actions = uniform_actions(scenario, np.random.default_rng(3))
    env: Any = flat_context_env(scenarios=[OTHER]) if flat else ContextEnv([OTHER])
    observation, _ = env.reset()
    expected = []
    for action in padded_table().from_own(scenario, actions):
        expected.append(observation)
        observation, *_ = env.step(action)
    monkeypatch.setattr(Evaluator, "evaluate", lambda *_, **__: pytest.fail("evaluated"))
    seen, taken = demonstrate(env, OTHER, actions)
    assert data_equivalence(seen, expected, exact=True) and padded_table().to_own(scenario, taken) == actions
    with pytest.raises(QumosError, match=r"action 0 of the trace, finish, is masked in scenario other"):
        demonstrate(env, OTHER, actions[-1:])
    with pytest.raises(QumosError, match="demonstrations need a ContextEnv"):
        demonstrate(_Deaf(TINY), TINY, [])


class _Deaf(DesignEnv):
    """One that takes any option."""

    def reset(self, **_: Any) -> Any:
        return super().reset()


def test_renderings_name_the_scenario() -> None:
    env = ContextEnv([TINY], render_mode="ansi")
    env.reset()
    assert str(env.render()).startswith("tiny\nphase cut")
    quiet = ContextEnv([TINY])
    quiet.reset()
    with pytest.warns(UserWarning, match="render_mode"):
        assert quiet.render() is None
    picture = ContextEnv([TINY], render_mode="rgb_array")
    picture.reset()
    frame = picture.render()
    assert isinstance(frame, np.ndarray) and frame.shape == (720, 1280, 3)


# Memory


def test_only_the_scenarios_played_last_are_kept(stubbed: None) -> None:
    """Over many variants, whose rows and evaluations would else fill the memory."""
    env = ContextEnv([TINY, OTHER], randomise=True, keep=3)
    seen = {(env.reset(seed=seed)[1]["scenario"], env.reset(seed=seed)[1]["variant"]) for seed in range(12)}
    assert len(seen) > 6 and len(env._problems) == 3
    kept = env.evaluator
    env.reset(seed=11)
    assert env.evaluator is kept
    for seed in range(5):
        env.reset(seed=seed)
    env.reset(seed=11)
    assert env.evaluator is not kept


def test_copies_of_an_environment_are_apart() -> None:
    env = ContextEnv([TINY])
    env.reset(seed=0)
    other = copy.deepcopy(env)
    other.step(0)
    assert len(env.state.history) == 0 and len(other.state.history) == 1
