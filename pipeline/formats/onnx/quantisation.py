"""An ONNX graph of float32 made one of int8: a quarter of the bytes, and often less time.

dynamic: linear layers (MatMul, Gemm) alone. Weights are int8 with a scale for each output; what comes in is rounded while the model runs, with a
scale for each row. ONNX Runtime's own dynamic quantisation has one scale for all rows that are asked together, so a row's answer would depend
on those beside it.
static: convolutions too, by ONNX Runtime. The scales of what comes in are measured beforehand, on rows of the training.

Weights have 7 of their 8 bits, because processors without VNNI add two products in 16 bits: with 8 they could overflow, and another machine
would answer otherwise. docs/formats.md has what this costs and gains.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

How = Literal["dynamic", "static"]
LINEAR = ("MatMul", "Gemm")
STATIC = (*LINEAR, "Conv", "Relu", "Add", "MaxPool", "AveragePool", "GlobalAveragePool")
LARGEST = 63  # of a weight in 7 bits
STEPS = 255  # of what comes in
SMALLEST = 1e-30  # instead of a scale of 0, where all numbers of a row are the same
BATCH = 100  # calibration rows at once

# Kinds of models whose ONNX form is one operator of ai.onnx.ml, by the names of classes that they inherit from.
ONE_OPERATOR = {
    "LinearClassifierMixin": "a linear operator",
    "LinearModel": "a linear operator",
    "SGDClassifier": "a linear operator",
    "BaseDecisionTree": "an operator of trees",
    "BaseForest": "an operator of trees",
    "BaseGradientBoosting": "an operator of trees",
    "BaseHistGradientBoosting": "an operator of trees",
    "XGBModel": "an operator of trees",
    "LGBMModel": "an operator of trees",
    "_CatBoostBase": "an operator of trees",
}


def hopeless(model: Any) -> str:
    """Why there will be nothing to quantise in a model that is not fitted yet, in words; "" where there may be."""
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    kinds = {kind.__name__ for kind in type(last).__mro__}
    name = next((name for name in ONE_OPERATOR if name in kinds), None)
    if name is None:
        return ""
    return f"nothing to quantise in a {type(last).__name__}: it becomes {ONE_OPERATOR[name]}, which has no form in int8"


def nothing(onnx: bytes, how: How) -> str:
    """Why there is nothing to quantise in a graph, in words; "" where there is something."""
    graph = _read(onnx).graph
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    kinds = ("Conv", *LINEAR)
    layers = [
        (node.op_type, weights[node.input[1]])
        for node in graph.node
        if node.op_type in kinds and node.input[1] in weights
    ]
    single = [kind for kind, of in layers if of == 1]  # FLOAT
    if any(kind in LINEAR or how == "static" for kind in single):
        return ""
    if single:
        return 'it has convolutions alone, which quantise = "static" takes'
    if layers:
        return "its layers compute in float64, because in float32 it would answer otherwise than it was trained"
    others = sorted({node.op_type for node in graph.node if node.domain == "ai.onnx.ml"})
    return f"it has no layer with weights ({', '.join(others) or 'no operator of ai.onnx.ml'})"


def quantise(onnx: bytes, how: How, calibration: Sequence[Mapping[str, np.ndarray]] = ()) -> bytes:
    """The same graph in int8. static measures on `calibration`, inputs of the graph; the same ones give the same bytes."""
    return dynamic(onnx) if how == "dynamic" else static(onnx, calibration)


# --- dynamic ---


@dataclass(frozen=True)
class Rounded:
    """The names of a layer's input as whole numbers, and of the scale and the lowest number of each row: low + scale * values."""

    values: str
    scale: str
    low: str


def dynamic(onnx: bytes) -> bytes:
    """Each linear layer of float32 as one of int8, scaled row by row."""
    from onnx import numpy_helper

    model = _read(onnx)
    graph = model.graph
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 13)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    scaled: dict[str, Rounded] = {}
    nodes: list[Any] = []
    for node in graph.node:
        tensor = weights.get(node.input[1]) if node.op_type in LINEAR else None
        if tensor is None or tensor.data_type != 1 or len(tensor.dims) != 2 or not _plain(node):
            nodes.append(node)
            continue
        weight = numpy_helper.to_array(tensor)
        weight = weight.T if _attribute(node, "transB", 0) else weight
        if node.input[0] not in scaled:
            made, scaled[node.input[0]] = _rounded(node.input[0], opset, graph)
            nodes += made
        nodes += _layer(node, weight, scaled[node.input[0]], graph)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return model.SerializeToString(deterministic=True)


