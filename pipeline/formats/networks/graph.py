"""A PyTorch module as an ONNX graph: the same module gives the same bytes, and no path of this machine is in them."""

import contextlib
import io
import logging
import os
import re
import traceback
import warnings
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from pipeline.artifacts import ROOT
from pipeline.errors import PortabilityError

INPUT = "features"
ROWS = 4  # of the example: torch.export takes a batch of 0 or 1 for a constant


def export(module: nn.Module, columns: int, output: str) -> Any:
    """The module as an ONNX model that takes `features` (rows, columns) in float64 and gives `output`, for any number of rows.

    Raises PortabilityError with the reason, and the line of project/ where the library names one.
    """
    shapes = ({0: torch.export.Dim("rows")},)
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(
                module.eval(), (torch.zeros(ROWS, columns, dtype=torch.float64),), dynamic_shapes=shapes
            )
            exported = torch.onnx.export(
                program, dynamo=True, input_names=[INPUT], output_names=[output],
                external_data=False, verbose=False, custom_translation_table=_accurate(),
            )  # fmt: skip
    except Exception as error:  # the exporter wraps whatever it meets
        raise PortabilityError(
            f"the network does not become a graph: {why(error)}",
            "in forward(), use torch.where() instead of `if`, and operations on all rows at once instead of loops, numpy or .item(); "
            "docs/networks.md has more",
        ) from error
    model = cast(Any, exported).model_proto
    _without_traces(model)
    return model


def _accurate() -> dict[Any, Any]:
    """Operations that the exporter writes as the logarithm of zero, of infinity or of a rounded number, written without.

    log σ(x) = min(x, 0) - log(1 + e^-|x|), and log(eᵃ + eᵇ) = max(a, b) + log(1 + e^-|a-b|).
    """
    from onnxscript import opset18

    op = cast(Any, opset18)  # its annotations know no value whose type is found later

    def beyond_the_larger(distance):
        one = op.CastLike(op.Constant(value_float=1.0), distance)
        return op.Log(op.Add(one, op.Exp(op.Neg(op.Abs(distance)))))

    def log_sigmoid(x):
        zero = op.CastLike(op.Constant(value_float=0.0), x)
        return op.Sub(op.Min(x, zero), beyond_the_larger(x))

    def logaddexp(a, b):
        return op.Add(op.Max(a, b), beyond_the_larger(op.Sub(a, b)))

    aten = torch.ops.aten
    return {
        aten.log_sigmoid.default: log_sigmoid,
        aten.log_sigmoid_forward.default: log_sigmoid,
        aten.logaddexp.default: logaddexp,
    }


def join(steps: bytes, output: str, network: Any) -> Any:
    """The ONNX model of the steps before a network and that of the network as one; `output` is what the steps give.

    The steps keep their inputs, and whatever precision they give is turned into the network's.
    """
    import onnx
    import onnx.version_converter
    from onnx import compose, helper

    first = onnx.load_model_from_string(steps)
    version = next(one.version for one in network.opset_import if not one.domain)
    try:
        first = onnx.version_converter.convert_version(first, version)
    except Exception as error:  # it has no class of its own
        raise PortabilityError(f"the steps before the network do not fit its version of ONNX: {why(error)}") from error
    first = compose.add_prefix(first, "steps_", rename_inputs=False, rename_outputs=False)
    network = compose.add_prefix(network, "network_", rename_inputs=False, rename_outputs=False)
    del first.graph.output[:]
    if any(one.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE for one in first.graph.input):
        _in_float64(first.graph)
    taken = network.graph.input[0].type.tensor_type.elem_type
    cast = helper.make_node("Cast", [output], ["network_input"], "network_input", to=taken)
    for node in network.graph.node:
        node.input[:] = ["network_input" if one == INPUT else one for one in node.input]
    first.graph.node.extend([cast, *network.graph.node])
    first.graph.initializer.extend(network.graph.initializer)
    first.graph.output.extend(network.graph.output)
    known = {one.domain for one in first.opset_import}
    first.opset_import.extend(one for one in network.opset_import if one.domain not in known)
    first.ir_version = max(first.ir_version, network.ir_version)
    first.producer_name = first.producer_version = ""
    _without_traces(first)
    return first


