"""The agents replay, dqn and appo without Ray running: their losses, masks and what they play."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("ray")

import torch
from ray.rllib.algorithms.dqn.dqn_learner import QF_NEXT_PREDS, QF_PREDS, QF_TARGET_NEXT_PREDS
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns

from agents import SearchTask, checkpoint, context_ppo
from agents.appo import corrected
from agents.baselines import starting_points, textbook_actions
from agents.dqn import DesignQModule, decay
from agents.dqn import Settings as DQNSettings
from agents.dqn import configuration as dqn_configuration
from agents.modules import MASKED, AnchoredModule
from agents.protocol import Outcome
from agents.replay import PRIOR_WEIGHT, Replay, ReplayConfig, Settings, configuration, divergences, rank_probabilities
from agents.search_algorithm import DesignSearch, Environment, play, replay, retold
from agents.sequences import balanced_actions
from agents.weighted import ENTROPY_WEIGHT, POLICY_WEIGHT, BestQueue, weighted
from qumos_env import DesignEnv, load_scenario
from qumos_env.env.actions import DesignState
from qumos_env.env.context_env import flat_context_env
from qumos_env.errors import QumosError
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.scenario import Scenario, parse_scenario

pytestmark = pytest.mark.rllib
SMOKE = load_scenario("iris-smoke")
TASK = SearchTask(SMOKE, 20, seed=3, workers=0)


def variant(**design: object) -> Scenario:
    """The smoke scenario with other limits."""
    data = SMOKE.model_dump(mode="json")
    return parse_scenario(data | {"design": data["design"] | design})


def space(size: int, actions: int) -> gym.spaces.Dict:
    """Observations of that size, with a mask."""
    return gym.spaces.Dict(
        {"observations": gym.spaces.Box(0, 1, (size,), np.float32), "action_mask": gym.spaces.Box(0, 1, (actions,), np.int8)}
    )


def masks(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random masks with at least one valid action."""
    mask = (rng.random(shape) < 0.3).astype(np.int8)
    mask[..., 0] |= mask.sum(-1) == 0
    return mask


