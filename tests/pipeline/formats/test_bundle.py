"""The bundle: what it holds, and that nothing in it can change unnoticed."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.artifacts import write_json
from pipeline.data import drift
from pipeline.data.dataset import take_apart
from pipeline.errors import StageError
from pipeline.formats import bundle
from pipeline.settings import Settings

FILES = ("code/project/model.py", "contract.json", "golden.json", "model.skops", "reference.json")


def made(task: str = "binary"):
    """A data set with every type of column, some cells empty."""
    rng = np.random.default_rng(5)
    rows = 200
    frame = pd.DataFrame(
        {
            "id": range(rows),
            "size": np.where(rng.random(rows) < 0.2, np.nan, rng.normal(10, 2, rows)),
            "count": rng.integers(0, 5, rows),
            "member": rng.random(rows) < 0.5,
            "town": np.where(rng.random(rows) < 0.2, None, rng.choice(["Köln", "Paris"], rows)),
            "target": rng.choice(["no", "yes"], rows) if task == "binary" else rng.normal(size=rows),
        }
    )
    data = {"task": task, "id": "id", "target": "target"} | ({"positive": "yes"} if task == "binary" else {})
    gate = {"metric": "x", "margin": 0.0}
    split = {"holdout": 0.4, "salt": "x"}
    return take_apart(
        frame,
        Settings.model_validate({"name": "m", "data": data, "split": split, "train": {"seed": 1}, "gate": gate}),
    )


@pytest.fixture
def content(tmp_path):
    """A folder with content files."""
    folder = tmp_path / "content"
    folder.mkdir()
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f'{{"{name}": 1}}')
    (folder / bundle.PREDICTIONS).write_text("stays where it is")
    return folder


def test_digest_depends_on_every_content_file(content):
    """A changed byte in any content file changes the digest; a missing file is named."""
    before = bundle.digest(content)
    for name in FILES:
        text = (content / name).read_text()
        (content / name).write_text(text + " ")
        assert bundle.digest(content) != before, name
        (content / name).write_text(text)
    assert bundle.digest(content) == before
    (content / "golden.json").unlink()
    with pytest.raises(StageError, match=r"golden\.json is missing"):
        bundle.digest(content)


def test_assembled_bundle_verifies_and_tells_its_release(content, tmp_path):
    """What was assembled verifies, and says which version it is."""
    bundle.assemble(content, tmp_path / "bundle", {"name": "m", "version": "3"})
    assert bundle.verify(tmp_path / "bundle") == {"name": "m", "version": "3"}
    assert bundle.size_mb(tmp_path / "bundle") == bundle.size_mb(content) > 0


@pytest.mark.parametrize("name", [*FILES, "release.json"])
def test_flipped_bit_is_named(content, tmp_path, name):
    """One flipped bit in any file of a bundle is refused by the file's name."""
    folder = tmp_path / "bundle"
    bundle.assemble(content, folder, {"version": "3"})
    raw = bytearray((folder / name).read_bytes())
    raw[3] ^= 1
    (folder / name).write_bytes(raw)
    with pytest.raises(StageError, match=name):
        bundle.verify(folder)


def test_missing_and_unexpected_files_are_named(content, tmp_path):
    """A bundle holds exactly the files of its manifest."""
    folder = tmp_path / "bundle"
    bundle.assemble(content, folder, {"version": "3"})
    (folder / "extra.pkl").write_text("x")
    with pytest.raises(StageError, match=r"extra\.pkl is unexpected"):
        bundle.verify(folder)
    (folder / "extra.pkl").unlink()
    (folder / "model.skops").unlink()
    with pytest.raises(StageError, match=r"model\.skops is missing"):
        bundle.verify(folder)


def test_the_folder_of_an_experiment_is_no_part_of_a_bundle(content, tmp_path):
    """A challenger beside the model has a manifest of its own, and such a folder elsewhere is unexpected."""
    folder = tmp_path / "bundle"
    bundle.assemble(content, folder, {"version": "3"})
    before = (folder / "manifest.json").read_bytes()
    bundle.assemble(content, folder / "experiment" / "challenger", {"version": "4"})
    assert bundle.verify(folder) == {"version": "3"}
    assert bundle.verify(folder / "experiment" / "challenger") == {"version": "4"}
    bundle.seal(folder)
    assert (folder / "manifest.json").read_bytes() == before
    (folder / "code" / "experiment").mkdir(parents=True, exist_ok=True)
    (folder / "code" / "experiment" / "extra.py").write_text("")
    with pytest.raises(StageError, match=r"code/experiment/extra\.py is unexpected"):
        bundle.verify(folder)


def test_model_hash_is_of_the_model_and_its_code(content):
    """Another contract leaves the hash of the model alone, another line of its code does not; a folder has one model."""
    before = bundle.model_hash(content)
    (content / "contract.json").write_text("{}")
    assert bundle.model_hash(content) == before
    (content / "code/project/model.py").write_text("{}")
    assert bundle.model_hash(content) != before
    (content / "model.onnx").write_text("x")
    with pytest.raises(StageError, match="not alone"):
        bundle.digest(content)


