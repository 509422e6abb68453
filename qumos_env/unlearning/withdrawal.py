"""What has to be forgotten: which training rows are withdrawn, and all that a mechanism needs to know about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..data import Preprocessor
from ..errors import QumosError, shown, unknown
from ..evaluation.service import Service
from ..files import read_text
from ..model.qnn import QNN
from ..seeds import label

CLASS_PREFIX = "class:"
_MOST_BYTES = 64 * 2**20  # of a file of row numbers
_RANGE = re.compile(r"\s*(\d{1,18})\s*(?:-\s*(\d{1,18})\s*)?")


@dataclass(frozen=True, eq=False)
class Withdrawal:
    """Trained models, and the training rows that each of them has to forget.

    Attributes:
        service: M trained models of one design, one per draw.
        forget: which training rows of each draw are withdrawn, bool ``[M, rows]``; at least one, and two classes are left.
        start: number of the initial parameters; 0 are those that the models were trained from.
    """

    service: Service
    forget: np.ndarray
    start: int = 0

    @property
    def model(self) -> QNN:
        """The design as a model."""
        return self.service.model

    @cached_property
    def train(self) -> np.ndarray:
        """Numbers of the training rows, ``[M, rows]``."""
        return self.service.together("train")

    @cached_property
    def labels(self) -> np.ndarray:
        """Classes of the training rows as they were trained on, ``[M, rows]``."""
        return self.service.observed_labels[self.train]

    @cached_property
    def inputs(self) -> np.ndarray:
        """Training rows as the models were trained on them, angles ``[M, rows, n_qubits]``."""
        return self.service.encode(self.train)

    @cached_property
    def unseen(self) -> np.ndarray:
        """Numbers of rows that no model was trained on, ``[M, others]``: to choose things by, no figure is scored on them."""
        return self.service.together("tuning")

    @cached_property
    def refitted(self) -> tuple[Preprocessor, ...]:
        """The owner's preprocessing of every draw, fitted on the retained rows alone."""
        return tuple(self.service.workload.owner(rows[~gone]) for rows, gone in zip(self.train, self.forget, strict=True))

    @property
    def keys(self) -> list[tuple[int, ...]]:
        """Keys of the initial parameters."""
        other = [label(f"start {self.start}")] * bool(self.start)
        return [(self.service.seed, index, *other) for index in range(len(self.forget))]

    @cached_property
    def classes(self) -> np.ndarray:
        """Which classes have lost training rows, bool ``[M, classes]``."""
        return self._classes(self.forget)

    @cached_property
    def whole_classes(self) -> np.ndarray:
        """Which classes have lost all training rows, bool ``[M, classes]``."""
        return self.classes & ~self._classes(~self.forget)

    def _classes(self, rows: np.ndarray) -> np.ndarray:
        return np.any((self.labels[:, :, None] == np.arange(self.service.n_classes)) & rows[:, :, None], axis=1)

    def from_start(self, start: int) -> Withdrawal:
        """The same rows to forget, by models that were trained on all rows from other initial parameters.

        Raises:
            EvaluationFailure: a training diverged.
        """
        other = replace(self, start=start)
        trained = self.model.train_many(self.inputs, self.labels, other.keys)
        return replace(other, service=replace(self.service, trained=trained))

    @property
    def values(self) -> np.ndarray:
        """Trained angles and heads as one array ``[M, parameters]``, a copy."""
        return self.service.trained.joined

    @cached_property
    def forget_weights(self) -> np.ndarray:
        """What every training row adds to the mean over the withdrawn rows, ``[M, rows]``."""
        return self.forget / self.forget.sum(axis=1, keepdims=True)

    @cached_property
    def retain_weights(self) -> np.ndarray:
        """What every training row adds to the mean over the retained rows, ``[M, rows]``."""
        return ~self.forget / (~self.forget).sum(axis=1, keepdims=True)


def withdraw_class(service: Service, name: str) -> Withdrawal:
    """All training rows of the class called ``name``; raises QumosError for an unknown class or where one class would be left."""
    names = service.workload.protocol.dataset.class_names
    rows = [_of_class(name, draw.train, service.observed_labels, names) for draw in service.rows]
    return withdraw_rows(service, rows)


