"""The success that Su et al. (arXiv 2509.06086) print for membership inference, beside that of the same attack on other rows."""

from __future__ import annotations

import numpy as np

from ...errors import QumosError
from ...evaluation.membership import fit_gray_box, gray_box_scores
from ...evaluation.roc import auc
from ...evaluation.service import Service
from ...seeds import label as seed_label
from ..results import Control, Measurement
from .member_scores import GUESS, balanced_split, per_unit

FITTED_SHARE = 0.8


def qmu_protocol(victim: Service, label: int = 0) -> list[Measurement]:
    """The success that Su et al. (arXiv 2509.06086) print, beside what the same attack achieves on rows that it was not fitted on.

    Their number is the recall on the members of one class, most of which the attack was fitted on, without a false-positive
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
    answers = victim.answer(rows, "published protocol")
    found: dict[str, list[float]] = {name: [] for name in ("recall", "held-out recall", "false positives", "balanced", "AUC")}
    for index, (answer, asked) in enumerate(zip(answers, rows, strict=True)):
        labels = victim.observed_labels[asked]
        generator = np.random.default_rng([victim.seed, index, seed_label("published protocol: split")])
        fitted, scored = balanced_split(labels, is_member, FITTED_SHARE, generator)
        key = [victim.seed, index, seed_label("published protocol: fit")]
        network = fit_gray_box(answer[fitted], labels[fitted], is_member[fitted], key)
        scores, mine = gray_box_scores(network, answer, labels), labels == label
        held_out, fresh = scored[is_member[scored]], scored[~is_member[scored]]
        recall = _share(scores[is_member & mine])
        unseen, false = _share(scores[held_out[mine[held_out]]]), _share(scores[fresh[mine[fresh]]])
        area = auc(scores[held_out], scores[fresh])
        for name, value in zip(found, (recall, unseen, false, (unseen + 1 - false) / 2, area), strict=True):
            found[name].append(value)
    values = {name: per_unit(victim, np.array(one)) for name, one in found.items()}
    which = f"class {names[label]}"
    recalled = f"recall on members of {which}"
    false_rate = Control(f"false-positive rate: the same on held-out non-members of {which}", values["false positives"])
    return [
        Measurement("published protocol", recalled, values["recall"], false_rate, "mostly rows the attack was fitted on"),
        Measurement("held out", recalled, values["held-out recall"], false_rate, "rows the attack was not fitted on"),
        Measurement("held out", f"balanced accuracy on {which}", values["balanced"], GUESS),
        Measurement("held out", "AUC, all classes", values["AUC"], GUESS),
    ]


def _share(scores: np.ndarray) -> float:
    """Share of rows called members; NaN without rows."""
    return float(np.mean(scores > 0.5)) if len(scores) else float("nan")
