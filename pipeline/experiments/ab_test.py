"""An A/B test in a notebook or a script: divide users between two models, record what they got, add outcomes, analyze.

It divides users as the service does (serving/experiment/experiment.py), and analyzes by the functions of `make experiment`.
"""

import html
import math
import random
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.errors import DataError
from pipeline.experiments.confidence_sequence import FEWEST, Interval, effective, interval
from pipeline.experiments.sample_ratio import SampleRatio, sample_ratio
from pipeline.experiments.welch import ALPHA, Welch, summary, welch
from serving.experiment.count.records import LARGEST
from serving.experiment.experiment import position_of


class Answered(NamedTuple):
    """What `predict` gives: the number of the record, for `add_outcome`; whose answer it is; and the answer."""

    number: int
    variant: str
    prediction: Any


@dataclass
class _Record:
    variant: str
    user: Hashable | None
    features: Any
    prediction: Any
    outcome: Any = None
    told: bool = False


@dataclass(frozen=True)
class ABResult:
    """What is known now. A difference is that of the second variant and the first.

    `table` (2 variants, figures) has users, count (of users with outcomes), mean and standard deviation. `welch` is the t-test for one look, None
    with fewer than two users in a variant; `sequence` may be looked at as often as you like, None below 100 users in a variant;
    `ratio` says whether users were divided as the split says. `crossed` users had both variants, and are left out.
    """

    variants: tuple[str, str]
    table: pd.DataFrame
    welch: Welch | None
    sequence: Interval | None
    ratio: SampleRatio | None
    crossed: int

    @property
    def p_value(self) -> float | None:
        """That of the t-test."""
        return self.welch.p_value if self.welch else None

    @property
    def significant(self) -> bool:
        """Whether p < 0.05 in the t-test: an answer for one look, at a time that was chosen before."""
        return self.welch is not None and self.welch.p_value < ALPHA

    @property
    def better(self) -> str:
        """The variant with the larger mean where the sequence is sure and users were divided as they should be; else ""."""
        if self.sequence is None or not self.sequence.decided or (self.ratio and self.ratio.mismatch):
            return ""
        return self.variants[self.sequence.low > 0]

    @property
    def words(self) -> str:
        """What was found, in two or three lines."""
        first, second = self.variants
        lines = []
        if self.ratio and self.ratio.mismatch:
            lines.append(
                f"{self.ratio.found:.1%} of the users have {second}, not {self.ratio.expected:.1%} (p = {self.ratio.p_value:.1g}): "
                "something decides who is counted, so do not compare"
            )
        if self.sequence:
            said = f"{self.better} has the larger mean" if self.better else "nothing is decided"
            lines.append(
                f"{said}: {second} - {first} is between {self.sequence.low:.4g} and {self.sequence.high:.4g}, however often you look"
            )
        elif self.table["count"].min() >= FEWEST:
            lines.append(
                "nothing is decided: all users of a variant are alike, so nothing says how sure a difference is"
            )
        else:
            lines.append(f"nothing is decided: {FEWEST} users of each variant with outcomes are needed")
        if self.welch:
            lines.append(
                f"for one look: t = {self.welch.t:.3g}, p = {self.welch.p_value:.3g}, "
                f"between {self.welch.low:.4g} and {self.welch.high:.4g}"
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Words and table, for a terminal."""
        return f"{self.words}\n{self.table.to_string(float_format=_short)}"

    def _repr_html_(self) -> str:
        words = html.escape(self.words).replace("\n", "<br>")
        return f"<p>{words}</p>{self.table.to_html(float_format=_short)}"


class ABTest:
    """Two models with traffic split by name: `ABTest({"A": model_a, "B": model_b}, {"A": 0.9, "B": 0.1})`.

    The same user always meets the same model. What each one got is kept in memory, with its features.
    """

    def __init__(
        self,
        variants: Mapping[str, Any],
        split: Mapping[str, float],
        name: str = "experiment",
        score: Callable[[Any, Any], float] | None = None,
        planned: int = 1000,
        seed: int | None = None,
    ):
        """`variants`: a model each, with `predict` or callable (None if you only `record`); `split`: their shares, which add up to 1.

        `name` decides who meets whom: another name divides anew, and a running experiment of that name divides as here. `score(prediction, outcome)`
        makes a number of each record; without it that is the outcome. `planned`: users with outcomes at which the sequence shall be
        narrowest; choose it before the first look. `seed` is for users without an id. Raises DataError unless there are two variants
        with shares above 0.
        """
        if not isinstance(variants, Mapping) or not isinstance(split, Mapping):
            raise DataError(
                "variants and split are mappings by name, as {'A': model, 'B': other} and {'A': 0.9, 'B': 0.1}"
            )
        if len(variants) != 2:
            raise DataError(
                f"there are {len(variants)} variants; an A/B test compares two",
                "compare each challenger with the first model in a test of its own, one after the other",
            )
        if set(split) != set(variants):
            raise DataError(f"the split is of {_listed(split)}, the variants are {_listed(variants)}")
        shares = [_finite(share) for share in split.values()]
        if not all(0 < share < 1 for share in shares) or abs(sum(shares) - 1) > 1e-9:
            raise DataError(f"the split is {dict(split)}; shares are above 0 and add up to 1")
        if not _finite(planned) >= 2 * FEWEST:
            raise DataError(f"planned is {planned}; at least {2 * FEWEST} users are needed for a decision")
        self.variants, self.split, self.name = dict(variants), dict(zip(split, shares, strict=True)), name
        self._first, self._second = self.variants
        share = self.split[self._second]
        self._score, self._planned = score, effective(planned * (1 - share), planned * share)
        self._random = random.Random(seed)
        self._records: list[_Record] = []

    def assign(self, user: Hashable | None = None) -> str:
        """Whose turn it is: always the same variant for the same user (by the text of its id), a random one without (None or NaN)."""
        at = self._random.random() if _unnamed(user) else position_of(self.name, str(user))
        return self._second if at < self.split[self._second] else self._first

    def predict(self, features: Any, user: Hashable | None = None) -> Answered:
        """The answer of the user's model to one row, which is recorded.

        `features`: a mapping, a Series, a list or array (k,), or a frame or array of one row. Raises DataError for several rows, and for a model that cannot predict.
        """
        variant = self.assign(user)
        model = self.variants[variant]
        ask = getattr(model, "predict", model)
        if not callable(ask):
            raise DataError(f"variant {variant!r} has neither `predict` nor can it be called; use `record`")
        answer = np.asarray(ask(_one_row(features)))
        if not answer.size:
            raise DataError(f"variant {variant!r} answered nothing to one row")
        prediction = answer[0] if answer.ndim else answer[()]
        return Answered(self.record(variant, features, prediction, user), variant, prediction)

    def record(self, variant: str, features: Any = None, prediction: Any = None, user: Hashable | None = None) -> int:
        """Keep what a user got; returns the record's number for `add_outcome`. Raises DataError for an unknown variant."""
        if variant not in self.variants:
            raise DataError(f"there is no variant {variant!r}; there are {_listed(self.variants)}")
        self._records.append(_Record(variant, None if _unnamed(user) else user, features, prediction))
        return len(self._records) - 1

    def add_outcome(self, number: int, outcome: Any) -> None:
        """Tell what became of a record; telling it again replaces it. Raises DataError for no such record, and for what is no finite number."""
        if not isinstance(number, int | np.integer) or not 0 <= number < len(self._records):
            raise DataError(
                f"there is no record {number!r}; {len(self._records)} were made",
                "`predict` and `record` return the number of a record, by which its outcome is told",
            )
        record = self._records[number]
        _number(outcome if self._score is None else self._score(record.prediction, outcome), number)
        record.outcome, record.told = outcome, True

    @property
    def records(self) -> pd.DataFrame:
        """Everything that was recorded, (n, 5): variant, user, features, prediction and outcome, None while it is not known."""
        columns = ("variant", "user", "features", "prediction", "outcome")
        return pd.DataFrame(
            {name: pd.Series([getattr(one, name) for one in self._records], dtype=object) for name in columns}
        )

    def analyze(self) -> ABResult:
        """Compare the means over users: records of a user are one number first, a record without a user is one of its own."""
        users: dict[str, dict[Hashable, list[float]]] = {name: {} for name in self.variants}
        for place, record in enumerate(self._records):
            key = (place,) if record.user is None else str(record.user)
            scores = users[record.variant].setdefault(key, [])
            if record.told:
                value = record.outcome if self._score is None else self._score(record.prediction, record.outcome)
                scores.append(_number(value, place))
        first, second = (users[name] for name in self.variants)
        crossed = first.keys() & second.keys()
        means = [
            np.array([np.mean(scores) for key, scores in one.items() if scores and key not in crossed])
            for one in (first, second)
        ]
        counts = [len(one) - len(crossed) for one in (first, second)]
        a, b = (summary(one) if len(one) else None for one in means)
        return ABResult(
            variants=(self._first, self._second),
            table=_table((self._first, self._second), counts, means),
            welch=welch(a, b) if a and b else None,
            sequence=interval(a, b, self._planned) if a and b else None,
            ratio=sample_ratio(counts[0], counts[1], self.split[self._second]),
            crossed=len(crossed),
        )


def _table(names: tuple[str, str], users: list[int], means: list[np.ndarray]) -> pd.DataFrame:
    rows = [
        {
            "users": number,
            "count": len(values),
            "mean": float(values.mean()) if len(values) else np.nan,
            "standard deviation": float(values.std(ddof=1)) if len(values) > 1 else np.nan,
        }
        for number, values in zip(users, means, strict=True)
    ]
    return pd.DataFrame(rows, index=pd.Index(names, name="variant"))


def _one_row(features: Any) -> Any:
    """A table of one row."""
    if isinstance(features, Mapping | pd.Series):
        return pd.DataFrame([dict(features)])
    if isinstance(features, pd.DataFrame):
        row = features
    else:
        row = np.asarray(features)
        row = row.reshape(1, -1) if row.ndim < 2 else row
    if len(row) != 1:
        raise DataError(f"there are {len(row)} rows; `predict` answers one, so that each user meets one model")
    return row


def _unnamed(user: Any) -> bool:
    """Whether a record names nobody; a missing id in a column of pandas is NaN."""
    return user is None or bool(pd.api.types.is_scalar(user) and pd.isna(user))


def _finite(value: Any) -> float:
    """A number; NaN for everything else."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return math.nan
    return found if abs(found) <= LARGEST else math.nan


def _number(value: Any, place: int) -> float:
    found = _finite(value)
    if math.isnan(found):
        raise DataError(
            f"the outcome of record {place} is {value!r}, no finite number up to {LARGEST:g}",
            "give ABTest a `score` that makes a number of prediction and outcome",
        )
    return found


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, names))


def _short(value: float) -> str:
    return f"{value:.4g}"
