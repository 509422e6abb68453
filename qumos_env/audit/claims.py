"""Claims: a design, what it is said to be worth in a scenario, and whether that holds under fresh seeds and against the audit's thief.

What a search reports of its best design is too good by the luck of the best of many, and theft in a reward is only as strong as the thief
of rewards. A claim is measured on the test split under seeds that no search uses: by the scenario's reward, and by its *audited* reward.
There the strongest thief of an audit, or the control beside it, takes the place of the reward's own where it is the stronger. Audits of
claims are many and try as hard as those of admission: no restarts, twice the steps.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, FiniteFloat

from ..attacks.confidentiality.stealing import Effort
from ..attacks.confidentiality.theft import strongest_thief
from ..design import Design
from ..errors import QumosError
from ..evaluation.evaluator import Evaluator
from ..evaluation.reward import Standing, blend_of
from ..evaluation.service import Service
from ..evaluation.statistics import Interval, mean_interval
from ..files import read_bytes, write_text
from ..records import Record, parse
from ..scenario import Scenario, list_scenarios, load_scenario
from .admission import EFFORT
from .processes import Progress, in_processes, silent

CLAIM_SEED, VALIDATION_SEED = 3_000_000, 4_000_000
"""First seeds of the measurement of a claim, and of its validation: far from those of searches, races and tests."""
SEEDS = 8
_MOST_BYTES = 2**22
Text = Annotated[str, Field(max_length=2000)]


class Figure(Record):
    """A mean over seeds and its 95 % interval."""

    mean: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat

    @classmethod
    def of(cls, values: np.ndarray) -> Figure:
        """Of independent ``values`` ``[seeds]``."""
        return cls(**{name: round(value, 5) for name, value in _bounds(mean_interval(values)).items()})

    def text(self) -> str:
        """Such as ``0.412 [0.398, 0.426]``."""
        return f"{self.mean:z.3f} [{self.low:z.3f}, {self.high:z.3f}]"


class Worth(Record):
    """What a design is worth on the test split.

    Attributes:
        reward: by the scenario.
        audited: the same against the audit's thief.
        accuracy, theft, audited_theft: accuracies of the owner, of the thief of rewards and of the audit's thief.
        cost: see ``evaluation.costs``.
    """

    reward: Figure
    audited: Figure
    accuracy: FiniteFloat
    theft: FiniteFloat
    audited_theft: FiniteFloat
    cost: FiniteFloat


class Provenance(Record):
    """Who found a design, and how: for people, and to repeat it.

    Attributes:
        agent: name of the agent, or of the hand-made design.
        command: what was run.
        versions: of the libraries that matter.
    """

    agent: Text
    command: Text
    versions: dict[str, Text] = Field(default_factory=dict)


class Claim(Record):
    """A claim as its file holds it.

    Attributes:
        kind, schema_version: what this is.
        scenario, scenario_hash: the problem.
        design, design_hash: the design as plain JSON data.
        seeds: how many seeds from ``CLAIM_SEED`` on the worth was measured with.
        worth: of the design.
        provenance: where it comes from.
    """

    kind: Literal["qumos-claim"] = "qumos-claim"
    schema_version: Literal[1] = 1
    scenario: Annotated[str, Field(max_length=200)]
    scenario_hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    design: dict[str, object]
    design_hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    seeds: Annotated[int, Field(ge=2, le=10_000)]
    worth: Worth
    provenance: Provenance

    def to_json(self) -> str:
        """As the file holds it: a line for every field, so that a design does not fill pages."""
        lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in self.model_dump(mode="json").items())
        return "{\n" + ",\n".join(lines) + "\n}\n"


@dataclass(frozen=True)
class Validation:
    """What became of a claim.

    Attributes:
        claim: what was claimed.
        worth: measured afresh.
        rivals: worth of the hand-made designs, by name, under the same seeds.
        lead: audited reward of the design over that of the best rival, paired by seed; ``None`` without a rival.
    """

    claim: Claim
    worth: Worth
    rivals: Mapping[str, Worth]
    lead: Figure | None

    @property
    def holds(self) -> bool:
        """Whether the worth is what was claimed: of both rewards, what is measured is better or the intervals meet."""
        pairs = ((self.claim.worth.reward, self.worth.reward), (self.claim.worth.audited, self.worth.audited))
        return all(measured.high >= claimed.low for claimed, measured in pairs)

    @property
    def best_rival(self) -> str | None:
        """Name of the best hand-made design by audited reward."""
        return max(self.rivals, key=lambda name: self.rivals[name].audited.mean) if self.rivals else None

    @property
    def ahead(self) -> bool:
        """Whether the audited reward is above every hand-made design's, the intervals apart."""
        return all(self.worth.audited.low > rival.audited.high for rival in self.rivals.values())


