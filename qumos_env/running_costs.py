"""What a design costs to run on the devices of its providers, and whether that is within the scenario's budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement

from .design import Design
from .errors import QumosError
from .hardware.counting import GateCounts
from .hardware.estimate import JobEstimate, PartEstimate, circuit_error, estimate_parts, inference_job, shot_seconds, training_job
from .hardware.profile import ProviderProfile
from .providers import Provider
from .scenario import Scenario

CUT_VARIANTS = 5  # local circuits of one side of a gate cut
_MOST_NATIVE = 3  # native gates that any gate of two qubits takes


@dataclass(frozen=True)
class RunningCosts:
    """Estimates from the device profiles; seconds are means with the queues, dollars are US dollars.

    Attributes:
        native_one_qubit, native_two_qubit: native gates of all parts, each counted once.
        depth, circuit_seconds: of the gates of the longest part.
        error: probability that something goes wrong in one run of the worst part, 1 − the product of all fidelities.
        query_seconds, query_dollars: of answering the budget's rows.
        training_seconds, training_dollars: of training by parameter shift on the train rows, would it run on the devices.
    """

    native_one_qubit: int
    native_two_qubit: int
    depth: int
    circuit_seconds: float
    error: float
    query_seconds: float
    query_dollars: float
    training_seconds: float
    training_dollars: float

    def to_dict(self) -> dict[str, float]:
        """Flat JSON numbers."""
        return asdict(self)


def running_costs(design: Design, scenario: Scenario, *, quick: bool) -> RunningCosts | None:
    """The running costs of ``design``; ``None`` where one of its providers names no device.

    Args:
        design: within the scenario's limits.
        scenario: names devices, shots and rows.
        quick: count native gates instead of transpiling.
    """
    profiles = _profiles(scenario)
    if not set(design.assignment) <= profiles.keys():
        return None
    parts = _parts(design, scenario, profiles, quick=quick)
    shots = design.shots or scenario.budget.shots
    query = inference_job(parts, scenario.budget.rows, shots)
    training = training_job(parts, scenario.draws.train_rows, scenario.model.steps, shots)
    return RunningCosts(
        native_one_qubit=sum(part.counts.n_one_qubit for part in parts),
        native_two_qubit=sum(part.counts.n_two_qubit for part in parts),
        depth=max(part.counts.depth for part in parts),
        circuit_seconds=max(part.counts.seconds for part in parts),
        error=max(part.error for part in parts),
        query_seconds=query.mean_seconds,
        query_dollars=query.dollars,
        training_seconds=training.mean_seconds,
        training_dollars=training.dollars,
    )


class Budget:
    """The hard limits of a scenario on answering its budget's rows; without limits everything is within."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._limits = scenario.budget
        self.is_set = self._limits.is_set
        self.fewest_shots = min((self._limits.shots, *scenario.design.shots))
        self._profiles = _profiles(scenario) if self.is_set else {}

    def allows(self, design: Design) -> bool:
        """Whether ``design`` is within the budget, its native gates counted."""
        # Routing takes a thousand times as long as the bounds, of which one nearly always decides.
        return not self.is_set or (
            self._within(self._job(design, self._bound(design, longest=False)))
            and (self._within(self._job(design, self._bound(design, longest=True))) or self._within(self._query(design)))
        )

    def check(self, design: Design) -> None:
        """Raises QumosError with what ``design`` costs where it is over the budget."""
        if not self.is_set:
            return
        query = self._query(design)
        for name, cost, limit in (
            ("dollars", query.dollars, self._limits.dollars),
            ("seconds", query.mean_seconds, self._limits.seconds),
        ):
            if limit is not None and cost > limit:
                where = f"design breaks scenario {self._scenario.name}"
                raise QumosError(f"{where}: {self._limits.rows} rows cost {cost:.4g} {name}, budget.{name} is {limit:g}")

    def leaves_room(self, assignment: Sequence[int], more: int) -> bool:
        """Whether parts at the providers numbered ``assignment`` and ``more`` others could be within the budget, with one gate each."""
        if not self.is_set:
            return True
        others = combinations_with_replacement(range(len(self._scenario.providers)), more)
        return any(self._within(self._idle([*assignment, *rest])) for rest in others if self._has_room([*assignment, *rest]))

    def some_design_fits(self) -> bool:
        """Whether any design is within the budget."""
        return not self.is_set or any(self._within(self._idle(providers)) for providers in self._openings())

    def least(self) -> tuple[float, float]:
        """The lowest dollars and the lowest seconds that any design can have."""
        jobs = [self._idle(providers) for providers in self._openings()]
        return min(job.dollars for job in jobs), min(job.mean_seconds for job in jobs)

    def _openings(self) -> Iterator[tuple[int, ...]]:
        """Providers, as numbers, whose parts could hold the register."""
        for count in range(1, self._scenario.design.max_parts + 1):
            for providers in combinations_with_replacement(range(len(self._scenario.providers)), count):
                if self._has_room(providers) and self._wide_enough(providers):
                    yield providers

    def _within(self, job: JobEstimate) -> bool:
        dollars, seconds = self._limits.dollars, self._limits.seconds
        return (dollars is None or job.dollars <= dollars) and (seconds is None or job.mean_seconds <= seconds)

    def _query(self, design: Design) -> JobEstimate:
        return self._job(design, _parts(design, self._scenario, self._profiles, quick=True))

    def _job(self, design: Design, parts: Sequence[PartEstimate]) -> JobEstimate:
        return inference_job(parts, self._limits.rows, design.shots or self._limits.shots)

    def _bound(self, design: Design, *, longest: bool) -> list[PartEstimate]:
        """The parts as if all native gates came one after the other, every gate needing all the swaps that it could; or without gates."""
        parts = []
        for part, variants in zip(design.parts, _variants(design) or [1] * design.n_parts, strict=True):
            profile = self._profiles[part.provider]
            times, swaps = profile.times, max(0, len(part.qubits) - 2)
            pairs = sum(len(placed.gate.qubits) == 2 for placed in part.gates)
            native = pairs * _MOST_NATIVE * (1 + 2 * swaps)
            seconds = native * (times.two_qubit + 2 * times.one_qubit) + (len(part.gates) + 2 * len(part.qubits)) * times.one_qubit
            seconds = seconds if longest else 0.0
            counts = GateCounts(len(part.qubits), 0, native, seconds, native)
            parts.append(PartEstimate(part.provider, profile, counts, 0, variants, 0.0, shot_seconds(counts, profile)))
        return parts

    def _idle(self, providers: Sequence[int]) -> JobEstimate:
        """The job of parts of one qubit with one gate, and of the fewest shots."""
        parts = []
        for number in providers:
            name = self._scenario.providers[number].name
            profile = self._profiles[name]
            counts = GateCounts(1, 1, 0, profile.times.one_qubit, 1)
            parts.append(PartEstimate(name, profile, counts, 0, 1, circuit_error(counts, profile), shot_seconds(counts, profile)))
        return inference_job(parts, self._limits.rows, self.fewest_shots)

    def _has_room(self, providers: Sequence[int]) -> bool:
        return all(providers.count(number) <= self._provider(number).max_parts for number in set(providers))

    def _wide_enough(self, providers: Sequence[int]) -> bool:
        widest = self._scenario.design.max_part_qubits
        return sum(min(self._provider(number).max_qubits, widest) for number in providers) >= self._scenario.design.qubits

    def _provider(self, number: int) -> Provider:
        return self._scenario.providers[number]


def _profiles(scenario: Scenario) -> dict[str, ProviderProfile]:
    found = {provider.name: provider.profile for provider in scenario.providers}
    return {name: profile for name, profile in found.items() if profile is not None}


def _parts(design: Design, scenario: Scenario, profiles: dict[str, ProviderProfile], *, quick: bool) -> tuple[PartEstimate, ...]:
    return estimate_parts(design, profiles, scenario.data.axis, variants=_variants(design), quick=quick)


def _variants(design: Design) -> list[int]:
    """Local circuits per query of every part; empty without cuts."""
    if not design.cut_gates:
        return []
    touching = [sum(part.index in {design.partition[q] for q in cut.gate.qubits} for cut in design.cut_gates) for part in design.parts]
    return [CUT_VARIANTS**cuts for cuts in touching]
