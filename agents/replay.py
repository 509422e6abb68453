"""Experience replay of the best designs, helped by a genetic algorithm and held to a prior: for budgets of a few hundred designs.

Every batch is what a recurrent policy samples, and children of the best designs so far (mutations and crossover, parents drawn by rank),
which the env runners play as scripts. Both go into a buffer of the best distinct designs, and the policy learns from that alone: several
updates per batch, each on a sample drawn with a probability proportional to 1/(k·N + rank) (Tripp et al., *Sample-efficient optimization
in the latent space of deep generative models via weighted retraining*, 2020). Replay as in *Augmented Memory* (Guo and Schwaller, 2024),
genetic experts as in *Genetic-guided GFlowNets* (Kim et al., 2024). The loss is the likelihood of the sample, an entropy bonus, and the
Kullback-Leibler divergence of the policy from a prior, with a weight that decays.

The prior is a policy that ``pretraining`` wrote (``prior``), on whose padded observation the agent then works, or, without one, the
policy fitted before the search to textbook and balanced random designs, none of which is evaluated for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.target_network_api import TARGET_NETWORK_ACTION_DIST_INPUTS
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from qumos_env.env.context_env import flat_context_env
from qumos_env.scenario import Scenario

from . import checkpoint
from .baselines import textbook_actions
from .context_ppo import on_context
from .modules import AnchoredModule
from .mutations import crossed, mutated
from .protocol import Outcome, SearchTask, Trial
from .search_algorithm import Environment, Script, configure, retold, rllib_search
from .sequences import balanced_actions, genome_of, play
from .settings import AgentSettings, Count, Number, Rate, Share, Weight, Width
from .weighted import ENTROPY_WEIGHT, POLICY_WEIGHT, WeightedConfig, WeightedLearner, WeightedSearch, weighted

AGENT = "replay"
PRIOR_WEIGHT = "prior_weight"
ATTEMPTS = 20


class Settings(AgentSettings):
    """Settings of the replay agent.

    Attributes:
        batch: episodes of the policy per batch.
        children: children of the best designs per batch.
        mutations: mean number of mutations of a child; at least one is made.
        share_gates: share of mutations that edit gates; the others edit cut, assignment and shots.
        crossover: chance that a child has two parents.
        queue: best distinct designs that are kept.
        flatness: k of the rank weights; smaller looks at the best alone.
        updates: updates after every batch.
        sample: designs drawn for each of them.
        learning_rate: of Adam.
        entropy: weight of the entropy bonus, in nats per step.
        novelty: share of new designs among those of the policy below which it counts as collapsed: the likelihood then pauses and the
            entropy bonus grows until there are new designs again.
        prior: path of what ``pretraining`` wrote; empty fits a prior of its own.
        prior_weight: weight of the divergence from the prior, in nats per step.
        prior_decay: factor of that weight after every batch.
        prior_designs: designs that the own prior is fitted to.
        prior_updates: updates that fit it.
        warm_start: evaluate the hand-made designs first; they enter the buffer.
        hidden: width of the recurrent cell, which must be that of the prior.
        gradient_clip: largest norm of a gradient.
    """

    batch: Count = 8
    children: Number = 8
    mutations: Annotated[float, Field(ge=1, le=10_000)] = 1.5
    share_gates: Share = 0.75
    crossover: Share = 0.1
    queue: Count = 100
    flatness: Annotated[float, Field(gt=0, le=1e6)] = 0.01
    updates: Count = 6
    sample: Count = 32
    learning_rate: Rate = 3e-3
    entropy: Weight = 0.01
    novelty: Share = 0.5
    prior: Annotated[str, Field(max_length=4096)] = ""
    prior_weight: Weight = 0.1
    prior_decay: Share = 0.95
    prior_designs: Count = 64
    prior_updates: Number = 40
    warm_start: bool = True
    hidden: Width = 128
    gradient_clip: Rate = 1.0


def rank_probabilities(count: int, flatness: float) -> np.ndarray:
    """The chance of every design, best first, to be drawn: proportional to 1/(k·N + rank), rank from 0; float64 ``[count]``."""
    weights = 1 / (flatness * count + np.arange(count))
    return weights / weights.sum()


class ReplayConfig(WeightedConfig):
    """Configuration of ``Replay``; ``design_scenario`` is whose designs breed, without one nothing does."""

    SETTINGS = Settings
    OWN = (
        "batch",
        "children",
        "mutations",
        "share_gates",
        "crossover",
        "queue",
        "flatness",
        "updates",
        "sample",
        "entropy",
        "novelty",
        "prior",
        "prior_weight",
        "prior_decay",
        "prior_designs",
        "prior_updates",
    )

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or Replay)
        self.design_scenario: Scenario | None = None

    def get_default_learner_class(self) -> type:
        """The learner with the loss below."""
        return ReplayLearner


class ReplayLearner(WeightedLearner):
    """The weighted likelihood and entropy, plus Σ weight·KL(policy ‖ prior) over the steps of a batch."""

    COLUMNS = (POLICY_WEIGHT, ENTROPY_WEIGHT, PRIOR_WEIGHT)

    def build(self) -> None:
        """Builds the learner; called by RLlib."""
        super().build()
        module: Any = self.module[DEFAULT_MODULE_ID].unwrapped()
        module.make_target_networks()

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: dict[str, Any]) -> torch.Tensor:
        """The loss, a scalar tensor."""
        loss = super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
        valid = batch[Columns.LOSS_MASK].bool()
        weights = batch[PRIOR_WEIGHT][valid]
        if not weights.any():
            return loss
        module: Any = self.module[module_id].unwrapped()
        prior = module.forward_target(batch)[TARGET_NETWORK_ACTION_DIST_INPUTS][valid]
        divergence = (weights * divergences(fwd_out[Columns.ACTION_DIST_INPUTS][valid], prior)).sum()
        self.metrics.log_value((module_id, "prior_divergence"), divergence / weights.sum(), window=1)
        return loss + divergence


def divergences(logits: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
    """KL(policy ‖ prior) of every row of two sets of logits ``[..., actions]`` with the same masks, in nats ``[...]``."""
    # Not torch's, which is infinite where a likelihood of the prior rounds to 0.
    policy, held = logits.log_softmax(-1), prior.log_softmax(-1)
    return (policy.exp() * (policy - held)).sum(-1)


class Replay(WeightedSearch):
    """Rank-weighted replay with genetic children and a prior; see the module."""

    def setup(self, config: Any) -> None:
        """Builds the algorithm; called by RLlib."""
        super().setup(config)
        self._rng = np.random.default_rng(self.config.seed)
        self._prior_scale = 1.0

    @classmethod
    def get_default_config(cls) -> ReplayConfig:
        """An empty configuration of this algorithm."""
        return ReplayConfig()

    def environment(self, task: SearchTask) -> Environment:
        """That of the observation that the policy works on."""
        return flat_context_env(scenarios=[task.scenario], cache=task.cache) if self.config.design_prior else super().environment(task)

    def begin(self, history: Sequence[Trial], restored: bool, on_stage: Callable[[str], None]) -> None:
        """Takes up or fits the prior, unless an earlier session has gone on from one: the checkpoint holds it."""
        super().begin(history, restored, on_stage)
        if restored:
            return
        if self.config.design_prior:
            on_stage("loading the prior")
            checkpoint.load_network(Path(self.config.design_prior), self.learner_group)
        elif self.config.design_scenario is not None and self.config.design_prior_updates:
            on_stage("fitting the prior")
            self.fit()
        self.learner_group.foreach_learner(_hold)
        self.sync()

    def own(self) -> dict[str, float]:
        """Scales of the entropy bonus and of the weight of the prior."""
        return {**super().own(), "prior_scale": self._prior_scale}

    def set_own(self, numbers: Mapping[str, float]) -> None:
        """Takes them up."""
        super().set_own(numbers)
        self._prior_scale = numbers.get("prior_scale", 1.0)

    def training_step(self) -> None:
        """Plays one batch, updates the policy several times from the buffer, sends it to the runners."""
        scripts = self.children(self.config.design_children)
        played = self.collect(self.config.design_batch, scripts)
        if not played:
            return
        bred = set(scripts)
        sampled = [one for one in played if one.actions not in bred]
        collapsed = bool(sampled) and self.is_collapsed(sampled)
        self.seen |= bred
        for _ in range(self.config.design_updates):
            self.update(self.drawn(0.0 if collapsed else 1.0))
        self._prior_scale *= self.config.design_prior_decay
        self.sync()

    def children(self, count: int) -> list[Script]:
        """At most that many distinct designs that are new, children of parents drawn from the buffer by rank."""
        ranked, scenario = self.queue.ranked(), self.config.design_scenario
        if not ranked or scenario is None:
            return []
        chances = rank_probabilities(len(ranked), self.config.design_flatness)
        found: dict[Script, None] = {}
        for _ in range(ATTEMPTS * count):
            if len(found) == count:
                break
            first, second = (genome_of(scenario, ranked[int(index)].actions) for index in self._rng.choice(len(ranked), 2, p=chances))
            genome = crossed(first, second, self._rng) if self._rng.random() < self.config.design_crossover else first
            genome = mutated(genome, scenario, self.config.design_mutations, self.config.design_share_gates, self._rng)
            child = tuple(play(scenario, genome, self._rng))
            if child not in self.seen:
                found[child] = None
        return list(found)

    def drawn(self, policy: float) -> list[SingleAgentEpisode]:
        """A sample of the buffer by rank, whose likelihood counts ``policy``."""
        ranked = self.queue.ranked()
        if not ranked:
            return []
        chances = rank_probabilities(len(ranked), self.config.design_flatness)
        counts = self._rng.multinomial(self.config.design_sample, chances)
        return self._weighted(
            [(one.episode, policy * count / self.config.design_sample) for one, count in zip(ranked, counts, strict=True) if count],
            self.config.design_prior_weight * self._prior_scale,
        )

    def fit(self) -> None:
        """Fits the policy to designs as an engineer, and as chance, would make them; nothing is evaluated."""
        scenario = self.config.design_scenario
        # Another generator than that of the search, which must not depend on whether there was a prior to fit.
        rng = np.random.default_rng([self.config.seed, 1])
        env = super().environment(SearchTask(scenario, budget=1))
        makers = (textbook_actions, balanced_actions)
        designs = [retold(env, makers[number % 2](scenario, rng), Outcome(0.0)) for number in range(self.config.design_prior_designs)]
        for _ in range(self.config.design_prior_updates):
            chosen = rng.choice(len(designs), min(self.config.design_sample, len(designs)), replace=False)
            self.update(self._weighted([(designs[int(index)].episode, 1 / len(chosen)) for index in chosen], 0.0))

    def _weighted(self, episodes: Sequence[tuple[SingleAgentEpisode, float]], prior: float) -> list[SingleAgentEpisode]:
        """The episodes with these weights of their likelihood, per step; entropy and divergence are means over all steps."""
        steps = sum(len(episode) for episode, _ in episodes)
        held = prior / steps
        return [
            weighted(episode, **{POLICY_WEIGHT: weight / len(episode), ENTROPY_WEIGHT: self.entropy_scale / steps, PRIOR_WEIGHT: held})
            for episode, weight in episodes
        ]


def _hold(learner: Any) -> None:
    """Makes what the policy is now its prior."""
    learner.module[DEFAULT_MODULE_ID].unwrapped().hold()


def configuration(task: SearchTask, settings: Settings) -> ReplayConfig:
    """How the agent is built for ``task``."""
    config = configure(ReplayConfig(), task, settings.hidden, AnchoredModule)
    if settings.prior:
        on_context(config, [task.scenario], task, settings.hidden, module=AnchoredModule)
    config.design_scenario = task.scenario
    return config.training(
        **{name: getattr(settings, name) for name in ReplayConfig.OWN},
        lr=settings.learning_rate,
        grad_clip=settings.gradient_clip,
        grad_clip_by="global_norm",
        gamma=1.0,
    )


search = rllib_search(AGENT, Settings, configuration)
