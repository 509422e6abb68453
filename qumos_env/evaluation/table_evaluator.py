"""Evaluations that are looked up in a table of all designs instead of made."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from ..design import Design
from ..errors import EvaluationFailure, QumosError
from ..scenario import Scenario, looked_up
from .cache import Cache
from .evaluator import Evaluation, Evaluator, checked_seed
from .table import Table, columns_of, read_table
from .workload import ROWS, Rows

_FLAGS = ("nothing_worth_stealing",)
_SHARE = "rewards."


class TableEvaluator(Evaluator):
    """Evaluates designs of a scenario whose designs are all in its table, as ``Evaluator`` would; a few microseconds each.

    Designs that the scenario's limits forbid, such as references, are not in the table: with ``limits=False`` they are really evaluated.
    Evaluations have no ``per_draw``, name no thief, and report beside the rest ``seconds``, the processor seconds that the evaluation
    took when the table was made: fewer draws count as their share.

    Args:
        scenario: with the section ``table``.
        cache: of what is really evaluated.

    Raises:
        QumosError: the table is missing, damaged, of another version, or of another scenario.
    """

    def __init__(self, scenario: Scenario, cache: str | Path | Cache | None = None) -> None:
        super().__init__(scenario, cache)
        if scenario.table is None:
            raise QumosError(f"scenario {scenario.name} has no table; those that have end in -table")
        self.table: Table = read_table(scenario.table.folder)
        if looked_up(self.table.scenario, Path(scenario.table.folder)).hash != scenario.hash:
            raise QumosError(f"{scenario.table.folder}: the table of {self.table.scenario.name} as it was, not of {scenario.name}")
        self._mean = scenario.table.answer == "mean"
        self._names = list(columns_of(scenario))

    def serving(self, scenario: Scenario) -> Evaluator:
        """Tables know one choice of providers.

        Raises:
            QumosError: always.
        """
        raise QumosError(f"scenario {self.scenario.name} looks evaluations up in a table, which has them for its own providers only")

    @cached_property
    def _values(self) -> np.ndarray:
        """All columns, float64 ``[designs, seeds, rows, draw_levels, columns]``; over seeds there is one mean where that is the answer."""
        values = np.stack([self.table.columns[name] for name in self._names], axis=-1).astype(float)
        if not self._mean:
            return values
        mean = values.mean(axis=1, keepdims=True)
        error = self._names.index("reward_se")
        mean[..., error] = np.sqrt(np.sum(values[..., error] ** 2, axis=1, keepdims=True)) / values.shape[1]
        return mean

    @cached_property
    def _seconds(self) -> np.ndarray:
        return self.table.seconds.astype(float).mean(axis=1) if self._mean else self.table.seconds.astype(float)

    def evaluate(
        self, design: Design, *, seed: int | None = None, rows: Rows = "search", limits: bool = True, draws: int | None = None
    ) -> Evaluation:
        """What the table says of ``design``; see the class, and ``Evaluator.evaluate`` for the arguments.

        Raises:
            QumosError: the table has no such design, or no such number of draws.
            EvaluationFailure: the evaluation had broken down when the table was made.
        """
        if rows not in ROWS:
            raise QumosError(f"rows is {rows!r}, choose search or test")
        seed = self.scenario.seed if seed is None else checked_seed(seed)
        if not limits and not self.table.has(design):
            return super().evaluate(design, seed=seed, rows=rows, limits=False, draws=draws)
        place = self.table.place(design.hash)
        full = self.scenario.draws.count
        count = full if draws is None else self.scenario.checked_draws(draws)
        levels = self.table.manifest.draw_levels
        if count not in levels:
            raise QumosError(f"{count} draws: the table of {self.scenario.name} has {', '.join(map(str, levels))}")
        answers = 0 if self._mean else self._answering(seed)
        values = self._values[place, answers, ROWS.index(rows), levels.index(count)].tolist()
        found = dict(zip(self._names, values, strict=True))
        reward = found.pop("reward")
        if reward != reward:
            raise EvaluationFailure("training broke down when the table was made")
        shares = {name.removeprefix(_SHARE): found.pop(name) for name in self._names if name.startswith(_SHARE)}
        taken = float(self._seconds[place] if self._mean else self._seconds[place, answers])
        return Evaluation(
            design_hash=design.hash,
            scenario=self.scenario.name,
            rows=rows,
            seed=seed,
            draws=count,
            reward=reward,
            reward_se=found.pop("reward_se"),
            rewards=shares,
            measured={name: bool(found[name]) if name in _FLAGS else found[name] for name in found} | {"seconds": taken * count / full},
            per_draw={},
        )

    def _answering(self, seed: int) -> int:
        """The place of the table's seed that answers for ``seed``."""
        seeds = self.table.manifest.seeds
        return seeds.index(seed) if seed in seeds else seed % len(seeds)


def evaluator_of(scenario: Scenario, cache: str | Path | Cache | None = None) -> Evaluator:
    """What evaluates designs of ``scenario``: by training them, or from its table; arguments and errors as of these."""
    return Evaluator(scenario, cache) if scenario.table is None else TableEvaluator(scenario, cache)
