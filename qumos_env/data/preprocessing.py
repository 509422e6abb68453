"""Raw features to angles: reduce, scale, clip, and for basis encoding round."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..design.encodings import ENCODINGS, encoding_called
from ..errors import QumosError, one_line, unknown

if TYPE_CHECKING:
    from ..scenario.sections import DataSection

FLAT = 1e-12
"""A feature whose values differ by less than this part of their size carries rounding errors only and counts as constant."""


@dataclass(frozen=True, eq=False)
class Preprocessor:
    """The map ``settle(features @ matrix + offset)``, the encoding settling, to angles, whatever was fitted; the arrays are read-only.

    Attributes:
        matrix: float64 ``[f, width]``. A column of zeros fills a component that the data could not determine.
        offset: float64 ``[width]``, radians.
        angle_range: lowest and highest angle, radians.
        encoding: of the data section.
    """

    matrix: np.ndarray
    offset: np.ndarray
    angle_range: tuple[float, float]
    encoding: str = "angle"

    def __post_init__(self) -> None:
        self.matrix.setflags(write=False)
        self.offset.setflags(write=False)

    @classmethod
    def fit(
        cls, features: np.ndarray, section: DataSection, width: int, labels: np.ndarray | None = None, *, strict: bool = False
    ) -> Preprocessor:
        """Fits reducer and scaler of ``section`` on ``features``.

        PCA and LDA give as many components as rows, features and classes allow; the rest of ``width``, and every component
        that is constant over the rows, becomes the middle of the angle range. LDA needs rows that differ within a class; with
        none (one row a class) its limit of equal spread is taken, which is PCA.

        Args:
            features: float ``[rows, f]``, two rows or more.
            section: reducer, scaler and angle range.
            width: number of angles per row.
            labels: class of every row, int ``[rows]``; for LDA only.
            strict: raise instead of filling components that the number of features or classes rules out.

        Raises:
            QumosError: shape or values that cannot be used; reducer ``none`` with ``f != width``; LDA without two classes.
        """
        features = _checked(features, None)
        if len(features) < 2:
            raise QumosError(f"preprocessing needs at least 2 rows, got {len(features)}")
        classes = 0 if labels is None else len(np.unique(labels))
        check_width(section, features.shape[1], classes, width, strict=strict)
        directions = np.zeros((features.shape[1], width))
        found = _directions(features, section.reducer, width, labels)
        directions[:, : found.shape[1]] = found
        low, high = section.angle_range
        # Reducers measure from the mean, which matters to max-abs; without one a feature keeps its own zero.
        centre = np.zeros(features.shape[1]) if section.reducer == "none" else features.mean(axis=0)
        scale, offset = _scaling((features - centre) @ directions, section)
        matrix = np.ascontiguousarray(directions * scale)
        return cls(matrix, offset - centre @ matrix, (float(low), float(high)), section.encoding)

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Angles in radians, float64 ``[rows, width]``, of raw ``features`` ``[rows, f]``.

        Raises:
            QumosError: another number of features than fitted, or a value that is not finite.
        """
        angles = _checked(features, len(self.matrix)) @ self.matrix + self.offset
        return encoding_called(self.encoding).settle(angles, self.angle_range)

    def to_dict(self) -> dict[str, Any]:
        """The map as plain JSON numbers; Python writes floats so that they read back bit for bit."""
        return {
            "matrix": self.matrix.tolist(),
            "offset": self.offset.tolist(),
            "angle_range": list(self.angle_range),
            "encoding": self.encoding,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preprocessor:
        """The preprocessor that ``to_dict`` described.

        Raises:
            QumosError: a missing field, or fields that do not fit together.
        """
        try:
            matrix, offset = np.array(data["matrix"], dtype=np.float64), np.array(data["offset"], dtype=np.float64)
            low, high = (float(angle) for angle in data["angle_range"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise QumosError(f"preprocessing: matrix, offset and angle_range must be numbers ({one_line(error)})") from error
        if matrix.ndim != 2 or offset.shape != matrix.shape[1:] or not low < high:
            raise QumosError(f"preprocessing: matrix {matrix.shape}, offset {offset.shape}, angle_range {low, high} do not fit together")
        if not (np.isfinite(matrix).all() and np.isfinite(offset).all() and np.isfinite((low, high)).all()):
            raise QumosError("preprocessing: matrix, offset and angle_range must be finite")
        # Bundles from before there was a choice hold none.
        encoding = data.get("encoding", "angle")
        if encoding not in ENCODINGS:
            raise unknown("encoding in preprocessing", encoding, ENCODINGS)
        return cls(matrix, offset, (low, high), encoding)


def check_width(section: DataSection, features: int, classes: int, width: int, *, strict: bool) -> None:
    """Checks that ``section.reducer`` can give ``width`` angles of so many features and classes.

    Args:
        classes: number of classes, 0 if there are no labels.
        strict: also refuse components that could only be filled.

    Raises:
        QumosError: it cannot.
    """
    if section.reducer == "none" and features != width:
        raise QumosError(f"data.reducer 'none' needs as many features as qubits: {section.source!r} has {features}, not {width}")
    if section.reducer == "lda" and classes < 2:
        raise QumosError("data.reducer 'lda' needs the labels of at least two classes")
    most = min(features, classes - 1) if section.reducer == "lda" else features
    if strict and width > most:
        raise QumosError(f"data.reducer {section.reducer!r} gives at most {most} components here, {width} are needed")


def _directions(features: np.ndarray, reducer: str, width: int, labels: np.ndarray | None) -> np.ndarray:
    """Columns on which features are projected, ``[f, k]`` with k at most ``width``."""
    if reducer == "none":
        return np.eye(width)
    if reducer == "lda" and labels is not None and _varies_within(features, labels):
        found = _lda(features, labels, width)
    else:
        found = _pca(features, width)
    # Either sign is a solution: the largest entry is made positive, so that libraries and machines agree.
    largest = np.abs(found).argmax(axis=0)
    return found * np.where(found[largest, np.arange(found.shape[1])] < 0, -1.0, 1.0)


def _pca(features: np.ndarray, width: int) -> np.ndarray:
    from sklearn.decomposition import PCA  # here, since applying what was fitted needs no scikit-learn

    rows, columns = features.shape
    if not np.ptp(features, axis=0).any():
        return np.empty((columns, 0))
    pca = PCA(n_components=min(width, rows - 1, columns), svd_solver="full").fit(features)
    # Beyond the rank the components are rounding errors, which the scaler would blow up to the full range.
    noise = max(rows, columns) * np.finfo(np.float64).eps * np.abs(features).max()
    return pca.components_[pca.singular_values_ > noise].T


def _lda(features: np.ndarray, labels: np.ndarray, width: int) -> np.ndarray:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    # Classes with one common mean leave no direction, and scikit-learn divides by their zero scatter on the way.
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        # Collinear features are the rule with few rows; the SVD solver drops the superfluous directions.
        warnings.simplefilter("ignore", UserWarning)
        lda = LinearDiscriminantAnalysis(solver="svd").fit(features, labels)
    return lda.scalings_[:, : min(width, len(lda.classes_) - 1)]


def _varies_within(features: np.ndarray, labels: np.ndarray) -> bool:
    return any(np.ptp(features[labels == label], axis=0).any() for label in np.unique(labels))


def _scaling(values: np.ndarray, section: DataSection) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset, ``[width]`` each, that bring ``values`` ``[rows, width]`` to the angle range; mid range where constant."""
    low, high = section.angle_range
    smallest, largest = values.min(axis=0), values.max(axis=0)
    peak = np.maximum(np.abs(smallest), np.abs(largest))
    varies = largest - smallest > np.maximum(FLAT * peak, np.finfo(np.float64).tiny)
    if section.scaler == "min-max":
        origin, start, length = smallest, low, largest - smallest
    else:
        origin, start, length = np.zeros_like(peak), (low + high) / 2, 2 * peak
    scale = np.where(varies, (high - low) / np.where(varies, length, 1.0), 0.0)
    return scale, np.where(varies, start - scale * origin, (low + high) / 2)


def _checked(features: np.ndarray, columns: int | None) -> np.ndarray:
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or (columns is not None and values.shape[1] != columns):
        raise QumosError(f"features must be [rows, {columns or 'features'}], got shape {values.shape}")
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        row, column = wrong[0]
        raise QumosError(f"features: row {row + 1}, column {column + 1}: {values[row, column]} is not a finite number")
    return values
