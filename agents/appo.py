"""Asynchronous PPO on the recurrent policy of ``modules``: env runners never wait for the learner, nor for each other.

Every runner always has two episodes to play; whatever has come back is trained on as soon as there is a batch of it, and new weights
reach a runner between two episodes. So episodes are of weights that are some updates old, which V-trace (Espeholt et al., *IMPALA*, 2018)
corrects for in the values; the policy has PPO's clipped ratio to what sampled it, as in RLlib's first APPO. How old the weights were is
the figure ``weights_age`` of every trial, in updates of the policy.

Which weights sample an episode depends on the load of the machine: the same seed does not give the same search, as it does with every other
agent. Without workers nothing is asynchronous, and it does.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.impala.torch.vtrace_torch_v2 import vtrace_torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
    WEIGHTS_SEQ_NO,
)
from torch import Tensor

from .modules import DesignModule
from .protocol import SearchTask
from .search_algorithm import PATIENCE_SECONDS, DesignSearch, NoRunnerError, Played, Script, configure, play, rllib_search
from .settings import AgentSettings, Count, Rate, Weight, Width

AGENT = "appo"
IN_FLIGHT = 2
"""Episodes that a runner has to play: one under way, and one so that it does not wait for this process."""
AGE = "weights_age"
_TAG = "play"


class Settings(AgentSettings):
    """Settings of the APPO agent.

    Attributes:
        batch: episodes per update.
        epochs: gradient steps per batch, each on the whole batch.
        learning_rate: of Adam.
        clip: how far the ratio of the policy to what sampled an episode may move.
        entropy: weight of the entropy bonus.
        value: weight of the value loss.
        warm_start: evaluate the hand-made designs first; APPO learns nothing from them.
        hidden: width of the recurrent cell.
        gradient_clip: largest norm of a gradient.
    """

    batch: Count = 16
    epochs: Count = 4
    learning_rate: Rate = 2e-3
    clip: Rate = 0.2
    entropy: Weight = 0.01
    value: Weight = 0.5
    hidden: Width = 128
    gradient_clip: Rate = 0.5


class AsyncConfig(AlgorithmConfig):
    """Configuration of ``AsyncSearch``."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or AsyncSearch)
        found = Settings()
        self.design_batch, self.design_epochs = found.batch, found.epochs
        self.design_clip, self.design_entropy, self.design_value = found.clip, found.entropy, found.value
        self.batch_mode = "complete_episodes"
        self.max_requests_in_flight_per_env_runner = IN_FLIGHT

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The recurrent policy."""
        return RLModuleSpec(module_class=DesignModule)

    def get_default_learner_class(self) -> type:
        """The learner with the loss below."""
        return AsyncLearner


def corrected(log_ratios: Tensor, rewards: Tensor, values: Tensor, valid: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """V-trace targets of the values, and advantages, of whole episodes; no gradient passes.

    Args:
        log_ratios: log π(a) − log μ(a) of the policy and of what sampled, ``[episodes, steps]``.
        rewards, values: likewise.
        valid: False for the steps that only pad an episode to the length of the longest; there the rest may be anything.
        gamma: discount.

    Returns:
        Targets v and advantages r + γ·v' − V, ``[episodes, steps]``, 0 where not valid.
    """
    zero = torch.zeros_like(rewards)
    ratios, rewards, values = (torch.where(valid, one.detach(), zero) for one in (log_ratios, rewards, values))
    # An episode ends with its last valid step: nothing comes after it.
    followed = torch.cat([valid[:, 1:], torch.zeros_like(valid[:, :1])], dim=1)
    discounts = gamma * followed.to(values.dtype)
    targets, _ = vtrace_torch(
        target_action_log_probs=ratios.T,
        behaviour_action_log_probs=zero.T,
        discounts=discounts.T,
        rewards=rewards.T,
        values=values.T,
        bootstrap_values=zero[:, 0],
    )
    targets = torch.where(valid, targets.T, zero)
    following = torch.cat([targets[:, 1:], zero[:, :1]], dim=1)
    return targets, torch.where(valid, rewards + discounts * following - values, zero)


class AsyncLearner(TorchLearner):
    """PPO's clipped loss with V-trace targets."""

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: dict[str, Any]) -> Tensor:
        """The loss, a scalar tensor."""
        module: Any = self.module[module_id].unwrapped()
        distribution = module.get_train_action_dist_cls().from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        valid = batch[Columns.LOSS_MASK].bool()
        log_ratios = distribution.logp(batch[Columns.ACTIONS]) - batch[Columns.ACTION_LOGP]
        values = module.compute_values(batch, embeddings=fwd_out.get(Columns.EMBEDDINGS))
        targets, advantages = corrected(log_ratios, batch[Columns.REWARDS], values, valid, config.gamma)
        advantages, ratios = advantages[valid], log_ratios[valid].exp()
        advantages = (advantages - advantages.mean()) / advantages.std(unbiased=False).clamp(min=1e-4)
        clipped = ratios.clamp(1 - config.design_clip, 1 + config.design_clip)
        policy_loss = -torch.minimum(advantages * ratios, advantages * clipped).mean()
        value_loss = 0.5 * (values[valid] - targets[valid]).square().mean()
        entropy = distribution.entropy()[valid].mean()
        self.metrics.log_dict({"policy_loss": policy_loss, "vf_loss": value_loss, "entropy": entropy}, key=module_id, window=1)
        loss: Tensor = policy_loss + config.design_value * value_loss - config.design_entropy * entropy
        return loss


