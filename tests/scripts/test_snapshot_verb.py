"""`make snapshot`: the rows of a version, and the command that trains on them again."""

from pipeline.data.dataset import read_frame, take_apart
from pipeline.registry.training_run import data_snapshot
from pipeline.settings import load_settings


def registered(client, root):
    """A version in production whose run keeps its rows."""
    settings, frame = load_settings(), read_frame()
    dataset = take_apart(frame, settings)
    experiment = client.create_experiment("scratch", artifact_location=(root / "artifacts").as_uri())
    run = client.create_run(experiment).info.run_id
    data_snapshot.keep(client, run, data_snapshot.pack(frame, dataset))
    client.create_registered_model("scratch")
    client.create_model_version("scratch", source="/nowhere", run_id=run, tags={"data_hash": dataset.hash})
    client.set_registered_model_alias("scratch", "production", "1")


def test_rows_of_production_are_fetched_with_the_command_to_use_them(scratch, mlflow_client):
    """Without a number it is the version that serves."""
    registered(mlflow_client, scratch.root)
    for arguments in ((), ("--version", "1")):
        status, said, _ = scratch.run("snapshot", *arguments)
        assert status == 0 and "SLIPWAY_DATA_SNAPSHOT=build/rows.parquet make ship" in said
        assert scratch.built() == ["rows.parquet"]


def test_without_production_a_version_must_be_named(scratch, mlflow_client):
    """And it must be one that there is."""
    status, _, said = scratch.run("snapshot")
    assert status == 1 and "nothing is in production" in said and "make snapshot VERSION=n" in said
    registered(mlflow_client, scratch.root)
    assert "scratch has no version 9" in scratch.run("snapshot", "--version", "9")[2]
