"""Theft of a model by whoever broke into one provider, or into several that it holds together.

The adversary sees the trained angles of every part that its providers run, owns a few labelled rows, may query the service
with them, and knows the scenario (register width, classes, kind of head) and the partition. It does not have the owner's head
and preprocessing, nor the other parts. Its own preprocessing is fitted on its rows alone: from its queries it knows how the
owner encodes those rows on the qubits it holds, and fits a map from raw features to these angles; for other qubits it has to
make up its own. (A thief
that ignores the angles it intercepts and only fits its own PCA runs the stolen circuit on the wrong features: theft then looks
about .1 weaker than it is.) Every figure has to be read beside the no-loot controls of ``qumos_env.evaluation.controls``, which use
the same rows.

The tier ``stacked`` is that of rewards: closed-form models on raw features *and* what the stolen circuits give for them (see
``qumos_env.evaluation.surrogates``). It is as fast as it is strong, since everything that the loot lacks is learned from features.

Others train quantum models: ``frozen-head`` a new linear head on the stolen circuits; ``fine-tune`` goes on to train their angles
too; ``guessed-rest`` puts a hand-made circuit in the place of what is missing and trains it to repeat the service's answers.

A gate that is cut between two parts leaves the thief of one side with five variants per cut: the tier ``cut-variants`` puts a linear head
on what all of them read. The angle of a cut gate never leaves the owner. A thief of both sides infers it from answers, for ``stacked``;
the tiers that train a model guess it, and fine-tuning goes on from the guess.

Audits add ``as-is``: the stolen circuits run as they are, and nothing is trained. Qubits that are not held read 0. The heads
``scaled`` and ``fixed`` tie every qubit to a class, so the thief puts their untrained form (no biases) on top and needs no row.
``linear`` has no such tie: each class is represented by the mean readout of the thief's rows of that class, and a target is given
the class of the nearest mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from ..design import Design, Gate
from ..design.ansatz import ry_cz_blocks
from ..design.circuits import Fragment, initial_angles, joint_fragments, part_fragments
from ..design.gate_cuts import MAX_GATE_CUTS, cut_angles
from ..errors import unknown
from ..model.cutting.estimator import CutEngine
from ..model.cutting.inference import infer_angles
from ..model.heads import Head, LinearHead, make_head, softmax
from ..model.stack import CircuitStack
from ..model.training import Parameters, one_hot, train_stack
from ..scenario.sections import ModelSection, ThreatSection
from ..seeds import label
from .interception import ThiefRows

Source = Literal["labels", "queries"]
"""What a thief learns from: true labels of its rows, or the service's answers to them."""
STACKED = "stacked"
CUT_VARIANTS = "cut-variants"
_LEAST_SPREAD = 1e-2  # a reading that hardly differs between rows is not blown up
_Keys = Sequence[Sequence[int]]


@dataclass(frozen=True)
class _Lesson:
    """What a tier works with: encoded rows and targets, the class probabilities to learn, seeds, and Adam steps."""

    inputs: np.ndarray
    goal: np.ndarray
    targets: np.ndarray
    keys: _Keys
    steps: int


