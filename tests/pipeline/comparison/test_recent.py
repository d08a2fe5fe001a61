"""The held-out rows that production was asked of late are a slice on which candidate and production are compared."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.comparison import compared, recent
from pipeline.data.dataset import take_apart
from pipeline.errors import DataError
from pipeline.evaluation import gate
from pipeline.evaluation.measures import to_measure
from pipeline.settings import load_settings

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def dataset():
    """The team's own rows, and 800 of production."""
    ids = [*(f"own-{number}" for number in range(400)), *(f"asked-{number}:0" for number in range(800))]
    rows = pd.DataFrame({"id": ids, "mean_radius": np.arange(1200.0), "diagnosis": ["benign", "malignant"] * 600})
    return take_apart(rows, load_settings(ROOT / "tests/example/pipeline.toml"))


@pytest.fixture
def file(tmp_path):
    """What `make backfill` wrote: 800 rows of 80 days, ten a day."""
    days = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(800) // 10, unit="D")
    ids = [f"asked-{number}:0" for number in range(800)]
    pd.DataFrame({"id": ids, "answered_at": days}).to_parquet(tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


def test_the_last_days_are_a_slice(dataset, file):
    """Rows of the last 30 days with outcomes, by id; older ones and the team's own are not in it."""
    label, rows = recent.recent_rows(dataset, file)
    assert label == "production since 2026-02-20"
    assert rows.sum() == 300 and not rows[: 1200 - 300].any()


def test_without_rows_of_production_there_is_no_slice(dataset, file, tmp_path):
    """No file, or a load() that does not add its rows."""
    assert recent.recent_rows(dataset, tmp_path / "none.parquet") is None
    own = pd.DataFrame({"id": ["a", "b"], "mean_radius": [1.0, 2], "diagnosis": ["benign", "malignant"]})
    assert recent.recent_rows(take_apart(own, dataset.settings), file) is None


def test_a_damaged_file_is_refused(dataset, tmp_path):
    """The error names it and the verb that makes it."""
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="cannot be read") as refused:
        recent.recent_rows(dataset, tmp_path / "rows.parquet")
    assert "make backfill" in refused.value.then


def test_a_candidate_that_is_worse_on_them_is_refused(dataset, file, monkeypatch):
    """The slice of the stage holds held-out rows alone, and there the gate finds what the rest of the hold-out hides."""
    monkeypatch.setattr(recent, "ROWS", file)
    monkeypatch.setattr(compared, "recent_rows", lambda data: recent.recent_rows(data, file))
    settings = dataset.settings.model_copy(update={"gate": dataset.settings.gate.model_copy(update={"slices": []})})
    common = np.ones(dataset.holdout.sum(), dtype=bool)
    ((label, mask),) = compared.slice_masks(settings, dataset, common)
    assert label.startswith("production since") and 30 < mask.sum() < 120
    y_true = dataset.y[dataset.holdout]
    sure = np.stack([1 - y_true, y_true], axis=1) * 0.8 + 0.1
    worse = np.where(mask[:, None], 1 - sure, sure)
    metric = to_measure(settings, dataset).decides
    found = gate.compare_slices(
        metric, y_true, worse, sure, [(label, mask)], minimum_rows=30, confidence=0.95, resamples=200, seed=1
    )
    assert found[0].judged and found[0].comparison.lower > 0
