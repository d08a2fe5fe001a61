"""The checks that suit any data: which columns give the target away, and which rows are shown for a fault."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.data import checks
from pipeline.settings import Settings

BASE = {
    "name": "n",
    "split": {"holdout": 0.25, "salt": "s"},
    "train": {"seed": 1},
    "gate": {"metric": "log_loss", "margin": 0.0},
}
ROWS = 600


def settings(task="binary"):
    """Settings of a task; the id is in `id`, the target in `t`."""
    data = {"task": task, "id": "id", "target": "t"} | ({"positive": "c1"} if task == "binary" else {})
    return Settings.model_validate(BASE | {"data": data})


def positions(classes, rows=ROWS, seed=0):
    """Class positions, drawn evenly."""
    return np.random.default_rng(seed).integers(0, classes, rows)


def leaks(column, target, task="binary", **options):
    """The check of a frame with one column and a target."""
    frame = pd.DataFrame({"id": np.arange(len(target)), "x": column, "t": target})
    (found,) = checks.leakage(frame, settings(task), **options)
    return found


def named(y):
    """Class positions as class names."""
    return [f"c{position}" for position in y]


rng = np.random.default_rng(1)
GIVES_AWAY = {
    "a copy as number": lambda y: y * 2.0,
    "its negative": lambda y: -y,
    "a copy with noise": lambda y: y + rng.normal(0, 0.08, len(y)),
    "a copy as text": lambda y: [f"code {position}" for position in y],
    "true and false": lambda y: y == 1,
    "filled for one class only": lambda y: np.where(y == 1, rng.normal(size=len(y)), np.nan),
    "text for one class only": lambda y: pd.Series(np.where(y == 1, "x", "y")).where(y == 1, None),
    "far away on both sides": lambda y: np.where(y == 1, rng.choice([-9.0, 9.0], len(y)), 0) + rng.normal(size=len(y)),
    "one of many texts": lambda y: [f"{'ab'[position]}{number % 40}" for number, position in enumerate(y)],
}
HONEST = {
    "noise": lambda y: rng.normal(size=len(y)),
    "strong but honest": lambda y: y + rng.normal(0, 0.4, len(y)),
    "text of chance": lambda y: rng.choice(["u", "v", "w"], len(y)),
    "another text in each row": lambda y: [f"row {number}" for number in range(len(y))],
    "another number in each row": lambda y: np.arange(len(y)),
    "constant": lambda y: np.ones(len(y)),
    "always empty": lambda y: np.full(len(y), np.nan),
    "wrong for one in twenty": lambda y: np.where(rng.random(len(y)) < 0.05, 1 - y, y),
}


@pytest.mark.parametrize("case", GIVES_AWAY)
def test_column_that_gives_two_classes_away_is_found(case):
    """A column made from the target, in whatever guise, is a critical failure that names it."""
    y = positions(2)
    found = leaks(GIVES_AWAY[case](y), named(y))
    assert (found.column, found.severity, found.success) == ("x", "critical", False)
    assert "on its own" in found.observed and "MAY_PREDICT_ALONE" in found.observed


@pytest.mark.parametrize("case", HONEST)
def test_honest_column_passes(case):
    """A column that does not give the target away passes, however strong it is; the strongest is named."""
    y = positions(2)
    found = leaks(HONEST[case](y), named(y))
    assert found.success and "the strongest is x with" in found.observed


@pytest.mark.parametrize("classes", [3, 10, 30])
def test_column_that_gives_several_classes_away_is_found(classes):
    """With several classes a copy is found, as number and as text; a column that tells one class apart is none."""
    y = positions(classes, 3000)
    assert not leaks(y * 1.0, named(y), "multiclass").success
    assert not leaks([f"k{position}" for position in y], named(y), "multiclass").success
    assert leaks(np.where(y == 0, 5.0, 0.0), named(y), "multiclass").success
    assert leaks(np.random.default_rng(2).normal(size=3000), named(y), "multiclass").success


def test_rare_positives_are_seen():
    """A leak is found where one row in two thousand is positive, and in a sample of a large frame."""
    y = (np.arange(120_000) % 2000 == 0).astype(int)
    assert not leaks(y + np.random.default_rng(3).normal(0, 0.1, len(y)), named(y)).success
    assert leaks(np.random.default_rng(4).normal(size=len(y)), named(y)).success


@pytest.mark.parametrize(
    ("column", "success"),
    [
        (lambda y, noise: y * 3 + 1, False),
        (lambda y, noise: -np.exp(y), False),
        (lambda y, noise: np.where(noise > 0, y, np.nan), False),
        (lambda y, noise: [f"{value:.0f} Euro" for value in y.round(0) * 10], False),
        (lambda y, noise: y + 0.3 * noise, True),
        (lambda y, noise: noise, True),
        (lambda y, noise: np.ones(len(y)), True),
        (lambda y, noise: np.where(np.arange(len(y)) < 15, y, np.nan), True),
        (lambda y, noise: [f"row {number}" for number in range(len(y))], True),
    ],
)
def test_column_that_gives_a_number_away_is_found(column, success):
    """In a regression a column in the order of the target, or text that stands for it, is a leak."""
    rng = np.random.default_rng(5)
    y, noise = rng.integers(-3, 4, ROWS) * 1.0 + rng.normal(0, 0.01, ROWS), rng.normal(size=ROWS)
    assert leaks(column(y, noise), y, "regression").success is success


def test_too_few_rows_are_not_judged():
    """With nine rows of a class, a perfect order may be chance: it is not called a leak; with ten it is."""
    for rows, success in ((9, True), (10, False)):
        y = np.arange(2 * rows) % 2
        assert leaks(y * 1.0, named(y)).success is success
    assert "too few rows" in leaks([1.0, 2.0], ["c0", "c1"]).observed
    y = (np.arange(300) < 9).astype(int)
    assert "too few rows" in leaks(y * 1.0, named(y)).observed


@pytest.mark.parametrize("sign", [1, -1])
def test_order_gives_small_data_away(sign):
    """In twenty rows a column in the order of the classes, either way round, is a leak, though no value repeats."""
    y = np.arange(20) % 2
    for seed in range(10):
        noise = np.random.default_rng(seed).normal(0, 0.05, 20)
        assert not leaks(sign * (y + noise), named(y)).success


def test_every_row_of_a_repeated_id_is_named():
    """All rows that share an id are shown; rows without one are a fault of their own."""
    frame = pd.DataFrame({"id": ["a", None, "b", "a", None], "x": range(5), "t": "c0"})
    empty, twice = checks.ids(frame, settings())
    assert [row["row"] for row in empty.examples] == [2, 5]
    assert [row["row"] for row in twice.examples] == [1, 4]


def test_column_that_is_known_is_let_through():
    """A column that the team vouches for is not judged."""
    y = positions(2)
    assert leaks(y, named(y), may_predict_alone=["x"]).observed == "no column to judge"


def test_auc_is_the_usual_one():
    """auc agrees with scikit-learn's, ties included."""
    score, hit = np.random.default_rng(6).integers(0, 9, 500), positions(2, 500) == 1
    assert checks.auc(score, hit) == pytest.approx(roc_auc_score(hit, score), abs=1e-12)


