"""The data protocol: one fixed test split, and K redraws of the other rows that all designs share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..errors import QumosError
from ..scenario.sections import DataSection, DrawSection
from .preprocessing import check_width
from .sources import Dataset, load_dataset, source_stamp
from .stratified import allot, deal, rows_by_class

LEAST_SCORE_ROWS = 2
"""Held-out rows that every class must have in every draw."""

MOST_DRAWN = 2**32
"""Values that the draws hold together, features or angles: 32 GiB."""

LEAST_HALVES = 4
"""Halves of a pool that leave another pair beside any pair."""

# Last word of every seed sequence: what it draws. Never 0, because NumPy takes [seed] and [seed, 0] for the same seed.
_TEST, _ROWS, _POOL, _HALVES, _NONMEMBERS, _NOISE = range(1, 7)


@dataclass(frozen=True, eq=False)
class Draw:
    """Sorted row indices of one draw, int64; disjoint, except that ``nonmembers`` may be taken from ``score``.

    Attributes:
        train: rows that train the model, stratified.
        thief: labelled rows of the thief, equally many of every class.
        tuning: rows on which the strongest thief is chosen, stratified.
        score: the held-out rows: all that is left.
        nonmembers: rows that the model has not seen, with the class distribution of ``train``.
        test: the fixed test split, for reports only.
    """

    train: np.ndarray
    thief: np.ndarray
    tuning: np.ndarray
    score: np.ndarray
    nonmembers: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, eq=False)
class Halves:
    """Balanced halves of one pool of rows; every row of it is in exactly half of them.

    Attributes:
        pool: sorted row indices, int64 ``[P]``.
        member: bool ``[halves, P]``; halves 2j and 2j + 1 are each other's complement.
        outside: sorted indices of the rows in neither the pool nor the test split.
    """

    pool: np.ndarray
    member: np.ndarray
    outside: np.ndarray


@dataclass(frozen=True, eq=False)
class DataProtocol:
    """A data set with its test split and its redraws; see ``make_protocol``.

    Attributes:
        dataset: all rows, with their true labels.
        settings: sizes and number of the draws.
        test: sorted indices of the test split, int64.
        rest: sorted indices of all other rows, int64.
        observed_labels: the labels of all rows in the owner's records, int64 ``[rows]``: those of ``rest`` with the label noise.
    """

    dataset: Dataset
    settings: DrawSection
    test: np.ndarray
    rest: np.ndarray
    observed_labels: np.ndarray

    def __post_init__(self) -> None:
        # Protocols are cached and shared.
        self.test.setflags(write=False)
        self.rest.setflags(write=False)
        self.observed_labels.setflags(write=False)

    def draws(self, seed: int) -> tuple[Draw, ...]:
        """The K draws of ``seed``, the same for everyone who asks; a larger K only adds draws.

        With ``half_split`` the train rows come from a pool of ``2 * train_rows`` rows that ``seed`` chooses. Draws 2j and
        2j + 1 halve it and swap the halves: the train rows of one are the non-members of the other.

        Raises:
            QumosError: ``seed`` is negative.
        """
        if seed < 0:
            raise QumosError(f"the seed of the draws must not be negative, got {seed}")
        count = self.settings.count
        return tuple(self._halved(seed, index) if self.settings.half_split else self._plain(seed, index) for index in range(count))

    def _plain(self, seed: int, index: int) -> Draw:
        quotas = self._quotas
        thief, train, tuning, score = deal(
            self._by_class(self.rest), [quotas.thief, quotas.train, quotas.tuning], np.random.default_rng([seed, index, _ROWS])
        )
        held_out = self._by_class(score)
        like_train = _largest_like(quotas.train, np.array([len(rows) for rows in held_out]))
        nonmembers, _ = deal(held_out, [like_train], np.random.default_rng([seed, index, _NONMEMBERS]))
        return Draw(train, thief, tuning, score, nonmembers, self.test)

    def _halved(self, seed: int, index: int) -> Draw:
        quotas = self._quotas
        pool, outside = self._pool(seed, quotas.train)
        halves = self._pair(seed, index // 2, pool, quotas.train)
        thief, tuning, score = deal(self._by_class(outside), [quotas.thief, quotas.tuning], np.random.default_rng([seed, index, _ROWS]))
        return Draw(halves[index % 2], thief, tuning, score, halves[1 - index % 2], self.test)

    def _by_class(self, rows: np.ndarray) -> list[np.ndarray]:
        return rows_by_class(rows, self.dataset.labels, len(self.dataset.class_names))

    def balanced_halves(self, seed: int, count: int, train_rows: int | None = None) -> Halves:
        """``count`` halves of one stratified pool of ``2 * train_rows`` rows outside the test split, in swapped pairs.

        With ``half_split`` the halves are the train rows of ``draws(seed)``, continued beyond K.

        Args:
            seed: of pool and halves.
            count: how many, even, 4 or more.
            train_rows: rows of a half, default those of a draw.

        Raises:
            QumosError: a negative seed; ``count`` is odd, below 4, or more than the different halves there are; the pool needs
                more rows of a class than there are, or none.
        """
        if seed < 0:
            raise QumosError(f"the seed of the halves must not be negative, got {seed}")
        if count < LEAST_HALVES or count % 2:
            raise QumosError(f"the number of halves is {count}, an even number from {LEAST_HALVES} is needed")
        rows = self._by_class(self.rest)
        counts = np.array([len(one) for one in rows])
        quota = allot(self.settings.train_rows if train_rows is None else train_rows, counts)
        for name, wanted, there in zip(self.dataset.class_names, quota, counts, strict=True):
            if not 1 <= wanted <= there // 2:
                raise QumosError(f"halves of {quota.sum()} rows take {wanted} of class {name!r}, from 1 to {there // 2} can be had")
        if count > math.prod(math.comb(2 * int(size), int(size)) for size in quota):
            raise QumosError(f"{count} halves of {quota.sum()} rows: a pool of {2 * quota.sum()} has fewer different ones")
        pool, outside = self._pool(seed, quota)
        firsts = [self._pair(seed, pair, pool, quota)[0] for pair in range(count // 2)]
        first = np.stack([np.isin(pool, one) for one in firsts])
        return Halves(pool, np.stack([first, ~first], axis=1).reshape(count, len(pool)), outside)

    def _pool(self, seed: int, quota: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of which halves are drawn, and the other rows outside the test split."""
        pool, outside = deal(self._by_class(self.rest), [2 * quota], np.random.default_rng([seed, 0, _POOL]))
        return pool, outside

    def _pair(self, seed: int, pair: int, pool: np.ndarray, quota: np.ndarray) -> list[np.ndarray]:
        return deal(self._by_class(pool), [quota], np.random.default_rng([seed, pair, _HALVES]))

    @property
    def _quotas(self) -> _Quotas:
        counts = np.bincount(self.dataset.labels[self.rest], minlength=len(self.dataset.class_names))
        return _Quotas.of(self.settings, counts)


