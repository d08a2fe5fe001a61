"""`make validate-model`: the faults that it finds in a model's code, its messages and its exit status."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_wine

from pipeline.data.dataset import load_dataset, take_apart
from pipeline.settings import load_settings
from pipeline.validation.model import few, sample

RULES = """
from pipeline.evaluation.behaviour import Direction, Invariance
INVARIANCES = [Invariance("the order of the rows does not matter", lambda rows: rows.iloc[::-1], tolerance=1e-9)]
DIRECTIONS = [Direction("who is older does not buy less", "age", lambda age: age + 5, "up")]
"""


def validate(scratch, *arguments):
    """Run it; return exit status, outcomes by name (None when there are none) and output."""
    status, out, err = scratch.run("validate_model", *arguments)
    file = scratch.root / "build/model_checks.json"
    report = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    if report:
        assert report["success"] == (status == 0) == all(one["success"] for one in report["checks"])
    return status, report and {one["check"]: one for one in report["checks"]}, out + err


# A custom class can neither be stored nor served; here its answers are tested.
SHIPPING = {"can be stored without pickle", "can be served"}


def fault(outcomes):
    """The only failed check on the model's answers, and its observation."""
    (broken,) = [one for name, one in outcomes.items() if not one["success"] and name not in SHIPPING]
    return broken["check"], broken["observed"]


def test_good_model_passes(scratch):
    """A correct model passes every check, including the team's own rules."""
    scratch.edit("project/checks.py", '"""Our checks."""', RULES)
    status, outcomes, said = validate(scratch)
    assert status == 0 and "✅" in said
    assert list(outcomes) == [
        "answers with probabilities",
        "beats a dummy",
        "same seed, same model",
        "answers one row as it answers many",
        "refuses a missing column",
        "refuses text in a number column",
        "the order of the rows does not matter",
        "who is older does not buy less",
        "can be stored without pickle",
        "names the most probable class",
        "can be served",
    ]
    assert outcomes["refuses a missing column"]["observed"] == "tried with 3 columns"