def test_neighbours_teach():
    """A value is told by rows with the same value, or else by the nearest ones; with none to ask, by all."""
    values, outcome = np.array([5, 1, 2, 9]), np.array([[1.0], [0.0], [0.0], [1.0]])
    assert checks.taught(values, outcome, np.array([1, 5]), 0).ravel().tolist() == [0.0, 1.0]
    assert checks.taught(values, outcome, np.array([7]), 0).ravel().tolist() == [0.5]
    assert checks.taught(values, outcome, np.array([8, 0]), 2).ravel().tolist() == [1.0, 0.0]


def test_repeated_and_conflicting_rows_are_found():
    """Rows with the same features are named from the second on; those with another target are all named."""
    frame = pd.DataFrame(
        {
            "id": list("abcdef"),
            "x": [1, 1, 2, 2, 3, np.nan],
            "w": list("uuvvww"),
            "t": ["c0", "c0", "c0", "c1", "c1", "c0"],
        }
    )
    repeated, conflict = checks.repeated(frame, settings())
    assert (repeated.severity, [row["id"] for row in repeated.examples]) == ("warning", ["b", "d"])
    assert (conflict.severity, conflict.examples) == (
        "warning",
        [{"id": "c", "row": 3, "value": "c0"}, {"id": "d", "row": 4, "value": "c1"}],
    )
    assert len(checks.repeated(frame.assign(t=1.0), settings("regression"))) == 1


def test_empty_cells_make_rows_equal():
    """Two rows that are empty in the same place, and else equal, are the same."""
    frame = pd.DataFrame({"id": [1, 2], "x": [np.nan, np.nan], "w": [None, None], "t": ["c0", "c0"]})
    assert checks.repeated(frame, settings())[0].unexpected_count == 1


