"""Counters in memory that all processes of a service share."""

import mmap

import numpy as np


class Numbers:
    """A row of numbers for each process: each writes its own, and any of them can read the sum.

    The memory is anonymous and allocated before the workers are forked: no file is written, and no lock is needed,
    because a row has one writer. A replacement worker continues with the row of the dead one, so no counter falls.
    """

    def __init__(self, width: int, rows: int):
        self.width = width
        self._memory = mmap.mmap(-1, width * rows * 8)
        self._rows = np.frombuffer(self._memory, np.float64).reshape(rows, width)

    def row(self, number: int) -> "memoryview[float]":
        """The numbers of one process; only that process may write them."""
        return memoryview(self._memory).cast("d")[number * self.width : (number + 1) * self.width]

    def column(self, place: int) -> "memoryview[float]":
        """One number of every process, as it is at any time."""
        return memoryview(self._memory).cast("d")[place :: self.width]

    def total(self) -> list[float]:
        """The sum over all rows, shape (width,)."""
        return self._rows.sum(axis=0).tolist()
