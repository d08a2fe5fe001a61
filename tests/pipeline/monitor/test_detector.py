"""The detector is silent while nothing moves, and tells within days what has."""

import time

import numpy as np
import pytest
from watched_columns import NORMAL_ROWS, days, normal, numbers

from pipeline.monitor import detector
from pipeline.monitor.detector import Likeness, Stream

YEAR, CALM = 365, 70  # days; a shift comes after so many
WEEKS = np.resize([0, 0.02, 0.04, 0.04, 0.02, -0.06, -0.06], 2 * YEAR)  # of a standard deviation


def stream(rows: int, means: np.ndarray, seed: int = 0, tolerance: float = 0.02) -> Stream:
    """A column of normal numbers with so many rows a day around these means."""
    reference = normal(seed)
    table = days(reference, np.random.default_rng([seed, 2]), [rows] * len(means), means)
    return Stream(detector.distribution_cells(reference, NORMAL_ROWS, tolerance), table)


def shifted(shift: float, after: int = CALM, more: int = 120) -> np.ndarray:
    """Means that move for good after so many days."""
    return shift * (np.arange(after + more) >= after)


def share(hits, rows: int, before: float = 0.0, tolerance: float = 0.02) -> Stream:
    """A plain share with so many hits on each day."""
    table = np.stack([np.asarray(hits), rows - np.asarray(hits)], axis=1)
    return Stream(detector.share_cells("hits", before, NORMAL_ROWS, tolerance), table)


def delays(traces: list, after: int = CALM) -> list[int]:
    """Days until the first alarm of each, the day of the change counted as one."""
    return [trace.alarms[0].day - after + 1 if trace.alarms else YEAR for trace in traces]


@pytest.mark.parametrize("rows", [100, 1000, 5000])
def test_a_year_without_change_has_no_alarm(rows):
    """Thirty columns that stay as they were, with and without weekdays and days that differ, give no alarm in a year."""
    rng = np.random.default_rng(rows)
    moods = [np.zeros(YEAR), WEEKS[:YEAR], rng.normal(0, 0.1, YEAR)]
    streams = [stream(rows, moods[seed % 3], seed) for seed in range(30)]
    assert [trace.alarms for trace in detector.replay(streams, detector.log_limit(30))] == [[]] * 30


@pytest.mark.parametrize(("shift", "rows", "within"), [(0.2, 100, 30), (0.2, 1000, 5), (0.5, 100, 4), (0.5, 1000, 1)])
def test_a_shift_is_found_within_days(shift, rows, within):
    """In the median of columns, an alarm comes as soon as the decision document says, and names the day of the change."""
    traces = detector.replay([stream(rows, shifted(shift), seed) for seed in range(11)], detector.log_limit(30))
    assert np.median(delays(traces)) <= within
    assert abs(np.median([trace.alarms[0].since for trace in traces]) - CALM) <= 3


def test_empty_cells_are_found_within_days():
    """Missing cells that go from 1 to 5 of 100 are an alarm within two days of 1,000 rows; from 1 to 2 they never are."""
    reference, rng = (
        numbers(np.where(np.arange(NORMAL_ROWS) % 100 == 0, np.nan, np.arange(NORMAL_ROWS))),
        np.random.default_rng(1),
    )
    cells = detector.missing_cells(reference, NORMAL_ROWS, 0.02)
    many, few = (rng.binomial(1000, np.where(np.arange(CALM + 50) < CALM, 0.01, now)) for now in (0.05, 0.02))
    tables = [np.zeros((len(hits), len(reference["shares"]) + 1)) for hits in (many, few)]
    for table, hits in zip(tables, (many, few), strict=True):
        table[:, 0], table[:, -1] = 1000 - hits, hits
    found, none = detector.replay([Stream(cells, table) for table in tables], detector.log_limit(30))
    assert delays([found])[0] <= 4 and found.alarms[0].since == CALM
    assert not none.alarms


