"""The team's frame, taken apart: what becomes of each kind of column, and what is refused in which words."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

from pipeline.data.dataset import kind_of, take_apart
from pipeline.errors import DataError
from pipeline.settings import Settings

BASE = {
    "name": "n",
    "split": {"holdout": 0.25, "salt": "s"},
    "train": {"seed": 1},
    "gate": {"metric": "log_loss", "margin": 0.0},
}


def settings(task="binary", positive="yes"):
    """Settings of a task; the id is in `id`, the target in `t`."""
    data = {"task": task, "id": "id", "target": "t"} | ({"positive": positive} if task == "binary" else {})
    return Settings.model_validate(BASE | {"data": data})


def frame(**columns):
    """Four rows, two classes, and the columns given."""
    return pd.DataFrame(
        {"id": ["a", "b", "c", "d"], "x": [1.0, 2.0, 3.0, 4.0], "t": ["no", "yes", "no", "yes"]} | columns
    )


def test_frame_is_taken_apart():
    """Features come without id and target, numbers as float64, text as str; classes are sorted, y holds their positions."""
    data = take_apart(
        frame(n=[1, 2, 3, 4], flag=[True, False, True, True], word=["u", None, "w", "u"], gap=[0.5, np.nan, 1, 2]),
        settings(),
    )
    assert data.kinds == {"x": "number", "n": "integer", "flag": "boolean", "word": "text", "gap": "number"}
    assert data.nullable == {"x": False, "n": False, "flag": False, "word": True, "gap": True}
    assert data.features["word"].tolist() == ["u", "", "w", "u"]
    assert [str(data.features[name].dtype) for name in ("x", "n", "flag", "gap")] == ["float64"] * 4
    assert data.features["gap"].isna().tolist() == [False, True, False, False]
    assert (data.classes, data.y.tolist(), data.y.dtype) == (["no", "yes"], [0, 1, 0, 1], np.int64)
    assert data.ids.tolist() == ["a", "b", "c", "d"] and data.holdout.dtype == bool


def test_regression_has_values_and_no_classes():
    """The target of a regression is y itself, as float64."""
    data = take_apart(frame(t=[1, 2, 3, 5]), settings("regression"))
    assert (data.classes, data.y.tolist(), data.y.dtype) == ([], [1.0, 2.0, 3.0, 5.0], np.float64)


def test_classes_may_be_numbers():
    """A target of numbers is named by their text."""
    data = take_apart(frame(t=[2, 0, 1, 1]), settings("multiclass"))
    assert (data.classes, data.y.tolist()) == (["0", "1", "2"], [2, 0, 1, 1])


def test_column_names_become_text():
    """Columns named by numbers are features named by text."""
    assert list(take_apart(frame().rename(columns={"x": 7}), settings()).kinds) == ["7"]


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.assign(x=[1.0, 2.0, 3.0, 4.5]),
        lambda f: f.assign(id=["a", "b", "c", "e"]),
        lambda f: f.assign(t=["no", "no", "no", "yes"]),
        lambda f: f.rename(columns={"x": "z"}),
        lambda f: f.iloc[::-1],
        lambda f: f.assign(x=[1.0, 2.0, 3.0, np.nan]),
    ],
)
def test_hash_names_exactly_these_rows(change):
    """The hash is the same for the same rows, and another when a value, id, target, name or the order differs."""
    before = take_apart(frame(), settings()).hash
    assert before == take_apart(frame(), settings()).hash and len(before) == 64
    assert before != take_apart(change(frame()), settings()).hash


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, None, False], "boolean"),
        ([1, None, 3], "integer"),
        ([1, 2.5, None], "number"),
        ([decimal.Decimal("1.5"), None, decimal.Decimal(2)], "number"),
        ([None, None, None], "number"),
        (["a", None, "b"], "text"),
    ],
)
def test_kind_of_a_column_with_gaps(values, kind):
    """A column that pandas stores as objects, because of gaps, is what its values are."""
    assert kind_of(pd.Series(values, dtype=object)) == kind


def test_kinds_by_storage():
    """Nullable, categorical and wide types have their kind; all of them can be taken apart."""
    columns = {
        "i": pd.array([1, None, 3, 4], dtype="Int64"),
        "b": pd.array([True, None, False, True], dtype="boolean"),
        "c": pd.Categorical(["u", "v", None, "u"]),
        "f": np.array([1, 2, 3, 4], dtype=np.float32),
        "o": pd.Series([True, None, False, True], dtype=object),
        "d": pd.Series([decimal.Decimal("1.5"), None, decimal.Decimal(2), decimal.Decimal(0)], dtype=object),
    }
    data = take_apart(frame(**columns), settings())
    kinds = {"i": "integer", "b": "boolean", "c": "text", "f": "number", "o": "boolean", "d": "number"}
    assert data.kinds == {"x": "number"} | kinds
    assert data.features["o"].tolist()[0] == 1.0 and np.isnan(data.features["o"][1])
    assert data.features["d"].tolist()[::2] == [1.5, 2.0]
    assert data.features["c"].tolist() == ["u", "v", "", "u"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pd.date_range("2026-01-01", periods=4), "has type datetime64"),
        (pd.to_timedelta([1, 2, 3, 4]), "has type timedelta64"),
        ([datetime.date(2026, 1, 1)] * 4, "has type date,"),
        ([1j, 2j, 3j, 4j], "has type complex128"),
        (pd.Series([1.5, 2.0, "old", 3.0], dtype=object), "mixes types: row 3 holds 'old'"),
        (pd.Series([1, "two", 3, 4], dtype=object), "mixes types: row 2 holds 'two'"),
        (pd.Series([[1], [2], [3], [4]], dtype=object), "mixes types: row 1 holds [1]"),
        (pd.Series([b"x"] * 4, dtype=object), "has type bytes"),
        ([1.0, np.inf, 2.0, 3.0], "is infinite in row 2"),
        ([1.0, 2.0, 3.0, -np.inf], "is infinite in row 4"),
    ],
)
def test_unusable_feature_is_named(values, message):
    """A column that no model input can have is refused by name, with what to do."""
    with pytest.raises(DataError) as caught:
        take_apart(frame(bad=values), settings())
    assert (
        "column 'bad'" in caught.value.what and message in caught.value.what and "project/data.py" in caught.value.then
    )


@pytest.mark.parametrize(
    ("made", "task", "message", "advice"),
    [
        (frame().rename(columns={"id": "ids"}), "binary", "no column 'id', which pipeline.toml [data] id names; did you mean 'ids'?", "name the right"),
        (frame().drop(columns="t"), "binary", "no column 't', which pipeline.toml [data] target names", "name the right"),
        (frame(id=["a", None, "c", "d"]), "binary", "id column 'id' is empty in row 2", "fill it"),
        (frame(t=["no", "yes", None, "no"]), "binary", "target column 't' is empty in row 3", "fill it"),
        (frame(id=["a", "b", "c", "b"]), "binary", "id 'b' stands in more than one row", "unique"),
        (frame(id=pd.Series([1, "1", 2, 3], dtype=object)), "binary", "id '1' stands in more than one row", "unique"),
        (frame().drop(columns="x"), "binary", "no feature column", "add columns"),
        (frame(t="yes"), "binary", "one class only ('yes')", "at least two"),
        (frame(t="yes"), "multiclass", "one class only ('yes')", "at least two"),
        (frame(t=list("abcd")), "binary", "has 4 classes ('a', 'b', 'c', 'd'), but the task is binary", "multiclass"),
        (frame(t=["no", "ja", "no", "ja"]), "binary", "never is 'yes', the positive class; it has 'ja', 'no'", "positive"),
        (frame(), "regression", "target 't' is text, but a regression needs numbers", "multiclass"),
        (frame(t=[1.0, 2.0, np.inf, 4.0]), "regression", "column 't' is infinite in row 3", "replace it"),
        (frame(t=pd.Series([1, "x", 2, 3], dtype=object)), "regression", "column 't' mixes types: row 2 holds 'x'", "all numbers"),
    ],
)  # fmt: skip
def test_unusable_id_or_target_is_named(made, task, message, advice):
    """What is wrong with id or target is said with column, row and value, and what to do about it."""
    with pytest.raises(DataError) as caught:
        take_apart(made, settings(task))
    assert message in caught.value.what and advice in caught.value.then


def test_many_classes_are_not_all_listed():
    """Of many classes six are shown."""
    many = pd.DataFrame({"id": range(9), "x": 1.0, "t": list("abcdefghi")})
    with pytest.raises(DataError, match=r"has 9 classes \('a', 'b', 'c', 'd', 'e', 'f' …\)"):
        take_apart(many, settings())
