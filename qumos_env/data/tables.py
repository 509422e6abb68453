"""A user's own table: CSV, Parquet or NPZ."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import QumosError

ENDINGS = (".csv", ".parquet", ".npz")


def read_table(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features float64 ``[rows, features]`` and labels (strings) of the file ``path``.

    In CSV and Parquet the label is the column ``label``, else ``target``, else the last; CSV has a header line. NPZ holds the
    arrays ``features`` and ``labels``.

    Raises:
        QumosError: names the file and what is wrong with it, for a bad value its row and column.
    """
    if not path.is_file():
        raise QumosError(f"{path}: no such file")
    reader = {".csv": _read_csv, ".parquet": _read_parquet, ".npz": _read_npz}[path.suffix]
    features, labels, names = reader(path)
    if features.ndim != 2 or features.shape[1] == 0:
        raise QumosError(f"{path}: no feature columns")
    if len(features) != len(labels):
        raise QumosError(f"{path}: {len(features)} rows of features, {len(labels)} labels")
    if len(features) == 0:
        raise QumosError(f"{path}: no rows")
    if not np.isfinite(features).all():
        row, column = np.argwhere(~np.isfinite(features))[0]
        raise QumosError(f"{path}: row {row + 1}, column {names[column]}: {features[row, column]} is not a finite number")
    return features, labels


def _label_column(names: Sequence[str]) -> int:
    for name in ("label", "target"):
        if name in names:
            return list(names).index(name)
    return len(names) - 1


def _read_csv(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            lines = [line for line in csv.reader(handle) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise QumosError(f"{path}: cannot be read ({error})") from error
    if not lines:
        raise QumosError(f"{path}: the file is empty")
    header, body = lines[0], lines[1:]
    at = _label_column(header)
    names = [name for column, name in enumerate(header) if column != at]
    features = np.empty((len(body), len(names)))
    for row, line in enumerate(body):
        if len(line) != len(header):
            raise QumosError(f"{path}: row {row + 1} has {len(line)} values, the header has {len(header)}")
        for column, text in enumerate(value for index, value in enumerate(line) if index != at):
            try:
                features[row, column] = float(text)
            except ValueError as error:
                raise QumosError(f"{path}: row {row + 1}, column {names[column]}: {text!r} is not a number") from error
    return features, np.array([line[at] for line in body]), names


def _read_parquet(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise QumosError(f"{path}: reading Parquet needs pyarrow; install qumos-env[data]") from error
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise QumosError(f"{path}: cannot be read ({error})") from error
    at = _label_column(table.column_names)
    names = [name for column, name in enumerate(table.column_names) if column != at]
    columns = []
    for name in names:
        try:
            columns.append(np.asarray(table.column(name).to_numpy(), float))
        except (TypeError, ValueError, pyarrow.ArrowException) as error:
            raise QumosError(f"{path}: column {name} is not numeric") from error
    features = np.stack(columns, axis=1) if columns else np.empty((table.num_rows, 0))
    return features, _as_text(table.column(at).to_pylist()), names


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [name for name in ("features", "labels") if name not in arrays]
            if missing:
                raise QumosError(f"{path}: array {missing[0]!r} is missing; it holds {', '.join(arrays) or 'nothing'}")
            features, labels = arrays["features"], arrays["labels"]
    except QumosError:
        raise
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise QumosError(f"{path}: cannot be read ({error})") from error
    if not np.issubdtype(features.dtype, np.number) or np.iscomplexobj(features):
        raise QumosError(f"{path}: features are {features.dtype}, numbers are needed")
    if labels.ndim != 1:
        raise QumosError(f"{path}: labels have shape {list(labels.shape)}, one label per row is needed")
    features = features.reshape(len(features), -1).astype(float) if features.ndim > 1 else features.astype(float)
    return features, _as_text(labels.tolist()), [str(column) for column in range(features.shape[-1])]


def _as_text(values: Sequence[object]) -> np.ndarray:
    return np.array([str(int(value)) if isinstance(value, float) and value.is_integer() else str(value) for value in values])