def test_json_prints_only_the_outcomes(scratch):
    """--json puts the outcomes, and nothing else, on standard output."""
    status, out, err = scratch.run("validate_model", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == json.loads((scratch.root / "build/model_checks.json").read_text())


OWN = '''"""Our model."""
import numpy as np
from sklearn.linear_model import LogisticRegression
class Model:
    def __init__(self, seed):
        self.seed = seed
    def fit(self, X, y):
        self.inner = LogisticRegression().fit(X[["age"]] / 50, y)
        return self
    def predict_proba(self, X):
        return self.inner.predict_proba(X[["age"]].astype(float) / 50)
def build(parameters, seed):
    return Model(seed)
'''

# The change to the model above; the check that finds it, and part of its message.
FAULTS = {
    "learns the reverse": ("/ 50, y)", "/ 50, 1 - y)", "beats a dummy", "surely not better"),
    "own randomness": ("/ 50, y)", "/ 50 + np.random.normal(size=(len(X), 1)), y)", "same seed, same model", "use the seed"),
    "depends on its neighbours": ('X[["age"]].astype(float) / 50', '(X[["age"]].astype(float) - X[["age"]].astype(float).mean()) / 9 + 1',
                                  "answers one row as it answers many", "rows get another answer alone than among others"),
    "one row raises": ("        return self.inner.pred", "        1 / (len(X) - 1)\n        return self.inner.pred",
                       "answers one row as it answers many", "raises ZeroDivisionError: division by zero"),
    "invents a missing column": ('X[["age"]].astype', 'X.reindex(columns=["age"], fill_value=40).astype', "refuses a missing column", "age"),
    "reads text as zero": ('X[["age"]].astype(float)', 'X[["age"]].replace("text", 0).astype(float)', "refuses text in a number column", "age"),
    "no probabilities": ("predict_proba(self", "predict(self", "answers with probabilities", "CalibratedClassifierCV"),
    "raises": ("        return self.inner.pred", "        1 / 0\n        return self.inner.pred", "answers with probabilities", "raises ZeroDivisionError"),
    "one column": ("/ 50)\ndef", "/ 50)[:, 1]\ndef", "answers with probabilities", "answers have shape (42,), expected (42, 2)"),
    "not finite": ("/ 50)\ndef", "/ 50) * np.nan\ndef", "answers with probabilities", "84 answers are not finite"),
    "less than nothing": ("/ 50)\ndef", "/ 50) * 3 - 1\ndef", "answers with probabilities", "the least is -"),
    "no sums": ("/ 50)\ndef", "/ 50) * 2\ndef", "answers with probabilities", "sums differ from one by up to 1"),
}  # fmt: skip


def test_unsupported_model_is_named_before_training(scratch):
    """A transformer without ONNX counterpart is served by scikit-learn; a model with an untrusted type is refused."""
    scratch.edit("project/model.py", "StandardScaler())", "FunctionTransformer(numpy.cbrt))")
    scratch.edit(
        "project/model.py",
        "import OneHotEncoder, StandardScaler",
        "import FunctionTransformer, OneHotEncoder\nimport numpy",
    )
    status, outcomes, _ = validate(scratch)
    assert status == 0
    assert "by scikit-learn itself: LogisticRegression: it cannot become ONNX" in outcomes["can be served"]["observed"]
    scratch.edit("project/model.py", "numpy.cbrt", "numpy.nan_to_num")
    status, outcomes, said = validate(scratch)
    assert status == 1
    assert {name for name, one in outcomes.items() if not one["success"]} == SHIPPING
    assert outcomes["can be stored without pickle"]["observed"] == "not trusted: numpy.nan_to_num"
    assert "cannot become ONNX" in outcomes["can be served"]["observed"]
    (line,) = [line for line in said.splitlines() if "trusted_types = " in line and "next: " in line]
    assert line.endswith('"numpy.nan_to_num"]')


@pytest.mark.parametrize("case", FAULTS)
def test_fault_in_the_model_is_named(scratch, case):
    """Each fault fails exactly the check for it, with the reason; exit status 1, and the outcomes are written."""
    old, new, check, observed = FAULTS[case]
    frame = pd.read_csv(scratch.root / "data.csv")
    scratch.data(frame.assign(age=frame["age"] + 0.5))
    scratch.write("project/model.py", OWN)
    healthy = validate(scratch)[1]
    assert {name for name, one in healthy.items() if not one["success"]} == SHIPPING
    scratch.edit("project/model.py", old, new)
    status, outcomes, said = validate(scratch)
    assert status == 1
    assert fault(outcomes)[0] == check and observed in fault(outcomes)[1]
    assert f"first “{check}”" in said and "❌" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ('DIRECTIONS = [Direction("older, less", "age", lambda age: age + 5, "down")]', "answers go the other way; worst in row c"),
        ('INVARIANCES = [Invariance("age", lambda rows: rows.assign(age=rows.age + 9), 0.01)]', "at most 0.01 is tolerated"),
    ],
)  # fmt: skip
def test_broken_rule_of_the_team_is_named(scratch, rule, said):
    """A rule of project/checks.py that does not hold fails with its observation."""
    scratch.edit("project/checks.py", '"""Our checks."""', f"from pipeline.evaluation.behaviour import *\n{rule}")
    status, outcomes, _ = validate(scratch)
    assert status == 1 and said in fault(outcomes)[1]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("project/model.py", "    numbers =", "    1 / 0\n    numbers =", "build() in project/model.py failed (project/model.py, line 8): ZeroDivisionError"),
        ("project/model.py", "    numbers =", "    numbers ==", "build() in project/model.py failed"),
        ("project/model.py", "import SimpleImputer", "import SimpleImputation", "ImportError"),
        ("project/model.py", "    numbers =", "    return 3\n    numbers =", "returned int, which is no model that can be trained here"),
        ("project/model.py", '"income"]', '"incone"]', "fitting the model that build() in project/model.py returned failed"),
        ("pipeline.toml", "C = 1.0", "D = 1.0", "unexpected keyword argument 'D'"),
        ("project/checks.py", "def exp", "DIRECTIONS = [1]\ndef exp", "1 is no Direction"),
        ("project/checks.py", '"""Our', 'import pipeline.nothing\n"""Our', "INVARIANCES and DIRECTIONS of project/checks.py failed"),
        ("project/data.py", "data.csv", "date.csv", "date.csv: the data file is missing"),
    ],
)  # fmt: skip
def test_fault_in_the_team_s_files_is_named(scratch, file, old, new, message):
    """An error before the checks is one line with its place; outcomes of an earlier run are removed."""
    validate(scratch)
    scratch.edit(file, old, new)
    status, outcomes, said = validate(scratch)
    assert (status, outcomes, scratch.built()) == (1, None, [])
    assert message in said and "Traceback" not in said


def test_holdout_is_never_used(scratch):
    """The sample has only rows of the training side, at most 2,000, and every fourth is kept for testing."""
    dataset = load_dataset(load_settings())
    rows, kept_back = sample(dataset)
    assert not dataset.holdout[rows].any() and len(set(rows)) == len(rows) == (~dataset.holdout).sum()
    assert abs(kept_back.mean() - 0.25) < 0.01
    again, _ = sample(dataset)
    assert (rows == again).all()


