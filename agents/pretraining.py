"""Training one policy over many scenarios, to start searches on others from."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qumos_env.errors import QumosError
from qumos_env.scenario import Scenario

from . import checkpoint
from .context_ppo import ContextPPO, Settings, over
from .protocol import SearchTask
from .ray_session import impatient, ray_session
from .search_algorithm import CHECKPOINT_SECONDS, Played, start


@dataclass(frozen=True)
class Pretraining:
    """What to train on.

    Attributes:
        scenarios: what is drawn from.
        episodes: how many are played.
        path: where the weights go, NPZ; what is there is gone on from.
        randomise: see ``ContextEnv``.
        seed: of the agent's own randomness.
        workers: processes that evaluate at the same time; 0 evaluates in this process.
        cache: path of the evaluation cache, or ``None``.
        settings: of the agent.
    """

    scenarios: Sequence[Scenario]
    episodes: int
    path: Path
    randomise: bool | Mapping[str, Any] = False
    seed: int = 0
    workers: int = 1
    cache: str | None = None
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        if not self.scenarios:
            raise QumosError("pre-training needs at least one scenario")
        if self.episodes < 1:
            raise QumosError(f"episodes is {self.episodes}; at least one is needed")


@dataclass(frozen=True)
class Batch:
    """One update.

    Attributes:
        episodes: played so far.
        rewards: scenario (or variant) -> mean reward of its episodes of this batch.
    """

    episodes: int
    rewards: dict[str, float]


def pretrain(
    task: Pretraining,
    *,
    on_batch: Callable[[Batch], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    on_stage: Callable[[str], None] = lambda _: None,
) -> int:
    """Trains a policy and writes its weights on the way and at the end; returns how many episodes were played.

    Args:
        task: what to train on.
        on_batch: called after every update.
        should_stop: asked between updates.
        on_stage: called with a few words whenever something slow begins.

    Raises:
        QumosError: a scenario is larger than the padding, an env runner could not be made, the file cannot be written or is of
            another network.
    """
    settings = task.settings
    if task.path.exists():
        settings = settings.model_copy(update={"weights": str(task.path)})
    # Budget and limits are those of searches; what is taken from here is seed, workers and cache.
    search = SearchTask(task.scenarios[0], budget=task.episodes, seed=task.seed, workers=task.workers, cache=task.cache)
    played: list[Played] = []
    count = 0
    with ray_session(task.workers, on_stage):
        on_stage("starting the agent")
        with impatient():
            algorithm = start(over(task.scenarios, search, settings, task.randomise))
        assert isinstance(algorithm, ContextPPO)
        try:
            algorithm.begin((), False, on_stage)
            algorithm.sink = played.extend
            algorithm.may_play = lambda wanted: min(wanted, max(0, task.episodes - count - len(played)))
            on_stage("training")
            saved = time.monotonic()
            while count < task.episodes and not should_stop():
                algorithm.train()
                count += len(played)
                on_batch(Batch(count, _means(played)))
                played.clear()
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    checkpoint.save(task.path, algorithm.learner_group, {})
                    saved = time.monotonic()
            checkpoint.save(task.path, algorithm.learner_group, {})
        finally:
            on_stage("stopping the agent")
            algorithm.stop()
    return count


def _means(played: Sequence[Played]) -> dict[str, float]:
    rewards: dict[str, list[float]] = defaultdict(list)
    for one in played:
        rewards[str(one.outcome.evaluation.get("scenario", "failed"))].append(one.outcome.reward)
    return {name: sum(values) / len(values) for name, values in sorted(rewards.items())}
