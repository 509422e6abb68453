"""The data sets a scenario can name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets
from threadpoolctl import threadpool_limits

from ..errors import QumosError, one_line, unknown
from ..files import absolute_path
from ..scenario.sections import DataSection
from ..seeds import label
from .files import SUFFIXES, LabelledRows, label_text, read_file
from .generators import GENERATORS, checked_parameters, generate
from .stratified import allot, deal, rows_by_class

LOCAL_DATA = "QUMOS_DATA"
"""Environment variable that names a folder with local copies of the OpenML sets."""
SAMPLED_ROWS = 4000
SHIPPED: dict[str, Callable[[], Any]] = {
    "digits": datasets.load_digits,
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "breast-cancer": datasets.load_breast_cancer,
}
OPENML = {"mnist": "mnist_784", "fashion-mnist": "Fashion-MNIST"}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows with labels.

    Attributes:
        features: float64 ``[rows, features]``, finite.
        labels: int64 ``[rows]`` in ``0..len(class_names) - 1``.
        class_names: name of every class.
    """

    features: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


def list_datasets() -> tuple[str, ...]:
    """Names of the built-in data sets."""
    return (*SHIPPED, *OPENML, *GENERATORS)


def load_dataset(section: DataSection) -> Dataset:
    """The rows that ``section`` names, restricted to its classes, in the order of the source, with their features mixed as it says.

    Classes are numbered in the order of ``section.classes``; without it as the source lists them, those of a file by value.
    Sources that are not generated accept ``parameters.rows``, a stratified sample of so many rows (all by default, of OpenML
    sets ``SAMPLED_ROWS``), and ``parameters.seed``, the seed of that sample.

    Raises:
        QumosError: the source, a parameter or a class is unknown; a file or a download fails; a value is not a finite number;
            fewer than two classes remain.
    """
    return _mixed(_load(section), section)


def _load(section: DataSection) -> Dataset:
    source = section.source
    if source in GENERATORS:
        features, labels = generate(source, section.parameters)
        return _select(Dataset(features, labels, tuple(str(label) for label in range(labels.max() + 1))), section)
    path = _path(source)
    if path is not None:
        loaded = _numbered(read_file(path))
    elif source in SHIPPED:
        loaded = _shipped(source)
    elif source in OPENML:
        loaded = _numbered(_download(source))
    elif "." in source or os.sep in source:
        raise QumosError(f"{source}: unknown kind of file; use {', '.join(SUFFIXES)}")
    else:
        raise unknown("data set", source, list_datasets())
    defaults = {"rows": SAMPLED_ROWS if source in OPENML else len(loaded.labels), "seed": 0}
    wanted = defaults | checked_parameters(source, section.parameters, defaults)
    return _sample(_select(loaded, section), int(wanted["rows"]), int(wanted["seed"]))


def _mixed(dataset: Dataset, section: DataSection) -> Dataset:
    """The data set in other coordinates: its columns permuted, or turned by an orthogonal matrix of Haar's measure.

    Source: Mezzadri, "How to generate random matrices from the classical compact groups" (2007), for the signs.
    """
    generator, width = np.random.default_rng([section.mixing_seed, label("mixing")]), dataset.features.shape[1]
    if section.mixing == "permutation":
        return replace(dataset, features=dataset.features[:, generator.permutation(width)])
    if section.mixing == "rotation":
        with threadpool_limits(1):
            orthogonal, triangular = np.linalg.qr(generator.normal(size=(width, width)))
            return replace(dataset, features=dataset.features @ (orthogonal * np.sign(np.diag(triangular))))
    return dataset


def source_stamp(source: str) -> tuple[str, int, int] | None:
    """Absolute path, time of change [ns] and size [bytes] of the file behind ``source``: they tell one state of it from another."""
    path = _path(source)
    if path is None:
        return None
    try:
        status = path.stat()
    except (OSError, ValueError):  # reading it says what is wrong
        return None
    return (str(path.resolve()), status.st_mtime_ns, status.st_size)


def _path(source: str) -> Path | None:
    """The file that ``source`` is read from; None if it is not read from one."""
    if source.endswith(SUFFIXES):
        return absolute_path(source, Path.cwd())
    folder = os.environ.get(LOCAL_DATA)
    local = absolute_path(folder, Path.cwd()) / f"{source}.npz" if folder and source in OPENML else None
    return local if local is not None and os.path.exists(local) else None


def _shipped(source: str) -> Dataset:
    bunch = SHIPPED[source]()
    return Dataset(bunch.data.astype(np.float64), bunch.target.astype(np.int64), tuple(map(str, bunch.target_names)))


def _download(source: str) -> LabelledRows:
    """An image set of OpenML, pixels 0..255, from scikit-learn's cache if it is there."""
    try:
        bunch = datasets.fetch_openml(OPENML[source], version=1, as_frame=False, n_retries=1)
    # ValueError: OpenML's own refusals and a broken cache; ImportError: the parser needs pandas.
    except (OSError, HTTPException, ValueError, ImportError) as error:
        raise QumosError(
            f"data set {source!r} could not be downloaded from OpenML ({one_line(error)}); go online once, "
            f"or set {LOCAL_DATA} to a folder that holds {source}.npz with the arrays features and labels"
        ) from error
    return LabelledRows(np.asarray(bunch.data, dtype=np.float64), np.array([label_text(label) for label in bunch.target]))


def _numbered(rows: LabelledRows) -> Dataset:
    names, labels = np.unique(rows.labels, return_inverse=True)
    try:
        order = np.argsort(names.astype(np.float64), kind="stable")
    except ValueError:  # names that are not numbers stay in alphabetical order
        order = np.arange(len(names))
    return Dataset(rows.features, np.argsort(order)[labels], tuple(str(name) for name in names[order]))


def _select(dataset: Dataset, section: DataSection) -> Dataset:
    """The rows of ``section.classes``, renumbered in that order; all rows if it is empty."""
    source, names = section.source, dataset.class_names
    chosen = tuple(str(name) for name in section.classes) or names
    for name in chosen:
        if name not in names:
            raise unknown(f"class of data set {source!r}", name, names)
    if len(set(chosen)) != len(chosen):
        raise QumosError(f"data set {source!r}: classes lists one twice: {', '.join(chosen)}")
    if len(chosen) < 2:
        raise QumosError(f"data set {source!r}: needs at least two classes, found only {chosen[0]!r}")
    if chosen == names:
        return dataset
    number = np.full(len(names), -1, dtype=np.int64)
    number[[names.index(name) for name in chosen]] = np.arange(len(chosen))
    labels = number[dataset.labels]
    kept = labels >= 0
    return Dataset(dataset.features[kept], labels[kept], chosen)


def _sample(dataset: Dataset, rows: int, seed: int) -> Dataset:
    """A stratified sample of ``rows`` rows; the whole data set if it has no more than that."""
    labels, classes = dataset.labels, len(dataset.class_names)
    if rows >= len(labels):
        return dataset
    pools = rows_by_class(np.arange(len(labels)), labels, classes)
    kept, _ = deal(pools, [allot(rows, np.bincount(labels, minlength=classes))], np.random.default_rng(seed))
    return Dataset(dataset.features[kept], labels[kept], dataset.class_names)
