"""The int8 candidate beside the float one: by the gate's metric on the same hold-out, by size and by time, and which of them is taken."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pipeline.data.dataset import Dataset
from pipeline.evaluation import gate
from pipeline.evaluation.measures import Measures
from pipeline.evaluation.record import Compared, Int8, Precision
from pipeline.formats.onnx import run
from pipeline.settings import Gate
from serving.model.decision import Threshold

ROWS = 1000
Model = tuple[Mapping[str, bytes], Mapping[str, Any], np.ndarray]  # files, contract, answers to the hold-out


@dataclass(frozen=True)
class Side:
    """One of the two: its answers to the hold-out, its size in bytes, and the median milliseconds of 1 and of 1,000 rows."""

    y_pred: np.ndarray
    size: int
    row_ms: float
    rows_ms: float


def sides(dataset: Dataset, single: Model, int8: Model) -> tuple[Side, Side]:
    """Both measured in one thread, by turns: size, and the time of 1 and of 1,000 rows of the hold-out."""
    held = dataset.features[dataset.holdout]
    calls: dict[str, Any] = {}
    for name, (files, contract, _) in (("single", single), ("int8", int8)):
        ask = run.asking(files["model.onnx"], contract)
        for rows in (1, ROWS):
            inputs = run.feeds(contract, held.iloc[np.arange(rows) % len(held)])
            calls[f"{name} {rows}"] = partial(ask, inputs)
    took = run.milliseconds(calls)
    one, other = (
        Side(y_pred, len(files["model.onnx"]), took[f"{name} 1"], took[f"{name} {ROWS}"])
        for name, (files, _, y_pred) in (("single", single), ("int8", int8))
    )
    return one, other


def judge(
    asks: Gate, measures: Measures, how: str, digest: str, single: Side, int8: Side, threshold: Threshold | None = None
) -> Int8:
    """Take the int8 candidate where it is surely within the margin, small and fast enough, and smaller or faster; else say why not."""
    metric, margin = measures.decides, asks.quantised_margin if asks.quantised_margin is not None else asks.margin
    every = np.ones(len(measures.y_true), dtype=bool)
    both = (metric.seen(one.y_pred, threshold) for one in (int8, single))
    found = gate.compare(metric, measures.y_true, *both, **measures.drawn(every))
    lower = gate.gain(found, metric.higher_is_better)[1]
    taken, reason = _decision(asks, metric.name, margin, found, lower, single, int8)
    figures = found.plain()
    return Int8(
        how=how,
        taken=taken,
        reason=reason,
        digest=digest,
        margin=margin,
        float32=_precision(found.production, single),
        int8=_precision(found.candidate, int8),
        largest_difference=float(np.abs(single.y_pred - int8.y_pred).max(initial=0.0)),
        comparison=Compared(**{key: figures.get(key) for key in Compared.__struct_fields__}),  # type: ignore[arg-type]
    )


def _decision(
    asks: Gate, metric: str, margin: float, found: gate.Comparison, lower: float, single: Side, int8: Side
) -> tuple[bool, str]:
    within = f"within {gate.number(margin)} (the margin) of float32 in {metric}"
    if math.isnan(found.difference):
        return False, f"{metric} of one of them is undefined"
    if not (lower > -margin or (found.difference == 0 and math.isinf(lower))):  # equal on every row that could be drawn
        return False, f"it is not surely {within}"
    if int8.row_ms > asks.max_latency_ms:
        return False, f"a prediction takes {int8.row_ms:.3g} ms, and [gate] max_latency_ms is {asks.max_latency_ms:g}"
    if int8.size >= single.size and int8.row_ms >= single.row_ms:
        return False, "it is neither smaller nor faster"
    gained = [f"{single.size / int8.size:.1f} times smaller"] if int8.size < single.size else []
    for rows, one, other in (("1 row", single.row_ms, int8.row_ms), ("1,000 rows", single.rows_ms, int8.rows_ms)):
        faster, times = ("faster", one / other) if other <= one else ("slower", other / one)
        gained += [f"{times:.1f} times {faster} for {rows}"] if times >= 1.05 else []
    return True, f"it is surely {within}, {', '.join(gained) or 'and faster'}"


def _precision(value: float, side: Side) -> Precision:
    return Precision(
        value=value if math.isfinite(value) else None, size=side.size, row_ms=side.row_ms, rows_ms=side.rows_ms
    )
