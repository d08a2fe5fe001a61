"""Read an experiment's rows in the prediction log, block by block, and sum them up."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from serving.counts.table import DAY, date
from serving.experiment.count.outcomes import SCORES, Answer, Unusable, answers_of
from serving.experiment.count.records import Arm, Day, Difference, LeftOut, Pair, Plan, Shadow, Stop, Sums
from serving.experiment.count.shadow import Half, Sample, Waiting, alike, compare
from serving.experiment.count.speeds import Times
from serving.experiment.count.subjects import (
    NEVER,
    Cumulative,
    DailySums,
    FirstDays,
    Seen,
    Summary,
    crossing,
    number_of,
)
from serving.experiment.experiment import A, B
from serving.log import stops
from serving.log.blocks import Block
from serving.log.clock import now
from serving.log.reader import Told, outcomes_of, read_blocks
from serving.log.store import Store

FAILED = 500  # and more: the status of a request that had no answer
ASKED = 2_000  # pairs whose outcomes are asked for at a time


def count(store: Store, plan: Plan) -> tuple[Sums, Iterator[Pair]]:
    """All sums, and in mode shadow the pairs that go with them; raises StoreError."""
    moment = now()
    until = moment if plan.until is None else plan.until
    counter = _ShadowCounter(store, plan, until) if plan.mode == "shadow" else _SplitCounter(store, plan, until)
    for block in read_blocks(store, plan.since, until):
        if block.source.model == plan.model:
            counter.add(block)
    sums = Sums(
        plan=plan, now=moment, days=counter.days(), left_out=counter.left_out,
        failures=_failures(store, plan, until), stop=_stop(store, plan),
        speeds={variant: times.speed() for variant, times in counter.times.items()},
    )  # fmt: skip
    sums.left_out.unmatched = max(_arrived(store, plan, until) - counter.matched, 0)
    if isinstance(counter, _ShadowCounter):
        sums.shadow, sums.paired = counter.alike, counter.sample.seen
        pairs = list(counter.sample.pairs())
        sums.pairs = len(pairs)
        return sums, iter(pairs)
    return sums, iter(())


class _CounterOf:
    """What both modes count: requests and rows by day and variant, outcomes by when they came, and what is left out."""

    def __init__(self, store: Store, plan: Plan, until: float):
        self.left_out = LeftOut()
        self.times = {A: Times(), B: Times()}
        self.matched = 0  # outcomes that came in this time and found their request
        self._store, self._plan, self._until = store, plan, until
        self._score = SCORES[plan.outcome]
        self._seen = Seen()
        self._requests: Counter[tuple[str, int]] = Counter()  # by variant and day
        self._rows: Counter[tuple[str, int]] = Counter()
        self._outcomes: Counter[tuple[str, int]] = Counter()

    def _inside(self, block: Block) -> bool:
        source, plan = block.source, self._plan
        version = {A: plan.champion, B: plan.challenger}.get(source.variant)
        return source.experiment == plan.experiment and source.model_version == version

    def _asked(self, block: Block, places: list[int]) -> None:
        """Count these requests and their rows."""
        variant = block.source.variant
        self.times[variant].add([block.latencies[place] for place in places])
        for place in places:
            day = int(block.times[place] // DAY)
            self._requests[variant, day] += 1
            self._rows[variant, day] += block.rows[place]

    def _told(self, request_ids: list[str]) -> dict[str, list[tuple[int, Told]]]:
        """What was reported of these requests up to now, by request."""
        found: dict[str, list[tuple[int, Told]]] = {}
        for (request_id, row), told in outcomes_of(self._store, request_ids).items():
            if self._plan.outcome == "value" and told.value_time is not None:
                told = told._replace(time=told.value_time)
            if told.time < self._until:
                self.matched += told.time >= self._plan.since
                found.setdefault(request_id, []).append((row, told))
        return found

    def _usable(self, half: Half, told: list[tuple[int, Told]], since: float) -> Iterator[tuple[int, int, Told]]:
        """Row, day and report of outcomes that are in time; one counts from the day on which it came, and not before `since`."""
        if not self._seen.add(number_of(half.request_id)):
            self.left_out.repeated += 1
            return
        for row, one in told:
            if self._plan.window is not None and one.time - half.time > self._plan.window:
                self.left_out.late += 1
            elif row >= half.rows:
                self.left_out.unusable += 1
            else:
                yield row, int(max(one.time, since) // DAY), one

    def _scored(self, answer: Answer, told: Told) -> float | None:
        try:
            return self._score(answer, told)
        except Unusable:
            self.left_out.unusable += 1
            return None

    def _span(self) -> Iterable[int]:
        """The days from the first one with a request to the last one, counted from 1970."""
        if not self._requests:
            return []
        first, last = min(day for _, day in self._requests), math.ceil(self._until / DAY)
        return range(first, last)

    def _arm(self, variant: str, day: int, summary: Summary, number: int = 0) -> Arm:
        return Arm(
            subjects=summary.subjects, measured=summary.measured,
            mean=summary.means[number], squares=summary.squares[number],
            **{name: _until(counts, variant, day) for name, counts in
               (("requests", self._requests), ("rows", self._rows), ("outcomes", self._outcomes))},
        )  # fmt: skip

    def _number(self, day: int) -> int:
        return day - int(self._plan.since // DAY) + 1


class _SplitCounter(_CounterOf):
    """Mode ab: each subject has the answers of one model."""

    def __init__(self, store: Store, plan: Plan, until: float):
        super().__init__(store, plan, until)
        self._first = {A: FirstDays(), B: FirstDays()}
        self._sums = {A: DailySums(), B: DailySums()}

    def add(self, block: Block) -> None:
        """Count a block of the plan's model."""
        self.left_out.tests += block.roles.count("test")
        served = [place for place, role in enumerate(block.roles) if role == "served"]
        told = self._told([block.request_ids[place] for place in served])
        inside = [place for place in served if block.subjects[place] is not None and self._inside(block)]
        without = sum(block.subjects[place] is None for place in served)
        self.left_out.no_subject += without
        self.left_out.outside += len(served) - len(inside) - without
        if not inside:
            return
        self._asked(block, inside)
        keys = [number_of(str(block.subjects[place])) for place in inside]
        variant = block.source.variant
        self._first[variant].add(keys, [int(block.times[place] // DAY) for place in inside])
        for place, key in zip(inside, keys, strict=True):
            if reports := told.get(block.request_ids[place]):
                self._measure(variant, key, _half(block, place), reports)

    def _measure(self, variant: str, key: int, half: Half, reports: list[tuple[int, Told]]) -> None:
        answers = _read(half)
        for row, day, told in self._usable(half, reports, half.time):
            value = self._scored(answers[row], told)
            if value is not None:
                self._outcomes[variant, day] += 1
                self._sums[variant].add(key, day, value)

    def days(self) -> list[Day]:
        """The sums at the end of each day."""
        subjects, self.left_out.crossed = crossing(self._first[A], self._first[B])
        a, b = (Cumulative(*one, self._sums[variant]) for one, variant in zip(subjects, (A, B), strict=True))
        found = []
        for day in self._span():
            ours, theirs = self._arm(A, day, a.until(day)), self._arm(B, day, b.until(day))
            found.append(Day(day=date(day), number=self._number(day), a=ours, b=theirs))
        return found


class _ShadowCounter(_CounterOf):
    """Mode shadow: each row has the answers of both models."""

    def __init__(self, store: Store, plan: Plan, until: float):
        super().__init__(store, plan, until)
        self.alike, self.sample = Shadow(), Sample()
        self._waiting = {A: Waiting(), B: Waiting()}
        self._pairs: list[tuple[Half, Half]] = []
        self._alone: list[str] = []  # A's requests whose other half will not be found
        self._first, self._sums = FirstDays(), DailySums(width=3)  # A's number, B's, and their difference

    def add(self, block: Block) -> None:
        """Count a block of the plan's model."""
        self.left_out.tests += block.roles.count("test")
        variant = block.source.variant
        if not self._inside(block):
            outside = [place for place, role in enumerate(block.roles) if role == "served"]
            self.left_out.outside += len(outside)
            self._told([block.request_ids[place] for place in outside])
            return
        role = "served" if variant == A else "shadow"
        places = [place for place, found in enumerate(block.roles) if found == role]
        self._asked(block, places)
        for place in places:
            half = _half(block, place)
            other = self._waiting[B if variant == A else A].take(half.request_id)
            if other is None:
                gone = self._waiting[variant].keep(half)
                self._alone += gone if variant == A else []
            else:
                self._pairs.append((half, other) if variant == A else (other, half))
        if len(self._pairs) >= ASKED:
            self._count_pairs()
        if len(self._alone) >= ASKED:
            self._count_alone()

    def _count_alone(self) -> None:
        """Find the outcomes of A's requests that have no answer of B: they are no others' than this experiment's."""
        alone, self._alone = self._alone, []
        self.left_out.alone += sum(len(reports) for reports in self._told(alone).values())

    def _count_pairs(self) -> None:
        pairs, self._pairs = self._pairs, []
        told = self._told([a.request_id for a, _ in pairs])
        for a, b in pairs:
            ours, theirs = _read(a), _read(b)
            if len(ours) != len(theirs):
                continue
            compare(self.alike, ours, theirs)
            key = number_of(a.request_id if a.subject is None else a.subject)
            since = max(a.time, b.time)  # from when on both are known
            self._first.add([key], [int(since // DAY)])
            if reports := told.get(a.request_id):
                self._measure(key, (a, b), (ours, theirs), self._usable(a, reports, since))

    def _measure(
        self,
        key: int,
        halves: tuple[Half, Half],
        answers: tuple[list[Answer], list[Answer]],
        usable: Iterator[tuple[int, int, Told]],
    ) -> None:
        raw = [_rows(half) for half in halves]
        for row, day, told in usable:
            ours, theirs = (self._scored(one[row], told) for one in answers)
            if ours is None or theirs is None:
                continue
            for variant in (A, B):
                self._outcomes[variant, day] += 1
            apart = 0.0 if alike(answers[0][row], answers[1][row]) else theirs - ours
            self._sums.add(key, day, ours, theirs, apart)
            self.sample.add(halves[0].request_id, row, key, told.outcome, raw[0][row], raw[1][row])

    def days(self) -> list[Day]:
        """The sums at the end of each day."""
        self._count_pairs()
        self._alone += self._waiting[A].ids()
        self._count_alone()
        keys, first = self._first.result()
        never = first * 0 + NEVER
        both = Cumulative(keys, first, never, self._sums, width=3)
        found = []
        for day in self._span():
            summary = both.until(day)
            found.append(
                Day(
                    day=date(day),
                    number=self._number(day),
                    a=self._arm(A, day, summary, 0),
                    b=self._arm(B, day, summary, 1),
                    difference=Difference(measured=summary.measured, mean=summary.means[2], squares=summary.squares[2]),
                )
            )
        served = sum(rows for (variant, _), rows in self._rows.items() if variant == A)
        self.alike.unanswered = served - self.alike.rows
        return found


def _half(block: Block, place: int) -> Half:
    return Half(
        block.request_ids[place], block.times[place], block.subjects[place], block.rows[place], block.answers[place]
    )


def _read(half: Half) -> list[Answer]:
    """The answers to the rows of a request; empty ones where they cannot be read."""
    try:
        found = answers_of(half.answers)
    except msgspec.MsgspecError:
        found = []
    return found if len(found) == half.rows else [Answer()] * half.rows


def _rows(half: Half) -> list[msgspec.Raw]:
    try:
        found = msgspec.json.decode(half.answers, type=list[msgspec.Raw])
    except msgspec.MsgspecError:
        found = []
    return found if len(found) == half.rows else [msgspec.Raw(b"null")] * half.rows


def _until(counts: Counter[tuple[str, int]], variant: str, day: int) -> int:
    return sum(number for (which, when), number in counts.items() if which == variant and when <= day)


def _arrived(store: Store, plan: Plan, until: float) -> int:
    ((number,),) = store.query("SELECT COUNT(*) FROM outcomes WHERE time >= ? AND time < ?", (plan.since, until))
    return int(number)


def _failures(store: Store, plan: Plan, until: float) -> dict[str, int]:
    """Requests to which a version had no answer, on the days of the experiment; the first and the last count whole."""
    failed = store.query(
        "SELECT model_version, SUM(requests) FROM refusals WHERE model = ? AND status >= ? AND day >= ? AND day <= ?"
        " GROUP BY 1",
        (plan.model, FAILED, int(plan.since // DAY), int(until // DAY)),
    )
    found = {version: int(requests) for version, requests in failed}
    return {version: found.get(version, 0) for version in (plan.champion, plan.challenger)}


def _stop(store: Store, plan: Plan) -> Stop | None:
    """Whether the experiment has stopped itself."""
    found = stops.read(store, plan.model, plan.experiment)
    return Stop(*found) if found else None
