"""The hard limits of a scenario on what running a design may cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement

from ..design import Design
from ..design.gate_cuts import variant_counts
from ..hardware.counting import GateCounts
from ..hardware.estimate import JobEstimate, PartEstimate, circuit_error, estimate_parts, inference_job, shot_seconds
from .limits import DesignLimits
from .providers import Provider, device_profiles
from .sections import BudgetSection, DesignSection

_MOST_NATIVE = 3  # native gates that any gate of two qubits takes


class Budget:
    """The hard limits of a scenario on answering its budget's rows; without limits everything is within.

    Args:
        limits: rows, shots and what they may cost.
        rules: limits of a design.
        providers: in the order in which actions number them.
        axis: rotation axis of the encoding.
        admitted: which designs there are.
    """

    def __init__(
        self, limits: BudgetSection, rules: DesignSection, providers: Sequence[Provider], axis: str, admitted: DesignLimits
    ) -> None:
        self._limits, self._rules, self._providers, self._axis, self._admitted = limits, rules, tuple(providers), axis, admitted
        self.is_set = limits.is_set
        self.fewest_shots = min((limits.shots, *rules.shots))
        self._profiles = device_profiles(providers) if self.is_set else {}

    def allows(self, design: Design) -> bool:
        """Whether ``design`` is within the budget, its native gates counted."""
        # Routing takes a thousand times as long as the bounds, of which one nearly always decides.
        return not self.is_set or (
            self._within(self._job(design, self._bound(design, longest=False)))
            and (self._within(self._job(design, self._bound(design, longest=True))) or self._within(self._query(design)))
        )

    def broken_by(self, design: Design) -> str | None:
        """What ``design`` costs, where it is over the budget."""
        if not self.is_set:
            return None
        query = self._query(design)
        for name, cost, limit in (
            ("dollars", query.dollars, self._limits.dollars),
            ("seconds", query.mean_seconds, self._limits.seconds),
        ):
            if limit is not None and cost > limit:
                return f"{self._limits.rows} rows cost {cost:.4g} {name}, budget.{name} is {limit:g}"
        return None

    def spent_at_least(self, design: Design) -> tuple[float, float]:
        """The least that ``design`` can cost, before its native gates are counted: dollars and seconds as shares of their limits.

        A share is 0 where there is no such limit.
        """
        if not self.is_set:
            return 0.0, 0.0
        job, limits = self._job(design, self._bound(design, longest=False)), self._limits
        return (
            0.0 if limits.dollars is None else job.dollars / limits.dollars,
            0.0 if limits.seconds is None else job.mean_seconds / limits.seconds,
        )

    def leaves_room(self, assignment: Sequence[int], more: int) -> bool:
        """Whether parts at the providers numbered ``assignment`` and ``more`` others could be within the budget, with one gate each."""
        if not self.is_set:
            return True
        others = combinations_with_replacement(range(len(self._providers)), more)
        return any(self._within(self._idle([*assignment, *rest])) for rest in others if self._admitted.has_room([*assignment, *rest]))

    def some_design_fits(self) -> bool:
        """Whether any design is within the budget."""
        return not self.is_set or any(self._within(self._idle(providers)) for providers in self._openings())

    def least(self) -> tuple[float, float]:
        """The lowest dollars and the lowest seconds that any design can have."""
        jobs = [self._idle(providers) for providers in self._openings()]
        return min(job.dollars for job in jobs), min(job.mean_seconds for job in jobs)

    def _openings(self) -> Iterator[tuple[int, ...]]:
        """Providers, as numbers, whose parts could hold the register."""
        for count in range(1, self._rules.max_parts + 1):
            for providers in combinations_with_replacement(range(len(self._providers)), count):
                if self._admitted.holds(providers):
                    yield providers

    def _within(self, job: JobEstimate) -> bool:
        dollars, seconds = self._limits.dollars, self._limits.seconds
        return (dollars is None or job.dollars <= dollars) and (seconds is None or job.mean_seconds <= seconds)

    def _query(self, design: Design) -> JobEstimate:
        return self._job(design, estimate_parts(design, self._profiles, self._axis, quick=True))

    def _job(self, design: Design, parts: Sequence[PartEstimate]) -> JobEstimate:
        return inference_job(parts, self._limits.rows, design.shots or self._limits.shots)

    def _bound(self, design: Design, *, longest: bool) -> list[PartEstimate]:
        """The parts as if all native gates came one after the other, every gate needing all the swaps that it could; or without gates."""
        parts = []
        for part, variants in zip(design.parts, variant_counts(design), strict=True):
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
            name = self._providers[number].name
            profile = self._profiles[name]
            counts = GateCounts(1, 1, 0, profile.times.one_qubit, 1)
            parts.append(PartEstimate(name, profile, counts, 0, 1, circuit_error(counts, profile), shot_seconds(counts, profile)))
        return inference_job(parts, self._limits.rows, self.fewest_shots)
