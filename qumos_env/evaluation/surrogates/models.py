"""The models of an adversary by name: what can be made of its goals without loot, and with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ...model.training import one_hot
from .families import BLIND, FAMILIES, angle_kernels, smoothed, smoother
from .interactions import LOOT_SHARES, Products
from .regression import Kernels, inner_products

LABELS, ANSWERS = "labels", "answers"
"""The goals by name; a model's name says which it was fitted to."""
_DETAILS = "details of the sums"
_REST, _TRUSTED = "rest", ("rest", "latent")
_LEAST_PROBABILITY = 1e-4
_TINY = 1e-12
_KNOWN_SCALES = (1.0, 1.5, 2.0)
"""Of the untrained head's: a thief of few rows may rather trust in what heads become than fit it."""
_SMOOTH = (0.7, 1.0)
"""Length, in median distances, and roughness of what is smooth in stolen sums."""
_FIXED_RIDGES = (1e-2, 1e-1)
"""Likewise: what is left of exact answers is hardly noisy, which few rows cannot tell."""


@dataclass(frozen=True, eq=False)
class Ground:
    """What raw features give, whatever the goal and the loot.

    Attributes:
        kernels: by the names of ``FAMILIES``.
        products: of features.
        smoothers: of every draw, see ``families.smoother``; in single precision, as there are many.
    """

    kernels: Mapping[str, Kernels]
    products: Products
    smoothers: np.ndarray

    @classmethod
    def of(cls, own: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> Ground:
        """From raw features of every draw, ``[own, f]`` and ``[targets, f]``."""
        rows = [np.concatenate(pair) for pair in zip(own, targets, strict=True)]
        kernels = {name: Kernels(np.stack([family(one, len(own[0])) for one in rows])) for name, family in FAMILIES.items()}
        return cls(kernels, Products.of(rows), np.stack([smoother(one, *_SMOOTH).astype(np.float32) for one in rows]))


def as_told(answers: np.ndarray, kind: str) -> np.ndarray:
    """Probabilities ``[..., classes]`` as who asks gets them: as they are, or of ``labels`` a 1 for the likeliest class."""
    return one_hot(answers.argmax(axis=-1), answers.shape[-1]) if kind == "labels" else answers


def label_goal(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """What a model explains of ``labels`` ``[...]``: ``[..., n_classes]``, 1 for the label, centred."""
    return one_hot(labels, n_classes) - 1 / n_classes


def log_odds(answers: np.ndarray) -> np.ndarray:
    """Logits, up to a constant per row, behind probabilities ``[..., classes]``."""
    logits = np.log(np.maximum(answers, _LEAST_PROBABILITY))
    return np.asarray(logits - logits.mean(axis=-1, keepdims=True))


def uses_answers(model: str) -> bool:
    """Whether the model of this name was fitted to answers of the service, alone or beside labels."""
    return ANSWERS in model.rpartition(", from ")[2]


def pooled(scores: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of several models' ``scores`` ``[..., rows, classes]``, each on the scale of its own spread in a draw."""
    total = np.zeros_like(scores[0])
    for one in scores:
        total += one / np.maximum(one.std(axis=(-2, -1), keepdims=True), _TINY)
    total /= len(scores)
    return total


def unaided(ground: Ground, goals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What can be made of ``goals`` without loot: scores ``[K, rows, classes]`` by the name of the model."""
    found: dict[str, np.ndarray] = {}
    for name in FAMILIES:
        if name != BLIND:
            found |= _from_every_goal(name, {goal: ground.kernels[name].regress(values) for goal, values in goals.items()})
    return found | _single_products(ground.products, goals)


def stacked(
    ground: Ground, goals: Mapping[str, np.ndarray], readouts: np.ndarray, sums: np.ndarray | None, rest: np.ndarray
) -> dict[str, np.ndarray]:
    """What can be made of ``goals`` with loot: scores ``[K, rows, classes]`` by the name of the model.

    Args:
        ground: what raw features give.
        goals: name -> what to explain of the own rows, ``[K, own, classes]``.
        readouts: what the stolen circuits give for all rows, ``[K, rows, F]``.
        sums: what the known head makes of the stolen readouts, ``[K, rows, classes]``, or ``None`` where it is not known.
        rest: encoded angles of the qubits that are not held, ``[K, rows, qubits]``. Without gate cuts the logits are additive over the
            parts: what the sums leave to explain depends on these alone.
    """
    own = ground.kernels[BLIND].own
    products = inner_products(readouts, own)
    kernels = dict(ground.kernels)
    if rest.shape[-1]:
        kernels[_REST] = Kernels(angle_kernels(rest, own))
    found: dict[str, np.ndarray] = {}
    for name, plain in kernels.items():
        aided = Kernels(plain.values, products)
        found |= _from_every_goal(f"{name}, readouts", {goal: aided.regress(values) for goal, values in goals.items()})
        if sums is not None:
            found |= _from_every_goal(f"{name}, sums", {goal: plain.regress(values, sums) for goal, values in goals.items()})
            found |= _from_every_goal(f"{name}, both", {goal: aided.regress(values, sums) for goal, values in goals.items()})
            if ANSWERS in goals:
                # Only answers are on the scale of logits.
                for scale, ridge in product(_KNOWN_SCALES, (None, *_FIXED_RIDGES) if name in _TRUSTED else (None,)):
                    scores = plain.regress(goals[ANSWERS], sums, scale, ridge)
                    told = f"{name}, {scale:g} × sums" + ("" if ridge is None else f", ridge {ridge:g}")
                    found |= _from_every_goal(told, {ANSWERS: scores})
    if sums is None:
        return found
    return found | {_DETAILS: _details(ground.smoothers, sums)} | _products_with_loot(ground.products, goals, sums)


def _details(smoothers: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """What a smooth function of all features leaves of ``sums`` ``[K, rows, classes]``.

    What a part says for itself is the answer less what the others say. Where that difference is a slow function of the features and the
    answer is not, taking away what is slow leaves the answer, and needs neither labels nor answers.
    """
    centred = sums - sums.mean(axis=1, keepdims=True)
    return np.asarray(centred - smoothers @ centred[:, smoothed(sums.shape[1])])


def _from_every_goal(name: str, scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By its full name every candidate's scores, ``[candidates, K, rows, classes]`` of every goal, and the mean of what it makes of all."""
    sources = dict(scores)
    if len(scores) > 1:
        sources[" and ".join(scores)] = pooled(list(scores.values()))
    return {
        f"{name} {number}, from {source}": one for source, candidates in sources.items() for number, one in enumerate(candidates, start=1)
    }


def _single_products(products: Products, goals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By name, from one goal or from all."""
    return {
        f"single products of {form}, from {source}": products.scores(form, evidence)
        for form in products.values
        for source, evidence in _evidence_of(products, form, goals).items()
    }


def _products_with_loot(products: Products, goals: Mapping[str, np.ndarray], sums: np.ndarray) -> dict[str, np.ndarray]:
    found = {}
    for form in products.values:
        loot = products.evidence(form, sums, centred=True)
        for source, evidence in _evidence_of(products, form, goals).items():
            for share in LOOT_SHARES:
                name = f"single products of {form} and {share:g} of the sums, from {source}"
                found[name] = products.scores(form, evidence + share * loot)
    return found


def _evidence_of(products: Products, form: str, goals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What every goal says alone, and what all say together, by name."""
    alone = {name: products.evidence(form, goal) for name, goal in goals.items()}
    return alone | ({" and ".join(goals): np.sum(list(alone.values()), axis=0)} if len(goals) > 1 else {})
