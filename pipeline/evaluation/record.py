"""The record of an evaluation: what build/evaluation.json holds. It is written and read here and nowhere else.

A key that an older release did not write has the value that was true then; a key that is not known here is left out. None stands
where there is no such number: JSON has neither NaN nor infinity.
"""

from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from pipeline.artifacts import read_as, write_json

NAME = "evaluation.json"
FORMATS = "formats.json"  # by `make compare-formats`
FORMAT_ROWS = (1, 32, 1000)  # how many are asked together there
LIBRARIES = {
    "onnx": "ONNX Runtime",
    "skops": "scikit-learn",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "catboost": "CatBoost",
}


class Compared(Struct, frozen=True, kw_only=True):
    """Candidate and production by one metric; `difference` is candidate - production, between `lower` and `upper`."""

    candidate: float | None = None
    production: float | None = None
    difference: float | None = None
    lower: float | None = None
    upper: float | None = None


class Comparison(Compared, frozen=True, kw_only=True):
    """The comparison by the metric that decides, and the true difference that the hold-out could have shown."""

    metric: str
    detectable: float | None = None


class MetricRow(Compared, frozen=True, kw_only=True):
    """One metric on the hold-out; `interval` is of the candidate alone, `baseline` a model that knows no feature."""

    metric: str
    higher_is_better: bool
    interval: tuple[float, float] | None = None
    baseline: float | None = None


class SliceRow(Compared, frozen=True, kw_only=True):
    """The metric that decides, on a part of the hold-out."""

    slice: str
    rows: int
    distinct_rows: int | None = None  # rows that are no copy of another; None: all of them
    groups: int | None = None  # of the group column; None: there is none
    judged: bool
    worse: bool


class LimitRow(Struct, frozen=True, kw_only=True):
    """An absolute limit of the candidate; `higher_is_better` None: as the metric of that name."""

    metric: str
    limit: float
    value: float | None
    higher_is_better: bool | None = None
    success: bool


class CheckRow(Struct, frozen=True, kw_only=True):
    """A check of the model as the service runs it."""

    check: str
    observed: float | None
    limit: float | None
    unit: str = ""
    success: bool


class Candidate(Struct, frozen=True, kw_only=True):
    """The run that was judged."""

    run_id: str = ""
    run_url: str = ""
    commit: str = ""
    model_digest: str = ""
    data_hash: str = ""
    metrics: dict[str, float] = {}


class InProduction(Struct, frozen=True, kw_only=True):
    """The version that served when the candidate was judged."""

    version: str
    run_id: str = ""
    commit: str = ""
    since: str = ""


class BestSoFar(Struct, frozen=True, kw_only=True):
    """The second comparison, with the best version so far where another is in production; `problem`: why there is none."""

    version: str
    rows: int = 0
    problem: str = ""
    best: float | None = None
    candidate: float | None = None
    difference: float | None = None
    lower: float | None = None
    upper: float | None = None


class Missing(Struct, frozen=True):
    """The share of empty cells of a column, when production was trained and now."""

    before: float
    now: float


class ColumnDrift(Struct, frozen=True):
    """How far a column has moved from what production was trained on: its population stability index."""

    column: str
    psi: float
    missing: Missing


class DataChange(Struct, frozen=True, kw_only=True):
    """The data beside that of the production version; None where a number is not known."""

    version: str
    same: bool
    rows: int
    rows_before: int | None = None
    rows_added: int | None = None
    rows_removed: int | None = None
    columns_added: list[str] = []
    columns_removed: list[str] = []
    drift: list[ColumnDrift] = []


class Format(Struct, frozen=True):
    """The format in which the candidate is served, and why it is not ONNX where it is not."""

    format: str
    format_reason: str | None = None

    @property
    def library(self) -> str:
        """What people call the library that runs a model of this format."""
        return LIBRARIES.get(self.format, self.format)


class Importance(Struct, frozen=True):
    """On how many rows feature importance was computed, and how often each column was shuffled."""

    rows: int
    shuffles: int


class Shapley(Struct, frozen=True, kw_only=True):
    """The mean size of each column's contribution to the answers on hold-out rows, beside background rows; largest first.

    `of` is the positive class of a binary model; several classes are summed, and `classes` has each. `missing` says why there are none.
    """

    rows: int = 0
    background: int = 0
    of: str = ""
    columns: dict[str, float] = {}
    classes: dict[str, dict[str, float]] = {}
    missing: str = ""


class SearchTrial(Struct, frozen=True, kw_only=True):
    """A combination of parameters and its score in each fold; `reason` says why it has none. `mean` and `deviation` are over the folds."""

    number: int
    parameters: dict[str, Any]
    scores: list[float] = []
    mean: float | None = None
    deviation: float | None = None
    reason: str = ""
    seconds: float = 0.0  # of all its fits


class Search(Struct, frozen=True, kw_only=True):
    """A search for parameters by cross-validation on the training side: what was tried, and the trial that won.

    Trial 0 has the parameters as pipeline.toml gives them, where it gives them all. Fewer trials are finished than planned where time ran out.
    """

    method: str
    metric: str
    higher_is_better: bool
    folds: int
    planned: int
    finished: int
    failed: int = 0
    winner: int
    parameters: dict[str, Any]  # of the winner, with those that were not searched for
    trials: list[SearchTrial] = []  # build/search.json has all; the record of an evaluation the best


class Counting(Struct, frozen=True, kw_only=True):
    """How rows count where pipeline.toml [data] names a weight, a group or a time; "" where it names none.

    `groups` is how many the rows are of, `cut` the time of the oldest row that is held out, with a time split, and `unweighted`
    the team's own metrics that take no weights.
    """

    weight: str = ""
    unweighted: list[str] = []
    group: str = ""
    groups: int | None = None
    time: str = ""
    cut: str = ""


