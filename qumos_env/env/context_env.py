"""The environment over many scenarios: one action space and one observation for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from ..errors import QumosError, shown, unknown
from ..evaluation.evaluator import Evaluator, checked_seed
from ..registration import list_scenarios
from ..scenario import Scenario, load_scenario, parse_scenario
from .actions import DesignState, action_table
from .context import ContextEncoder
from .descriptors import scenario_descriptors
from .episode import FIDELITIES, Episode, action_number, ladder_of, masked_space
from .padding import Padding, padded_table
from .recent import Recent
from .variants import Variation

Source = str | Path | Mapping[str, Any] | Scenario
_OPTIONS = ("scenario", "variant")


@dataclass(frozen=True, eq=False)
class _Problem:
    """A scenario that is played: what of it does not change from episode to episode."""

    base: str
    variant: int | None
    evaluator: Evaluator
    numbers: np.ndarray  # padded number of every own action
    own: np.ndarray  # own number of every padded action, or -1
    context: dict[str, np.ndarray]


class ContextEnv(gym.Env[dict[str, np.ndarray], np.int64]):
    """
    ## Description
    The distributed-design problem of ``DesignEnv`` over a distribution of scenarios: every episode is one of them, drawn on `reset`. All
    are padded to one maximal problem, and what the scenario is stands in the observation, so that one policy can be trained over many and
    design for others that it has never met.

    ## Action Space
    `Discrete(A)`, the numbered actions of the maximal problem (`print(env.unwrapped.table)` lists them): parts, providers, all single
    gates, all blocks, levels of shots, `finish`. Those of a scenario are a part of them, one to one; the others are always masked. A
    masked action is a no-op that costs a step; what is no number of an action raises `gymnasium.error.InvalidAction`.

    ## Observation Space
    `Dict` of named boxes, float32 in [0, 1], and `action_mask`, int8: the design so far (`phase`, `partition`, `assignment`, `progress`,
    `counts`, `last_action`, `measured`) and the context (`sizes`, `ladder`, `gates`, `encoding`, `threat`, `weights`, `providers`, `data`,
    `qubits`, `pairs`, `triples`, `correlations`); docs/environments.md lists them entry by entry. What is padded is 0. Descriptors of the
    data never read the test split. ``FlatContext`` gives the format of ``DesignEnv``.

    ## Starting State
    A scenario is drawn with the generator that `reset(seed=...)` seeds, every one as likely, and with `randomise` a variant of it. Then
    nothing is random. `reset(options={"scenario": ...})` plays that scenario as it is: a name, a path, a dictionary or a `Scenario`,
    whether or not it is among those of the distribution; `{"scenario": ..., "variant": 7}` its variant 7.

    ## Rewards
    0 until the episode ends with `finish`; then the blend of the scenario, whose named parts are in `info["rewards"]`. With
    `fidelity="draws"` finished designs are measured on more and more draws until they are accepted, as in ``DesignEnv``.

    ## Episode End
    As in ``DesignEnv``: at `finish` (at `accept`), at the step limit of the scenario, and when the evaluation fails.

    ## Information
    Always `action_mask`, `phase`, `devices`, `scenario` (its name) and `variant` (its number, or `None`). At the end also `actions` (the
    effective ones by the scenario's own numbers, as its traces hold them), `context_actions` (the same, padded), and `design`,
    `evaluation` and `rewards` where there are any.

    ## Arguments
    - `scenarios`: what is drawn from; default all built-in ones that are offered for comparison and fit the padding.
    - `randomise`: `True`, or a dictionary with `axes` (what varies, see ``variants``) and `seeds` (`[start, stop]` of the numbers of the
      variants that are drawn): play variants instead of the scenarios themselves.
    - `padding`: sizes of the maximal problem that differ from the default: `qubits` 12, `parts` 4, `providers` 4, `shots` 4.
    - `render_mode`, `evaluation_seed`, `cache`, `fidelity`: as in ``DesignEnv``.
    - `keep`: scenarios whose rows, draws and evaluations are kept in memory, those that were played last.

    ## Version History
    - v0: first release.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012 (declared by gym.Env)

    def __init__(
        self,
        scenarios: Sequence[Source] | None = None,
        randomise: bool | Mapping[str, Any] = False,
        padding: Padding | dict[str, int] | None = None,
        render_mode: str | None = None,
        evaluation_seed: int | None = None,
        cache: str | None = None,
        fidelity: str = "full",
        keep: int = 16,
    ) -> None:
        if fidelity not in FIDELITIES:
            raise unknown("fidelity", fidelity, FIDELITIES)
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise unknown("render_mode", render_mode, self.metadata["render_modes"])
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise QumosError(f"keep is {keep!r}, a whole number from 1 is needed")
        self.padding = Padding.of(padding)
        self.scenarios = _chosen(scenarios, self.padding)
        self.variation = Variation.of(randomise)
        self.render_mode = render_mode
        self.evaluation_seed = None if evaluation_seed is None else checked_seed(evaluation_seed)
        self.fidelity = fidelity
        self.table = padded_table(self.padding, measured=fidelity == "draws")
        self.encoder = ContextEncoder(self.table)
        self._cache = cache
        self._problems: Recent[_Problem] = Recent(keep)
        self._problem: _Problem | None = None
        self._episode: Episode | None = None
        self.action_space = gym.spaces.Discrete(len(self.table))
        boxes: dict[str, gym.Space[Any]] = {"action_mask": gym.spaces.Box(0, 1, (len(self.table),), np.int8)}
        boxes |= {name: gym.spaces.Box(0.0, 1.0, shape, np.float32) for name, shape in self.encoder.shapes.items()}
        self.observation_space = gym.spaces.Dict(boxes)

    @property
    def scenario(self) -> Scenario:
        """The scenario of this episode."""
        return self.evaluator.scenario

    @property
    def evaluator(self) -> Evaluator:
        """What evaluates the designs of this episode."""
        return self._playing[0].evaluator

    @property
    def state(self) -> DesignState:
        """The design in the making."""
        return self._playing[1].state

    @property
    def _playing(self) -> tuple[_Problem, Episode]:
        if self._problem is None or self._episode is None:
            raise gym.error.ResetNeeded("no scenario has been drawn, call reset() first")
        return self._problem, self._episode

    def action_masks(self) -> np.ndarray:
        """bool ``[actions]``, as MaskablePPO of sb3-contrib asks for it."""
        return self._mask().astype(bool)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Draws a scenario and starts an empty design; see the class."""
        super().reset(seed=seed)
        self._problem = self._wanted(options or {})
        evaluator = self._problem.evaluator
        self._episode = Episode(evaluator, self.evaluation_seed, ladder_of(evaluator.scenario, self.fidelity))
        return self._observe(), self._info()

    def _wanted(self, options: Mapping[str, Any]) -> _Problem:
        for name in options:
            if name not in _OPTIONS:
                raise unknown("option of reset", name, _OPTIONS)
        wanted, variant = options.get("scenario"), options.get("variant")
        if variant is not None:
            variant = checked_seed(variant)
        if wanted is not None:
            scenario = _scenario(wanted)
        else:
            scenario = self.scenarios[int(self.np_random.integers(len(self.scenarios)))]
            if variant is None and self.variation is not None:
                variant = self.variation.draw(self.np_random)
        return self._problems.get(f"{scenario.hash}/{variant}", lambda: self._prepare(scenario, variant))

    def _prepare(self, base: Scenario, variant: int | None) -> _Problem:
        scenario = base if variant is None else (self.variation or Variation()).variant(base, variant)
        table = action_table(scenario, len(ladder_of(scenario, self.fidelity)))
        numbers, own = self.table.numbers(table), self.table.own(table)
        context = self.encoder.context(scenario, scenario_descriptors(scenario))
        return _Problem(base.name, variant, Evaluator(scenario, self._cache), numbers, own, context)

    def step(self, action: np.int64 | int) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Takes one action; see the class."""
        problem, episode = self._playing
        reward, terminated, info = episode.take(int(problem.own[action_number(action, len(self.table))]))
        if terminated:
            info["context_actions"] = problem.numbers[info["actions"]].tolist() if info["actions"] else []
        return self._observe(), reward, terminated, False, self._info() | info

    def render(self) -> str | np.ndarray | None:  # type: ignore[override]
        """The design so far, as the render mode asks."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode; choose ansi or rgb_array when making the environment")
            return None
        from .rendering import state_image, state_text  # matplotlib is slow to import and rarely needed

        return f"{self.scenario.name}\n{state_text(self.state)}" if self.render_mode == "ansi" else state_image(self.state)

    def _mask(self) -> np.ndarray:
        problem, episode = self._playing
        mask = np.zeros(len(self.table), np.int8)
        mask[problem.numbers] = episode.state.mask()
        return mask

    def _observe(self) -> dict[str, np.ndarray]:
        problem, episode = self._playing
        history = episode.state.history
        last = int(problem.numbers[history[-1]]) if history else None
        changing = self.encoder.encode(episode.state, last, episode.steps, episode.evaluation)
        # Copies: what is handed out is the caller's.
        constant = {name: values.copy() for name, values in problem.context.items()}
        return {**changing, **constant, "action_mask": self._mask()}

    def _info(self) -> dict[str, Any]:
        problem, episode = self._playing
        devices = [provider.device for provider in self.scenario.providers]
        which = {"scenario": problem.base, "variant": problem.variant}
        return {"action_mask": self._mask(), "phase": episode.state.phase, "devices": devices, **which}


class FlatContext(gym.ObservationWrapper[dict[str, np.ndarray], np.int64, dict[str, np.ndarray]]):
    """A ``ContextEnv`` in the format of ``DesignEnv``: ``observations``, all entries one after the other, and ``action_mask``.

    Attributes:
        layout: where every entry lies in ``observations``.
    """

    def __init__(self, env: gym.Env[dict[str, np.ndarray], np.int64]) -> None:
        super().__init__(env)
        inner = env.unwrapped
        if not isinstance(inner, ContextEnv):
            raise QumosError(f"FlatContext flattens a ContextEnv, got {shown(inner)}")
        self._inner = inner
        sizes = {name: int(np.prod(shape)) for name, shape in inner.encoder.shapes.items()}
        ends = np.cumsum(list(sizes.values())).tolist()
        self.layout = {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}
        self.observation_space = masked_space(ends[-1], len(inner.table))

    def observation(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One vector and the mask."""
        flat = np.concatenate([observation[name].ravel() for name in self.layout])
        return {"observations": flat, "action_mask": observation["action_mask"]}

    def action_masks(self) -> np.ndarray:
        """bool ``[actions]``, as MaskablePPO of sb3-contrib asks for it."""
        return self._inner.action_masks()


class SeedOnce(gym.Wrapper[dict[str, np.ndarray], np.int64, dict[str, np.ndarray], np.int64]):
    """Passes a seed of ``reset`` on once, and not again until there is another.

    RLlib's env runners give the same seed before every batch of episodes that they are asked for: all of them would be of one scenario.
    """

    def __init__(self, env: gym.Env[dict[str, np.ndarray], np.int64]) -> None:
        super().__init__(env)
        self._seed: int | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode."""
        fresh = seed != self._seed
        self._seed = self._seed if seed is None else seed
        return self.env.reset(seed=seed if fresh else None, options=options)


def flat_context_env(*, seed_once: bool = False, **arguments: Any) -> gym.Env[dict[str, np.ndarray], np.int64]:
    """``FlatContext`` around a ``ContextEnv`` with these arguments: what is registered as ``qumos/ContextFlat-v0``.

    Args:
        seed_once: for RLlib, see ``SeedOnce``.
        arguments: of ``ContextEnv``.
    """
    flat = FlatContext(ContextEnv(**arguments))
    return SeedOnce(flat) if seed_once else flat


def play(
    env: gym.Env[dict[str, np.ndarray], np.int64],
    choose: Callable[[dict[str, np.ndarray]], int],
    *,
    scenario: Source | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Plays one episode: a zero-shot design.

    Args:
        env: a ``ContextEnv`` or a wrapper of one.
        choose: from an observation to a padded action.
        scenario: what to design for; without it one is drawn.
        seed: of ``reset``.

    Returns:
        ``info`` of the last step: ``actions`` and ``design`` for the scenario itself, ``evaluation``, ``rewards``, or ``failure``.
    """
    observation, info = env.reset(seed=seed, options=None if scenario is None else {"scenario": scenario})
    done = False
    while not done:
        observation, _, terminated, truncated, info = env.step(np.int64(choose(observation)))
        done = terminated or truncated
    return info


def demonstrate(
    env: gym.Env[dict[str, np.ndarray], np.int64], scenario: Source, actions: Sequence[int]
) -> tuple[list[dict[str, np.ndarray]], list[int]]:
    """What an agent would have seen and done in an episode: examples to imitate, made of a trace without evaluating anything.

    Args:
        env: a ``ContextEnv`` or a wrapper of one; the episode that it plays is lost.
        scenario: whose trace it is.
        actions: effective ones by the scenario's own numbers, as traces hold them.

    Returns:
        The observation before every action, and the padded action.

    Raises:
        QumosError: an action is masked when its turn comes.
    """
    observation, info = env.reset(options={"scenario": scenario})
    inner = env.unwrapped
    if not isinstance(inner, ContextEnv):
        raise QumosError(f"demonstrations need a ContextEnv, got {shown(inner)}")
    padded = inner.table.from_own(inner.scenario, actions)
    seen = []
    for place, action in enumerate(padded):
        if not info["action_mask"][action]:
            raise QumosError(f"action {place} of the trace, {inner.table.actions[action]}, is masked in scenario {inner.scenario.name}")
        seen.append(observation)
        if inner.table.actions[action].kind == "finish":
            return seen, padded[: place + 1]
        observation, _, _, _, info = env.step(np.int64(action))
    return seen, padded


def _scenario(source: Source) -> Scenario:
    if isinstance(source, Mapping):
        return parse_scenario(dict(source))
    return source if isinstance(source, Scenario) else load_scenario(source)


def _chosen(sources: Sequence[Source] | None, padding: Padding) -> tuple[Scenario, ...]:
    """The scenarios to draw from."""
    if sources is None:
        offered = [scenario for scenario in map(load_scenario, list_scenarios()) if scenario.compare and padding.fits(scenario)]
        if not offered:
            raise QumosError("no built-in scenario that is offered for comparison fits the padding; name some with scenarios=[...]")
        return tuple(offered)
    if isinstance(sources, (str, Path, Mapping, Scenario)) or not isinstance(sources, Sequence):
        raise QumosError(f"scenarios is {shown(sources)}, a list of scenarios is needed")
    if not sources:
        raise QumosError("scenarios is empty, at least one is needed")
    found = tuple(map(_scenario, sources))
    for scenario in found:
        padding.check(scenario)
    hashes = [scenario.hash for scenario in found]
    if len(set(hashes)) < len(hashes):
        twice = next(scenario.name for scenario, own in zip(found, hashes, strict=True) if hashes.count(own) > 1)
        raise QumosError(f"scenarios lists {twice} twice")
    return found
