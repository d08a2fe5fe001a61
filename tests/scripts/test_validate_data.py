"""`make validate`: its messages about good and bad data, the files it writes, and its exit status."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_iris, load_wine

from pipeline.data.dataset import read_frame, take_apart
from pipeline.settings import load_settings
from pipeline.validation.data import escaped, folded, markdown

STALE = '{"success": true, "data_hash": "old"}'


def validate(scratch, *arguments):
    """Run it; return exit status, report (None when there is none) and output."""
    status, out, err = scratch.run("validate_data", *arguments)
    file = scratch.root / "build/data.json"
    report = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    return status, report, out + err


def failures(report):
    """The checks that did not pass."""
    return [one for one in report["checks"] if not one["success"]]


def customers(scratch):
    """The scratch project's data, for tests to damage."""
    return pd.read_csv(scratch.root / "data.csv")


def test_good_data_passes(scratch):
    """Exit status 0, a report that says so, and the hash of exactly these rows."""
    status, report, said = validate(scratch)
    assert (status, report["success"], failures(report)) == (0, True, [])
    assert (report["rows"], report["columns"]) == (240, 5)
    assert report["data_hash"] == take_apart(customers(scratch), load_settings()).hash
    assert "240 rows, 5 columns" in said and "0 critical failures, 0 warnings" in said
    assert "✅" in (scratch.root / "build/data.md").read_text(encoding="utf-8")


def test_report_has_the_service_s_limits(scratch):
    """Ranges and values come from critical expectations on all rows; a warning, or one with exceptions, gives none."""
    more = """expect.ExpectColumnValuesToBeBetween(column="income", max_value=4e5, mostly=0.99, severity="critical"),
        expect.ExpectColumnValuesToBeBetween(column="income", max_value=3e5, severity="warning"),
    ])"""
    scratch.edit("project/checks.py", "    ])", more)
    _, report, _ = validate(scratch)
    assert report["ranges"] == {"age": {"minimum": 18, "maximum": 99}}
    assert report["values"] == {"bought": ["no", "yes"], "colour": ["blue", "green", "red"]}


def test_tightest_range_counts(scratch):
    """Two ranges of a column are intersected, and so are two lists of values; a range may be open on one side."""
    more = """expect.ExpectColumnValuesToBeBetween(column="age", min_value=20, severity="critical"),
        expect.ExpectColumnValuesToBeBetween(column="age", max_value=95, severity="critical"),
        expect.ExpectColumnValuesToBeBetween(column="income", min_value=0, severity="critical"),
        expect.ExpectColumnValuesToBeInSet(column="colour", value_set=["red", "blue"], severity="critical"),
    ])"""
    scratch.edit("project/checks.py", "    ])", more)
    _, report, _ = validate(scratch)
    assert report["ranges"]["age"] == {"minimum": 20, "maximum": 95}
    assert report["ranges"]["income"] == {"minimum": 0, "maximum": None}
    assert report["values"]["colour"] == ["blue", "red"]


def test_exclusive_bound_stays_exclusive(scratch):
    """The report's text and range exclude the bound, so that the service does, too."""
    more = """expect.ExpectColumnValuesToBeBetween(column="income", min_value=0, strict_min=True, severity="critical"),
        expect.ExpectColumnValuesToBeBetween(
            column="age", min_value=0, max_value=100, strict_max=True, severity="critical"
        ),
    ])"""
    scratch.edit("project/checks.py", "    ])", more)
    _, report, _ = validate(scratch)
    assert report["ranges"]["income"] == {"minimum": None, "maximum": None, "exclusive_minimum": 0}
    assert report["ranges"]["age"] == {"minimum": 18, "maximum": 99, "exclusive_maximum": 100}
    rules = {one["rule"] for one in report["checks"]}
    assert {"above 0", "at least 0 and below 100", "between 18 and 99"} <= rules


