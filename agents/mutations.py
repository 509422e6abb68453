"""The edits of designs that searches share: mutations of gates, cut, assignment and shots, and crossover.

They work on genomes (``sequences.Genome``) and may leave them invalid; ``sequences.play`` repairs that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from qumos_env.env.actions import action_table
from qumos_env.scenario import Scenario

from .sequences import Genome, canonical, genome_of, play, random_gate

Mutation = Callable[[Genome, Scenario, np.random.Generator], Genome]


def child(scenario: Scenario, actions: tuple[int, ...], mutations: float, share_gates: float, rng: np.random.Generator) -> tuple[int, ...]:
    """The effective actions of a design that differs from that of ``actions`` by one mutation or more, ``mutations`` on average."""
    return tuple(play(scenario, mutated(genome_of(scenario, actions), scenario, mutations, share_gates, rng), rng))


def mutated(genome: Genome, scenario: Scenario, mutations: float, share_gates: float, rng: np.random.Generator) -> Genome:
    """``genome`` after 1 + Poisson(``mutations`` − 1) mutations."""
    for _ in range(1 + int(rng.poisson(mutations - 1))):
        genome = mutate(genome, scenario, share_gates, rng)
    return genome


def recut(genome: Genome, other: Genome) -> Genome:
    """``genome`` with the cut and assignment of ``other``."""
    return replace(genome, partition=other.partition, assignment=other.assignment)


def crossed(genome: Genome, other: Genome, rng: np.random.Generator) -> Genome:
    """One-point crossover of the gates of ``genome`` and ``other``; cut and assignment come from either."""
    first = int(rng.integers(len(genome.gates) + 1))
    second = int(rng.integers(len(other.gates) + 1))
    joined = replace(genome, gates=(*genome.gates[:first], *other.gates[second:]))
    return recut(joined, other) if rng.random() < 0.5 else joined


def mutate(genome: Genome, scenario: Scenario, share_gates: float, rng: np.random.Generator) -> Genome:
    """``genome`` with one random edit: of its gates with probability ``share_gates``, else of cut, assignment or shots."""
    structural: list[Mutation] = []
    if scenario.design.max_parts > 1:
        structural += [_move_qubit, _exchange_qubits]
    if len(scenario.providers) > 1:
        structural.append(_reassign)
    if scenario.design.shots:
        structural.append(_change_shots)
    placing: list[Mutation] = [_insert, _delete, _replace, _swap]
    choices = structural if structural and rng.random() >= share_gates else placing
    return choices[int(rng.integers(len(choices)))](genome, scenario, rng)


def _insert(genome: Genome, scenario: Scenario, rng: np.random.Generator) -> Genome:
    spot = int(rng.integers(len(genome.gates) + 1))
    gate = random_gate(action_table(scenario), rng)
    return replace(genome, gates=(*genome.gates[:spot], gate, *genome.gates[spot:]))


def _delete(genome: Genome, scenario: Scenario, rng: np.random.Generator) -> Genome:
    if not genome.gates:
        return genome
    spot = int(rng.integers(len(genome.gates)))
    return replace(genome, gates=genome.gates[:spot] + genome.gates[spot + 1 :])


def _replace(genome: Genome, scenario: Scenario, rng: np.random.Generator) -> Genome:
    if not genome.gates:
        return _insert(genome, scenario, rng)
    spot = int(rng.integers(len(genome.gates)))
    gate = random_gate(action_table(scenario), rng)
    return replace(genome, gates=(*genome.gates[:spot], gate, *genome.gates[spot + 1 :]))


def _swap(genome: Genome, scenario: Scenario, rng: np.random.Generator) -> Genome:
    if len(genome.gates) < 2:
        return _insert(genome, scenario, rng)
    first, second = rng.choice(len(genome.gates), size=2, replace=False)
    gates = list(genome.gates)
    gates[first], gates[second] = gates[second], gates[first]
    return replace(genome, gates=tuple(gates))


def _move_qubit(genome: Genome, scenario: Scenario, rng: np.random.Generator) -> Genome:
    qubit = int(rng.integers(len(genome.partition)))
    # One label beyond the present parts opens a new part.
    labels = [label for label in range(min(max(genome.partition) + 2, scenario.design.max_parts)) if label != genome.partition[qubit]]
    if not labels:
        return genome
    label = labels[int(rng.integers(len(labels)))]
    partition = (*genome.partition[:qubit], label, *genome.partition[qubit + 1 :])
    assignment = genome.assignment
    if label >= len(assignment):
        assignment = (*assignment, int(rng.integers(len(scenario.providers))))
    return canonical(replace(genome, partition=partition, assignment=assignment))


def _exchange_qubits(genome: Genome, scenario: Scenario, rng: np.random.Generator) -> Genome:
    """Two qubits of different parts change places; reaches cuts between parts that are full."""
    if len(set(genome.partition)) < 2:
        return _move_qubit(genome, scenario, rng)
    first = int(rng.integers(len(genome.partition)))
    others = [qubit for qubit, part in enumerate(genome.partition) if part != genome.partition[first]]
    second = others[int(rng.integers(len(others)))]
    partition = list(genome.partition)
    partition[first], partition[second] = partition[second], partition[first]
    return canonical(replace(genome, partition=tuple(partition)))


def _reassign(genome: Genome, scenario: Scenario, rng: np.random.Generator) -> Genome:
    part = int(rng.integers(len(genome.assignment)))
    providers = [index for index in range(len(scenario.providers)) if index != genome.assignment[part]]
    provider = providers[int(rng.integers(len(providers)))]
    return replace(genome, assignment=(*genome.assignment[:part], provider, *genome.assignment[part + 1 :]))


def _change_shots(genome: Genome, scenario: Scenario, rng: np.random.Generator) -> Genome:
    levels = [level for level in (None, *range(len(scenario.design.shots))) if level != genome.shots]
    return replace(genome, shots=levels[int(rng.integers(len(levels)))])