@pytest.mark.parametrize(("few", "success"), [(19, False), (20, True), (9, False)])
def test_rare_class_is_warned_of(few, success):
    """A class of under 20 rows is warned of, with its name, share and rows."""
    frame = pd.DataFrame({"id": range(100), "x": 1.0, "t": ["c1"] * few + ["c0"] * (100 - few)})
    (found,) = checks.balance(frame, settings())
    assert (found.success, found.severity) == (success, "warning")
    assert found.observed == f"the rarest, c1, has {few} rows ({few}.0%)"


def test_tenth_of_an_even_share_is_asked_of_large_data():
    """Of 10,000 rows in two classes, 500 of each are wanted; a regression has no classes."""
    frame = pd.DataFrame({"id": range(10_000), "x": 1.0, "t": ["c1"] * 499 + ["c0"] * 9501})
    (found,) = checks.balance(frame, settings())
    assert not found.success and found.rule == "each class has at least 500 rows" and found.unexpected_count == 499
    assert checks.balance(frame, settings("regression")) == []


@pytest.mark.parametrize(
    ("values", "rule", "first"),
    [
        (["1", "2", "3.5", "4", "5", "6", "7", "8", "9", "10", "11", "12", "n/a"], "no text in it", "n/a"),
        ([f"2026-01-{day:02d}" for day in range(1, 14)], "not dates", None),
        ([f"2026-01-{day:02d} 12:00" for day in range(1, 14)], "not dates", None),
    ],
)
def test_text_that_is_something_else_is_warned_of(values, rule, first):
    """Text that is numbers with a word among them, or dates, is warned of."""
    frame = pd.DataFrame({"id": range(13), "x": values, "t": "c0"})
    (found,) = checks.usable(frame, settings())
    assert (found.severity, found.success) == ("warning", False) and rule in found.rule
    assert not first or found.examples == [{"id": 12, "row": 13, "value": first}]


ROWS_OF_TEXT = 60
POINTED_OUT = {
    "decimal commas": ("x", [f"{n},5" for n in range(ROWS_OF_TEXT)], "not numbers", 'decimal=","'),
    "euros": ("x", [f"{n} €" for n in range(ROWS_OF_TEXT)], "not numbers", "pd.to_numeric"),
    "dates": ("x", [f"{1 + n % 28}.1.2026" for n in range(ROWS_OF_TEXT)], "not dates", "dayfirst=True"),
    "prose": ("x", [f"word {n} of many" for n in range(ROWS_OF_TEXT)], "text repeats", "TfidfVectorizer"),
    "large numbers": ("x", [2**53 + n for n in range(ROWS_OF_TEXT)], "whole numbers keep all digits", "astype(str)"),
    "a saved index": ("Unnamed: 0", list(range(ROWS_OF_TEXT)), "index is no feature", "index_col=0"),
    "another encoding": ("x", ["KÃ¶ln", "Bonn"] * (ROWS_OF_TEXT // 2), "with its encoding", "'Köln'"),
}


@pytest.mark.parametrize("case", POINTED_OUT)
def test_what_is_not_what_it_seems_is_warned_of(case):
    """Numbers, dates, prose, large keys and indexes among the features: one warning, with what to do."""
    name, values, rule, remedy = POINTED_OUT[case]
    frame = pd.DataFrame(
        {"id": [f"c{n}" for n in range(ROWS_OF_TEXT)], name: values, "z": range(ROWS_OF_TEXT), "t": ["c0", "c1"] * 30}
    )
    found = [one for one in checks.check(frame, settings(), [name]) if not one.success]
    assert [(one.column, one.severity) for one in found] == [(name, "warning")]
    assert rule in found[0].rule and remedy in found[0].observed


def test_index_of_prices_is_no_index_of_rows():
    """A column that is called index, but does not count the rows, is a feature like any other."""
    frame = pd.DataFrame({"id": ["a", "b"], "index": [100, 103], "t": ["c0", "c1"]})
    assert checks.indexes(frame, settings()) == []
    (found,) = checks.indexes(frame.assign(index=[0, 1]), settings())
    assert found.column == "index"


def test_target_written_as_text_gets_the_remedy():
    """A regression whose target has decimal commas is told the argument that reads it."""
    frame = pd.DataFrame({"id": range(60), "x": range(60), "t": [f"{n},5" for n in range(60)]})
    (found,) = [one for one in checks.target(frame, settings("regression")) if not one.success]
    assert found.severity == "critical" and 'decimal=","' in found.observed


def adult(rows=400):
    """A table like the census data of 1994: words with signs in them, question marks, whole numbers, a rare null."""
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "id": [f"a{n}" for n in range(rows)],
            "age": rng.integers(17, 90, rows),
            "workclass": rng.choice(["Private", "Self-emp-not-inc", "?", "Local-gov"], rows),
            "education": rng.choice(["HS-grad", "11th", "7th-8th", "Some-college"], rows),
            "size": rng.choice(["38", "38,5", "40-42", "XL"], rows),
            "zip": rng.choice(["01099", "53111", "12345-6789"], rows),
            "fnlwgt": rng.integers(12285, 1484705, rows),
            "hours": np.where(rng.random(rows) < 0.02, np.nan, rng.integers(1, 99, rows)),
            "married": rng.random(rows) < 0.5,
            "t": rng.choice(["<=50K", ">50K"], rows),
        }
    )


