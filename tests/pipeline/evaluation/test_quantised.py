"""When the candidate in int8 goes on: surely within its margin, fast and small enough, and smaller or faster."""

import numpy as np
import pytest

from pipeline.evaluation import metrics, quantised
from pipeline.evaluation.measures import Measures
from pipeline.evaluation.quantised import Side
from pipeline.settings import Gate

GATE = Gate(metric="log_loss", margin=0.02, max_latency_ms=1)
KNOWN = metrics.metrics_for("binary", 1, {})


def measures(metric: str = "log_loss") -> tuple[Measures, np.ndarray]:
    """What is measured on 400 rows, and the answers of a good model to them."""
    rng = np.random.default_rng(1)
    chance = rng.random(400)
    y_true = (rng.random(400) < chance).astype(int)
    bounds = {"confidence": 0.95, "resamples": 400, "seed": 1}
    return Measures(KNOWN, KNOWN[metric], y_true, None, bounds), np.column_stack([1 - chance, chance]).clip(0.01, 0.99)


def side(y_pred, size=100_000, row_ms=0.01, rows_ms=1.0) -> Side:
    """A side of the comparison."""
    return Side(y_pred, size, row_ms, rows_ms)


def off(y_pred: np.ndarray, by: float) -> np.ndarray:
    """The same answers, each moved at random by at most so much."""
    moved = y_pred[:, 1] + np.random.default_rng(2).uniform(-by, by, len(y_pred))
    return np.column_stack([1 - moved, moved]).clip(0.001, 0.999)


def judged(moved: float, asks: Gate = GATE, metric: str = "log_loss", **small):
    """The verdict on a model in int8 whose answers are so far away."""
    how, y_pred = measures(metric)
    return quantised.judge(
        asks, how, "dynamic", "d1", side(y_pred), side(off(y_pred, moved), **({"size": 27_000} | small))
    )


def test_a_smaller_model_within_the_margin_goes_on():
    """The reason says what it gains and what it costs; both sides are on record."""
    found = judged(0.005, row_ms=0.02, rows_ms=0.5)
    assert found.taken and found.digest == "d1" and found.margin == 0.02
    assert "3.7 times smaller, 2.0 times slower for 1 row, 2.0 times faster for 1,000 rows" in found.reason
    assert found.float32.size == 100_000 and found.int8.size == 27_000
    assert 0 < found.largest_difference <= 0.0051 and abs(found.comparison.difference) < 0.02


@pytest.mark.parametrize(
    ("moved", "asks", "small", "words"),
    [
        (0.3, {}, {}, "it is not surely within 0.02 (the margin) of float32 in log_loss"),
        (0.1, {"quantised_margin": 1e-6}, {}, "it is not surely within 0.000001 (the margin)"),
        (0.005, {}, {"row_ms": 1.5}, "a prediction takes 1.5 ms, and [gate] max_latency_ms is 1"),
        (0.005, {}, {"size": 100_000, "row_ms": 0.02}, "it is neither smaller nor faster"),
    ],
)
def test_float32_stays_with_the_reason(moved, asks, small, words):
    """Worse than the margin allows, too slow, or without any gain: the model in float32 goes on."""
    found = judged(moved, GATE.model_copy(update=asks), **small)
    assert not found.taken and words in found.reason


def test_a_model_that_answers_alike_is_within_any_margin():
    """Where no answer differs there are no bounds, and nothing to lose: int8 goes on with a margin of 0, too."""
    how, y_pred = measures()
    found = quantised.judge(
        GATE.model_copy(update={"margin": 0.0}), how, "static", "d", side(y_pred), side(y_pred, size=1)
    )
    assert found.taken and found.comparison.difference == 0
