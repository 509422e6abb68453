"""REINFORCE as QuMoS uses it, aimed at the best design instead of the best mean.

A recurrent controller samples whole designs. Three terms make the loss: the policy gradient with a moving-average baseline
(Williams, *Simple statistical gradient-following algorithms*, 1992), restricted to the best part of each batch (risk-seeking
policy gradient, Petersen et al., *Deep symbolic regression*, 2021), an entropy bonus, and imitation of the best designs seen
(priority queue training, Abolafia et al., 2018).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Self

import numpy as np
import torch
from pydantic import Field
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import LEARNER_RESULTS, LEARNER_UPDATE_TIMER, TIMERS

from .modules import DesignModule
from .protocol import SearchTask, Trial
from .search_algorithm import DesignSearch, Played, configure, rllib_search
from .settings import AgentSettings, Count, Number, Rate, Share, Weight, Width

AGENT = "reinforce"
POLICY_WEIGHT = "policy_weight"
ENTROPY_WEIGHT = "entropy_weight"


class Settings(AgentSettings):
    """Settings of the REINFORCE agent.

    Attributes:
        batch: episodes per update.
        quantile: share of each batch, from the top, that the policy gradient uses; 1 is plain REINFORCE.
        baseline_decay: weight of the past in the moving-average baseline (plain REINFORCE only).
        learning_rate: of Adam.
        entropy: weight of the entropy bonus, in nats per step.
        imitation: weight of the likelihood of the queue.
        queue: best distinct designs kept for imitation.
        imitation_updates: further updates on the queue alone after every batch.
        novelty: share of new designs in a batch below which the policy counts as collapsed: imitation then pauses and the
            entropy bonus grows until there are new designs again.
        warm_start: evaluate the hand-made designs first; they enter the queue.
        warm_updates: updates on the hand-made designs before the search.
        hidden: width of the recurrent cell.
        gradient_clip: largest norm of a gradient.
    """

    batch: Count = 16
    quantile: Annotated[float, Field(gt=0, le=1)] = 0.25
    baseline_decay: Share = 0.9
    learning_rate: Rate = 5e-3
    entropy: Weight = 0.01
    imitation: Weight = 1.0
    queue: Count = 15
    imitation_updates: Number = 3
    novelty: Share = 0.5
    warm_start: bool = True
    warm_updates: Number = 0
    hidden: Width = 128
    gradient_clip: Rate = 1.0


def policy_weights(rewards: Sequence[float], quantile: float, baseline: float) -> np.ndarray:
    """The weight of each episode in the policy gradient.

    Args:
        rewards: of the batch.
        quantile: share of the batch that is used; below 1 its lowest reward is the baseline (risk-seeking).
        baseline: the moving average, used when the whole batch is.

    Returns:
        float32 ``[episodes]``: advantages over the spread of the batch, divided by the number of episodes used.
    """
    values = np.asarray(rewards, np.float64)
    spread = max(float(values.std()), 1e-3)
    if quantile >= 1:
        return ((values - baseline) / spread / len(values)).astype(np.float32)
    used = max(1, round(quantile * len(values)))
    threshold = np.sort(values)[::-1][used - 1]
    return (np.maximum(values - threshold, 0.0) / spread / used).astype(np.float32)


class BestQueue:
    """The best distinct designs of a search, as episodes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._best: dict[str, Played] = {}

    def add(self, design_hash: str, played: Played) -> None:
        """Keeps the episode if its design is new and among the best."""
        if not design_hash or played.outcome.failure or design_hash in self._best:
            return
        # A copy under another id: RLlib gathers the rows of a batch by episode id, and an episode may be in batch and queue.
        episode = copy.deepcopy(played.episode)
        episode.id_ = f"best-{design_hash}"
        self._best[design_hash] = replace(played, episode=episode)
        if len(self._best) > self.size:
            # The oldest of equals stays.
            worst = min(reversed(self._best), key=lambda key: self._best[key].outcome.reward)
            del self._best[worst]

    def episodes(self) -> list[SingleAgentEpisode]:
        """The episodes, best first."""
        ranked = sorted(self._best.values(), key=lambda played: -played.outcome.reward)
        return [played.episode for played in ranked]

    def __len__(self) -> int:
        return len(self._best)


