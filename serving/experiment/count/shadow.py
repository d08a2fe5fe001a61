"""Both models' answers to the same rows: a served request and its answer in the shadow stand apart in the log, with the same id."""

import hashlib
import heapq
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from serving.experiment.count.outcomes import Answer
from serving.experiment.count.records import PAIRS, Pair, Shadow

WAITING = 64_000_000  # bytes of answers of one model that wait for the other's, at most
OVERHEAD = 500  # bytes of a request in memory, besides its answers
ALIKE = 1e-6  # numbers that differ less are the same, relative to A's above 1


class Half(NamedTuple):
    """A request, as one of the models answered it; `answers` is a JSON list."""

    request_id: str
    time: float
    subject: str | None
    rows: int
    answers: bytes


class Waiting:
    """Halves that wait for their other one; the oldest goes when they take too much memory."""

    def __init__(self) -> None:
        self._halves: OrderedDict[str, Half] = OrderedDict()
        self._size = 0

    def keep(self, half: Half) -> list[str]:
        """Have this one wait, in place of an earlier one with the same id; returns the ids of those that go."""
        self.take(half.request_id)
        self._halves[half.request_id] = half
        self._size += _size(half)
        gone = []
        while self._size > WAITING:
            request_id, oldest = self._halves.popitem(last=False)
            self._size -= _size(oldest)
            gone.append(request_id)
        return gone

    def take(self, request_id: str) -> Half | None:
        """The one with this id, which waits no longer."""
        half = self._halves.pop(request_id, None)
        self._size -= _size(half) if half else 0
        return half

    def ids(self) -> list[str]:
        """Of those that wait."""
        return list(self._halves)


def _size(half: Half) -> int:
    return len(half.answers) + OVERHEAD


class Sample:
    """At most PAIRS pairs of all, each with the same chance: those whose number, a hash of request and row, is smallest."""

    def __init__(self, most: int = PAIRS) -> None:
        self.seen = 0
        self._most = most
        self._kept: list[tuple[int, int, Pair]] = []

    def add(self, request_id: str, row: int, subject: int, outcome: str, a: bytes, b: bytes) -> None:
        """Tell of one pair."""
        self.seen += 1
        digest = hashlib.blake2b(f"{request_id} {row}".encode(), digest_size=8).digest()
        rank = -int.from_bytes(digest, "big")
        if len(self._kept) == self._most and rank <= self._kept[0][0]:
            return
        pair = Pair(
            subject=subject, outcome=msgspec.Raw(outcome.encode()), a=msgspec.Raw(bytes(a)), b=msgspec.Raw(bytes(b))
        )
        push = heapq.heappush if len(self._kept) < self._most else heapq.heapreplace
        push(self._kept, (rank, self.seen, pair))

    def pairs(self) -> Iterator[Pair]:
        """Those that were kept, always in the same order."""
        return (pair for _, _, pair in sorted(self._kept, key=lambda one: -one[0]))


def alike(a: Answer, b: Answer) -> bool:
    """Whether two answers are the same, but for the rounding of numbers."""
    if a.value is None or b.value is None:
        return a.label == b.label
    return abs(a.value - b.value) <= ALIKE * max(1.0, abs(a.value))


def compare(counted: Shadow, a: list[Answer], b: list[Answer]) -> None:
    """Count how alike the answers to the rows of a request are."""
    for ours, theirs in zip(a, b, strict=True):
        counted.rows += 1
        counted.same += alike(ours, theirs)
        if ours.value is not None and theirs.value is not None:
            counted.difference += min(abs(ours.value - theirs.value), 1e100)