def _in_float64(graph: Any) -> None:
    """Replace what ONNX Runtime does in float32 alone: filling empty cells, and the zeros and ones of categories."""
    from onnx import TensorProto, helper

    nodes: list[Any] = []
    for node in graph.node:
        given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type == "Imputer" and "imputed_value_floats" in given and np.isnan(given["replaced_value_float"]):
            values = list(given["imputed_value_floats"])
            empty, fill = f"{node.output[0]}_empty", f"{node.output[0]}_fill"
            graph.initializer.append(helper.make_tensor(fill, TensorProto.DOUBLE, [len(values)], values))
            nodes.append(helper.make_node("IsNaN", [node.input[0]], [empty], empty))
            nodes.append(helper.make_node("Where", [empty, fill, node.input[0]], list(node.output), f"{empty}_filled"))
        elif node.op_type == "OneHotEncoder":
            exact, narrow = node.output[0], f"{node.output[0]}_narrow"
            node.output[0] = narrow
            nodes += [node, helper.make_node("Cast", [narrow], [exact], f"{narrow}_cast", to=TensorProto.DOUBLE)]
        else:
            nodes.append(node)
    kept = [one.SerializeToString() for one in nodes]
    del graph.node[:]
    for one in kept:
        graph.node.add().ParseFromString(one)


def to_bytes(model: Any) -> bytes:
    """The bytes of an ONNX model, the same each time."""
    return model.SerializeToString(deterministic=True)


def _without_traces(model: Any) -> None:
    """Leave out what the exporter notes about the code: files, lines, classes."""
    graph = model.graph
    model.producer_version = ""  # tells the build for a CPU from that for a GPU
    model.graph.name = "network"
    for one in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer, *model.functions):
        one.ClearField("metadata_props")
        one.ClearField("doc_string")
    graph.ClearField("value_info")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of its steps, and of optional packages that are not there."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def why(error: BaseException) -> str:
    """What an error says, in one sentence, with the last line of project/ that it names."""
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and before not in chain:
        chain.append(before)
    text = "\n".join(str(one) for one in chain)
    root = chain[-1]
    said = next((line.strip() for line in str(root).splitlines() if line.strip()), type(root).__name__)
    if re.search(
        r"data.dependent|GuardOnDataDependent|Could not guard|dynamic control flow|is_nonzero|\.item\(\)", text, re.I
    ):
        said = "what it computes depends on the values in a tensor, such as an `if` over one"
    elif "Constraints violated" in text:
        said = "it takes one number of rows only, as with a loop over the rows"
    return f"{said[:200].rstrip('.:')}{line_of_project(text, root)}"


def fault_of_forward(error: Exception, width: int, rows: int) -> str:
    """Why forward() did not take so many rows of so many values, in words."""
    shapes = re.search(r"\((\d+)x(\d+) and (\d+)x(\d+)\)", str(error))
    where = line_of_project(str(error), error)
    if shapes and int(shapes[2]) == width:
        return (
            f"the network's first layer takes {shapes[3]} values, but a row has {width}{where}: write nn.LazyLinear(…), which takes "
            f"what it gets, or nn.Linear({width}, …)"
        )
    if shapes:
        return f"a layer of the network takes {shapes[3]} values and is given {shapes[2]}{where}"
    return f"the network does not take a batch of {rows} rows with {width} values each: {why(error)}"


def line_of_project(text: str, error: BaseException) -> str:
    """Where in project/ it happened: " (project/model.py, line 12)", or "" where neither text nor traceback says."""
    own = f"{ROOT / 'project'}{os.sep}"
    found = re.findall(rf'File "{re.escape(own)}([^"]+)", line (\d+)', text)
    frames = traceback.extract_tb(error.__traceback__)
    found += [(one.filename.removeprefix(own), one.lineno) for one in frames if one.filename.startswith(own)]
    return f" (project/{found[-1][0]}, line {found[-1][1]})" if found else ""