def _rounded(name: str, opset: int, graph: Any) -> tuple[list[Any], Rounded]:
    """Nodes that round an input to 0 … 255, from the smallest to the largest number of each row; and the names of the results."""
    from onnx import helper, numpy_helper

    start = f"{name}_int8"
    if not any(tensor.name == "int8_steps" for tensor in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(np.array(1 / STEPS, np.float32), "int8_steps"))
        graph.initializer.append(numpy_helper.from_array(np.array(SMALLEST, np.float32), "int8_smallest"))
        graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "int8_last_axis"))

    def of_row(kind: str, result: str) -> Any:
        if opset < 18:
            return helper.make_node(kind, [name], [result], axes=[-1], keepdims=1)
        return helper.make_node(kind, [name, "int8_last_axis"], [result], keepdims=1)

    nodes = [
        of_row("ReduceMin", f"{start}_low"),
        of_row("ReduceMax", f"{start}_high"),
        helper.make_node("Sub", [f"{start}_high", f"{start}_low"], [f"{start}_range"]),
        helper.make_node("Mul", [f"{start}_range", "int8_steps"], [f"{start}_step"]),
        helper.make_node("Max", [f"{start}_step", "int8_smallest"], [f"{start}_scale"]),
        helper.make_node("Sub", [name, f"{start}_low"], [f"{start}_above"]),
        helper.make_node("Div", [f"{start}_above", f"{start}_scale"], [f"{start}_divided"]),
        helper.make_node("Round", [f"{start}_divided"], [f"{start}_whole"]),
        helper.make_node("Cast", [f"{start}_whole"], [start], to=2),  # UINT8
    ]
    return nodes, Rounded(start, f"{start}_scale", f"{start}_low")


def _layer(node: Any, weight: np.ndarray, rounded: Rounded, graph: Any) -> list[Any]:
    """Nodes for a linear layer of int8: low * sum of the weights + scale * (rounded @ weights), and the bias in float32."""
    from onnx import helper, numpy_helper

    start = f"{node.output[0]}_int8"
    steps = np.maximum(np.abs(weight).max(axis=0), SMALLEST).astype(np.float32) / np.float32(LARGEST)
    whole = np.rint(weight / steps).astype(np.int8)
    sums = weight.sum(axis=0, dtype=np.float64).astype(np.float32)
    for name, values in (("weight", np.ascontiguousarray(whole)), ("steps", steps), ("sums", sums)):
        graph.initializer.append(numpy_helper.from_array(values, f"{start}_{name}"))
    biased = len(node.input) > 2 and bool(node.input[2])
    product = f"{start}_product" if biased else node.output[0]
    return [
        helper.make_node("MatMulInteger", [rounded.values, f"{start}_weight"], [f"{start}_count"]),
        helper.make_node("Cast", [f"{start}_count"], [f"{start}_float"], to=1),  # FLOAT
        helper.make_node("Mul", [rounded.scale, f"{start}_steps"], [f"{start}_scale"]),
        helper.make_node("Mul", [f"{start}_float", f"{start}_scale"], [f"{start}_scaled"]),
        helper.make_node("Mul", [rounded.low, f"{start}_sums"], [f"{start}_offset"]),
        helper.make_node("Add", [f"{start}_scaled", f"{start}_offset"], [product]),
        *([helper.make_node("Add", [product, node.input[2]], [node.output[0]])] if biased else []),
    ]


def _plain(node: Any) -> bool:
    """Whether a Gemm is a product and a sum, with nothing else."""
    return (
        not _attribute(node, "transA", 0) and _attribute(node, "alpha", 1.0) == 1 and _attribute(node, "beta", 1.0) == 1
    )


def _attribute(node: Any, name: str, default: float) -> float:
    from onnx import helper

    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


# --- static ---


def static(onnx: bytes, calibration: Sequence[Mapping[str, np.ndarray]]) -> bytes:
    """Convolutions and linear layers in int8, with scales measured on the calibration inputs."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        """Gives the inputs one after the other."""

        def __init__(self) -> None:
            self._rest: Iterator[Mapping[str, np.ndarray]] = iter(calibration)

        def get_next(self):
            return next(self._rest, None)

    with tempfile.TemporaryDirectory() as work, _quietly():
        path = Path(work) / "int8.onnx"
        quantize_static(
            _read(onnx),
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(STATIC),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
        return _read(path.read_bytes()).SerializeToString(deterministic=True)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without ONNX Runtime's advice on graphs that are larger than these."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _read(onnx: bytes) -> Any:
    from onnx import load_from_string

    return load_from_string(onnx)
