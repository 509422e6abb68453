"""The limits of a design: one set of rules that checks, masks and scenarios ask alike."""

from __future__ import annotations

from collections.abc import Sequence

from ..design import Design
from ..design.gate_cuts import cuts_of_parts
from .providers import Provider
from .sections import DesignSection


class DesignLimits:
    """What designs the rules of a scenario and its providers admit; what they may cost is the budget's.

    A part takes one qubit of its provider for each of its own, and one more, an ancilla, for each gate cut that touches it: that is
    where the measured variant of a cut puts its outcome, so no measurement is needed in mid-circuit.

    Args:
        rules: of a design.
        providers: in the order in which actions number them.
    """

    def __init__(self, rules: DesignSection, providers: Sequence[Provider]) -> None:
        self._rules, self._providers = rules, tuple(providers)
        self._widest = [min(provider.max_qubits, rules.max_part_qubits) for provider in providers]
        # Room for parts, widest first: every provider counts once per part it takes.
        self._takes = [min(provider.max_parts, rules.max_parts) for provider in providers]
        self._slots = self._room(self._takes)[: rules.max_parts]

    @property
    def capacity(self) -> int:
        """Qubits that the widest parts hold together."""
        return sum(self._slots)

    def fits(self, sizes: Sequence[int]) -> bool:
        """Whether parts of these ``sizes``, and more of them up to the whole register, find providers with room and width."""
        wanted = sorted(sizes, reverse=True)
        if len(wanted) > len(self._slots) or self.capacity < self._rules.qubits:
            return False
        return all(size <= slot for size, slot in zip(wanted, self._slots, strict=False))

    def assignable(self, sizes: Sequence[int], assignment: Sequence[int]) -> bool:
        """Whether the first parts of these ``sizes`` fit on the providers numbered ``assignment``, and the others on what is left."""
        room = list(self._takes)
        for size, provider in zip(sizes, assignment, strict=False):
            if size > self._widest[provider] or room[provider] == 0:
                return False
            room[provider] -= 1
        rest, slots = sorted(sizes[len(assignment) :], reverse=True), self._room(room)
        return len(rest) <= len(slots) and all(size <= slot for size, slot in zip(rest, slots, strict=False))

    def holds(self, providers: Sequence[int]) -> bool:
        """Whether parts on the ``providers`` with these numbers can hold the register."""
        return self.has_room(providers) and sum(self._widest[number] for number in providers) >= self._rules.qubits

    def has_room(self, providers: Sequence[int]) -> bool:
        """Whether no provider is named more often than it takes parts."""
        return all(providers.count(number) <= self._providers[number].max_parts for number in set(providers))

    def runs(self, provider: int, gate: str) -> bool:
        """Whether the provider with this number runs ``gate`` inside a part."""
        return gate in self._providers[provider].gates

    def ancillas(self, provider: int, size: int) -> int:
        """How many gate cuts may touch a part of ``size`` qubits on the provider with this number."""
        return self._providers[provider].max_qubits - size

    def broken_by(self, design: Design) -> str | None:
        """The first limit that ``design``, whose width and providers are the scenario's, breaks; or ``None``."""
        rules = self._rules
        numbers = [next(n for n, provider in enumerate(self._providers) if provider.name == name) for name in design.assignment]
        if design.n_parts > rules.max_parts:
            return f"{design.n_parts} parts, at most {rules.max_parts} are allowed"
        if len(design.gates) > rules.max_gates:
            return f"{len(design.gates)} gates, at most {rules.max_gates} are allowed"
        if len(design.cut_gates) > rules.max_gate_cuts:
            return f"{len(design.cut_gates)} gate cuts, at most {rules.max_gate_cuts} are allowed"
        for gate in design.gates:
            if gate.name not in rules.gates:
                return f"gate {gate.name} is not among {', '.join(rules.gates)}"
        if design.shots is not None and design.shots not in rules.shots:
            return f"{design.shots} shots is not a level of {list(rules.shots)}"
        for part, provider, cuts in zip(design.parts, numbers, cuts_of_parts(design), strict=True):
            if len(part.qubits) > self._widest[provider]:
                return f"part {part.index} has {len(part.qubits)} qubits, at most {self._widest[provider]} fit on {part.provider}"
            if len(cuts) > self.ancillas(provider, len(part.qubits)):
                left = self.ancillas(provider, len(part.qubits))
                return f"{len(cuts)} gate cuts touch part {part.index}, {part.provider} has {left} qubit(s) left for their ancillas"
            for placed in part.gates:
                if not self.runs(provider, placed.gate.name):
                    return f"provider {part.provider} does not run {placed.gate.name}"
        for number, one in enumerate(self._providers):
            if numbers.count(number) > one.max_parts:
                return f"provider {one.name} takes at most {one.max_parts} part(s)"
        return None

    def _room(self, parts: Sequence[int]) -> list[int]:
        """Widths of so many ``parts`` on every provider, widest first."""
        return sorted((width for width, count in zip(self._widest, parts, strict=True) for _ in range(count)), reverse=True)