def clean_tables():
    """Clean tables by name, each with its task."""
    from sklearn import datasets

    from project.data import load

    for name, task in (("wine", "multiclass"), ("iris", "multiclass"), ("diabetes", "regression")):
        made = getattr(datasets, f"load_{name}")(as_frame=True).frame.rename(columns={"target": "t"})
        yield name, task, made.assign(id=[f"r{n}" for n in range(len(made))])
    example = load().rename(columns={"diagnosis": "t"})
    yield "the example", "binary", example.assign(t=example["t"].map({"benign": "c0", "malignant": "c1"}))
    yield "adult", "binary", adult().assign(t=lambda frame: frame["t"].map({"<=50K": "c0", ">50K": "c1"}))


@pytest.mark.parametrize(
    ("task", "frame"), [case[1:] for case in clean_tables()], ids=[case[0] for case in clean_tables()]
)
def test_clean_tables_raise_no_alarm(task, frame):
    """The shipped example, wine, iris, diabetes and a census table pass without a word about the form of their values."""
    found = [one for one in checks.check(frame, settings(task)) if not one.success]
    assert [one.rule for one in found if "same" not in one.rule] == []


def test_unusable_type_is_critical():
    """A column of dates, or one that mixes numbers and text, is a critical failure with what to do, and is not compared."""
    frame = pd.DataFrame(
        {
            "id": range(40),
            "when": pd.date_range("2026-01-01", periods=40),
            "mixed": pd.Series([1.5, "old"] * 20, dtype=object),
            "x": range(40),
            "t": ["c0", "c1"] * 20,
        }
    )
    found = {one.column: one for one in checks.check(frame, settings()) if not one.success}
    assert set(found) == {"when", "mixed"} and {one.severity for one in found.values()} == {"critical"}
    assert "project/data.py" in found["when"].observed and found["when"].examples == []
    assert found["mixed"].examples[0] == {"id": 1, "row": 2, "value": "old"}


def test_regression_target_must_be_numbers():
    """Text in the target of a regression is shown with its row; an infinite one too."""
    frame = pd.DataFrame({"id": ["a", "b", "c"], "x": [1, 2, 3], "t": pd.Series([1.0, "much", 2.0], dtype=object)})
    found = [one for one in checks.check(frame, settings("regression")) if not one.success]
    assert [(one.rule, one.examples[0]["value"]) for one in found] == [("a regression's target is a number", "much")]
    found = [one for one in checks.check(frame.assign(t=[1.0, np.inf, 2]), settings("regression")) if not one.success]
    assert [(one.column, one.rule) for one in found] == [("t", "no number is infinite")]


def test_five_rows_are_shown_at_most():
    """Of many bad rows the first five are shown, and all are counted; a frame without the id shows none."""
    frame = pd.DataFrame({"x": np.arange(9.0)})
    found = checks.judged(frame, settings(), "x", "r", np.ones(9, dtype=bool))
    assert (found.unexpected_count, [row["row"] for row in found.examples]) == (9, [1, 2, 3, 4, 5])
    assert found.examples[0] == {"id": None, "row": 1, "value": 0.0}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.nan, None), (pd.NaT, None), (None, None), (np.inf, "inf"), (np.int64(3), 3), (np.bool_(True), True),
        (np.float32(0.5), 0.5), ("a", "a"), ("x" * 70, "x" * 59 + "…"), (pd.Timestamp("2026-01-02"), "2026-01-02 00:00:00"),
        ([1, 2], "[1, 2]"),
    ],
)  # fmt: skip
def test_values_become_json(value, expected):
    """A value of the data is shown as JSON can hold it: empty as null, infinite and foreign as text, long text cut."""
    assert checks.plain(value) == expected and type(checks.plain(value)) is type(expected)
