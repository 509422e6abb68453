"""Features of very different size brought to one, for models that measure distances or are punished for large weights."""

from __future__ import annotations

import numpy as np


def standardised(rows: np.ndarray) -> np.ndarray:
    """``rows`` ``[rows, f]`` centred, and every feature on the scale of its spread."""
    centred = rows - rows.mean(axis=0)
    return centred / positive(centred.std(axis=0))


def of_unit_norm(rows: np.ndarray) -> np.ndarray:
    """``rows`` of mean squared norm 1."""
    return rows / positive(np.sqrt(np.mean(np.sum(rows**2, axis=1))))


def positive(scale: np.ndarray) -> np.ndarray:
    """``scale``; infinite where it is 0 but for rounding, so that what does not vary vanishes."""
    return np.where(scale > 1e-9 * np.max(scale, initial=0.0), scale, np.inf)
