"""What Evidently is given: the training side of the data, and the logged rows, with the columns that it can compare."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.data.dataset import take_apart
from pipeline.errors import SlipwayError
from pipeline.monitor.pages import evidently_report
from pipeline.settings import load_settings


@pytest.fixture(scope="module")
def dataset():
    """Patients with a number, a text of many values, a boolean, and a column that is always empty."""
    settings = load_settings()
    data = settings.data.model_copy(update={"id": "id", "target": "ill", "positive": "yes"})
    rng, rows = np.random.default_rng(0), 400
    frame = pd.DataFrame(
        {
            "id": [f"p{number}" for number in range(rows)],
            "age": rng.normal(50, 10, rows),
            "city": [f"c{number % 90}" for number in range(rows)],
            "smokes": rng.random(rows) < 0.3,
            "empty": np.nan,
            "ill": rng.choice(["no", "yes"], rows),
        }
    )
    return take_apart(frame, settings.model_copy(update={"data": data}))


def line(features, outcomes=(), **given):
    """A request as the export of the log writes it."""
    one = {
        "role": "served",
        "model": "m",
        "model_version": "2",
        "features": features,
        "outcomes": list(outcomes),
        "caller": "x",
    }
    return json.dumps(one | given).encode()


ROWS = [[51.5, "c1", True, None], [None, "new", False, None], [40, "", None, None]] * 20
NAMES = ["age", "city", "smokes", "empty"]
TOLD = [{"row": 0, "outcome": "yes"}, {"row": 1, "outcome": ["no class"]}, {"row": 2, "outcome": "no"}]


def logged(*lines):
    """The rows of the log of version 2."""
    return evidently_report.logged(lines, "m", "2", NAMES, "ill")


def test_rows_of_callers_to_the_version_count_with_their_outcomes():
    """Delivery's own requests, other models, versions and shapes are left out; what is no outcome of a row is none."""
    found = logged(
        line(ROWS[:3], TOLD),
        line(ROWS, role="test"),
        line(ROWS, model="n"),
        line(ROWS, model_version="1"),
        line([[1.0]]),
    )
    assert list(found.columns) == [*NAMES, "ill"] and len(found) == 3
    assert found["ill"].tolist() == ["yes", None, "no"]


def test_the_tables_have_the_columns_that_can_be_compared(dataset):
    """Numbers and categories are told apart, booleans agree, empty columns and a target without outcomes go, rare texts become one."""
    then, now, about = evidently_report.tables(dataset, logged(line(ROWS)))
    assert about == {"numbers": ["age"], "categories": ["city", "smokes"], "target": None}
    assert len(then) == (~dataset.holdout).sum() and len(now) == 60
    assert (
        set(now["city"].dropna()) <= {"c1", "all others"} and then["city"].nunique() == evidently_report.MOST_VALUES + 1
    )
    assert set(then["smokes"]) == {"0.0", "1.0"} == set(now["smokes"].dropna())
    _, now, about = evidently_report.tables(dataset, logged(line(ROWS, TOLD)))
    assert about["target"] == "ill" and set(now["ill"].dropna()) == {"yes", "no"}


def test_names_and_values_become_no_markup(dataset):
    """Evidently's page would run a script in a column's name: no sign of HTML, a string or a template is left; names stay apart."""
    hostile = {"age": "<script>alert(1)</script>", "city": "‹script›alert(1)‹/script›", "smokes": "a'b\"`{{c}}\\"}
    odd = replace(
        dataset,
        features=dataset.features.assign(city="<img src=x onerror=alert(1)>").rename(columns=hostile),
        kinds={hostile.get(name, name): kind for name, kind in dataset.kinds.items()},
    )
    then, now, about = evidently_report.tables(odd, logged(line(ROWS, TOLD)).rename(columns=hostile))
    assert len({*about["numbers"], *about["categories"]}) == 4 == len(now.columns)
    assert not re.search(r"[<>&\"'`{}\\]", f"{''.join(now.columns)}{''.join(then.iloc[:, 1].dropna())}")


def test_of_many_rows_some_are_drawn_always_the_same(dataset, monkeypatch):
    """A table has at most so many rows, and the same log gives the same page."""
    monkeypatch.setattr(evidently_report, "MOST_ROWS", 50)
    first, again = (evidently_report.tables(dataset, logged(line(ROWS))) for _ in range(2))
    assert len(first[0]) == len(first[1]) == 50 and first[1].equals(again[1])


def test_without_evidently_the_message_says_what_installs_it(dataset, monkeypatch, tmp_path):
    """Nothing is written then."""
    monkeypatch.setattr(evidently_report, "READY", tmp_path / "missing")
    with pytest.raises(SlipwayError) as refused:
        evidently_report.write(dataset, logged(line(ROWS)), tmp_path / "page.html")
    assert "make monitor ARGS=--evidently" in refused.value.then and not list(tmp_path.iterdir())


@pytest.mark.needs("evidently")
def test_the_real_evidently_writes_a_page(dataset, tmp_path):
    """One file, of the features and the target, also where a column is constant or a category is new."""
    page = tmp_path / "page.html"
    evidently_report.write(dataset, logged(line(ROWS, TOLD)), page)
    text = page.read_text(encoding="utf-8")
    assert "Dataset Drift" in text and "smokes" in text and 'src="http' not in text
