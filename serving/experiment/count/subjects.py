"""Sums by subject in numpy arrays, so that a million subjects take some ten megabytes.

A subject is a number of 64 bits here. Two of a million subjects share one with a chance of one in forty million.
"""

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

MANY = 200_000  # entries that wait until they are summed up
NEVER = np.iinfo(np.int32).max


def number_of(name: str) -> int:
    """A name's number."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


class FirstDays:
    """The first day of each subject."""

    def __init__(self) -> None:
        self._keys, self._days = _Column(np.uint64), _Column(np.int32)

    def add(self, keys: Sequence[int], days: Sequence[int]) -> None:
        """Tell of subjects on these days."""
        self._keys.add(keys)
        self._days.add(days)
        if self._keys.due():
            self._sum_up()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Subjects in ascending order and their first days, both (n,)."""
        self._sum_up()
        return self._keys.values(), self._days.values()

    def _sum_up(self) -> None:
        keys, days = self._keys.values(), self._days.values()
        order = np.lexsort((days, keys))
        keys, days = keys[order], days[order]
        first = _starts(keys)
        self._keys.replace(keys[first])
        self._days.replace(days[first])


class DailySums:
    """The sum and the number of what was measured, of each subject and day; `width` numbers are measured at once."""

    def __init__(self, width: int = 1):
        self._keys, self._days, self._counts = _Column(np.uint64), _Column(np.int32), _Column(np.int64)
        self._sums = [_Column(np.float64) for _ in range(width)]

    def add(self, key: int, day: int, *values: float) -> None:
        """Count one measurement."""
        for column, value in zip(
            (self._keys, self._days, self._counts, *self._sums), (key, day, 1, *values), strict=True
        ):
            column.append(value)
        if self._keys.due():
            self._sum_up()

    def by_day(self) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each day: subjects in ascending order (n,), how many measurements (n,), and their sums (width, n)."""
        self._sum_up()
        keys, days, counts = (column.values() for column in (self._keys, self._days, self._counts))
        sums = np.stack([column.values() for column in self._sums])
        edges = [*np.flatnonzero(_starts(days)), len(days)]
        parts = [slice(start, end) for start, end in pairwise(edges)]
        return {int(days[part.start]): (keys[part], counts[part], sums[:, part]) for part in parts}

    def _sum_up(self) -> None:
        keys, days = self._keys.values(), self._days.values()
        order = np.lexsort((keys, days))
        keys, days = keys[order], days[order]
        first = _starts(keys) | _starts(days)
        places = np.flatnonzero(first)
        self._keys.replace(keys[first])
        self._days.replace(days[first])
        for column in (self._counts, *self._sums):
            values = column.values()[order]
            column.replace(np.add.reduceat(values, places) if len(places) else values)


class Summary(NamedTuple):
    """Of the subjects up to a day: how many, how many of them were measured, and the mean and the squared deviations of each number."""

    subjects: int
    measured: int
    means: list[float]
    squares: list[float]


class Cumulative:
    """The subjects of one variant, day after day."""

    def __init__(self, keys: np.ndarray, first: np.ndarray, left: np.ndarray, sums: DailySums, width: int = 1):
        """Subjects in ascending order, the days on which they came, and on which they left, NEVER for most; all (n,)."""
        self._keys, self._first, self._left = keys, first, left
        self._by_day = sums.by_day()
        self._counts, self._sums = np.zeros(len(keys), dtype=np.int64), np.zeros((width, len(keys)))

    def until(self, day: int) -> Summary:
        """What is known at the end of a day; ask for days in ascending order."""
        for known in [one for one in self._by_day if one <= day]:
            keys, counts, sums = self._by_day.pop(known)
            places = np.searchsorted(self._keys, keys)
            self._counts[places] += counts
            self._sums[:, places] += sums
        there = (self._first <= day) & (self._left > day)
        measured = there & (self._counts > 0)
        means = self._sums[:, measured] / self._counts[measured]
        if not means.shape[1]:
            return Summary(int(there.sum()), 0, [0.0] * len(means), [0.0] * len(means))
        centers = means.mean(axis=1)
        squares = np.square(means - centers[:, None]).sum(axis=1)
        return Summary(int(there.sum()), means.shape[1], centers.tolist(), squares.tolist())


def crossing(a: FirstDays, b: FirstDays) -> tuple[list[tuple[np.ndarray, np.ndarray, np.ndarray]], int]:
    """Subjects of A and of B, with their first days and the days on which they were in both; and how many were in both."""
    (keys_a, first_a), (keys_b, first_b) = a.result(), b.result()
    left_a, left_b = (np.full(len(keys), NEVER, dtype=np.int32) for keys in (keys_a, keys_b))
    _, in_a, in_b = np.intersect1d(keys_a, keys_b, assume_unique=True, return_indices=True)
    left_a[in_a] = left_b[in_b] = np.maximum(first_a[in_a], first_b[in_b])
    return [(keys_a, first_a, left_a), (keys_b, first_b, left_b)], len(in_a)


class Seen:
    """Numbers that were there before."""

    def __init__(self) -> None:
        self._old, self._new = np.zeros(0, dtype=np.uint64), set[int]()

    def add(self, key: int) -> bool:
        """Whether this one is new."""
        if key in self._new:
            return False
        place = int(np.searchsorted(self._old, np.uint64(key)))
        if place < len(self._old) and int(self._old[place]) == key:
            return False
        self._new.add(key)
        if len(self._new) > MANY:
            self._old = np.union1d(self._old, np.fromiter(self._new, np.uint64, len(self._new)))
            self._new = set()
        return True


class _Column:
    """Numbers that are added to and summed up now and then: each time when there are twice as many as after the last time."""

    def __init__(self, kind: type):
        self._kind = kind
        self._kept: np.ndarray = np.zeros(0, dtype=kind)
        self._parts: list[np.ndarray] = []
        self._waiting: list[float] = []
        self._more = 0

    def append(self, value: float) -> None:
        self._waiting.append(value)
        self._more += 1
        if len(self._waiting) >= MANY // 10:
            self._close()

    def add(self, values: Sequence[float]) -> None:
        self._parts.append(np.array(values, dtype=self._kind))
        self._more += len(values)

    def due(self) -> bool:
        return self._more > max(MANY, len(self._kept))

    def values(self) -> np.ndarray:
        self._close()
        if self._parts:
            self._kept = np.concatenate([self._kept, *self._parts])
            self._parts = []
        return self._kept

    def replace(self, values: np.ndarray) -> None:
        self._kept, self._more = values, 0

    def _close(self) -> None:
        if self._waiting:
            self._parts.append(np.array(self._waiting, dtype=self._kind))
            self._waiting = []


def _starts(values: np.ndarray) -> np.ndarray:
    """Where a sorted array (n,) has another value than before."""
    found = np.ones(len(values), dtype=bool)
    found[1:] = values[1:] != values[:-1]
    return found
