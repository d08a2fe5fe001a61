"""The detector: evidence, day by day, that a share of rows has left its tolerance. Pure functions of daily counts.

Each stream of counts (the distribution of a column, its empty cells, the wrong answers) has *cells*: shares of rows that should
stay where the reference has them, but for a tolerance. The evidence of a stream is the mean, over its cells and STEPS, of a
Shiryaev-Roberts statistic: each day, of the likelihood of the day's counts with the share beyond its tolerance, divided by that within.
While nothing moved, the evidence of day d is d or less on average, so the first of K streams passes K * 365 in a year or later on
average, however the streams depend on one another (e-detectors: J. Shin, A. Ramdas, A. Rinaldo, New England Journal of Statistics
in Data Science 2, 2024). Rows of one day are alike, which the likelihood does not know: its logarithm is divided by the overdispersion
that was seen before that day. docs/decisions/0007-monitoring.md has what was measured.

Shapes: a *table* is (days, bins + 1), rows per bin and day, those with an empty cell last. Evidence is a natural logarithm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from serving.counts.columns import written

DAYS_OF_A_YEAR = 365
CUTS = np.arange(1, 10) / 10  # numbers are watched at their deciles
STEPS = np.array([0.02, 0.05, 0.1, 0.2])  # how far beyond its tolerance a share is looked for
LARGEST = 0.999  # share: above it there is nothing to look for
FEW_ROWS = 1000  # of a reference, below which it is trusted less
DEVIATIONS, DEVIATIONS_OF_FEW = 2, 3  # standard errors by which the reference may be wrong
LIKE = 0.0064  # how alike the rows of a day are taken to be until that was seen: they share 0.1 standard deviations
EARLY, WINDOW, LAG, WEEK = (
    28,
    56,
    28,
    7,
)  # days: of that assumption, of the days that are looked at, and how old those are
FALLEN = np.log(10)  # an incident closes when its evidence was below a tenth of the limit for a WEEK of judged days
OTHERS = "any other value"  # the name of the cell of texts that are not among the most frequent
GONE = 3  # judged days in a row without any evidence, after which it closes too; more than a weekend has


@dataclass(frozen=True)
class Cells:
    """Shares that are watched: rows of the bins in `pick`, among the rows of the bins in `among`, each (cells, bins + 1) of 0 and 1.

    `share` is that of the reference, and `null` the highest that is within the tolerance.
    """

    names: tuple[str, ...]
    pick: np.ndarray
    among: np.ndarray
    share: np.ndarray
    null: np.ndarray


class Likeness(NamedTuple):
    """How alike the rows of one day are, and of one week, each (2,): what variance there was beyond that of independent rows.

    `excess / weight` is the intraclass correlation. It belongs to the data, so the next version begins with it.
    """

    excess: np.ndarray = np.zeros(2)
    weight: np.ndarray = np.zeros(2)
    days: float | np.ndarray = 0.0


UNKNOWN = Likeness()


@dataclass(frozen=True)
class Stream:
    """The counts of one thing that is watched: its cells, the table, and how alike rows of a day were before the first day."""

    cells: Cells
    table: np.ndarray
    before: Likeness = UNKNOWN


class Alarm(NamedTuple):
    """An incident by its days, as rows of the table; `closed` is None while it is open. `cell` gave the most evidence."""

    since: int
    day: int
    closed: int | None
    cell: int


@dataclass(frozen=True)
class Trace:
    """What the days of a stream came to.

    `evidence` (days,) is zero or more, and stays where it was on days that wait for more rows (`judged` is False). It is that
    of each day before it is cut to the limit, so it may pass it.
    """

    evidence: np.ndarray
    judged: np.ndarray
    overdispersion: np.ndarray
    alarms: list[Alarm]
    likeness: Likeness


def log_limit(streams: int, false_alarms_per_year: float = 1.0) -> float:
    """The evidence at which one of so many streams is an alarm."""
    return float(np.log(max(streams, 1) * DAYS_OF_A_YEAR / false_alarms_per_year))


# --- cells ---


def distribution_cells(column: Mapping[str, Any], rows: int, tolerance: float) -> Cells:
    """The cells of a column's distribution, from its reference and the number of rows there; none where that was empty."""
    present = rows * (1 - column.get("missing", 0.0))
    if "edges" in column:
        return _number_cells(column, present, tolerance)
    return _text_cells(column, present, tolerance)


