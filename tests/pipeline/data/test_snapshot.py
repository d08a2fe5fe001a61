"""The rows of a training kept as Parquet: they come back as they were, or are refused."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from pipeline.data import snapshot
from pipeline.data.dataset import load_dataset, take_apart
from pipeline.errors import DataError, RegistryError
from pipeline.registry.model_version import ModelVersion
from pipeline.registry.training_run import data_snapshot
from pipeline.settings import load_settings


def table(rows: int = 40) -> pd.DataFrame:
    """A column of each kind, with and without empty cells."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": np.arange(rows) * 7,
            "number": rng.normal(size=rows),
            "gaps": np.where(np.arange(rows) % 5, rng.normal(size=rows), np.nan),
            "whole": rng.integers(0, 9, rows),
            "whole_gaps": pd.array([None if row % 6 == 0 else row for row in range(rows)], dtype="Int64"),
            "small": rng.integers(0, 9, rows).astype("uint8"),
            "truth": rng.random(rows) < 0.5,
            "truth_gaps": [None if row % 4 == 0 else row % 2 == 0 for row in range(rows)],
            "text": [None if row % 9 == 0 else f"ä{row % 3} " for row in range(rows)],
            "category": pd.Categorical([f"c{row % 4}" for row in range(rows)]),
            "diagnosis": np.where(rng.random(rows) < 0.5, "malignant", "benign"),
        }
    )
    return frame


@pytest.fixture
def settings():
    """The example's settings."""
    return load_settings("tests/example/pipeline.toml")


def test_rows_come_back_with_their_kinds(settings, tmp_path):
    """Hash, kinds, and which columns may be empty: what a model is trained on and a contract is made of."""
    file = tmp_path / "rows.parquet"
    file.write_bytes(snapshot.to_parquet(table()))
    before, after = take_apart(table(), settings), take_apart(snapshot.read(file), settings)
    assert (after.hash, after.kinds, after.nullable) == (before.hash, before.kinds, before.nullable)


def test_the_same_rows_give_the_same_bytes():
    """Whatever the frame carries besides: index, attributes."""
    other = table().set_index(pd.RangeIndex(100, 140))
    other.attrs["note"] = "x"
    assert snapshot.to_parquet(table()) == snapshot.to_parquet(other) != snapshot.to_parquet(table(41))


def test_a_column_that_parquet_cannot_hold_is_named():
    """Before anything is trained."""
    with pytest.raises(DataError, match=r"cannot be kept as a snapshot: .*odd"):
        snapshot.to_parquet(table().assign(odd=[1, "a"] * 20))


def test_rows_that_would_come_back_otherwise_are_refused(settings):
    """Nothing is kept that does not repeat the training."""
    frame = table()
    with pytest.raises(DataError, match="would not come back"):
        data_snapshot.pack(frame, take_apart(frame.iloc[::-1], settings))


def test_a_snapshot_stands_in_for_load(settings, tmp_path, monkeypatch, capsys):
    """While SLIPWAY_DATA_SNAPSHOT names it; that load() is not called is said."""
    file = tmp_path / "rows.parquet"
    file.write_bytes(snapshot.to_parquet(table()))
    monkeypatch.setenv(snapshot.VARIABLE, str(file))
    assert load_dataset(settings).hash == take_apart(table(), settings).hash
    assert "load() is not called" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"no parquet"])
def test_a_snapshot_that_cannot_be_read_is_named(settings, tmp_path, monkeypatch, content):
    """A file that is missing or damaged, with what to do."""
    file = tmp_path / "rows.parquet"
    if content:
        file.write_bytes(content)
    monkeypatch.setenv(snapshot.VARIABLE, str(file))
    with pytest.raises(DataError, match="is not a readable snapshot") as raised:
        load_dataset(settings)
    assert "make snapshot VERSION=n" in raised.value.then
    assert content or raised.value.what.endswith("no such file")


@pytest.fixture
def kept(settings, tmp_path):
    """A client of MLflow and a version whose run has a snapshot."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri, uri)
    experiment = client.create_experiment("model", artifact_location=(tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment).info.run_id
    dataset = take_apart(table(), settings)
    data_snapshot.keep(client, run, data_snapshot.pack(table(), dataset))
    return client, ModelVersion("model", "7", run, data_hash=dataset.hash)


def test_mlflow_keeps_the_rows_and_their_hash(kept, settings, tmp_path):
    """What is fetched is the file that was kept, to the byte."""
    client, version = kept
    file = tmp_path / "build/rows.parquet"
    data_snapshot.fetch(client, version, settings, file)
    digest = client.get_run(version.run_id).data.tags["data_snapshot"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == digest and file.read_bytes() == snapshot.to_parquet(table())


def test_a_snapshot_that_somebody_changed_is_refused(kept, settings, tmp_path):
    """By its hash; and one that does not give the version's data, by theirs."""
    client, version = kept
    stored = next((tmp_path / "artifacts").rglob("rows.parquet"))
    content = stored.read_bytes()
    stored.write_bytes(snapshot.to_parquet(table(41)))
    with pytest.raises(RegistryError, match="was changed in MLflow"):
        data_snapshot.fetch(client, version, settings, tmp_path / "rows.parquet")
    stored.write_bytes(content)
    other = ModelVersion("model", "7", version.run_id, data_hash="x")
    with pytest.raises(RegistryError, match="does not give the data of its training"):
        data_snapshot.fetch(client, other, settings, tmp_path / "rows.parquet")


def test_a_version_without_a_snapshot_is_told(kept, settings, tmp_path):
    """With the setting that keeps one from now on."""
    client, version = kept
    client.delete_tag(version.run_id, "data_snapshot")
    with pytest.raises(RegistryError, match="has no snapshot of its rows") as raised:
        data_snapshot.fetch(client, version, settings, tmp_path / "rows.parquet")
    assert "[data] snapshot = true" in raised.value.then
