"""Counters in memory that all workers of a service share."""

import mmap

import numpy as np


class Numbers:
    """A row of numbers for each worker; each writes its own, and whoever is asked for metrics adds them up.

    The memory is anonymous and made before the workers are forked: no file is written, and no lock is needed, because a
    row has one writer. A worker that takes a dead one's place goes on with its row, so that no counter falls.
    """

    def __init__(self, width: int, workers: int = 1):
        self._memory = mmap.mmap(-1, width * workers * 8)
        self._rows = np.frombuffer(self._memory, np.float64).reshape(workers, width)

    def row(self, worker: int) -> memoryview:
        """The numbers of one worker, to be written by it alone."""
        width = self._rows.shape[1]
        return memoryview(self._memory).cast("d")[worker * width : (worker + 1) * width]

    def total(self) -> np.ndarray:
        """The sum over all workers."""
        return self._rows.sum(axis=0)
