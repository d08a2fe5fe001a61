"""Two models on the same rows: the gate's bootstrap, by subject where rows have one, and the share of equal answers."""

import numpy as np
import pytest

from pipeline.evaluation import gate
from pipeline.experiments import paired
from pipeline.settings import Settings, load_settings


@pytest.fixture(scope="module")
def settings() -> Settings:
    """Those of the repository, with fewer resamples."""
    found = load_settings()
    return found.model_copy(update={"gate": found.gate.model_copy(update={"resamples": 400})})


def models(rows: int, noise: tuple[float, float], seed: int = 1):
    """Outcomes, and the probabilities of two models with noise of these sizes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    answers = []
    for size in noise:
        chance = 1 / (1 + np.exp(-(2.0 * (2 * y - 1) + size * rng.normal(size=rows))))
        answers.append(np.stack([1 - chance, chance], axis=1))
    return y.astype(np.float64), *answers


def test_a_comparison_is_the_gates(settings):
    """The same difference and bounds as the gate gives, B in the candidate's place."""
    metric = paired.metric_of(settings, ["benign", "malignant"])
    y, a, b = models(300, (2.0, 1.0))
    found = paired.compare(settings, metric, a, b, y)
    gates = gate.compare(
        metric, y.astype(int), b, a, confidence=settings.gate.confidence, resamples=400, seed=settings.train.seed
    )
    assert (found.a, found.b, found.lower, found.upper) == (gates.production, gates.candidate, gates.lower, gates.upper)
    assert found.better == "B"
    assert found.agreement == pytest.approx((a.argmax(axis=1) == b.argmax(axis=1)).mean())


def test_rows_without_an_outcome_agree_or_not_and_count_for_nothing_else(settings):
    """Their answers are compared with each other, not with what nobody knows."""
    metric = paired.metric_of(settings, ["benign", "malignant"])
    y, a, b = models(200, (2.0, 1.0))
    half = paired.compare(settings, metric, a[:100], b[:100], y[:100])
    y[100:] = np.nan
    found = paired.compare(settings, metric, a, b, y)
    assert (found.rows, found.outcomes) == (200, 100)
    assert (found.difference, found.lower) == (half.difference, half.lower)
    y[:] = np.nan
    none = paired.compare(settings, metric, a, b, y)
    assert (none.outcomes, none.difference, none.better) == (0, None, "")


def test_many_rows_of_one_subject_are_not_many_subjects(settings):
    """Ten times the same rows widen no claim where they are of the same subjects; as rows of their own they would."""
    metric = paired.metric_of(settings, ["benign", "malignant"])
    y, a, b = models(100, (2.0, 1.0))
    once = paired.compare(settings, metric, a, b, y)
    ten = [np.concatenate([part] * 10) for part in (a, b, y)]
    together = paired.compare(settings, metric, *ten, subjects=np.tile(np.arange(100), 10))
    apart = paired.compare(settings, metric, *ten)
    widths = [one.upper - one.lower for one in (once, together, apart)]
    assert widths[1] == pytest.approx(widths[0], rel=0.2)
    assert widths[2] < widths[0] / 2
    assert (together.outcomes, together.subjects) == (1000, 100)


def test_the_same_answers_differ_in_nothing(settings):
    """The difference is zero and no interval is claimed; everything agrees."""
    metric = paired.metric_of(settings, ["benign", "malignant"])
    y, a, _ = models(100, (2.0, 1.0))
    found = paired.compare(settings, metric, a, a, y)
    assert (found.difference, found.lower, found.agreement, found.better) == (0, None, 1.0, "")


def test_values_agree_within_the_gates_parity():
    """Relative to large values, absolute for small ones."""
    a = np.array([0.0, 1.0, 1e6, 1e6])
    b = np.array([1e-6, 1.1, 1e6 + 1, 1e6 + 100])
    assert paired.agree(a, b, 1e-5).tolist() == [True, False, True, False]


def test_a_rounding_is_no_difference(settings):
    """Answers as near as the gate's parity asks for are the same model's: neither is perhaps better."""
    metric = paired.metric_of(settings, ["benign", "malignant"])
    y, a, _ = models(100, (2.0, 1.0))
    found = paired.compare(settings, metric, a, a + 1e-9, y)
    assert (found.difference, found.lower) == (0, None)
