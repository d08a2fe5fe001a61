"""A skorch net, alone or at the end of a scikit-learn pipeline: served as one ONNX graph of the steps before it and the network."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.errors import PortabilityError, ProjectError
from pipeline.formats import sklearn_model, trusted_types
from pipeline.formats.families.torch_network import requirements
from pipeline.formats.family import Forms, Training, classes_of
from pipeline.formats.onnx import conversion, forms

NAME = "skorch"
CLASS = "skorch.net.NeuralNet"
_looked_at: set[tuple] = set()  # nets that became a graph in this process: a search fits the same one again and again
GUIDE = "docs/networks.md has a pipeline that works"


@dataclass(frozen=True)
class Net:
    """A trained net: the fitted steps before it (None where there are none), and network and answers as one PyTorch module.

    `answering` computes in float64 where the network can, and it is what is judged. `fast` is the same in float32.
    """

    name: str
    before: Any
    names: list[str]
    answering: Any
    fast: Any


def takes(model: Any) -> bool:
    """Whether this is a skorch net or a pipeline that ends in one, or one that was trained here."""
    return isinstance(model, Net) or CLASS in classes_of(_apart(model)[1])


def title(model: Any) -> str:
    """The class of the net."""
    return model.name if isinstance(model, Net) else type(_apart(model)[1]).__name__


def unfit(model: Any, dataset: Dataset) -> str:
    """Why this net cannot be trained on these data or served afterwards, in words; "" where nothing speaks against it."""
    from pipeline.formats.networks import first_look, skorch_training, trainer

    before, net = _apart(model)
    texts = [name for name, kind in dataset.kinds.items() if kind == "text"]
    if before is None and texts:
        return f"the column {texts[0]!r} is text, and the net takes numbers: put OneHotEncoder before it in a pipeline; {GUIDE}"
    features, y = dataset.features[~dataset.holdout], dataset.y[~dataset.holdout]
    with trainer.repeatable(dataset.settings.train.seed):
        steps, matrix, wrong = _before(before, features, y)
        if wrong:
            return wrong
        made, wrong = skorch_training.first_look(net, matrix, y, len(dataset.classes))
        if wrong:
            return wrong
        look = (
            type(net),
            *first_look.identity(made.network),
            repr(made),
            made.width,
            str(dataset.kinds),
            _in_full(before),
        )
        if look in _looked_at:
            return ""
        problems = []
        for form in _graphs(Net("", steps, list(dataset.kinds), made, made), dataset):
            if not isinstance(form, PortabilityError):
                _looked_at.add(look)
                return ""
            problems.append(form)
    reasons = "; ".join(dict.fromkeys(one.what for one in problems))
    return f"{reasons}; {problems[0].then}"


def fit(model: Any, dataset: Dataset, training: Training) -> Net:
    """The net, trained as its own parameters say; where it sets rows aside, those are the ones that every model sets aside here.

    Raises ProjectError for what cannot be trained.
    """
    from pipeline.formats.networks import answering, skorch_training, trainer

    if training.weights is not None:
        raise ProjectError(
            "a skorch net takes no sample weights",
            "return the PyTorch module itself in build() of project/model.py: it is trained with them; or remove weight from [data]",
        )
    before, net = _apart(model)
    features, y = dataset.features.iloc[training.rows], dataset.y[training.rows]
    with trainer.repeatable(training.seed):
        steps, matrix, wrong = _before(before, features, y)
        if wrong:
            raise ProjectError(wrong, f"correct project/model.py; {GUIDE}")
        fast = skorch_training.train(net, matrix, y, np.asarray(training.stop_on, dtype=bool), len(dataset.classes))
    return Net(type(net).__name__, steps, list(dataset.kinds), answering.precise(fast) or fast, fast)


def answer(fitted: Net, dataset: Dataset, rows: pd.DataFrame) -> np.ndarray:
    """Probabilities (n, k) in the order of the classes, or values (n,), in float64."""
    from pipeline.formats.networks.answering import ask

    given = ask(fitted.answering, _matrix(fitted.before, rows[fitted.names]))
    return given if dataset.classes else given.ravel()


def untrusted(fitted: Net, trusted: list[str]) -> list[str]:
    """The types in the steps before the net that neither skops nor these settings trust."""
    if fitted.before is None:
        return []
    return trusted_types.beyond(sklearn_model.types_beyond(sklearn_model.dumps(fitted.before)), trusted)


def formats(fitted: Net, dataset: Dataset) -> Iterator[Forms]:
    """ONNX alone: the image holds no PyTorch."""
    yield _graphs(fitted, dataset)


def history(fitted: Any) -> dict[str, list[float]]:
    """Nothing: it is not kept."""
    return {}


def log(fitted: Net, dataset: Dataset, model_id: str, signature: Any, sample: pd.DataFrame) -> Any:
    """Log the network in PyTorch's own format, a graph and tensors, and the steps before it in that of skops.

    What is logged takes what the steps give, so the signature is that of a tensor; `extra_files/steps.skops` are the steps.
    """
    import tempfile
    from pathlib import Path

    import mlflow
    from mlflow.models import infer_signature

    from pipeline.formats.networks.answering import ask

    matrix = _matrix(fitted.before, sample[fitted.names])
    if len(matrix) < 2:
        matrix = np.repeat(matrix, 2, axis=0)
    with tempfile.TemporaryDirectory() as work:
        extra = []
        if fitted.before is not None:
            (Path(work) / "steps.skops").write_bytes(sklearn_model.dumps(fitted.before))
            extra = [f"{work}/steps.skops"]
        return mlflow.pytorch.log_model(
            fitted.answering,
            model_id=model_id,
            serialization_format="pt2",
            signature=infer_signature(matrix, ask(fitted.answering, matrix)),
            input_example=matrix,
            extra_files=extra,
            pip_requirements=requirements(),
        )


def _apart(model: Any) -> tuple[Any, Any]:
    """The steps before the net as a pipeline, or None; and the net."""
    steps = getattr(model, "steps", None)
    if not isinstance(steps, list) or not steps:
        return None, model
    return (model[:-1] if len(steps) > 1 else None), steps[-1][1]


def _before(before: Any, features: pd.DataFrame, y: np.ndarray) -> tuple[Any, np.ndarray, str]:
    """The fitted steps, what they make of the rows (n, width), and what is wrong with it in words, or ""."""
    from sklearn.base import clone

    steps = None if before is None else clone(before).fit(features, y)
    matrix = _matrix(steps, features)
    wrong = ""
    if matrix.ndim != 2:
        wrong = f"the steps before the net give shape {matrix.shape}; needed are rows of numbers"
    elif not np.isfinite(matrix).all():
        rows = int((~np.isfinite(matrix)).any(axis=1).sum())
        wrong = (
            f"the net is given empty cells or infinite numbers in {rows} of {len(matrix)} rows, and would answer them with NaN: put "
            f"SimpleImputer before it in a pipeline; {GUIDE}"
        )
    return steps, matrix, wrong


def _in_full(before: Any) -> str:
    """The steps with all their parameters; a pipeline's own repr() leaves out the middle of a long text."""
    return "" if before is None else before.__repr__(N_CHAR_MAX=1_000_000)


