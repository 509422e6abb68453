"""REINFORCE as QuMoS uses it, aimed at the best design instead of the best mean.

A recurrent controller samples whole designs. Three terms make the loss: the policy gradient with a moving-average baseline
(Williams, *Simple statistical gradient-following algorithms*, 1992), restricted to the best part of each batch (risk-seeking
policy gradient, Petersen et al., *Deep symbolic regression*, 2021), an entropy bonus, and imitation of the best designs seen
(priority queue training, Abolafia et al., 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from .protocol import SearchTask, Trial
from .search_algorithm import configure, rllib_search
from .settings import AgentSettings, Count, Number, Rate, Share, Weight, Width
from .weighted import ENTROPY_WEIGHT, POLICY_WEIGHT, WeightedConfig, WeightedSearch, weighted

AGENT = "reinforce"


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


class ReinforceConfig(WeightedConfig):
    """Configuration of ``Reinforce``."""

    SETTINGS = Settings
    OWN = ("batch", "quantile", "baseline_decay", "entropy", "imitation", "queue", "imitation_updates", "novelty", "warm_updates")

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or Reinforce)


class Reinforce(WeightedSearch):
    """REINFORCE with a queue of the best designs; see the module."""

    _baseline: float | None = None

    def begin(self, history: Sequence[Trial], restored: bool, on_stage: Callable[[str], None]) -> None:
        """Knows the designs of earlier sessions; a fresh policy imitates what is in the queue, if it is set so."""
        super().begin(history, restored, on_stage)
        if not restored and self.config.design_warm_updates and len(self.queue):
            on_stage("imitating the hand-made designs")
            self.imitate(self.config.design_warm_updates)

    def own(self) -> dict[str, float]:
        """Baseline and scale of the entropy bonus."""
        return super().own() | ({} if self._baseline is None else {"baseline": self._baseline})

    def set_own(self, numbers: Mapping[str, float]) -> None:
        """Takes them up."""
        super().set_own(numbers)
        self._baseline = numbers.get("baseline")

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
        collapsed = self.is_collapsed(played)
        mean = float(np.mean(rewards))
        baseline = mean if self._baseline is None else self._baseline
        weights = policy_weights(rewards, self.config.design_quantile, baseline)
        self._baseline = self.config.design_baseline_decay * baseline + (1 - self.config.design_baseline_decay) * mean
        steps = sum(len(one.episode) for one in played)
        entropy = self.entropy_scale / steps
        batch = [_weighted(one.episode, weight / len(one.episode), entropy) for one, weight in zip(played, weights, strict=True)]
        if collapsed:
            self.update(batch)
        else:
            self.update(batch + self._imitated())
            for _ in range(self.config.design_imitation_updates):
                self.update(self._imitated())
        self.sync()

    def imitate(self, updates: int) -> None:
        """Fits the policy to the queue before anything is sampled."""
        for _ in range(updates):
            self.update(self._imitated())
        self.sync()

    def _imitated(self) -> list[SingleAgentEpisode]:
        episodes = self.queue.episodes() if self.config.design_imitation > 0 else []
        return [_weighted(episode, self.config.design_imitation / len(episodes) / len(episode), 0.0) for episode in episodes]


def _weighted(episode: SingleAgentEpisode, policy: float, entropy: float) -> SingleAgentEpisode:
    return weighted(episode, **{POLICY_WEIGHT: policy, ENTROPY_WEIGHT: entropy})


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
