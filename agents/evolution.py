"""Regularised evolution of designs.

Source: Real et al., *Regularized evolution for image classifier architecture search* (2019): the oldest member of the
population dies, the parent is the best of a random sample.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from qumos_env.env.actions import action_table
from qumos_env.scenario import Scenario

from .ask_tell import LAG, run_ask_tell
from .protocol import SearchSummary, SearchTask, Trial
from .sequences import Genome, balanced_actions, canonical, genome_of, play, random_gate
from .settings import AgentSettings, Count, Share, parse_settings

AGENT = "evolution"
Mutation = Callable[[Genome, Scenario, np.random.Generator], Genome]
ATTEMPTS = 20


class Settings(AgentSettings):
    """Settings of regularised evolution.

    Attributes:
        population: members alive at a time.
        tournament: members sampled per parent; more means stronger selection.
        mutations: mean number of mutations of a child; at least one is made.
        share_gates: share of mutations that edit gates; the others edit cut, assignment and shots.
        crossover: chance that a child takes the cut and assignment of a second parent.
        warm_start: evaluate the hand-made designs first and let them breed.
        lag: designs under way at a time.
    """

    population: Count = 40
    tournament: Count = 8
    mutations: Annotated[float, Field(ge=1, le=10_000)] = 1.5
    share_gates: Share = 0.75
    crossover: Share = 0.1
    warm_start: bool = True
    lag: Count = LAG

    @model_validator(mode="after")
    def _tournament_fits(self) -> Self:
        if self.tournament > self.population:
            raise ValueError(f"tournament is {self.tournament}; 1 to population ({self.population}) is expected")
        return self


@dataclass(frozen=True)
class _Member:
    actions: tuple[int, ...]
    reward: float


class EvolutionSearcher:
    """Asks for random designs until the population is full, then for mutated winners of tournaments."""

    def __init__(self, scenario: Scenario, settings: Settings, seed: int, starts: int = 0) -> None:
        self._scenario = scenario
        self._settings = settings
        self._rng = np.random.default_rng(seed)
        self._population: deque[_Member] = deque(maxlen=settings.population)
        self._to_fill = max(settings.population - starts, 0)
        self._asked: set[tuple[int, ...]] = set()

    def ask(self) -> list[int]:
        """A random design while the population fills, later a child."""
        if self._to_fill > 0 or not self._population:
            self._to_fill -= 1
            return balanced_actions(self._scenario, self._rng)
        actions: list[int] = []
        for _ in range(ATTEMPTS):
            actions = self._child()
            if tuple(actions) not in self._asked:
                break
        self._asked.add(tuple(actions))
        return actions

    def tell(self, actions: list[int], reward: float) -> None:
        """Adds a member; a full population loses its oldest one."""
        self._asked.add(tuple(actions))
        self._population.append(_Member(tuple(actions), reward))

    def _child(self) -> list[int]:
        genome = genome_of(self._scenario, self._parent().actions)
        if self._rng.random() < self._settings.crossover:
            other = genome_of(self._scenario, self._parent().actions)
            genome = replace(genome, partition=other.partition, assignment=other.assignment)
        for _ in range(1 + int(self._rng.poisson(self._settings.mutations - 1))):
            genome = mutate(genome, self._scenario, self._settings.share_gates, self._rng)
        return play(self._scenario, genome, self._rng)

    def _parent(self) -> _Member:
        size = min(self._settings.tournament, len(self._population))
        rivals = self._rng.choice(len(self._population), size=size, replace=False)
        return max((self._population[int(index)] for index in sorted(rivals)), key=lambda member: member.reward)


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


def search(
    task: SearchTask,
    *,
    on_trial: Callable[[Trial], None],
    should_stop: Callable[[], bool],
    on_stage: Callable[[str], None],
) -> SearchSummary:
    """Regularised evolution; see ``protocol.Search``."""
    settings = parse_settings(Settings, task.settings, AGENT)
    searcher = EvolutionSearcher(task.scenario, settings, task.seed, starts=len(task.starts))
    return run_ask_tell(task, searcher, on_trial=on_trial, should_stop=should_stop, on_stage=on_stage, lag=settings.lag)
