"""Masked DQN: RLlib's double Q-learning with prioritised replay (Mnih et al., 2015; van Hasselt et al., 2016; Schaul et al., 2016) on a
duelling network (Wang et al., 2016), with whole episodes, every one recorded.

Exploration, bootstrap targets and inference all see valid actions alone. The network has no memory: the observation holds the state of
the design, and RLlib's prioritised buffer replays single transitions, so that a recurrent network would always start from an empty state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.dqn.dqn import DQN, DQNConfig
from ray.rllib.algorithms.dqn.dqn_learner import QF_NEXT_PREDS, QF_PREDS, QF_TARGET_NEXT_PREDS
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.rl_module.apis.inference_only_api import InferenceOnlyAPI
from ray.rllib.core.rl_module.apis.q_net_api import QNetAPI
from ray.rllib.core.rl_module.apis.target_network_api import TargetNetworkAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.metrics import LEARNER_RESULTS, LEARNER_UPDATE_TIMER, NUM_ENV_STEPS_SAMPLED_LIFETIME, TD_ERROR_KEY, TIMERS
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.replay_buffers.utils import update_priorities_in_episode_replay_buffer
from torch import Tensor, nn

from .modules import masked
from .protocol import SearchTask
from .search_algorithm import DesignSearch, Played, configure, rllib_search
from .settings import AgentSettings, Count, Rate, Share, Width

AGENT = "dqn"
RECALLED = 200


class Settings(AgentSettings):
    """Settings of the DQN agent.

    Attributes:
        batch: episodes between updates.
        updates: updates after every batch.
        sample: transitions drawn for each of them.
        buffer: transitions that are kept.
        steps: a target looks 1 to that many steps ahead, drawn for every transition; the only reward comes last.
        learning_rate: of Adam.
        tau: share of the online network in the target network that every update mixes in.
        epsilon, final_epsilon, epsilon_decay: share of random valid actions in the first batch, the least later, and its factor after
            every batch.
        alpha, beta: exponents of the priorities and of the weights that correct for them.
        warm_start: evaluate the hand-made designs first; they enter the buffer.
        hidden: width of the two layers.
        gradient_clip: largest norm of a gradient.
    """

    batch: Count = 8
    updates: Count = 16
    sample: Count = 64
    buffer: Count = 50_000
    steps: Count = 8
    learning_rate: Rate = 1e-3
    tau: Share = 0.02
    epsilon: Share = 1.0
    final_epsilon: Share = 0.05
    epsilon_decay: Share = 0.9
    alpha: Share = 0.6
    beta: Share = 0.4
    warm_start: bool = True
    hidden: Width = 256
    gradient_clip: Rate = 10.0


class _Exploration(nn.Module):
    """The share of random actions, kept with the weights so that it travels and is saved with them."""

    epsilon: Tensor

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        # One row, not a scalar: RLlib's states are arrays.
        self.register_buffer("epsilon", torch.tensor([epsilon]))


class DesignQModule(TorchRLModule, QNetAPI, TargetNetworkAPI, InferenceOnlyAPI):
    """Observation -> two layers -> value and advantages of the valid actions; the Q-value of a masked one is ``MASKED``.

    ``model_config`` holds ``hidden`` (width) and ``epsilon`` (share of random actions at the beginning).
    """

    # RLlib declares these as optional; they are set when ``setup`` is called.
    model_config: Any
    observation_space: Any
    action_space: Any

    _NETWORKS = ("_encoder", "_advantages", "_value")

    def setup(self) -> None:
        """Builds the layers; called by RLlib."""
        hidden = self.model_config["hidden"]
        size = self.observation_space["observations"].shape[0]
        self._encoder = nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self._advantages = nn.Linear(hidden, int(self.action_space.n))
        self._value = nn.Linear(hidden, 1)
        # After the networks: a checkpoint counts the parameters in this order.
        self.exploration = _Exploration(self.model_config.get("epsilon", 0.0))

    def make_target_networks(self) -> None:
        """Makes the target network; called by the learner."""
        for name in self._NETWORKS:
            setattr(self, f"_target{name}", make_target_network(getattr(self, name)))

    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        """Every network with its target."""
        return [(getattr(self, name), getattr(self, f"_target{name}")) for name in self._NETWORKS]

    def get_non_inference_attributes(self) -> list[str]:
        """What env runners do without."""
        return [f"_target{name}" for name in self._NETWORKS]

    def compute_q_values(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Q-values of the observations in ``batch``, ``[batch, actions]``."""
        return {QF_PREDS: self._q_values(batch, Columns.OBS)}

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The same of the target network."""
        with torch.no_grad():
            return {QF_PREDS: self._q_values(batch, Columns.OBS, "_target")}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        with torch.no_grad():
            following = {
                QF_NEXT_PREDS: self._q_values(batch, Columns.NEXT_OBS),
                QF_TARGET_NEXT_PREDS: self._q_values(batch, Columns.NEXT_OBS, "_target"),
            }
        return {**self.compute_q_values(batch), **following}

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        with torch.no_grad():
            return {Columns.ACTIONS: self._q_values(batch, Columns.OBS).argmax(-1)}

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        best = self._forward_inference(batch)[Columns.ACTIONS]
        valid = batch[Columns.OBS]["action_mask"].float()
        chance = torch.multinomial(valid, 1).squeeze(-1)
        return {Columns.ACTIONS: torch.where(torch.rand(best.shape) < self.exploration.epsilon, chance, best)}

    def _q_values(self, batch: dict[str, Any], column: str, prefix: str = "") -> Tensor:
        encoder, advantages, value = (getattr(self, f"{prefix}{name}") for name in self._NETWORKS)
        hidden = encoder(batch[column]["observations"].float())
        relative, valid = advantages(hidden), batch[column]["action_mask"].float()
        mean = (relative * valid).sum(-1, keepdim=True) / valid.sum(-1, keepdim=True).clamp(min=1)
        return masked(value(hidden) + relative - mean, batch, column)


class DesignDQNConfig(DQNConfig):
    """DQN's configuration with the settings of whole episodes and of exploration."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or DesignDQN)
        self.design_batch, self.design_updates = Settings().batch, Settings().updates
        self.design_final_epsilon, self.design_epsilon_decay = Settings().final_epsilon, Settings().epsilon_decay
        # A step of training is a batch; DQN's own default goes on until it has seen a thousand steps.
        self.min_sample_timesteps_per_iteration = 0
        self.batch_mode = "complete_episodes"


