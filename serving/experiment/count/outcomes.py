"""What an outcome says of an answer, as one number."""

import math
from collections.abc import Callable

import msgspec

from serving.experiment.count.records import LARGEST, Outcome
from serving.log.reader import Told

NO_OUTCOME = "null"  # only a value was sent


class Answer(msgspec.Struct, gc=False):
    """One row's answer: a class, or a value."""

    label: str | None = None
    value: float | None = None


class Unusable(ValueError):
    """The outcome cannot be judged by this rule."""


answers_of = msgspec.json.Decoder(list[Answer]).decode
Score = Callable[[Answer, Told], float | None]


def _correct(answer: Answer, told: Told) -> float | None:
    if told.outcome == NO_OUTCOME:
        return None
    actual = _decoded(told.outcome)
    if answer.label is None or not isinstance(actual, str):
        raise Unusable
    return float(answer.label == actual)


def _error(answer: Answer, told: Told) -> float | None:
    if told.outcome == NO_OUTCOME:
        return None
    actual = _decoded(told.outcome)
    if answer.value is None or isinstance(actual, bool) or not isinstance(actual, int | float):
        raise Unusable
    return _limited(abs(answer.value - actual))


def _value(_: Answer, told: Told) -> float | None:
    return None if told.value is None else _limited(told.value)


SCORES: dict[Outcome, Score] = {"correct": _correct, "error": _error, "value": _value}


def _decoded(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise Unusable from None


def _limited(value: float) -> float:
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise Unusable
    return value