class AsyncSearch(DesignSearch):
    """Asynchronous sampling and updates; see the module."""

    def setup(self, config: Any) -> None:
        """Builds the algorithm; called by RLlib."""
        super().setup(config)
        self.updates = 0
        self._under_way: Counter[int] = Counter()

    @classmethod
    def get_default_config(cls) -> AsyncConfig:
        """An empty configuration of this algorithm."""
        return AsyncConfig()

    def training_step(self) -> None:
        """Takes one batch of what has come back, updates the policy, sends it to the runners without waiting for them."""
        played = self.arrived(self.config.design_batch)
        if not played:
            return
        for one in played:
            self.metrics.log_value(AGE, one.outcome.evaluation[AGE], reduce="mean", window=len(played))
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(episodes=[one.episode for one in played], num_epochs=self.config.design_epochs)
        self.metrics.aggregate(results, key=LEARNER_RESULTS)
        self.updates += 1
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self.env_runner_group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)

    def arrived(self, episodes: int) -> list[Played]:
        """At least that many episodes, as they come back; fewer where ``may_play`` allows fewer.

        Raises:
            NoRunnerError: no env runner answered for ``PATIENCE_SECONDS``, evaluations that take longer aside.
        """
        if self.env_runner_group.num_remote_workers() == 0:
            return self.collect(episodes)
        played: list[Played] = []
        silent_since: float | None = None
        while len(played) < episodes:
            self._submit()
            if not self._under_way.total() and self.may_play is not None and self.may_play(1) <= 0:
                break
            played += (fresh := self._fetch())
            if fresh or self._under_way.total():
                silent_since = None
                continue
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > PATIENCE_SECONDS:
                raise NoRunnerError(f"no env runner answered for {PATIENCE_SECONDS:.0f} s")
            time.sleep(1.0)
        return played

    def drain(self) -> None:
        """Waits for the episodes under way, which are evaluated whether or not somebody listens."""
        while self._under_way.total():
            self._fetch()

    def _submit(self) -> None:
        """Gives every runner something to do, as far as ``may_play`` allows."""
        group = self.env_runner_group
        for number in range(IN_FLIGHT):
            for runner in group.healthy_worker_ids():
                total = self._under_way.total()
                if self._under_way[runner] > number or (self.may_play is not None and self.may_play(total + 1) <= total):
                    continue
                self._under_way[runner] += group.foreach_env_runner_async(_one, tag=_TAG, remote_worker_ids=[runner])

    def _fetch(self) -> list[Played]:
        """What has come back, handed on."""
        group = self.env_runner_group
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            results = group.fetch_ready_async_reqs(tags=_TAG, timeout_seconds=1.0)
        for runner, _ in results:
            self._under_way[runner] -= 1
        healthy = group.healthy_worker_ids()
        if len(healthy) < group.num_remote_workers():
            # What a runner had to play when it died never comes back.
            self._under_way = Counter({runner: count for runner, count in self._under_way.items() if runner in healthy})
            self.restore_env_runners(group)
        self.metrics.aggregate([metrics for _, (_, metrics) in results], key=ENV_RUNNER_RESULTS)
        fresh = self._aged([one for _, (played, _) in results for one in played])
        if self.sink is not None and fresh:
            self.sink(fresh)
        return fresh

    def _round(self, jobs: Sequence[Script | None]) -> tuple[int, list[Played]]:
        handed, fresh = super()._round(jobs)
        return handed, self._aged(fresh)

    def _aged(self, played: list[Played]) -> list[Played]:
        """``played`` with the age of the weights beside what was measured."""
        aged = []
        for one in played:
            age = self.updates - int(one.episode.get_extra_model_outputs(WEIGHTS_SEQ_NO, 0))
            aged.append(replace(one, outcome=replace(one.outcome, evaluation={**one.outcome.evaluation, AGE: age})))
        return aged


def _one(runner: Any) -> tuple[list[Played], Any]:
    return play(runner, [None])


def configuration(task: SearchTask, settings: Settings) -> AsyncConfig:
    """How the agent is built for ``task``."""
    config = configure(AsyncConfig(), task, settings.hidden)
    config.design_batch, config.design_epochs = settings.batch, settings.epochs
    config.design_clip, config.design_entropy, config.design_value = settings.clip, settings.entropy, settings.value
    config.training(lr=settings.learning_rate, gamma=1.0, grad_clip=settings.gradient_clip, grad_clip_by="global_norm")
    return config


search = rllib_search(AGENT, Settings, configuration)