class DesignDQN(DesignSearch, DQN):
    """DQN that samples through ``DesignSearch.collect``."""

    local_replay_buffer: Any

    @classmethod
    def get_default_config(cls) -> DesignDQNConfig:
        """An empty configuration of this algorithm."""
        return DesignDQNConfig()

    def setup(self, config: Any) -> None:
        """Builds the algorithm; called by RLlib."""
        super().setup(config)
        # RLlib leaves the buffer's generator to chance.
        self.local_replay_buffer.rng = np.random.default_rng(self.config.seed)

    @property
    def recalled(self) -> int:
        """The best designs of earlier sessions, for the buffer."""
        return RECALLED

    def remember(self, design_hash: str, played: Played) -> None:
        """Puts it into the buffer."""
        self._store([played])

    def training_step(self) -> None:
        """Samples one batch, updates the network from the buffer, sends it to the runners."""
        played = self.collect(self.config.design_batch)
        if not played:
            return
        self._store(played)
        for _ in range(self.config.design_updates):
            self._update()
        least, factor = self.config.design_final_epsilon, self.config.design_epsilon_decay
        self.learner_group.foreach_learner(lambda learner: decay(learner, least, factor))
        self.sync()

    def _store(self, played: Sequence[Played]) -> None:
        known = self.local_replay_buffer.episode_id_to_index
        self.local_replay_buffer.add([one.episode for one in played if one.episode.id_ not in known])

    def _update(self) -> None:
        episodes = self.local_replay_buffer.sample(
            num_items=self.config.total_train_batch_size,
            n_step=self.config.n_step,
            gamma=self.config.gamma,
            beta=self.config.replay_buffer_config["beta"],
        )
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            # The target network follows with every update, whatever was sampled.
            results = self.learner_group.update(episodes=episodes, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 0})
        errors = [one for result in results for one in convert_to_numpy(result[DEFAULT_MODULE_ID].pop(TD_ERROR_KEY).peek())]
        self.metrics.aggregate(results, key=LEARNER_RESULTS)
        update_priorities_in_episode_replay_buffer(
            replay_buffer=self.local_replay_buffer,
            td_errors={DEFAULT_MODULE_ID: {TD_ERROR_KEY: np.concatenate(errors)}},
        )


def decay(learner: Any, least: float, factor: float) -> None:
    """Lowers the share of random actions by ``factor``, to ``least`` at most."""
    epsilon = learner.module[DEFAULT_MODULE_ID].unwrapped().exploration.epsilon
    epsilon.copy_((epsilon * factor).clamp(min=least))


def configuration(task: SearchTask, settings: Settings) -> DesignDQNConfig:
    """How the agent is built for ``task``."""
    config = configure(DesignDQNConfig(), task, settings.hidden, DesignQModule)
    assert config.rl_module_spec.model_config is not None
    config.rl_module_spec.model_config["epsilon"] = settings.epsilon
    config.design_batch, config.design_updates = settings.batch, settings.updates
    config.design_final_epsilon, config.design_epsilon_decay = settings.final_epsilon, settings.epsilon_decay
    return config.training(
        lr=settings.learning_rate,
        gamma=1.0,
        train_batch_size_per_learner=settings.sample,
        # A range, whose end RLlib leaves out: with a fixed number its buffer never draws the last transitions of an episode.
        n_step=(1, settings.steps + 1),
        tau=settings.tau,
        target_network_update_freq=0,
        double_q=True,
        dueling=True,
        num_atoms=1,
        replay_buffer_config={
            "type": "PrioritizedEpisodeReplayBuffer",
            "capacity": settings.buffer,
            "alpha": settings.alpha,
            "beta": settings.beta,
        },
        grad_clip=settings.gradient_clip,  # type: ignore[arg-type]  # any number will do
        grad_clip_by="global_norm",
    )


search = rllib_search(AGENT, Settings, configuration)
