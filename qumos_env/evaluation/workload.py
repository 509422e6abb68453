"""The rows of a scenario, drawn, preprocessed and attacked without loot: everything in an evaluation but the design."""

from __future__ import annotations

import hashlib
from copy import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..data import Draw, Preprocessor, make_protocol
from ..design import Design
from ..design.encodings import encoding_called
from ..model.qnn import QNN
from ..scenario import Scenario
from .choice import Accuracies, strongest
from .controls import QNN_CONTROL, RAW_CONTROLS, reference_qnn
from .interception import ThiefRows, fit_encoding
from .queries import Questions
from .surrogates.models import LABELS, Ground, label_goal, unaided

Rows = Literal["search", "test"]
ROWS: tuple[Rows, ...] = ("search", "test")


@dataclass(frozen=True)
class PreparedDraw:
    """One draw, ready for training and attack. Encoded inputs are angles in radians, ``[rows, n_qubits]``.

    Attributes:
        key: seeds of everything that is drawn for it.
        rows: the row numbers that were drawn.
        owner: the owner's preprocessing, fitted on the train rows.
        train, score, nonmembers, tuning: encoded with the owner's preprocessing (fitted on the train rows), with their labels: of train
            rows and non-members the observed ones, else the true ones.
        stranger: the thief's preprocessing, fitted on its rows.
        thief: the thief's rows as it can encode them; ``queries`` are the same rows as the owner's service encodes them.
        targets: tuning rows, then scored rows, as the thief can encode them.
        raw_thief, raw_targets: thief rows and targets as raw features.
    """

    key: tuple[int, int]
    rows: Draw
    owner: Preprocessor
    train: np.ndarray
    train_labels: np.ndarray
    score: np.ndarray
    score_labels: np.ndarray
    nonmembers: np.ndarray
    nonmember_labels: np.ndarray
    stranger: Preprocessor
    thief: ThiefRows
    thief_labels: np.ndarray
    queries: np.ndarray
    targets: ThiefRows
    tuning_labels: np.ndarray
    raw_thief: np.ndarray
    raw_targets: np.ndarray
    tuning: np.ndarray

    @property
    def target_labels(self) -> np.ndarray:
        """True labels of the targets."""
        return np.concatenate([self.tuning_labels, self.score_labels])


@dataclass(frozen=True)
class Control:
    """The strongest no-loot control: its name, and its accuracy on the scored and on the tuning rows of every draw, ``[K]``."""

    name: str
    accuracies: np.ndarray
    tuning: np.ndarray


