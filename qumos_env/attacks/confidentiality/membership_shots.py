"""Two studies of membership inference beyond the audit: the attacker's budget of shots, and a published protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import QumosError
from ...evaluation.membership import fit_gray_box, gray_box_scores, loss_scores
from ...evaluation.roc import auc
from ...evaluation.service import Service
from ...evaluation.statistics import Interval, mean_interval
from ...model.heads import softmax
from ..registry import attack
from ..results import AttackResult, Curve, Figure
from .member_scores import balanced_split, per_unit

QMU = "membership-qmu"
QMU_FITTED_SHARE = 0.8

# Last words of seeds, far from those of other attacks.
_SHOTS_KEY, _SPLIT_KEY, _FIT_KEY = 0x3E40, 0x3E41, 0x3E42


@dataclass(frozen=True, eq=False)
class ShotsRow:
    """What an asker gets who puts every row ``repeats`` times to a service of ``shots`` runs and averages the answers.

    Attributes:
        shots: runs of every circuit per answer; ``None`` answers exactly.
        repeats: answers averaged.
        accuracies: on the test split, float ``[units]``: per draw, or pair of draws with ``half_split``.
        aucs: of the loss-threshold attack, members against fresh non-members, of the same units.
    """

    shots: int | None
    repeats: int
    accuracies: np.ndarray
    aucs: np.ndarray

    @property
    def accuracy(self) -> Interval:
        """Over the units."""
        return mean_interval(self.accuracies)

    @property
    def auc(self) -> Interval:
        """Over the units."""
        return mean_interval(self.aucs)


def shots_study(
    victim: Service,
    shots: Sequence[int | None] = (10, 100, 1000, None),
    repeats: Sequence[int] = (1, 10),
    on_progress: Callable[[int, int], None] | None = None,
) -> list[ShotsRow]:
    """Test accuracy and membership AUC of ``victim`` by shots and repeated questions; its design's own shots play no part.

    The same K trained models answer throughout. Exact answers gain nothing from repeats and have one row. Intervals are over
    draws (pairs of draws with ``half_split``).

    Args:
        victim: the trained models.
        shots, repeats: the table's rows.
        on_progress: called with the rows done and their number.

    Raises:
        QumosError: shots or repeats below 1.
    """
    for name, values in (("shots", shots), ("repeats", repeats)):
        wrong = [value for value in values if value is not None and value < 1]
        if wrong:
            raise QumosError(f"{name} is {wrong[0]}, at least 1 is needed")
    budgets = [(level, count) for level in shots for count in (repeats if level is not None else (1,))]
    members, others = victim.together("train"), victim.together("nonmembers")
    rows = np.concatenate([members, others, victim.test], axis=1)
    ends = np.cumsum([members.shape[1], others.shape[1]])
    inputs, labels = victim.encode(rows), victim.labels[rows]
    table = []
    for done, (level, count) in enumerate(budgets, start=1):
        answers = _averaged_answers(victim, inputs, level, count)
        inside, outside, _ = np.split(loss_scores(answers, labels), ends, axis=1)
        right = np.mean((answers.argmax(axis=-1) == labels)[:, ends[1] :], axis=1)
        aucs = np.array([auc(one, two) for one, two in zip(inside, outside, strict=True)])
        table.append(ShotsRow(level, count, per_unit(victim, right), per_unit(victim, aucs)))
        if on_progress is not None:
            on_progress(done, len(budgets))
    return table


@attack(
    "membership-shots",
    "confidentiality",
    "asks a service that answers from a number of shots, once or several times, and ranks rows by the loss of the mean answer",
)
def membership_shots(victim: Service) -> AttackResult:
    """Loss-threshold AUC and accuracy by shots; a curve over shots for every number of repeats."""
    rows = shots_study(victim)
    figures, curves = [], []
    for row in rows:
        level = "exact answers" if row.shots is None else f"{row.shots:,} shots, {_answers(row.repeats)}"
        figures.append(Figure("confidentiality", "membership-shots", f"{level}: AUC", row.aucs, control="a guess", constant=0.5))
    for repeats in dict.fromkeys(row.repeats for row in rows if row.shots is not None):
        finite = [row for row in rows if row.shots is not None and row.repeats == repeats]
        for name, values in (("AUC", [row.auc.mean for row in finite]), ("accuracy", [row.accuracy.mean for row in finite])):
            where = np.array([float(row.shots or 0) for row in finite])
            curves.append(Curve("shots against leakage", f"{name}, {_answers(repeats)}", where, np.array(values)))
    return AttackResult(figures, curves)


def _answers(repeats: int) -> str:
    return f"{repeats} answer{'s' if repeats > 1 else ''} a row"


def qmu_protocol(victim: Service, label: int = 0) -> AttackResult:
    """The success that Su et al. (arXiv 2509.06086) print, beside what the same attack achieves on rows that it was not fitted on.

    Their figure is the recall on the members of one class, most of which the attack was fitted on, without a false-positive
    rate: an attack that calls every row of the class a member scores 1. The false-positive rate is measured on held-out
    non-members of that class from the same pool: where all draws share one pool, rows of the test split differ from it by
    more than membership.

    Args:
        victim: the trained models.
        label: number of the class.

    Raises:
        QumosError: no such class; no class has two members and two non-members.
    """
    names = victim.workload.protocol.dataset.class_names
    if not 0 <= label < len(names):
        raise QumosError(f"class number is {label}, from 0 to {len(names) - 1} is needed")
    members, others = victim.together("train"), victim.together("nonmembers")
    rows = np.concatenate([members, others], axis=1)
    is_member = np.arange(rows.shape[1]) < members.shape[1]
    answers = victim.answer(rows, _FIT_KEY)
    found: dict[str, list[float]] = {name: [] for name in ("recall", "held-out recall", "false positives", "balanced", "AUC")}
    for index, (answer, asked) in enumerate(zip(answers, rows, strict=True)):
        labels = victim.labels[asked]
        generator = np.random.default_rng([victim.seed, index, _SPLIT_KEY])
        fitted, scored = balanced_split(labels, is_member, QMU_FITTED_SHARE, generator)
        network = fit_gray_box(answer[fitted], labels[fitted], is_member[fitted], [victim.seed, index, _FIT_KEY])
        scores, mine = gray_box_scores(network, answer, labels), labels == label
        held_out, fresh = scored[is_member[scored]], scored[~is_member[scored]]
        recall = _share(scores[is_member & mine])
        unseen, false = _share(scores[held_out[mine[held_out]]]), _share(scores[fresh[mine[fresh]]])
        area = auc(scores[held_out], scores[fresh])
        for name, value in zip(found, (recall, unseen, false, (unseen + 1 - false) / 2, area), strict=True):
            found[name].append(value)
    which = f"members of class {names[label]}"
    false_rate = per_unit(victim, np.array(found["false positives"]))

    control = f"false-positive rate: the same on held-out non-members of class {names[label]}"

    def recalled(title: str, name: str, note: str) -> Figure:
        values = per_unit(victim, np.array(found[name]))
        return Figure("confidentiality", QMU, f"{title}: recall on {which}", values, false_rate, control, note=note)

    def guessed(title: str, name: str) -> Figure:
        return Figure("confidentiality", QMU, title, per_unit(victim, np.array(found[name])), control="a guess", constant=0.5)

    return AttackResult(
        [
            recalled("published protocol", "recall", "mostly rows the attack was fitted on"),
            recalled("held out", "held-out recall", "rows the attack was not fitted on"),
            guessed(f"held out: balanced accuracy on class {names[label]}", "balanced"),
            guessed("held out: AUC, all classes", "AUC"),
        ]
    )


def _share(scores: np.ndarray) -> float:
    """Share of rows called members; NaN without rows."""
    return float(np.mean(scores > 0.5)) if len(scores) else float("nan")


def _averaged_answers(victim: Service, inputs: np.ndarray, shots: int | None, repeats: int) -> np.ndarray:
    """Mean class probabilities ``[K, rows, classes]`` of ``repeats`` answers to ``inputs`` ``[K, rows, n_qubits]``."""
    model, trained = victim.model, victim.trained
    if shots is None:
        return model.probabilities(trained, inputs)
    total = np.zeros((*inputs.shape[:2], victim.n_classes))
    for repeat in range(repeats):
        keys = [(*key, shots, repeat + 1) for key in victim.keys(_SHOTS_KEY)]
        total += softmax(model.head.logits(trained.head, model.stack.sampled_readout(trained.angles, inputs, shots, keys)))
    return total / repeats
