"""Finished designs that are measured on few draws, then on more, until they are accepted."""

from __future__ import annotations

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given, settings
from hypothesis import strategies as st

from qumos_env.env.actions import Action, DesignState, action_table
from qumos_env.env.context_env import ContextEnv
from qumos_env.env.design_env import DesignEnv
from qumos_env.env.padding import design_of_context_actions
from qumos_env.errors import EvaluationFailure, QumosError
from qumos_env.evaluation.evaluator import Evaluation, Evaluator
from qumos_env.scenario import list_scenarios, load_scenario, parse_scenario

TINY: dict[str, Any] = {
    "name": "tiny",
    "title": "tiny",
    "data": {"source": "iris", "reducer": "none"},
    "draws": {"count": 3, "train_rows": 30, "thief_rows_per_class": 3, "tuning_rows": 15},
    "design": {"qubits": 4, "max_parts": 2, "max_part_qubits": 3, "max_gates": 12},
    "model": {"steps": 3},
    "threat": {"steps": 3},
    "providers": [{"name": "aurora"}, {"name": "borealis"}],
}


def build(env: DesignEnv) -> list[int]:
    """Actions of a short design, without ``finish``."""
    return [*env.table.opening((0, 1, 0, 1), (0, 1)), *(env.table.index(Action("layer", "ry", (part,))) for part in (0, 1))]


def test_by_default_nothing_is_measured_twice() -> None:
    """The ids keep their actions and observations."""
    env, other = DesignEnv(TINY), DesignEnv(TINY, fidelity="draws")
    assert env.table.actions == other.table.actions[:-2]
    assert [str(action) for action in other.table.actions[-3:]] == ["finish", "measure", "accept"]
    assert str(other.table).splitlines()[-1].split() == [str(len(env.table) + 1), "accept"]
    sizes = [one.observation_space["observations"].shape[0] for one in (env, other)]
    assert sizes[1] == sizes[0] + 2 + 5
    assert other.table.step_limit == env.table.step_limit + 3  # levels: 1, 2 and 3 draws
    with pytest.raises(QumosError, match="unknown fidelity 'draw'; did you mean draws"):
        DesignEnv(TINY, fidelity="draw")
    with pytest.raises(QumosError, match="unknown fidelity 'draw'; did you mean draws"):
        ContextEnv([TINY], fidelity="draw")


def test_measuring_adds_draws_until_the_design_is_accepted(trained: list[int]) -> None:
    env = DesignEnv(TINY, fidelity="draws")
    env.reset()
    for action in build(env):
        observation, *_ = env.step(action)
    assert not observation["observations"][-5:].any()
    evaluator = Evaluator(parse_scenario(TINY))
    seen = []
    for action, draws in (("finish", 1), ("measure", 2), ("measure", 3)):
        observation, reward, terminated, truncated, info = env.step(env.table.index(Action(action)))  # type: ignore[arg-type]
        assert (reward, terminated, truncated, info["phase"]) == (0.0, False, False, "measure")
        assert info["evaluation"]["draws"] == draws == env.state.draws and trained == list(range(draws))
        valid = [str(env.table.actions[number]) for number in np.flatnonzero(info["action_mask"])]
        assert valid == (["measure", "accept"] if draws < 3 else ["accept"])
        found = env._episode.evaluation
        assert found is not None and "failure" not in info and "actions" not in info
        figures = [draws / 3, found.reward, found.reward_se, found.accuracy, found.theft]
        np.testing.assert_allclose(observation["observations"][-5:], np.clip(figures, 0, 1), atol=1e-6)
        seen.append(found)
    _, reward, terminated, _, info = env.step(env.table.index(Action("accept")))
    assert terminated and info["phase"] == "done" and trained == [0, 1, 2]
    assert reward == seen[-1].reward == evaluator.evaluate(env.state.design()).reward
    assert info["evaluation"] == evaluator.evaluate(env.state.design()).to_dict()
    assert sum(info["rewards"].values()) == pytest.approx(reward)
    # What builds the design is a trace of the scenario without measurements too.
    assert DesignState(env.scenario).replay(info["actions"]).design() == env.state.design()
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)


def test_an_early_acceptance_is_worth_what_was_measured(trained: list[int]) -> None:
    env = DesignEnv(TINY, fidelity="draws", evaluation_seed=5)
    env.reset()
    for action in [*build(env), env.table.finish]:
        env.step(action)
    _, reward, terminated, _, info = env.step(len(env.table) - 1)
    assert terminated and trained == [0] and info["evaluation"]["draws"] == 1 and info["evaluation"]["seed"] == 5
    assert reward == Evaluator(env.scenario).evaluate(env.state.design(), seed=5, draws=1).reward