@pytest.fixture
def no_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever evaluates fails."""

    def refuse(self: Evaluator, *_: Any, **__: Any) -> Any:
        raise AssertionError("evaluated")

    monkeypatch.setattr(Evaluator, "evaluate", refuse)


class Runner:
    """An env runner as far as scripts need one."""

    def __init__(self, env: Environment) -> None:
        self.env = self
        self.unwrapped = self
        self.envs = [env]

    def get_metrics(self) -> dict[str, float]:
        """Nothing."""
        return {}


class TestScripts:
    """Episodes that are not sampled."""

    def test_a_runner_plays_scripts_in_its_own_environment(self) -> None:
        scripts = [tuple(one) for one in starting_points(SMOKE)[:2]]
        played, _ = play(Runner(DesignEnv(SMOKE)), scripts)
        assert [one.actions for one in played] == scripts
        evaluator = Evaluator(SMOKE)
        for one in played:
            state = DesignState(SMOKE).replay(one.actions)
            assert one.outcome.reward == evaluator.evaluate(state.design()).reward == one.episode.get_return()

    def test_an_episode_is_retold_without_evaluating_it(self, no_evaluation: None) -> None:
        actions = starting_points(SMOKE)[1]
        for env in (DesignEnv(SMOKE), flat_context_env(scenarios=[SMOKE])):
            told = retold(env, actions, Outcome(0.25, {"accuracy": 0.5}))
            assert told.actions == actions and told.outcome.reward == told.episode.get_return() == 0.25
            assert len(told.episode) == len(actions) and told.episode.is_terminated
            taken = np.asarray(told.episode.get_actions())
            masks = [seen["action_mask"] for seen in (told.episode.get_observations(place) for place in range(len(actions)))]
            assert all(mask[action] for mask, action in zip(masks, taken, strict=True))

    def test_a_retold_episode_is_the_one_that_was_played(self) -> None:
        actions = starting_points(SMOKE)[0]
        one = replay(DesignEnv(SMOKE), actions)
        told = retold(DesignEnv(SMOKE), actions, one.outcome)
        for place in range(len(actions)):
            first, second = (episode.get_observations(place) for episode in (one.episode, told.episode))
            np.testing.assert_equal(first, second)
        np.testing.assert_array_equal(one.episode.get_actions(), told.episode.get_actions())
        np.testing.assert_array_equal(one.episode.get_rewards(), told.episode.get_rewards())

    @pytest.mark.parametrize("design", [{}, {"vocabulary": "gates", "max_gates": 7}, {"max_gate_cuts": 2, "shots": [64], "max_gates": 30}])
    def test_textbook_actions_are_valid_and_differ(self, design: dict[str, object]) -> None:
        scenario, rng = variant(**design), np.random.default_rng(0)
        found = set()
        for _ in range(20):
            actions = textbook_actions(scenario, rng)
            state = DesignState(scenario)
            assert all(state.apply(action) for action in actions) and state.done
            scenario.check_design(state.design())
            found.add(tuple(actions))
        assert len(found) > 5


def network(learner: Any, _: object = None) -> dict[str, np.ndarray]:
    """All weights of a learner."""
    state: dict[str, np.ndarray] = learner.module[DEFAULT_MODULE_ID].get_state()
    return state


def learner_of(config: Any) -> Any:
    """The learner of ``config``, without an algorithm around it."""
    env = DesignEnv(SMOKE)
    return config.copy(copy_frozen=False).build_learner(env=env)


class TestReplay:
    """Rank-weighted replay."""

    def test_ranks_decide(self) -> None:
        chances = rank_probabilities(4, 0.25)
        assert chances == pytest.approx(np.array([1, 1 / 2, 1 / 3, 1 / 4]) / (1 + 1 / 2 + 1 / 3 + 1 / 4))
        assert rank_probabilities(100, 0.01)[0] > 5 * rank_probabilities(100, 1.0)[0]

    def test_the_divergence_knows_masks(self) -> None:
        rng = np.random.default_rng(0)
        logits, prior, mask = rng.normal(size=(5, 6)), rng.normal(size=(5, 6)), masks(rng, 5, 6).astype(bool)
        first, second = (torch.tensor(np.where(mask, values, MASKED), dtype=torch.float32) for values in (logits, prior))
        expected = []
        for row in range(5):
            p, q = (np.exp(values[row][mask[row]]) / np.exp(values[row][mask[row]]).sum() for values in (logits, prior))
            expected.append(float((p * np.log(p / q)).sum()))
        assert divergences(first, second).numpy() == pytest.approx(expected, abs=1e-5)
        # A prior that is sure of another action: large, not infinite.
        assert torch.isfinite(divergences(torch.tensor([[0.0, 0.0]]), torch.tensor([[1e4, 0.0]]))).all()

    def test_the_loss(self) -> None:
        learner = learner_of(configuration(TASK, Settings(hidden=8, entropy=0.5)))
        module = learner.module[DEFAULT_MODULE_ID].unwrapped()
        with torch.no_grad():
            for value in module._policy.parameters():
                value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(0)))
        env = DesignEnv(SMOKE)
        weights = [(0.3, 0.02, 0.05), (0.7, 0.01, 0.03)]
        episodes = []
        for actions, (policy, entropy, prior) in zip(starting_points(SMOKE)[:2], weights, strict=True):
            episode = retold(env, actions, Outcome(0.1)).episode
            episodes.append(weighted(episode, **{POLICY_WEIGHT: policy, ENTROPY_WEIGHT: entropy, PRIOR_WEIGHT: prior}))
        expected = 0.0
        for episode, (policy, entropy, prior) in zip(episodes, weights, strict=True):
            seen = episode.get_observations(slice(0, len(episode)))
            batch = {
                Columns.OBS: {name: torch.from_numpy(np.asarray(value))[None] for name, value in seen.items()},
                Columns.STATE_IN: {"h": torch.zeros(1, 8)},
            }
            with torch.no_grad():
                now = module._forward(batch)[Columns.ACTION_DIST_INPUTS][0].double().numpy()
                before = next(iter(module.forward_target(batch).values()))[0].double().numpy()
            for step, action in enumerate(episode.get_actions()):
                valid = seen["action_mask"][step].astype(bool)
                p, q = (np.exp(logits[step][valid]) / np.exp(logits[step][valid]).sum() for logits in (now, before))
                taken = int(np.flatnonzero(valid).tolist().index(int(action)))
                expected += -policy * np.log(p[taken]) + 0.5 * entropy * (p * np.log(p)).sum() + prior * (p * np.log(p / q)).sum()
        losses = []
        original = learner.compute_loss_for_module
        learner.compute_loss_for_module = lambda **given: losses.append(original(**given)) or losses[-1]
        held = {name: value.clone() for name, value in module.state_dict().items() if name.startswith("_old")}
        learner.update(episodes=episodes)
        assert losses[0].item() == pytest.approx(expected, rel=1e-4)
        # An update moves the policy and leaves the prior; ``hold`` moves the prior.
        after = module.state_dict()
        assert held and all(torch.equal(after[name], value) for name, value in held.items())
        module.hold()
        assert torch.equal(module.state_dict()["_old_policy.weight"], after["_policy.weight"])

    def agent(self, **over: Any) -> Replay:
        """The algorithm as far as it needs no Ray."""
        agent = Replay.__new__(Replay)
        config = ReplayConfig().training(**over)
        config.design_scenario = SMOKE
        config.seed = 5
        agent.config = config
        agent.queue, agent.seen, agent.entropy_scale = BestQueue(config.design_queue), set(), 1.0
        agent._rng, agent._prior_scale = np.random.default_rng(5), 1.0
        return agent

    def filled(self, **over: Any) -> Replay:
        """One that has met twelve designs, the first being the best."""
        agent, rng, env = self.agent(**over), np.random.default_rng(1), DesignEnv(SMOKE)
        while len(agent.queue) < 12:
            actions = tuple(balanced_actions(SMOKE, rng))
            if actions not in agent.seen:
                told = retold(env, actions, Outcome(1 - len(agent.queue) / 20))
                agent.remember(DesignState(SMOKE).replay(actions).design().hash, told)
                agent.seen.add(actions)
        return agent

    def test_children_are_new_and_valid(self) -> None:
        agent = self.filled(crossover=0.5)
        children = agent.children(8)
        assert len(set(children)) == 8 and not set(children) & agent.seen
        for child in children:
            state = DesignState(SMOKE)
            assert all(state.apply(action) for action in child) and state.done
        assert self.filled(crossover=0.5).children(8) == children
        assert self.agent().children(8) == []

    def test_the_best_are_replayed_most(self) -> None:
        agent = self.filled(sample=4000)
        drawn = {episode.id_: episode for episode in agent.drawn(1.0)}
        ranked = agent.queue.ranked()
        shares = [drawn[one.episode.id_].custom_data[POLICY_WEIGHT] * len(one.episode) for one in ranked if one.episode.id_ in drawn]
        assert sum(shares) == pytest.approx(1)
        assert shares[0] == pytest.approx(rank_probabilities(12, 0.01)[0], abs=0.03)
        assert all(episode.custom_data[POLICY_WEIGHT] == 0 for episode in agent.drawn(0.0))

    def test_the_prior_fades(self) -> None:
        agent = self.filled(prior_weight=0.4)
        found = agent.drawn(1.0)
        steps = sum(len(episode) for episode in found)
        assert found[0].custom_data[PRIOR_WEIGHT] == pytest.approx(0.4 / steps)
        agent.set_own({"prior_scale": 0.5, "entropy_scale": 2.0})
        assert agent.own() == {"prior_scale": 0.5, "entropy_scale": 2.0}
        found = agent.drawn(1.0)
        steps = sum(len(episode) for episode in found)
        assert found[0].custom_data[PRIOR_WEIGHT] == pytest.approx(0.2 / steps)

    def test_the_prior_is_fitted_without_evaluating(self, no_evaluation: None) -> None:
        agent = self.agent(prior_designs=6, prior_updates=3, sample=4)
        updates: list[list[Any]] = []
        agent.update = updates.append  # type: ignore[method-assign]
        agent.fit()
        assert [len(one) for one in updates] == [4, 4, 4]
        for episode in updates[0]:
            assert episode.custom_data[POLICY_WEIGHT] * len(episode) == pytest.approx(1 / 4) and episode.custom_data[PRIOR_WEIGHT] == 0

    def test_a_pretrained_policy_is_start_and_prior(self, tmp_path: Path) -> None:
        env, path = flat_context_env(scenarios=[SMOKE]), tmp_path / "policy.npz"
        trained = context_ppo.over([SMOKE], TASK, context_ppo.Settings(hidden=16)).build_learner_group(env=env)
        checkpoint.save(path, trained, {})
        weights = trained.foreach_learner(network).result_or_errors[0].get()

        def begun(settings: Settings) -> tuple[Any, list[str]]:
            agent, stages = self.agent(), list[str]()
            agent.config = configuration(replace(TASK, seed=7), settings)
            agent.learner_group = agent.config.build_learner_group(env=env)
            agent.sync = lambda: None  # type: ignore[method-assign]
            agent.begin((), False, stages.append)
            assert agent.environment(TASK).observation_space == env.observation_space
            return agent.learner_group.foreach_learner(network).result_or_errors[0].get(), stages

        found, stages = begun(Settings(hidden=16, prior=str(path)))
        assert stages == ["loading the prior"]
        for name, value in weights.items():
            np.testing.assert_array_equal(found[name], value)
            if not name.startswith("_values"):
                np.testing.assert_array_equal(found[f"_old{name}"], value)
        with pytest.raises(QumosError, match=r"policy\.npz"):
            begun(Settings(hidden=8, prior=str(path)))

    def test_runners_do_without_the_prior(self) -> None:
        given: dict[str, Any] = {"action_space": gym.spaces.Discrete(7), "model_config": {"hidden": 8, "max_seq_len": 3}}
        whole = AnchoredModule(observation_space=space(5, 7), **given)
        whole.make_target_networks()
        runner = AnchoredModule(observation_space=space(5, 7), inference_only=True, **given)
        assert set(whole.get_state(inference_only=True)) == set(runner.get_state()) < set(whole.get_state())


class TestDQN:
    """Masks in all three places."""

    def module(self, epsilon: float) -> DesignQModule:
        """A network that wants what is masked badly."""
        module = DesignQModule(
            observation_space=space(5, 7), action_space=gym.spaces.Discrete(7), model_config={"hidden": 8, "epsilon": epsilon}
        )
        module.make_target_networks()
        with torch.no_grad():
            for one in (module._advantages, module._target_advantages):
                one.weight.mul_(1e3)
        return module

    def batch(self, rows: int = 64) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
        """Observations, the following ones, and their masks."""
        rng = np.random.default_rng(0)
        now, then = masks(rng, rows, 7), masks(rng, rows, 7)
        seen = [{"observations": torch.rand(rows, 5), "action_mask": torch.from_numpy(mask)} for mask in (now, then)]
        return {Columns.OBS: seen[0], Columns.NEXT_OBS: seen[1]}, now, then

    @pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
    def test_a_masked_action_is_never_taken(self, epsilon: float) -> None:
        module = self.module(epsilon)
        batch, mask, _ = self.batch()
        taken = []
        for _ in range(50):
            for output in (module.forward_exploration(batch, t=0), module.forward_inference(batch)):
                chosen = output[Columns.ACTIONS].numpy()
                assert mask[np.arange(64), chosen].all()
            taken.append(module.forward_exploration(batch, t=0)[Columns.ACTIONS].numpy())
        several = mask.sum(1) > 1
        varied = np.array([len(set(column)) > 1 for column in np.array(taken).T])
        assert varied[several].all() if epsilon else not varied.any()

    def test_values_are_duelling_over_valid_actions(self) -> None:
        module, (batch, mask, _) = self.module(0.0), self.batch()
        values = module.compute_q_values(batch)[QF_PREDS].detach().numpy()
        hidden = module._encoder(batch[Columns.OBS]["observations"])
        state = module._value(hidden).detach().numpy()[:, 0]
        assert (values[mask == 0] == MASKED).all()
        means = np.array([row[valid == 1].mean() for row, valid in zip(values, mask, strict=True)])
        assert means == pytest.approx(state, abs=1e-3)

    def test_targets_never_look_at_masked_actions(self) -> None:
        config = dqn_configuration(TASK, DQNSettings(hidden=8))
        learner = learner_of(config)
        module = learner.module[DEFAULT_MODULE_ID].unwrapped()
        with torch.no_grad():
            for one in (module._advantages, module._target_advantages):
                one.weight.mul_(1e3)
        size, actions = module.observation_space["observations"].shape[0], int(module.action_space.n)
        rng = np.random.default_rng(0)
        now, then = masks(rng, 32, actions), masks(rng, 32, actions)
        ended = rng.random(32) < 0.3
        then[ended] = 0
        chosen = np.array([rng.choice(np.flatnonzero(row)) for row in now])
        rewards, steps = rng.random(32).astype(np.float32), rng.integers(1, 4, 32)
        batch = {
            Columns.OBS: {"observations": torch.rand(32, size), "action_mask": torch.from_numpy(now)},
            Columns.NEXT_OBS: {"observations": torch.rand(32, size), "action_mask": torch.from_numpy(then)},
            Columns.ACTIONS: torch.from_numpy(chosen),
            Columns.REWARDS: torch.from_numpy(rewards),
            Columns.TERMINATEDS: torch.from_numpy(ended),
            "n_step": torch.from_numpy(steps),
            "weights": torch.ones(32),
        }
        output = module.forward_train(batch)
        loss = learner.compute_loss_for_module(module_id=DEFAULT_MODULE_ID, config=learner.config, batch=batch, fwd_out=output)
        online, target = (output[name].detach().double().numpy() for name in (QF_NEXT_PREDS, QF_TARGET_NEXT_PREDS))
        current = output[QF_PREDS].detach().double().numpy()
        losses = []
        for row in range(32):
            valid = np.flatnonzero(then[row])
            best = 0.0 if ended[row] else target[row, valid[online[row, valid].argmax()]]
            error = abs(current[row, chosen[row]] - (rewards[row] + best))
            losses.append(error**2 / 2 if error < 1 else error - 0.5)
        assert loss.item() == pytest.approx(np.mean(losses), rel=1e-4)

    def test_a_checkpoint_holds_targets_and_the_share_of_random_actions(self, tmp_path: Path) -> None:
        groups = [dqn_configuration(TASK, DQNSettings(hidden=8)).build_learner_group(env=DesignEnv(SMOKE)) for _ in range(2)]
        groups[0].foreach_learner(lambda learner: decay(learner, 0.05, 0.3))
        checkpoint.save(tmp_path / "checkpoint.npz", groups[0], {})
        checkpoint.load(tmp_path / "checkpoint.npz", groups[1])
        first, second = (group.foreach_learner(network).result_or_errors[0].get() for group in groups)
        assert float(second["exploration.epsilon"][0]) == pytest.approx(0.3)
        assert "_target_value.weight" in second
        np.testing.assert_equal(second, first)

    def test_every_action_of_an_episode_is_replayed(self) -> None:
        """RLlib's buffer never draws the last actions with a fixed number of steps: the one that ends an episode would not be learned."""
        from ray.rllib.utils.replay_buffers.prioritized_episode_buffer import PrioritizedEpisodeReplayBuffer

        config = dqn_configuration(TASK, DQNSettings(hidden=8, steps=5))
        buffer = PrioritizedEpisodeReplayBuffer(capacity=1000)
        buffer.rng = np.random.default_rng(0)
        actions = starting_points(SMOKE)[0]
        buffer.add([retold(DesignEnv(SMOKE), actions, Outcome(0.4)).episode])
        drawn = buffer.sample(num_items=300, n_step=config.n_step, gamma=1.0, beta=0.4)
        assert {int(one.get_actions(0)) for one in drawn} == set(actions)
        assert {int(one.get_extra_model_outputs("n_step", 0)) for one in drawn} == set(range(1, 6))
        assert all(one.get_return() == (0.4 if one.is_terminated else 0.0) for one in drawn)


