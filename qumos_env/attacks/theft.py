"""Theft of a model by whoever broke into one provider.

The adversary sees the trained angles of every part that its provider runs, owns a few labelled rows, may query the service
with them, and knows the scenario (register width, classes, kind of head) and the partition. It does not have the owner's head
and preprocessing, nor the other parts. Its own preprocessing is fitted on its rows alone: from its queries it knows how the
owner encodes those rows on the qubits it holds, and fits a map from raw features to these angles; for other qubits it has to
make up its own. (A thief
that ignores the angles it intercepts and only fits its own PCA runs the stolen circuit on the wrong features: theft then looks
about .1 weaker than it is.) Every figure has to be read beside the no-loot controls of ``qumos_env.attacks.controls``, which use
the same rows.

Tiers: ``frozen-head`` trains a new linear head on the stolen circuits; ``fine-tune`` goes on to train their angles too;
``guessed-rest`` puts a hand-made circuit in the place of what is missing and trains it to repeat the service's answers. Those
answers are worth something without any loot: reports set beside it a thief that guesses everything (``query_control``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..actions import block_gates
from ..ansatz import ring_or_chain, ry_cz_blocks
from ..circuits import Block, initial_angles, joint_blocks, part_blocks
from ..design import Design, Gate
from ..heads import LinearHead, make_head, softmax
from ..model import CircuitStack, Parameters, one_hot, train_stack
from ..scenario import ModelSection, ThreatSection

_Keys = Sequence[Sequence[int]]


@dataclass(frozen=True)
class ThiefRows:
    """Rows as the thief can encode them, ``[rows, n_qubits]``: as fitted to intercepted queries, and by its own preprocessing.

    With a leading axis, the rows of many draws.
    """

    intercepted: np.ndarray
    own: np.ndarray

    @classmethod
    def stack(cls, many: Sequence[ThiefRows]) -> ThiefRows:
        """The rows of many draws as one, with a leading axis."""
        return cls(np.stack([one.intercepted for one in many]), np.stack([one.own for one in many]))


class Thief:
    """The thief of one provider, compiled once per design and run on every draw.

    Args:
        design: the victim's design.
        provider: the provider broken into; one that runs no part leaves a thief with nothing but its queries.
        n_classes: number of classes.
        model: the scenario's model section (known to the thief).
        threat: its threat section.
        axis: rotation axis of the encoding.
    """

    def __init__(
        self, design: Design, provider: str, n_classes: int, model: ModelSection, threat: ThreatSection, axis: str
    ) -> None:
        self.provider = provider
        self.n_classes = n_classes
        self.threat = threat
        self.learning_rate = model.learning_rate
        self.n_qubits = design.n_qubits
        held = {part.index for part in design.held_by(provider)}
        self._holds = np.array([part in held for part in design.partition])
        self.stolen = CircuitStack(joint_blocks(design, axis, held), design.n_qubits)
        self.guess = _guess(design, held)
        guessed: Sequence[Block] = part_blocks(self.guess, axis)
        self.rest = CircuitStack([block for index, block in enumerate(guessed) if index not in held], design.n_qubits)
        self.linear_head = LinearHead(design.n_qubits, n_classes)
        self.known_head = make_head(model.head, design.n_qubits, n_classes)
        self._empty = CircuitStack([], design.n_qubits)

    def attack(
        self,
        tier: str,
        loot: Parameters,
        rows: ThiefRows,
        labels: np.ndarray,
        answers: np.ndarray,
        targets: ThiefRows,
        keys: Sequence[Sequence[int]],
    ) -> np.ndarray:
        """Class probabilities ``[K, targets, n_classes]`` that the thief's models give for ``targets``; all K draws at once.

        Args:
            tier: see the module.
            loot: the victims' trained parameters; only the angles of the held parts are used.
            rows, labels, answers: the thief's rows, their labels ``[K, rows]``, and the service's answers ``[K, rows, n_classes]``.
            targets: the rows to classify.
            keys: per draw, seeds of what the thief guesses.

        Raises:
            EvaluationFailure: a thief's training diverged.
        """
        goal = answers if tier == "guessed-rest" else one_hot(labels, self.n_classes)
        return TIERS[tier](self, loot, self._encoded(rows), goal, self._encoded(targets), keys)

    def _encoded(self, rows: ThiefRows) -> np.ndarray:
        return np.where(self._holds, rows.intercepted, rows.own)

    def _frozen_head(self, loot: Parameters, inputs: np.ndarray, goal: np.ndarray, targets: np.ndarray, keys: _Keys) -> np.ndarray:
        features = self.stolen.readout(loot.angles, inputs)
        start = Parameters(np.zeros((len(inputs), 0)), self._linear_start(keys))
        trained = train_stack(self._empty, self.linear_head, inputs, goal, start, *self._effort, frozen=features)
        return softmax(self.linear_head.logits(trained.head, self.stolen.readout(loot.angles, targets)))

    def _fine_tune(self, loot: Parameters, inputs: np.ndarray, goal: np.ndarray, targets: np.ndarray, keys: _Keys) -> np.ndarray:
        start = Parameters(loot.angles, self._linear_start(keys))
        trained = train_stack(self.stolen, self.linear_head, inputs, goal, start, *self._effort)
        return softmax(self.linear_head.logits(trained.head, self.stolen.readout(trained.angles, targets)))

    def _guessed_rest(self, loot: Parameters, inputs: np.ndarray, goal: np.ndarray, targets: np.ndarray, keys: _Keys) -> np.ndarray:
        features = self.stolen.readout(loot.angles, inputs)
        start = Parameters(
            np.stack([initial_angles(self.guess, [*key, 0x6E55]) for key in keys]),
            np.stack([self.known_head.initial(np.random.default_rng([*key, 0x6E55])) for key in keys]),
        )
        trained = train_stack(self.rest, self.known_head, inputs, goal, start, *self._effort, frozen=features)
        readout = self.stolen.readout(loot.angles, targets) + self.rest.readout(trained.angles, targets)
        return softmax(self.known_head.logits(trained.head, readout))

    @property
    def _effort(self) -> tuple[int, float]:
        return self.threat.steps, self.learning_rate

    def _linear_start(self, keys: Sequence[Sequence[int]]) -> np.ndarray:
        return np.stack([self.linear_head.initial(np.random.default_rng([*key, 0x11EA])) for key in keys])


def fit_encoding(features: np.ndarray, angles: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The angles ``[targets, n_qubits]`` that a ridge regression from raw ``features`` to intercepted ``angles`` predicts.

    Solved in the space of the few rows; the ridge is a thousandth of the mean squared norm of a row, enough to be well-posed.
    """
    centre, level = features.mean(axis=0), angles.mean(axis=0)
    rows = features - centre
    gram = rows @ rows.T
    ridge = 1e-3 * max(float(np.trace(gram)) / len(rows), 1e-12)
    coefficients = rows.T @ np.linalg.solve(gram + ridge * np.eye(len(rows)), angles - level)
    return (targets - centre) @ coefficients + level


def _guess(design: Design, held: set[int]) -> Design:
    """A one-layer RY-CZ-RY ansatz on every part that is not ``held``; the held parts stay empty."""
    gates: list[Gate] = []
    for part in design.parts:
        if part.index not in held:
            for block in ry_cz_blocks(part.index, 1):
                gates += block_gates(ring_or_chain(block, part.qubits), part.qubits)
    return Design(design.partition, design.assignment, tuple(gates))


_Tier = Callable[[Thief, Parameters, np.ndarray, np.ndarray, np.ndarray, _Keys], np.ndarray]
TIERS: dict[str, _Tier] = {
    "frozen-head": Thief._frozen_head,
    "fine-tune": Thief._fine_tune,
    "guessed-rest": Thief._guessed_rest,
}