def test_masked_actions_cost_steps_while_it_is_measured() -> None:
    env = DesignEnv(TINY | {"design": TINY["design"] | {"max_steps": 8}}, fidelity="draws")
    env.reset()
    for action in [*build(env), env.table.finish]:
        before = env.step(action)[0]
    limit = env.table.step_limit
    assert limit == 8 + 3
    for step in range(10, limit + 1):
        observation, reward, terminated, _, info = env.step(env.table.finish)
        assert reward == 0 and terminated == (step == limit)
        assert data_equivalence(observation, before)
    assert info["failure"] == f"step limit of {limit} reached without accept" and "evaluation" not in info


@pytest.mark.parametrize("when", [1, 2])
def test_a_failed_measurement_ends_the_episode(when: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At ``finish``, and later too."""
    good, calls = Evaluator.evaluate, []

    def fail(self: Evaluator, *arguments: Any, **named: Any) -> Evaluation:
        calls.append(named["draws"])
        if len(calls) == when:
            raise EvaluationFailure("the loss is nan")
        return good(self, *arguments, **named)

    monkeypatch.setattr(Evaluator, "evaluate", fail)
    env = DesignEnv(TINY, fidelity="draws")
    env.reset()
    for action in [*build(env), env.table.finish, *[len(env.table) - 2] * (when - 1)]:
        _, reward, terminated, _, info = env.step(action)
    assert (reward, terminated, info["failure"]) == (0.0, True, "the loss is nan") and calls == [1, 2][:when]
    assert "design" in info and "evaluation" not in info and info["action_mask"].any()


def test_pickles_and_checkers() -> None:
    env = DesignEnv(TINY, fidelity="draws")
    gymnasium_check(env, skip_render_check=True)
    env.reset()
    for action in [*build(env), env.table.finish]:
        env.step(action)
    other = pickle.loads(pickle.dumps(env))
    for action in (len(env.table) - 2, len(env.table) - 1):
        assert data_equivalence(env.step(action), other.step(action), exact=True)


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from(list_scenarios()), seed=st.integers(0, 2**20), patience=st.floats(0, 1))
def test_every_masked_episode_ends_with_an_acceptance(name: str, seed: int, patience: float) -> None:
    """Within the step limit, over masks that are never empty."""
    scenario = load_scenario(name)
    state = DesignState(scenario, scenario.draw_levels)
    generator, steps = np.random.default_rng(seed), 0
    while not state.done:
        valid = np.flatnonzero(state.mask())
        assert len(valid) > 0
        if state.phase == "measure":
            assert set(valid) <= {len(state.table) - 2, len(state.table) - 1} and state.draws in scenario.draw_levels
            action = valid[0] if generator.uniform() < patience else valid[-1]
        else:
            action = generator.choice(valid)
        assert state.apply(int(action))
        steps += 1
    assert steps <= state.table.step_limit and state.table.actions[state.history[-1]] == Action("accept")
    assert state.mask()[-1] == 1 and state.mask().sum() == 1


def test_over_many_scenarios_too(trained: list[int]) -> None:
    """The context environment measures as that of the scenario does, and traces leave measurements out."""
    env, own = ContextEnv([TINY], fidelity="draws"), DesignEnv(TINY, fidelity="draws")
    env.reset()
    own.reset()
    for action in [*build(own), own.table.finish, len(own.table) - 2, len(own.table) - 1]:
        padded = env.table.index(own.table.actions[action])
        observation, reward, terminated, _, info = env.step(padded)
        other, expected, ended, _, theirs = own.step(action)
        assert (reward, terminated) == (expected, ended)
        np.testing.assert_array_equal(observation["measured"], other["observations"][-5:])
        assert observation["phase"].sum() == 1 and info["phase"] == theirs["phase"]
        assert info.get("evaluation") == theirs.get("evaluation") and info.get("actions") == theirs.get("actions")
    assert info["evaluation"]["draws"] == 2
    assert env.table.to_own(env.scenario, info["context_actions"]) == info["actions"][:-2]
    assert len(action_table(env.scenario)) == len(own.table) - 2
    assert design_of_context_actions(env.scenario, info["context_actions"]) == own.state.design()
