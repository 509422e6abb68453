"""Masked PPO on the recurrent policy of ``modules``: RLlib's PPO with whole episodes, every one recorded."""

from __future__ import annotations

from ray.rllib.algorithms.ppo.ppo import PPO, PPOConfig
from ray.rllib.core import ALL_MODULES
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
    TIMERS,
)

from .protocol import SearchTask
from .search_algorithm import DesignSearch, configure, rllib_search
from .settings import AgentSettings, Count, Rate, Share, Weight, Width

AGENT = "ppo"


class Settings(AgentSettings):
    """Settings of the PPO agent.

    Attributes:
        batch: episodes per update.
        epochs: gradient steps per batch, each on the whole batch (RLlib cannot yet cut batches of sequences into minibatches).
        learning_rate: of Adam.
        clip: how far the ratio of new to old policy may move.
        entropy: weight of the entropy bonus.
        value: weight of the value loss.
        lambda_: of generalised advantage estimation; 1 because the only reward comes last.
        warm_start: evaluate the hand-made designs first; PPO learns nothing from them.
        hidden: width of the recurrent cell.
        gradient_clip: largest norm of a gradient.
    """

    batch: Count = 32
    epochs: Count = 6
    learning_rate: Rate = 2e-3
    clip: Rate = 0.2
    entropy: Weight = 0.01
    value: Weight = 0.5
    lambda_: Share = 1.0
    hidden: Width = 128
    gradient_clip: Rate = 0.5


class DesignPPOConfig(PPOConfig):
    """PPO's configuration with the number of whole episodes per batch."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or DesignPPO)
        self.num_episodes_per_batch = Settings().batch


class DesignPPO(DesignSearch, PPO):
    """PPO that samples through ``DesignSearch.collect``."""

    @classmethod
    def get_default_config(cls) -> DesignPPOConfig:
        """An empty configuration of this algorithm."""
        return DesignPPOConfig()

    def training_step(self) -> None:
        """Samples one batch of episodes, fits policy and values to it, sends the weights to the runners."""
        played = self.collect(self.config.num_episodes_per_batch)
        if not played:
            return
        steps = self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0)
        trained = self.metrics.peek((LEARNER_RESULTS, ALL_MODULES, NUM_MODULE_STEPS_TRAINED_LIFETIME), default=0)
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(
                episodes=[one.episode for one in played],
                timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: steps, NUM_MODULE_STEPS_TRAINED_LIFETIME: trained},
                num_epochs=self.config.num_epochs,
            )
        self.metrics.aggregate(results, key=LEARNER_RESULTS)
        self.sync()


def configuration(task: SearchTask, settings: Settings) -> DesignPPOConfig:
    """How the agent is built for ``task``."""
    return configured(configure(DesignPPOConfig(), task, settings.hidden), settings)


def configured(config: DesignPPOConfig, settings: Settings) -> DesignPPOConfig:
    """``config`` with the ``settings`` of training."""
    config.training(
        lr=settings.learning_rate,
        gamma=1.0,
        lambda_=settings.lambda_,
        clip_param=settings.clip,
        use_kl_loss=False,
        entropy_coeff=settings.entropy,
        vf_loss_coeff=settings.value,
        num_epochs=settings.epochs,
        minibatch_size=None,
        grad_clip=settings.gradient_clip,
        grad_clip_by="global_norm",
    )
    config.num_episodes_per_batch = settings.batch
    return config


search = rllib_search(AGENT, Settings, configuration)
