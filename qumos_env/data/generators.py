"""Generated classification tasks on which a trained model can be far better than a thief's few rows.

The families are those of Bowles, Ahmed and Schuld, *Better than classical?* (2024); the code is this project's own. Every
function returns features float64 ``[rows, features]`` and labels ``[rows]``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

import numpy as np

from ..errors import QumosError, unknown


def two_curves(
    *, rows: int = 1000, features: int = 8, degree: int = 5, offset: float = 0.1, noise: float = 0.01, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Two classes along a closed random Fourier curve of ``degree`` and its copy shifted by ``offset`` in every dimension."""
    generator = np.random.default_rng(seed)
    cosines, sines = generator.normal(size=(2, degree + 1, features))
    labels = np.arange(rows) % 2
    phase = generator.uniform(0, 2 * np.pi, (rows, 1)) * np.arange(degree + 1)
    points = np.cos(phase) @ cosines + np.sin(phase) @ sines
    points /= np.abs(points).max(axis=0)
    return points + offset * labels[:, None] + generator.normal(0, noise, points.shape), labels


def hidden_manifold(
    *, rows: int = 1000, features: int = 8, latent: int = 4, width: int = 16, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Points on a ``latent``-dimensional manifold, two classes by a random one-layer network on it (Goldt et al., 2020)."""
    generator = np.random.default_rng(seed)
    hidden = generator.normal(size=(rows, latent))
    embedding = generator.normal(size=(latent, features))
    points = np.tanh(hidden @ embedding / np.sqrt(latent) + generator.uniform(-1, 1, features))
    first = generator.normal(size=(latent, width))
    second = generator.normal(size=width)
    score = np.tanh(hidden @ first / np.sqrt(latent)) @ second
    return points, (score > np.median(score)).astype(int)


def hyperplanes(*, rows: int = 1000, features: int = 8, planes: int = 2, latent: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes by the parity of the sides of ``planes`` hyperplanes in a ``latent``-dimensional subspace."""
    generator = np.random.default_rng(seed)
    hidden = generator.normal(size=(rows, latent))
    points = hidden @ generator.normal(size=(latent, features))
    normals = generator.normal(size=(latent, planes))
    sides = hidden @ normals > 0
    return points, sides.sum(axis=1) % 2


def parity(*, rows: int = 1000, features: int = 8, relevant: int = 2, margin: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Four classes by two sign parities: of the first ``relevant`` features of each half. Features keep ``margin`` to 0, in [-1, 1]."""
    points, first, second = _signs(rows, features, relevant, margin, seed)
    return points, 2 * first + second


def parity_cut(
    *, rows: int = 1000, features: int = 8, relevant: int = 1, margin: float = 0.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Two classes by one sign parity across both halves: no sum of a function of each half can tell them apart."""
    points, first, second = _signs(rows, features, relevant, margin, seed)
    return points, first ^ second


def _signs(rows: int, features: int, relevant: int, margin: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    half = features // 2
    if not 1 <= relevant <= half:
        raise QumosError(f"data.parameters: relevant is {relevant}, half of the features is {half}")
    generator = np.random.default_rng(seed)
    points = generator.choice([-1.0, 1.0], (rows, features)) * generator.uniform(margin, 1, (rows, features))
    negative = points < 0
    return points, negative[:, :relevant].sum(axis=1) % 2, negative[:, half : half + relevant].sum(axis=1) % 2


GENERATORS: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "two-curves": two_curves,
    "hidden-manifold": hidden_manifold,
    "hyperplanes": hyperplanes,
    "parity": parity,
    "parity-cut": parity_cut,
}


def generate(source: str, parameters: Mapping[str, float | int]) -> tuple[np.ndarray, np.ndarray]:
    """Features float64 ``[rows, features]`` and labels int64 ``[rows]`` of the generator ``source``.

    Raises:
        QumosError: an unknown parameter (nearest names offered) or an impossible value.
    """
    generator = GENERATORS[source]
    defaults = {name: parameter.default for name, parameter in inspect.signature(generator).parameters.items()}
    features, labels = generator(**checked_parameters(source, parameters, defaults))
    return features, labels.astype(np.int64)


def checked_parameters(source: str, parameters: Mapping[str, float | int], defaults: Mapping[str, float | int]) -> dict[str, float | int]:
    """``parameters`` with the types of their ``defaults``; whole numbers are at least 1 (a seed 0), others at least 0.

    Raises:
        QumosError: names the parameter and what is wrong with it.
    """
    checked: dict[str, float | int] = {}
    for name, value in parameters.items():
        if name not in defaults:
            raise unknown(f"parameter of data set {source!r}", name, defaults)
        whole = isinstance(defaults[name], int)
        if not np.isfinite(value) or (whole and value != int(value)):
            raise QumosError(f"data.parameters: {name} is {value}, a {'whole' if whole else 'finite'} number is needed")
        least = 1 if whole and name != "seed" else 0
        if value < least:
            raise QumosError(f"data.parameters: {name} is {value}, at least {least} is needed")
        checked[name] = int(value) if whole else float(value)
    return checked
