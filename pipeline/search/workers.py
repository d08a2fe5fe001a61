"""Where the fits of a search run: here, one after the other, or in processes of their own, several at once."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from pipeline import preload
from pipeline.errors import ProjectError
from pipeline.search import builders
from pipeline.search.fold import Folds
from pipeline.search.scoring import Fit, Score, deciding, score

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT")


class Workers(Protocol):
    """Runs fits and gives each with its score as it is there; ends early, without those that are left, at a point in time."""

    def run(self, fits: Sequence[Fit], deadline: float) -> Iterator[tuple[Fit, Score]]:
        """The fits and their scores, in any order. Nothing begins after `deadline` (of time.monotonic)."""


@contextmanager
def workers(folds: Folds, parallel: int) -> Iterator[Workers]:
    """So many fits at once, 0: one for each core; 1: in this process."""
    count = parallel or cores()
    if count == 1:
        yield Here(folds)
        return
    preload.prepare()
    context = multiprocessing.get_context("forkserver" if preload.FORKS else "spawn")
    before = set(multiprocessing.active_children())
    threads = max(1, cores() // count)
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(folds, threads))
    try:
        yield Elsewhere(pool, count)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.kill()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Here:
    """One fit after the other, in this process; after a failure the other folds of the same trial are left out."""

    def __init__(self, folds: Folds):
        self.folds, self.known, self.metric = folds, builders.known(folds.side), deciding(folds.side)

    def run(self, fits: Sequence[Fit], deadline: float) -> Iterator[tuple[Fit, Score]]:
        """The fits and their scores, in order."""
        failed: list[Fit] = []
        for fit in fits:
            if any(_same_trial(fit, one) for one in failed):
                continue
            if time.monotonic() >= deadline:
                return
            found = score(self.known, self.folds, self.metric, fit)
            if found.value is None:
                failed.append(fit)
            yield fit, found


class Elsewhere:
    """Several fits at once, each in a process of a pool that has the folds."""

    def __init__(self, pool: ProcessPoolExecutor, count: int):
        self.pool, self.count = pool, count

    def run(self, fits: Sequence[Fit], deadline: float) -> Iterator[tuple[Fit, Score]]:
        """The fits and their scores as they come; what is under way at the deadline is left out.

        Raises ProjectError when a process dies, such as for want of memory.
        """
        waiting, under_way = list(reversed(fits)), dict[Future[Score], Fit]()
        failed: list[Fit] = []
        while waiting or under_way:
            while waiting and len(under_way) < self.count:
                fit = waiting.pop()
                if not any(_same_trial(fit, one) for one in failed):
                    under_way[self.pool.submit(_score, fit)] = fit
            done, _ = wait(under_way, max(0.0, deadline - time.monotonic()), FIRST_COMPLETED)
            if under_way and not done:
                return
            for future in done:
                fit = under_way.pop(future)
                try:
                    found = future.result()
                except BrokenProcessPool as error:
                    raise ProjectError(
                        "a process of the search died, perhaps for want of memory",
                        "lower [search] parallel in pipeline.toml; what was finished is kept, and `make train` goes on from there",
                    ) from error
                if found.value is None:
                    failed.append(fit)
                yield fit, found


def _same_trial(one: Fit, other: Fit) -> bool:
    return one.builder == other.builder and one.parameters == other.parameters


_judge: Callable[[Fit], Score]  # of a process of the pool


def _begin(folds: Folds, threads: int) -> None:
    """Prepare a process of the pool: few native threads, the folds, and an end when its parent ends."""
    import threading

    from threadpoolctl import threadpool_limits

    global _judge
    os.environ.update(dict.fromkeys(THREADS, str(threads)))  # for libraries that are not loaded yet
    threadpool_limits(threads)
    threading.Thread(target=preload.end_with_parent, daemon=True).start()
    _judge = partial(score, builders.known(folds.side), folds, deciding(folds.side))


def _score(fit: Fit) -> Score:
    return _judge(fit)
