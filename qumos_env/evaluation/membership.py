"""Membership inference: does the model's output betray that a row was trained on? Scores, the higher the likelier a member.

The adversary sees the output vector and knows the true label. The loss-threshold attack (Yeom et al., 2018) calls a row a
member when its loss is low and needs no fitting. The gray-box classifier learns from labelled member and non-member rows
what a member's answer looks like. LiRA (Carlini et al., 2022) and RMIA (Zarifzadeh et al., 2024) compare the answer with those
of shadow models, trained with and without the row.

All shadow arrays have a leading axis of models: ``target`` ``[P]`` is the signal of P rows at the model under attack,
``shadow`` ``[S, P]`` at the shadow models, ``member`` bool ``[S, P]`` whether a row trained that shadow. Every row should be in
and out equally often: where members of the target are in one shadow fewer than its non-members, their median is noisier and
pure noise no longer scores ½ (see ``shadow_models`` of the attacks). How well scores separate is ``qumos_env.evaluation.roc``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from ..errors import QumosError
from .roc import auc
from .terms import Evidence, Observed, Subject, TermResult, term
from .workload import PreparedDraw

OFFLINE_A = 0.3
"""The constant a of RMIA: how far membership is assumed to raise the probability of a row."""

# A spread below this is rounding: every shadow answers alike.
_LEAST_SPREAD = 1e-12


def label_probabilities(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """p_y float64 ``[..., rows]`` for class probabilities ``[..., rows, classes]`` and labels ``[..., rows]``, leading axes broadcast."""
    exact = np.asarray(probabilities, np.float64)
    index = np.broadcast_to(labels, exact.shape[:-1])[..., None]
    return np.take_along_axis(exact, index, axis=-1)[..., 0]


def loss_scores(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """φ = log p_y − log Σ_{k≠y} p_k per row, float64: higher for rows that the model is surer of.

    Shapes as in ``label_probabilities``. The sum leaves p_y out rather than subtracting it, which would cancel for sure answers.
    """
    exact = np.asarray(probabilities, np.float64)
    others = exact.copy()
    np.put_along_axis(others, np.broadcast_to(labels, exact.shape[:-1])[..., None], 0.0, axis=-1)
    tiny = np.finfo(float).tiny
    return np.log(np.maximum(label_probabilities(exact, labels), tiny)) - np.log(np.maximum(others.sum(axis=-1), tiny))


def gray_box_features(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What the gray-box attack of Su et al. (arXiv 2509.06086) looks at, float64 ``[rows, classes + 3]``.

    The output vector, its maximum, whether it is right, and the cross-entropy of the true label.
    """
    exact = np.asarray(probabilities, np.float64)
    right = exact.argmax(axis=1) == labels
    entropy = -np.log(np.maximum(label_probabilities(exact, labels), np.finfo(float).tiny))
    return np.column_stack([exact, exact.max(axis=1), right, entropy])


def fit_gray_box(probabilities: np.ndarray, labels: np.ndarray, member: np.ndarray, key: Sequence[int]) -> MLPClassifier:
    """The gray-box attack: two hidden layers of 64, Adam at 0.01, on ``gray_box_features`` of rows with known membership.

    Args:
        probabilities: answers ``[rows, classes]``.
        labels: ``[rows]``.
        member: bool ``[rows]``.
        key: seeds of its initial weights and batches.

    Raises:
        QumosError: the rows are all members or all non-members.
    """
    if member.all() or not member.any():
        raise QumosError("the gray-box attack needs both members and non-members to be fitted")
    state = int(np.random.default_rng(key).integers(2**32))
    network = MLPClassifier((64, 64), solver="adam", learning_rate_init=0.01, random_state=state)
    with warnings.catch_warnings():
        # The number of epochs is part of the attack.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return network.fit(gray_box_features(probabilities, labels), member)