@pytest.mark.parametrize("name", ["Umsatz\n(EUR)", 'a "b"', "a\\b"])
def test_unusable_column_name_is_refused(scratch, name):
    """A column name that the service refuses fails at once, as a Python literal, with the line of code that renames it."""
    frame = customers(scratch).rename(columns={"income": name})
    scratch.edit("project/checks.py", '"income"', repr(name))
    scratch.edit(
        "project/data.py", 'pd.read_csv("data.csv")', f'pd.read_csv("data.csv").rename(columns={{"x": {name!r}}})'
    )
    frame.rename(columns={name: "x"}).to_csv(scratch.root / "data.csv", index=False)
    status, report, said = validate(scratch)
    (found,) = [one for one in failures(report) if one["rule"] == "the service takes features of these names"]
    assert status == 1 and repr(name) in found["observed"] and f"rename(columns={{{name!r}: " in found["observed"]
    assert "rename it in load()" in said


def test_unusable_limits_are_refused(scratch, monkeypatch):
    """Ranges and values that the service cannot use fail with the service's message."""
    monkeypatch.setattr("pipeline.validation.data.bundle.contract", lambda *_: {"schema": 1})
    status, report, _ = validate(scratch)
    (found,) = failures(report)
    assert (status, found["rule"]) == (1, "the service can read such rows") and "required field" in found["observed"]


