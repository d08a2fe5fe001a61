"""The record of an evaluation is read as it was written, also where another release wrote it."""

import json

import pytest
from evaluations import evaluation

from pipeline.errors import StageError
from pipeline.evaluation import record

OLDEST = (
    "metric", "higher_is_better", "verdict", "reasons", "first", "production", "rows", "confidence", "comparison", "metrics",
)  # fmt: skip


@pytest.mark.parametrize("production", ["bad", None])
def test_what_is_written_is_read(tmp_path, production):
    """Every number, text and list comes back, and the file has the same keys as the record."""
    made = record.of_plain(evaluation("binary", production=production))
    record.write(tmp_path, made)
    assert record.read(tmp_path) == made
    assert list(json.loads((tmp_path / record.NAME).read_text())) == list(record.Evaluation.__struct_fields__)


def test_a_key_that_an_older_release_did_not_write_has_the_value_that_was_true_then():
    """Neither columns nor copies of rows counted, and every model was ONNX."""
    old = {key: value for key, value in evaluation("binary").items() if key in OLDEST}
    found = record.of_plain(old)
    assert (found.judged_by, found.best, found.format, found.distinct_rows) == ("comparison", None, None, None)


def test_a_key_of_a_newer_release_is_left_out():
    """What is not known here does not stop a reader, and is not passed on."""
    newer = evaluation("binary") | {"weather": "fair"}
    newer["production"] = newer["production"] | {"weather": "fair"}
    assert "weather" not in str(record.plain(record.of_plain(newer)))


@pytest.mark.parametrize("change", [{"verdict": "accepted"}, {"reasons": "good"}, {"production": {}}, {"rows": None}])
def test_a_record_of_another_shape_is_damaged(tmp_path, change):
    """The error names the file, the place in it and the verb that makes it anew."""
    (tmp_path / record.NAME).write_text(json.dumps(evaluation("binary") | change), encoding="utf-8")
    with pytest.raises(StageError, match=rf"evaluation\.json is damaged: .*{next(iter(change))}") as told:
        record.read(tmp_path)
    assert told.value.then == "run `make evaluate` again"
