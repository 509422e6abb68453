"""What the agents share whose loss is a weighted likelihood of whole episodes: the loss, the best designs, and the watch for collapse."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import LEARNER_RESULTS, LEARNER_UPDATE_TIMER, TIMERS

from .modules import DesignModule
from .protocol import Trial
from .search_algorithm import DesignSearch, Played
from .settings import AgentSettings

POLICY_WEIGHT = "policy_weight"
ENTROPY_WEIGHT = "entropy_weight"


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

    def ranked(self) -> list[Played]:
        """What it holds, best first; of equals the oldest first."""
        return sorted(self._best.values(), key=lambda played: -played.outcome.reward)

    def episodes(self) -> list[SingleAgentEpisode]:
        """The episodes, best first."""
        return [played.episode for played in self.ranked()]

    def __len__(self) -> int:
        return len(self._best)


class WeightedConfig(AlgorithmConfig):
    """Configuration whose ``training`` also takes the fields of the agent's ``Settings`` that ``OWN`` names."""

    SETTINGS: ClassVar[type[AgentSettings]] = AgentSettings
    OWN: ClassVar[tuple[str, ...]] = ()

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        for name in self.OWN:
            setattr(self, f"design_{name}", getattr(self.SETTINGS(), name))
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
        return WeightedLearner


class AddEpisodeWeights(ConnectorV2):
    """Learner connector: the weights in ``episode.custom_data`` under the names ``columns``, one value per step."""

    columns: tuple[str, ...] = ()

    def __call__(self, *, batch: dict[str, Any], episodes: list[Any], **kwargs: Any) -> dict[str, Any]:
        """Adds the columns to ``batch``."""
        for episode in self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False):
            for column in self.columns:
                weights = np.full(len(episode), episode.custom_data.get(column, 0.0), np.float32)
                self.add_n_batch_items(batch, column, weights, len(episode), episode)
        return batch


class WeightedLearner(TorchLearner):
    """−Σ weight·log π(a) − Σ weight·entropy, the weights per step made by the algorithm."""

    COLUMNS: ClassVar[tuple[str, ...]] = (POLICY_WEIGHT, ENTROPY_WEIGHT)
    _learner_connector: Any

    def build(self) -> None:
        """Builds the learner; called by RLlib."""
        super().build()
        connector = AddEpisodeWeights()
        connector.columns = self.COLUMNS
        self._learner_connector.prepend(connector)

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


class WeightedSearch(DesignSearch):
    """Keeps the best designs and knows all that were met; its configuration is a ``WeightedConfig`` with ``queue`` and ``novelty``."""

    def setup(self, config: Any) -> None:
        """Builds the algorithm; called by RLlib."""
        super().setup(config)
        self.queue = BestQueue(self.config.design_queue)
        self.seen: set[tuple[int, ...]] = set()
        self.entropy_scale = 1.0

    @property
    def recalled(self) -> int:
        """As many as the queue holds."""
        return self.queue.size

    def remember(self, design_hash: str, played: Played) -> None:
        """Puts it into the queue, if it is good enough."""
        self.queue.add(design_hash, played)

    def begin(self, history: Sequence[Trial], restored: bool, on_stage: Callable[[str], None]) -> None:
        """Knows the designs of earlier sessions."""
        self.seen |= {trial.actions for trial in history}

    def own(self) -> dict[str, float]:
        """Scale of the entropy bonus."""
        return {"entropy_scale": self.entropy_scale}

    def set_own(self, numbers: Mapping[str, float]) -> None:
        """Takes it up."""
        self.entropy_scale = numbers.get("entropy_scale", 1.0)

    def is_collapsed(self, played: Sequence[Played]) -> bool:
        """Whether too few of the designs that the policy sampled are new; adapts the entropy bonus."""
        fresh = {one.actions for one in played} - self.seen
        self.seen |= fresh
        collapsed = len(fresh) < self.config.design_novelty * len(played)
        self.entropy_scale = min(self.entropy_scale * 1.5, 100.0) if collapsed else max(self.entropy_scale / 1.2, 1.0)
        return collapsed

    def update(self, episodes: list[SingleAgentEpisode]) -> None:
        """One gradient step on ``episodes``."""
        if not episodes:
            return
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(episodes=episodes)
        self.metrics.aggregate(results, key=LEARNER_RESULTS)


def weighted(episode: SingleAgentEpisode, **weights: float) -> SingleAgentEpisode:
    """``episode`` with the weights of its steps, by column."""
    # What the runner's network put out is not needed, and replayed episodes have none: columns must match.
    episode.extra_model_outputs.clear()
    episode.custom_data.update({column: float(weight) for column, weight in weights.items()})
    return episode
