"""Labelled rows from a user's CSV, Parquet or NPZ file.

The first line of a CSV names its columns. The label is the column ``label``, else ``target``, else the last one; every other column is a
feature. An index that pandas wrote beside the columns is left out: a first column without a name, ``Unnamed: 0``, ``__index_level_0__``.
An NPZ holds ``features`` and ``labels``, or the split layout ``x_train, y_train, x_test, y_test``. Pickled objects are never loaded.

How large a file is, is found out before its rows are read.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np

from ..errors import QumosError, one_line, shown
from ..files import open_file
from ..scenario.sections import MOST_CLASSES, MOST_LABEL

SUFFIXES = (".csv", ".parquet", ".npz")
LABEL_COLUMNS = ("label", "target")
MOST_BYTES = 2**30
"""Of a file; the 70,000 images of MNIST take 440 MB at most."""
MOST_ROWS = 2_000_000
MOST_COLUMNS = 10_000
MOST_CELLS = 100_000_000
"""Rows × columns: 800 MB."""
MOST_VALUE = 1e30
"""Size of a feature, so that its square and sums of squares are finite."""
_MOST_HEADER = 2**22  # bytes
_INDEX = re.compile(r"Unnamed: 0(\.\d+)?|__index_level_\d+__")  # as pandas calls an index that has no name
# What NumPy and zipfile raise for files that are not theirs.
_DAMAGE = (ValueError, EOFError, LookupError, RuntimeError, TypeError, SyntaxError, TokenError, zipfile.BadZipFile, zlib.error)
_SPLIT = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Features float64 ``[rows, f]`` and the label of every row as text, ``[rows]``."""

    features: np.ndarray
    labels: np.ndarray


def read_file(path: Path) -> LabelledRows:
    """The rows of the CSV, Parquet or NPZ file ``path``. Rows are counted from 1 in messages, without the header.

    Raises:
        QumosError: one line with the path, and the row and column where a value is at fault; also for what is no regular file, or is
            larger than ``MOST_BYTES``, ``MOST_ROWS``, ``MOST_COLUMNS`` or ``MOST_CELLS``.
    """
    readers: dict[str, Callable[[Path, BinaryIO], LabelledRows]] = {".csv": _read_csv, ".parquet": _read_parquet, ".npz": _read_npz}
    read = next(reader for suffix, reader in readers.items() if path.name.endswith(suffix))
    with open_file(path, MOST_BYTES) as handle:
        try:
            return read(path, handle)
        except MemoryError as error:  # a damaged file may ask for any amount
            raise QumosError(f"{path}: cannot be read (it needs more memory than there is)") from error


