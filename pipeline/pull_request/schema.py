"""What a pull request would change, as plain data: build/pull_request.json, and how it is read when a stranger wrote it.

The file holds numbers and short texts, never markup. It is made where the pull request's own code ran, and read elsewhere:
whatever is not exactly of this form is refused.
"""

import json
import stat
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import StageError

NAME = "pull_request.json"
MOST_BYTES = 256_000
MOST_METRICS, MOST_ROWS, MOST_COLUMNS, MOST_REASONS = 60, 60, 60, 20  # of each list
TEXT, WORDS = 120, 400  # characters of a name, and of a sentence


def _visible(text: str) -> str:
    """The text, if no character of it controls anything: no line breaks, nothing invisible, nothing that turns the direction."""
    for each in text:
        if unicodedata.category(each)[0] in "C" or unicodedata.category(each) in ("Zl", "Zp"):
            raise ValueError(f"it holds the control character U+{ord(each):04X}")
    return text


Name = Annotated[str, Field(max_length=TEXT), AfterValidator(_visible)]
Sentence = Annotated[str, Field(max_length=WORDS), AfterValidator(_visible)]
Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Share = Annotated[float, Field(ge=0, le=1)]
Version = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]


class Part(BaseModel):
    """A part of the file: no other keys than these, no text where a number belongs."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Compared(Part):
    """Candidate and production by one metric; None where there is no such number."""

    candidate: Number | None
    production: Number | None
    difference: Number | None
    lower: Number | None
    upper: Number | None


class Metric(Compared):
    """One metric on the hold-out."""

    metric: Name
    higher_is_better: bool


class Slice(Compared):
    """The metric that decides, on a part of the hold-out."""

    slice: Name
    rows: Count
    judged: bool
    worse: bool


class Limit(Part):
    """An absolute limit of the candidate."""

    metric: Name
    limit: Number
    value: Number | None
    higher_is_better: bool
    success: bool


class Check(Part):
    """A check of the portable model."""

    check: Name
    observed: Number | None
    limit: Number | None
    unit: Name
    success: bool


class Production(Part):
    """What serves now."""

    version: Version
    since: Name


class Comparison(Compared):
    """How far apart the two are by the metric that decides, and what the hold-out could have shown."""

    metric: Name
    detectable: Number | None


class Decision(Part):
    """The threshold, how it was chosen, and what it gives; None where a figure is not known."""

    rule: Name
    positive: Name
    threshold: Number
    floor: Number | None
    folds_rows: Count
    expected_precision: Number | None
    expected_recall: Number | None
    expected_cost: Number | None
    precision: Number | None
    recall: Number | None
    cost: Number | None


class Counting(Part):
    """How rows count: the columns of weight, group and time, "" where there is none; how many groups, and from when on rows are held out."""

    weight: Name
    unweighted: list[Name] = Field(max_length=MOST_METRICS)
    group: Name
    groups: Count | None
    time: Name
    cut: Name


class Evaluation(Part):
    """What evaluate.py found, as far as the comment needs it."""

    verdict: Literal["accept", "keep", "refuse"]
    reasons: list[Sentence] = Field(max_length=MOST_REASONS)
    metric: Name
    higher_is_better: bool
    first: bool
    production: Production | None
    next_version: Annotated[int, Field(ge=1, le=10**9)] | None
    rows: Count
    confidence: Share
    comparison: Comparison | None
    metrics: list[Metric] = Field(max_length=MOST_METRICS)
    slices: list[Slice] = Field(max_length=MOST_ROWS)
    limits: list[Limit] = Field(max_length=MOST_METRICS)
    checks: list[Check] = Field(max_length=MOST_METRICS)
    decision: Decision | None = None  # None: the most probable class is the answer, or a report of an older release
    counting: Counting | None = None  # None: each row counts once, on its own, or a report of an older release


class Missing(Part):
    """The share of empty cells of a column."""

    before: Share
    now: Share


class Drift(Part):
    """How far a column has moved from what production was trained on."""

    column: Name
    psi: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    missing: Missing


class Change(Part):
    """The data beside that of production; None where it is not known."""

    version: Version
    same: bool
    rows: Count
    rows_before: Count | None
    rows_added: Count | None
    rows_removed: Count | None
    columns_added: list[Name] = Field(max_length=MOST_COLUMNS)
    columns_removed: list[Name] = Field(max_length=MOST_COLUMNS)
    drift: list[Drift] = Field(max_length=MOST_COLUMNS)


class DataCheck(Part):
    """A check of the data that failed."""

    column: Name
    rule: Sentence
    severity: Literal["critical", "warning"]
    observed: Sentence


class Data(Part):
    """What validate found."""

    rows: Count
    columns: Count
    checks: Count
    passed: Count
    failed: list[DataCheck] = Field(max_length=MOST_REASONS)
    change: Change | None


class Replay(Compared):
    """The candidate on the rows that production answered; with a note, why there is none."""

    note: Sentence
    days: Annotated[int, Field(ge=0, le=365)]
    rows: Count
    refused: Count
    agreement: Share | None
    outcomes: Count
    subjects: Count | None
    metric: Name
    higher_is_better: bool


class PullRequest(Part):
    """The whole of build/pull_request.json."""

    format: Annotated[int, Field(ge=1, le=1)]  # Literal[1] would take true for 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$")]
    number: Annotated[int, Field(ge=1, le=2**31)] | None
    head: Sha | None
    commit: Sha | None
    link: Sentence
    failed_stage: Literal["validate", "validate-model", "train", "evaluate"] | None
    failures: list[Sentence] = Field(max_length=MOST_REASONS)
    production_unknown: bool
    evaluation: Evaluation | None
    data: Data | None
    replay: Replay | None = None  # None: not asked for, or a report of an older release


def read(folder: Path) -> PullRequest | None:
    """The report in a folder that holds it and nothing else; None when there is no folder or nothing in it.

    Raises StageError that says what is wrong with the folder or the file. Nothing that the file says is repeated.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise refusal("is no folder")
    there = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if not there:
        return None
    if there != [NAME]:
        raise refusal(f"holds something else than {NAME}")
    file = folder / NAME
    about = file.lstat()
    if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
        raise refusal("holds a link or the like, not a file")
    if about.st_size > MOST_BYTES:
        raise refusal(f"holds a report of more than {MOST_BYTES:,} bytes")
    return parsed(file.read_bytes())


def parsed(content: bytes) -> PullRequest:
    """The report that these bytes are; raises StageError when they are none."""
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
        return PullRequest.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        known = [part for part in first["loc"] if isinstance(part, int) or part in _KEYS]
        raise refusal(f"holds no valid report: {'.'.join(map(str, known)) or 'a key'} is refused") from None
    except RecursionError:
        raise refusal("holds a report that is nested too deeply") from None
    except ValueError:  # of the text's encoding, of JSON, of a number with thousands of digits
        raise refusal("holds a report that is not plain JSON") from None


def refusal(why: str) -> StageError:
    """The error for a report that is not trusted."""
    return StageError(f"build/incoming {why}", "`make pr-report` writes the report; nothing of this one is used")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


_KEYS = {key for part in (PullRequest, Evaluation, Decision, Metric, Slice, Limit, Check, Data, Change, Drift, DataCheck, Comparison, Replay)
         for key in part.model_fields}  # fmt: skip
