"""`make checks`: drafts a project/checks.py that is valid, formatted Python and passes on its data."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.data import draft, leftovers
from pipeline.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "tests/example"


def run(scratch, *arguments):
    """Run it; return exit status and output."""
    status, out, err = scratch.run("draft_checks", *arguments)
    return status, out + err


def odd_customers():
    """Rows with each kind of column, with missing values, and names that need quotes."""
    rng = np.random.default_rng(2)
    rows = 200
    return pd.DataFrame(
        {
            "id": [f"c{row}" for row in range(rows)],
            "age": rng.integers(18, 90, rows),
            "größe (cm)": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(175, 9, rows).round(1)),
            "balance": rng.normal(0, 1e6, rows),
            "member": rng.random(rows) < 0.5,
            "town's": pd.Series(rng.choice(["Köln", "l'Aquila", 'the "Hague"'], rows)).where(rng.random(rows) < 0.9),
            "note": [f"text {row} of many" for row in range(rows)],
            "same": 7,
            "bought": rng.choice(["no", "yes"], rows),
        }
    )


def test_draft_passes_and_is_formatted(scratch):
    """The draft passes `make validate`, and linter and formatter leave it unchanged."""
    odd_customers().to_csv(scratch.root / "data.csv", index=False)
    shutil.copy(ROOT / "pyproject.toml", scratch.root)
    status, said = run(scratch, "--replace")
    assert status == 0 and "from 200 rows and 9 columns" in said
    for command in (["format", "--check"], ["check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "project/checks.py"]
        done = subprocess.run(ruff, cwd=scratch.root, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    status, out, err = scratch.run("validate_data")
    assert status == 0, out + err


def test_draft_describes_the_rows(scratch):
    """Ranges have a margin, non-negative stays non-negative, few texts are listed, and missing values are allowed if there are some."""
    text = draft.draft(odd_customers(), load_settings())
    names: dict = {}
    exec(text, names)
    low, high = names["RANGES"]["age"]
    assert low == 0 and 89 < high <= 170
    assert names["RANGES"]["balance"][0] < -1e6 and names["RANGES"]["same"] == (0, 14)
    assert names["VALUES"] == {"town's": ["Köln", "l'Aquila", 'the "Hague"']}
    assert "note" in names["FILLED"] and set(names["MOSTLY_FILLED"]) == {"größe (cm)", "town's"}
    assert 0.7 < names["MOSTLY_FILLED"]["größe (cm)"] < 0.9


def test_team_s_checks_are_not_overwritten(scratch):
    """A file that is not the shipped example stays, and the message says how to replace it."""
    before = (scratch.root / "project/checks.py").read_text(encoding="utf-8")
    status, said = run(scratch)
    assert status == 1 and "make checks REPLACE=yes" in said
    assert (scratch.root / "project/checks.py").read_text(encoding="utf-8") == before


def test_shipped_example_is_overwritten(scratch):
    """On other data `make validate` names this verb, which replaces the example without asking."""
    text = (EXAMPLE / "project/checks.py").read_text(encoding="utf-8")
    (scratch.root / "project/checks.py").write_text(text, encoding="utf-8")
    assert "`make checks` writes a first one from your data" in scratch.run("validate_data")[2]
    assert leftovers.is_shipped(scratch.root / "project/checks.py")
    assert run(scratch)[0] == 0
    assert "drafted this from 240 rows" in (scratch.root / "project/checks.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_every_task_has_a_draft(scratch, task):
    """A regression's target gets a range, and numeric classes stay numbers."""
    scratch.edit("pipeline.toml", 'task = "binary"', f'task = "{task}"')
    scratch.edit("pipeline.toml", 'positive = "yes"', "")
    if task == "regression":
        scratch.edit("pipeline.toml", '"log_loss"', '"rmse"')
    frame = odd_customers().assign(bought=[row % 3 for row in range(200)])
    frame.to_csv(scratch.root / "data.csv", index=False)
    assert run(scratch, "--replace")[0] == 0
    status, out, err = scratch.run("validate_data")
    assert status == 0, out + err
