"""Action sequences as phases: random ones, and the repair of a sequence that edits have made invalid.

A ``Genome`` holds the decisions of an episode by phase. Whatever it holds, ``play`` turns it into the effective actions of
a finished episode: masked actions are skipped, missing ones are drawn at random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qumos_env.env.actions import Action, ActionTable, DesignState, action_table
from qumos_env.scenario import Scenario


@dataclass(frozen=True)
class Genome:
    """The decisions of one episode.

    Attributes:
        partition: the part of every qubit, labelled in any way.
        assignment: the provider index of every part, by the same labels.
        gates: gate and block actions; blocks name their part by the same labels.
        shots: ladder level, or ``None``.
    """

    partition: tuple[int, ...]
    assignment: tuple[int, ...]
    gates: tuple[Action, ...]
    shots: int | None = None


def genome_of(scenario: Scenario, actions: Sequence[int]) -> Genome:
    """The decisions that ``actions`` hold."""
    taken = [action_table(scenario).actions[action] for action in actions]
    shots = [action.targets[0] for action in taken if action.kind == "shots"]
    return Genome(
        partition=tuple(action.targets[0] for action in taken if action.kind == "part"),
        assignment=tuple(action.targets[0] for action in taken if action.kind == "assign"),
        gates=tuple(action for action in taken if action.kind == "gate" or action.block),
        shots=shots[0] if shots else None,
    )


def canonical(genome: Genome) -> Genome:
    """``genome`` with its parts numbered in order of first use; parts without qubits and their blocks are dropped."""
    labels = {label: number for number, label in enumerate(dict.fromkeys(genome.partition))}
    gates = []
    for action in genome.gates:
        if action.block is None:
            gates.append(action)
        elif action.targets[0] in labels:
            gates.append(Action.of_block(action.block, labels[action.targets[0]]))
    return Genome(
        partition=tuple(labels[label] for label in genome.partition),
        assignment=tuple(genome.assignment[label] if label < len(genome.assignment) else 0 for label in labels),
        gates=tuple(gates),
        shots=genome.shots,
    )


def play(scenario: Scenario, genome: Genome, rng: np.random.Generator) -> list[int]:
    """The effective actions of ``played``."""
    return played(scenario, genome, rng).history


def played(scenario: Scenario, genome: Genome, rng: np.random.Generator) -> DesignState:
    """The end of the episode that follows ``genome`` as far as the masks allow and finishes.

    A masked decision of the cut or the assignment is replaced by a random valid one; a masked gate is left out; where no
    trainable gate is left, a random one is added.
    """
    wanted = canonical(genome)
    state = DesignState(scenario)
    table = state.table
    while state.phase == "cut":
        qubit = len(state.partition)
        part = wanted.partition[qubit] if qubit < len(wanted.partition) else -1
        _prefer(state, Action("part", targets=(part,)), rng)
    while state.phase == "assign":
        part = len(state.assignment)
        provider = wanted.assignment[part] if part < len(wanted.assignment) else -1
        _prefer(state, Action("assign", targets=(provider,)), rng)
    for action in wanted.gates:
        state.apply(table.index(action))
    if not state.trainable:
        state.apply(_choose(state, rng, lambda action: _trains(state, action)))
    if wanted.shots is not None:
        state.apply(table.index(Action("shots", targets=(wanted.shots,))))
    state.apply(table.finish)
    return state


def balanced_actions(scenario: Scenario, rng: np.random.Generator) -> list[int]:
    """The effective actions of a random episode, balanced over numbers and kinds of gates: the prior of the searches.

    ``qumos_env.env.random_designs.uniform_actions`` is the other prior: there every *action* is equally likely, as in an untrained
    agent's first episodes, which is what the admission of a scenario measures. A search that started from it would see mostly gates on
    pairs of qubits, of which there are most actions. Both stay, since calibrations and traces rest on them.

    Cut and assignment are uniform over the valid choices of every step. The number of gates to reach is drawn uniformly
    from 1 to the gate budget: choosing ``finish`` like any other action would give lengths that fall off geometrically and
    depend on the size of the table. Each gate action is drawn kind first (``ry``, ``cz-ring``, ...) and place second, so
    that the many pairs of qubits do not crowd out the rotations. The shots level is uniform, exact values included.
    """
    state = DesignState(scenario)
    while state.phase in ("cut", "assign"):
        state.apply(int(rng.choice(np.flatnonzero(state.mask()))))
    target = int(rng.integers(1, scenario.design.max_gates + 1))
    while len(state.gates) < target or not state.trainable:
        choice = _choose(state, rng, _places)
        if choice < 0:
            break
        state.apply(choice)
    level = int(rng.integers(0, len(scenario.design.shots) + 1))
    if level:
        state.apply(state.table.index(Action("shots", targets=(level - 1,))))
    state.apply(state.table.finish)
    return state.history


def random_gate(table: ActionTable, rng: np.random.Generator) -> Action:
    """A random gate or block action of the table, kind first, place second."""
    return table.actions[_kind_then_place(placing_actions(table), table, rng)]


def placing_actions(table: ActionTable) -> list[Action]:
    """The gate and block actions of the table, in its order."""
    return [action for action in table.actions if _places(action)]


def _places(action: Action) -> bool:
    return action.kind == "gate" or action.block is not None


def _trains(state: DesignState, action: Action) -> bool:
    if not _places(action):
        return False
    # Playing the action on a copy asks the rules themselves whether it trains.
    trial = DesignState(state.scenario).replay(state.history)
    return trial.apply(trial.table.index(action)) and trial.trainable


def _prefer(state: DesignState, action: Action, rng: np.random.Generator) -> None:
    if action not in state.table.actions or not state.apply(state.table.index(action)):
        state.apply(int(rng.choice(np.flatnonzero(state.mask()))))


def _choose(state: DesignState, rng: np.random.Generator, wanted: Callable[[Action], bool]) -> int:
    valid = [state.table.actions[index] for index in np.flatnonzero(state.mask())]
    choices = [action for action in valid if wanted(action)]
    return _kind_then_place(choices, state.table, rng) if choices else -1


def _kind_then_place(choices: list[Action], table: ActionTable, rng: np.random.Generator) -> int:
    kinds = sorted({(action.kind, action.gate) for action in choices})
    kind = kinds[int(rng.integers(len(kinds)))]
    places = [action for action in choices if (action.kind, action.gate) == kind]
    return table.index(places[int(rng.integers(len(places)))])
