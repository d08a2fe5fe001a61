"""Callers for a service: they replay rows of the data at a chosen rate, changed on purpose, and tell later how each turned out.

Time is the log's (SLIPWAY_LOG_CLOCK), which may run faster than ours.
"""

import heapq
import math
import threading
from argparse import ArgumentTypeError
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import requests

from delivery.smoke import session_for
from pipeline.data.dataset import Dataset
from pipeline.errors import SettingsError
from pipeline.evaluation.wording import clean
from pipeline.formats.bundle import as_sent

DAY = 86_400
TICK = 0.2  # seconds between two looks at the clock
BATCH = 20  # rows of a request
PATIENCE = 10  # seconds for an answer


@dataclass(frozen=True)
class Change:
    """What is wrong with the world: a column moved by so many standard deviations, a share of its cells empty, or another relation.

    With `relation` the outcome no longer follows what it followed, but another column: the one that said least about it so far.
    """

    shift: dict[str, float] = field(default_factory=dict)
    missing: dict[str, float] = field(default_factory=dict)
    relation: bool = False


@dataclass
class Counts:
    """What the callers did."""

    rows: int = 0
    outcomes: int = 0
    refused: int = 0
    failed: int = 0
    why: str = ""  # the first request that was refused or failed

    def __str__(self) -> str:
        """In words."""
        first = f"; the first: {clean(self.why, 300)}" if self.why else ""
        return f"{self.rows:,} rows, {self.outcomes:,} outcomes, {self.refused} requests refused, {self.failed} failed{first}"


def column_and_number(text: str) -> tuple[str, float]:
    """COLUMN=NUMBER as an argparse type."""
    name, _, number = text.rpartition("=")
    with suppress(ValueError):
        if name and math.isfinite(float(number)):
            return name, float(number)
    raise ArgumentTypeError(f"{text!r} is not COLUMN=NUMBER, like mean_radius=0.5")


def positive(text: str) -> float:
    """A number above 0 as an argparse type."""
    with suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise ArgumentTypeError(f"{text!r} is not a number above 0")


def known(dataset: Dataset, change: Change) -> Change:
    """The same change; raises SettingsError where it names a column that is not there, or what its data cannot do."""
    if change.relation and not numbers_of(dataset):
        raise SettingsError(
            "the data has no column of numbers that outcomes could follow", "the drill and --relation need one"
        )
    for name in (*change.shift, *change.missing):
        if name not in dataset.kinds:
            raise SettingsError(f"the data has no column {name!r}", f"columns: {', '.join(dataset.kinds)}")
    for name in change.shift:
        if name not in numbers_of(dataset):
            raise SettingsError(
                f"column {name!r} is {dataset.kinds[name]}: it cannot be moved", "name a column of numbers"
            )
    for name, share in change.missing.items():
        if not 0 <= share <= 1:
            raise SettingsError(f"{share:g} is no share of the cells of {name!r}", "give one from 0 to 1")
    return change