def read_claim(path: str | Path) -> tuple[Claim, Scenario, Design]:
    """The claim in the file ``path``, with its scenario and design.

    Raises:
        QumosError: no claim, of another version, of a scenario that is not here or has changed, or of another design than it says.
    """
    claim = parse(Claim, read_bytes(path, _MOST_BYTES), str(path))
    scenario = load_scenario(claim.scenario)
    if scenario.hash != claim.scenario_hash:
        raise QumosError(f"{path}: made for another version of scenario {claim.scenario}; claim the design again")
    design = Design.from_dict(claim.design)
    if design.hash != claim.design_hash:
        raise QumosError(f"{path}: its design is not the one of its hash")
    scenario.check_design(design)
    return claim, scenario, design


def make_claim(
    design: Design,
    scenario: Scenario,
    provenance: Provenance,
    *,
    seeds: int = SEEDS,
    workers: int = 1,
    on_progress: Progress = silent,
) -> Claim:
    """Measures what ``design`` is worth in ``scenario`` and claims it.

    Raises:
        QumosError: the design breaks the scenario's limits, the scenario is not of the library, or fewer than two seeds.
        EvaluationFailure: a training diverged.
    """
    if scenario.name not in list_scenarios():
        raise QumosError(f"scenario {scenario.name} is not in the library, a claim names one that everybody has")
    scenario.check_design(design)
    (worth,) = measure(scenario, [design], CLAIM_SEED, seeds, workers, on_progress)
    return Claim(
        scenario=scenario.name,
        scenario_hash=scenario.hash,
        design=design.to_dict(),
        design_hash=design.hash,
        seeds=seeds,
        worth=worth.summary,
        provenance=provenance,
    )


def write_claim(claim: Claim, path: Path) -> None:
    """Writes ``claim`` to the file ``path``."""
    write_text(path, claim.to_json())


def validate(
    claim: Claim,
    scenario: Scenario,
    design: Design,
    rivals: Mapping[str, Design],
    *,
    seeds: int = SEEDS,
    workers: int = 1,
    on_progress: Progress = silent,
) -> Validation:
    """Measures a claim and the designs ``rivals``, by name, under seeds that nobody has used."""
    first, *others = measure(scenario, [design, *rivals.values()], VALIDATION_SEED, seeds, workers, on_progress)
    best = max(others, key=lambda one: float(one.audited.mean()), default=None)
    lead = Figure.of(first.audited - best.audited) if best is not None else None
    return Validation(claim, first.summary, {name: one.summary for name, one in zip(rivals, others, strict=True)}, lead)


@dataclass(frozen=True, eq=False)
class Measured:
    """What one design measured under every seed, each ``[seeds]``; names as in ``Worth``."""

    reward: np.ndarray
    audited: np.ndarray
    accuracy: np.ndarray
    theft: np.ndarray
    audited_theft: np.ndarray
    cost: np.ndarray

    @property
    def summary(self) -> Worth:
        """Means and intervals."""
        means = {name: round(float(getattr(self, name).mean()), 5) for name in ("accuracy", "theft", "audited_theft", "cost")}
        return Worth(reward=Figure.of(self.reward), audited=Figure.of(self.audited), **means)


def measure(
    scenario: Scenario, designs: Sequence[Design], first: int, seeds: int, workers: int = 1, on_progress: Progress = silent
) -> list[Measured]:
    """Every design under ``seeds`` evaluation seeds from ``first`` on, on the test split.

    Raises:
        QumosError: fewer than two seeds, which give no interval.
        EvaluationFailure: a training diverged.
    """
    if seeds < 2:
        raise QumosError(f"seeds is {seeds}, at least 2 are needed for an interval")
    jobs = [(design, first + seed) for design in designs for seed in range(seeds)]
    found = np.array(in_processes(scenario, _measured, jobs, workers, on_progress)).reshape(len(designs), seeds, -1)
    return [Measured(*one.T) for one in found]


def _measured(evaluator: Evaluator, job: tuple[Design, int]) -> tuple[float, ...]:
    design, seed = job
    evaluation = evaluator.evaluate(design, seed=seed, rows="test", limits=False)
    if not evaluator.scenario.reward.theft:
        return evaluation.reward, evaluation.reward, evaluation.accuracy, evaluation.theft, evaluation.theft, evaluation.cost
    thief, control = audited_theft(evaluator, design, seed)
    standing = Standing(evaluation.accuracy, evaluation.chance, blend_of(evaluator.scenario.reward))
    rational = evaluator.scenario.threat.thief == "rational"
    rivals = [evaluation.theft, thief, *((evaluation.control, evaluation.query_control, control) if rational else ())]
    share = evaluator.scenario.reward.theft * standing.margin(max(rivals))
    audited = evaluation.reward - evaluation.rewards["theft"] + min(share, evaluation.rewards["theft"])
    return evaluation.reward, audited, evaluation.accuracy, evaluation.theft, max(thief, evaluation.theft), evaluation.cost


def audited_theft(evaluator: Evaluator, design: Design, seed: int, effort: Effort = EFFORT) -> tuple[float, float]:
    """Accuracies on the test split of an audit's best thief and of the control beside it, averaged over the draws of ``seed``."""
    best = strongest_thief(Service.train(evaluator.workload, design, seed, "test"), effort)
    return statistics.fmean(best.values), float(np.mean(best.controls))


def _bounds(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}

