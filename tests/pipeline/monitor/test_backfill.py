"""The prediction log and its outcomes become labelled rows that load() may add."""

import json
import os
import re
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from pipeline.artifacts import sha256
from pipeline.data.dataset import take_apart
from pipeline.data.holdout import is_holdout
from pipeline.errors import DataError
from pipeline.monitor import backfill
from pipeline.settings import load_settings
from serving.model.contract import Contract

ROOT = Path(__file__).resolve().parents[3]
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
NAME = "breast-cancer"
INPUTS = [
    {"name": "mean_radius", "type": "number", "nullable": True, "example": 1},
    {"name": "cysts", "type": "integer", "nullable": True, "example": 1},
    {"name": "again", "type": "boolean", "example": True},
    {"name": "ward", "type": "text", "nullable": True, "example": "a"},
]


@pytest.fixture(scope="module")
def settings():
    """The settings of the example: binary, id, diagnosis, malignant."""
    return load_settings(ROOT / "tests/example/pipeline.toml")


def contract(inputs=INPUTS, classes=("benign", "malignant")) -> Contract:
    """A version's contract."""
    labels = (
        {"task": "binary", "classes": list(classes), "positive": "malignant"} if classes else {"task": "regression"}
    )
    made = {"schema": 1, "name": NAME, "format": "skops", "target": "diagnosis", "skops": {"layout": "frame"}, **labels}
    return msgspec.convert(made | {"inputs": inputs}, Contract)


def line(
    request_id="r1", rows=((1.5, 2, True, "a"),), outcomes=("benign",), answered="benign", after=1, **more
) -> bytes:
    """A request as the export prints it; its outcomes came so many days after it, None for none."""
    time = more.pop("time", NOON)
    told = [
        {"row": row, "outcome": outcome, "time": (time + timedelta(days=after)).isoformat(), "sent": 1}
        for row, outcome in enumerate(outcomes)
        if outcome is not None
    ]
    chances = {"benign": 0.9, "malignant": 0.1} if answered == "benign" else {"benign": 0.2, "malignant": 0.8}
    whole = {
        "request_id": request_id, "time": time.isoformat(), "caller": "shop", "subject": None, "role": "served", "rows": len(rows),
        "features": rows, "answers": [{"label": answered, "probabilities": chances}] * len(rows), "latency_ms": 1.0,
        "model": NAME, "model_version": "1", "outcomes": told,
    }  # fmt: skip
    return json.dumps(whole | more).encode() + b"\n"


@pytest.fixture
def written(settings, tmp_path):
    """Write lines, and read the rows back; the counts are the second."""

    def write(*lines, contracts=None, **more):
        counts = backfill.write(tmp_path, lines, settings, contracts or {"1": contract()}, "1", {"environment": "production"}, **more)  # fmt: skip
        path = tmp_path / backfill.ROWS
        return (pd.read_parquet(path) if path.exists() else None), counts

    return write


def test_rows_have_the_columns_of_the_contract(written):
    """Id, features in order with their types, outcome and time; an empty text and null are empty."""
    rows, _ = written(line("r1", [(1.5, 2, True, "a"), (None, None, False, "")], ["benign", "malignant"]))
    assert list(rows) == ["id", "mean_radius", "cysts", "again", "ward", "diagnosis", "answered_at"]
    assert rows["id"].tolist() == ["r1:0", "r1:1"] and rows["diagnosis"].tolist() == ["benign", "malignant"]
    assert rows["again"].dtype == bool and rows["mean_radius"].tolist()[0] == 1.5
    assert rows.iloc[1][["mean_radius", "cysts", "ward"]].isna().all() and rows["answered_at"][0] == NOON


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"role": "test"}, "not of callers"),
        ({"role": "shadow"}, "not of callers"),
        ({"model": "another"}, "of another model"),
        ({"outcomes": [None]}, "without outcome"),
        ({"after": 31}, "outcome too late"),
        ({"outcomes": ["harmless"]}, "does not fit the contract"),
        ({"outcomes": [1.0]}, "does not fit the contract"),
        ({"rows": [("wide", 2, True, "a")]}, "does not fit the contract"),
        ({"rows": [(1.5,)]}, "does not fit the contract"),
        ({"rows": [(1.5, 2.5, True, "a")]}, "does not fit the contract"),
        ({"rows": [(1.5, 1e30, True, "a")]}, "does not fit the contract"),
        ({"rows": [(1.5, 2**63, True, "a")]}, "does not fit the contract"),
        ({"rows": [(10**400, 2, True, "a")]}, "does not fit the contract"),
        ({"answers": [{"probabilities": {"benign": "much", "malignant": 1}}]}, "unreadable"),
        ({"answers": [{"probabilities": ["benign"]}]}, "unreadable"),
        ({"model_version": "9"}, "of a version with other columns, or whose bundle is gone"),
    ],
)
def test_what_cannot_be_learned_from_is_left_out_and_counted(written, given, why):
    """Of two rows one is taken; the reason for the other is in the counts."""
    rows, counts = written(line("good"), line("bad", **given))
    assert rows["id"].tolist() == ["good:0"] and counts.left_out == {why: 1}