class Precision(Struct, frozen=True, kw_only=True):
    """The candidate in float32 or in int8: the metric that decides, bytes of the model, milliseconds of 1 and of 1,000 rows."""

    value: float | None
    size: int
    row_ms: float
    rows_ms: float


class Int8(Struct, frozen=True, kw_only=True):
    """The second candidate that [train] quantise asks for; `taken`: it is the one that was judged beside production.

    Where none could be made, only `how` and `reason` say anything. `comparison` has float32 as production.
    """

    how: str
    taken: bool = False
    reason: str
    digest: str = ""
    margin: float = 0.0
    float32: Precision | None = None
    int8: Precision | None = None
    largest_difference: float | None = None
    comparison: Compared | None = None


class FormatRow(Struct, frozen=True, kw_only=True):
    """A model stored in one format; without a size there is no such file, and `missing` says why.

    `cold_ms` opens it in a fresh process, with all imports, `load_ms` once more; `answer_ms` are for the numbers of rows of FORMAT_ROWS.
    """

    name: str
    missing: str = ""
    safe: str = ""  # whose files of this format may be opened
    served: bool = False
    size: int | None = None  # bytes
    cold_ms: float | None = None
    load_ms: float | None = None
    answer_ms: list[float] = []
    difference: float | None = None  # largest, of an answer to the hold-out, to the trained model's


class Formats(Struct, frozen=True, kw_only=True):
    """What `make compare-formats` measured of the model with this digest, when and on what machine."""

    digest: str
    model: str
    rows: int  # of the hold-out
    made_at: str  # day, UTC
    cores: int
    processor: str
    python: str
    libraries: dict[str, str]
    shared: bool  # the machine did other work, too
    formats: list[FormatRow]


class Decision(Struct, frozen=True, kw_only=True):
    """The threshold from which on a row is of the positive class: how it was chosen, and what it gives.

    Precision, recall and mean cost per row, `expected` by the `folds_rows` of the training side that folds judged, and measured on the
    hold-out; None: not known, or not asked for. A cost is known by the rule "cost" alone.
    """

    rule: str
    positive: str
    threshold: float
    floor: float | None = None
    folds_rows: int = 0
    expected_precision: float | None = None
    expected_recall: float | None = None
    expected_cost: float | None = None
    precision: float | None = None
    recall: float | None = None
    cost: float | None = None


class RuleRow(Struct, frozen=True, kw_only=True):
    """What a rule did on the hold-out: the rows that it decided, and how many of them were right with it, and with the model alone.

    For a regression, `right` and `right_without` are the mean absolute errors on these rows instead.
    """

    rule: str
    before: bool
    rows: int
    right: float | None = None
    right_without: float | None = None


class Evaluation(Struct, frozen=True, kw_only=True):
    """The verdict on a candidate, and all that it rests on."""

    name: str = ""
    task: str = ""
    metric: str  # that decides
    higher_is_better: bool
    verdict: Literal["accept", "keep", "refuse"]
    reasons: list[str]
    first: bool  # there is nothing in production
    judged_by: Literal["first", "comparison", "limits"] = "comparison"
    settings_hash: str = ""
    candidate: Candidate = Candidate()
    production: InProduction | None
    data: DataChange | None = None
    next_version: int | None = None
    rows: int
    distinct_rows: int | None = None  # rows that are no copy of another; None: all of them
    counting: Counting | None = None  # None: each row counts the same, by itself
    policy: str = ""
    margin: float = 0.0
    confidence: float
    resamples: int = 0
    comparison: Comparison | None = None
    metrics: list[MetricRow]
    best: BestSoFar | None = None
    best_version: str | None = None
    slices: list[SliceRow] = []
    limits: list[LimitRow] = []
    checks: list[CheckRow] = []
    format: Format | None = None  # None: ONNX, when there was no other
    importance: Importance | None = None
    int8: Int8 | None = None  # None: [train] quantise does not ask for it
    decision: Decision | None = None  # None: the most probable class is the answer
    rules: list[RuleRow] = []
    search: Search | None = None
    shapley: Shapley | None = None
    formats: Formats | None = None  # None: nobody compared them

    @property
    def registers(self) -> tuple[str, str]:
        """The folder in build/ that is registered, and the digest of its content."""
        if self.int8 and self.int8.taken:
            return "quantised", self.int8.digest
        return "model", self.candidate.model_digest

    def decisive(self) -> MetricRow | None:
        """The row of the metric that decides."""
        return next((row for row in self.metrics if row.metric == self.metric), None)


def read(folder: Path) -> Evaluation:
    """The record in a folder; raises StageError that names the verb to run where it is missing or damaged."""
    return read_as(folder / NAME, Evaluation)


def write(folder: Path, evaluation: Evaluation) -> None:
    """Write the record, whole or not at all."""
    write_json(folder / NAME, plain(evaluation))


def plain(evaluation: Evaluation) -> dict[str, Any]:
    """The record as JSON holds it."""
    return msgspec.to_builtins(evaluation)


def drift_of(columns: list[dict[str, Any]]) -> list[ColumnDrift]:
    """What pipeline/data/drift.py found of each column, as the record holds it."""
    return msgspec.convert(columns, list[ColumnDrift])


def of_plain(value: Any) -> Evaluation:
    """The record that such plain data is; raises msgspec.ValidationError where it is none."""
    return msgspec.convert(value, Evaluation)