class Traffic:
    """Sends rows in a thread of its own, from `start` to `stop`; `change` may be set at any time."""

    def __init__(
        self,
        url: str,
        key: str,
        dataset: Dataset,
        rows_a_day: float,
        delay_days: float,
        clock: Callable[[], float],
        seed: int = 0,
    ):
        """`rows_a_day` rows in a day of `clock`; their outcomes come after `delay_days`, on average."""
        self.change, self.counts = Change(), Counts()
        self._url, self._rows_a_day, self._delay, self._clock = url.rstrip("/"), rows_a_day, delay_days * DAY, clock
        self._dataset, self._rng = dataset, np.random.default_rng(seed)
        # All rows: a small hold-out differs from the rest by chance as much as by a drift.
        self._rows = np.arange(len(dataset.ids))
        self._session = session_for(url)
        self._session.headers.update({"X-API-Key": key} if key else {})
        self._due: list[tuple[float, int, dict]] = []  # outcomes, by when they are told
        self._end = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._go, daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; returns when the last answer has come. Raises what had ended the callers before."""
        self._end.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    @property
    def running(self) -> bool:
        """Whether the callers still ask."""
        return self._thread.is_alive()

    def _go(self) -> None:
        try:
            self._run()
        except Exception as error:  # whoever stops the callers gets it
            self._error = error

    @property
    def waiting(self) -> int:
        """How many rows were answered whose outcomes are not due yet."""
        return len(self._due)

    def _run(self) -> None:
        asked = self._clock()
        while not self._end.wait(TICK):
            now = self._clock()
            number = int((now - asked) / DAY * self._rows_a_day)
            if number:
                asked += number / self._rows_a_day * DAY
                for start in range(0, number, BATCH):
                    self._ask(min(BATCH, number - start), now)
            while self._due and self._due[0][0] <= now and not self._end.is_set():
                self._tell(heapq.heappop(self._due)[2])

    def _ask(self, number: int, now: float) -> None:
        features, outcomes = changed(self._dataset, self._rng.choice(self._rows, number), self.change, self._rng)
        answer = self._post("/predict/batch", {"features": as_sent(self._dataset, features)})
        if answer is None:
            return
        self.counts.rows += number
        for row, outcome in enumerate(outcomes):
            when = now + self._rng.exponential(self._delay)
            told = {"request_id": answer["request_id"], "row": row, "outcome": outcome}
            heapq.heappush(self._due, (when, self.counts.rows * BATCH + row, told))

    def _tell(self, outcome: dict) -> None:
        if self._post("/feedback", outcome) is not None:
            self.counts.outcomes += 1

    def _post(self, path: str, body: dict) -> dict | None:
        try:
            answer = self._session.post(self._url + path, json=body, timeout=PATIENCE)
            said = f"{path} answered {answer.status_code}: {answer.content.decode('utf-8', 'replace')}"
            if answer.status_code != 200:
                self.counts.refused += 1
                self.counts.why = self.counts.why or said
                return None
            told = answer.json()
            if isinstance(told, dict) and "request_id" in told:
                return told
        except requests.RequestException as error:
            said = f"{path}: {error}"
        self.counts.failed += 1
        self.counts.why = self.counts.why or said
        return None


def changed(
    dataset: Dataset, rows: np.ndarray, change: Change, rng: np.random.Generator
) -> tuple[pd.DataFrame, list[str] | list[float]]:
    """The features of these rows and how they turn out, in a world with that change."""
    features = dataset.features.iloc[rows].reset_index(drop=True)
    outcomes = dataset.target[rows].tolist() if dataset.classes else dataset.y[rows].tolist()
    if change.relation:
        outcomes = other_relation(dataset, rows)
    for name, deviations in change.shift.items():
        moved = features[name] + deviations * float(np.nanstd(dataset.features[name]))
        features[name] = moved.round() if dataset.kinds[name] == "integer" else moved
    for name, share in change.missing.items():
        empty = "" if dataset.kinds[name] == "text" else np.nan
        features[name] = features[name].mask(rng.random(len(features)) < share, empty)
    return features, outcomes


def other_relation(dataset: Dataset, rows: np.ndarray) -> list[str] | list[float]:
    """The outcomes of these rows if they followed the column that is least related to the target, and nothing else."""
    column = dataset.features[least_related(dataset)].to_numpy(dtype=float)
    rank = pd.Series(column).rank(pct=True, na_option="top").to_numpy()[rows]
    if dataset.classes:
        places = np.minimum((rank * len(dataset.classes)).astype(int), len(dataset.classes) - 1)
        return [dataset.classes[place] for place in places]
    return np.quantile(dataset.y, rank).tolist()


def numbers_of(dataset: Dataset) -> list[str]:
    """The columns of numbers."""
    return [name for name, kind in dataset.kinds.items() if kind in ("number", "integer")]


def least_related(dataset: Dataset) -> str:
    """The column of numbers with the smallest rank correlation with the target."""
    y = pd.Series(dataset.y)
    strength = {
        name: abs(dataset.features[name].astype(float).reset_index(drop=True).corr(y, "spearman"))
        for name in numbers_of(dataset)
    }
    return min(strength, key=lambda name: (strength[name] if np.isfinite(strength[name]) else 2.0, name))
