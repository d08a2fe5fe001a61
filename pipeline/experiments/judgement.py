"""What is known of an experiment: build/experiment.json. `judge` writes it; pages and verbs show it.

A difference is always B - A, of means over subjects. Days are UTC days as 2026-01-31. None stands where there is no such number.
"""

from typing import Literal

from msgspec import Struct, field

from pipeline.experiments.paired import Paired
from pipeline.experiments.sample_ratio import SampleRatio
from pipeline.experiments.welch import Welch

NAME = "experiment.json"
# In the order in which they are looked for. "running": too few subjects, or no outcomes yet.
Verdict = Literal[
    "stopped itself", "sample ratio mismatch", "B better", "A better", "no difference so far", "running"
]  # fmt: skip


class Arm(Struct, frozen=True, kw_only=True):
    """One variant since the start of the phase, up to now. Mean and standard deviation are of the subjects with outcomes."""

    variant: str  # "A" or "B"
    version: str
    subjects: int = 0  # that it answered, and the other one did not
    measured: int = 0  # of these, with outcomes; in mode shadow, subjects whose answers of both models can be judged
    requests: int = 0
    rows: int = 0
    outcomes: int = 0  # rows with one
    mean: float | None = None
    deviation: float | None = None
    failures: int = 0  # requests without an answer of this version, by whole days
    seconds_median: float | None = None  # of a request, as logged
    seconds_p95: float | None = None


class Look(Struct, frozen=True, kw_only=True):
    """What was known at the end of a day; the last one may be today, so far.

    `low` and `high` are the confidence sequence: with 95 % it covers the true difference on all days at once. `fixed_low` and
    `fixed_high` cover it on one day alone, which must be chosen beforehand.
    """

    day: str
    number: int  # of the day within the phase, from 1
    subjects_a: int
    subjects_b: int
    measured_a: int
    measured_b: int
    mean_a: float | None = None
    mean_b: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    fixed_low: float | None = None
    fixed_high: float | None = None
    p_value: float | None = None  # of that one day
    ratio_p: float | None = None  # of the sample ratio


class Guardrail(Struct, frozen=True, kw_only=True):
    """Something besides the outcome that must not get worse; `limit` is what B is allowed, None where nothing is limited."""

    name: str  # "requests without an answer", "95th percentile of a request", "subjects with outcomes"
    unit: Literal["share", "seconds"]
    a: float | None = None
    b: float | None = None
    limit: float | None = None
    broken: bool = False
    words: str = ""


class LeftOut(Struct, frozen=True, kw_only=True):
    """One reason why something was not counted: how many, of what ("requests", "subjects", "outcomes"), and why, in words."""

    number: int
    of: str
    why: str


class Agreement(Struct, frozen=True, kw_only=True):
    """How alike the answers of both models are to the same rows, in mode shadow; `difference` is the mean size for numbers."""

    rows: int
    same: float | None = None  # share of rows with the same answer
    difference: float | None = None
    unanswered: int = 0  # rows of A without an answer of B: not in the sample, dropped, or B had none


class Judgement(Struct, frozen=True, kw_only=True):
    """An experiment as it stands. In mode shadow `welch` and `ratio` are None: each subject has both answers."""

    model: str
    experiment: str
    mode: Literal["ab", "shadow"]
    state: str  # of the record: starting, running, stopping, ended
    share: float
    champion: str
    challenger: str
    started: float  # seconds since 1970
    since: float  # start of the last phase, from which on is counted
    until: float
    time: str  # of this judgement
    outcome: Literal["correct", "error", "value"]
    measure: str  # in words: what a mean is of
    higher_is_better: bool
    verdict: Verdict
    words: str  # the verdict in a sentence or two
    decided_day: str | None = None  # the first day whose sequence leaves out zero; later ones do not undo it
    a: Arm
    b: Arm
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    relative: float | None = None  # the difference as a share of A's mean
    looks: list[Look] = field(default_factory=list)
    welch: Welch | None = None
    ratio: SampleRatio | None = None
    agreement: Agreement | None = None
    paired: Paired | None = None  # the gate's metric on pairs, in mode shadow
    guardrails: list[Guardrail] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    stop_reason: str = ""
    stopped: float | None = None  # when it stopped itself, seconds since 1970
    notes: list[str] = field(default_factory=list)