def label_text(value: object) -> str:
    """``value`` as a class name; whole floats are written as integers, since tables with a gap turn 3 into 3.0."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float | np.floating) and value.is_integer():
        return str(int(value))
    return str(value)


def _read_csv(path: Path, handle: BinaryIO) -> LabelledRows:
    names = _header(path, handle)
    handle.seek(0)
    # More than there are rows, if lines are blank or inside quotes.
    lines = 1 + sum(chunk.count(b"\n") + chunk.count(b"\r") for chunk in iter(lambda: handle.read(2**20), b""))
    _check_size(path, lines, len(names))
    handle.seek(0)
    try:
        import pandas

        table = pandas.read_csv(handle)
    except ImportError as error:
        raise _needs_pandas(path) from error
    except (OSError, ValueError, OverflowError) as error:
        raise _unreadable(path, error) from error
    return _rows_of(table, names, path)


def _header(path: Path, handle: BinaryIO) -> list[str]:
    """The names of the columns, in the first line that is not blank."""
    text = handle.read(_MOST_HEADER).decode("utf-8-sig", errors="replace")
    lines = io.StringIO(text, newline=None)
    rows = csv.reader(lines)
    try:
        names = next((row for row in rows if len(row) > 1 or "".join(row).strip()), [])
    except csv.Error as error:
        raise _unreadable(path, error) from error
    if not lines.readline() and handle.read(1):
        raise QumosError(f"{path}: the first line has more than {_MOST_HEADER:,} bytes")
    _check_size(path, 0, len(names))
    if names and all(map(_is_number, names)):
        raise _needs_header(path, names)
    return names


def _needs_header(path: Path, names: Sequence[str]) -> QumosError:
    return QumosError(f"{path}: the first line must name the columns, it holds the values of a row: {shown(list(names))}")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _check_size(path: Path, rows: int, columns: int) -> None:
    if columns > MOST_COLUMNS:
        raise QumosError(f"{path}: has {columns:,} columns, at most {MOST_COLUMNS:,} are possible")
    if rows > MOST_ROWS:
        raise QumosError(f"{path}: has {rows:,} rows, at most {MOST_ROWS:,} are possible")
    if rows * columns > MOST_CELLS:
        raise QumosError(f"{path}: has {rows:,} rows of {columns:,} columns, at most {MOST_CELLS:,} values are possible")


def _read_parquet(path: Path, handle: BinaryIO) -> LabelledRows:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise _needs_pandas(path) from error
    try:
        file = parquet.ParquetFile(handle, pre_buffer=False)
        _check_size(path, file.metadata.num_rows, file.metadata.num_columns)
        # What pandas adds about a table may be missing or damaged; only the names of its index are taken from there.
        index = _index_columns(file.schema_arrow.metadata)
        table = file.read(use_threads=False).replace_schema_metadata(None).to_pandas(use_threads=False)
    except QumosError:
        raise
    # NotImplementedError is how Arrow reports a Parquet feature that it does not know.
    except (OSError, ValueError, NotImplementedError, KeyError, TypeError, pyarrow.ArrowException) as error:
        raise _unreadable(path, error) from error
    table = table.loc[:, [name not in index for name in table.columns]]
    return _rows_of(table, [str(name) for name in table.columns], path)


def _index_columns(metadata: dict[bytes, bytes] | None) -> set[str]:
    try:
        described = json.loads((metadata or {}).get(b"pandas", b"{}"))
        return {name for name in described["index_columns"] if isinstance(name, str)}
    except (ValueError, LookupError, TypeError, RecursionError):
        return set()


def _rows_of(table: Any, header: Sequence[str], path: Path) -> LabelledRows:
    """The rows of a pandas table, whose columns the file calls ``header``: pandas makes up names where some are missing or equal."""
    names = [str(name) for name in table.columns]
    header = [name.strip() for name in header] if len(header) == len(names) else names
    kept = [number for number, name in enumerate(header) if not _INDEX.fullmatch(name) and (name or number)]
    if len(kept) < 2:
        raise QumosError(f"{path}: needs at least one feature column and a label column, found {len(kept)} column(s)")
    label = next((number for name in LABEL_COLUMNS for number in kept if names[number] == name), kept[-1])
    columns = [number for number in kept if number != label]
    values = table.iloc[:, label]
    labels = [label_text(value) for value in values.tolist()]
    if all(_is_number(header[number]) for number in columns) and header[label] in labels:
        raise _needs_header(path, header)
    gaps = np.flatnonzero(values.isna().to_numpy())
    if len(gaps):
        raise QumosError(f"{path}: row {gaps[0] + 1}: no label in column {shown(names[label])}")
    rule = f"column {shown(names[label])} is read as the label (label, else target, else the last column)"
    fractions = [value for value in values.tolist() if isinstance(value, float) and not value.is_integer()]
    if fractions and names[label] not in LABEL_COLUMNS:
        raise QumosError(f"{path}: {rule}, but holds fractions such as {fractions[0]:g}; call the column of the classes label")
    return _checked(_features(table, columns, path), labels, path, rule)


def _features(table: Any, columns: Sequence[int], path: Path) -> np.ndarray:
    """The ``columns`` of a pandas table as finite float64 ``[rows, columns]``."""
    # One by one takes a hundred times as long.
    plain = np.array([dtype.kind in "biuf" for dtype in table.dtypes])[columns]
    features = np.empty((len(table), len(columns)))
    features[:, plain] = table.iloc[:, np.array(columns)[plain]].to_numpy(dtype=np.float64, na_value=np.nan)
    names = [shown(str(table.columns[number])) for number in columns]
    for place in np.flatnonzero(~plain):
        features[:, place] = _numbers(table.iloc[:, columns[int(place)]], f"{path}: column {names[place]}")
    _check_values(features, names, path)
    return features


def _numbers(column: Any, where: str) -> np.ndarray:
    """A pandas column as float64 ``[rows]``, NaN where it is empty."""
    import pandas

    if column.dtype.kind in "Mmc":
        raise QumosError(f"{where} is not numeric but {column.dtype}")
    try:
        numbers = pandas.to_numeric(column, errors="coerce")
        wrong = np.flatnonzero((numbers.isna() & column.notna()).to_numpy())
        if not len(wrong):
            return numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError, OverflowError) as error:
        raise QumosError(f"{where} is not numeric: {one_line(error)}") from error
    raise QumosError(f"{where} is not numeric: {shown(column.iloc[wrong[0]])} in row {wrong[0] + 1}")


def _read_npz(path: Path, handle: BinaryIO) -> LabelledRows:
    if handle.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
        raise QumosError(f"{path}: holds a single array; save with numpy.savez(path, features=..., labels=...)")
    handle.seek(0)
    try:
        with zipfile.ZipFile(handle) as archive:
            found = {name.removesuffix(".npy"): name for name in archive.namelist()}
            wanted = _SPLIT if all(name in found for name in _SPLIT) else ("features", "labels")
            if not all(name in found for name in wanted):
                names = ", ".join(map(shown, sorted(found)[:10])) or "nothing"
                raise QumosError(f"{path}: needs the arrays features and labels (or {', '.join(_SPLIT)}), found {names}")
            arrays = [_array(path, archive, found[name]) for name in wanted]
    except QumosError:
        raise
    except (*_DAMAGE, OSError) as error:
        raise _unreadable(path, error) from error
    for features, labels, left, right in zip(arrays[::2], arrays[1::2], wanted[::2], wanted[1::2], strict=True):
        _same_length(path, features, labels, left, right)
    if len({features.shape[1:] for features in arrays[::2]}) > 1:
        raise QumosError(f"{path}: rows of x_train and x_test differ in shape")
    features, labels = np.concatenate(arrays[::2]), np.concatenate([labels.ravel() for labels in arrays[1::2]])
    if features.dtype.kind not in "biuf":
        raise QumosError(f"{path}: features are not numeric but {features.dtype}")
    if features.ndim < 2:
        raise QumosError(f"{path}: features must be [rows, columns], got shape {features.shape}")
    columns = math.prod(features.shape[1:])
    _check_size(path, len(features), columns)
    flat = features.reshape(len(features), columns).astype(np.float64)
    _check_values(flat, [f"features[:, {index}]" for index in range(columns)], path)
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise QumosError(f"{path}: row {np.flatnonzero(~np.isfinite(labels))[0] + 1}: label is {labels[~np.isfinite(labels)][0]}")
    return _checked(flat, [label_text(label) for label in labels.tolist()], path, "labels")


def _array(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """The array of a member of ``archive``; its header must not promise more than the member holds."""
    size = archive.getinfo(name).file_size
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(member)
    cells = math.prod(shape)
    if cells > MOST_CELLS or size > 8 * MOST_CELLS:
        raise QumosError(f"{path}: {shown(name)} has shape {shown(shape)}, at most {MOST_CELLS:,} values are possible")
    if cells * dtype.itemsize > size:
        raise QumosError(f"{path}: {shown(name)} has shape {shown(shape)}, but only {size:,} bytes")
    with archive.open(name) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _same_length(path: Path, features: np.ndarray, labels: np.ndarray, left: str, right: str) -> None:
    if features.ndim == 0 or labels.ndim == 0 or len(features) != len(labels) or labels.size != len(labels):
        raise QumosError(f"{path}: {left} has shape {features.shape} and {right} has shape {labels.shape}; one label a row is needed")


def _check_values(features: np.ndarray, columns: list[str], path: Path) -> None:
    """Raises QumosError for the first feature that is not finite, or too large for arithmetic."""
    # NaN is not within the bound either.
    wrong = np.argwhere(~(np.abs(features) <= MOST_VALUE))
    if len(wrong):
        row, column = wrong[0]
        value = features[row, column]
        fault = f"larger than {MOST_VALUE:g}" if np.isfinite(value) else "not a finite number"
        raise QumosError(f"{path}: row {row + 1}, column {columns[column]}: {value} is {fault}")


def _checked(features: np.ndarray, labels: list[str], path: Path, rule: str) -> LabelledRows:
    """The rows; ``rule`` says what was taken for the labels."""
    if features.size == 0:
        raise QumosError(f"{path}: holds no rows")
    different = len(set(labels))
    if different > MOST_CLASSES:
        raise QumosError(f"{path}: {rule} and has {different:,} different values, at most {MOST_CLASSES:,} classes are possible")
    longest = max(labels, key=len)
    if len(longest) > MOST_LABEL:
        raise QumosError(f"{path}: {rule} and has a value {shown(longest)}, at most {MOST_LABEL:,} characters are possible")
    return LabelledRows(features, np.array(labels))


def _needs_pandas(path: Path) -> QumosError:
    return QumosError(f"{path}: reading {path.suffix} needs pandas and pyarrow; pip install 'qumos-env[data]'")


def _unreadable(path: Path, error: Exception) -> QumosError:
    return QumosError(f"{path}: cannot be read ({one_line(error) or type(error).__name__})")
