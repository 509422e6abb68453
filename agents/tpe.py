"""The tree-structured Parzen estimator, by Optuna: a design as a list of named choices, each drawn from what good designs chose.

Source: Bergstra, Bardenet, Bengio and Kégl, *Algorithms for hyper-parameter optimization* (2011). The choices are the part of every
qubit, the provider of every part, the level of shots, and for each of a fixed number of slots the kind of its gate or block (or none) and
the place of it. What the masks of the scenario refuse is repaired as in ``sequences.play``; the estimator hears what the repaired design is
worth under the choices that led to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState, create_trial
from pydantic import Field

from qumos_env.env.actions import Action, action_table
from qumos_env.scenario import Scenario

from .ask_tell import Proposal, ask_tell_search
from .protocol import Outcome
from .racing import Actions
from .sequences import Genome, balanced_actions, genome_of, placing_actions, play
from .settings import Count, SearcherSettings

AGENT = "tpe"
NONE = "none"
ATTEMPTS = 5


class Settings(SearcherSettings):
    """Settings of the tree-structured Parzen estimator.

    Attributes:
        opening: random designs (the starting designs included) before the estimator chooses.
        slots: most gates or blocks that a design can have; starting designs with more are evaluated, but not learned from.
        candidates: draws from what good designs chose, the likeliest of which is taken.
        warm_start: evaluate the hand-made designs first and learn from them.
        lag: designs under way at a time.
    """

    opening: Count = 30
    slots: Annotated[int, Field(ge=1, le=1000)] = 14
    candidates: Count = 24
    warm_start: bool = True


class Choices:
    """How designs and the choices that lead to them belong together."""

    def __init__(self, scenario: Scenario, slots: int) -> None:
        self._scenario = scenario
        self._slots = slots
        self._places: dict[str, list[Action]] = {}
        for action in placing_actions(action_table(scenario)):
            self._places.setdefault(_kind(action), []).append(action)

    def distribution(self, name: str) -> CategoricalDistribution:
        """What the choice called ``name`` is between."""
        return CategoricalDistribution(self._options(name))

    def _options(self, name: str) -> tuple[Any, ...]:
        topic, _, rest = name.partition(" ")
        if topic == "part":
            return tuple(range(self._scenario.design.max_parts))
        if topic == "provider":
            return tuple(range(len(self._scenario.providers)))
        if topic == "shots":
            return (-1, *range(len(self._scenario.design.shots)))
        if topic == "gate":
            return (NONE, *self._places)
        return tuple(range(len(self._places[rest.partition(" ")[2]])))

    def chosen(self, trial: optuna.trial.Trial) -> Genome:
        """The design that ``trial`` chooses."""

        def choose(name: str) -> Any:
            return trial.suggest_categorical(name, self._options(name))

        rules = self._scenario.design
        gates = []
        for slot in range(self._slots):
            kind = choose(f"gate {slot}")
            if kind != NONE:
                places = self._places[kind]
                gates.append(places[choose(f"place {slot} {kind}") if len(places) > 1 else 0])
        shots = choose("shots") if rules.shots else -1
        return Genome(
            partition=(0, *(choose(f"part {qubit}") for qubit in range(1, rules.qubits))) if rules.max_parts > 1 else (0,) * rules.qubits,
            assignment=tuple(choose(f"provider {part}") if len(self._scenario.providers) > 1 else 0 for part in range(rules.max_parts)),
            gates=tuple(gates),
            shots=None if shots < 0 else shots,
        )

    def leading_to(self, genome: Genome) -> dict[str, Any] | None:
        """The choices that lead to ``genome``, or ``None`` where it has more gates than slots."""
        if len(genome.gates) > self._slots:
            return None
        rules = self._scenario.design
        found: dict[str, Any] = {}
        for slot in range(self._slots):
            kind = _kind(genome.gates[slot]) if slot < len(genome.gates) else NONE
            found[f"gate {slot}"] = kind
            if kind != NONE and len(self._places[kind]) > 1:
                found[f"place {slot} {kind}"] = self._places[kind].index(genome.gates[slot])
        if rules.shots:
            found["shots"] = -1 if genome.shots is None else genome.shots
        if rules.max_parts > 1:
            found |= {f"part {qubit}": part for qubit, part in enumerate(genome.partition) if qubit > 0}
        if len(self._scenario.providers) > 1:
            found |= {f"provider {part}": provider for part, provider in enumerate(genome.assignment)}
        return found

    def distributions(self, choices: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """What each of ``choices`` is between."""
        return {name: self.distribution(name) for name in choices}


def _kind(action: Action) -> str:
    return f"{action.gate}-{action.kind}" if action.block else action.gate


class TPESearcher:
    """Asks for what the estimator chooses."""

    def __init__(self, scenario: Scenario, settings: Settings, seed: int, starts: int = 0) -> None:
        self._scenario = scenario
        self._rng = np.random.default_rng(seed)
        self._choices = Choices(scenario, settings.slots)
        self._to_open = max(settings.opening - starts, 0)
        # Its progress lines are for notebooks.
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(n_startup_trials=0, n_ei_candidates=settings.candidates, seed=int(self._rng.integers(2**31)))
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._under_way: dict[Actions, deque[optuna.trial.Trial]] = {}
        self._told: set[Actions] = set()

    def ask(self) -> Proposal:
        """A random design of the opening, or one of the estimator's; one that is not known yet, where it chooses such a one."""
        if self._to_open > 0 or not self._told:
            self._to_open -= 1
            return Proposal(tuple(balanced_actions(self._scenario, self._rng)))
        actions: Actions = ()
        for attempt in range(ATTEMPTS):
            trial = self._study.ask()
            actions = tuple(play(self._scenario, self._choices.chosen(trial), self._rng))
            if (actions not in self._told and actions not in self._under_way) or attempt == ATTEMPTS - 1:
                break
            self._study.tell(trial, state=TrialState.FAIL)
        self._under_way.setdefault(actions, deque()).append(trial)
        return Proposal(actions)

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Tells the estimator what its choices, or those that lead to another design, are worth."""
        actions = proposal.actions
        self._told.add(actions)
        trials = self._under_way.get(actions)
        if trials:
            self._study.tell(trials.popleft(), outcome.reward)
            if not trials:
                del self._under_way[actions]
            return
        choices = self._choices.leading_to(genome_of(self._scenario, actions))
        if choices is not None:
            distributions = self._choices.distributions(choices)
            self._study.add_trial(create_trial(params=choices, distributions=distributions, value=outcome.reward))


search = ask_tell_search(AGENT, Settings, lambda task, settings: TPESearcher(task.scenario, settings, task.seed, starts=len(task.starts)))
