"""What clusters do to environments: pickles, processes that know only the id, remote RLlib runners; for every registered id."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from qumos_env.registration import env_id
from qumos_env.scenario import list_scenarios, load_scenario

IDS = [f"qumos_env:{env_id(name)}" for name in list_scenarios()]


def rollout(identifier: str, steps: int = 12) -> list[Any]:
    """A masked episode with its evaluation, as plain data: observations, rewards, flags and info of every step."""
    env = gym.make(identifier)
    observation, info = env.reset(seed=3)
    generator = np.random.default_rng(5)
    trace: list[Any] = [plain(observation), plain(info)]
    terminated = False
    for _ in range(steps):
        valid = np.flatnonzero(info["action_mask"][:-1])
        if len(valid) == 0:
            break
        observation, reward, terminated, truncated, info = env.step(int(generator.choice(valid)))
        trace.append([plain(observation), reward, terminated, truncated, plain(info)])
    while not terminated:
        valid = np.flatnonzero(info["action_mask"])
        observation, reward, terminated, truncated, info = env.step(int(valid[-1]))
        trace.append([plain(observation), reward, terminated, truncated, plain(info)])
    assert "evaluation" in info
    return trace


def plain(data: dict[str, Any]) -> str:
    return json.dumps({key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in data.items()})


@pytest.mark.parametrize("identifier", IDS)
def test_the_same_actions_give_the_same_episode_and_a_pickle_goes_on(identifier: str) -> None:
    assert rollout(identifier) == rollout(identifier)
    env = gym.make(identifier)
    _, info = env.reset(seed=0)
    for _ in range(3):
        action = int(np.flatnonzero(info["action_mask"])[-1])
        _, _, _, _, info = env.step(action)
    copy = pickle.loads(pickle.dumps(env))
    action = int(np.flatnonzero(info["action_mask"])[0])
    one, other = env.step(action), copy.step(action)
    assert [plain(one[0]), *one[1:4], plain(one[4])] == [plain(other[0]), *other[1:4], plain(other[4])]


def test_a_spawned_child_knows_every_id() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        theirs = pool.map(rollout, IDS)
    assert theirs == [rollout(identifier) for identifier in IDS]


@pytest.mark.rllib
@pytest.mark.slow
@pytest.mark.parametrize("identifier", IDS)
def test_two_remote_rllib_runners_play(identifier: str) -> None:
    """RLlib's own runners, in processes of their own, make the environment from its id and finish an episode each."""
    ray = pytest.importorskip("ray")
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    from agents.protocol import SearchTask
    from agents.search_algorithm import configure

    if not ray.is_initialized():
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    scenario = next(load_scenario(name) for name in list_scenarios() if identifier.endswith(env_id(name)))
    config = configure(PPOConfig(), SearchTask(scenario, budget=2, workers=2), hidden=16)
    assert config.env == identifier
    runners = [ray.remote(SingleAgentEnvRunner).options(num_cpus=1).remote(config=config, worker_index=index) for index in (1, 2)]
    episodes = ray.get([runner.sample.remote(num_episodes=1) for runner in runners])
    for (episode,) in episodes:
        info = episode.get_infos(-1)
        assert episode.is_terminated and "evaluation" in info
    for runner in runners:
        ray.kill(runner)


@pytest.fixture(scope="module", autouse=True)
def _stop_ray() -> Any:
    yield
    try:
        import ray
    except ImportError:
        return
    ray.shutdown()
