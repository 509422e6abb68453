"""Masked PPO on the recurrent policy of ``modules``: RLlib's PPO with whole episodes, every one recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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

from qumos_env import DesignEnv

from .protocol import Ledger, SearchSummary, SearchTask, Trial
from .search_algorithm import DesignSearch, configure, ray_session, restore, run_search, start, warm_start
from .settings import parse_settings


@dataclass(frozen=True)
class Settings:
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

    batch: int = 32
    epochs: int = 6
    learning_rate: float = 2e-3
    clip: float = 0.2
    entropy: float = 0.01
    value: float = 0.5
    lambda_: float = 1.0
    warm_start: bool = False
    hidden: int = 128
    gradient_clip: float = 0.5

    def __post_init__(self) -> None:
        if self.batch < 1 or self.epochs < 1 or self.hidden < 1:
            raise ValueError("batch, epochs and hidden are at least 1")


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


def build(task: SearchTask, settings: Settings) -> DesignPPO:
    """The algorithm for ``task``; Ray must be running."""
    config = configure(DesignPPOConfig(), task, settings.hidden)
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
    algorithm = start(config)
    assert isinstance(algorithm, DesignPPO)
    return algorithm


def search(
    task: SearchTask,
    *,
    on_trial: Callable[[Trial], None],
    should_stop: Callable[[], bool],
    on_stage: Callable[[str], None],
) -> SearchSummary:
    """Masked PPO; see ``protocol.Search``. The same seed gives the same trace for the same number of workers."""
    settings = parse_settings(Settings, task.settings, "ppo")
    ledger = Ledger(task, on_trial, should_stop)
    for trial in task.history:
        ledger.restore(trial)
    with ray_session(task.workers, on_stage):
        on_stage("starting the agent")
        algorithm = build(task, settings)
        try:
            restore(algorithm, task.checkpoint if task.history else None)
            if task.starts:
                on_stage("evaluating the hand-made designs")
                warm_start(task, ledger, DesignEnv(scenario=task.scenario, cache=task.cache))
            on_stage("searching")
            run_search(algorithm, task, ledger)
        finally:
            algorithm.stop()
    return ledger.summary()
