"""Hand-made designs: what a careful person would try without any search.

``encode-only`` is one idle rotation: whatever it scores comes from encoder and head alone. The others are ``layers`` times
the textbook ansatz (a ring of entanglers and a layer of rotations after a first layer of rotations), in one piece at one
provider (``centralised``), cut in the middle (``contiguous``) or by turns (``interleaved``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qumos_env import Design
from qumos_env.actions import Action, DesignState, action_table, block_gates
from qumos_env.design import Gate
from qumos_env.errors import QumosError
from qumos_env.scenario import Scenario

LAYERS = (1, 2, 3)


@dataclass(frozen=True)
class Baseline:
    """A hand-made design.

    Attributes:
        name: such as ``interleaved-2``.
        design: the design.
        limits: whether it keeps the limits of the scenario; one that does not is a reference, not a solution.
        actions: the actions that build it, or ``None`` where the vocabulary cannot.
    """

    name: str
    design: Design
    limits: bool
    actions: tuple[int, ...] | None


def baselines(scenario: Scenario) -> tuple[Baseline, ...]:
    """The hand-made designs of ``scenario``; those beyond its gate budget or the providers' limits are left out."""
    rules = scenario.design
    n_parts = min(rules.max_parts, len(scenario.providers))
    found: list[Baseline] = []
    rotation = next(gate for gate in ("rz", "ry", "rx") if gate in rules.gates)
    found += _baseline(scenario, "encode-only", contiguous(rules.qubits, n_parts), [], (Gate(rotation, (0,)),))
    for layers in LAYERS:
        found += _baseline(scenario, f"centralised-{layers}", (0,) * rules.qubits, _ansatz(scenario, layers))
    if n_parts > 1:
        for layers in LAYERS:
            found += _baseline(scenario, f"contiguous-{layers}", contiguous(rules.qubits, n_parts), _ansatz(scenario, layers))
        for layers in LAYERS:
            found += _baseline(scenario, f"interleaved-{layers}", interleaved(rules.qubits, n_parts), _ansatz(scenario, layers))
    return tuple(found)


def starting_points(scenario: Scenario) -> tuple[tuple[int, ...], ...]:
    """The action sequences of those hand-made designs that the scenario's actions can build, for warm starts."""
    return tuple(baseline.actions for baseline in baselines(scenario) if baseline.actions is not None)


def contiguous(qubits: int, parts: int) -> tuple[int, ...]:
    """The partition into ``parts`` runs of neighbours, as equal as can be."""
    return tuple(qubit * parts // qubits for qubit in range(qubits))


def interleaved(qubits: int, parts: int) -> tuple[int, ...]:
    """The partition that deals the qubits out by turns."""
    return tuple(qubit % parts for qubit in range(qubits))


def _ansatz(scenario: Scenario, layers: int) -> list[tuple[str, str]]:
    """Kind and gate of the blocks, to be placed on every part: rotations, then ``layers`` times entanglers and rotations."""
    gates = scenario.design.gates
    rotation = next(gate for gate in ("ry", "rx", "rz") if gate in gates)
    entangler = next((gate for gate in ("cz", "rzz") if gate in gates), None)
    layer = ([("ring", entangler)] if entangler else []) + [("layer", rotation)]
    return [("layer", rotation), *layer * layers]


def _baseline(
    scenario: Scenario,
    name: str,
    partition: tuple[int, ...],
    blocks: Sequence[tuple[str, str]],
    gates: tuple[Gate, ...] = (),
) -> list[Baseline]:
    """The named design, in a list that is empty where it does not fit the scenario."""
    parts = [tuple(q for q, part in enumerate(partition) if part == index) for index in range(max(partition) + 1)]
    placed: list[tuple[Action, tuple[int, ...]]] = []
    for kind, gate in blocks:
        for index, qubits in enumerate(parts):
            # A ring needs three qubits; two are joined by a chain, one by nothing.
            block = Action("chain" if kind == "ring" and len(qubits) == 2 else kind, gate, (index,))
            if block_gates(block, qubits):
                placed.append((block, qubits))
    gates = gates + tuple(gate for block, qubits in placed for gate in block_gates(block, qubits))
    providers = tuple(range(len(parts)))
    design = Design(partition, tuple(scenario.provider_names[index] for index in providers), gates)
    if len(gates) > scenario.design.max_gates:
        return []
    if not _keeps_limits(scenario, design):
        # The centralised references may be wider than any provider; a cut design that breaks a limit is of no use.
        return [Baseline(name, design, False, None)] if len(parts) == 1 else []
    return [Baseline(name, design, True, _actions(scenario, design, placed))]


def _keeps_limits(scenario: Scenario, design: Design) -> bool:
    try:
        scenario.check_design(design)
    except QumosError:
        return False
    return True


def _actions(scenario: Scenario, design: Design, placed: list[tuple[Action, tuple[int, ...]]]) -> tuple[int, ...] | None:
    table = action_table(scenario)
    providers = [scenario.provider_names.index(name) for name in design.assignment]
    try:
        sequence = table.opening(design.partition, providers)
        if placed:
            for block, qubits in placed:
                sequence += table.placing(block, qubits)
        else:
            sequence += [table.index(Action("gate", gate.name, gate.qubits)) for gate in design.gates]
    except QumosError:
        return None
    state = DesignState(scenario).replay([*sequence, table.finish])
    # Masks may refuse a step (a provider that does not run the gate): then the actions build another design.
    return tuple(state.history) if state.done and state.design() == design else None
