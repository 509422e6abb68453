"""Hand-made designs: what a careful person would try without any search.

``encode-only`` is one idle rotation: whatever it scores comes from encoder and head alone. Most others are the RY-CZ-RY
ansatz of ``qumos_env.design.ansatz`` with one, two and three layers: in one piece at one provider (``centralised``), cut into
runs of neighbours (``contiguous``) or dealt out by turns (``interleaved``), the same circuit on every part.

``masked-pair`` follows the idea of STIQ (Kundu and Ghosh, *STIQ: Safeguarding training and inferencing of quantum neural networks from
untrusted cloud*, arXiv 2405.18746): two models at two providers are trained together, so that what either answers is obfuscated and only
both answers together classify. Here the register is dealt out to two providers by turns, so that with an even number of classes every class
is voted for at one provider alone (as qubit i votes for class i modulo their number) and neither can compare classes; and a layer of
trainable RX behind the ansatz turns what is measured out of the plane that RY and CZ work in. What differs from STIQ: there both models see
all features and answer for all classes, and a loss of its own drives the answers of each apart, while here a feature lies on one qubit only
and training knows the joint loss alone. So nothing forces either part to be useless by itself, and a thief who trains a head of his own on
what it answers may learn from it: how much, the evaluation measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qumos_env import Design
from qumos_env.design import Gate
from qumos_env.design.ansatz import contiguous, encode_only, interleaved, ry_cz_blocks
from qumos_env.design.blocks import Block
from qumos_env.env.actions import Action, DesignState, action_table
from qumos_env.errors import QumosError
from qumos_env.scenario import Scenario

from .sequences import balanced_actions

LAYERS = (1, 2, 3)
MASK = Block("layer", "rx")
_TRIES = 100


@dataclass(frozen=True)
class Baseline:
    """A hand-made design.

    Attributes:
        name: such as ``interleaved-2``.
        design: the design.
        limits: whether it keeps the limits of the scenario; one that does not is a reference, not a solution.
        actions: the actions that build it, or ``None`` where the scenario's vocabulary cannot.
    """

    name: str
    design: Design
    limits: bool
    actions: tuple[int, ...] | None


@dataclass(frozen=True)
class Ansatz:
    """A hand-made circuit, whatever the partition: RY-CZ-RY on every part.

    Attributes:
        layers: how often a ring of CZ and a layer of RY follow the first layer of RY.
        cuts: RZZ gates across cuts, placed first, between the qubits of neighbouring parts in their order.
        masked: whether a layer of RX comes last.
    """

    layers: int
    cuts: int = 0
    masked: bool = False

    def steps(self, partition: Sequence[int]) -> list[Gate | tuple[Block, int, tuple[int, ...]]]:
        """What places the gates: single gates, or blocks with the number of their part and its qubits."""
        parts = [tuple(qubit for qubit, home in enumerate(partition) if home == part) for part in range(max(partition) + 1)]
        across = [
            Gate("rzz", (parts[part][place], parts[part + 1][place]))
            for place in range(min(map(len, parts)))
            for part in range(len(parts) - 1)
        ]
        steps: list[Gate | tuple[Block, int, tuple[int, ...]]] = [*across[: self.cuts]]
        # Layer by layer over all parts, so that an agent that imitates the sequence sees the parts treated alike.
        for block in [*ry_cz_blocks(self.layers), *([MASK] if self.masked else [])]:
            fitted = [(block.fitted(qubits), part, qubits) for part, qubits in enumerate(parts)]
            steps += [step for step in fitted if step[0].gates(step[2])]
        return steps

    def design(self, partition: Sequence[int], providers: Sequence[str]) -> Design:
        """The circuit on the parts of ``partition`` at ``providers``."""
        gates: list[Gate] = []
        for step in self.steps(partition):
            gates += [step] if isinstance(step, Gate) else step[0].gates(step[2])
        return Design(tuple(partition), tuple(providers), tuple(gates))

    def actions(self, scenario: Scenario, partition: Sequence[int], assignment: Sequence[int]) -> tuple[int, ...] | None:
        """The effective actions of the design with its parts at the providers numbered ``assignment``; ``None`` where limits, masks or
        vocabulary of ``scenario`` stand against it, or ``partition`` has not room for all the cuts."""
        table = action_table(scenario)
        steps = self.steps(partition)
        if sum(isinstance(step, Gate) for step in steps) < self.cuts:
            return None
        try:
            sequence = table.opening(partition, assignment)
            for step in steps:
                placed = [table.index(Action("gate", step.name, step.qubits))] if isinstance(step, Gate) else table.placing(*step)
                sequence += placed
        except QumosError:
            return None
        return _if_all_valid(scenario, [*sequence, table.finish])


def baselines(scenario: Scenario) -> tuple[Baseline, ...]:
    """The hand-made designs of ``scenario``; those that break its limits are left out, except centralised ones."""
    qubits = scenario.design.qubits
    n_parts = min(scenario.design.max_parts, len(scenario.providers), qubits)
    idle = encode_only(contiguous(qubits, n_parts), scenario.provider_names[:n_parts])
    found = [Baseline("encode-only", idle, _keeps_limits(scenario, idle), _encode_only_actions(scenario, idle))]
    for layers in LAYERS:
        if len(Ansatz(layers).design((0,) * qubits, scenario.provider_names[:1]).gates) <= scenario.design.max_gates:
            found.append(_baseline(scenario, f"centralised-{layers}", Ansatz(layers), (0,) * qubits))
    if n_parts > 1:
        cuts = {"contiguous": contiguous(qubits, n_parts), "interleaved": interleaved(qubits, n_parts)}
        found += [_baseline(scenario, f"{name}-{layers}", Ansatz(layers), cut) for name, cut in cuts.items() for layers in LAYERS]
        found += [_baseline(scenario, f"masked-pair-{n}", Ansatz(n, masked=True), interleaved(qubits, 2)) for n in LAYERS]
    return tuple(baseline for baseline in found if baseline.limits or baseline.name.startswith("centralised"))


def starting_points(scenario: Scenario) -> tuple[tuple[int, ...], ...]:
    """The action sequences of those hand-made designs that the scenario's actions can build, for warm starts."""
    return tuple(baseline.actions for baseline in baselines(scenario) if baseline.actions is not None)


