"""What is counted of an experiment: the plan, and the sums.

The unit is the subject. Rows of a subject are made one number first, their mean, because they do not tell as much as rows of several
subjects. All sums of a day are cumulative: of everything from the start up to the end of that day.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

Outcome = Literal["correct", "error", "value"]
LARGEST = 1e100  # of a value: beyond it, squares are infinite


class Plan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which experiment to count, from when to when (seconds since 1970), and by what.

    `outcome` is what a row's outcome becomes: `correct`, 1 where the answered class came true and 0 where not; `error`, the size of the
    difference between answer and outcome, of which less is better; `value`, the number that was sent with it. An outcome that came later
    than `window` seconds after its request is left out; None keeps all.
    """

    model: str
    experiment: str
    mode: Literal["ab", "shadow"]
    champion: str  # versions
    challenger: str
    since: float
    until: float | None = None  # None: now
    outcome: Outcome
    window: Annotated[float, Meta(gt=0)] | None = None


class Arm(Struct, kw_only=True):
    """One variant, up to the end of a day.

    `subjects` were answered by this variant and not by the other one, `measured` of them have outcomes; `mean` and `squares`, the sum of
    the squared deviations from it, are of one number for each of those. In mode shadow these are subjects with answers of both models,
    and a request without a subject is one of its own.
    """

    subjects: int = 0
    requests: int = 0
    rows: int = 0
    outcomes: int = 0
    measured: int = 0
    mean: float = 0.0
    squares: float = 0.0


class Difference(Struct, kw_only=True):
    """B - A for each subject, in mode shadow: of how many, their mean, and the sum of the squared deviations from it."""

    measured: int = 0
    mean: float = 0.0
    squares: float = 0.0


class Day(Struct, kw_only=True):
    """Everything from the start up to the end of this day (UTC); `number` counts from 1, the day on which the phase began."""

    day: str
    number: int
    a: Arm
    b: Arm
    difference: Difference | None = None


class LeftOut(Struct, kw_only=True):
    """What was not counted."""

    tests: int = 0  # requests of delivery's own
    no_subject: int = 0  # requests without a subject, which the model in production answers
    outside: int = 0  # requests with one that it answered outside: the challenger had no answer, or the experiment had stopped itself
    crossed: int = 0  # subjects that both variants answered; they count up to the day on which the second one did
    late: int = 0  # outcomes after the window
    unusable: int = 0  # outcomes that cannot be judged by the plan's rule
    repeated: int = 0  # requests whose id had outcomes already
    alone: int = 0  # in mode shadow, outcomes of requests that B was not asked, or had no answer to
    unmatched: int = 0  # outcomes of earlier requests, of other models, or of no request of the log


class Shadow(Struct, kw_only=True):
    """How alike both models answered, in mode shadow: rows, those with the same answer, the sum of the sizes of the differences of numbers."""

    rows: int = 0
    same: int = 0
    difference: float = 0.0
    unanswered: int = 0  # rows of A without an answer of B, or too far apart in the log


class Speed(Struct, kw_only=True):
    """Seconds of a request, as logged: the quantiles are within 5 %."""

    median: float | None = None
    p95: float | None = None


class Stop(Struct, frozen=True):
    """When the experiment stopped itself (seconds since 1970), and why."""

    time: float
    reason: str


class Sums(Struct, kw_only=True):
    """All that was counted; as many pairs of answers follow as `pairs` says, at most PAIRS, taken at random from `paired`."""

    plan: Plan
    now: float
    days: list[Day] = msgspec.field(default_factory=list)
    left_out: LeftOut = msgspec.field(default_factory=LeftOut)
    failures: dict[str, int] = msgspec.field(
        default_factory=dict
    )  # requests without an answer, by version, of whole days
    speeds: dict[str, Speed] = msgspec.field(default_factory=dict)  # by variant
    shadow: Shadow | None = None
    paired: int = 0
    pairs: int = 0
    stop: Stop | None = None


PAIRS = 100_000


class Pair(Struct, frozen=True, kw_only=True, gc=False):
    """Both answers to one row whose outcome is known, as they are in the log; `subject` is a number, the same for the same subject."""

    subject: int
    outcome: Raw
    a: Raw
    b: Raw


def plan_of(raw: bytes) -> Plan:
    """A plan from JSON; raises ValueError in words."""
    try:
        plan = msgspec.json.decode(raw, type=Plan)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"the plan of what to count cannot be read: {error}") from None
    if plan.mode == "shadow" and plan.outcome == "value":
        raise ValueError(
            "a value that is sent with an outcome cannot be compared in mode shadow: nobody met the challenger's answers"
        )
    return plan
