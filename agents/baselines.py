"""Hand-made designs: what a careful person would try without any search.

``encode-only`` is one idle rotation: whatever it scores comes from encoder and head alone. The others are the RY-CZ-RY
ansatz of ``qumos_env.design.ansatz`` with one, two and three layers: in one piece at one provider (``centralised``), cut into
runs of neighbours (``contiguous``) or dealt out by turns (``interleaved``), the same circuit on every part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qumos_env import Design
from qumos_env.design.ansatz import contiguous, encode_only, interleaved, ry_cz_blocks, ry_cz_ry
from qumos_env.design.blocks import Block
from qumos_env.env.actions import Action, DesignState, action_table
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
        actions: the actions that build it, or ``None`` where the scenario's vocabulary cannot.
    """

    name: str
    design: Design
    limits: bool
    actions: tuple[int, ...] | None


def baselines(scenario: Scenario) -> tuple[Baseline, ...]:
    """The hand-made designs of ``scenario``; those that break its limits are left out, except centralised ones."""
    qubits = scenario.design.qubits
    n_parts = min(scenario.design.max_parts, len(scenario.providers), qubits)
    providers = scenario.provider_names[:n_parts]
    found = [_baseline(scenario, "encode-only", encode_only(contiguous(qubits, n_parts), providers), 0)]
    for layers in LAYERS:
        design = ry_cz_ry((0,) * qubits, providers[:1], layers)
        if len(design.gates) <= scenario.design.max_gates:
            found.append(_baseline(scenario, f"centralised-{layers}", design, layers))
    if n_parts > 1:
        for name, partition in (("contiguous", contiguous(qubits, n_parts)), ("interleaved", interleaved(qubits, n_parts))):
            for layers in LAYERS:
                found.append(_baseline(scenario, f"{name}-{layers}", ry_cz_ry(partition, providers, layers), layers))
    return tuple(baseline for baseline in found if baseline.limits or baseline.name.startswith("centralised"))


def starting_points(scenario: Scenario) -> tuple[tuple[int, ...], ...]:
    """The action sequences of those hand-made designs that the scenario's actions can build, for warm starts."""
    return tuple(baseline.actions for baseline in baselines(scenario) if baseline.actions is not None)


def _baseline(scenario: Scenario, name: str, design: Design, layers: int) -> Baseline:
    try:
        scenario.check_design(design)
    except QumosError:
        return Baseline(name, design, False, None)
    return Baseline(name, design, True, _actions(scenario, design, layers))


def _actions(scenario: Scenario, design: Design, layers: int) -> tuple[int, ...] | None:
    table = action_table(scenario)
    try:
        sequence = table.opening(design.partition, [scenario.provider_names.index(name) for name in design.assignment])
        for step in _steps(design, layers):
            sequence += [table.index(step)] if isinstance(step, Action) else table.placing(*step)
    except QumosError:
        return None
    state = DesignState(scenario).replay([*sequence, table.finish])
    # A mask may have refused a step; then the actions build another design.
    return tuple(state.history) if state.done and state.design() == design else None


def _steps(design: Design, layers: int) -> Iterator[Action | tuple[Block, int, tuple[int, ...]]]:
    """What places the gates: single gates, or blocks with the number of their part and its qubits."""
    if layers == 0:
        for gate in design.gates:
            yield Action("gate", gate.name, gate.qubits)
        return
    # Layer by layer over all parts, so that an agent that imitates the sequence sees the parts treated alike.
    for block in ry_cz_blocks(layers):
        for part in design.parts:
            yield block.fitted(part.qubits), part.index, part.qubits