def reference(log_ratios: np.ndarray, rewards: np.ndarray, values: np.ndarray, gamma: float) -> tuple[list[float], list[float]]:
    """V-trace of one episode from its definition (Espeholt et al., 2018, equation 1), and the advantages."""
    ratios = np.exp(log_ratios)
    steps = len(rewards)
    following = [*values[1:], 0.0]
    errors = [min(1.0, ratios[t]) * (rewards[t] + gamma * following[t] - values[t]) for t in range(steps)]
    targets = [
        values[s] + sum(gamma ** (t - s) * np.prod(np.minimum(1.0, ratios[s:t])) * errors[t] for t in range(s, steps)) for s in range(steps)
    ]
    return targets, [rewards[t] + gamma * [*targets[1:], 0.0][t] - values[t] for t in range(steps)]


class TestAPPO:
    """V-trace."""

    def test_old_samples_are_corrected(self) -> None:
        rng = np.random.default_rng(0)
        lengths = [6, 4, 1]
        ratios, rewards, values = (rng.normal(size=(3, 6)) for _ in range(3))
        valid = np.arange(6) < np.array(lengths)[:, None]
        ratios[~valid], rewards[~valid], values[~valid] = 1e9, 7.0, -3.0
        given = [torch.tensor(one, requires_grad=True) for one in (ratios, rewards, values)]
        targets, advantages = corrected(*given, torch.from_numpy(valid), 0.9)
        assert not targets.requires_grad and not advantages.requires_grad
        for row, length in enumerate(lengths):
            expected = reference(ratios[row, :length], rewards[row, :length], values[row, :length], 0.9)
            assert targets[row, :length].numpy() == pytest.approx(expected[0])
            assert advantages[row, :length].numpy() == pytest.approx(expected[1])
            assert not targets[row, length:].any() and not advantages[row, length:].any()

    def test_fresh_samples_have_the_return_as_target(self) -> None:
        rewards = torch.tensor([[0.0, 0.0, 0.8]])
        targets, advantages = corrected(torch.zeros(1, 3), rewards, torch.tensor([[0.3, 0.5, 0.6]]), torch.ones(1, 3).bool(), 1.0)
        assert targets.numpy() == pytest.approx(np.full((1, 3), 0.8))
        assert advantages.numpy() == pytest.approx(np.array([[0.5, 0.3, 0.2]]))

    def test_no_runner_gets_more_than_the_budget_allows(self) -> None:
        from agents.appo import IN_FLIGHT, AsyncSearch

        class Group:
            """Four runners that never answer."""

            def __init__(self) -> None:
                self.given: list[int] = []

            def healthy_worker_ids(self) -> list[int]:
                return [1, 2, 3, 4]

            def foreach_env_runner_async(self, _: Any, *, tag: str, remote_worker_ids: list[int]) -> int:
                self.given += remote_worker_ids
                return 1

        def given(left: int) -> list[int]:
            from collections import Counter

            agent, group = AsyncSearch.__new__(AsyncSearch), Group()
            agent.env_runner_group, agent._under_way = group, Counter()
            agent.may_play = lambda wanted: min(wanted, left)
            agent._submit()
            agent._submit()
            return group.given

        assert given(100) == [1, 2, 3, 4] * IN_FLIGHT
        assert given(5) == [1, 2, 3, 4, 1] and given(0) == []


def test_the_agents_share_one_search() -> None:
    from agents.appo import AsyncSearch
    from agents.dqn import DesignDQN

    for kind in (Replay, DesignDQN, AsyncSearch):
        assert issubclass(kind, DesignSearch)
