"""Count those days of the prediction log that have changed since they were counted."""

import time
from collections import Counter
from collections.abc import Callable, Iterable

from serving.counts import table
from serving.counts.day import OutcomeCounter, Requested, RowCounter, Told
from serving.counts.records import Day, Plan, Version
from serving.counts.table import DAY, Found, Key, date
from serving.log.blocks import Block
from serving.log.reader import Told as Reported
from serving.log.reader import outcomes_of, read_blocks
from serving.log.store import NO_OUTCOME, Store

CHALLENGER = "B"  # the variant whose rows are not production's: the experiment judges them, and here they are counted in total only
MOST_IDS = 2_000_000  # requests with outcomes of a day that are kept in mind, to notice one that was logged twice
QUIET = 2.0  # seconds between two lines of progress


def count_log(store: Store, plan: Plan, tell: Callable[[str], None] = lambda _: None) -> None:
    """Bring the table `daily_counts` up to date, a day at a time; `tell` hears how far it is. Raises StoreError."""
    table.make(store)
    store.move_all()  # else the records of older services would be in no block, and on no day
    work = outstanding(store, plan)
    due = time.monotonic() + QUIET
    for number, day in enumerate(sorted({day for day, _ in work})):
        found = {version: found for (each, version), found in work.items() if each == day}
        counts = count_day(store, plan, day, found)
        table.write(store, plan, {(day, version): (found[version], record) for version, record in counts.items()})
        if time.monotonic() > due:
            tell(f"{date(day)} is counted, {len({day for day, _ in work}) - number - 1} days to go")
            due = time.monotonic() + QUIET
    note_orphans(store, plan)


def outstanding(store: Store, plan: Plan) -> dict[Key, Found]:
    """The days and versions that must be counted, or counted again."""
    arrived, before = table.arrived(store, plan), table.counted(store, plan)
    window = int(plan.label_window // DAY) + 2
    work = {}
    logged = table.logged(store, plan)
    oldest = min((day for day, _ in logged), default=0)
    for (day, version), found in logged.items():
        came = [arrived[later] for later in range(day, day + window) if later in arrived]
        mark = f"{found.mark} {came} {table.digest(plan.versions.get(version))}"
        known = before.get((day, version))
        # Retention deletes the oldest rows: what is left of that day is less than was counted.
        shrunk = known is not None and day == oldest and found.requests < known.requests
        if not shrunk and (known is None or known.mark != mark):
            work[day, version] = Found(found.requests, mark)
    return work


def count_day(store: Store, plan: Plan, day: int, versions: dict[str, Found]) -> dict[str, Day]:
    """The counts of one day, for these versions."""
    begin, end = day * DAY, (day + 1) * DAY
    counters = {version: _Counters(plan.versions.get(version), plan.label_window) for version in versions}
    records = {version: Day(day=date(day), version=version) for version in versions}
    told_of: set[int] = set()
    for block in read_blocks(store, begin, end):
        model, version, _, variant = block.source
        if model != plan.model or version not in counters:
            continue
        record, counter = records[version], counters[version]
        served = [place for place, at in enumerate(block.times) if begin <= at < end]
        if variant != CHALLENGER:
            record.requests += len(served)
        served = [place for place in served if block.roles[place] == "served"]
        rows = sum(block.rows[place] for place in served)
        outcomes = outcomes_of(store, [block.request_ids[place] for place in served])
        told: dict[str, list[tuple[int, Reported]]] = {}
        for (request_id, row), reported in outcomes.items():
            told.setdefault(request_id, []).append((row, reported))
        if variant == CHALLENGER:
            record.challenged += rows
            counter.arrive(reported for each in told.values() for _, reported in each)
            continue
        record.asked += rows
        record.tests = record.requests - counter.add(block, served, told, told_of)
    for version, counter in counters.items():
        records[version].came = counter.came
        if counter.rows and counter.outcomes:
            records[version].rows, records[version].outcomes = counter.rows.result(), counter.outcomes.result()
    return records


class _Counters:
    """The two counters of a version, or none for a version that the plan lacks."""

    def __init__(self, version: Version | None, window: float):
        self.rows = RowCounter(version) if version else None
        self.outcomes = OutcomeCounter(version, window) if version else None
        self.came: dict[int, int] = {}  # outcomes that found their request, by the day on which they came
        self._served = 0

    def add(self, block: Block, places: list[int], told: dict, told_of: set[int]) -> int:
        """Count these requests of a block; return how many callers' requests there were so far."""
        self._served += len(places)
        for place in places:
            request_id = block.request_ids[place]
            request = Requested(
                request_id, block.callers[place], block.rows[place], block.features[place], block.answers[place]
            )
            if self.rows:
                self.rows.add(request)
            if not (given := told.get(request_id)) or (known := hash(request_id)) in told_of:
                continue  # of two requests with one id, the outcomes are those of the first
            if len(told_of) < MOST_IDS:
                told_of.add(known)
            self.arrive(one for _, one in given)
            if self.outcomes:
                asked = block.times[place]
                self.outcomes.add(
                    request,
                    [
                        Told(row, one.outcome, one.time - asked, one.sent)
                        for row, one in given
                        if one.outcome != NO_OUTCOME
                    ],
                )
        return self._served

    def arrive(self, outcomes: Iterable[Reported]) -> None:
        """Count outcomes that found their request, by the day on which they came."""
        for one in outcomes:
            self.came[int(one.time // DAY)] = self.came.get(int(one.time // DAY), 0) + 1


def note_orphans(store: Store, plan: Plan) -> None:
    """Keep how many outcomes of each day found no request; none where several models share a log: outcomes do not name theirs."""
    if len(table.overview(store).models) > 1:
        return
    arrived, known = table.arrived(store, plan), table.counted(store, plan)
    days = table.read(store, plan.model)
    found: Counter[int] = Counter()
    for one in days:
        found.update(one.came)
    noted = {one.day: one.orphaned for one in days if not one.version}
    oldest = min(arrived, default=0)
    counts = {}
    for day, (number, _, _) in arrived.items():
        orphaned = max(number - found[day], 0)
        before = known.get((day, ""))
        shrunk = before is not None and day == oldest and number < before.requests  # by retention, as in `outstanding`
        if not shrunk and (before is None or (before.requests, noted.get(date(day))) != (number, orphaned)):
            counts[day, ""] = Found(number, ""), Day(day=date(day), version="", orphaned=orphaned)
    table.write(store, plan, counts)
