"""What a replay found: production's answers beside another model's to the same rows. Pure, over arrays.

B is the model that was asked, A production as it answered, by whatever version served then.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from pipeline.artifacts import write_json
from pipeline.evaluation import gate
from pipeline.evaluation.record import Compared
from pipeline.experiments import paired
from pipeline.experiments.paired import Paired
from pipeline.experiments.replay.scoring import Rows, apart
from pipeline.settings import Settings
from serving.model.decision import Threshold, decide

NAME = "replay.json"
LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
MOST_EXAMPLES = 20
BINS = 41  # of the picture of the differences; an odd number: one of them has zero in its middle


class Shift(Struct, frozen=True):
    """The mean answer of each model, B - A, and its quantiles at LEVELS: of one class's probability, or of the value ("")."""

    of: str
    a: float
    b: float
    quantiles: list[float]


class SliceRow(Compared, frozen=True, kw_only=True):
    """Some of the rows; `candidate` is B and `production` A by the gate's metric, where outcomes are known."""

    slice: str
    rows: int
    agreement: float
    shift: (
        float | None
    )  # mean B - A of the value, or of the positive class's probability; None with more than two classes
    outcomes: int
    judged: bool
    worse: bool = False


class ExampleRow(Struct, frozen=True):
    """A row on which the answers are far apart: no feature, and nobody's name. Answers are a class and its probability, or a value."""

    day: str
    version: str
    a: str
    b: str
    a_value: float
    b_value: float
    apart: float
    outcome: str
    request_id: str = ""  # "" where pages may be public
    row: int = 0


class Histogram(Struct, frozen=True):
    """How many rows differ by how much: `counts` between neighbours of `edges`."""

    edges: list[float]
    counts: list[int]


class Replay(Struct, frozen=True, kw_only=True):
    """The whole of build/replay.json. With a `note` there is nothing else: it says why nothing was replayed."""

    name: str
    environment: str
    challenger: str  # in words: "version 8", "the candidate"
    digest: str = ""
    note: str = ""
    days: int = 0
    since: float = 0.0
    until: float = 0.0
    task: str = ""
    classes: list[str] = []
    share: float = 1.0
    rows: int = 0
    versions: dict[str, int] = {}
    left_out: dict[str, int] = {}
    refused: dict[str, int] = {}
    paired: Paired | None = None
    largest: float = 0.0  # how far the answers to a row are apart at most
    identical: bool = False  # apart from rounding, as [gate] parity allows it
    confusion: list[list[int]] = []  # rows by A's class, and by B's
    shifts: list[Shift] = []
    histogram: Histogram | None = None
    slices: list[SliceRow] = []
    examples: list[ExampleRow] = []
    notes: list[str] = []
    scored: int = 0  # rows that this run scored itself
    seconds: float = 0.0  # that this run took for them

    def agreement(self) -> float:
        """The share of rows that both answer alike."""
        return (self.paired.agreement if self.paired else None) or 0.0

    def same(self) -> bool:
        """Whether no row is answered otherwise, nor refused."""
        return self.identical and not self.refused


def write(folder: Path, found: Replay) -> None:
    """Write build/replay.json, whole or not at all."""
    write_json(folder / NAME, msgspec.to_builtins(found))


def compare(
    settings: Settings, rows: Rows, classes: Sequence[str], named: bool,
    decisions: Mapping[str, Threshold | None] | None = None, challenger: Threshold | None = None,
) -> Replay:  # fmt: skip
    """All that the rows show; `named`: examples have the ids of their requests. The caller adds what it knows itself.

    `decisions` are the thresholds of the versions that answered, `challenger` that of the other model: each decides its own labels.
    """
    metric, subjects = paired.metric_of(settings, list(classes)), _subjects(rows)
    labels = _labels(rows, decisions or {}, challenger) if classes else None
    measured = paired.compare(settings, metric, rows.a, rows.b, rows.outcome, subjects, labels)
    versions, counts = np.unique(rows.version, return_counts=True)
    return Replay(
        name=settings.name,
        environment="",
        challenger="",
        task=settings.data.task,
        classes=list(classes),
        rows=len(rows),
        versions=dict(zip(versions.tolist(), counts.tolist(), strict=True)),
        left_out=dict(sorted(rows.counts.left_out.items())),
        refused=dict(sorted(rows.counts.refused.items(), key=lambda one: -one[1])),
        paired=measured,
        largest=float(apart(rows.a, rows.b).max(initial=0.0)),
        identical=bool(len(rows)) and gate.identical(rows.b, rows.a, settings.gate.parity),
        confusion=_confusion(labels, len(classes)) if labels else [],
        shifts=_shifts(settings, rows, classes),
        histogram=_histogram(settings, rows, classes),
        slices=_slices(settings, metric, rows, classes, subjects, labels),
        examples=_examples(rows, classes, named, labels),
    )


def _subjects(rows: Rows) -> np.ndarray | None:
    """The first row about whom each row is, each row without a name being its own; None where nobody is named.

    The hashes would do as well, but for their order: they are salted, and the same rows are to give the same bounds.
    """
    if not rows.subject.any():
        return None
    _, first, numbers = np.unique(rows.subject, return_index=True, return_inverse=True)
    return np.where(rows.subject == 0, np.arange(len(rows)), first[numbers])