def _matrix(steps: Any, rows: pd.DataFrame) -> np.ndarray:
    """What the steps make of feature rows, as float64 (n, width)."""
    given = rows if steps is None else steps.transform(rows)
    if hasattr(given, "toarray"):
        given = given.toarray()
    return np.asarray(given, dtype=np.float64)


def _graphs(fitted: Net, dataset: Dataset) -> Forms:
    """The steps before it and the network as one graph, in float32 and in float64."""
    from pipeline.formats.networks import graph

    output = "probabilities" if dataset.classes else "values"
    names = {"label": output, "probabilities": output if dataset.classes else None}
    width = fitted.answering.width

    @cache
    def network(dtype: str) -> Any:  # each takes seconds, and float64 is rarely asked for
        return graph.export(fitted.fast if dtype == "float32" else fitted.answering, width, output)

    if fitted.before is None:
        for dtype in ("float32", "float64"):
            try:
                model = network(dtype)
            except PortabilityError as error:
                yield error
                continue
            yield forms.candidate(graph.to_bytes(model), {"layout": "matrix", "dtype": "float64", **names})
        return
    layouts = [one for one in forms.FORMS if one[0] == "columns" or "text" not in dataset.kinds.values()]
    try:
        with conversion.converting(fitted.before, dataset.kinds, False) as convert:
            for layout, dtype in layouts:
                try:
                    steps, part = convert(layout, dtype)
                except conversion.UnendedError:
                    raise
                except PortabilityError as error:
                    yield _of_steps(error)
                    continue
                try:
                    joined = graph.join(steps, str(part["label"]), network(dtype))
                except PortabilityError as error:
                    yield error
                    continue
                yield forms.candidate(graph.to_bytes(joined), {"layout": layout, "dtype": dtype, **names})
    except PortabilityError as error:
        yield _of_steps(error)


def _of_steps(error: PortabilityError) -> PortabilityError:
    return type(error)(
        f"the steps before the net: {error.what}",
        "use transformers that skl2onnx supports before it in project/model.py",
    )