class Thief:
    """The thief of one provider or of a coalition of them, compiled once per design and run on every draw.

    Args:
        design: the victim's design.
        provider: the provider broken into, or several; one that runs no part leaves a thief with nothing but its queries.
        n_classes: number of classes.
        model: the scenario's model section (known to the thief).
        threat: its threat section.
        axis: rotation axis of the encoding.
    """

    def __init__(
        self, design: Design, provider: str | Sequence[str], n_classes: int, model: ModelSection, threat: ThreatSection, axis: str
    ) -> None:
        providers = (provider,) if isinstance(provider, str) else tuple(provider)
        self.provider = "+".join(providers)
        self.n_classes = n_classes
        self.threat = threat
        self.learning_rate = model.learning_rate
        self.n_qubits = design.n_qubits
        held = {part.index for part in design.parts if part.provider in providers}
        self._holds = np.array([part in held for part in design.partition])
        self.stolen = CircuitStack(joint_fragments(design, axis, held), design.n_qubits)
        known = [weight for engine in self.stolen.engines for weight in engine.weights]
        self._angles = np.isin(np.arange(design.n_trainable), known)
        self._secret = self._angles & np.isin(np.arange(design.n_trainable), cut_angles(design))
        touched = {design.partition[qubit] for cut in design.cut_gates for qubit in cut.gate.qubits}
        self._cut_parts = sorted(held & touched)
        self._cut = CutEngine(design, axis) if self._cut_parts and len(design.cut_gates) <= MAX_GATE_CUTS else None
        self._held = sorted(held)
        self._design, self._axis = design, axis
        self.linear_head = LinearHead(design.n_qubits, n_classes)
        self.known_head = make_head(model.head, design.n_qubits, n_classes)
        self._tied = model.head != "linear"
        self._empty = CircuitStack([], design.n_qubits)

    @cached_property
    def guess(self) -> Design:
        """A guess of what it does not hold."""
        return guess_rest(self._design, set(self._held))

    @cached_property
    def guessed(self) -> CircuitStack:
        """The guess, to be trained."""
        fragments: Sequence[Fragment] = part_fragments(self.guess, self._axis)
        return CircuitStack([fragment for index, fragment in enumerate(fragments) if index not in self._held], self.n_qubits)

    @property
    def holds_any(self) -> bool:
        """Whether it holds a part at all."""
        return bool(self._held)

    def tiers(self, chosen: Sequence[str]) -> list[str]:
        """The tiers ``chosen``, and that of the variants where the thief holds any."""
        return [tier for tier in chosen if tier != CUT_VARIANTS] + ([CUT_VARIANTS] if self._cut is not None else [])

    def rest(self, rows: ThiefRows, targets: ThiefRows) -> np.ndarray:
        """Its own encoding of ``rows``, then ``targets``, for the qubits that it does not hold: ``[K, rows + targets, qubits]``."""
        return np.concatenate([rows.own, targets.own], axis=1)[..., ~self._holds]

    def readouts(
        self, loot: Parameters, rows: ThiefRows, targets: ThiefRows, queries: np.ndarray, answers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """What the stolen circuits give for ``rows``, then ``targets``, ``[K, rows + targets, F]``, and the class sums of their ⟨Z⟩.

        The sums are logits of the known head in its untrained form; ``None`` where the head ties no qubit to a class. With gate cuts the
        readouts are those of all variants; who holds both sides of a cut infers its angle from ``answers`` ``[K, rows, n_classes]`` to
        ``queries`` ``[K, rows, n_qubits]``, which it intercepts, and has ⟨Z⟩ of the whole circuit too.
        """
        inputs = np.concatenate([self._encoded(rows), self._encoded(targets)], axis=1)
        angles = np.where(self._angles, loot.angles, 0.0)
        untrained = self.known_head.initial(np.random.default_rng(0))
        if self._cut is not None and self._secret.any():
            tie = self.known_head.logits(untrained, np.eye(self.n_qubits)) if self._tied else None
            inferred = infer_angles(self._cut, self._held, tie, angles, queries, answers)
            numbers = list(cut_angles(self._cut.design))
            angles[:, numbers] = np.where(self._secret[numbers], inferred, angles[:, numbers])
        values = self._readout(angles, inputs)
        sums = self.known_head.logits(np.tile(untrained, (len(values), 1)), values) if self._tied else None
        readouts = values[..., self._holds]
        if self._cut is not None:
            readouts = np.concatenate([readouts, self._cut.variant_readout(self._held, angles, inputs)], axis=-1)
            readouts = _on_one_scale(readouts)
        return readouts, sums

    def attack(
        self,
        tier: str,
        loot: Parameters,
        rows: ThiefRows,
        labels: np.ndarray,
        answers: np.ndarray,
        targets: ThiefRows,
        keys: Sequence[Sequence[int]],
        *,
        source: Source | None = None,
        steps: int | None = None,
    ) -> np.ndarray:
        """Class probabilities ``[K, targets, n_classes]`` that the thief's models give for ``targets``; all K draws at once.

        Args:
            tier: see the module.
            loot: the victims' trained parameters; only the angles of the held parts are used, and none of cut gates.
            rows, labels, answers: the thief's rows, their labels ``[K, rows]``, and the service's answers ``[K, rows, n_classes]``.
            targets: the rows to classify.
            keys: per draw, seeds of what the thief guesses.
            source: what it learns from; default the labels, except that ``guessed-rest`` learns from the answers.
            steps: Adam steps; default the scenario's.

        Raises:
            QumosError: no such tier.
            EvaluationFailure: a thief's training diverged.
        """
        if tier not in AUDIT_TIERS:
            raise unknown("theft tier", tier, AUDIT_TIERS)
        source = source or ("queries" if tier == "guessed-rest" else "labels")
        goal = answers if source == "queries" else one_hot(labels, self.n_classes)
        lesson = _Lesson(self._encoded(rows), goal, self._encoded(targets), keys, steps or self.threat.steps)
        angles = np.where(self._angles, loot.angles, 0.0)
        if self._secret.any():
            generators = [np.random.default_rng([*key, label("guessed cut angles")]) for key in keys]
            guesses = np.stack([generator.uniform(-np.pi, np.pi, len(self._secret)) for generator in generators])
            angles = np.where(self._secret, guesses, angles)
        return AUDIT_TIERS[tier](self, angles, lesson)

    def _encoded(self, rows: ThiefRows) -> np.ndarray:
        return np.where(self._holds, rows.intercepted, rows.own)

    def _readout(self, angles: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """⟨Z⟩ ``[K, rows, n_qubits]`` of the stolen circuits; 0 for qubits that are not held."""
        return self.stolen.readout(angles, inputs)

    def _as_is(self, angles: np.ndarray, lesson: _Lesson) -> np.ndarray:
        features = self._readout(angles, lesson.targets)
        if self._tied:
            untrained = self.known_head.initial(np.random.default_rng(0))
            return softmax(self.known_head.logits(np.tile(untrained, (len(features), 1)), features))
        return softmax(nearest_mean_logits(self._readout(angles, lesson.inputs), lesson.goal, features))

    def _frozen_head(self, angles: np.ndarray, lesson: _Lesson) -> np.ndarray:
        features = self._readout(angles, lesson.inputs)
        start = Parameters(np.zeros((len(features), 0)), self._linear_start(lesson.keys))
        trained = self._trained(self._empty, self.linear_head, lesson, start, features)
        return softmax(self.linear_head.logits(trained.head, self._readout(angles, lesson.targets)))

    def _fine_tune(self, angles: np.ndarray, lesson: _Lesson) -> np.ndarray:
        start = Parameters(angles, self._linear_start(lesson.keys))
        trained = self._trained(self.stolen, self.linear_head, lesson, start)
        return softmax(self.linear_head.logits(trained.head, self.stolen.readout(trained.angles, lesson.targets)))

    def _guessed_rest(self, angles: np.ndarray, lesson: _Lesson) -> np.ndarray:
        features = self._readout(angles, lesson.inputs)
        start = Parameters(
            np.stack([initial_angles(self.guess, [*key, label("guessed rest")]) for key in lesson.keys]),
            np.stack([self.known_head.initial(np.random.default_rng([*key, label("guessed rest")])) for key in lesson.keys]),
        )
        trained = self._trained(self.guessed, self.known_head, lesson, start, features)
        readout = self._readout(angles, lesson.targets) + self.guessed.readout(trained.angles, lesson.targets)
        return softmax(self.known_head.logits(trained.head, readout))

    def _cut_variants(self, angles: np.ndarray, lesson: _Lesson) -> np.ndarray:
        if self._cut is None:
            return self._frozen_head(angles, lesson)
        n_rows = lesson.inputs.shape[1]
        together = np.concatenate([lesson.inputs, lesson.targets], axis=1)
        readings = _on_one_scale(self._cut.variant_readout(self._held, angles, together), n_rows)
        features, targets = readings[:, :n_rows], readings[:, n_rows:]
        head = LinearHead(features.shape[-1], self.n_classes)
        heads = np.stack([head.initial(np.random.default_rng([*key, label("linear head")])) for key in lesson.keys])
        start = Parameters(np.zeros((len(features), 0)), heads)
        trained = self._trained(CircuitStack([], features.shape[-1]), head, replace(lesson, inputs=features), start, features)
        return softmax(head.logits(trained.head, targets))

    def _trained(self, stack: CircuitStack, head: Head, lesson: _Lesson, start: Parameters, frozen: np.ndarray | None = None) -> Parameters:
        return train_stack(stack, head, lesson.inputs, lesson.goal, start, lesson.steps, self.learning_rate, frozen=frozen)

    def _linear_start(self, keys: _Keys) -> np.ndarray:
        return np.stack([self.linear_head.initial(np.random.default_rng([*key, label("linear head")])) for key in keys])


def _on_one_scale(readings: np.ndarray, rows: int | None = None) -> np.ndarray:
    """Some hundred ``readings`` ``[K, rows, F]`` on the scale of their differences between the first ``rows`` rows."""
    known = readings[:, :rows]
    return (readings - known.mean(axis=1, keepdims=True)) / (known.std(axis=1, keepdims=True) + _LEAST_SPREAD)


def nearest_mean_logits(features: np.ndarray, goal: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """−½ |target − class mean|², up to a constant per target: logits ``[K, targets, classes]`` of the nearest class mean.

    Args:
        features: of labelled rows, ``[K, rows, f]``.
        goal: class probabilities of these rows ``[K, rows, classes]``; they weight the means.
        targets: ``[K, targets, f]``.
    """
    weights = goal.swapaxes(-1, -2)
    means = weights @ features / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-12)
    return targets @ means.swapaxes(-1, -2) - 0.5 * np.sum(means**2, axis=-1)[..., None, :]


def guess_rest(design: Design, held: set[int]) -> Design:
    """A one-layer RY-CZ-RY ansatz on every part that is not ``held``; the held parts stay empty."""
    gates: list[Gate] = []
    for part in design.parts:
        if part.index not in held:
            for block in ry_cz_blocks(1):
                gates += block.fitted(part.qubits).gates(part.qubits)
    return Design(design.partition, design.assignment, tuple(gates))


_Tier = Callable[[Thief, np.ndarray, _Lesson], np.ndarray]
TIERS: dict[str, _Tier] = {
    "frozen-head": Thief._frozen_head,
    "fine-tune": Thief._fine_tune,
    "guessed-rest": Thief._guessed_rest,
}
"""The tiers that train a model, of those that a scenario may name beside ``stacked``."""
AUDIT_TIERS: dict[str, _Tier] = {"as-is": Thief._as_is, **TIERS, CUT_VARIANTS: Thief._cut_variants}
"""The same of an audit, the last one where there are cuts."""
