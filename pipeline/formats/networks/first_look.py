"""A network tried before it is trained: one small batch forward and back, and its graph. An hour later is too late for these faults."""

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.errors import PortabilityError
from pipeline.formats.networks import graph, trainer
from pipeline.formats.networks.answering import Answering, ask

SOME = 8  # rows: as many as a batch, but never one


def identity(module: nn.Module) -> tuple:
    """What decides which graph it becomes, but for its weights: classes, layers and plain attributes of it and all modules within."""
    inside = list(module.modules())
    plain = [str({key: value for key, value in vars(one).items() if not key.startswith("_")}) for one in inside]
    return (*map(type, inside), repr(module), *plain)


def fault(answering: Answering, matrix: np.ndarray, y: np.ndarray) -> str:
    """Why this network cannot be trained and served, in words; "" where nothing speaks against it.

    `matrix` (n, columns) and `y` (n,) are a few rows of training. The network itself is not changed, but for lazy layers, which get
    their widths.
    """
    width = matrix.shape[1]
    try:
        outputs = _outputs(answering, matrix)
    except Exception as error:
        return graph.fault_of_forward(error, width, SOME)
    if wrong := _of_outputs(outputs, len(matrix), answering.classes):
        return wrong
    if answering.classes and _squashed(answering, matrix):
        return "forward() returns probabilities; return the logits, without the sigmoid at the end, which is added here"
    alone = torch.cat([_outputs(answering, matrix[[place]]) for place in range(2)])
    if not torch.allclose(alone, outputs[:2], rtol=1e-3, atol=1e-4):
        return "the network answers a row alone otherwise than among others: in forward(), leave out what is computed over the rows"
    if not any(one.requires_grad for one in answering.network.parameters()):
        return "the network has nothing to learn: it has no parameters, or all of them are frozen"
    try:
        _backward(copy.deepcopy(answering), matrix, y)
    except Exception as error:
        return f"the network cannot be trained: {graph.why(error)}"
    return ""


def fault_of_graph(answering: Answering, matrix: np.ndarray, model: Any) -> str:
    """Where the graph of an untrained network answers otherwise than the network, in words, or "": alone and with other rows."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(graph.to_bytes(model), providers=["CPUExecutionProvider"])
        for rows in (matrix[:1], matrix):
            expected = ask(answering, rows)
            off = float(
                np.abs(session.run(None, {graph.INPUT: rows})[0] - expected).max() / max(1.0, np.abs(expected).max())
            )
            if not off <= 1e-3:
                return f"the graph of the network answers {len(rows)} rows otherwise than the network itself, by up to {off:.2g}"
    except PortabilityError:
        raise
    except Exception as error:
        return f"ONNX Runtime does not run the network: {graph.why(error)}"
    return ""


def _outputs(answering: Answering, matrix: np.ndarray) -> Any:
    answering.eval()
    with torch.no_grad():  # lazy layers cannot get their weights in inference mode
        return answering.network(answering.standardised(torch.from_numpy(matrix)))


def _squashed(answering: Answering, matrix: np.ndarray) -> bool:
    """Whether all outputs lie between 0 and 1 whatever the network is given, as behind a sigmoid: also far away, on either side."""
    near = answering.standardised(torch.from_numpy(matrix))
    with torch.no_grad():
        given = torch.cat([answering.network(by * near).flatten() for by in (1, 1e3, -1e3)])
    return bool(((given >= 0) & (given <= 1)).all()) and bool(given.std() > 1e-3)


def _backward(answering: Answering, matrix: np.ndarray, y: np.ndarray) -> None:
    rows = trainer.rows_of(answering, matrix, y, None)
    answering.network.train()
    trainer.loss_of(answering.network, rows, answering.classes).backward()


def _of_outputs(outputs: Any, rows: int, classes: int) -> str:
    if not isinstance(outputs, torch.Tensor):
        return f"forward() returns {type(outputs).__name__}, not one tensor"
    shape = tuple(outputs.shape)
    allowed: list[tuple[int, ...]] = [(rows, classes)] if classes else []
    if classes <= 2:
        allowed += [(rows,), (rows, 1)]
    if shape not in allowed:
        needed = f"({rows}, {classes}), a logit for each class" if classes else f"({rows}, 1), a value for each row"
        return f"forward() returns shape {shape} for {rows} rows; needed is {needed}"
    if not outputs.is_floating_point():
        return f"forward() returns {outputs.dtype}, not floating-point numbers"
    if not torch.isfinite(outputs).all():
        return "forward() returns what is no finite number for ordinary rows, before any training"
    if classes and shape == (rows, classes) and bool((outputs >= 0).all()):
        sums = outputs.sum(dim=1)
        if torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
            return "forward() returns probabilities; return the logits, without the softmax at the end, which is added here"
    return ""
