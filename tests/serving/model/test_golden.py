"""The golden rows of a bundle, as a new image is tested with them."""

import pytest

from serving.model import golden
from tests.serving.bundles import make_bundle, read, seal, write


@pytest.mark.parametrize("kind", ["binary", "regression", "columns", "skops_frame"])
def test_golden_rows_are_answered_as_expected(kind, tmp_path, capsys):
    """A bundle of each format and task passes and reports the number of rows."""
    folder = make_bundle(kind, tmp_path / "bundle")
    assert golden.main(["--bundle", str(folder)]) == 0
    assert capsys.readouterr().out == "25 golden rows are answered as expected\n"


def test_other_answer_is_refused_with_the_difference(tmp_path, capsys):
    """An answer outside the tolerance ends with status 1 and one line."""
    folder = make_bundle("regression", tmp_path / "bundle")
    rows = read(folder, "golden.json")
    rows["expected"][0]["value"] += 1000
    write(folder, "golden.json", rows)
    seal(folder)
    assert golden.main(["--bundle", str(folder)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: its answer to a golden row differs by ") and said.count("\n") == 1


def test_damaged_model_fails_in_one_line(tmp_path, capsys):
    """A damaged model ends with status 1 and one line."""
    folder = make_bundle("binary", tmp_path / "bundle")
    (folder / "model.onnx").write_bytes(b"x")
    seal(folder)
    assert golden.main(["--bundle", str(folder)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: model.onnx cannot be loaded: ") and said.count("\n") == 1
