"""The environment of a scenario whose designs are all known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import QumosError, unknown
from ..evaluation.cache import Cache
from ..evaluation.table_evaluator import TableEvaluator
from ..scenario import Scenario, load_scenario, parse_scenario
from .design_env import DesignEnv

NOISES = ("scenario", "seed", "mean")


class TableEnv(DesignEnv):
    """
    ## Description
    `DesignEnv` on a small scenario whose designs have all been trained and attacked beforehand: a finished design is looked up. So an
    episode takes a fraction of a millisecond, and the best design is known.

    ## Action Space, Observation Space, Starting State, Rewards, Episode End
    Those of `DesignEnv`; but a table knows the scenario's own providers only, so `reset` takes no option `providers`.

    ## Information
    That of `DesignEnv`, and after every measurement `regret`: by how much the design's reward, the mean over the table's seeds with all
    draws, falls short of the best one's; whatever was measured of it in the episode.

    ## Arguments
    Those of `DesignEnv` but `scenario`, and:
    - `scenario`: name of a built-in table (`waves-tiny-table`), or the folder of one.
    - `noise`: what a design is worth. `"scenario"`: what the evaluation seed measured, the same in every episode; `"seed"`: what one of
      the table's seeds measured, drawn at every `reset`; `"mean"`: the mean over the table's seeds.

    ## Version History
    - v0: first release.
    """

    def __init__(
        self,
        scenario: str | Path | Mapping[str, Any] | Scenario = "waves-tiny-table",
        render_mode: str | None = None,
        evaluation_seed: int | None = None,
        cache: str | Cache | None = None,
        fidelity: str = "full",
        noise: str = "scenario",
    ) -> None:
        if noise not in NOISES:
            raise unknown("noise", noise, NOISES)
        if noise != "scenario" and evaluation_seed is not None:
            raise QumosError(f"noise is {noise!r}, so that there is no evaluation_seed to choose")
        if isinstance(scenario, Mapping):
            scenario = parse_scenario(dict(scenario))
        elif not isinstance(scenario, Scenario):
            scenario = load_scenario(scenario)
        if scenario.table is None:
            raise QumosError(f"scenario {scenario.name} has no table; make one with: python -m training table make {scenario.name}")
        if noise == "mean":
            table = scenario.table.model_dump() | {"answer": "mean"}
            scenario = parse_scenario(scenario.model_dump(mode="json") | {"table": table})
        super().__init__(scenario, render_mode, evaluation_seed, cache, fidelity)
        assert isinstance(self.evaluator, TableEvaluator)
        self.known = self.evaluator.table
        self._draws_seeds = noise == "seed"

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an empty design; see the class."""
        if not self._draws_seeds:
            return super().reset(seed=seed, options=options)
        super().reset(seed=seed, options=options)
        self.evaluation_seed = int(self.np_random.choice(self.known.manifest.seeds))
        return super().reset(options=options)

    def step(self, action: np.int64 | int) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Takes one action; see the class."""
        seen, reward, terminated, truncated, info = super().step(action)
        if "evaluation" in info:
            info["regret"] = self.known.regret(self.known.place(info["evaluation"]["design_hash"]))
        return seen, reward, terminated, truncated, info
