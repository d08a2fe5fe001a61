"""What the monitor found: build/monitor.json. It is written and read here and nowhere else.

Days are UTC days as 2026-01-31. `evidence` is the logarithm of the detector's evidence divided by that of its limit: 1 is an alarm.
None stands where there is no such number.
"""

from pathlib import Path
from typing import Literal

from msgspec import Struct, field

from pipeline.artifacts import read_as, write_json

NAME = "monitor.json"
Kind = Literal["data_broken", "data_drift", "prediction_drift", "target_drift", "concept_drift", "performance"]
Check = Literal[
    "distribution",
    "missing",
    "outside",
    "unseen",
    "volume",
    "refused",
    "unreadable",
    "wrong",
    "loss",
    "surprise",
    "limit",
]
Verdict = Literal["ok", "watch", "broken", "falling", "unknown"]  # unknown: there is nothing to judge


class WatchedVersion(Struct, frozen=True, kw_only=True):
    """A version that answered in the time that is judged, and why it is not judged, if so."""

    version: str
    first_day: str
    last_day: str
    rows: int
    judged: bool
    why_not: str = ""


class Incident(Struct, frozen=True, kw_only=True):
    """Something that has been wrong since a day and raised an alarm; `column` is None if all rows are affected.

    `before` and `now` are the figure that moved, at release and since `since`; `unit` says in words what figure that is.
    """

    kind: Kind
    check: Check
    version: str
    column: str | None = None
    since: str
    alarm_day: str
    open: bool
    closed_day: str | None = None
    evidence: float
    before: float | None = None
    now: float | None = None
    unit: str = ""
    rows: int = 0
    words: str = ""


class ColumnRow(Struct, frozen=True, kw_only=True):
    """One feature, the prediction or the target, over the last days: distances to training, as numbers that raise no alarm."""

    name: str
    kind: Literal["feature", "prediction", "target"]
    version: str
    rows: int
    evidence: float | None = None
    alarm: bool = False
    missing_before: float | None = None
    missing_now: float | None = None
    outside: float | None = None
    unseen: float | None = None
    mean_before: float | None = None
    mean_now: float | None = None
    ks: float | None = None
    psi: float | None = None
    chi2: float | None = None
    wasserstein: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    drifted: bool = False  # p_value below 0.05, the usual rule


class Measured(Struct, frozen=True, kw_only=True):
    """A metric over the rows with outcomes of the last days, between `low` and `high` with 95 %, and the hold-out's at release."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    holdout: float | None = None
    rows: int
    higher_is_better: bool


class Limit(Struct, frozen=True, kw_only=True):
    """An absolute limit of [monitor.limits]; `value` is None until there are enough outcomes."""

    metric: str
    limit: float
    value: float | None
    rows: int
    broken: bool


class SliceRow(Struct, frozen=True, kw_only=True):
    """The outcomes of a slice: the share of wrong answers (of surprises, for a regression) and the mean loss."""

    slice: str
    rows: int
    wrong: float
    loss: float


class TTest(Struct, frozen=True, kw_only=True):
    """Welch's t-test of the loss of the last rows with outcomes against the hold-out's: a number that raises no alarm."""

    rows: int
    mean_before: float
    mean_now: float
    t: float
    p_value: float
    drifted: bool  # p_value below 0.01


class Performance(Struct, frozen=True, kw_only=True):
    """How well production answers, from the outcomes that came."""

    metrics: list[Measured] = []
    coverage: float | None = None  # share of the rows, old enough to have one, that have an outcome
    delay_seconds: dict[str, float] = {}  # quantiles of the time from prediction to outcome
    limits: list[Limit] = []
    slices: list[SliceRow] = []
    t_test: TTest | None = None


class Estimate(Struct, frozen=True, kw_only=True):
    """A metric estimated from the model's own probabilities, before outcomes come (CBPE)."""

    name: str
    value: float
    rows: int


class OutcomeCounts(Struct, frozen=True, kw_only=True):
    """How many outcomes came in the days that are shown."""

    matched: int = 0
    late: int = 0
    repeated: int = 0
    orphaned: int = 0
    unknown: int = 0


class DayRow(Struct, frozen=True, kw_only=True):
    """One day of one version: the evidence of each column, and the measured and estimated performance."""

    day: str
    version: str
    rows: int
    evidence: dict[str, float] = {}
    missing: dict[str, float] = {}
    refused: int = 0
    labelled: int = 0
    measured: float | None = None  # of `Findings.daily_metric`
    estimated: float | None = None


class Released(Struct, frozen=True, kw_only=True):
    """The first day on which a version answered."""

    version: str
    day: str


class Distribution(Struct, frozen=True, kw_only=True):
    """The shares of a column then and now, per bin: between `edges`, or for each of `values` and all others."""

    name: str
    edges: list[float] | None = None
    values: list[str] | None = None
    before: list[float]
    now: list[float]


class Findings(Struct, frozen=True, kw_only=True):
    """All that one run of the monitor found."""

    schema: int = 1
    name: str
    environment: str
    time: str
    last_day: str
    verdict: Verdict
    daily_metric: str = ""
    versions: list[WatchedVersion] = []
    incidents: list[Incident] = []
    columns: list[ColumnRow] = []
    performance: Performance = field(default_factory=Performance)
    estimated: list[Estimate] = []
    outcomes: OutcomeCounts = field(default_factory=OutcomeCounts)
    distributions: list[Distribution] = []
    days: list[DayRow] = []
    releases: list[Released] = []
    notes: list[str] = []

    def open_incidents(self) -> list[Incident]:
        """The incidents that are not over."""
        return [incident for incident in self.incidents if incident.open]


def write(path: Path, findings: Findings) -> None:
    """Write build/monitor.json, atomically."""
    import msgspec

    write_json(path, msgspec.to_builtins(findings))


def read(path: Path) -> Findings:
    """Read build/monitor.json; raises StageError that names the verb to run."""
    return read_as(path, Findings)


def verdict(incidents: list[Incident]) -> Verdict:
    """The verdict over incidents: the worst of those that are open."""
    kinds = {incident.kind for incident in incidents if incident.open}
    if "data_broken" in kinds:
        return "broken"
    return "falling" if "performance" in kinds else "watch" if kinds else "ok"
