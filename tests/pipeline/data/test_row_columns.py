"""Weight, group and time: columns that say something of a row and are no features, and what is refused of them."""

import datetime

import numpy as np
import pandas as pd
import pytest

from pipeline.data.dataset import take_apart
from pipeline.data.holdout import parsed_cut, shown, time_cut
from pipeline.errors import DataError, SettingsError
from pipeline.settings import Settings, load_settings

ROWS = 40


def settings(by="id", **roles):
    """A regression's settings with these roles."""
    data = {"task": "regression", "id": "id", "target": "t", **roles}
    given = {"name": "n", "train": {"seed": 1}, "gate": {"metric": "mae", "margin": 0.0}, "data": data}
    return Settings.model_validate(given | {"split": {"by": by, "holdout": 0.25, "salt": "s"}})


def frame(**columns):
    """Forty rows with a feature, and the columns given."""
    return pd.DataFrame({"id": range(ROWS), "x": np.arange(ROWS) / 7, "t": np.arange(ROWS) * 1.0} | columns)


def test_the_three_columns_are_no_features():
    """Features, kinds and so the contract know none of them; the dataset has them beside the ids."""
    made = frame(w=range(ROWS), g=np.arange(ROWS) // 2, d=pd.date_range("2026-01-01", periods=ROWS))
    data = take_apart(made, settings(weight="w", group="g", time="d"))
    assert list(data.features) == ["x"] == list(data.kinds)
    assert (data.weights.dtype, data.groups[:3].tolist()) == (np.float64, ["0", "0", "1"])
    assert data.times[0] == np.datetime64("2026-01-01")


def test_without_them_the_hash_of_the_data_is_what_it_was():
    """A name for no column changes nothing; each of the columns is part of the hash."""
    assert take_apart(frame(), settings()).hash == take_apart(frame(), settings(weight="")).hash
    made = [
        take_apart(frame(a=range(1, ROWS + 1)), settings(**roles)).hash
        for roles in ({"weight": "a"}, {"group": "a"}, {"time": "a"})
    ]
    assert len(set(made)) == 3


WEIGHTS = {
    "negative": ([-1.0, *[1.0] * (ROWS - 1)], r"'w' is negative in row 1: -1.0"),
    "all zero": ([0] * ROWS, "is 0 in every row"),
    "text": (["1", *["2"] * (ROWS - 1)], "is not a number in row 1: '1'"),
    "a word among numbers": ([*[1.0] * (ROWS - 1), "much"], "is not a number in row 40: 'much'"),
    "empty": ([1.0, None, *[1.0] * (ROWS - 2)], "is empty in row 2"),
    "infinite": ([1.0, np.inf, *[1.0] * (ROWS - 2)], "is infinite in row 2"),
    "flags": ([True] * ROWS, "holds true/false"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_what_is_no_weight_is_refused_with_its_row(case):
    """Negative, all zero, empty, infinite, true/false, or text."""
    values, words = WEIGHTS[case]
    with pytest.raises(DataError, match=words):
        take_apart(frame(w=values), settings(weight="w"))


def test_a_group_that_holds_all_rows_is_refused():
    """It cannot be on both sides."""
    with pytest.raises(DataError, match="'shop' in every row: one group cannot be on both sides"):
        take_apart(frame(g=["shop"] * ROWS), settings(group="g"))


DAYS = pd.date_range("2026-01-01", periods=ROWS)
TIMES = {
    "dates": DAYS,
    "dates in a zone": DAYS.tz_localize("Europe/Berlin"),
    "text": DAYS.astype(str),
    "text with times": [f"{day.date()}T10:00:00+02:00" for day in DAYS],
    "Python's dates": [day.date() for day in DAYS],
    "numbers": range(ROWS),
    "years": np.repeat(np.arange(2016, 2026), 4),
}


@pytest.mark.parametrize("case", TIMES)
def test_time_split_holds_out_the_newest(case):
    """A quarter of the rows, whatever the time is written as: all of them younger than any that is trained on."""
    data = take_apart(frame(d=TIMES[case]), settings("time", time="d"))
    assert data.holdout.sum() in (8, 10, 12)
    assert data.times[~data.holdout].max() < data.times[data.holdout].min()


NO_TIMES = {
    "day first": (["31.01.2026"] * ROWS, r"is no date as in 2026-01-31 .* in row 1: '31.01.2026'"),
    "one that is none": ([*DAYS.astype(str)[:-1], "soon"], "in row 40: 'soon'"),
    "empty": ([*DAYS[:-1], None], "time column 'd' is empty in row 40"),
    "zones mixed": ([*DAYS.astype(str)[:-1], "2026-02-09T00:00:00Z"], "has a time zone in row 40 and none in row 1"),
    "zones mixed, not as text": (
        [*DAYS[:-1], DAYS[-1].tz_localize("UTC")], "has a time zone in row 40 and none in row 1"),
    "flags": ([True, False] * (ROWS // 2), "holds true/false"),
    "one time": (["2026-01-01"] * ROWS, "all rows have the same time 2026-01-01"),
    "a span": ([datetime.timedelta(1)] * ROWS, "is no date"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_TIMES)
def test_what_is_no_time_is_refused_with_its_row(case):
    """Dates that are not as in ISO 8601, empty ones, and those of which only some name their time zone."""
    values, words = NO_TIMES[case]
    with pytest.raises(DataError, match=words):
        _ = take_apart(frame(d=pd.Series(values)), settings("time", time="d")).holdout


def test_rows_of_one_time_stay_together():
    """The cut is where the hold-out is nearest to its share; the oldest time is always trained on."""
    assert time_cut(np.repeat([1.0, 2.0, 3.0], 10), 0.25) == 3
    assert time_cut(np.repeat([1.0, 2.0], 10), 0.05) == 2
    assert time_cut(np.array([1.0, 2.0, 2.0, 2.0]), 0.25) == 2
    assert time_cut(np.array([1.0] * 6 + [2.0] * 3 + [3.0]), 0.2) == 3


def test_newer_data_moves_the_cut_forwards():
    """So no row that is held out later was trained on before."""
    cuts = [time_cut(np.arange(rows, dtype=float), 0.25) for rows in range(40, 80)]
    assert cuts == sorted(cuts) and cuts[0] < cuts[-1]


@pytest.mark.parametrize("time", [np.datetime64("2026-01-31T10:00:00.000001", "us"), 17.25, 1e18])
def test_a_cut_is_read_as_it_was_written(time):
    """As text, for run.json and the registry."""
    assert parsed_cut(shown(time)) == time and type(shown(time)) is str  # a record takes no string of NumPy
    assert parsed_cut("soon") is None


def test_a_column_has_one_role(tmp_path):
    """A group that is the id would be no group."""
    text = tmp_path / "pipeline.toml"
    text.write_text(
        'name = "n"\n[data]\ntask = "regression"\nid = "id"\ntarget = "t"\ngroup = "id"\n'
        '[split]\nholdout = 0.25\nsalt = "s"\n[train]\nseed = 1\n[gate]\nmetric = "mae"\nmargin = 0.0\n'
    )
    with pytest.raises(SettingsError, match="id and group are the same column 'id'"):
        load_settings(text)
    text.write_text(text.read_text().replace('group = "id"', "").replace("[split]", '[split]\nby = "time"'))
    with pytest.raises(SettingsError, match=r'by = "time" needs a column: name it in \[data\] time'):
        load_settings(text)
