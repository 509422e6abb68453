"""The Gymnasium environment of the distributed-design problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from ..errors import QumosError, unknown
from ..evaluation.cache import Cache
from ..evaluation.evaluator import Evaluator, checked_seed
from ..evaluation.table_evaluator import evaluator_of
from ..hardware.profile import list_profiles
from ..scenario import Scenario, load_scenario, parse_scenario
from .actions import DesignState, action_table
from .episode import Episode, action_number, ladder_of, masked_space
from .observation import ObservationEncoder

_TRIES = 100  # drawings of devices until the problem can be solved on them


class DesignEnv(gym.Env[dict[str, np.ndarray], np.int64]):
    """
    ## Description
    An agent designs a quantum classifier that runs in parts on isolated providers: it cuts the qubit register into parts,
    assigns the parts to providers, and places gates. When it finishes, the model is really trained and really attacked; the
    reward blends its accuracy with its resistance to theft and membership inference.

    ## Action Space
    `Discrete(A)`, the numbered actions of the scenario (`print(env.unwrapped.table)` lists them). Phases only move forward:

    | phase   | actions                                                                                       |
    |---------|-----------------------------------------------------------------------------------------------|
    | cut     | `part(j)`: the next qubit goes to part j                                                      |
    | assign  | `assign(p)`: the next part goes to provider p                                                 |
    | gates   | gates such as `ry(q)`, `cz(a, b)`; blocks such as `ry-layer(part)`; `shots(level)`; `finish`  |
    | measure | with `fidelity="draws"` alone: `measure` adds draws to the finished design, `accept` ends     |

    A masked action is a no-op that costs a step; what is no number of an action raises `gymnasium.error.InvalidAction`.

    ## Observation Space
    `Dict(observations=Box(0, 1, (D,), float32), action_mask=Box(0, 1, (A,), int8))`; see `ObservationEncoder` for the D
    entries. The mask is also `info["action_mask"]` and `action_masks()`.

    ## Starting State
    No qubit assigned, no gate placed. Nothing is random, and the seed of the evaluation is a constant of the environment; except that
    with `reset(options={"providers": "random"})` the providers of the episode get device profiles drawn at random, seeded by
    `reset(seed=...)`; `{"providers": ["ibm-heron", ...]}` names them. What the providers are is part of the observation, and they
    stay until the next `reset`, which without the option restores those of the scenario.

    ## Rewards
    0 until the episode ends with `finish`; then the scenario's blend, whose named parts are in `info["rewards"]`. With
    `fidelity="draws"`, `finish` measures the design on the fewest draws that the scenario allows, `measure` on about twice as many
    (`Scenario.draw_levels`; only the new ones are trained), and `accept`, always valid then, ends the episode with the reward measured
    last. What was measured so far is in the observation and in `info`.

    ## Episode End
    Terminates at `finish` (at `accept`), at the step limit, and when the evaluation fails; the last two with reward 0 and the reason in
    `info["failure"]` (truncation would let a trainer bootstrap a value from a crash). Never truncates by itself.

    ## Information
    Always `action_mask`, `phase` and `devices` (profile of each provider, or `None`). At the end also `actions` (the effective
    ones), and `design`, `evaluation` (flat scalars) and `rewards` where there are any; these three after every measurement too.

    ## Arguments
    - `scenario`: name of a built-in scenario, path of a TOML file, or its content as a dictionary.
    - `render_mode`: `"ansi"` (text) or `"rgb_array"` (a drawing coloured by provider).
    - `evaluation_seed`: seed of draws, initial angles and thieves; default the scenario's.
    - `cache`: path of an SQLite file that keeps evaluations for other runs and processes, or a `Cache`.
    - `fidelity`: `"full"` measures a finished design on all draws, `"draws"` on few and then on more, as the agent asks.

    ## Version History
    - v0: first release.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012 (declared by gym.Env)

    def __init__(
        self,
        scenario: str | Path | Mapping[str, Any] | Scenario = "digits-theft",
        render_mode: str | None = None,
        evaluation_seed: int | None = None,
        cache: str | Cache | None = None,
        fidelity: str = "full",
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise unknown("render_mode", render_mode, self.metadata["render_modes"])
        if isinstance(scenario, Mapping):
            scenario = parse_scenario(dict(scenario))
        elif not isinstance(scenario, Scenario):
            scenario = load_scenario(scenario)
        self.scenario = scenario
        self.render_mode = render_mode
        self.evaluation_seed = None if evaluation_seed is None else checked_seed(evaluation_seed)
        self._ladder = ladder_of(scenario, fidelity)
        self.table = action_table(scenario, len(self._ladder))
        self.evaluator = evaluator_of(scenario, cache)
        self._encoder = ObservationEncoder(scenario, measured=bool(self._ladder))
        self._episode = Episode(self.evaluator, self.evaluation_seed, self._ladder)
        self.action_space = gym.spaces.Discrete(len(self.table))
        self.observation_space = masked_space(self._encoder.size(len(self.table)), len(self.table))

    @property
    def state(self) -> DesignState:
        """The design in the making."""
        return self._episode.state

    def action_masks(self) -> np.ndarray:
        """bool ``[actions]``, as MaskablePPO of sb3-contrib asks for it."""
        return self.state.mask().astype(bool)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an empty design; see the class."""
        super().reset(seed=seed)
        self._episode = Episode(self._with_providers(options or {}), self.evaluation_seed, self._ladder)
        return self._observe(), self._info()

    def _with_providers(self, options: Mapping[str, Any]) -> Evaluator:
        for name in options:
            if name != "providers":
                raise unknown("option of reset", name, ["providers"])
        wanted = options.get("providers")
        if wanted is None:
            return self.evaluator
        if not isinstance(wanted, str) or wanted != "random":
            if isinstance(wanted, str) or not isinstance(wanted, Sequence):
                raise QumosError(f"option providers: 'random' or a list of device profiles is needed, got {wanted!r}")
            return self.evaluator.serving(self.scenario.on_devices([str(name) for name in wanted]))
        names = list_profiles()
        for _ in range(_TRIES):
            drawn = [names[index] for index in self.np_random.integers(len(names), size=len(self.scenario.providers))]
            try:
                return self.evaluator.serving(self.scenario.on_devices(drawn))
            except QumosError as error:
                problem = error
        raise QumosError(f"option providers: no solvable choice of devices in {_TRIES} tries; the last: {problem}")

    def step(self, action: np.int64 | int) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Takes one action; see the class."""
        reward, terminated, info = self._episode.take(action_number(action, len(self.table)))
        return self._observe(), reward, terminated, False, self._info() | info

    def render(self) -> str | np.ndarray | None:  # type: ignore[override]
        """The design so far, as the render mode asks."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode; choose ansi or rgb_array when making the environment")
            return None
        from .rendering import state_image, state_text  # matplotlib is slow to import and rarely needed

        return state_text(self.state) if self.render_mode == "ansi" else state_image(self.state)

    def _observe(self) -> dict[str, np.ndarray]:
        seen = self._encoder.encode(self.state, self._episode.evaluation)
        return {"observations": seen, "action_mask": self.state.mask().copy()}

    def _info(self) -> dict[str, Any]:
        devices = [provider.device for provider in self.state.scenario.providers]
        return {"action_mask": self.state.mask().copy(), "phase": self.state.phase, "devices": devices}
