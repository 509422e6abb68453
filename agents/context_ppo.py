"""PPO on the scenario-independent problem: a policy for all scenarios, which a search goes on training for its own.

It sees and acts as in ``qumos/ContextFlat-v0``, so the weights that ``pretraining`` wrote fit every scenario within the padding. Without
them it is PPO from scratch in another encoding: what a pre-trained policy is held against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModule, RLModuleSpec

from qumos_env.env.context_env import flat_context_env
from qumos_env.scenario import Scenario

from . import checkpoint, ppo
from .modules import DesignModule
from .protocol import SearchTask, Trial
from .search_algorithm import configure, episode_length, rllib_search
from .settings import Width

AGENT = "context-ppo"
ENV = "qumos_env:qumos/ContextFlat-v0"


class Settings(ppo.Settings):
    """Settings of the agent: those of PPO, and

    Attributes:
        weights: path of what ``pretraining`` wrote; empty starts from scratch.
        hidden: width of the recurrent cell, which must be that of the weights.
    """

    weights: Annotated[str, Field(max_length=4096)] = ""
    hidden: Width = 256


class ContextPPOConfig(ppo.DesignPPOConfig):
    """PPO's configuration with the path of the weights to start from."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or ContextPPO)
        self.design_weights = ""


class ContextPPO(ppo.DesignPPO):
    """PPO that starts from pre-trained weights."""

    @classmethod
    def get_default_config(cls) -> ContextPPOConfig:
        """An empty configuration of this algorithm."""
        return ContextPPOConfig()

    def begin(self, history: Sequence[Trial], restored: bool, on_stage: Callable[[str], None]) -> None:
        """Takes up the weights, unless an earlier session has gone on from them."""
        if not restored and self.config.design_weights:
            on_stage("loading the policy")
            checkpoint.load(Path(self.config.design_weights), self.learner_group)
            self.sync()


def on_context(
    config: AlgorithmConfig,
    scenarios: Sequence[Scenario],
    task: SearchTask,
    hidden: int,
    randomise: bool | Mapping[str, Any] = False,
    module: type[RLModule] = DesignModule,
) -> None:
    """Has ``config`` play ``scenarios`` as in ``qumos/ContextFlat-v0``, with a network of the class ``module``."""
    config.environment(ENV)
    # ``environment`` would add to what is there: one scenario's.
    plain = [scenario.model_dump(mode="json") for scenario in scenarios]
    config.env_config = {"scenarios": plain, "randomise": randomise, "cache": task.cache, "seed_once": True}
    longest = max(map(episode_length, scenarios))
    if randomise:
        longest += 4  # variants have up to four parts
    config.rl_module(rl_module_spec=RLModuleSpec(module_class=module, model_config={"hidden": hidden, "max_seq_len": longest}))


def over(
    scenarios: Sequence[Scenario], task: SearchTask, settings: Settings, randomise: bool | Mapping[str, Any] = False
) -> ContextPPOConfig:
    """The agent on a distribution of scenarios.

    Args:
        scenarios: what is drawn from.
        task: seed, workers and cache.
        settings: the agent's.
        randomise: see ``ContextEnv``.
    """
    config = configure(ContextPPOConfig(), task, settings.hidden)
    on_context(config, scenarios, task, settings.hidden, randomise)
    config.design_weights = settings.weights
    ppo.configured(config, settings)
    return config


def configuration(task: SearchTask, settings: Settings) -> ContextPPOConfig:
    """How the agent is built for ``task``."""
    return over([task.scenario], task, settings)


class Policy:
    """A trained policy as a function from flat observations to padded actions, without Ray running; for ``context_env.play``.

    Args:
        path: what ``pretraining`` or a search wrote.
        hidden: width of its recurrent cell.
        seed: of its choices; ``None`` always takes the likeliest action.

    Raises:
        QumosError: the file cannot be read or is not of this network.
    """

    def __init__(self, path: str | Path, hidden: int = Settings().hidden, seed: int | None = None) -> None:
        env = flat_context_env()
        module = DesignModule(
            observation_space=env.observation_space, action_space=env.action_space, model_config={"hidden": hidden, "max_seq_len": 1}
        )
        self._module = module
        weights = checkpoint.load_weights(Path(path), {name: value.detach().numpy() for name, value in module.state_dict().items()})
        module.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        self._generator = None if seed is None else np.random.default_rng(seed)
        self.reset()

    def reset(self) -> None:
        """Forgets the episode."""
        self._state = {"h": self._module.get_initial_state()["h"].unsqueeze(0)}

    def __call__(self, observation: Mapping[str, np.ndarray]) -> int:
        """The next padded action."""
        seen = {name: torch.from_numpy(np.asarray(value))[None, None] for name, value in observation.items()}
        with torch.no_grad():
            output = self._module._forward({Columns.OBS: seen, Columns.STATE_IN: self._state})
        self._state = output[Columns.STATE_OUT]
        logits = output[Columns.ACTION_DIST_INPUTS][0, 0].double().numpy()
        if self._generator is None:
            return int(logits.argmax())
        likelihoods = np.exp(logits - logits.max())
        return int(self._generator.choice(len(logits), p=likelihoods / likelihoods.sum()))


search = rllib_search(AGENT, Settings, configuration)
