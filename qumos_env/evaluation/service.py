"""The service: K trained models of one design, one per draw, and all rows by number.

An attack gets a service, its victim, and takes from it what its adversary may see, and nothing else; what that is, every attack states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..data import Draw, Preprocessor
from ..design import Design
from ..model.qnn import QNN
from ..model.training import Parameters
from ..scenario import Scenario
from ..seeds import label
from .workload import Rows, Workload


@dataclass(frozen=True, eq=False)
class Service:
    """K trained models of a design.

    Attributes:
        workload: data set, draws and controls of the scenario.
        seed: of draws and initial angles.
        model: the design as a model.
        trained: parameters of the K models, with a leading axis.
        rows: row numbers of every draw; ``score`` are rows that an adversary may use as queries, figures are scored on ``test``.
        preprocessors: the owner's, one per draw, fitted on its train rows.
        first: number of the first draw; its seeds go by these numbers.
    """

    workload: Workload
    seed: int
    model: QNN
    trained: Parameters
    rows: tuple[Draw, ...]
    preprocessors: tuple[Preprocessor, ...]
    first: int = 0

    @classmethod
    def train(cls, workload: Workload, design: Design, seed: int, rows: Rows = "search", numbers: range | None = None) -> Service:
        """Trains ``design`` on the K draws of ``seed``: the same models that an evaluation with that seed measures.

        Args:
            workload: of the scenario.
            design: the design.
            seed: of draws and initial angles.
            rows: for which rows the draws are prepared; the models are the same.
            numbers: of the draws, one after the other; default all. A model does not depend on which others are trained with it.

        Raises:
            EvaluationFailure: a training diverged.
        """
        draws, model = workload.draws(seed, rows), workload.model(design)
        first = 0 if numbers is None else numbers.start
        draws = draws if numbers is None else draws[first : numbers.stop]
        inputs, labels = (np.stack([getattr(draw, name) for draw in draws]) for name in ("train", "train_labels"))
        trained = model.train_many(inputs, labels, [draw.key for draw in draws])
        return cls(workload, seed, model, trained, tuple(draw.rows for draw in draws), tuple(draw.owner for draw in draws), first)

    @property
    def scenario(self) -> Scenario:
        """The scenario that it serves."""
        return self.workload.scenario

    @property
    def numbers(self) -> range:
        """Numbers of the draws."""
        return range(self.first, self.first + len(self.rows))

    @property
    def design(self) -> Design:
        """Its design."""
        return self.model.design

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self.workload.n_classes

    @property
    def features(self) -> np.ndarray:
        """Raw features of all rows of the data set, float64 ``[all rows, f]``."""
        return self.workload.protocol.dataset.features

    @property
    def labels(self) -> np.ndarray:
        """True labels of all rows of the data set, int64 ``[all rows]``."""
        return self.workload.protocol.dataset.labels

    @property
    def observed_labels(self) -> np.ndarray:
        """Labels of all rows in the owner's records, with the scenario's label noise: those that trained the models."""
        return self.workload.protocol.observed_labels

    @cached_property
    def test(self) -> np.ndarray:
        """Row numbers of the fixed test split, ``[K, rows]``: the same in every draw."""
        return np.stack([draw.test for draw in self.rows])

    def together(self, name: str, most: int | None = None) -> np.ndarray:
        """Row numbers ``[K, rows]`` of the draws' field ``name``, cut to the shortest of them, and to ``most``.

        Rows of a field are sorted, so a cut ``score`` is shuffled first, with its seed.
        """
        found = [getattr(draw, name) for draw in self.rows]
        size = min(min(map(len, found)), most or len(self.labels))
        if any(len(one) > size for one in found):
            found = [
                np.random.default_rng([self.seed, k, label("shortened rows")]).permutation(one) for k, one in enumerate(found, self.first)
            ]
        return np.stack([one[:size] for one in found])

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """What the owner's preprocessing sends to the providers for ``rows`` ``[K, R]``: angles ``[K, R, n_qubits]``."""
        pairs = zip(self.preprocessors, rows, strict=True)
        return np.stack([fitted.transform(self.features[indices]) for fitted, indices in pairs])

    def answer(self, rows: np.ndarray, use: str) -> np.ndarray:
        """The service's answers to ``rows`` ``[K, R]``: class probabilities ``[K, R, classes]``, from the design's shots where it has any.

        ``use`` names the question, so that the shots of two questions differ.
        """
        return self.answer_features(self.features[rows], use)

    def answer_features(self, features: np.ndarray, use: str) -> np.ndarray:
        """As ``answer``, to raw ``features`` ``[K, R, f]``, which need be rows of no data set."""
        pairs = zip(self.preprocessors, features, strict=True)
        inputs = np.stack([fitted.transform(rows) for fitted, rows in pairs])
        return self.model.answers(self.trained, inputs, self.keys(use))

    def keys(self, use: str) -> Sequence[Sequence[int]]:
        """Seeds, one per draw, for the randomness that ``use`` names."""
        return [(self.seed, number, label(use)) for number in self.numbers]