def test_json_prints_only_the_report(scratch):
    """--json puts the report, and nothing else, on standard output."""
    status, out, err = scratch.run("validate_data", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == json.loads((scratch.root / "build/data.json").read_text(encoding="utf-8"))


UNREADABLE = {
    "missing": (None, "data.csv: the data file is missing"),
    "empty": (b"", "the data file is empty"),
    "header only": (b"id,age,income,colour,bought\n", "the data has no rows"),
    "binary": (bytes(range(256)) * 40, "the data file is not"),
    "nothing but zeros": (b"\0" * 400, "the data"),
    "compressed": (b"\x1f\x8b\x08\x00\x12\x34\x56\x78\x02\xff" + bytes(range(128, 256)), "is not UTF-8 text"),
    "open quote": (b'id,age,income,colour,bought\nc1,20,1,"red,no\nc2,30,2,red,no\n', "not a readable table"),
    "ragged": (b"id,age\nc1,2\nc2,3,4,5\n", "not a readable table"),
    "columns of one name": (b"id,age,bought\n1,2,no\n", "more than one column named 'age'"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_data_is_refused(scratch, case):
    """Data that is not a table gives a one-line message and exit status 1; no report remains, not even an older one."""
    content, message = UNREADABLE[case]
    (scratch.root / "build").mkdir()
    for name in ("data.json", "data.md"):
        (scratch.root / "build" / name).write_text(STALE)
    (scratch.root / "data.csv").unlink()
    if content is not None:
        (scratch.root / "data.csv").write_bytes(content)
    if case == "columns of one name":
        scratch.edit(
            "project/data.py",
            'pd.read_csv("data.csv")',
            'pd.read_csv("data.csv").set_axis(["id", "age", "age"], axis=1)',
        )
    status, report, said = validate(scratch)
    assert (status, report, scratch.built()) == (1, None, [])
    assert message in said and said.startswith("error: ") and "next: " in said


def test_missing_parquet_is_named(scratch):
    """Its error has no file name, so its words are told; rows of production are made by a verb."""
    scratch.edit("project/data.py", 'pd.read_csv("data.csv")', 'pd.read_parquet("data/production/rows.parquet")')
    status, _, said = validate(scratch)
    assert status == 1 and "the data file is missing: " in said and "rows.parquet" in said and "make backfill" in said


def test_folder_in_place_of_the_file_is_refused(scratch):
    """A data file that cannot be read is named, with the system's reason."""
    (scratch.root / "data.csv").unlink()
    (scratch.root / "data.csv").mkdir()
    status, _, said = validate(scratch)
    assert status == 1 and "data.csv: the data file cannot be read" in said


def test_truncated_last_line_is_found(scratch):
    """A file that ends within a row is refused for its missing cells, with the row's number."""
    text = (scratch.root / "data.csv").read_text()
    (scratch.root / "data.csv").write_text(text.rstrip().rsplit(",", 2)[0])
    status, report, said = validate(scratch)
    assert status == 1 and not report["success"] and report["data_hash"] == ""
    empty = next(one for one in failures(report) if one["column"] == "bought")
    assert (empty["rule"], empty["examples"]) == ("no target is empty", [{"id": "c240", "row": 240, "value": None}])
    assert "error: " in said


def renamed(frame):
    return frame.rename(columns={"income": "incone"})


def text_in_numbers(frame):
    return frame.assign(age=frame["age"].astype(object).where(frame.index != 6, "old"))


def with_value(column, row, value):
    """A function that puts a value into a cell; rows count from 1."""

    def change(frame):
        changed = frame.astype({column: object})
        changed.loc[row - 1, column] = value
        return changed

    return change


# The change to the data; column, part of the rule, part of the observation, and the first example row.
FAULTS = {
    "missing column": (lambda f: f.drop(columns="age"), "age", "of type", "column age is missing", None),
    "renamed column": (renamed, "(table)", "exactly those", "missing: income", None),
    "extra column": (lambda f: f.assign(more=f["age"] % 7), "(table)", "exactly those", "unexpected: more", None),
    "missing id": (lambda f: f.rename(columns={"id": "ids"}), "id", "id column", "did you mean ids?", None),
    "missing target": (lambda f: f.drop(columns="bought"), "bought", "target column", "column bought is missing", None),
    "text in numbers": (text_in_numbers, "age", "of type", "str", {"id": "c7", "row": 7, "value": "old"}),
    "too many nulls": (
        lambda f: f.assign(income=f["income"].where(f.index > 40)),
        "income", "not empty in at least 90.0% of rows", " of 240 rows", {"id": "c1", "row": 1, "value": None},
    ),
    "duplicate id": (with_value("id", 5, "c3"), "id", "unique", "2 of 240 rows", {"id": "c3", "row": 3, "value": "c3"}),
    "empty id": (with_value("id", 5, None), "id", "no id is empty", "1 of 240 rows", {"id": None, "row": 5, "value": None}),
    "empty target": (with_value("bought", 5, None), "bought", "no target is empty", "1 of", {"id": "c5", "row": 5, "value": None}),
    "one class": (lambda f: f.assign(bought="yes"), "bought", "two classes", "yes", None),
    "unseen class": (with_value("bought", 9, "maybe"), "bought", "one of no, yes", "1 of 240", {"id": "c9", "row": 9, "value": "maybe"}),
    "three classes": (with_value("bought", 9, "maybe"), "bought", "two classes", "maybe, no, yes", None),
    "positive never seen": (lambda f: f.replace({"bought": {"yes": "ja"}}), "bought", "positive class 'yes'", "ja, no", None),
    "infinite": (with_value("income", 4, np.inf), "income", "infinite", "1 of 240", {"id": "c4", "row": 4, "value": "inf"}),
    "out of range": (with_value("age", 8, 140), "age", "between 18 and 99", "1 of 240", {"id": "c8", "row": 8, "value": 140}),
    "too few rows": (lambda f: f.head(49), "(table)", "at least 50 rows", "49", None),
    "leak": (lambda f: f.assign(refund=(f["bought"] == "yes") * 3.5), "refund", "predicts the target alone", "AUC 1.0", None),
    "no feature": (lambda f: f[["id", "bought"]], "(table)", "feature column", "0 features", None),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_fault_in_the_data_is_named(scratch, case):
    """Each fault is a critical failure with column, rule, observation and first row; exit status 1."""
    change, column, rule, observed, example = FAULTS[case]
    scratch.data(change(customers(scratch)))
    status, report, said = validate(scratch)
    assert status == 1 and not report["success"]
    found = [one for one in failures(report) if one["column"] == column and rule in one["rule"]]
    assert found, failures(report)
    assert found[0]["severity"] == "critical" and observed in found[0]["observed"]
    if example:
        assert found[0]["examples"][0] == example and found[0]["unexpected_count"] > 0
    assert "error: the data fails" in said and "Traceback" not in said
    table = (scratch.root / "build/data.md").read_text(encoding="utf-8")
    assert f"| ❌ | critical | {escaped(column)} |" in table


@pytest.mark.parametrize(
    ("change", "column", "rule"),
    [
        (lambda f: pd.concat([f, f.head(3).assign(id=["x1", "x2", "x3"])]), "(features)", "same features"),
        (lambda f: pd.concat([f, f.head(1).assign(id="x1", bought=["no", "yes"][f["bought"][0] == "no"])]), "bought", "same target"),
        (lambda f: f[(f["bought"] == "no") | (f["bought"] == "yes").cumsum().lt(9)], "bought", "at least 20 rows"),
        (lambda f: f.assign(income=f["income"] * 12), "income", "at most 400000"),
    ],
    ids=["repeated rows", "conflicting rows", "rare class", "the team's own warning"],
)  # fmt: skip
def test_warning_does_not_fail(scratch, change, column, rule):
    """A warning is in the report and in the table; the exit status stays 0."""
    scratch.data(change(customers(scratch)))
    status, report, said = validate(scratch)
    assert (status, report["success"]) == (0, True)
    found = next(one for one in failures(report) if one["column"] == column)
    assert found["severity"] == "warning" and rule in found["rule"] and found["examples"]
    assert "⚠️" in (scratch.root / "build/data.md").read_text(encoding="utf-8")
    assert "0 critical failures, 1 warning" in said or rule == "same target"


def test_allowed_predictor_is_no_leak(scratch):
    """A column listed in MAY_PREDICT_ALONE passes."""
    frame = customers(scratch)
    scratch.data(frame.assign(income=frame["income"].where(frame["bought"] == "no", 99000.0 + frame.index)))
    assert validate(scratch)[0] == 1
    scratch.edit("project/checks.py", "def expectations", 'MAY_PREDICT_ALONE = ["income"]\ndef expectations')
    status, report, _ = validate(scratch)
    assert (status, failures(report)) == (0, [])


def test_one_fault_is_reported_once(scratch):
    """Text in a number column gives one critical failure, though three rules fail on it."""
    scratch.data(text_in_numbers(customers(scratch)))
    _, report, _ = validate(scratch)
    critical = [one for one in failures(report) if one["severity"] == "critical"]
    assert [one["column"] for one in critical] == ["age"]
    scratch.data(customers(scratch).drop(columns="age"))
    _, report, _ = validate(scratch)
    critical = [one for one in failures(report) if one["severity"] == "critical"]
    assert [one["column"] for one in critical] == ["(table)", "age"]


def test_text_in_a_range_check_is_named(scratch):
    """If text is an expected type, the range check says that the column is text, and shows the row."""
    scratch.edit("project/checks.py", 'type_list=["int64", "float64"]', 'type_list=["int64", "float64", "str"]')
    scratch.data(text_in_numbers(customers(scratch)))
    status, report, _ = validate(scratch)
    found = failures(report)[0]
    assert status == 1 and (found["column"], found["rule"]) == ("age", "between 18 and 99")
    assert found["observed"] == "cannot be judged: the column holds str, not numbers"
    assert found["examples"] == [{"id": "c7", "row": 7, "value": "old"}]


def test_rows_are_counted_in_order(scratch):
    """Whatever index load() leaves on its frame, rows count from 1."""
    scratch.edit("project/data.py", 'pd.read_csv("data.csv")', '(f := pd.read_csv("data.csv")).set_index(f.index // 2)')
    scratch.data(with_value("age", 8, 140)(customers(scratch)))
    _, report, _ = validate(scratch)
    assert failures(report)[0]["examples"] == [{"id": "c8", "row": 8, "value": 140}]
    assert read_frame().index.tolist() == list(range(240))


def test_data_is_escaped(scratch):
    """Cell content neither breaks the Markdown table nor colours the terminal."""
    nasty = "[red]a|b<script>`x`\n*c*_d_"
    scratch.data(with_value("colour", 2, nasty)(customers(scratch)))
    status, _, said = validate(scratch)
    assert status == 1 and "[red]a|b" in said.replace("\n", "")
    lines = (scratch.root / "build/data.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in lines if "script" in line)
    assert row.replace("\\|", "").count("|") == 7
    assert "<script>" not in row and "\\`x\\`" in row and "\\*c\\*" in row


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("project/checks.py", "    return Exp", "    1 / 0\n    return Exp", "(project/checks.py, line 5): ZeroDivisionError"),
        ("project/checks.py", "ExpectColumnValuesToBeUnique", "ExpectColumnToShine", "has no attribute 'ExpectColumnToShine'"),
        ("project/checks.py", 'return ExpectationSuite("scratch",', "return list(", "returned list, not an ExpectationSuite"),
        ("project/checks.py", "def expectations", "MAY_PREDICT_ALONE = 3\ndef expectations", "MAY_PREDICT_ALONE"),
        ("project/data.py", "return pd", "return 1 / 0, pd", "load() in project/data.py failed (project/data.py, line 4)"),
        ("project/data.py", "return pd", "retrun pd", "SyntaxError"),
        ("project/data.py", "return pd.read_csv(", "return str(", "load() returned str, not a pandas DataFrame"),
        ("project/data.py", "return pd", "raise OSError('gone'); return pd", "OSError: gone"),
        ("pipeline.toml", 'target = "bought"', 'tarket = "bought"', "tarket is unknown; did you mean target?"),
        ("pipeline.toml", "holdout = 0.25", "holdout = 0.9", "[split] holdout = 0.9"),
    ],
)  # fmt: skip
def test_fault_in_the_team_s_files_is_named(scratch, file, old, new, message):
    """An error in project/ or pipeline.toml is one line with its place; an older report is removed."""
    validate(scratch)
    scratch.edit(file, old, new)
    status, report, said = validate(scratch)
    assert (status, report, scratch.built()) == (1, None, [])
    assert message in said and "Traceback" not in said


def test_unexpected_failure_is_critical(scratch, monkeypatch):
    """If the checks pass but the data cannot be split, the report says so and fails."""
    monkeypatch.setattr("pipeline.data.checks.finite", lambda frame, settings: [])
    scratch.data(with_value("income", 4, np.inf)(customers(scratch)))
    status, report, _ = validate(scratch)
    assert status == 1
    assert [(one["rule"], one["observed"]) for one in failures(report)] == [
        ("the data can be used", "column 'income' is infinite in row 4")
    ]


OWN = '''"""Our checks."""
def expectations():
    from great_expectations import ExpectationSuite
    from great_expectations import expectations as expect
    return ExpectationSuite("own", [expect.ExpectColumnValuesToBeUnique(column="id", severity="critical")])
'''


@pytest.mark.parametrize(
    ("load", "task"), [(load_wine, "multiclass"), (load_iris, "multiclass"), (load_diabetes, "regression")]
)
def test_other_tasks_pass(scratch, load, task):
    """Several classes and regression targets are checked, too; no real measurement of these data sets is a leak."""
    data = load(as_frame=True)
    scratch.data(data.frame.rename_axis("id").reset_index())
    scratch.write("project/checks.py", OWN)
    scratch.edit("pipeline.toml", 'target = "bought"\npositive = "yes"', 'target = "target"')
    scratch.edit("pipeline.toml", '"binary"', f'"{task}"')
    status, report, _ = validate(scratch)
    assert (status, report["success"]) == (0, True)


def test_100_000_rows_with_text_and_missing_values(scratch):
    """A frame of 100,000 rows with text and empty cells passes, in seconds."""
    rng = np.random.default_rng(0)
    rows = 100_000
    frame = pd.DataFrame(
        {
            "id": np.arange(rows),
            "age": rng.integers(18, 90, rows),
            "income": np.where(rng.random(rows) < 0.1, np.nan, rng.lognormal(10, 1, rows)),
            "city": np.where(rng.random(rows) < 0.1, None, rng.choice(["Bonn", "Köln", "Aachen"], rows)),
            "street": rng.integers(0, 50_000, rows).astype(str).astype(object) + " Way",
            "member": rng.random(rows) < 0.5,
            "noise": rng.random(rows),
            "bought": rng.choice(["no", "yes"], rows, p=[0.8, 0.2]),
        }
    )
    scratch.data(frame)
    scratch.write("project/checks.py", OWN)
    began = time.monotonic()
    status, report, _ = validate(scratch)
    assert (status, failures(report)) == (0, [])
    assert time.monotonic() - began < 30


def test_rules_are_described_in_words(scratch):
    """Each kind of expectation has a text with its figures, also one without a text of its own."""
    more = """expect.ExpectColumnToExist(column="age"),
        expect.ExpectColumnMeanToBeBetween(column="age", min_value=80, severity="info"),
        expect.ExpectColumnDistinctValuesToEqualSet(column="colour", value_set=["blue", "green", "pink"], severity="warning"),
        expect.ExpectColumnDistinctValuesToContainSet(column="colour", value_set=["blue"], severity="warning"),
        expect.ExpectColumnKLDivergenceToBeLessThan(column="bought", threshold=0.001, severity="warning",
            partition_object={"values": ["no", "yes"], "weights": [0.1, 0.9]}),
        expect.ExpectColumnPairValuesAToBeGreaterThanB(column_A="age", column_B="income", severity="warning"),
        expect.ExpectColumnPairValuesAToBeGreaterThanB(column_A="age", column_B="wealth", severity="warning"),
        expect.ExpectColumnValuesToBeOfType(column="colour", type_="int64", severity="warning"),
        expect.ExpectColumnValuesToBeInTypeList(column="income", type_list=["str"], severity="warning"),
        expect.ExpectColumnValueLengthsToBeBetween(column="id", max_value=3, severity="warning"),
    ])"""
    scratch.edit("project/checks.py", "    ])", more)
    status, report, _ = validate(scratch)
    told = {(one["column"], one["rule"]): one for one in report["checks"]}
    assert status == 0
    assert told["age", "the column is there"]["success"]
    assert told["age", "mean at least 80"]["severity"] == "warning"
    assert 40 < float(told["age", "mean at least 80"]["observed"]) < 70
    colours = told["colour", "takes each of the values blue, green, pink, and no other"]
    assert colours["observed"] == "never: pink; also: red" and colours["examples"][0]["value"] == "red"
    assert told["bought", "shares near no 10%, yes 90% (divergence at most 0.001)"]["observed"].startswith("no ")
    lengths = told["id", "value lengths to be between (max_value 3)"]
    assert lengths["observed"] == "141 of 240 rows (58.8%)"
    assert [row["id"] for row in lengths["examples"]] == ["c100", "c101", "c102", "c103", "c104"]
    pair = next(one for one in report["checks"] if one["column"] == "age, income")
    assert not pair["success"] and "pair values" in pair["rule"] and pair["unexpected_count"] > 200
    assert (
        next(one for one in report["checks"] if one["column"] == "age, wealth")["observed"]
        == "column wealth is missing"
    )
    assert told["colour", "of type int64"]["examples"][0]["row"] == 1
    assert told["income", "of type str"]["examples"] == []


def test_failing_rule_says_why(scratch):
    """An expectation that raises on the data fails with the reason, not with a traceback."""
    scratch.edit("project/checks.py", "max_value=99", 'max_value=99, row_condition="x ==", condition_parser="pandas"')
    status, report, said = validate(scratch)
    (found,) = failures(report)
    assert status == 1 and found["rule"] == "between 18 and 99" and "Traceback" not in said
    assert found["observed"].startswith("cannot be judged: invalid syntax")
    assert "the data fails 1 critical check, first age: between 18 and 99 (" in said


def test_invalid_expectation_is_named(scratch):
    """An expectation with an invalid argument is reported with its line in project/checks.py."""
    scratch.edit("project/checks.py", "min_value=18", "min_value='young'")
    status, report, said = validate(scratch)
    assert (status, report) == (1, None)
    assert "(project/checks.py, line 12): ValidationError" in said and "not a valid float" in said


def test_report_lists_failures_first():
    """In Markdown, critical failures come before warnings, and passed checks are folded."""
    one = {"column": "a", "rule": "r", "observed": "o", "examples": [], "unexpected_count": 0}
    checks = [
        one | {"severity": "warning", "success": False},
        one | {"severity": "critical", "success": True},
        one | {"severity": "critical", "success": False},
    ]
    text = markdown({"success": False, "rows": 1, "columns": 2, "checks": checks})
    assert (
        text.index("❌ | critical") < text.index("⚠️ | warning") < text.index("<details>") < text.index("✅ | critical")
    )
    assert "1 critical failure, 1 warning" in text


def test_only_duplicate_failures_are_folded():
    """A failure is left out only if an earlier one of the column has the same rows and severity."""
    from pipeline.data.checks import DataCheck

    def failure(rule, severity="critical", rows=(1,)):
        return DataCheck("a", rule, severity, False, "o", 1, [{"id": "x", "row": row, "value": 1} for row in rows])

    kept = folded(
        [
            failure("one"),
            failure("two"),
            failure("three", "warning"),
            failure("four", rows=(2,)),
            failure("five", rows=()),
        ]
    )
    assert [one.rule for one in kept] == ["one", "three", "four", "five"]
