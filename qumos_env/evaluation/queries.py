"""What a customer asks who clones the service: rows that it has, or rows that it makes up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from ..data import Draw, Preprocessor
from ..scenario import Scenario
from ..seeds import label
from .surrogates.models import Ground


@dataclass(frozen=True, eq=False)
class Questions:
    """A customer's queries and the rows that its clones are judged on, for K draws.

    It has no labels before it has asked, and fits its preprocessing on its queries. The targets are the tuning rows that it has not asked,
    by which the clone is chosen, then the scored rows.

    Attributes:
        raw: features of the queries, ``[K, queries, f]``.
        encoded: the queries as the service encodes them, ``[K, queries, n_qubits]``.
        own: the queries as the customer encodes them, ``[K, queries, n_qubits]``.
        raw_targets, own_targets: features and encodings of the targets, ``[K, targets, f]`` and ``[K, targets, n_qubits]``.
        tuning: row numbers of the first of these, ``[K, tuning]``.
    """

    raw: np.ndarray
    encoded: np.ndarray
    own: np.ndarray
    raw_targets: np.ndarray
    own_targets: np.ndarray
    tuning: np.ndarray

    @classmethod
    def of(
        cls, scenario: Scenario, features: np.ndarray, drawn: Sequence[tuple[Sequence[int], Draw, Preprocessor, np.ndarray]]
    ) -> Questions:
        """By the threat section of ``scenario``.

        Args:
            scenario: says how many queries, and of which kind.
            features: raw, of all rows of the data set.
            drawn: of every draw seeds, row numbers, the owner's preprocessing, and the numbers of the scored rows.
        """
        section, real = scenario.data, scenario.threat.query_rows == "real"
        unlabelled = section.model_copy(update={"reducer": "pca"}) if section.reducer == "lda" else section
        found: list[tuple[np.ndarray, ...]] = []
        for key, draw, owner, scored in drawn:
            generator = np.random.default_rng([*key, label("a customer's queries")])
            order = generator.permutation(draw.tuning)
            asked, tuning = (order[: scenario.queries], order[scenario.queries :]) if real else (order[:0], order)
            raw = features[asked] if real else synthetic_rows(features[draw.thief], scenario.queries, generator)
            targets = features[np.concatenate([tuning, scored])]
            customer = Preprocessor.fit(raw, unlabelled, scenario.design.qubits)
            found.append((raw, owner.transform(raw), customer.transform(raw), targets, customer.transform(targets), tuning))
        return cls(*(np.stack(values) for values in zip(*found, strict=True)))

    @cached_property
    def ground(self) -> Ground:
        """What the features of queries and targets give."""
        return Ground.of(list(self.raw), list(self.raw_targets))


def synthetic_rows(known: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """``count`` rows ``[count, f]`` from a Gaussian fitted to the few ``known`` ``[rows, f]``.

    Its covariance, of standardised features, is shrunk towards the identity (Ledoit and Wolf, 2004), since there may be fewer rows than
    features.
    """
    centre, spread = known.mean(axis=0), known.std(axis=0)
    scaled = (known - centre) / np.where(spread > 0, spread, 1.0)
    shrinkage = float(ledoit_wolf_shrinkage(scaled)) if len(known) > 1 else 1.0
    # Sums of the rows in random proportions have the covariance of the rows.
    along = generator.normal(size=(count, len(known))) @ scaled / np.sqrt(len(known))
    across = generator.normal(size=(count, known.shape[1])) * np.sqrt(np.mean(scaled**2))
    return np.asarray(centre + spread * (np.sqrt(1 - shrinkage) * along + np.sqrt(shrinkage) * across))
