"""The flat action space of a scenario and the state machine that plays it.

An episode goes through phases that only move forward: *cut* (each qubit goes to a part), *assign* (each part goes to a
provider), *gates*, and at last *shots* and *finish*. Where a finished design is measured step by step, *measure* follows, until it
is accepted. ``ActionTable`` lists the actions of a scenario; ``DesignState`` knows which are valid now. Agents and the environment both
play through ``DesignState``, so they obey the same rules.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from typing import Literal

import numpy as np

from ..design import Design, Gate
from ..design.blocks import Block
from ..design.gates import REGISTRY, cuttable_gates
from ..errors import QumosError
from ..scenario import Scenario
from .recent import Recent

Phase = Literal["cut", "assign", "gates", "measure", "done"]
_KIND_ROW = {name: row for row, name in enumerate(REGISTRY)}


@dataclass(frozen=True)
class Action:
    """One action: ``part(j)``, ``assign(p)``, a gate, a block on a part, ``shots(level)``, ``finish``, ``measure`` or ``accept``.

    Attributes:
        kind: ``part``, ``assign``, ``gate``, ``layer``, ``chain``, ``ring``, ``shots``, ``finish``, ``measure`` or ``accept``.
        gate: name of the gate that a gate or block action places.
        targets: the part, provider, qubits or ladder level it refers to, all as indices.
    """

    kind: Literal["part", "assign", "gate", "layer", "chain", "ring", "shots", "finish", "measure", "accept"]
    gate: str = ""
    targets: tuple[int, ...] = ()

    @classmethod
    def of_block(cls, block: Block, part: int) -> Action:
        """The action that places ``block`` on ``part``."""
        return cls(block.kind, block.gate, (part,))

    @property
    def block(self) -> Block | None:
        """The block that the action places on a whole part, if it is that kind of action."""
        return Block(self.kind, self.gate) if self.kind in ("layer", "chain", "ring") else None

    def __str__(self) -> str:
        name = f"{self.gate}-{self.kind}" if self.block else self.gate or self.kind
        return f"{name}({', '.join(map(str, self.targets))})" if self.targets else name


class NumberedActions:
    """Actions by number; printable."""

    def __init__(self, actions: Sequence[Action], owner: str) -> None:
        self.actions = tuple(actions)
        self._owner = owner
        self._index = {action: number for number, action in enumerate(self.actions)}
        self.finish = self._index[Action("finish")]

    def __len__(self) -> int:
        return len(self.actions)

    def __str__(self) -> str:
        return "\n".join(f"{number:4d}  {action}" for number, action in enumerate(self.actions))

    def index(self, action: Action) -> int:
        """The number of ``action``.

        Raises:
            QumosError: there is no such action.
        """
        try:
            return self._index[action]
        except KeyError:
            raise QumosError(f"{self._owner} has no action {action}") from None


class ActionTable(NumberedActions):
    """All actions of a scenario, numbered; printable, and the same for every process.

    Args:
        scenario: the scenario.
        rungs: how many times at most a finished design is measured before it is accepted; 0: ``finish`` is the end, and there are no
            actions ``measure`` and ``accept``. All others have the same numbers either way.
    """

    def __init__(self, scenario: Scenario, rungs: int = 0) -> None:
        rules = scenario.design
        self.scenario = scenario
        actions = list_actions(
            (rules.qubits, rules.max_parts, len(scenario.providers), len(rules.shots)), rules.gates, rules.vocabulary, measured=rungs > 0
        )
        super().__init__(actions, f"scenario {scenario.name}")
        self.step_limit = (rules.max_steps or 2 * (rules.qubits + rules.max_parts + rules.max_gates + 2)) + rungs

    def opening(self, partition: Iterable[int], providers: Iterable[int]) -> list[int]:
        """The actions that cut the register as ``partition`` and assign its parts to ``providers`` (indices)."""
        parts = [self.index(Action("part", targets=(part,))) for part in partition]
        return parts + [self.index(Action("assign", targets=(provider,))) for provider in providers]

    def placing(self, block: Block, part: int, qubits: tuple[int, ...]) -> list[int]:
        """The actions that place ``block`` on ``part``, which has these ``qubits``: one, or its gates where blocks are no actions."""
        action = Action.of_block(block, part)
        if action in self._index:
            return [self._index[action]]
        return [self.index(Action("gate", gate.name, gate.qubits)) for gate in block.gates(qubits)]


def list_actions(
    sizes: tuple[int, int, int, int], gates: Sequence[str], vocabulary: Literal["gates", "blocks", "both"], *, measured: bool
) -> list[Action]:
    """The actions in the order of their numbers.

    Args:
        sizes: numbers of qubits, parts, providers and levels of shots.
        gates: names of the gates that may be placed.
        vocabulary: single gates, blocks, or both.
        measured: whether finished designs are measured until they are accepted.
    """
    qubits, parts, providers, levels = sizes
    actions = [Action("part", targets=(part,)) for part in range(parts)]
    actions += [Action("assign", targets=(provider,)) for provider in range(providers)]
    if vocabulary in ("gates", "both"):
        for name in gates:
            choose = combinations if REGISTRY[name].symmetric else permutations
            actions += [Action("gate", name, chosen) for chosen in choose(range(qubits), REGISTRY[name].qubits)]
    if vocabulary in ("blocks", "both"):
        for part in range(parts):
            actions += [Action.of_block(block, part) for block in Block.of_gates(gates)]
    if vocabulary == "blocks":
        # Blocks stay inside a part, so cuts need their own actions; they are masked where no cut is allowed.
        cuttable = [name for name in cuttable_gates() if name in gates]
        actions += [Action("gate", name, pair) for name in cuttable for pair in combinations(range(qubits), 2)]
    actions += [Action("shots", targets=(level,)) for level in range(levels)]
    actions.append(Action("finish"))
    return [*actions, Action("measure"), Action("accept")] if measured else actions


_TABLES: Recent[ActionTable] = Recent(256)


def action_table(scenario: Scenario, rungs: int = 0) -> ActionTable:
    """The action table of ``scenario``, see ``ActionTable``; the last few are kept."""
    return _TABLES.get(f"{scenario.hash}/{rungs}", lambda: ActionTable(scenario, rungs))


class DesignState:
    """A design in the making: which phase it is in, what may come next, what has been placed.

    Args:
        scenario: the scenario.
        ladder: numbers of draws that a finished design is measured with, one after the other, until it is accepted; none: ``finish`` is
            the end.

    Attributes:
        partition, assignment: the part of each qubit and the provider index of each part, as far as decided.
        gates: gates placed so far, in order.
        shots: index in the scenario's ladder, or ``None``.
        history: the actions that had an effect.
        counts: how often each gate kind acts on each qubit, int ``[kinds, qubits]``, kinds in the order of the registry.
    """

    def __init__(self, scenario: Scenario, ladder: Sequence[int] = ()) -> None:
        self.scenario = scenario
        self.ladder = tuple(ladder)
        self.table = action_table(scenario, len(self.ladder))
        self.partition: list[int] = []
        self.assignment: list[int] = []
        self.gates: list[Gate] = []
        self.shots: int | None = None
        self.history: list[int] = []
        self.counts = np.zeros((len(REGISTRY), scenario.design.qubits), np.int16)
        self.cuts = 0
        self.trainable = False
        self.done = False
        self._rung: int | None = None
        self._placed_by: tuple[tuple[Gate, ...], ...] = ()
        self._budget, self._limits = scenario.cost_limits, scenario.design_limits
        self._mask = self._compute_mask()

    @property
    def phase(self) -> Phase:
        """The current phase."""
        if self.done:
            return "done"
        if self._rung is not None:
            return "measure"
        if len(self.partition) < self.scenario.design.qubits:
            return "cut"
        return "assign" if len(self.assignment) < self.n_parts else "gates"

    @property
    def n_parts(self) -> int:
        """Number of parts opened so far."""
        return max(self.partition, default=-1) + 1

    @property
    def gates_left(self) -> int:
        """What is left of the gate budget."""
        return self.scenario.design.max_gates - len(self.gates)

    @property
    def draws(self) -> int | None:
        """How many draws the finished design is measured with; ``None`` before ``finish``, and without a ladder."""
        return None if self._rung is None else self.ladder[self._rung]

    def mask(self) -> np.ndarray:
        """int8 ``[actions]``: 1 where an action is valid now. Do not write to it."""
        return self._mask

    def apply(self, action: int) -> bool:
        """Takes ``action``; a masked one changes nothing. Returns whether it was valid."""
        if self.done or not 0 <= action < len(self.table) or not self._mask[action]:
            return False
        chosen = self.table.actions[action]
        if chosen.kind == "part":
            self.partition.append(chosen.targets[0])
        elif chosen.kind == "assign":
            self.assignment.append(chosen.targets[0])
        elif chosen.kind == "shots":
            self.shots = chosen.targets[0]
        elif chosen.kind == "finish" and self.ladder:
            self._rung = 0
        elif chosen.kind == "measure" and self._rung is not None:
            self._rung += 1
        elif chosen.kind in ("finish", "accept"):
            self.done = True
        else:
            placed = self._placed_by[action]
            self.gates.extend(placed)
            kind = _KIND_ROW[placed[0].name]
            for gate in placed:
                for qubit in gate.qubits:
                    self.counts[kind, qubit] += 1
            self.trainable = self.trainable or placed[0].trainable
            if chosen.kind == "gate" and len({self.partition[qubit] for qubit in chosen.targets}) > 1:
                self.cuts += 1
                self._spare[self._ends[action]] -= 1
        self.history.append(action)
        if chosen.kind in ("part", "assign") and self.phase == "gates":
            self._enter_gates()
        self._mask = self._compute_mask()
        return True

    def replay(self, actions: Iterable[int]) -> DesignState:
        """Takes ``actions`` in order, skipping those that are masked; returns itself."""
        for action in actions:
            self.apply(action)
        return self

    def copy(self) -> DesignState:
        """The same state, to go on from in another way."""
        other = copy.copy(self)
        other.partition, other.assignment, other.gates = list(self.partition), list(self.assignment), list(self.gates)
        other.history, other.counts = list(self.history), self.counts.copy()
        if self.phase in ("gates", "measure", "done"):
            other._spare = self._spare.copy()
        return other

    def design(self) -> Design:
        """The design as placed so far.

        Raises:
            QumosError: the phases before the gates are not over yet.
        """
        if self.phase in ("cut", "assign"):
            raise QumosError(f"no design yet: the episode is still in its {self.phase} phase")
        names = self.scenario.provider_names
        ladder = self.scenario.design.shots
        return Design(
            partition=tuple(self.partition),
            assignment=tuple(names[provider] for provider in self.assignment),
            gates=tuple(self.gates),
            shots=None if self.shots is None else ladder[self.shots],
        )

    def _compute_mask(self) -> np.ndarray:
        mask = np.zeros(len(self.table), np.int8)
        phase = self.phase
        if self._rung is not None:
            accept = len(mask) - 1
            mask[accept] = 1
            mask[accept - 1] = not self.done and self._rung + 1 < len(self.ladder)
            return mask
        if phase == "done" or self.shots is not None:
            # Shots are chosen last. The finished state keeps a valid action too: agents that mask with -inf would get NaN.
            mask[self.table.finish] = 1
            return mask
        if phase == "cut":
            for part in range(min(self.n_parts + 1, self.scenario.design.max_parts)):
                partition = [*self.partition, part]
                mask[part] = self._limits.fits(np.bincount(partition).tolist()) and self._budget.leaves_room((), max(partition) + 1)
        elif phase == "assign":
            first, sizes = self.scenario.design.max_parts, np.bincount(self.partition).tolist()
            left = self.n_parts - len(self.assignment) - 1
            for provider in range(len(self.scenario.providers)):
                chosen = [*self.assignment, provider]
                mask[first + provider] = self._limits.assignable(sizes, chosen) and self._budget.leaves_room(chosen, left)
        elif phase == "gates":
            left = self.gates_left
            reach = self._structural & (self._cost <= left)
            if not self.trainable:
                # Keep room for the cheapest trainable action, or the episode could not finish.
                reach &= self._is_trainable | (self._cost + self._reserve <= left)
            if self.cuts >= self.scenario.design.max_gate_cuts:
                reach &= ~self._is_cut
            else:
                reach &= ~self._is_cut | (self._spare[self._ends] > 0).all(axis=1)
            mask[:] = reach
            shots = slice(self.table.finish - len(self.scenario.design.shots), self.table.finish)
            mask[shots] = self.trainable
            mask[self.table.finish] = self.trainable
            if self._budget.is_set:
                self._mask_costs(mask)
        return mask

    def _mask_costs(self, mask: np.ndarray) -> None:
        """Masks what would leave the design over budget. With the fewest shots it always is within, so it can be finished."""
        design, ladder = self.design(), self.scenario.design.shots
        for number in np.flatnonzero(mask):
            action = self.table.actions[number]
            if action.kind == "finish":
                mask[number] = self._budget.allows(design)
            elif action.kind == "shots":
                mask[number] = self._budget.allows(replace(design, shots=ladder[action.targets[0]]))
            else:
                grown = replace(design, gates=(*design.gates, *self._placed_by[number]), shots=self._budget.fewest_shots)
                mask[number] = self._budget.allows(grown)

    def _runs(self, part: int, gate: str) -> bool:
        return self._limits.runs(self.assignment[part], gate)

    def _enter_gates(self) -> None:
        """What partition and assignment fix for the rest of the episode, as arrays over the actions."""
        parts = [tuple(q for q, part in enumerate(self.partition) if part == index) for index in range(self.n_parts)]
        spare = [self._limits.ancillas(provider, len(qubits)) for provider, qubits in zip(self.assignment, parts, strict=True)]
        placed_by: list[tuple[Gate, ...]] = []
        cut = []
        ends = np.zeros((len(self.table), 2), int)
        for number, action in enumerate(self.table.actions):
            placed: tuple[Gate, ...] = ()
            spans = False
            if action.kind == "gate":
                homes = {self.partition[qubit] for qubit in action.targets}
                spans = len(homes) > 1
                if spans:
                    valid = REGISTRY[action.gate].cuttable
                    ends[number, :] = sorted(homes)
                else:
                    # Where blocks are the vocabulary, single gates are there for the cuts only.
                    valid = self._runs(homes.pop(), action.gate) and self.scenario.design.vocabulary != "blocks"
                if valid:
                    placed = (Gate(action.gate, action.targets),)
            elif action.block is not None and action.targets[0] < len(parts) and self._runs(action.targets[0], action.gate):
                placed = action.block.gates(parts[action.targets[0]])
            placed_by.append(placed)
            cut.append(spans)
        self._placed_by = tuple(placed_by)
        self._is_cut, self._ends, self._spare = np.array(cut), ends, np.array(spare)
        self._cost = np.array([len(placed) for placed in placed_by])
        self._structural = self._cost > 0
        self._is_trainable = np.array([bool(placed) and placed[0].trainable for placed in placed_by])
        self._reserve = int(self._cost[self._is_trainable & ~self._is_cut].min())