def _number_cells(column: Mapping[str, Any], rows: float, tolerance: float) -> Cells:
    edges, bins = column["edges"], len(column["edges"]) + 1
    below = np.cumsum(column["shares"])[:-1] if edges else np.empty(0)
    chosen = np.unique(np.abs(below[:, None] - CUTS).argmin(axis=0)) if edges else np.empty(0, dtype=int)
    under = (np.arange(bins) <= chosen[:, None]).astype(float)
    written = numbers([edges[place] for place in chosen])
    names = [f"below {edge}" for edge in written] + [f"at least {edge}" for edge in written]
    share = np.concatenate([below[chosen], 1 - below[chosen]])
    return _cells(names, _wide(np.concatenate([under, 1 - under])), share, rows, tolerance)


def numbers(values: Sequence[float]) -> list[str]:
    """Numbers as people write them: whole ones, or with four digits, or with as many more as tell them apart."""
    for digits in range(4, 18):
        found = [written(value, digits) for value in values]
        if len(set(found)) == len(set(values)):
            break
    return found if len(values) else []


def _text_cells(column: Mapping[str, Any], rows: float, tolerance: float) -> Cells:
    shares = list(column["shares"].values())
    share = np.clip([*shares, 1 - sum(shares)], 0, 1)
    return _cells([*column["shares"], OTHERS], _wide(np.eye(len(share))), share, rows, tolerance)


def missing_cells(column: Mapping[str, Any], rows: int, tolerance: float) -> Cells:
    """Empty cells of a column, more or fewer than in its reference, among all rows."""
    bins = len(column["edges"]) + 1 if "edges" in column else len(column["shares"]) + 1
    last = np.zeros(bins + 1)
    last[-1] = 1
    share, names = column.get("missing", 0.0), ["missing", "present"]
    return _cells(names, np.stack([last, 1 - last]), np.array([share, 1 - share]), rows, tolerance, np.ones(bins + 1))


def share_cells(name: str, share: float, rows: int, tolerance: float) -> Cells:
    """A share that should not rise, such as that of wrong answers; the table is (days, 2), such rows and all others."""
    return _cells([name], np.array([[1.0, 0.0]]), np.array([share]), rows, tolerance, np.ones(2))


def _wide(pick: np.ndarray) -> np.ndarray:
    """The same bins, with none of the empty cells."""
    return np.concatenate([pick, np.zeros((len(pick), 1))], axis=1)


def _cells(names, pick: np.ndarray, share: np.ndarray, rows: float, tolerance: float, among=None) -> Cells:
    """Those of the cells that can rise; none without rows in the reference."""
    among = np.append(np.ones(pick.shape[1] - 1), 0.0) if among is None else among
    # What may move and what the reference may be wrong by are independent, so their squares add up.
    null = share + np.hypot(tolerance, _highest(share, max(rows, 1)) - share)
    kept = (null + STEPS[0] <= LARGEST) & (rows >= 1)
    kept_names = tuple(str(name) for name, one in zip(names, kept, strict=True) if one)
    return Cells(kept_names, pick[kept], np.tile(among, (kept.sum(), 1)), share[kept], null[kept])


def _highest(share: np.ndarray, rows: float) -> np.ndarray:
    """The upper end of Wilson's interval of a share that was measured on so many rows: right for shares near zero, too."""
    z = DEVIATIONS if rows >= FEW_ROWS else DEVIATIONS_OF_FEW
    half = z * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return (share + z**2 / (2 * rows) + half) / (1 + z**2 / rows)