def test_a_repeated_request_is_taken_once(written):
    """The first one; identical rows under other ids are kept."""
    rows, counts = written(line("r1"), line("r1", [(9.0, 9, True, "z")]), line("r2"))
    assert rows["id"].tolist() == ["r1:0", "r2:0"] and rows["mean_radius"].tolist() == [1.5, 1.5]
    assert counts.left_out == {"repeated request": 1}


def test_the_answer_is_never_the_label(written):
    """The row has the outcome, whatever was answered."""
    rows, _ = written(line(outcomes=["malignant"], answered="benign"))
    assert rows["diagnosis"].tolist() == ["malignant"]


def test_columns_in_another_order_are_put_in_order(written):
    """An older version with the same columns counts, one without a column, with another type or other classes does not."""
    other = [*INPUTS[1:], INPUTS[0]]
    retyped = [*INPUTS[:3], INPUTS[3] | {"type": "number", "example": 1}]
    versions = {"2": other, "3": INPUTS[:3], "4": retyped}
    rows, counts = written(
        line("r1", [(2, True, "a", 1.5)], model_version="2"),
        *(line(f"old-{number}", model_version=number) for number in "345"),
        contracts={"1": contract(), "5": contract(classes=("odd", "malignant"))}
        | {number: contract(inputs) for number, inputs in versions.items()},
    )
    assert rows["mean_radius"].tolist() == [1.5] and rows["ward"].tolist() == ["a"]
    assert sum(counts.left_out.values()) == 3


def test_rows_go_to_the_hold_out_by_the_hash_of_their_id(written, settings):
    """The pipeline puts them on the side that the counts say, together with the file's own rows."""
    lines = [line(f"r{number}", outcomes=[("benign", "malignant")[number % 2]]) for number in range(200)]
    rows, counts = written(*lines)
    own = pd.DataFrame({"id": [1, 2], "mean_radius": [1.0, 2], "cysts": [1, 2], "again": [True, False], "ward": ["a", "b"], "diagnosis": ["benign", "malignant"]})  # fmt: skip
    dataset = take_apart(pd.concat([own, rows.drop(columns="answered_at")], ignore_index=True), settings)
    assert list(dataset.kinds.values()) == ["number", "integer", "boolean", "text"]
    held = is_holdout(rows["id"], settings.split.holdout, settings.split.salt)
    assert dataset.holdout[2:].tolist() == held.tolist() and counts.holdout == held.sum() > 20


def test_the_same_log_gives_the_same_bytes(written, tmp_path):
    """Rows and manifest; the manifest has the file's hash, its time range and its versions."""
    lines = [line("r1"), line("r2", time=NOON + timedelta(days=2))]
    written(*lines)
    first = [(tmp_path / name).read_bytes() for name in (backfill.ROWS, backfill.MANIFEST)]
    written(*lines)
    assert [(tmp_path / name).read_bytes() for name in (backfill.ROWS, backfill.MANIFEST)] == first
    told = json.loads(first[1])
    assert told["sha256"] == sha256(tmp_path / backfill.ROWS) and told["versions"] == {"1": 2}
    assert (told["first"], told["last"], told["rows"]) == ("2026-01-05", "2026-01-07", 2)


def test_a_run_that_fails_leaves_the_files_as_they_were(written, tmp_path):
    """Also one that finds no labelled row; nothing half-written is left."""
    written(line("r1"))
    before = sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir())

    def broken():
        yield line("r2")
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        written(*broken())
    _, counts = written(line("r3", outcomes=[None]))
    assert "nothing was written" in backfill.summary(counts)[0]
    assert sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir()) == before