@dataclass(frozen=True, eq=False)
class _Quotas:
    """Rows of every class, int64 ``[C]``, that a draw needs."""

    train: np.ndarray
    thief: np.ndarray
    tuning: np.ndarray

    @classmethod
    def of(cls, settings: DrawSection, counts: np.ndarray) -> _Quotas:
        return cls(
            train=allot(settings.train_rows, counts),
            thief=np.full(len(counts), settings.thief_rows_per_class),
            tuning=allot(settings.tuning_rows, counts),
        )


def make_protocol(scenario_data: DataSection, draws: DrawSection, qubits: int, *, strict: bool = False) -> DataProtocol:
    """The protocol of a scenario; the last few are kept, until the file they were read from changes.

    Args:
        scenario_data: source, classes, reducer and test split.
        draws: number and sizes of the draws.
        qubits: width of the encoding.
        strict: refuse a reducer that cannot fill ``qubits`` angles, see ``Preprocessor.fit``.

    Raises:
        QumosError: see ``load_dataset``; features and qubits do not fit the reducer; a class has too few rows; an odd number
            of draws with ``half_split``; more than ``MOST_DRAWN`` values in all draws.
    """
    return _make_protocol(scenario_data.model_dump_json(), source_stamp(scenario_data.source), draws, qubits, strict)