def textbook_actions(scenario: Scenario, rng: np.random.Generator) -> list[int]:
    """The effective actions of an RY-CZ-RY ansatz on a random partition with random providers, and random numbers of layers and cuts.

    The designs are of the kind of ``qumos_env.env.random_designs.textbook_design``, built as the vocabulary allows. Where nothing of the
    kind fits, those of ``balanced_actions`` take their place.
    """
    for _ in range(_TRIES):
        state = DesignState(scenario)
        while state.phase in ("cut", "assign"):
            state.apply(int(rng.choice(np.flatnonzero(state.mask()))))
        ansatz = Ansatz(int(rng.choice(LAYERS)), cuts=int(rng.integers(scenario.design.max_gate_cuts + 1)))
        actions = ansatz.actions(scenario, state.partition, state.assignment)
        if actions is not None:
            return list(actions)
    return balanced_actions(scenario, rng)


def _baseline(scenario: Scenario, name: str, ansatz: Ansatz, partition: tuple[int, ...]) -> Baseline:
    parts = max(partition) + 1
    design = ansatz.design(partition, scenario.provider_names[:parts])
    if not _keeps_limits(scenario, design):
        return Baseline(name, design, False, None)
    return Baseline(name, design, True, ansatz.actions(scenario, partition, range(parts)))


def _keeps_limits(scenario: Scenario, design: Design) -> bool:
    try:
        scenario.check_design(design)
    except QumosError:
        return False
    return True


def _encode_only_actions(scenario: Scenario, design: Design) -> tuple[int, ...] | None:
    table = action_table(scenario)
    try:
        gates = [table.index(Action("gate", gate.name, gate.qubits)) for gate in design.gates]
    except QumosError:
        return None
    return _if_all_valid(scenario, [*table.opening(design.partition, range(design.n_parts)), *gates, table.finish])


def _if_all_valid(scenario: Scenario, actions: list[int]) -> tuple[int, ...] | None:
    # A mask may refuse a step; then the actions would build another design.
    return tuple(actions) if DesignState(scenario).replay(actions).history == actions else None
