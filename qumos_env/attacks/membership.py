"""Membership inference: does the model's output betray that a row was trained on?

The adversary sees the output vector and knows the true label. The loss-threshold attack (Yeom et al., 2018) calls a row a
member when its loss is low; its AUC needs no fitting. An AUC over few rows is noisy, so it is averaged over draws *before*
it is compared with ½.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def loss_scores(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """log p_y − log Σ_{k≠y} p_k per row, float64: higher for rows that the model is surer of."""
    rows = np.arange(len(labels))
    right = probabilities[rows, labels]
    rest = probabilities.sum(axis=1) - right
    tiny = np.finfo(float).tiny
    return np.log(np.maximum(right, tiny)) - np.log(np.maximum(rest, tiny))


def auc(members: np.ndarray, others: np.ndarray) -> float:
    """Probability that a member scores above a non-member, ties counted half (Mann–Whitney)."""
    ranks = rankdata(np.concatenate([members, others]))
    n = len(members)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(others)))