@lru_cache(maxsize=8)
def _make_protocol(section_json: str, stamp: tuple[str, int, int] | None, settings: DrawSection, qubits: int, strict: bool) -> DataProtocol:
    section = DataSection.model_validate_json(section_json)
    dataset = load_dataset(section)
    labels, names = dataset.labels, dataset.class_names
    check_width(section, dataset.features.shape[1], len(names), qubits, strict=strict)
    width = max(dataset.features.shape[1], qubits)
    if settings.count * len(labels) * width > MOST_DRAWN:
        raise QumosError(
            f"data set {section.source!r}: {settings.count:,} draws of {len(labels):,} rows with {width:,} values "
            f"take {settings.count * len(labels) * width / 2**27:,.0f} GiB, at most {MOST_DRAWN / 2**27:,.0f} GiB are possible"
        )
    if settings.half_split and settings.count % 2:
        raise QumosError(f"draws: half_split needs an even count, got {settings.count}")
    counts = np.bincount(labels, minlength=len(names))
    test_quota = allot(round(section.test_fraction * len(labels)), counts)
    _check_rows(section.source, names, counts, test_quota, settings)
    pools = rows_by_class(np.arange(len(labels)), labels, len(names))
    test, rest = deal(pools, [test_quota], np.random.default_rng([section.split_seed, 0, _TEST]))
    return DataProtocol(dataset, settings, test, rest, _observed(dataset, rest, section))


def _observed(dataset: Dataset, rest: np.ndarray, section: DataSection) -> np.ndarray:
    """The labels of all rows, in which a share of those of ``rest``, the same in every class, is another class, each as likely.

    A row's noise is its own and the same in every draw, whether the row trains there or not. Were members noisy and non-members not,
    a label at odds with the features would itself tell a member, with no model asked.
    """
    labels, classes = dataset.labels, len(dataset.class_names)
    pools = rows_by_class(rest, labels, classes)
    generator = np.random.default_rng([section.split_seed, 0, _NOISE])
    wrong, _ = deal(pools, [allot(round(section.label_noise * len(rest)), np.array([len(pool) for pool in pools]))], generator)
    observed = labels.copy()
    observed[wrong] = (labels[wrong] + generator.integers(1, classes, len(wrong))) % classes
    return observed


def _check_rows(source: str, names: tuple[str, ...], counts: np.ndarray, test: np.ndarray, settings: DrawSection) -> None:
    """Raises QumosError for the class that lacks most rows."""
    if (counts <= test).any():
        poorest = int((counts - test).argmin())
        raise QumosError(f"data set {source!r}: class {names[poorest]!r} has {counts[poorest]} row(s), all of them in the test split")
    quotas = _Quotas.of(settings, counts - test)
    roles = {
        "test": np.maximum(test, 1),
        "train": np.maximum(quotas.train, 1) * (2 if settings.half_split else 1),
        "thief": quotas.thief,
        "tuning": quotas.tuning,
        "score": np.full(len(names), LEAST_SCORE_ROWS),
    }
    needed = np.sum(list(roles.values()), axis=0)
    worst = int((needed - counts).argmax())
    if needed[worst] > counts[worst]:
        parts = ", ".join(f"{rows[worst]} {role}" for role, rows in roles.items())
        raise QumosError(
            f"data set {source!r}: class {names[worst]!r} has {counts[worst]} row(s), the protocol needs {needed[worst]} of it ({parts})"
        )
    for role, rows in (("test_fraction", test), ("train_rows", quotas.train)):
        if not rows.all():
            missed = int(rows.argmin())
            raise QumosError(f"data set {source!r}: {role} leaves class {names[missed]!r} ({counts[missed]} rows) without a row; raise it")


def _largest_like(wanted: np.ndarray, available: np.ndarray) -> np.ndarray:
    """The largest allotment in the proportions of ``wanted``, at most ``wanted`` itself, that ``available`` rows can fill."""
    total = int(wanted.sum())
    # Rounding may still take one row too many of a class, hence the loop: a step or two.
    size = min(total, int((available * total // wanted).min()) + 1)
    while (allot(size, wanted) > available).any():
        size -= 1
    return allot(size, wanted)
