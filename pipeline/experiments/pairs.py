"""The pairs of answers that a shadow left in the log, as arrays for the gate's comparison."""

from collections.abc import Sequence

import msgspec
import numpy as np

from pipeline.experiments.paired import Paired, compare, metric_of
from pipeline.settings import Settings
from serving.experiment.count.records import Pair
from serving.model.decision import decide


class _Answer(msgspec.Struct):
    label: str | None = None
    probabilities: dict[str, float] | None = None
    value: float | None = None


_answer = msgspec.json.Decoder(_Answer).decode


def compared(settings: Settings, pairs: Sequence[Pair]) -> Paired | None:
    """B beside A by the gate's metric, rows of a subject drawn together; None where no pair can be compared.

    Pairs are left out whose outcome is none of the model's classes.
    """
    rows = [(pair.subject, msgspec.json.decode(pair.outcome), _answer(pair.a), _answer(pair.b)) for pair in pairs]
    classes = list(rows[0][2].probabilities or {}) if rows else []
    if classes:
        rows = [row for row in rows if row[1] in classes]
    if not rows:
        return None
    subjects, outcomes, a, b = zip(*rows, strict=True)
    return compare(
        settings,
        metric_of(settings, classes),
        _array(a, classes),
        _array(b, classes),
        np.array([classes.index(one) if classes else one for one in outcomes], dtype=np.float64),
        np.unique(subjects, return_inverse=True)[1],
        labels=(_labels(a, classes), _labels(b, classes)) if classes else None,
    )


def _labels(answers: Sequence[_Answer], classes: Sequence[str]) -> np.ndarray:
    """The positions of the classes that were answered, by the model's own threshold and rules."""
    probable = decide(_array(answers, classes))
    given = enumerate(answers)
    return np.array([classes.index(one.label) if one.label in classes else probable[place] for place, one in given])


def _array(answers: Sequence[_Answer], classes: Sequence[str]) -> np.ndarray:
    """Probabilities (n, k), or values (n,)."""
    if classes:
        return np.array([[(one.probabilities or {}).get(name, 0.0) for name in classes] for one in answers])
    return np.array([one.value for one in answers], dtype=np.float64)