def test_contract_describes_every_input():
    """Type, nullability, declared range and values, range seen and an example of each column."""
    dataset = made()
    ranges = {"count": {"minimum": 0, "maximum": 9}, "size": {"minimum": None, "exclusive_minimum": -1e9}}
    checks = {"ranges": ranges, "values": {"town": ["Köln", "Paris"]}}
    made_contract = bundle.contract(dataset, {"format": "onnx", "onnx": {"layout": "columns"}}, checks, "abc", 1e-5)
    inputs = {field["name"]: field for field in made_contract["inputs"]}
    assert {name: field["type"] for name, field in inputs.items()} == {
        "size": "number", "count": "integer", "member": "boolean", "town": "text",
    }  # fmt: skip
    assert {name for name, field in inputs.items() if field["nullable"]} == {"size", "town"}
    assert (inputs["count"]["minimum"], inputs["count"]["maximum"]) == (0, 9)
    assert (inputs["size"]["minimum"], inputs["size"]["maximum"]) == (None, None)
    assert inputs["size"]["exclusive_minimum"] == -1e9 and "exclusive_minimum" not in inputs["count"]
    assert inputs["town"]["values"] == ["Köln", "Paris"]
    assert inputs["town"]["observed"] == {"values": ["Köln", "Paris"]} and inputs["member"]["observed"] is None
    training = dataset.features["size"][~dataset.holdout]
    assert inputs["size"]["observed"] == {"minimum": training.min(), "maximum": training.max()}
    assert type(inputs["member"]["example"]) is bool and type(inputs["count"]["example"]) is int
    assert made_contract["classes"] == ["no", "yes"] and made_contract["data_hash"] == dataset.hash


@pytest.mark.parametrize(
    ("texts", "listed"),
    [
        (["b", "a", ""] * 10, ["a", "b"]),
        ([f"{number:02}" for number in range(50)] * 5, [f"{number:02}" for number in range(50)]),
        ([f"{number:02}" for number in range(51)] * 5, None),
        (["one of its kind", "another", *["a"] * 8], None),
        (["a", "x" * 101] * 10, None),
        ([""] * 10, None),
    ],
    ids=["categories", "fifty", "fifty-one", "names", "long", "nothing"],
)
def test_texts_are_listed_only_where_they_are_categories(texts, listed):
    """The contract lists at most 50 texts, sorted, and none that stand in too few rows: they could be somebody's name."""
    frame = pd.DataFrame({"id": range(len(texts)), "word": texts, "y": np.arange(len(texts), dtype=float)})
    data = {"task": "regression", "id": "id", "target": "y"}
    given = {"name": "m", "data": data, "split": {"holdout": 0.3, "salt": "x"}, "train": {"seed": 1}}
    dataset = take_apart(frame, Settings.model_validate(given | {"gate": {"metric": "x", "margin": 0.0}}))
    dataset.holdout[:] = False
    checks = {"ranges": {}, "values": {}}
    assert bundle._input(dataset, "word", checks, "a")["observed"] == (listed and {"values": listed})


def test_golden_rows_are_of_the_holdout_and_carry_the_trained_answers():
    """Golden rows are hold-out rows as a client would send them, with label and probabilities of the trained model."""
    dataset = made()
    chance = np.random.default_rng(1).random(dataset.holdout.sum())
    golden = bundle.golden(dataset, np.stack([1 - chance, chance], axis=1), 1e-5)
    assert 24 <= len(golden["inputs"]) == len(golden["expected"]) <= 32
    json.dumps(golden, allow_nan=False)
    held = bundle.golden_inputs(dataset, np.flatnonzero(dataset.holdout))
    for row, answer in zip(golden["inputs"], golden["expected"], strict=True):
        places = [place for place, other in enumerate(held) if other == row]
        assert answer["probabilities"][1] in chance[places]
        assert answer["label"] == ("yes" if answer["probabilities"][1] > 0.5 else "no")


def test_golden_rows_include_the_least_certain_one():
    """The row nearest to the decision is among the golden ones, unless it lies on the very edge."""
    dataset = made()
    chance = np.linspace(0.9, 0.99, dataset.holdout.sum())
    chance[7], chance[8] = 0.501, 0.5
    expected = bundle.golden(dataset, np.stack([1 - chance, chance], axis=1), 1e-5)["expected"]
    answers = [answer["probabilities"][1] for answer in expected]
    assert 0.501 in answers and 0.5 not in answers


def test_golden_rows_of_a_regression_hold_the_extremes():
    """For values the smallest and the largest answer are among the golden ones."""
    dataset = made("regression")
    values = np.random.default_rng(2).normal(size=dataset.holdout.sum())
    answers = [answer["value"] for answer in bundle.golden(dataset, values, 1e-5)["expected"]]
    assert min(answers) == values.min() and max(answers) == values.max()