def test_rare_classes_are_sampled_evenly(scratch):
    """Of 20,000 rows with one class in ten, 2,000 are drawn, half of each class."""
    y = np.where(np.arange(20_000) % 10 == 0, "yes", "no")
    frame = pd.DataFrame({"id": np.arange(20_000), "age": 1.0, "bought": y})
    dataset = take_apart(frame, load_settings())
    rows, kept_back = sample(dataset)
    assert np.bincount(dataset.y[rows]).tolist() == [1000, 1000]
    assert np.bincount(dataset.y[rows[kept_back]]).tolist() == [250, 250]


def test_too_few_rows_are_refused(scratch):
    """A class with under four training rows is refused by name, and so is a regression with under four."""
    frame = pd.read_csv(scratch.root / "data.csv")
    scratch.data(pd.concat([frame[frame["bought"] == "no"], frame[frame["bought"] == "yes"].head(3)]))
    status, _, said = validate(scratch)
    assert status == 1 and "class 'yes' has" in said and "too few to try a model on" in said
    scratch.data(frame.head(3).drop(columns="bought").rename(columns={"income": "bought"}))
    scratch.edit("pipeline.toml", '"binary"', '"regression"')
    scratch.edit("pipeline.toml", '"log_loss"', '"mae"')
    scratch.edit("pipeline.toml", 'positive = "yes"', "")
    status, _, said = validate(scratch)
    assert status == 1 and "too few to try a model on" in said


@pytest.mark.parametrize(
    ("load", "task", "model"),
    [
        (load_wine, "multiclass", "from sklearn.ensemble import RandomForestClassifier as Own"),
        (load_diabetes, "regression", "from sklearn.ensemble import RandomForestRegressor as Own"),
    ],
)
def test_other_tasks_pass(scratch, load, task, model):
    """Several classes and regressions are tested in the same way."""
    data = load(as_frame=True)
    scratch.data(data.frame.rename_axis("id").reset_index())
    scratch.write("project/model.py", f"{model}\ndef build(parameters, seed):\n    return Own(20, random_state=seed)\n")
    scratch.edit("pipeline.toml", 'target = "bought"\npositive = "yes"', 'target = "target"')
    scratch.edit("pipeline.toml", '"binary"', f'"{task}"')
    scratch.edit("pipeline.toml", '"log_loss"', '"mae"' if task == "regression" else '"log_loss"')
    status, outcomes, _ = validate(scratch)
    assert status == 0
    assert ("rmse" if task == "regression" else "brier") in outcomes["beats a dummy"]["observed"]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("pipeline.toml", '"log_loss"', '"logloss"', "[gate] metric 'logloss' is no metric of this task"),
        ("pipeline.toml", "margin = 0.01", 'margin = 0.01\nslices = ["hue"]', "[gate] slices names 'hue'"),
        ("pipeline.toml", "margin = 0.01", "margin = 0.01\n[gate.limits]\nr2 = 0.5", "[gate.limits] 'r2' is no metric"),
        (
            "project/model.py",
            "def build",
            'METRICS = ["cost"]\ndef build',
            "METRICS in project/model.py is list, not a dict",
        ),
        ("project/model.py", "def build", 'METRICS = {"cost": 1}\ndef build', "must be (function, higher_is_better)"),
        ("project/model.py", "    numbers =", "    raise SystemExit(0)\n    numbers =", "SystemExit: 0"),
    ],
)
def test_later_failures_are_found_before_training(scratch, file, old, new, message):
    """A gate with an unknown metric or feature, invalid metrics, and an exit that would look like success."""
    scratch.edit(file, old, new)
    status, _, said = validate(scratch)
    assert status == 1 and message in said and "Traceback" not in said


def test_data_without_a_number_column(scratch):
    """Then there is no check for text in a number column."""
    frame = pd.read_csv(scratch.root / "data.csv")
    scratch.data(frame.assign(age=np.where(frame["age"] > 54, "old", "young"))[["id", "age", "bought"]])
    scratch.edit(
        "project/model.py", '(numbers, ["age", "income"]), (OneHotEncoder(), ["colour"])', '(OneHotEncoder(), ["age"])'
    )
    status, outcomes, _ = validate(scratch)
    assert status == 0
    assert outcomes["refuses text in a number column"]["observed"] == "there is no number column"


def test_only_some_columns_are_tested():
    """Of many columns ten, including the first and the last; of few, all."""
    names = [f"c{number}" for number in range(100)]
    tried = few(names)
    assert len(tried) == 10 and {"c0", "c99"} <= set(tried)
    assert few(names[:3]) == names[:3]
