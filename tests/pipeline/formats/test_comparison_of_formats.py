"""Formats side by side: what each file answers after it was opened, what cannot be stored and why, and when the table is shown."""

import numpy as np
import pytest
from msgspec import to_builtins
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.artifacts import write_json
from pipeline.errors import StageError
from pipeline.evaluation.figures import to_png
from pipeline.evaluation.record import FORMATS, FormatRow, Formats
from pipeline.formats.comparison import formats_page, measuring, opening
from pipeline.formats.comparison.writing import Absent, Stored, every_format
from tests.pipeline.formats.test_choose import chosen
from tests.pipeline.formats.test_onnx_model import fitted, made


def test_every_file_answers_like_the_trained_model(tmp_path):
    """Opened again, each format of a network of scikit-learn answers the hold-out alike, those in int8 nearly; PyTorch's formats are not for it."""
    dataset = made("binary")
    model = make_pipeline(StandardScaler(), MLPClassifier((16,), max_iter=30, random_state=0))
    served, _, contract = chosen(model, dataset)
    model, trained = fitted(model, dataset)
    found = {one.name: one for one in every_format(model, dataset, served.files, contract, trained)}
    absent = {name: one.why for name, one in found.items() if isinstance(one, Absent)}
    assert absent == dict.fromkeys(("TorchScript", ".pt2"), "for networks of PyTorch only")
    held = dataset.features[dataset.holdout]
    for one in found.values():
        if isinstance(one, Stored):
            (tmp_path / "file").write_bytes(one.content)
            model = opening.opened(one.how, tmp_path / "file")
            answers = measuring.as_answers(one.ask(model, one.feed(held)), trained)
            off = np.abs(answers - trained)
            assert off.mean() < 0.02 if "int8" in one.name else off.max() < 1e-5, one.name
    assert [name for name, one in found.items() if getattr(one, "served", False)] == ["ONNX"]


def test_what_has_no_layer_is_not_quantised():
    """A linear model has no int8, and the reason is said."""
    dataset = made("binary")
    model, trained = fitted(LogisticRegression(), dataset)
    served, _, contract = chosen(LogisticRegression(), dataset)
    found = {one.name: one for one in every_format(model, dataset, served.files, contract, trained)}
    assert "no layer with weights" in found["ONNX int8, static"].why


def test_a_fresh_process_says_how_long_it_took(tmp_path):
    """It opens the file twice: with imports and without."""
    dataset = made("binary")
    model, trained = fitted(LogisticRegression(), dataset)
    served, _, contract = chosen(LogisticRegression(), dataset)
    one = next(iter(every_format(model, dataset, served.files, contract, trained)))
    (tmp_path / "file").write_bytes(one.content)
    assert all(took > 0 for took in measuring._fresh(one, tmp_path / "file"))


def test_another_model_is_not_compared():
    """Answers that are not those of build/model end it."""
    with pytest.raises(StageError, match=r"up to 0\.5"):
        measuring.same(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]]), 1e-5)


def comparison(digest: str = "d") -> Formats:
    """ONNX that is served, pickle, and a format that there is not."""
    figures = {"size": 1500, "cold_ms": 250.0, "load_ms": 2.0, "answer_ms": [0.002, 0.02, 1.5], "difference": 1e-7}
    rows = [
        FormatRow(name="pickle", safe="no", **figures),
        FormatRow(name="ONNX", safe="yes", served=True, **figures),
        FormatRow(name=".pt2", missing="for networks of PyTorch only"),
    ]
    return Formats(digest=digest, model="M", rows=9, made_at="2026-12-01", cores=2, processor="x86_64", python="3", libraries={"numpy": "2"}, shared=True, formats=rows)  # fmt: skip


def test_only_a_comparison_of_this_very_model_is_shown(tmp_path):
    """Of another digest, and where there is none, nothing is said."""
    assert formats_page.of_model(tmp_path, "d") is None
    write_json(tmp_path / FORMATS, to_builtins(comparison()))
    assert formats_page.of_model(tmp_path, "d") == comparison()
    assert formats_page.of_model(tmp_path, "other") is None


def test_the_table_is_markdown_and_a_picture():
    """The served format is strong, what is missing has its reason, and that the machine was shared is said."""
    text = formats_page.markdown(comparison())
    assert "| **ONNX** | 1.5 | 250 | 2 | 2 | 20 | 1,500 | 1.0e-07 | yes |" in text
    assert "- Not as .pt2: for networks of PyTorch only." in text and "did other work too" in text
    assert to_png(formats_page.draw(comparison())).startswith(b"\x89PNG")
