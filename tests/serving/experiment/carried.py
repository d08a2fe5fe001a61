"""Bundles that carry an experiment: a model and, beside it, a challenger that answers otherwise."""

import json
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from serving.experiment.experiment import CHALLENGER, FILE
from serving.model.bundle import EXPERIMENT
from tests.serving.bundles import make_bundle, read, seal


def make_experiment(
    folder: Path, mode: str, kind: str = "binary", share: float = 1.0, name: str = "new-trees", **more: Any
) -> Path:
    """A bundle of this kind, version 3, whose challenger is version 4: the same graph with another bias.

    `more` are other keys of experiment.json.
    """
    make_bundle(kind, folder)
    challenger = folder / EXPERIMENT / CHALLENGER
    make_bundle(kind, challenger, version="4")
    _shift(challenger / "model.onnx")
    seal(challenger)
    release = read(challenger, "release.json")
    about = {"name": name, "mode": mode, "share": share, "challenger": "4", "challenger_digest": release["digest"]}
    about |= more
    (folder / EXPERIMENT / FILE).write_text(json.dumps(about), encoding="utf-8")
    return folder


def _shift(file: Path) -> None:
    """Add 1 to the graph's bias."""
    model = onnx.load(file)
    bias = next(one for one in model.graph.initializer if one.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, "bias"))
    onnx.save(model, file)