def gray_box_scores(fitted: MLPClassifier, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probability of membership ``[rows]``; above ½ a row is called a member. Rows must not be those it was fitted on."""
    return fitted.predict_proba(gray_box_features(probabilities, labels))[:, 1]


def lira_online(target: np.ndarray, shadow: np.ndarray, member: np.ndarray) -> np.ndarray:
    """log N(φ; μ_in, σ_in) − log N(φ; μ_out, σ_out) ``[P]`` (Carlini et al., 2022, with fixed variance); signals are ``loss_scores``.

    μ are medians over the shadows with and without the row, σ_in and σ_out one value for all rows: the root mean square about
    these medians. A variance per row would need far more shadows.

    Raises:
        QumosError: a row is in all shadows or in none.
    """
    _check(target, shadow, member)
    centre_in, spread_in = _location_and_spread(shadow, member)
    centre_out, spread_out = _location_and_spread(shadow, ~member)
    return norm.logpdf(target, centre_in, spread_in) - norm.logpdf(target, centre_out, spread_out)


def lira_offline(target: np.ndarray, shadow: np.ndarray, member: np.ndarray) -> np.ndarray:
    """−log P(N(μ_out, σ_out) ≥ φ) ``[P]``: how unusually sure the target is for a model that never saw the row.

    Uses the shadows without the row only (Carlini et al., 2022, with fixed variance); the logarithm of the one-sided test ranks
    rows as its value would, but does not saturate.

    Raises:
        QumosError: a row is in all shadows.
    """
    _check(target, shadow, member, online=False)
    centre, spread = _location_and_spread(shadow, ~member)
    return -norm.logsf(target, centre, spread)


def rmia(
    target: np.ndarray,
    shadow: np.ndarray,
    member: np.ndarray,
    target_population: np.ndarray,
    shadow_population: np.ndarray,
    offline_a: float = OFFLINE_A,
) -> np.ndarray:
    """Share of population rows z with [p_x/P(x)] / [p_z/P(z)] > 1, ``[P]`` (Zarifzadeh et al., 2024, offline, γ = 1).

    P = ((1 + a) · mean p_out + (1 − a))/2 for x and z alike: the mean over shadows without the row, moved towards 1 for those
    with it, which are not used. Rows with equal shares are ranked by r = p_x/P(x), or a small population would leave all sure
    rows tied at 1, above every threshold of a low false-positive rate: the score is (rows below + r/(1 + r))/(Z + 1). Signals
    are ``label_probabilities``.

    Args:
        target, shadow, member: see the module.
        target_population: p_z ``[Z]`` at the target, of rows that trained neither it nor any shadow.
        shadow_population: the same at the shadows, ``[S, Z]``.
        offline_a: a, from 0 to 1.

    Raises:
        QumosError: a row is in all shadows; no population rows; a outside 0 to 1.
    """
    _check(target, shadow, member, online=False)
    if not 0 <= offline_a <= 1:
        raise QumosError(f"offline_a is {offline_a}, a number from 0 to 1 is needed")
    if len(target_population) == 0:
        raise QumosError("RMIA needs population rows, got none")
    outside = np.sum(np.where(member, 0.0, shadow), axis=0) / np.sum(~member, axis=0)
    tiny = np.finfo(float).tiny

    def relative(probability: np.ndarray, mean_out: np.ndarray) -> np.ndarray:
        return probability / np.maximum(((1 + offline_a) * mean_out + 1 - offline_a) / 2, tiny)

    population = np.sort(relative(target_population, shadow_population.mean(axis=0)))
    ratio = relative(target, outside)
    return (np.searchsorted(population, ratio, side="left") + ratio / (1 + ratio)) / (len(population) + 1)


def leave_pair_out(count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Every model in turn as the target, with the numbers of its shadows: all models but itself and its twin."""
    models = np.arange(count)
    for target in range(count):
        yield target, models[models // 2 != target // 2]


def _location_and_spread(shadow: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, float]:
    """Per row the median ``[P]`` over the chosen shadows, and the root mean square about it over all rows."""
    kept = np.where(chosen, shadow, np.nan)
    # Sorting puts NaN last; numpy's own nanmedian takes ten times as long here.
    rising, count = np.sort(kept, axis=0), chosen.sum(axis=0)
    middle = np.stack([(count - 1) // 2, count // 2])
    centre = np.take_along_axis(rising, middle, axis=0).mean(axis=0)
    return centre, max(float(np.sqrt(np.nanmean((kept - centre) ** 2))), _LEAST_SPREAD)


def _check(target: np.ndarray, shadow: np.ndarray, member: np.ndarray, online: bool = True) -> None:
    if shadow.shape != member.shape or shadow.shape[1:] != target.shape:
        shapes = f"{list(target.shape)}, {list(shadow.shape)}, {list(member.shape)}"
        raise QumosError(f"target, shadow and member must be [rows], [shadows, rows] and [shadows, rows], got {shapes}")
    inside = member.sum(axis=0)
    if (inside == len(member)).any():
        raise QumosError(f"row {int((inside == len(member)).argmax())} trained every shadow model, at least one without it is needed")
    if online and (inside == 0).any():
        raise QumosError(f"row {int((inside == 0).argmax())} trained no shadow model, at least one with it is needed")


def _losses(subject: Subject) -> Observed:
    sides = {"inside": ("train", "train_labels"), "outside": ("nonmembers", "nonmember_labels")}
    return {side: loss_scores(subject.answers(name), subject.together(labels)) for side, (name, labels) in sides.items()}


@term("membership", observe=_losses, always=True)
def membership(evidence: Evidence, observed: Observed) -> TermResult:
    """Reports ``membership_auc`` of the scenario's attack on the train rows and fresh rows of the same classes.

    With LiRA the draws are each other's shadows, which makes the standard error too small by up to the square root of two.
    """
    inside, outside = observed["inside"], observed["outside"]
    aucs = _lira(inside, outside, evidence.draws) if evidence.scenario.threat.membership == "lira" else list(map(auc, inside, outside))
    return TermResult({"membership_auc": np.array(aucs)}, lambda standing, mean: standing.learned * privacy(mean["membership_auc"]))


def privacy(auc: float) -> float:
    """1 − 2·max(0, AUC − ½): 1 where members cannot be told, and no more than that below ½, which is noise."""
    return 1 - 2 * max(0.0, auc - 0.5)


def _lira(inside: np.ndarray, outside: np.ndarray, draws: Sequence[PreparedDraw]) -> list[float]:
    """AUC per draw of LiRA with the other draws as shadow models: ``half_split`` trained all on halves of one pool."""
    pool = np.union1d(draws[0].rows.train, draws[0].rows.nonmembers)
    losses = np.empty((len(draws), len(pool)))
    member = np.zeros(losses.shape, bool)
    for k, draw in enumerate(draws):
        at = np.searchsorted(pool, draw.rows.train)
        losses[k, at], losses[k, np.searchsorted(pool, draw.rows.nonmembers)] = inside[k], outside[k]
        member[k, at] = True
    found = []
    for target, shadows in leave_pair_out(len(draws)):
        scores = lira_online(losses[target], losses[shadows], member[shadows])
        found.append(auc(scores[member[target]], scores[~member[target]]))
    return found
