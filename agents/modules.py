"""The policy network of the RLlib agents: one masked GRU cell over the observations of an episode."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.utils import make_target_network, update_target_network
from ray.rllib.core.rl_module.apis.inference_only_api import InferenceOnlyAPI
from ray.rllib.core.rl_module.apis.target_network_api import TARGET_NETWORK_ACTION_DIST_INPUTS, TargetNetworkAPI
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor, nn

MASKED = -1e9
"""Logit of a masked action. Finite: minus infinity gives NaN in entropies, 0·(−inf)."""


def masked(values: Tensor, batch: dict[str, Any], column: str = Columns.OBS) -> Tensor:
    """``values`` of actions, ``MASKED`` where the mask of the observations in ``column`` forbids them."""
    return torch.where(batch[column]["action_mask"].bool(), values, torch.full_like(values, MASKED))


class DesignModule(TorchRLModule, ValueFunctionAPI):
    """Observation -> linear -> GRU -> logits of the valid actions, and a value.

    The observation holds the last action, so the recurrent state can remember the whole sequence. ``model_config`` holds
    ``hidden`` (width) and ``max_seq_len`` (at least the length of an episode, so that sequences are never cut).
    """

    # RLlib declares these as optional; they are set when ``setup`` is called.
    model_config: Any
    observation_space: Any
    action_space: Any

    def setup(self) -> None:
        """Builds the layers; called by RLlib."""
        hidden = self.model_config["hidden"]
        size = self.observation_space["observations"].shape[0]
        self._encoder = nn.Sequential(nn.Linear(size, hidden), nn.Tanh())
        self._cell = nn.GRU(hidden, hidden, batch_first=True)
        self._policy = nn.Linear(hidden, int(self.action_space.n))
        self._values = nn.Linear(hidden, 1)
        # Small outputs: the first policy is close to uniform over the valid actions.
        nn.init.normal_(self._policy.weight, std=0.01)
        nn.init.zeros_(self._policy.bias)

    def get_initial_state(self) -> dict[str, Tensor]:
        """The state before the first action, float32 ``[hidden]``."""
        return {"h": torch.zeros(self.model_config["hidden"])}

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """``batch[OBS]`` of ``[batch, time, ...]`` to logits ``[batch, time, actions]``."""
        embeddings, state = self._embed(batch)
        return {
            Columns.ACTION_DIST_INPUTS: masked(self._policy(embeddings), batch),
            Columns.STATE_OUT: {"h": state},
            Columns.EMBEDDINGS: embeddings,
        }

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        with torch.no_grad():
            output = self._forward(batch)
        # Kept out of the episodes: nobody reads it there.
        del output[Columns.EMBEDDINGS]
        return output

    _forward_inference = _forward_exploration

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        """State values, ``[batch, time]``."""
        if embeddings is None:
            embeddings, _ = self._embed(batch)
        values: Tensor = self._values(embeddings).squeeze(-1)
        return values

    def _embed(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        inputs = self._encoder(batch[Columns.OBS]["observations"].float())
        embeddings, state = self._cell(inputs, batch[Columns.STATE_IN]["h"].unsqueeze(0).contiguous())
        return embeddings, state.squeeze(0)


class AnchoredModule(DesignModule, TargetNetworkAPI, InferenceOnlyAPI):
    """The policy with a copy of itself that is not trained: what it was at some time. Env runners have no copy."""

    _ANCHORED = ("_encoder", "_cell", "_policy")

    def make_target_networks(self) -> None:
        """Makes the copy; called by the learner, after the optimizer has been given the policy alone."""
        for name in self._ANCHORED:
            setattr(self, f"_old{name}", make_target_network(getattr(self, name)))

    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        """Every network with its copy."""
        return [(getattr(self, name), getattr(self, f"_old{name}")) for name in self._ANCHORED]

    def get_non_inference_attributes(self) -> list[str]:
        """What env runners do without."""
        return [f"_old{name}" for name in self._ANCHORED]

    def hold(self) -> None:
        """Makes the copy what the policy is now."""
        for network, copy in self.get_target_network_pairs():
            update_target_network(main_net=network, target_net=copy, tau=1.0)

    def forward_target(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The logits of the copy, ``[batch, time, actions]``."""
        with torch.no_grad():
            inputs = self._old_encoder(batch[Columns.OBS]["observations"].float())
            embeddings, _ = self._old_cell(inputs, batch[Columns.STATE_IN]["h"].unsqueeze(0).contiguous())
            return {TARGET_NETWORK_ACTION_DIST_INPUTS: masked(self._old_policy(embeddings), batch)}
