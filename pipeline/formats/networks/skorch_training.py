"""skorch nets: the types that they need, the rows that they set aside, and the trained network taken out of them."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import ProjectError
from pipeline.formats.networks import graph
from pipeline.formats.networks.answering import scale_of

SOME = 8  # rows of a first batch


class Answering(nn.Module):
    """The network of a net, and what turns its outputs into answers: (n, width) float64 -> (n, k) or (n, 1) float64.

    Numbers far beyond those of training are held at the lowest and highest seen, `REACH` standard deviations further out.
    """

    low: Tensor
    high: Tensor

    def __init__(self, network: nn.Module, nonlinearity: Any, seen: np.ndarray, classes: int, flat: bool = False):
        """`seen` are the rows of training (n, width); `flat` says that the nonlinearity takes outputs of shape (n,)."""
        super().__init__()
        self.network, self.nonlinearity, self.classes, self.flat = network, nonlinearity, classes, flat
        self.dtype = torch.float32
        mean, deviation, low, high = scale_of(seen, np.ones(seen.shape[1], dtype=bool))
        for name, limit in (("low", low), ("high", high)):
            self.register_buffer(name, torch.tensor(mean + limit * deviation, dtype=torch.float64))

    @property
    def width(self) -> int:
        """The numbers of a row."""
        return len(self.low)

    def forward(self, features: Tensor) -> Tensor:
        """The answers to what the steps before the net give."""
        held = torch.minimum(torch.maximum(features, self.low), self.high)
        outputs = self.network(torch.where(torch.isnan(features), features, held).to(self.dtype))
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        answers = self.nonlinearity(outputs.reshape(-1) if self.flat else outputs).to(torch.float64)
        return answers if self.classes else answers.reshape(-1, 1)


def first_look(net: Any, matrix: np.ndarray, y: np.ndarray, classes: int) -> tuple[Any, str]:
    """The untrained network as it would answer, and why it cannot be trained or served, in words; "" where nothing speaks against it.

    `matrix` (n, width) and `y` (n,) are the rows of training; a few of them are tried, forward and back.
    """
    some = np.linspace(0, len(y) - 1, SOME).astype(int)
    try:
        small = {"max_epochs": 1, "verbose": 0, "train_split": None, "callbacks": "disable", "batch_size": SOME}
        trial = _ready(net, matrix[some], **small)
        outputs = trial.forward(matrix[some].astype(np.float32))
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        made = taken_out(trial, matrix, classes)
        with torch.no_grad():
            answers = made(torch.from_numpy(matrix[some]))
        if wrong := _of_answers(answers, classes):
            return made, wrong
        trial.partial_fit(matrix[some].astype(np.float32), _target(net, y[some], outputs, classes))
    except Exception as error:
        return None, graph.fault_of_forward(error, matrix.shape[1], SOME)
    return made, ""


def train(net: Any, matrix: np.ndarray, y: np.ndarray, aside: np.ndarray, classes: int) -> Answering:
    """The net, trained on rows (n, width) and class positions or values (n,), as a module that answers.

    Where the net sets rows aside by itself (`train_split`), it is given those that `aside` says, shape (n,).
    """
    from skorch.dataset import Dataset
    from skorch.helper import predefined_split

    stops = net.train_split is not None and bool(aside.any())
    learned = ~aside if stops else np.ones(len(y), dtype=bool)
    # Batch normalisation cannot take a batch of one row. skorch takes this only before its net is made.
    one_left = learned.sum() % (net.batch_size if net.batch_size > 0 else len(y)) == 1
    made = _ready(net, matrix[:2], **({"iterator_train__drop_last": True} if one_left else {}))
    features = matrix.astype(np.float32)
    target = _target(net, y, made.forward(features[:2]), classes)
    if stops:
        made.set_params(train_split=predefined_split(Dataset(features[aside], target[aside])))
    made.set_params(callbacks=_with_a_stop(made.callbacks))
    made.fit(features[learned], target[learned])
    return taken_out(made, matrix, classes)


def _with_a_stop(callbacks: Any) -> Any:
    """The callbacks, and one that ends the training once the loss is no number: hours more would not mend it."""
    from skorch.callbacks import Callback

    class StopsAtNan(Callback):
        def on_epoch_end(self, net: Any, **_: Any) -> None:
            if not np.isfinite(net.history[-1, "train_loss"]):
                raise ProjectError(
                    f"the net's loss is no finite number any more in epoch {len(net.history)}",
                    "give the net a lower lr in project/model.py; or look in its module for a division by zero, or a logarithm of what may "
                    "be negative",
                )

    return callbacks if callbacks == "disable" else [*(callbacks or []), StopsAtNan()]


def taken_out(net: Any, seen: np.ndarray, classes: int) -> Answering:
    """The network of a net that has one, with what turns its outputs into answers; `seen` are the rows of training (n, width)."""
    return Answering(net.module_.eval(), net._get_predict_nonlinearity(), seen, classes, _is_binary(net)).eval()


def _ready(net: Any, rows: np.ndarray, **parameters: Any) -> Any:
    """A copy with a network, on the CPU, whose lazy layers have their widths."""
    from sklearn.base import clone

    made = clone(net).set_params(device="cpu", **parameters).initialize()
    with torch.no_grad():
        made.module_.eval()
        made.infer(torch.from_numpy(rows.astype(np.float32)))
    return made


def _target(net: Any, y: np.ndarray, outputs: Any, classes: int) -> np.ndarray:
    """Class positions or values in the type and shape that the net's criterion takes."""
    binary = _is_binary(net)
    if classes and not binary:
        return y.astype(np.int64)
    given = outputs[0] if isinstance(outputs, tuple) else outputs
    values = y.astype(np.float32)
    return values if binary or given.ndim == 1 else values[:, None]


def _is_binary(net: Any) -> bool:
    """Whether it is a net of one output: it flattens that, and takes 0.0 and 1.0 for classes."""
    return any(one.__name__ == "NeuralNetBinaryClassifier" for one in type(net).__mro__)


def _of_answers(answers: Tensor, classes: int) -> str:
    shape, needed = tuple(answers.shape), (SOME, classes or 1)
    if shape != needed:
        return f"the net gives shape {shape} for {SOME} rows, needed is {needed}: let its last layer have {needed[1]} outputs"
    if not torch.isfinite(answers).all():
        return "the net gives what is no finite number for ordinary rows"
    if classes and not torch.allclose(answers.sum(dim=1), torch.ones(SOME, dtype=torch.float64), atol=1e-4):
        return (
            "the net's answers are no probabilities, for they do not sum to one: give it criterion=nn.CrossEntropyLoss, or end its "
            "module with a softmax"
        )
    return ""