def withdraw_random(service: Service, count: int) -> Withdrawal:
    """``count`` training rows of each draw, chosen by the service's seed; raises QumosError where so many cannot be withdrawn."""
    train = service.together("train")
    if not 0 < count < train.shape[1]:
        raise QumosError(f"forget: {count} row(s), choose 1 to {train.shape[1] - 1}")
    generators = [np.random.default_rng([service.seed, index, label("withdrawn rows")]) for index in range(len(train))]
    return withdraw_rows(service, [one.choice(rows, count, replace=False) for one, rows in zip(generators, train, strict=True)])


def withdraw_rows(service: Service, rows: Sequence[np.ndarray]) -> Withdrawal:
    """The training rows with the numbers ``rows``, one array per draw.

    Raises:
        QumosError: none, one that is no training row, or rows of fewer than two classes would be left.
    """
    train = service.together("train")
    for mine, wanted in zip(train, rows, strict=True):
        check_rows(wanted, mine, service.observed_labels)
    return Withdrawal(service, np.stack([np.isin(mine, wanted) for mine, wanted in zip(train, rows, strict=True)]))


def parse_forget(text: str, train: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """The training rows that ``text`` names, sorted.

    Rows are numbered from 0 in the data set as the scenario loads it, without the rows of classes that the scenario leaves out.

    Args:
        text: row numbers and ranges (``3,7,10-20``, both ends included), ``class:`` and the name of a class, or the path of a file
            with one row number a line.
        train: numbers of the training rows.
        labels: classes of all rows of the data set.
        class_names: names of the classes.

    Raises:
        QumosError: none of these, a row that is no training row, or too few rows would be left.
    """
    if text.startswith(CLASS_PREFIX):
        found = _of_class(text.removeprefix(CLASS_PREFIX), train, labels, class_names)
    elif re.fullmatch(r"[\d\s,-]*", text):
        found = np.concatenate([np.arange(0), *(_range(piece, len(labels), "forget") for piece in text.split(",") if text.strip())])
    else:
        found = _listed(Path(text), len(labels))
    check_rows(found, train, labels)
    return np.unique(found)


def check_rows(rows: np.ndarray, train: np.ndarray, labels: np.ndarray) -> None:
    """Raises QumosError for rows that cannot be withdrawn; see ``withdraw_rows``."""
    if len(rows) == 0:
        raise QumosError("forget: no rows are named")
    foreign = np.setdiff1d(rows, train)
    if len(foreign):
        near = train[np.abs(train - foreign[0]).argmin()]
        raise QumosError(f"forget: row {foreign[0]} is not among the {len(train)} training rows; the nearest that is has number {near}")
    left = len(np.unique(labels[np.setdiff1d(train, rows)]))
    if left == 0:
        raise QumosError(f"forget: all {len(train)} training rows are named, some must stay")
    if left == 1:
        raise QumosError("forget: rows of one class only would stay, at least two classes are needed")


def _of_class(name: str, train: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    if name not in class_names:
        raise unknown("class to forget", name, class_names)
    return train[labels[train] == list(class_names).index(name)]


def _range(text: str, rows: int, where: str) -> np.ndarray:
    """The numbers of ``7`` or ``10-20``, bounded by ``rows`` before they are written out."""
    found = _RANGE.fullmatch(text)
    if not found:
        raise QumosError(f"{where}: {text.strip()!r} is neither a row number nor a range such as 10-20")
    first = int(found[1])
    last = first if found[2] is None else int(found[2])
    if last < first:
        raise QumosError(f"{where}: the range {text.strip()} ends before it starts")
    if last >= rows:
        raise QumosError(f"{where}: row {last} does not exist, the data set has rows 0 to {rows - 1}")
    return np.arange(first, last + 1)


def _listed(path: Path, rows: int) -> np.ndarray:
    try:
        lines = read_text(path, _MOST_BYTES).splitlines()
    except QumosError as error:
        kinds = f"neither row numbers (3,7,10-20), nor {CLASS_PREFIX}NAME, nor a text file that can be read"
        raise QumosError(f"forget: {shown(str(path))} is {kinds} ({error})") from error
    pieces = [_range(line, rows, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    return np.concatenate([np.arange(0), *pieces])