def test_a_column_that_is_empty_no_more_is_found():
    """Fewer empty cells than in training are a change too."""
    reference = numbers(np.where(np.arange(NORMAL_ROWS) % 2 == 0, np.nan, np.arange(NORMAL_ROWS)))
    table = np.array([[1000, *[0] * (len(reference["shares"]) - 1), 0]] * 5)
    stream = Stream(detector.missing_cells(reference, NORMAL_ROWS, 0.02), table)
    (trace,) = detector.replay([stream], detector.log_limit(30))
    assert stream.cells.names[trace.alarms[0].cell] == "present"


def test_a_new_text_is_found_within_days():
    """A text that training did not have, in 5 of 100 rows, is among the others, and an alarm within three days of 1,000 rows."""
    reference = {"shares": {"a": 0.6, "b": 0.4}, "missing": 0.0}
    cells = detector.distribution_cells(reference, NORMAL_ROWS, 0.02)
    new = np.random.default_rng(2).binomial(1000, np.where(np.arange(CALM + 30) < CALM, 0.0, 0.05))
    table = np.stack([600 - new, 400 + 0 * new, new, 0 * new], axis=1)
    (trace,) = detector.replay([Stream(cells, table)], detector.log_limit(30))
    assert delays([trace])[0] <= 3 and cells.names[trace.alarms[0].cell] == detector.OTHERS


def test_more_columns_need_more_evidence():
    """The budget of false alarms is one for all columns together: each of a thousand needs as much more evidence."""
    assert detector.log_limit(1000) == pytest.approx(detector.log_limit(1) + np.log(1000))
    assert detector.log_limit(30, 2) == pytest.approx(detector.log_limit(30) - np.log(2))
    streams = [stream(100, shifted(0.3), seed) for seed in range(7)]
    few, many = (detector.replay(streams, detector.log_limit(columns)) for columns in (1, 100_000))
    assert np.median(delays(few)) < np.median(delays(many))


def test_a_tolerated_change_is_no_alarm():
    """A shift of 0.1 standard deviations moves no share by more than 4 in 100, which a column may be allowed."""
    loose, tight = (stream(1000, shifted(0.1), 3, tolerance) for tolerance in (0.05, 0.0))
    assert not detector.replay([loose], detector.log_limit(30))[0].alarms
    assert detector.replay([tight], detector.log_limit(30))[0].alarms


def test_small_days_are_judged_together():
    """Twenty rows a day are judged every second day, and the evidence stays where it was in between."""
    (trace,) = detector.replay([stream(20, shifted(1.0, 40, 20))], detector.log_limit(30), min_rows=30)
    assert trace.judged.tolist() == [False, True] * 30
    assert (trace.evidence[2::2] == trace.evidence[1:-1:2]).all()
    assert trace.alarms[0].day % 2 == 1 and trace.alarms[0].since % 2 == 0


def test_one_row_a_day_is_judged_once_a_month():
    """A year of one row a day has twelve judgements and no alarm."""
    (trace,) = detector.replay([stream(1, np.zeros(YEAR))], detector.log_limit(30))
    assert trace.judged.sum() == 12 and not trace.alarms


@pytest.mark.parametrize("days_without", [0, 10])
def test_no_rows_are_no_evidence(days_without):
    """Days without rows, or no days at all, are not judged and give no alarm."""
    one = (
        stream(0, np.zeros(days_without)) if days_without else Stream(stream(1, np.zeros(1)).cells, np.zeros((0, 101)))
    )
    (trace,) = detector.replay([one], detector.log_limit(30))
    assert not trace.judged.any() and not trace.alarms and trace.evidence.tolist() == [0] * days_without


