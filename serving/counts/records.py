"""What is counted: the records that go into the table `daily_counts`, and the plan that says what to count.

They hold sums over the rows of a day only, so nothing in them belongs to one request, and they outlive the rows.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from serving.model.contract import Contract

MODEL = "the model"  # what decides a row where no rule does; rules have names without a space


class Bins(Struct, frozen=True):
    """Where the values of a column are counted: between the edges of a column of numbers, or by these texts and all others.

    `center` and `scale` are the mean and the standard deviation of a column of numbers in training, in its own units.
    """

    edges: list[float] | None = None
    values: list[str] | None = None
    center: float = 0.0
    scale: float = 1.0


class Version(Struct, frozen=True, kw_only=True):
    """How the rows of one version are counted.

    `loss` are the edges of the loss of a row. `surprise` is for a regression: inner edges of the prediction, and for each bin
    between them the largest absolute error that is no surprise. `slices` are columns by whose values outcomes are counted too.
    `deciders` are the model and its rules, for a model that has some.
    """

    contract: Contract
    features: dict[str, Bins]
    prediction: dict[str, Bins]
    target: Bins
    loss: Bins = Bins(edges=[])
    surprise: tuple[list[float], list[float]] | None = None
    slices: dict[str, Bins] = msgspec.field(default_factory=dict)
    deciders: Bins | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """What to count: of which versions, from when to when, and how long after a prediction its outcome is in time (seconds)."""

    model: str
    versions: dict[str, Version]
    since: float = 0.0
    until: float | None = None  # None: now
    label_window: Annotated[float, Meta(gt=0)]


class Column(Struct, kw_only=True):
    """The values of one column: how many per bin, and how many cells were empty.

    `outside` are numbers beyond what training saw, `unseen` texts that it did not. `total` and `squares` are sums of
    (value - center) / scale and of its square, each value limited to LARGEST in size.
    """

    counts: list[int]
    missing: int = 0
    outside: int = 0
    unseen: int = 0
    total: float = 0.0
    squares: float = 0.0


LARGEST = 1e6  # in standard deviations: one absurd value must not drown a day's mean


class Rows(Struct, kw_only=True):
    """What was asked and answered."""

    requests: int = 0
    rows: int = 0
    repeated: int = 0  # requests whose id was there already that day
    unreadable: int = 0  # rows that do not fit the version's contract
    callers: dict[str, int] = msgspec.field(default_factory=dict)
    features: dict[str, Column] = msgspec.field(default_factory=dict)
    prediction: dict[str, Column] = msgspec.field(default_factory=dict)
    labels: dict[str, int] = msgspec.field(default_factory=dict)
    deciders: Column | None = None  # what decided each row: the model, or a rule by its name
    expected_correct: float = 0.0  # sum of the largest probability of each row
    expected_loss: float = 0.0  # sum of the entropy of each row's probabilities


class Part(Struct, kw_only=True):
    """The outcomes of a slice."""

    rows: int = 0
    wrong: int = 0
    loss: float = 0.0


class Outcomes(Struct, kw_only=True):
    """How the rows of a day turned out.

    `late` came after the window, `repeated` were sent more than once, `unknown` are of no class of the model. `scores` are rows
    per hundredth of the positive class's probability, `positives` those of them that were positive. `delay` counts by DELAYS.
    The loss of a row of a regression is limited to LARGEST standard deviations of the target.
    """

    rows: int = 0
    late: int = 0
    repeated: int = 0
    unknown: int = 0
    target: Column | None = None
    confusion: list[list[int]] = msgspec.field(default_factory=list)  # actual by answered class
    wrong: int = 0
    expected_correct: float = 0.0
    surprises: int = 0
    loss: Column | None = None
    loss_sum: float = 0.0
    loss_squares: float = 0.0
    scores: list[int] = msgspec.field(default_factory=list)
    positives: list[int] = msgspec.field(default_factory=list)
    delay: list[int] = msgspec.field(default_factory=list)
    slices: dict[str, Part] = msgspec.field(default_factory=dict)


# Seconds; the upper ends of the bins in which delays of outcomes are counted, and one more bin beyond.
DELAYS = (
    1,
    10,
    60,
    600,
    3600,
    3 * 3600,
    6 * 3600,
    12 * 3600,
    *(86_400 * days for days in (1, 2, 3, 5, 7, 10, 14, 21, 30, 60, 90)),
)
SCORES = 100  # bins of the positive class's probability


class Day(Struct, kw_only=True):
    """One day (UTC, as 2026-01-31) of one version; without `rows` its rows cannot be counted, because the plan lacks the version."""

    day: str
    version: str
    requests: int = 0  # in the log, delivery's own too
    tests: int = 0  # of these, delivery's own, which are counted nowhere else
    asked: int = 0  # rows of callers, also of a version that the plan lacks
    challenged: int = (
        0  # rows of callers that it answered as the challenger of an experiment, which are counted nowhere else
    )
    refused: dict[str, int] = msgspec.field(default_factory=dict)  # requests by status
    came: dict[int, int] = msgspec.field(
        default_factory=dict
    )  # outcomes of its requests, by the day on which they came
    orphaned: int = 0  # outcomes that came that day for no request of the log or one far older than the window; only where `version` is ""
    rows: Rows | None = None
    outcomes: Outcomes | None = None


class Log(Struct, kw_only=True):
    """What is in a log: requests by model, the times of the first and the last, and its own time now (seconds since 1970)."""

    now: float
    models: dict[str, int] = msgspec.field(default_factory=dict)
    first: float | None = None
    last: float | None = None


def plan_of(raw: bytes) -> Plan:
    """A plan from JSON; raises ValueError in words."""
    try:
        return msgspec.json.decode(raw, type=Plan)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"the plan of what to count cannot be read: {error}") from None


def to_builtins(record: Any) -> Any:
    """A record as dictionaries and lists."""
    return msgspec.to_builtins(record)
