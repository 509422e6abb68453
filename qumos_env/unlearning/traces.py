"""Traces: can an adversary tell models that were made to forget some rows from models that never saw them?

The adversary of this test is stronger than any outside: it may train both kinds itself, from other initial parameters, and learns from
these shadow models what the loss of each withdrawn row is in the one and in the other. That is LiRA (Carlini et al., 2022) against
unlearning, after Hayes et al. (arXiv 2403.01218): not whether withdrawn rows look like other rows, but whether each of them looks as if
it had never been trained on.
"""

from __future__ import annotations

import numpy as np

from ..evaluation.membership import leave_pair_out, lira_online
from ..evaluation.roc import auc


def trace_auc(candidates: np.ndarray, retrained: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """AUC ``[M]`` with which LiRA tells candidates from retrained models by their withdrawn rows; ½ if these left no trace.

    Every pair of one candidate and one retrained model is the target once, the others are its shadows.

    Args:
        candidates, retrained: ``loss_scores`` of the training rows, ``[S, M, rows]``, of models from S initial parameters each; S ≥ 2.
        rows: the withdrawn ones, bool ``[M, rows]``.
    """
    starts = len(candidates)
    member = np.arange(2 * starts) % 2 == 0
    found = []
    for model, mine in enumerate(rows):
        pairs = np.stack([candidates[:, model, mine], retrained[:, model, mine]], axis=1).reshape(2 * starts, -1)
        inside = np.broadcast_to(member[:, None], pairs.shape)
        scores = np.stack([lira_online(pairs[one], pairs[others], inside[others]) for one, others in leave_pair_out(2 * starts)])
        found.append(auc(scores[member].ravel(), scores[~member].ravel()))
    return np.array(found)
