"""An ONNX graph asked directly, as the service asks it, for calibration and for time measurements."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import numpy as np
import pandas as pd


def feeds(contract: Mapping[str, Any], rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """The inputs of the graph for rows of features: one matrix, or a column each."""
    form, names = contract["onnx"], [column["name"] for column in contract["inputs"]]
    if form["layout"] == "matrix":
        return {"features": rows[names].to_numpy(dtype=form["dtype"])}
    kinds = [object if column["type"] == "text" else form["dtype"] for column in contract["inputs"]]
    return {
        f"f{place}": np.array(rows[[name]].values.tolist(), dtype=kind)
        for place, (name, kind) in enumerate(zip(names, kinds, strict=True))
    }


def asking(onnx: bytes, contract: Mapping[str, Any]) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """A function from the graph's inputs to its probabilities or values, in one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    output = [contract["onnx"].get("probabilities") or contract["onnx"]["label"]]
    return lambda inputs: session.run(output, inputs)[0]


def milliseconds(calls: Mapping[str, Callable[[], Any]], seconds: float = 0.5, most: int = 500) -> dict[str, float]:
    """The median time of each call, in milliseconds. They take turns, so that what else the machine does meets all alike.

    `seconds` is for all of them together; each is called at least 5 and at most `most` times.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # the first is the slowest
    end = time.perf_counter() + seconds
    for turn in range(most):
        if turn >= 5 and time.perf_counter() > end:
            break
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
    return {name: median(taken) * 1000 for name, taken in times.items()}