class Workload:
    """Data set, draws and controls of a scenario. Preparing is lazy and kept, so a design pays only for itself."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.protocol = make_protocol(scenario.data, scenario.draws, scenario.design.qubits)
        self.n_classes = len(self.protocol.dataset.class_names)
        self._draws: dict[tuple[int, Rows], tuple[PreparedDraw, ...]] = {}
        self._controls: dict[tuple[int, Rows], dict[str, Accuracies]] = {}
        self._grounds: dict[tuple[int, Rows, range], Ground] = {}
        self._questions: dict[tuple[int, Rows, range], Questions] = {}

    @property
    def digest(self) -> str:
        """SHA-256 of the data set's content: a file of the same name may change."""
        dataset = self.protocol.dataset
        return hashlib.sha256(np.ascontiguousarray(dataset.features).tobytes() + dataset.labels.tobytes()).hexdigest()

    def draws(self, seed: int, rows: Rows) -> tuple[PreparedDraw, ...]:
        """The K draws of evaluation seed ``seed``, scored on held-out rows (``search``) or on the fixed test split (``test``)."""
        if (seed, rows) not in self._draws:
            drawn = self.protocol.draws(seed)
            self._draws[seed, rows] = tuple(self._prepare(draw, (seed, index), rows) for index, draw in enumerate(drawn))
        return self._draws[seed, rows]

    def control(self, seed: int, rows: Rows, count: int | None = None) -> Control:
        """The control that is best on the tuning rows, pooled over the first ``count`` draws, default all K."""
        if (seed, rows) not in self._controls:
            self._controls[seed, rows] = self._controlled(self.draws(seed, rows), self.ground(seed, rows))
        found = {name: one[np.arange(len(one.tuning))[:count]] for name, one in self._controls[seed, rows].items()}
        name = strongest(found)
        return Control(name, found[name].scored, found[name].tuning)

    def ground(self, seed: int, rows: Rows, numbers: range | None = None) -> Ground:
        """What the features of the thief's rows and its targets give; in the draws numbered ``numbers``, default all K."""
        numbers = numbers or range(self.scenario.draws.count)
        if (seed, rows, numbers) not in self._grounds:
            draws = self.draws(seed, rows)[numbers.start : numbers.stop]
            self._grounds[seed, rows, numbers] = Ground.of([draw.raw_thief for draw in draws], [draw.raw_targets for draw in draws])
        return self._grounds[seed, rows, numbers]

    def questions(self, seed: int, rows: Rows, numbers: range | None = None) -> Questions:
        """What a customer asks, by the threat section of the scenario; in the draws numbered ``numbers``, default all K."""
        numbers = numbers or range(self.scenario.draws.count)
        if (seed, rows, numbers) not in self._questions:
            draws = self.draws(seed, rows)[numbers.start : numbers.stop]
            drawn = [(draw.key, draw.rows, draw.owner, _scored(draw.rows, rows)) for draw in draws]
            self._questions[seed, rows, numbers] = Questions.of(self.scenario, self.protocol.dataset.features, drawn)
        return self._questions[seed, rows, numbers]

    def serving(self, scenario: Scenario) -> Workload:
        """The same rows, draws and controls for a scenario that differs in its providers only."""
        other = copy(self)
        other.scenario = scenario
        return other

    def model(self, design: Design) -> QNN:
        """``design`` as a model that answers as the scenario's providers would."""
        scenario = self.scenario
        return QNN(design, self.n_classes, scenario.model, scenario.data.axis, scenario.service_noise)

    def owner(self, train: np.ndarray) -> Preprocessor:
        """The owner's preprocessing, fitted on the rows numbered ``train``."""
        features, labels = self.protocol.dataset.features, self.protocol.observed_labels
        return Preprocessor.fit(features[train], self.scenario.data, self.scenario.design.qubits, labels=labels[train])

    def _prepare(self, draw: Draw, key: tuple[int, int], rows: Rows) -> PreparedDraw:
        features, labels, observed = self.protocol.dataset.features, self.protocol.dataset.labels, self.protocol.observed_labels
        section, width = self.scenario.data, self.scenario.design.qubits
        owner = self.owner(draw.train)
        stranger = Preprocessor.fit(features[draw.thief], section, width, labels=labels[draw.thief])
        scored = _scored(draw, rows)
        targets = np.concatenate([draw.tuning, scored])
        queries = owner.transform(features[draw.thief])

        seen = np.concatenate([draw.thief, targets])
        angles = fit_encoding(features[draw.thief], queries, features[seen])
        intercepted = encoding_called(section.encoding).settle(angles, section.angle_range)

        return PreparedDraw(
            key=key,
            rows=draw,
            owner=owner,
            train=owner.transform(features[draw.train]),
            train_labels=observed[draw.train],
            score=owner.transform(features[scored]),
            score_labels=labels[scored],
            nonmembers=owner.transform(features[draw.nonmembers]),
            nonmember_labels=observed[draw.nonmembers],
            stranger=stranger,
            thief=ThiefRows(intercepted[: len(draw.thief)], stranger.transform(features[draw.thief])),
            thief_labels=labels[draw.thief],
            queries=queries,
            targets=ThiefRows(intercepted[len(draw.thief) :], stranger.transform(features[targets])),
            tuning_labels=labels[draw.tuning],
            raw_thief=features[draw.thief],
            raw_targets=features[targets],
            tuning=owner.transform(features[draw.tuning]),
        )

    def _controlled(self, draws: tuple[PreparedDraw, ...], ground: Ground) -> dict[str, Accuracies]:
        """How well every model does without loot."""
        model = reference_qnn(self.scenario, self.n_classes)
        labels = np.stack([draw.thief_labels for draw in draws])
        trained = model.train_many(np.stack([draw.thief.own for draw in draws]), labels, [draw.key for draw in draws])
        predictions = {QNN_CONTROL: model.probabilities(trained, np.stack([draw.targets.own for draw in draws])).argmax(axis=-1)}
        for name, scores in unaided(ground, {LABELS: label_goal(labels, self.n_classes)}).items():
            predictions[name] = scores[:, labels.shape[1] :].argmax(axis=-1)
        for name, fit in RAW_CONTROLS.items():
            predictions[name] = np.stack([fit(draw.raw_thief, draw.thief_labels, draw.raw_targets) for draw in draws])
        truth, tuning = np.stack([draw.target_labels for draw in draws]), len(draws[0].tuning_labels)
        return {name: Accuracies.of(predicted, truth, tuning) for name, predicted in predictions.items()}


def _scored(draw: Draw, rows: Rows) -> np.ndarray:
    return draw.score if rows == "search" else draw.test
