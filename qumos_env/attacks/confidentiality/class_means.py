"""Class means: what an adversary guesses from its own rows."""

from __future__ import annotations

import numpy as np


def class_means(values: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Mean of the ``values`` ``[rows, f]`` of every class, ``[n_classes, f]``; that of all rows for a class without any."""
    held = [values[labels == label] for label in range(n_classes)]
    return np.stack([(rows if len(rows) else values).mean(axis=0) for rows in held])
