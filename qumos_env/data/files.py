"""Labelled rows from a user's CSV, Parquet or NPZ file.

In tables the label is the column ``label``, else ``target``, else the last one; every other column is a feature. An NPZ holds
``features`` and ``labels``, or the split layout ``x_train, y_train, x_test, y_test``. Pickled objects are never loaded.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import QumosError, one_line

SUFFIXES = (".csv", ".parquet", ".npz")
LABEL_COLUMNS = ("label", "target")


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Features float64 ``[rows, f]`` and the label of every row as text, ``[rows]``."""

    features: np.ndarray
    labels: np.ndarray


def read_file(path: Path) -> LabelledRows:
    """The rows of the CSV, Parquet or NPZ file ``path``. Rows are counted from 1 in messages, without the header.

    Raises:
        QumosError: one line with the path, and the row and column where a value is at fault.
    """
    if not path.exists():
        raise QumosError(f"{path}: no such file")
    if not path.is_file():
        raise QumosError(f"{path}: is not a file")
    return _read_npz(path) if path.suffix == ".npz" else _read_table(path)


def label_text(value: object) -> str:
    """``value`` as a class name; whole floats are written as integers, since tables with a gap turn 3 into 3.0."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float | np.floating) and value.is_integer():
        return str(int(value))
    return str(value)


def _read_table(path: Path) -> LabelledRows:
    try:
        import pandas

        table = pandas.read_csv(path) if path.suffix == ".csv" else pandas.read_parquet(path)
    except ImportError as error:
        raise QumosError(f"{path}: reading {path.suffix} needs pandas and pyarrow; pip install 'qumos-env[data]'") from error
    # NotImplementedError is how Arrow reports a Parquet feature that it does not know.
    except (OSError, ValueError, NotImplementedError) as error:
        raise _unreadable(path, error) from error
    names = [str(name) for name in table.columns]
    if len(names) < 2:
        raise QumosError(f"{path}: needs at least one feature column and a label column, found {len(names)} column(s)")
    label = next((names.index(name) for name in LABEL_COLUMNS if name in names), len(names) - 1)
    columns = [index for index in range(len(names)) if index != label]
    numbers = [_numbers(table.iloc[:, index], f"{path}: column {names[index]!r}") for index in columns]
    features = np.stack(numbers, axis=1)
    _check_finite(features, [repr(names[index]) for index in columns], path)
    values = table.iloc[:, label]
    gaps = np.flatnonzero(values.isna().to_numpy())
    if len(gaps):
        raise QumosError(f"{path}: row {gaps[0] + 1}: no label in column {names[label]!r}")
    return _checked(features, values.tolist(), path)


def _numbers(column: Any, where: str) -> np.ndarray:
    """A pandas column as float64 ``[rows]``, NaN where it is empty."""
    import pandas

    if column.dtype.kind in "Mmc":
        raise QumosError(f"{where} is not numeric but {column.dtype}")
    try:
        numbers = pandas.to_numeric(column, errors="coerce")
    except TypeError as error:
        raise QumosError(f"{where} is not numeric: {one_line(error)}") from error
    wrong = np.flatnonzero((numbers.isna() & column.notna()).to_numpy())
    if len(wrong):
        raise QumosError(f"{where} is not numeric: {str(column.iloc[wrong[0]])!r} in row {wrong[0] + 1}")
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _read_npz(path: Path) -> LabelledRows:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise QumosError(f"{path}: holds a single array; save with numpy.savez(path, features=..., labels=...)")
        with loaded as archive:
            arrays = {name: archive[name] for name in archive.files}
    except QumosError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable(path, error) from error
    split = ("x_train", "y_train", "x_test", "y_test")
    if all(name in arrays for name in split):
        _same_length(path, arrays["x_train"], arrays["y_train"], "x_train", "y_train")
        _same_length(path, arrays["x_test"], arrays["y_test"], "x_test", "y_test")
        if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
            raise QumosError(f"{path}: rows of x_train and x_test differ in shape")
        features = np.concatenate([arrays["x_train"], arrays["x_test"]])
        labels = np.concatenate([arrays["y_train"].ravel(), arrays["y_test"].ravel()])
    elif "features" in arrays and "labels" in arrays:
        features, labels = arrays["features"], arrays["labels"]
        _same_length(path, features, labels, "features", "labels")
    else:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise QumosError(f"{path}: needs the arrays features and labels (or {', '.join(split)}), found {found}")
    if features.dtype.kind not in "biuf":
        raise QumosError(f"{path}: features are not numeric but {features.dtype}")
    if features.ndim < 2:
        raise QumosError(f"{path}: features must be [rows, columns], got shape {features.shape}")
    flat = features.reshape(len(features), int(np.prod(features.shape[1:]))).astype(np.float64)
    _check_finite(flat, [f"features[:, {index}]" for index in range(flat.shape[1])], path)
    labels = labels.ravel()
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise QumosError(f"{path}: row {np.flatnonzero(~np.isfinite(labels))[0] + 1}: label is {labels[~np.isfinite(labels)][0]}")
    return _checked(flat, labels.tolist(), path)


def _same_length(path: Path, features: np.ndarray, labels: np.ndarray, left: str, right: str) -> None:
    if features.ndim == 0 or labels.ndim == 0 or len(features) != len(labels) or labels.size != len(labels):
        raise QumosError(f"{path}: {left} has shape {features.shape} and {right} has shape {labels.shape}; one label a row is needed")


def _check_finite(features: np.ndarray, columns: list[str], path: Path) -> None:
    wrong = np.argwhere(~np.isfinite(features))
    if len(wrong):
        row, column = wrong[0]
        raise QumosError(f"{path}: row {row + 1}, column {columns[column]}: {features[row, column]} is not a finite number")


def _checked(features: np.ndarray, labels: list[object], path: Path) -> LabelledRows:
    if features.size == 0:
        raise QumosError(f"{path}: holds no rows")
    return LabelledRows(features, np.array([label_text(label) for label in labels]))


def _unreadable(path: Path, error: Exception) -> QumosError:
    return QumosError(f"{path}: cannot be read ({one_line(error) or type(error).__name__})")