class ReinforceConfig(AlgorithmConfig):
    """Configuration of ``Reinforce``: ``training`` also takes the fields of ``Settings`` in ``OWN``."""

    OWN = ("batch", "quantile", "baseline_decay", "entropy", "imitation", "queue", "imitation_updates", "novelty", "warm_updates")

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or Reinforce)
        for name in self.OWN:
            setattr(self, f"design_{name}", getattr(Settings(), name))
        self.batch_mode = "complete_episodes"

    def training(self, **settings: Any) -> Self:
        """Sets training settings, own ones and those of every RLlib algorithm."""
        own = {name: settings.pop(name) for name in self.OWN if name in settings}
        super().training(**settings)
        for name, value in own.items():
            # A prefix, so that no name can collide with one of RLlib's.
            setattr(self, f"design_{name}", value)
        return self

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The recurrent policy."""
        return RLModuleSpec(module_class=DesignModule)

    def get_default_learner_class(self) -> type:
        """The learner with the loss below."""
        return ReinforceLearner


class AddEpisodeWeights(ConnectorV2):
    """Learner connector: the weights in ``episode.custom_data``, one value per step."""

    def __call__(self, *, batch: dict[str, Any], episodes: list[Any], **kwargs: Any) -> dict[str, Any]:
        """Adds the two weight columns to ``batch``."""
        for episode in self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False):
            for column in (POLICY_WEIGHT, ENTROPY_WEIGHT):
                weights = np.full(len(episode), episode.custom_data.get(column, 0.0), np.float32)
                self.add_n_batch_items(batch, column, weights, len(episode), episode)
        return batch


class ReinforceLearner(TorchLearner):
    """−Σ weight·log π(a) − Σ weight·entropy, the weights per step made by ``Reinforce``."""

    _learner_connector: Any

    def build(self) -> None:
        """Builds the learner; called by RLlib."""
        super().build()
        self._learner_connector.prepend(AddEpisodeWeights())

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: dict[str, Any]) -> torch.Tensor:
        """The loss, a scalar tensor."""
        distribution = self.module[module_id].unwrapped().get_train_action_dist_cls().from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        # Steps that only pad a sequence have weight 0, but masked logits there: keep them from the products.
        valid = batch[Columns.LOSS_MASK].bool()
        log_likelihood = distribution.logp(batch[Columns.ACTIONS])[valid]
        entropy = distribution.entropy()[valid]
        policy_loss = -(batch[POLICY_WEIGHT][valid] * log_likelihood).sum()
        mean_entropy = (batch[ENTROPY_WEIGHT][valid] * entropy).sum()
        self.metrics.log_dict({"policy_loss": policy_loss, "entropy": mean_entropy}, key=module_id, window=1)
        loss: torch.Tensor = policy_loss - config.design_entropy * mean_entropy
        return loss


class Reinforce(DesignSearch):
    """REINFORCE with a queue of the best designs; see the module."""

    def setup(self, config: Any) -> None:
        """Builds the algorithm; called by RLlib."""
        super().setup(config)
        self.queue = BestQueue(self.config.design_queue)
        self.seen: set[tuple[int, ...]] = set()
        self._baseline: float | None = None
        self._entropy_scale = 1.0

    @property
    def recalled(self) -> int:
        """As many as the queue holds."""
        return self.queue.size

    def remember(self, design_hash: str, played: Played) -> None:
        """Puts it into the queue, if it is good enough."""
        self.queue.add(design_hash, played)

    def begin(self, history: Sequence[Trial], restored: bool, on_stage: Callable[[str], None]) -> None:
        """Knows the designs of earlier sessions; a fresh policy imitates what is in the queue, if it is set so."""
        self.seen |= {trial.actions for trial in history}
        if not restored and self.config.design_warm_updates and len(self.queue):
            on_stage("imitating the hand-made designs")
            self.imitate(self.config.design_warm_updates)

    def own(self) -> dict[str, float]:
        """Baseline and scale of the entropy bonus."""
        baseline = {} if self._baseline is None else {"baseline": self._baseline}
        return {"entropy_scale": self._entropy_scale, **baseline}

    def set_own(self, numbers: Mapping[str, float]) -> None:
        """Takes them up."""
        self._baseline = numbers.get("baseline")
        self._entropy_scale = numbers.get("entropy_scale", 1.0)

    @classmethod
    def get_default_config(cls) -> ReinforceConfig:
        """An empty configuration of this algorithm."""
        return ReinforceConfig()

    def training_step(self) -> None:
        """Samples one batch, updates the policy once, sends it to the runners."""
        played = self.collect(self.config.design_batch)
        if not played:
            return
        rewards = [one.outcome.reward for one in played]
        collapsed = self._is_collapsed(played)
        mean = float(np.mean(rewards))
        baseline = mean if self._baseline is None else self._baseline
        weights = policy_weights(rewards, self.config.design_quantile, baseline)
        self._baseline = self.config.design_baseline_decay * baseline + (1 - self.config.design_baseline_decay) * mean
        steps = sum(len(one.episode) for one in played)
        entropy = self._entropy_scale / steps
        batch = [_weighted(one.episode, weight / len(one.episode), entropy) for one, weight in zip(played, weights, strict=True)]
        if collapsed:
            self.update(batch)
        else:
            self.update(batch + self._imitated())
            for _ in range(self.config.design_imitation_updates):
                self.update(self._imitated())
        self.sync()

    def _is_collapsed(self, played: Sequence[Played]) -> bool:
        """Whether too few designs of the batch are new; adapts the entropy bonus."""
        fresh = {one.actions for one in played} - self.seen
        self.seen |= fresh
        collapsed = len(fresh) < self.config.design_novelty * len(played)
        self._entropy_scale = min(self._entropy_scale * 1.5, 100.0) if collapsed else max(self._entropy_scale / 1.2, 1.0)
        return collapsed

    def imitate(self, updates: int) -> None:
        """Fits the policy to the queue before anything is sampled."""
        for _ in range(updates):
            self.update(self._imitated())
        self.sync()

    def update(self, episodes: list[SingleAgentEpisode]) -> None:
        """One gradient step on ``episodes``."""
        if not episodes:
            return
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(episodes=episodes)
        self.metrics.aggregate(results, key=LEARNER_RESULTS)

    def _imitated(self) -> list[SingleAgentEpisode]:
        episodes = self.queue.episodes() if self.config.design_imitation > 0 else []
        return [_weighted(episode, self.config.design_imitation / len(episodes) / len(episode), 0.0) for episode in episodes]


def _weighted(episode: SingleAgentEpisode, policy: float, entropy: float) -> SingleAgentEpisode:
    # What the runner's network put out is not needed, and replayed episodes have none: columns must match.
    episode.extra_model_outputs.clear()
    episode.custom_data.update({POLICY_WEIGHT: float(policy), ENTROPY_WEIGHT: float(entropy)})
    return episode


def configuration(task: SearchTask, settings: Settings) -> ReinforceConfig:
    """How the agent is built for ``task``."""
    config = configure(ReinforceConfig(), task, settings.hidden)
    return config.training(
        **{name: getattr(settings, name) for name in ReinforceConfig.OWN},
        lr=settings.learning_rate,
        grad_clip=settings.gradient_clip,
        grad_clip_by="global_norm",
        gamma=1.0,
    )


search = rllib_search(AGENT, Settings, configuration)
