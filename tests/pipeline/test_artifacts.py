"""The files between stages: whole or not there, and named with the verb that makes them."""

import hashlib
import json
import stat

import pytest

from pipeline import artifacts
from pipeline.errors import StageError


def test_json_is_written_and_read_back(tmp_path):
    """What is written is read back, in a folder made for it; the file may be read by all."""
    path = tmp_path / "new" / "folder" / "other.json"
    artifacts.write_json(path, {"ü": [1, None, 2.5]})
    assert artifacts.read_json(path) == {"ü": [1, None, 2.5]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("fault", ["fsync", "replace"])
def test_fault_half_way_leaves_the_old_file(tmp_path, monkeypatch, fault):
    """When writing fails at any step, the old file stays as it was, and nothing lies beside it."""
    path = tmp_path / "other.json"
    artifacts.write_json(path, {"old": True})

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifacts.os, fault, fail)
    with pytest.raises(OSError, match="No space left"):
        artifacts.write_json(path, {"new": True})
    monkeypatch.undo()
    assert artifacts.read_json(path) == {"old": True}
    assert [one.name for one in tmp_path.iterdir()] == ["other.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_json_cannot_hold_is_refused_before_writing(tmp_path, value):
    """NaN, infinity and foreign objects are refused, and the old file stays."""
    path = tmp_path / "other.json"
    artifacts.write_json(path, 1)
    with pytest.raises((ValueError, TypeError)):
        artifacts.write_json(path, {"a": value})
    assert path.read_text() == "1\n"


def test_missing_file_names_the_verb_that_makes_it(tmp_path):
    """A stage run too early is told which verb to run first."""
    for name, verb in (
        ("data.json", "make validate"),
        ("run.json", "make train"),
        ("other.json", "the stage that writes it"),
    ):
        with pytest.raises(StageError) as caught:
            artifacts.read_json(tmp_path / name)
        assert f"{name} is missing" in caught.value.what and caught.value.then == f"run `{verb}`"


def test_path_in_the_repository_is_shown_short():
    """A file in the repository is named from its root."""
    with pytest.raises(StageError, match=r"^build/surely/absent\.json is missing"):
        artifacts.read_json(artifacts.ROOT / "build/surely/absent.json")


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe"])
def test_damaged_file_is_refused(tmp_path, content):
    """A truncated or binary file is refused as damaged, with the verb that makes it anew."""
    path = tmp_path / "evaluation.json"
    path.write_bytes(content)
    with pytest.raises(StageError, match="is damaged") as caught:
        artifacts.read_json(path)
    assert caught.value.then == "run `make evaluate` again"


def test_replaced_folder_is_the_new_one(tmp_path):
    """A folder takes the place of an older one, of which no file stays; also where there was none."""
    for number in (1, 2):
        source = tmp_path / "source"
        source.mkdir()
        (source / f"{number}.txt").write_text("x")
        artifacts.replace_directory(source, tmp_path / "there")
        assert [path.name for path in (tmp_path / "there").iterdir()] == [f"{number}.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_digest_is_that_of_the_bytes(tmp_path):
    """sha256 gives the digest that any other tool gives."""
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert artifacts.sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_same_value_same_text():
    """The text of a value is the same each time, and is JSON."""
    value = {"b": 1, "a": ["é", True]}
    assert artifacts.to_json(value) == artifacts.to_json(json.loads(artifacts.to_json(value)))


RUN = {
    "run_id": "r", "experiment_id": "1", "run_url": "u", "model_id": None, "model_uri": "models:/m", "model_digest": "m", "data_hash": "d",
    "lock_hash": "l", "settings_hash": "s", "commit": "c", "dirty": False, "reason": "push", "trained_at": "t", "trained_by": "b", "format": "onnx",
    "features": ["a"], "rows": {"train": 2, "holdout": 1}, "split": {"holdout": 0.3, "salt": "x", "id": None},
    "trials": [{"where": "on the hold-out", "difference": None}],
}  # fmt: skip


@pytest.mark.parametrize("text", ["{}", "[]", '{"run_id": "1"}'])
def test_file_without_what_later_stages_rely_on_is_damaged(tmp_path, text):
    """A file of a stage that lacks a key was not written by that stage, and the verb to run is named."""
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(StageError, match=r"is damaged: (Object missing required field|Expected `object`)") as caught:
        artifacts.read_json(tmp_path / "run.json")
    assert caught.value.then == "run `make train` again"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"trials": None}, "trials"),
        ({"run_id": 7}, "run_id"),
        ({"data_hash": ["x"]}, "data_hash"),
        ({"settings_hash": {}}, "settings_hash"),
        ({"trials": [{"where": "on the hold-out"}]}, "trials"),
        ({"split": {"holdout": "0.3", "salt": "x", "id": None}}, "split.holdout"),
        ({"rows": {"train": "2", "holdout": 1}}, "rows.train"),
    ],
)
def test_a_file_with_a_value_of_another_type_is_damaged(tmp_path, change, where):
    """What later stages rely on has the type that its stage writes, at any depth; the message names the place."""
    artifacts.write_json(tmp_path / "run.json", RUN)
    assert artifacts.read_json(tmp_path / "run.json") == RUN
    artifacts.write_json(tmp_path / "run.json", RUN | change)
    with pytest.raises(StageError, match=rf"is damaged: .*\$\.{where}") as caught:
        artifacts.read_json(tmp_path / "run.json")
    assert caught.value.then == "run `make train` again"