# --- how alike the rows of a day are ---


def likeness(hits: np.ndarray, rows: np.ndarray, before: Likeness = UNKNOWN) -> Likeness:
    """How alike rows are as far as each day knows, and the day after the last, from hits and rows (days, cells): arrays with days + 1 at the end.

    It is measured on up to WINDOW days of which the last is LAG days ago, or on the first ones, so that a change that is just
    being found does not hide itself; never on the day itself. What was known before fades as days are seen.
    """
    days = np.arange(len(hits) + 1)
    stop = np.where(days <= WINDOW, days, np.maximum(days - LAG, WINDOW))
    start = np.maximum(stop - WINDOW, 0)
    excess, weight = _beyond_chance(hits, rows, start, stop)
    kept = 1 - (stop - start) / WINDOW
    excess, weight = excess + kept * before.excess[:, None], weight + kept * before.weight[:, None]
    seen = _sums((rows.max(axis=1, keepdims=True, initial=0.0) > 0).astype(float), start, stop)[:, 0]
    return Likeness(excess, weight, seen + kept * before.days)


def correlation(known: Likeness) -> np.ndarray:
    """The correlation of rows of one day, and of one week, (2, days): at least LIKE for days until EARLY days were seen."""
    found = np.where(known.weight > 0, np.maximum(known.excess, 0) / np.maximum(known.weight, 1e-12), 0.0)
    daily = np.where(known.days < EARLY, np.maximum(found[0], LIKE), found[0])
    return np.stack([daily, np.where(known.days < WINDOW, 0.0, found[1])])


