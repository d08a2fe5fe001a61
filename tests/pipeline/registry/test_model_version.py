"""A version's tags as attributes: what was written is read again, and what somebody else wrote does no harm."""

import math

import pytest
from mlflow.entities.model_registry import ModelVersion as Found
from mlflow.entities.model_registry import ModelVersionTag

from pipeline.registry import model_version
from pipeline.registry.model_version import ModelVersion, Split


def found(**tags: str) -> Found:
    """What MLflow's client gives for a version with these tags."""
    listed = [ModelVersionTag(key, value) for key, value in tags.items()]
    return Found("m", 12, 1_760_000_000_123, run_id="r", tags=listed, current_stage="None")


def test_what_is_written_at_the_registration_is_read_again():
    """Texts, the split and the metrics come back as they were, with number and time."""
    split = Split("id", "salt", 0.2)
    tags = model_version.as_tags(split=split, metrics={"log_loss": 0.25}, digest="d", verdict="accept", format="onnx")
    version = ModelVersion.from_mlflow(found(**tags))
    assert (version.name, version.number, version.run_id, version.created) == ("m", "12", "r", 1_760_000_000)
    assert (version.digest, version.format, version.split, version.metrics) == ("d", "onnx", split, {"log_loss": 0.25})
    assert version.is_accepted


def test_a_version_made_by_hand_lacks_everything_and_is_its_own_best():
    """Without tags the texts are empty, no mark is set, and nobody knows which rows it was trained on."""
    version = ModelVersion.from_mlflow(found(reviewed="yes"))
    assert (version.digest, version.bundle, version.image, version.compared_with) == ("", "", "", "")
    assert (version.forced, version.promoted, version.rolled_back, version.split) == (None, None, None, None)
    assert version.best_version == "12" and version.mlflow == "unknown" and not version.is_accepted


def test_an_empty_mark_is_a_mark():
    """Somebody who sets a mark without a value has set it."""
    version = ModelVersion.from_mlflow(found(forced="", promoted=""))
    assert version.forced == "" and version.promoted == "" and version.rolled_back is None


def test_a_number_that_cannot_be_read_counts_as_missing():
    """A split whose share is no number is no split; such a metric is left out, and the others stay."""
    tags = {"split_id": "id", "split_salt": "s", "split_holdout": "a fifth", "metric_a": "good", "metric_b": "nan"}
    version = ModelVersion.from_mlflow(found(**tags))
    assert version.split is None and set(version.metrics) == {"b"} and math.isnan(version.metrics["b"])


def test_a_name_that_nobody_would_read_is_not_written():
    """A misspelt attribute is an error before MLflow is asked for anything."""
    with pytest.raises(TypeError, match="roled_back: no tag of a version"):
        model_version.set_tags(None, "m", "1", promoted="now", roled_back="now")


def test_versions_are_newer_by_their_numbers():
    """Version 10 came after version 9."""
    assert ModelVersion("m", "10", "r").is_newer_than(ModelVersion("m", "9", "r"))