def test_drift_reference_holds_shares_that_add_up(tmp_path):
    """Each column's shares add up to one over its present cells, and empty cells are counted apart."""
    dataset = made()
    chance = np.random.default_rng(1).random(dataset.holdout.sum())
    reference = drift.reference(dataset, ~dataset.holdout, np.stack([1 - chance, chance], axis=1), {})
    write_json(tmp_path / "reference.json", reference)
    for name, column in reference["features"].items():
        shares = column["shares"]
        assert sum(shares.values() if isinstance(shares, dict) else shares) == pytest.approx(1, abs=1e-4), name
    training = dataset.features[~dataset.holdout]
    assert reference["features"]["size"]["missing"] == pytest.approx(training["size"].isna().mean(), abs=1e-6)
    assert reference["features"]["town"]["missing"] == pytest.approx((training["town"] == "").mean(), abs=1e-6)
    assert len(reference["features"]["size"]["shares"]) == 100
    assert reference["features"]["size"]["shares"] == pytest.approx([0.01] * 100, abs=0.01)
    assert set(reference["prediction"]) == {"no", "yes"}


def test_drift_reference_of_an_empty_column_is_empty():
    """A column without any value in training has no bins, and its missing share is one."""
    dataset = made("regression")
    dataset.features["size"] = np.nan
    reference = drift.reference(dataset, ~dataset.holdout, np.zeros(dataset.holdout.sum()), {})
    assert reference["features"]["size"] == {"edges": [], "shares": [], "missing": 1.0}


def test_drift_reference_knows_how_the_model_did_on_the_hold_out():
    """Of a classifier: classes in training, losses, metrics that have a value, and the accuracy that the probabilities promise."""
    dataset = made()
    chance = np.random.default_rng(1).random(dataset.holdout.sum())
    y_pred = np.stack([1 - chance, chance], axis=1)
    reference = drift.reference(dataset, ~dataset.holdout, y_pred, {"accuracy": 0.5, "roc_auc": np.nan})
    training = dataset.target[~dataset.holdout]
    assert reference["prediction_rows"] == dataset.holdout.sum()
    assert reference["target"] == {"shares": {name: pytest.approx((training == name).mean()) for name in ("no", "yes")}}
    assert reference["metrics"] == {"accuracy": 0.5}
    assert reference["expected_accuracy"] == pytest.approx(np.maximum(chance, 1 - chance).mean(), abs=1e-6)
    loss = -np.log(y_pred[np.arange(len(chance)), dataset.y[dataset.holdout]])
    told = {name: reference["loss"][name] for name in ("mean", "deviation", "minimum", "maximum")}
    assert told == pytest.approx(dict(zip(told, (loss.mean(), loss.std(), loss.min(), loss.max()), strict=True)))


def test_one_row_in_five_is_a_surprise():
    """Of a regression the reference tells, by the prediction, from which absolute error on a row is one of the worst fifth."""
    dataset = made("regression")
    y_true = dataset.y[dataset.holdout]
    y_pred = y_true + np.random.default_rng(1).normal(size=len(y_true)) * (1 + (y_true > 0))
    reference = drift.reference(dataset, ~dataset.holdout, y_pred, {})
    surprise = reference["surprise"]
    assert "expected_accuracy" not in reference and len(surprise["limits"]) == len(surprise["edges"]) + 1
    limits = np.array(surprise["limits"])[np.searchsorted(surprise["edges"], y_pred, side="right")]
    assert (np.abs(y_true - y_pred) > limits).mean() == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_background_rows_are_of_the_training_side_in_proportion(task):
    """As many as there may be, drawn with the seed, each class as often as in training, the values from low to high."""
    dataset = made(task)
    drawn = bundle.background(dataset)["rows"]
    assert len(drawn) == bundle.BACKGROUND_ROWS and drawn == bundle.background(dataset)["rows"]
    training = bundle.golden_inputs(dataset, np.flatnonzero(~dataset.holdout))
    places = [training.index(row) for row in drawn if row[0] is not None]  # without a size some rows are alike
    y = dataset.y[~dataset.holdout]
    assert len(set(places)) == len(places) > 30
    assert (y[places] == np.sort(y[places])).all()
    assert abs(y[places].mean() - y.mean()) < 0.1


def test_background_rows_are_content_where_there_are_any(content, tmp_path):
    """They change the digest and travel in the bundle; content of before is as it was."""
    before = bundle.digest(content)
    write_json(content / bundle.BACKGROUND, {"rows": []})
    assert bundle.digest(content) != before
    bundle.assemble(content, tmp_path / "bundle", {"version": "3"})
    assert (tmp_path / "bundle" / bundle.BACKGROUND).is_file()