def test_rows_of_callers_are_private_and_what_a_killed_run_left_goes(written, tmp_path):
    """The owner alone may read them, as the log itself; an unfinished file that nothing writes to any more is deleted."""
    for name, age in (("killed", 7200), ("running", 5)):
        unfinished = tmp_path / f".{backfill.ROWS}.{name}"
        unfinished.write_bytes(b"rows")
        os.utime(unfinished, (time.time() - age,) * 2)
    written(line("r1"))
    assert (tmp_path / backfill.ROWS).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob(".*")] == [f".{backfill.ROWS}.running"]


def test_a_column_with_the_name_of_another_is_refused(written):
    """A feature cannot be called as the column of the time."""
    with pytest.raises(DataError, match="'answered_at' would name two columns"):
        written(line(), contracts={"1": contract([INPUTS[0] | {"name": "answered_at"}])})


def test_outcomes_for_one_answer_only_are_a_warning(written):
    """Fifty benign answers without any outcome and fifty malignant ones with: the shares are told, and what it means."""
    lines = [line(f"b{number}", outcomes=[None]) for number in range(50)]
    lines += [line(f"m{number}", answered="malignant") for number in range(50)]
    _, counts = written(*lines)
    assert counts.answered == {"benign": 50, "malignant": 50} and counts.labelled == {"malignant": 50}
    (warning,) = backfill.warnings(counts)
    assert "no row that was answered benign has an outcome (of the others: malignant 100%)" in warning
    _, both = written(*(line(f"r{number}", answered=("benign", "malignant")[number % 2]) for number in range(100)))
    assert backfill.warnings(both) == []


def test_rows_are_written_in_pieces(settings, tmp_path, monkeypatch):
    """Memory holds a few rows at a time, however many there are."""
    monkeypatch.setattr(backfill, "AT_ONCE", 500)
    batch = [(float(number), 1, True, "a") for number in range(100)]
    lines = (line(f"r{number}", batch, ["benign"] * 100) for number in range(100))
    tracemalloc.start()
    counts = backfill.write(tmp_path, lines, settings, {"1": contract()}, "1", {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts.rows == len(pd.read_parquet(tmp_path / backfill.ROWS)) == 10_000 and peak < 2e6


def test_the_load_of_the_page_adds_the_rows(written, settings, tmp_path, monkeypatch):
    """The code of docs/outcomes-as-data.md, as it stands there: the file's rows, then production's, with the same columns."""
    frame = pd.DataFrame({"id": ["a", "b"], "mean_radius": [1.0, 2], "cysts": [1, 2], "again": [True, False], "ward": ["a", "b"], "diagnosis": ["benign", "malignant"]})  # fmt: skip
    (tmp_path / "data" / "production").mkdir(parents=True)
    frame.to_csv(tmp_path / "data" / "breast_cancer.csv", index=False)
    written(line("r1"))
    (tmp_path / backfill.ROWS).rename(tmp_path / "data" / "production" / backfill.ROWS)
    page = (ROOT / "docs/outcomes-as-data.md").read_text(encoding="utf-8")
    scope: dict = {"__file__": str(tmp_path / "project" / "data.py")}
    exec(compile(re.search(r"```python\n(.+?)```", page, re.S)[1], "docs/outcomes-as-data.md", "exec"), scope)
    rows = scope["load"]()
    assert list(rows) == list(frame) and rows["id"].tolist() == ["a", "b", "r1:0"]
    assert take_apart(rows, settings).kinds == take_apart(frame, settings).kinds


def test_numbers_are_outcomes_of_a_regression(settings, tmp_path):
    """Truth values and texts are none."""
    lines = [line(f"r{number}", outcomes=[outcome]) for number, outcome in enumerate([2, 3.5, True, "4", 10**400])]
    counts = backfill.write(tmp_path, lines, settings, {"1": contract(classes=())}, "1", {})
    assert pd.read_parquet(tmp_path / backfill.ROWS)["diagnosis"].tolist() == [2.0, 3.5]
    assert counts.left_out == {"does not fit the contract": 3} and np.isfinite(counts.rows)
