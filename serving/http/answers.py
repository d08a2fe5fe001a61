"""What the service answers beside predictions, as types: they write the answers, and the document describes them."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from serving.access.keys import NAME, SCOPES
from serving.model.bundle import BundleRelease
from serving.model.contract import RuleNames
from serving.model.features import Input
from serving.requests.request_ids import RequestId

Seconds = Annotated[float, Meta(ge=0)]
Place = Annotated[int, Meta(ge=0, description="The row of a batch, counting from 0.")]


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """An answer has these fields and no other."""


class Health(Answer):
    """What serves here."""

    status: Literal["ok"]
    model: str
    version: str
    uptime_seconds: Seconds


class Alive(Answer):
    """The process answers."""

    status: Literal["alive"]


class Ready(Answer):
    """The model answers."""

    status: Literal["ready"]
    model_version: str


class ExperimentInfo(Answer, kw_only=True):
    """The experiment that the service carries: a second model beside this one."""

    name: str
    mode: Annotated[
        Literal["ab", "shadow"], Meta(description="Whether it answers callers, or is asked after they have an answer.")
    ]
    share: Annotated[float, Meta(gt=0, le=1, description="The share of the subjects that are its.")]
    challenger: Annotated[str, Meta(description="Its version.")]
    stopped: Annotated[bool, Meta(description="Whether a guardrail has taken it out, so that it answers nobody.")]


class ModelInfo(BundleRelease, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model: its release, and what it takes and gives."""

    task: Literal["binary", "multiclass", "regression"]
    target: str
    positive: Annotated[str | None, Meta(description="The class whose probability counts; binary only.")]
    classes: list[str]
    inputs: list[Input]
    explains: Annotated[bool, Meta(description="Whether an answer of /predict can be explained.")]
    threshold: (
        Annotated[
            float, Meta(gt=0, lt=1, description="The least probability with which the answer is the positive class.")
        ]
        | UnsetType
    ) = UNSET
    rules: RuleNames | UnsetType = UNSET
    experiment: ExperimentInfo | UnsetType = UNSET


class KnownCaller(Answer):
    """Somebody who has a key."""

    name: Annotated[str, Meta(pattern=rf"\A{NAME}\Z")]
    scopes: Annotated[list[Literal[SCOPES]], Meta(extra_json_schema={"uniqueItems": True})]  # type: ignore[valid-type]


class Status(BundleRelease, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the service is set up."""

    uptime_seconds: Seconds
    workers: Annotated[int, Meta(ge=0)]
    callers: Annotated[list[KnownCaller] | None, Meta(description="Who has a key; null where no keys are asked for.")]
    rate_limit: Annotated[float, Meta(ge=0, description="Requests a second that one caller may make; 0 is no limit.")]
    rate_limit_bytes: Annotated[
        float, Meta(ge=0, description="Bytes a second that one caller may send; 0 is no limit.")
    ]
    prediction_log: Annotated[Literal["sqlite", "postgres", "postgresql"] | None, Meta(description="Where it is kept.")]
    retention_days: Annotated[Seconds | None, Meta(description="For how long; 0 is for ever.")]
    experiment: ExperimentInfo | UnsetType = UNSET


class UnseenText(Answer, kw_only=True):
    """What the model has answered without knowing it."""

    feature: Annotated[str, Meta(description="The feature whose text the training never saw.")]
    row: Place | UnsetType = UNSET
    detail: str


class Error(Answer, kw_only=True):
    """One fault of a row."""

    feature: Annotated[str, Meta(description="The feature that is wrong.")] | UnsetType = UNSET
    row: Place | UnsetType = UNSET
    detail: str


class Problem(Answer):
    """A refusal, as RFC 9457 has it."""

    type: Literal["about:blank"]
    title: Annotated[str, Meta(description="The status in words.")]
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: Annotated[str, Meta(description="What is wrong, and what is allowed.")]
    request_id: RequestId
    errors: Annotated[list[Error], Meta(min_length=1, description="Each fault of the row.")] | UnsetType = UNSET


ABOUT = {
    "/health": Health,
    "/healthz": Alive,
    "/readyz": Ready,
    "/model/info": ModelInfo,
    "/admin/status": Status,
}
