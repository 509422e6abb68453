"""What every environment plays: one design from the first action to its reward."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from ..design import Design
from ..errors import EvaluationFailure, shown, unknown
from ..evaluation.evaluator import Evaluation, Evaluator
from ..scenario import Scenario
from .actions import DesignState

FIDELITIES = ("full", "draws")
"""How a finished design is measured: on all draws at once, or on few and then on more until it is accepted."""


class Episode:
    """A design in the making, the steps it took, and what was measured of it.

    Args:
        evaluator: of the scenario that is played.
        evaluation_seed: of draws, initial angles and thieves; default the scenario's.
        ladder: see ``DesignState``.

    Attributes:
        state: the design in the making.
        steps: how many steps were taken, those of masked actions too.
        over: whether it has ended.
        evaluation: what was measured last, if anything was.
    """

    def __init__(self, evaluator: Evaluator, evaluation_seed: int | None = None, ladder: Sequence[int] = ()) -> None:
        self._evaluator, self._seed = evaluator, evaluation_seed
        self.state = DesignState(evaluator.scenario, ladder)
        self.steps = 0
        self.over = False
        self.evaluation: Evaluation | None = None

    def take(self, number: int) -> tuple[float, bool, dict[str, Any]]:
        """Takes the action with that number of the scenario's own table; what is masked or none, such as -1, only costs a step.

        Returns:
            Reward, whether the episode is over, and what ``info`` has to say beyond the mask and the phase.

        Raises:
            gymnasium.error.ResetNeeded: it was over already.
        """
        if self.over:
            raise gym.error.ResetNeeded("the episode is over, call reset() first")
        state, limit = self.state, self.state.table.step_limit
        self.steps += 1
        reward, info = 0.0, dict[str, Any]()
        if state.apply(number):
            if state.phase == "measure" or (state.done and not state.ladder):
                info = self._measure()
            if state.done and self.evaluation is not None:
                reward, info = self.evaluation.reward, info or self._result(self.evaluation)
        self.over = state.done or "failure" in info
        if not self.over and self.steps >= limit:
            self.over = True
            info = {"failure": f"step limit of {limit} reached without {'accept' if state.ladder else 'finish'}"}
        if self.over:
            info["actions"] = list(state.history)
        return reward, self.over, info

    def _measure(self) -> dict[str, Any]:
        """Measures the finished design; what ``info`` says of it."""
        design = self.state.design()
        try:
            self.evaluation = self._evaluator.evaluate(design, seed=self._seed, draws=self.state.draws)
        except EvaluationFailure as error:
            return {"design": design.to_dict(), "failure": str(error)}
        return self._result(self.evaluation, design)

    def _result(self, evaluation: Evaluation, design: Design | None = None) -> dict[str, Any]:
        built = self.state.design() if design is None else design
        return {"design": built.to_dict(), "evaluation": evaluation.to_dict(), "rewards": dict(evaluation.rewards)}


def ladder_of(scenario: Scenario, fidelity: str) -> tuple[int, ...]:
    """Numbers of draws that a finished design is measured with, one after the other; none where all are measured at once.

    Raises:
        QumosError: an unknown fidelity.
    """
    if fidelity not in FIDELITIES:
        raise unknown("fidelity", fidelity, FIDELITIES)
    return scenario.draw_levels if fidelity == "draws" else ()


def action_number(action: object, count: int) -> int:
    """``action`` as a number of ``count`` actions; what is masked is the state's to know.

    Raises:
        gymnasium.error.InvalidAction: it is none.
    """
    try:
        number = operator.index(action)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if isinstance(action, bool) or not 0 <= number < count:
        raise gym.error.InvalidAction(f"action is {shown(action)}, a whole number from 0 to {count - 1} is needed")
    return number


def masked_space(size: int, actions: int) -> gym.spaces.Dict:
    """What agents of the project observe: ``size`` numbers in [0, 1], and which of ``actions`` are valid."""
    return gym.spaces.Dict(
        {
            "observations": gym.spaces.Box(0.0, 1.0, (size,), np.float32),
            "action_mask": gym.spaces.Box(0, 1, (actions,), np.int8),
        }
    )