def test_an_alarm_closes_when_the_data_comes_back():
    """After a shift of a month the incident closes within days, and another shift is another incident."""
    means = np.concatenate([np.zeros(70), np.full(30, 0.5), np.zeros(60), np.full(20, 0.5)])
    (trace,) = detector.replay([stream(1000, means)], detector.log_limit(30))
    first, second = trace.alarms
    assert first.since == first.day == 70 and 102 <= first.closed <= 104
    assert second.since in (160, 161) and second.closed is None


def test_a_weekend_does_not_close_an_alarm():
    """What is broken on working days alone is one incident, not one for each week."""
    weekday = np.arange(CALM + 42) % 7 < 5
    (trace,) = detector.replay([stream(10_000, shifted(0.5, CALM, 42) * weekday)], detector.log_limit(30))
    assert len(trace.alarms) == 1 and trace.alarms[0].closed is None


def test_a_small_change_that_weekends_hide_is_one_incident():
    """Evidence that falls on each weekend and comes back in the week is not an end and another beginning."""
    weeks = share(np.resize([355, 355, 355, 355, 355, 285, 330], 56), 1000, 0.294)
    alone = Likeness(np.zeros(2), np.full(2, 1e7), 60)
    (trace,) = detector.replay([Stream(weeks.cells, weeks.table, alone)], detector.log_limit(16))
    assert len(trace.alarms) == 1 and trace.alarms[0].closed is None


def test_what_one_day_knows_does_not_depend_on_later_days():
    """The evidence of the first days is the same when there are more: the detector can be replayed at every run."""
    whole = stream(200, shifted(0.3))
    part = Stream(whole.cells, whole.table[:100])
    long, short = detector.replay([whole, part], detector.log_limit(30))
    assert (long.evidence[:100] == short.evidence).all()
    assert (detector.replay([part], detector.log_limit(30))[0].evidence == short.evidence).all()


def test_days_that_differ_count_for_less():
    """Where the mean of a day wanders by 0.1 standard deviations, overdispersion is what it is: 1 + 0.0064 (n - 1) at the median."""
    means = np.random.default_rng(5).normal(0, 0.1, YEAR)
    (trace,) = detector.replay([stream(5000, means)], detector.log_limit(30))
    assert trace.overdispersion[-1] == pytest.approx(1 + 0.0064 * 5000, rel=0.4)


def test_the_next_version_knows_how_alike_rows_are():
    """A version that begins with what was seen before is as quick on its third day as one that has served for months."""
    calm = detector.replay([stream(1000, np.zeros(120))], detector.log_limit(30))[0].likeness
    fresh = stream(1000, shifted(0.2, 2, 30), 4)
    unaware, aware = detector.replay([fresh, Stream(fresh.cells, fresh.table, calm)], detector.log_limit(30))
    assert delays([aware], 2)[0] <= 5 < delays([unaware], 2)[0]


def test_more_traffic_does_not_bring_alarms():
    """Ten times the rows of days that differ give no alarm: the correlation was measured, not the overdispersion."""
    reference, rng = normal(6), np.random.default_rng(6)
    rows = [500] * 100 + [5000] * 200
    table = days(reference, rng, rows, rng.normal(0, 0.1, len(rows)))
    one = Stream(detector.distribution_cells(reference, NORMAL_ROWS, 0.02), table)
    assert not detector.replay([one], detector.log_limit(30))[0].alarms


def test_a_column_of_100_000_texts_is_watched_by_its_most_frequent():
    """Names that hardly ever come twice are the others: no alarm while they are names, one when they are one name."""
    reference = {"shares": {f"name {number}": 0.00002 for number in range(20)}, "missing": 0.0}
    cells = detector.distribution_cells(reference, NORMAL_ROWS, 0.02)
    rows = np.zeros((80, 22))
    rows[:, 20] = 1000
    rows[CALM:, 20], rows[CALM:, 0] = 800, 200
    (trace,) = detector.replay([Stream(cells, rows)], detector.log_limit(30))
    assert [alarm.since for alarm in trace.alarms] == [CALM]


