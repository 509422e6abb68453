"""Cut angles from what holders of parts read and what the service answers: what a cut does not hide.

With D = (S − S†)/2, RZZ(θ) = cos²(θ/2)·I⊗I + sin²(θ/2)·Z⊗Z + sin θ·(D⊗M + M⊗D) as maps (see ``design.gate_cuts``). So every ⟨Z⟩ is
linear in readings of the variants, with the *factors* cos²(θ/2), sin²(θ/2), sin θ of every cut, and behind a head so are the
contrasts of the log-odds. Who holds both sides of a cut knows all three readings. Who holds one side knows the first two, since the
other side's I and Z have a mean sign of 1; the reading of D is multiplied by a sign of the other side that it does not know, the
other side's ⟨Z⟩ answer to its own sign of M, and both depend on the other side's input. These are the *loose* readings.

The angles are those of a generalised least-squares fit: loose readings have weights that vary with the query as a Gaussian process does,
Σ ∝ diag(noise) + ρ·(N·Nᵀ)∘k for loose readings N and a similarity k of the queries at the other side, all ones where the other side's
input is held constant. Given the angles all else is linear and in closed form; without loose readings, for one cut and enough answers,
θ = atan2(w_sin, w_cos² − w_sin²) of the fitted weights w. For any number of answers and cuts a grid over the angles and a pattern
search find the least squares. Of one side, whose evidence is weaker, it is the mean over the grid under a uniform prior on |θ|, the
covariances weighed by their likelihood, unless that is narrower than the grid.

Symmetries: θ is found up to 2π by both sides, and |θ| up to 2π by one, for a change of sign is one of the other side's unknown sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.linalg import helmert

from .estimator import CutEngine
from .readings import Readings, canonical, read_variants

_LOOSE_RATIOS = (1e-1, 1e1, 1e3, 1e5, 1e8)
_GRID = {1: 48, 2: 18, 3: 10}
_STARTS = 6
_STEPS = 45
_AT_ONCE = 4_000_000  # numbers in the largest array of a search
_RIDGE = 1e-10
_TINY = 1e-200


def contrasts(log_odds: np.ndarray) -> np.ndarray:
    """Orthonormal contrasts ``[..., C − 1]`` of log-probabilities or logits ``[..., C]``: what of logits a softmax shows."""
    return log_odds @ helmert(log_odds.shape[-1]).T


@dataclass(frozen=True, eq=False)
class Evidence:
    """A fit's regressors, one row per query and contrast.

    Attributes:
        readings: where they come from.
        known: ``[M, R, P, K]``, by unknown weight of the head, and by factor.
        loose: ``[M, R, J]``.
        bias: ``[R, C − 1]``.
        tied: whether the first weight is the scale of the head, which is positive.
    """

    readings: Readings
    known: np.ndarray
    loose: np.ndarray
    bias: np.ndarray
    tied: bool


def evidence(readings: Readings, n_classes: int, tie: np.ndarray | None, blocks: np.ndarray | None = None) -> Evidence:
    """The regressors of ``readings`` behind a head.

    Args:
        readings: of M models.
        n_classes: C.
        tie: what ⟨Z⟩ of every qubit adds to the logits, ``[n_qubits, C]``, up to a common scale; ``None`` where it is unknown, as
            behind a linear head.
        blocks: numbers ``[rows]`` of sets of queries with one input of the other side each. With them the readings in groups take the
            place of loose ones, each with an unknown weight per block.
    """
    each = np.eye(n_classes - 1)
    qubits = list(readings.qubits)
    models, rows = readings.known.shape[:2]
    size = rows * (n_classes - 1)

    def behind_head(values: np.ndarray) -> np.ndarray:
        """``[M, rows, Q, ...]`` to ``[M, R, P, ...]``."""
        if tie is not None:
            found = np.einsum("mrq...,qd->mrd...", values, contrasts(tie)[qubits])[:, :, :, None]
        else:
            found = np.einsum("mrq...,de->mrdqe...", values, each)
            found = found.reshape(*found.shape[:3], found.shape[3] * found.shape[4], *values.shape[3:])
        return found.reshape(models, size, *found.shape[3:])

    known, loose = behind_head(readings.known), behind_head(readings.loose)
    if blocks is not None:
        grouped = behind_head(readings.grouped)
        inside = np.repeat(blocks[:, None] == np.unique(blocks), n_classes - 1, axis=0)
        parts = np.einsum("mrpgk,rb->mrpgbk", grouped, inside)
        known = np.concatenate([known, parts.reshape(models, size, int(np.prod(parts.shape[2:-1])), parts.shape[-1])], axis=2)
        loose = loose[..., :0]
    signs = np.einsum("mrl,de->mrdel", readings.signs, each)
    columns = [one.reshape(models, size, int(np.prod(one.shape[2 + (one is signs) :]))) for one in (loose, signs)]
    return Evidence(readings, known, np.concatenate(columns, axis=-1), np.tile(each, (rows, 1)), tie is not None)


@dataclass(frozen=True, eq=False)
class CutFit:
    """The linear fit of M models for given cut angles.

    Attributes:
        angles: of the touched cuts, ``[M, cuts]``.
        weights: of the head, ``[M, P]``.
        bias: ``[M, C − 1]``.
        dual: ρ·Σ⁻¹·residual, ``[M, R]``, which predicts what loose readings add.
        kernel: number of the kernel that was chosen, int ``[M]``.
    """

    angles: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    dual: np.ndarray
    kernel: np.ndarray


def fit_angles(found: Evidence, goal: np.ndarray, *, noise: np.ndarray | None = None, kernels: np.ndarray | None = None) -> np.ndarray:
    """The angles ``[M, cuts]`` of the touched cuts, of which there is one or more; see the module and ``canonical``.

    Args:
        found: the regressors.
        goal: contrasts of the answers' log-odds ``[M, rows, C − 1]``.
        noise: relative variances of the goals ``[M, rows]``; default equal.
        kernels: similarities ``[kernels, M, rows, rows]`` of the queries at the other sides; default all ones: their input is held
            constant.
    """
    readings, models = found.readings, len(goal)
    n_cuts = len(readings.cuts)
    systems = _systems(found, goal, noise, kernels)
    normal = _Normal.joined([system.normal for system in systems])
    spans = [(-np.pi, False) if sides == 2 else (0.0, True) for sides in readings.sides]
    axes = [np.linspace(low, np.pi, _GRID[n_cuts], endpoint=closed) for low, closed in spans]
    grid = np.array(list(product(*axes))).reshape(-1, n_cuts)
    scores = normal.likelihood(np.broadcast_to(grid, (len(normal.total), *grid.shape)))
    angles, worth = _searched(normal, grid[np.argsort(-scores, axis=1)[:, :_STARTS]])
    likeliest = worth.reshape(len(systems), models).argmax(axis=0)
    best = angles.reshape(len(systems), models, n_cuts)[likeliest, np.arange(models)]
    scores = scores.reshape(len(systems), models, len(grid))
    if set(readings.sides) == {1}:
        weights = np.exp(scores - scores.max(axis=(0, 2), keepdims=True)).sum(axis=0)
        weights /= weights.sum(axis=1, keepdims=True)
        mean = weights @ grid
        wide = np.sqrt(np.maximum(weights @ grid**2 - mean**2, 0)).max(axis=1, initial=0) > np.pi / (_GRID[n_cuts] - 1)
        best = np.where(wide[:, None], mean, best)
    return canonical(best, readings.sides)


def fit_head(
    found: Evidence, goal: np.ndarray, angles: np.ndarray, *, noise: np.ndarray | None = None, kernels: np.ndarray | None = None
) -> CutFit:
    """All but the ``angles`` ``[M, cuts]``, with the likeliest covariance; see ``fit_angles``."""
    systems = _systems(found, goal, noise, kernels)
    likelihoods = np.stack([system.normal.likelihood(angles[:, None])[:, 0] for system in systems])
    chosen, models = likelihoods.argmax(axis=0), np.arange(len(angles))
    fits = [system.solution(angles) for system in systems]
    weights, bias, dual = (np.stack([fit[place] for fit in fits])[chosen, models] for place in range(3))
    return CutFit(angles, weights, bias, dual, np.array([system.kernel for system in systems])[chosen])


def predict(fit: CutFit, found: Evidence, targets: Evidence, cross: np.ndarray | None = None) -> np.ndarray:
    """The contrasts ``[M, targets, C − 1]`` that ``fit``, made from ``found``, gives ``targets``.

    Args:
        fit, found: of the queries.
        targets: regressors of the rows to predict.
        cross: similarities ``[kernels, M, targets, rows]`` of these to the queries at the other sides; default all ones.
    """
    n_contrasts = found.bias.shape[1]
    values = np.einsum("mrpk,mk,mp->mr", targets.known, found.readings.factors(fit.angles), fit.weights) + fit.bias @ targets.bias.T
    if found.loose.shape[-1]:
        shape = targets.loose @ found.loose.swapaxes(-1, -2)
        if cross is not None:
            shape = shape * _per_contrast(cross[fit.kernel, np.arange(len(values))], n_contrasts)
        values = values + (shape @ fit.dual[..., None])[..., 0]
    return values.reshape(len(values), -1, n_contrasts)


def infer_angles(
    engine: CutEngine, held: Sequence[int], tie: np.ndarray | None, angles: np.ndarray, inputs: np.ndarray, answers: np.ndarray
) -> np.ndarray:
    """The cut angles ``[M, cuts of the design]`` that the holder of ``held`` finds; NaN where no side of a cut is held, |θ| where one is.

    Args:
        engine, held, angles, inputs: see ``read_variants``; with one side of a cut, the other side's input is taken to be constant.
        tie: see ``evidence``.
        answers: class probabilities ``[M, rows, C]``.
    """
    found = evidence(read_variants(engine, held, angles, inputs), answers.shape[-1], tie)
    result = np.full((len(angles), len(engine.design.cut_gates)), np.nan)
    if found.readings.cuts:
        result[:, list(found.readings.cuts)] = fit_angles(found, contrasts(np.log(np.maximum(answers, _TINY))))
    return result


@dataclass(frozen=True, eq=False)
class _Normal:
    """Normal equations of M least-squares problems, whitened and without the bias.

    Attributes:
        readings: whose factors weigh the regressors.
        tied: see ``Evidence``.
        size: number of rows.
        gram: ``[M, P, K, P, K]``.
        moment: ``[M, P, K]``.
        total: sum of squares of the goals, ``[M]``.
        least: below which a sum of squares is rounding, ``[M]``.
        logs: logarithm of the covariance's determinant, ``[M]``.
    """

    readings: Readings
    tied: bool
    size: int
    gram: np.ndarray
    moment: np.ndarray
    total: np.ndarray
    least: np.ndarray
    logs: np.ndarray

    @classmethod
    def joined(cls, many: Sequence[_Normal]) -> _Normal:
        """The problems of all, one after the other."""
        names = ("gram", "moment", "total", "least", "logs")
        columns = (np.concatenate([getattr(one, name) for one in many]) for name in names)
        return cls(many[0].readings, many[0].tied, many[0].size, *columns)

    def solved(self, tried: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For angles ``[M, points, cuts]`` the explained sum of squares ``[M, points]``, and the weights ``[M, points, P]``."""
        problems, n_weights, n_factors = self.moment.shape
        factors = self.readings.factors(tried)
        half = (factors @ self.gram.transpose(0, 2, 1, 3, 4).reshape(problems, n_factors, -1)).reshape(
            *tried.shape[:2], n_weights * n_weights, n_factors
        )
        matrix = (half @ factors[..., None]).reshape(*tried.shape[:2], n_weights, n_weights)
        right = factors @ self.moment.swapaxes(-1, -2)
        # Readings that the bias, the loose ones or others explain leave nothing.
        ridge = _RIDGE * np.einsum("mpkpk->mp", self.gram) + _TINY
        weights = np.linalg.solve(matrix + ridge[:, None, :, None] * np.eye(n_weights), right[..., None])[..., 0]
        if self.tied:
            weights = np.where(weights[..., :1] > 0, weights, 0.0)
        return np.sum(weights * right, axis=-1), weights

    def likelihood(self, tried: np.ndarray) -> np.ndarray:
        """Logarithm ``[M, points]``, up to a constant, for angles ``[M, points, cuts]``; the size of the noise is the likeliest."""
        step = max(1, _AT_ONCE // (len(self.moment) * self.moment.shape[1] * self.moment[0].size))
        pieces = [self.solved(tried[:, start : start + step])[0] for start in range(0, tried.shape[1], step)]
        rest = np.maximum(self.total[:, None] - np.concatenate(pieces, axis=1), self.least[:, None])
        return -0.5 * (self.size * np.log(rest) + self.logs[:, None])


class _System:
    """The least squares for one covariance ``[M, R, R]``."""

    def __init__(self, found: Evidence, goal: np.ndarray, covariance: np.ndarray, kernel: int, ratio: float) -> None:
        self._found, self._goal, self.kernel, self._ratio = found, goal, kernel, ratio
        models, size, n_weights, n_factors = found.known.shape
        lower = np.linalg.cholesky(covariance)
        self._root = np.linalg.inv(lower)
        self._bias = self._white(np.broadcast_to(found.bias, (models, *found.bias.shape)))
        basis = np.linalg.qr(self._bias)[0]

        def unbiased(columns: np.ndarray) -> np.ndarray:
            white = self._white(columns)
            return white - basis @ (basis.swapaxes(-1, -2) @ white)

        known = unbiased(found.known.reshape(models, size, n_weights * n_factors))
        target = unbiased(goal[..., None])
        self.normal = _Normal(
            found.readings,
            found.tied,
            size,
            (known.swapaxes(-1, -2) @ known).reshape(models, n_weights, n_factors, n_weights, n_factors),
            (known.swapaxes(-1, -2) @ target).reshape(models, n_weights, n_factors),
            np.sum(target[..., 0] ** 2, axis=-1),
            # Simulations are of single precision; a perfect fit must not win by its last digits.
            1e-10 * np.maximum(np.var(goal, axis=1), _TINY),
            2 * np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=-1),
        )

    def _white(self, columns: np.ndarray) -> np.ndarray:
        white: np.ndarray = self._root @ columns
        return white

    def solution(self, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights, bias and dual, see ``CutFit``."""
        weights = self.normal.solved(angles[:, None])[1][:, 0]
        fitted = np.einsum("mrpk,mk,mp->mr", self._found.known, self._found.readings.factors(angles), weights)
        residual = self._white((self._goal - fitted)[..., None])
        turned = self._bias.swapaxes(-1, -2)
        bias = np.linalg.solve(turned @ self._bias, turned @ residual)
        dual = self._root.swapaxes(-1, -2) @ (residual - self._bias @ bias)
        return weights, bias[..., 0], self._ratio * dual[..., 0]


def _systems(found: Evidence, goal: np.ndarray, noise: np.ndarray | None, kernels: np.ndarray | None) -> list[_System]:
    """One per kernel and ρ."""
    models, size = found.known.shape[:2]
    n_contrasts = found.bias.shape[1]
    flat = goal.reshape(models, size)
    variance = np.ones((models, size)) if noise is None else np.repeat(noise, n_contrasts, axis=-1)
    plain = variance[..., None] * np.eye(size)
    if not found.loose.shape[-1]:
        return [_System(found, flat, plain, 0, 0.0)]
    loose = found.loose @ found.loose.swapaxes(-1, -2)
    shapes = [loose] if kernels is None else [loose * _per_contrast(kernel, n_contrasts) for kernel in kernels]
    pairs = product(enumerate(shapes), _LOOSE_RATIOS)
    return [_System(found, flat, plain + ratio * shape, number, ratio) for (number, shape), ratio in pairs]


def _per_contrast(kernel: np.ndarray, n_contrasts: int) -> np.ndarray:
    return np.repeat(np.repeat(kernel, n_contrasts, axis=-1), n_contrasts, axis=-2)


def _searched(normal: _Normal, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A pattern search from ``points`` ``[M, starts, cuts]``: the likeliest angles ``[M, cuts]``, and their likelihood ``[M]``."""
    models, starts, n_cuts = points.shape
    moves = np.array(list(product((0.0, -1.0, 1.0), repeat=n_cuts))).reshape(-1, n_cuts)
    step = np.full((models, starts), 2 * np.pi / _GRID[n_cuts])
    for _ in range(_STEPS):
        tried = points[:, :, None] + step[..., None, None] * moves
        best = normal.likelihood(tried.reshape(models, -1, n_cuts)).reshape(models, starts, -1).argmax(axis=-1)
        step = np.where(best == 0, step / 2, step)
        points = np.take_along_axis(tried, best[..., None, None], axis=2)[:, :, 0]
    values = normal.likelihood(points)
    best = values.argmax(axis=1)
    return points[np.arange(models), best], values[np.arange(models), best]
