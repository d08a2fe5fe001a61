"""A PyTorch module: trained here, and served as one ONNX graph that holds scaler and network. The image holds no PyTorch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.errors import PortabilityError, ProjectError
from pipeline.formats.family import Forms, Training, classes_of
from pipeline.formats.networks import columns
from pipeline.formats.networks.columns import Columns
from pipeline.formats.onnx import forms

NAME = "PyTorch"
CLASS = "torch.nn.modules.module.Module"
_looked_at: set[tuple] = (
    set()
)  # networks that became a graph in this process: a search fits the same one again and again
ASK_SKORCH = "drop it in load() of project/data.py, or use a skorch net at the end of a pipeline with TargetEncoder(); docs/networks.md"


@dataclass(frozen=True)
class Network:
    """A trained network: its columns, and scaler, network and answers as one PyTorch module.

    `answering` computes in float64 where the network can, and it is what is judged. `fast` is the same in float32.
    """

    columns: Columns
    answering: Any
    fast: Any
    epochs: list[Any]


def takes(model: Any) -> bool:
    """Whether this is a PyTorch module, or one that was trained here."""
    return isinstance(model, Network) or CLASS in classes_of(model)


def title(model: Any) -> str:
    """The class of the module."""
    return type(model.answering.network if isinstance(model, Network) else model).__name__


def unfit(model: Any, dataset: Dataset) -> str:
    """Why this network cannot be trained on these data or served afterwards, in words; "" where nothing speaks against it."""
    from pipeline.formats.networks import first_look, graph, trainer

    features, y = dataset.features[~dataset.holdout], dataset.y[~dataset.holdout]
    learned = columns.learn(dataset.kinds, features)
    if wrong := columns.too_many(learned):
        return f"{wrong}: {ASK_SKORCH}"
    with trainer.repeatable(dataset.settings.train.seed):
        answering = _around(model, dataset, learned, features, y)
        some = _some(y)
        matrix = learned.matrix(features.iloc[some])
        if wrong := first_look.fault(answering, matrix, y[some]):
            return wrong
        size, most = (
            sum(one.nbytes for one in answering.network.parameters()) / 1e6,
            dataset.settings.gate.max_bundle_mb,
        )
        if size > most:
            return f"its weights are {size:.0f} MB, and [gate] max_bundle_mb allows {most:g}"
        look = (*first_look.identity(model), learned.width)
        if look in _looked_at:
            return ""
        try:
            exported = graph.export(answering, learned.width, "answers")
        except PortabilityError as error:
            return f"{error.what}: {error.then}"
        if wrong := first_look.fault_of_graph(answering, matrix, exported):
            return wrong
        _looked_at.add(look)
        return ""


def fit(model: Any, dataset: Dataset, training: Training) -> Network:
    """The network, trained as pipeline.toml [train.network] says; the module itself stays as it was.

    Raises ProjectError for what cannot be trained, and when the loss is no number any more.
    """
    from pipeline.formats.networks import answering as answers
    from pipeline.formats.networks import first_look, trainer

    settings = dataset.settings.train.network
    features, y = dataset.features.iloc[training.rows], dataset.y[training.rows]
    learned = columns.learn(dataset.kinds, features)
    matrix = learned.matrix(features)
    with trainer.repeatable(training.seed):
        answering = _around(model, dataset, learned, features, y)
        some = _some(y)
        if wrong := first_look.fault(answering, matrix[some], y[some]):
            raise ProjectError(
                wrong, "correct the network in project/model.py; docs/networks.md says what it must be like"
            )
        rows = trainer.rows_of(answering, matrix, y, training.weights)
        if settings.class_weights == "balanced" and dataset.classes:
            rows = trainer.balanced(rows, len(dataset.classes))
        aside = np.asarray(training.stop_on, dtype=bool)
        epochs = trainer.train(answering, rows.of(_mask(~aside)), rows.of(_mask(aside)), settings, training.seed)
    return Network(learned, answers.precise(answering) or answering, answering, epochs)


def answer(fitted: Network, dataset: Dataset, rows: pd.DataFrame) -> np.ndarray:
    """Probabilities (n, k) in the order of the classes, or values (n,), in float64."""
    from pipeline.formats.networks.answering import ask

    given = ask(fitted.answering, fitted.columns.matrix(rows))
    return given if dataset.classes else given.ravel()


def untrusted(fitted: Network, trusted: list[str]) -> list[str]:
    """None: what is stored of it is a graph and tensors."""
    return []


def formats(fitted: Network, dataset: Dataset) -> Iterator[Forms]:
    """ONNX alone: the image holds no PyTorch."""
    yield _graphs(fitted, dataset)


def _graphs(fitted: Network, dataset: Dataset) -> Forms:
    """In float32, which is smaller and faster, and in float64, which answers alike to the last digit."""
    from pipeline.formats.networks import graph

    output = "probabilities" if dataset.classes else "values"
    part = {
        "layout": "columns" if fitted.columns.has_text else "matrix",
        "dtype": "float64",
        "label": output,
        "probabilities": output if dataset.classes else None,
    }
    for module in (fitted.fast, fitted.answering):
        try:
            model = graph.export(module, fitted.columns.width, output)
        except PortabilityError as error:
            yield error
            continue
        if fitted.columns.has_text:
            columns.put_in_front(model, fitted.columns)
        yield forms.candidate(graph.to_bytes(model), part)


def history(fitted: Network) -> dict[str, list[float]]:
    """The mean loss of each epoch, on the rows that were learned from and, where there are some, on those set aside."""
    losses = {
        "loss_training": [one.learned for one in fitted.epochs],
        "loss_stopping": [one.aside for one in fitted.epochs],
    }
    return {name: values for name, values in losses.items() if np.isfinite(values).all()}


def log(fitted: Network, dataset: Dataset, model_id: str, signature: Any, sample: pd.DataFrame) -> Any:
    """Log the network with its scaler in PyTorch's own format: an archive of a graph and of tensors, of which one is saved by torch.save.

    It takes the matrix, so the signature is that of a tensor; text is one column for each category, as docs/networks.md says.
    """
    import mlflow
    from mlflow.models import infer_signature

    from pipeline.formats.networks.answering import ask

    matrix = fitted.columns.matrix(sample)
    if len(matrix) < 2:
        matrix = np.repeat(matrix, 2, axis=0)
    return mlflow.pytorch.log_model(
        fitted.answering,
        model_id=model_id,
        serialization_format="pt2",
        signature=infer_signature(matrix, ask(fitted.answering, matrix)),
        input_example=matrix,
        pip_requirements=requirements(),
    )


def requirements() -> list[str]:
    """The packages with which the logged network is loaded, without what tells builds apart: 2.13.0, not 2.13.0+cpu."""
    from importlib.metadata import version

    return [f"{name}=={version(name).split('+')[0]}" for name in ("torch", "numpy")]


def _around(model: Any, dataset: Dataset, learned: Columns, features: pd.DataFrame, y: np.ndarray) -> Any:
    """A copy of the network with scaler and answers around it."""
    import copy

    from pipeline.formats.networks.answering import Answering, scale_of

    target = (0.0, 1.0) if dataset.classes else (float(y.mean()), float(y.std()) or 1.0)
    scale = scale_of(learned.matrix(features), learned.of_numbers)
    return Answering(copy.deepcopy(model).float(), scale, len(dataset.classes), target)


def _some(y: np.ndarray) -> np.ndarray:
    from pipeline.formats.networks.first_look import SOME

    return np.linspace(0, len(y) - 1, SOME).astype(int)


def _mask(chosen: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(chosen)