def _labels(rows: Rows, decisions: Mapping[str, Threshold | None], challenger: Threshold | None) -> paired.Labels:
    """The positions of the classes that both gave, each version by its own threshold."""
    ours = decide(rows.a)
    for version in np.unique(rows.version):
        mine = rows.version == version
        ours[mine] = decide(rows.a[mine], decisions.get(str(version)))
    return ours, decide(rows.b, challenger)


def _confusion(labels: paired.Labels, classes: int) -> list[list[int]]:
    both = labels[0] * classes + labels[1]
    return np.bincount(both, minlength=classes**2).reshape(classes, classes).tolist()


def _shown(settings: Settings, classes: Sequence[str]) -> list[tuple[str, int | None]]:
    """The columns of the answers that are compared, by name: the values, the positive class, or every class."""
    if not classes:
        return [("", None)]
    if settings.data.positive:
        return [(settings.data.positive, list(classes).index(settings.data.positive))]
    return [(name, place) for place, name in enumerate(classes)]


def _column(answers: np.ndarray, place: int | None) -> np.ndarray:
    return answers if place is None else answers[:, place]


def _shifts(settings: Settings, rows: Rows, classes: Sequence[str]) -> list[Shift]:
    found = []
    for name, place in _shown(settings, classes):
        a, b = _column(rows.a, place), _column(rows.b, place)
        if len(rows):
            found.append(Shift(name, float(a.mean()), float(b.mean()), np.quantile(b - a, LEVELS).tolist()))
    return found


def _histogram(settings: Settings, rows: Rows, classes: Sequence[str]) -> Histogram | None:
    """Of the differences B - A, between their 0.5 % and 99.5 % quantiles: what is beyond is in the first and the last bin."""
    shown = _shown(settings, classes)
    if len(shown) > 1 or not len(rows):
        return None
    differences = _column(rows.b, shown[0][1]) - _column(rows.a, shown[0][1])
    reach = float(np.quantile(np.abs(differences), 0.995))
    if not reach:
        return None
    edges = np.linspace(-reach, reach, BINS + 1)
    counts, _ = np.histogram(np.clip(differences, -reach, reach), edges)
    return Histogram(edges.tolist(), counts.tolist())


def _slices(
    settings: Settings, metric, rows: Rows, classes: Sequence[str], subjects: np.ndarray | None,
    labels: paired.Labels | None,
) -> list[SliceRow]:  # fmt: skip
    every = np.ones(len(rows), dtype=bool)
    masks = [mask for name, values in rows.slices.items() for mask in gate.slice_masks(values, name, every)]
    known = ~np.isnan(rows.outcome)
    told = [(label, mask[known]) for label, mask in masks if mask[known].any()]
    y_true = rows.outcome[known].astype(np.int64 if classes else np.float64)
    a, b = rows.a, rows.b
    if labels and metric.kind == "hit":
        a, b = (np.eye(len(classes))[one] for one in labels)
    compared = gate.compare_slices(
        metric, y_true, b[known], a[known], told,
        minimum_rows=settings.gate.slice_rows, confidence=settings.gate.confidence, resamples=settings.gate.resamples,
        seed=settings.train.seed, subjects=None if subjects is None else subjects[known],
    )  # fmt: skip
    by_label = {one.slice: one for one in compared}
    rules = gate.Rules(
        metric.name, metric.higher_is_better, settings.gate.policy, settings.gate.margin, settings.gate.confidence
    )
    agree, shown = paired.agree(rows.a, rows.b, settings.gate.parity, labels), _shown(settings, classes)
    found = []
    for label, mask in masks:
        one = by_label.get(label)
        figures = one.comparison.plain() if one else {}
        moved = [_column(rows.b, place)[mask] - _column(rows.a, place)[mask] for _, place in shown]
        found.append(
            SliceRow(
                slice=label,
                rows=int(mask.sum()),
                agreement=float(agree[mask].mean()),
                shift=float(moved[0].mean()) if len(moved) == 1 else None,
                outcomes=one.rows if one else 0,
                judged=bool(one and one.judged),
                worse=bool(one and one.judged and gate.is_worse(one, rules)),
                **{key: figures.get(key) for key in Compared.__struct_fields__},
            )
        )
    return found


def _examples(rows: Rows, classes: Sequence[str], named: bool, labels: paired.Labels | None) -> list[ExampleRow]:
    gap = apart(rows.a, rows.b)
    found = []
    for one in sorted(rows.examples, key=lambda one: (-gap[one.place], one.place))[:MOST_EXAMPLES]:
        at = one.place
        if not gap[at]:
            break
        a, b, outcome = rows.a[at], rows.b[at], rows.outcome[at]
        known = not np.isnan(outcome)
        told = (classes[int(outcome)] if classes else f"{outcome:.6g}") if known else ""
        found.append(
            ExampleRow(
                day=str(rows.day[at]),
                version=str(rows.version[at]),
                a=classes[labels[0][at]] if labels else "",
                b=classes[labels[1][at]] if labels else "",
                a_value=float(a[labels[0][at]] if labels else a),
                b_value=float(b[labels[1][at]] if labels else b),
                apart=float(gap[at]),
                outcome=told,
                request_id=one.request_id if named else "",
                row=one.row if named else 0,
            )
        )
    return found
