"""The schemas of the files in build/, as far as later stages rely on them; more keys are allowed. Not evaluation.json: pipeline/evaluation/record.py."""

from typing import Any, NotRequired, TypedDict


class Bounds(TypedDict):
    """The range of a column's values; None for an open side."""

    minimum: float | None
    maximum: float | None


class Rows(TypedDict):
    """The number of rows on each side of the split."""

    train: int
    holdout: int


class Split(TypedDict):
    """How the hold-out was chosen; `id` is the column by which, whether it is an id, a group or a time."""

    holdout: float
    salt: str
    id: str | None
    by: NotRequired[str]
    cut: NotRequired[str]


class Trial(TypedDict):
    """The difference between the served and the trained model on one kind of rows."""

    where: str
    difference: float | None


class Check(TypedDict):
    """A check and its result."""

    success: bool


class Data(TypedDict):
    """data.json, by `make validate`."""

    success: bool
    data_hash: str
    rows: int
    columns: int
    ranges: dict[str, Bounds]
    values: dict[str, list[Any]]
    checks: list[Check]


class Int8(TypedDict):
    """The candidate in int8: how it was made, and the digest of build/quantised, or why there is none."""

    how: str
    digest: str
    reason: str


class Run(TypedDict):
    """run.json, by `make train`."""

    run_id: str
    experiment_id: str
    run_url: str
    model_id: str | None
    model_uri: str
    model_digest: str
    data_hash: str
    lock_hash: str
    settings_hash: str
    commit: str
    dirty: bool
    reason: str
    trained_at: str
    trained_by: str
    format: str
    features: list[str]
    rows: Rows
    split: Split
    trials: list[Trial]
    int8: NotRequired[Int8 | None]  # None: none was asked for


class Registered(TypedDict):
    """registered.json, by `make register`."""

    version: str
    digest: str


class Image(TypedDict):
    """image.json, by `make image`."""

    version: str
    digest: str
    image: str
    pushed: bool


HOLDS: dict[str, Any] = {
    "data.json": Data,
    "run.json": Run,
    "registered.json": Registered,
    "image.json": Image,
}