@pytest.mark.parametrize("reference", [numbers(np.full(50, np.nan)), {"shares": {}, "missing": 1.0}])
def test_a_column_that_was_empty_in_training_has_no_distribution(reference):
    """Without a distribution to compare with there are no cells, and no alarm; that the cells are filled is an alarm of its own."""
    table = np.array([[1000, 0]] * 10)
    streams = [
        Stream(make(reference, 50, 0.02), table) for make in (detector.distribution_cells, detector.missing_cells)
    ]
    nothing, filled = detector.replay(streams, detector.log_limit(30))
    assert not nothing.alarms and nothing.evidence.tolist() == [0] * 10
    assert filled.alarms


def test_a_column_of_one_value_is_watched():
    """A column that was always 5 is silent while it is, and an alarm when it is less."""
    reference = numbers(np.full(NORMAL_ROWS, 5.0))
    table = np.array([[0, 1000, 0]] * CALM + [[900, 100, 0]] * 2)
    (trace,) = detector.replay(
        [Stream(detector.distribution_cells(reference, NORMAL_ROWS, 0.02), table)], detector.log_limit(30)
    )
    assert [alarm.since for alarm in trace.alarms] == [CALM]


def test_a_share_that_rises_is_found_and_one_that_falls_is_not():
    """Wrong answers that go from 15 to 25 of 100 are an alarm, and better ones are none."""
    rng = np.random.default_rng(7)
    rises, falls = (rng.binomial(200, np.where(np.arange(CALM + 60) < CALM, 0.15, now)) for now in (0.25, 0.05))
    worse, better = detector.replay([share(hits, 200, 0.15) for hits in (rises, falls)], detector.log_limit(30))
    assert worse.alarms and worse.alarms[0].since >= CALM - 3 and not better.alarms


def test_a_small_reference_is_trusted_less():
    """Of 100 rows the tolerance is wider than of 10,000, and a share that was never seen may still be one in twenty."""
    few, many = (detector.share_cells("hits", 0.0, rows, 0.02).null[0] for rows in (100, 10_000))
    assert few == pytest.approx(np.hypot(0.02, 9 / 109)) and many == pytest.approx(np.hypot(0.02, 4 / 10_004))


def test_a_share_that_cannot_rise_is_not_watched():
    """Of a share of 99 in 100 no rise beyond the tolerance is possible."""
    assert detector.share_cells("hits", 0.99, NORMAL_ROWS, 0.02).names == ()


def test_nothing_known_is_the_safe_assumption():
    """On the first days rows of a day are taken to share 0.1 standard deviations, and more where more is seen."""
    rows, hits = np.full((20, 1), 1000.0), np.full((20, 1), 500.0)
    assert detector.correlation(detector.likeness(hits, rows))[0] == pytest.approx(np.full(21, 0.0064))
    hits[::2] = 700
    assert detector.correlation(detector.likeness(hits, rows))[0, 10] > 0.03
    calm = Likeness(np.zeros(2), np.full(2, 1e6), 60)
    assert detector.correlation(detector.likeness(hits, rows, calm))[0, 0] == 0


def test_a_year_of_a_hundred_columns_takes_seconds():
    """All days are replayed at every run, so that must be quick."""
    one = stream(1000, np.zeros(YEAR))
    began = time.process_time()
    detector.replay([one] * 100, detector.log_limit(100))
    assert time.process_time() - began < 5


def test_numbers_are_written_so_that_they_can_be_told_apart():
    """Four digits where they are enough, more where values are near each other, and no exponents that nobody reads."""
    assert detector.numbers([26740.4, 0.5, 1.0]) == ["26740", "0.5", "1"]
    assert detector.numbers([1700000000.0, 1700000060.0]) == ["1700000000", "1700000060"]
    assert detector.numbers([1e-9, 3e20]) == ["1e-09", "3e+20"] and detector.numbers([]) == []