def overdispersion(rows: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """By what the likelihood of so many rows a day is to be divided, from their correlations (2, …): the larger of days and weeks."""
    return 1 + np.maximum(np.maximum((rows - 1) * alike[0], (WEEK * rows - 1) * alike[1]), 0)


def _beyond_chance(
    hits: np.ndarray, rows: np.ndarray, start: np.ndarray, stop: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Variance beyond that of independent rows in each window of days, and what it is to be divided by: (2, windows) each."""
    total_hits, total_rows = _sums(hits, start, stop), _sums(rows, start, stop)
    share = total_hits / np.maximum(total_rows, 1)
    found = []
    for length in (1, WEEK):
        k, n = _moving(hits, length), _moving(rows, length)
        first = np.minimum(start + length - 1, stop)
        squares, ks, ns = (_sums(one, first, stop) for one in (k**2 / np.maximum(n, 1), k, n))
        spread = squares - 2 * share * ks + share**2 * ns
        alone = _sums((n > 0).astype(float), first, stop) - ns / np.maximum(total_rows, 1)
        alike = ns - _sums(n**2, first, stop) / np.maximum(total_rows, 1) - alone
        chance = share * (1 - share)
        found.append(((spread - chance * alone).sum(axis=1), (chance * alike).sum(axis=1)))
    excess, weight = zip(*found, strict=True)
    return np.stack(excess), np.stack(weight)


def _sums(values: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Sums over the rows start <= row < stop, for each pair."""
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    return total[stop] - total[start]


def _moving(values: np.ndarray, length: int) -> np.ndarray:
    """Sums over so many rows that end with each; those at the top have fewer."""
    rows = np.arange(len(values))
    return _sums(values, np.maximum(rows + 1 - length, 0), rows + 1)


# --- evidence ---


def replay(streams: Sequence[Stream], limit: float, min_rows: int = 30) -> list[Trace]:
    """The evidence of each day of each stream, from the first day on, and the incidents.

    Days with fewer than `min_rows` rows are judged together with those that follow. When the evidence reaches the limit it is
    cut to the limit, or a long incident would take as long to end; cutting only lowers it. While an incident is open, rows are
    taken to be as alike as they were at its alarm, or what is broken on working days alone would become what is usual.
    """
    pooled = [_pooled(stream, max(min_rows, 1)) for stream in streams]
    some = [one for one in pooled if one.hits.size]
    found = iter(_accumulate(some, limit) if some else [])
    return [_trace(one, *next(found)) if one.hits.size else _silent(one) for one in pooled]


@dataclass(frozen=True)
class _Pooled:
    """The counts of a stream over groups of days that have enough rows: `first` and `last` are the days of each, (groups,)."""

    stream: Stream
    hits: np.ndarray
    rows: np.ndarray
    first: np.ndarray
    last: np.ndarray
    known: Likeness


def _pooled(stream: Stream, least: int) -> _Pooled:
    table = np.asarray(stream.table, dtype=float)
    last = _ends(table.sum(axis=1), least)
    first = np.concatenate([[0], last[:-1] + 1])[: len(last)].astype(int)
    sums = _sums(table, first, last + 1)
    hits, rows = sums @ stream.cells.pick.T, sums @ stream.cells.among.T
    return _Pooled(stream, hits, rows, first, last, likeness(hits, rows, stream.before))


def _ends(rows: np.ndarray, least: int) -> np.ndarray:
    """The last day of each group of days that has enough rows."""
    if (rows >= least).all():
        return np.arange(len(rows))
    ends, waiting = [], 0.0
    for day, number in enumerate(rows.tolist()):
        waiting += number
        if waiting >= least:
            ends.append(day)
            waiting = 0.0
    return np.array(ends, dtype=int)


class _Side(NamedTuple):
    """The cells of all streams side by side: where each stream begins, and the stream of each cell; counts are (groups, cells)."""

    begins: np.ndarray
    of: np.ndarray
    hits: np.ndarray
    others: np.ndarray
    rows: np.ndarray
    alike: np.ndarray


def _side_by_side(pooled: Sequence[_Pooled]) -> _Side:
    sizes, groups = [one.hits.shape[1] for one in pooled], max(len(one.hits) for one in pooled)
    begins, of = np.concatenate([[0], np.cumsum(sizes)[:-1]]), np.repeat(np.arange(len(pooled)), sizes)
    hits, others = np.zeros((groups, len(of))), np.zeros((groups, len(of)))
    rows, alike = np.zeros((groups, len(pooled))), np.zeros((groups, 2, len(pooled)))
    for place, one in enumerate(pooled):
        here, days = slice(begins[place], begins[place] + sizes[place]), len(one.hits)
        hits[:days, here], others[:days, here] = one.hits, one.rows - one.hits
        rows[:days, place], alike[:days, :, place] = one.rows.max(axis=1), correlation(one.known)[:, :-1].T
    return _Side(begins, of, hits, others, rows, alike)


def _accumulate(pooled: Sequence[_Pooled], limit: float) -> list[tuple[np.ndarray, np.ndarray, list[Alarm]]]:
    """Per stream evidence and overdispersion of each group of days, (groups,), and the incidents, by groups.

    `level` is the statistic of each cell and step as a logarithm; `sums` is that of CUSUM, which tells since when it rises.
    """
    side = _side_by_side(pooled)
    rise, fall, weight = _likelihoods(np.concatenate([one.stream.cells.null for one in pooled]))
    weight /= np.add.reduceat(weight.sum(axis=1), side.begins)[side.of][:, None]
    level, sums, began = np.full(rise.shape, -np.inf), np.zeros(rise.shape), np.zeros(rise.shape, dtype=int)
    evidence, divided = np.zeros(side.rows.shape), np.ones(side.rows.shape)
    is_open, low, gone = np.zeros(len(pooled), dtype=bool), np.zeros(len(pooled), int), np.zeros(len(pooled), int)
    alarms: list[list[Alarm]] = [[] for _ in pooled]
    lengths, alike = np.array([len(one.hits) for one in pooled]), side.alike[0]
    for day in range(len(evidence)):
        alike = np.where(is_open, alike, side.alike[day])
        divided[day] = overdispersion(side.rows[day], alike)
        phi = divided[day][side.of]
        step = (side.hits[day] / phi)[:, None] * rise + (side.others[day] / phi)[:, None] * fall
        level = np.logaddexp(0, level) + step
        began[sums <= 0] = day
        sums = np.maximum(sums, 0) + step
        now = evidence[day] = _mean(level, weight, side)
        low, gone = np.where(now < limit - FALLEN, low + 1, 0), np.where(now <= 0, gone + 1, 0)
        opens = ~is_open & (now >= limit) & (day < lengths)
        closes = is_open & ((low >= WEEK) | (gone >= GONE)) & (day < lengths)
        for stream in np.flatnonzero(opens):
            cell, step_of = _leading(level, int(stream), side)
            alarms[stream].append(Alarm(int(began[cell, step_of]), day, None, int(cell - side.begins[stream])))
        for stream in np.flatnonzero(closes):
            alarms[stream][-1] = alarms[stream][-1]._replace(closed=day)
        is_open = (is_open | opens) & ~closes
        cut = np.maximum(now - limit, 0)[side.of][:, None]
        level, sums = level - cut, sums - cut
    return [(evidence[:end, place], divided[:end, place], alarms[place]) for place, end in enumerate(lengths)]


def _mean(level: np.ndarray, weight: np.ndarray, side: _Side) -> np.ndarray:
    """The logarithm of each stream's weighted mean of exp(level)."""
    top = np.maximum.reduceat(level.max(axis=1), side.begins)
    shares = (np.exp(level - top[side.of][:, None]) * weight).sum(axis=1)
    return top + np.log(np.add.reduceat(shares, side.begins))


def _leading(level: np.ndarray, stream: int, side: _Side) -> tuple[int, int]:
    """Which cell of a stream, and which of STEPS, has the most evidence."""
    inside = np.where((side.of == stream)[:, None], level, -np.inf)
    cell, step_of = divmod(int(inside.argmax()), inside.shape[1])
    return cell, step_of


def _trace(pooled: _Pooled, evidence: np.ndarray, divided: np.ndarray, alarms: Sequence[Alarm]) -> Trace:
    """What each group of days came to, told by day."""
    days, first, last = len(pooled.stream.table), pooled.first.tolist(), pooled.last.tolist()
    group = (
        np.searchsorted(pooled.last, np.arange(days), side="right") - 1
    )  # the last one that was complete by each day
    judged = np.zeros(days, dtype=bool)
    judged[last] = True
    by_day = [
        Alarm(first[one.since], last[one.day], None if one.closed is None else last[one.closed], one.cell)
        for one in alarms
    ]
    at = alarms[-1].day if alarms and alarms[-1].closed is None else len(evidence)
    return Trace(
        np.where(group >= 0, np.maximum(evidence, 0)[group], 0.0),
        judged,
        np.where(group >= 0, divided[group], 1.0),
        by_day,
        _at(pooled.known, at),
    )


def _silent(pooled: _Pooled) -> Trace:
    """Of a stream that has nothing to watch, or not enough rows for one judgement."""
    days = len(pooled.stream.table)
    return Trace(np.zeros(days), np.zeros(days, dtype=bool), np.ones(days), [], _at(pooled.known, -1))


def _at(known: Likeness, day: int) -> Likeness:
    return Likeness(known.excess[:, day], known.weight[:, day], float(np.asarray(known.days)[day]))


def _likelihoods(null: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a row in the cell, and a row elsewhere, adds to the evidence for each of STEPS, and the weight of each: (cells, steps)."""
    beyond = null[:, None] + STEPS
    valid = beyond <= LARGEST
    beyond = np.where(valid, beyond, null[:, None])
    never = np.where(valid, 0.0, -1e3)  # no row speaks for what cannot be
    rise = np.log(beyond / null[:, None]) + never
    fall = np.log((1 - beyond) / (1 - null[:, None])) + never
    return rise, fall, valid.astype(float)
