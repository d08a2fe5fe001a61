"""Drift between two tables, in a notebook: `DriftDetector(reference).detect(new)`.

The figures are those of `make monitor`: its distances, its adjustment of p-values, and for days one after the other its detector.
"""

import html
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.errors import DataError
from pipeline.monitor import distances
from pipeline.monitor.detector import Cells, Stream, Trace, distribution_cells, log_limit, missing_cells, replay
from pipeline.monitor.plan import bins
from pipeline.monitor.streams import bins_of, table
from pipeline.notebook.frames import Before, Data, before_of, frame_of, like, read
from serving.counts.columns import count_numbers, count_texts
from serving.counts.records import Column

LEVEL = 0.05
P_VALUES = ("p_adjusted", "p_missing")  # by which a feature is said to have drifted


@dataclass(frozen=True)
class FeatureDrift:
    """One feature, then and now; None where a figure does not exist for its kind or for lack of values.

    `rows` are those of now. `missing_before` and `missing_now` are shares of empty cells, which the other figures leave out,
    but for `psi`. `ks` (0 to 1) and `wasserstein` (in the feature's units: by how much values moved on average) are for
    numbers, `chi2` is for texts; `p_value` is that of `ks` or of `chi2`. `p_adjusted` and `p_missing` (of the share of
    empty cells) are adjusted for the number of features. `drifted`: one of these two is below the threshold.
    """

    feature: str
    kind: Literal["number", "text"]
    rows: int
    missing_before: float
    missing_now: float
    ks: float | None
    chi2: float | None
    p_value: float | None
    p_adjusted: float | None
    p_missing: float | None
    psi: float | None
    wasserstein: float | None
    drifted: bool


@dataclass(frozen=True)
class Drift:
    """What was found of all features; `found["age"]` is one of them.

    `skipped` says of columns that only one side has, or that are no feature, why they were not compared.
    """

    features: tuple[FeatureDrift, ...]
    skipped: Mapping[str, str]
    threshold: float

    @property
    def table(self) -> pd.DataFrame:
        """All features, (features, figures), indexed by name, in the order of the reference."""
        names = list(FeatureDrift.__dataclass_fields__)
        found = pd.DataFrame([asdict(one) for one in self.features], columns=names).set_index("feature")
        return found.astype(dict.fromkeys(("ks", "chi2", *P_VALUES, "p_value", "psi", "wasserstein"), float))

    @property
    def drifted(self) -> pd.DataFrame:
        """The rows of `table` that drifted, the surest first."""
        found = self.table
        surest = found[list(P_VALUES)].min(axis=1).sort_values(kind="stable").index
        found = found.loc[surest]
        return found[found["drifted"]]

    def __getitem__(self, feature: str) -> FeatureDrift:
        """The figures of one feature; raises KeyError."""
        for one in self.features:
            if one.feature == feature:
                return one
        raise KeyError(f"{feature!r} {self.skipped.get(feature, 'is no column of the reference')}")

    def __len__(self) -> int:
        """How many features were compared."""
        return len(self.features)

    @property
    def words(self) -> str:
        """What was found, in one or two lines."""
        names = ", ".join(self.drifted.index[:8]) + (" …" if len(self.drifted) > 8 else "")
        said = f"{len(self.drifted)} of {len(self)} features drifted (adjusted p < {self.threshold:g})"
        skipped = "; ".join(f"{name} {why}" for name, why in self.skipped.items())
        return said + (f": {names}" if names else "") + (f"\nnot compared: {skipped}" if skipped else "")

    def __repr__(self) -> str:
        """Words and table, for a terminal."""
        return f"{self.words}\n{self.table.to_string(float_format=_short)}"

    def _repr_html_(self) -> str:
        words = html.escape(self.words).replace("\n", "<br>")
        return f"<p>{words}</p>{self.table.to_html(float_format=_short)}"


@dataclass(frozen=True)
class DriftAlarm:
    """A share of a feature's rows that left its tolerance for good; days are as 2026-01-31.

    `check` says of what: the values (`distribution`) or the empty cells (`missing`). `since` is the first day of the change, `day`
    that of the alarm, `closed` the one on which it was over, or None. `before` and `now` are the share that moved.
    """

    feature: str
    check: Literal["distribution", "missing"]
    since: str
    day: str
    closed: str | None
    before: float
    now: float
    words: str


class DriftDetector:
    """Compares tables with a reference, all at once (`detect`), or day after day (`update`, `alarms`).

    `detect` gives a p-value. Asked once, it is what it says. Asked each day, it cries wolf: at 0.05 one day in twenty, for each
    feature, with nothing wrong. For days one after the other use `update` and `alarms`, whose budget is false alarms a year over
    all features together.

    `statistics` (features, figures) has rows, share of empty cells, mean, standard deviation (of the population), minimum and maximum
    of each feature of the reference, and of texts how many there are and the most frequent. `skipped` says which columns are no features.
    """

    def __init__(self, reference: Data, threshold: float = LEVEL):
        """`reference`: a DataFrame, or an array (n, k) or (n,); `threshold`: of adjusted p-values, between 0 and 1.

        Texts, categories, truth values and numbers are features; dates and mixed columns are skipped. Raises DataError when there are
        no rows, no features, or infinite values.
        """
        self.threshold = between(threshold)
        frame = frame_of(reference, "the reference data")
        self.skipped: dict[str, str] = {}
        self.before: dict[str, Before] = {}  # the columns of the reference
        for name in frame:
            try:
                self.before[str(name)] = before_of(*read(frame[name], "the reference data"))
            except DataError as error:
                if "infinite" in error.what:
                    raise
                self.skipped[str(name)] = "is no feature: " + error.what.partition(": ")[2]
        if not self.before:
            raise DataError("the reference data have no column that can be a feature")
        self.statistics = statistics(self.before)
        self._days: dict[str, dict[str, Column]] = {}

    def detect(self, new: Data, threshold: float | None = None) -> Drift:
        """How far each feature of `new`, a DataFrame or an array (m, k) in the reference's order, is from the reference.

        Numbers: two-sample Kolmogorov-Smirnov test on the values (scipy.stats.ks_2samp), Wasserstein distance, and PSI over at most
        10 bins. Texts: Pearson's chi-squared test over the 20 most frequent of both sides together and all others, PSI over those of the reference. P-values are
        adjusted for the number of features (Benjamini and Hochberg, J. R. Stat. Soc. B 57, 1995). With very many rows, differences
        that matter to nobody have small p-values: look at `ks` and `psi` too. Columns that are absent are skipped and named.

        Raises DataError for no rows, no common column, text where numbers were, and infinite values.
        """
        return compare(self.before, new, self.threshold if threshold is None else between(threshold), self.skipped)

    def update(self, day: str | date, new: Data) -> None:
        """Tell the rows of one whole day; a day that is told again replaces what was told of it before.

        `day` is a date or a text such as "2026-01-31"; `new` is as for `detect`. Columns that are absent have no rows that day.
        Keeps counts alone, no rows. Raises DataError as `detect` does, and for what is no date.
        """
        shared, _ = common(self.before, frame_of(new, "the new data", list(self.before)), self.skipped)
        self._days[_date(day).isoformat()] = {
            name: counted(self.before[name], like(column, self.before[name], "the new data"))
            for name, column in shared.items()
        }

    def alarms(self, false_alarms_per_year: float = 1.0, tolerance: float = 0.02) -> list[DriftAlarm]:
        """What left its tolerance in the days that `update` was told of, oldest first; empty without days.

        `false_alarms_per_year` is the budget over all features together; `tolerance` is by how much any share of a feature's
        rows may move for good. Days with fewer than 30 rows are judged with those after them. The detector is that of
        `make monitor` (pipeline/monitor/detector.py has the source); its settings in pipeline.toml have the same names.
        """
        days, watched, traces, _ = self._judged(false_alarms_per_year, tolerance)
        found = [
            self._alarm(days, name, check, stream, alarm)
            for (name, check, stream), trace in zip(watched, traces, strict=True)
            for alarm in trace.alarms
        ]
        return sorted(found, key=lambda one: (one.day, one.feature))

    def evidence(self, false_alarms_per_year: float = 1.0, tolerance: float = 0.02) -> pd.DataFrame:
        """Evidence of each day and feature, (days, features), as a share of the limit: 1 is an alarm. Arguments as for `alarms`."""
        days, watched, traces, limit = self._judged(false_alarms_per_year, tolerance)
        found = pd.DataFrame(0.0, index=pd.DatetimeIndex(days, name="day"), columns=list(self.before))
        for (name, _, _), trace in zip(watched, traces, strict=True):
            found[name] = np.maximum(found[name], trace.evidence / limit)
        return found

    def _judged(
        self, budget: float, tolerance: float
    ) -> tuple[list[str], list[tuple[str, Literal["distribution", "missing"], Stream]], list[Trace], float]:
        if not 0 < budget <= 52 or not 0 <= tolerance <= 0.5:
            raise DataError(
                f"false_alarms_per_year is {budget:g} and tolerance {tolerance:g};"
                " allowed are above 0 up to 52, and 0 to 0.5"
            )
        days = _without_gaps(self._days)
        watched: list[tuple[str, Literal["distribution", "missing"], Stream]] = []
        for name, before in self.before.items():
            counts = table([self._days.get(day, {}).get(name) for day in days], bins_of(before.reference))
            cells: dict[Literal["distribution", "missing"], Cells] = {
                "distribution": distribution_cells(before.reference, before.rows, tolerance),
                "missing": missing_cells(before.reference, before.rows, tolerance),
            }
            watched += [(name, check, Stream(some, counts)) for check, some in cells.items() if len(some.names)]
        limit = log_limit(len(watched), budget)
        return days, watched, replay([stream for _, _, stream in watched], limit), limit

    def _alarm(
        self, days: list[str], name: str, check: Literal["distribution", "missing"], stream: Stream, alarm: Any
    ) -> DriftAlarm:
        cells, end = stream.cells, len(days) - 1 if alarm.closed is None else alarm.closed
        counts = stream.table[alarm.since : end + 1].sum(axis=0)
        rows = float(counts @ cells.among[alarm.cell])
        before, now = float(cells.share[alarm.cell]), float(counts @ cells.pick[alarm.cell]) / max(rows, 1)
        numbers = check == "missing" or "edges" in self.before[name].reference
        what = f"share of rows with {name} {'' if numbers else '= '}{cells.names[alarm.cell]}"
        return DriftAlarm(
            feature=name,
            check=check,
            since=days[alarm.since],
            day=days[alarm.day],
            closed=None if alarm.closed is None else days[alarm.closed],
            before=before,
            now=now,
            words=f"{what}: {before:.1%} in the reference, {now:.1%} since {days[alarm.since]} ({rows:,.0f} rows)",
        )


def between(threshold: float) -> float:
    """A threshold of p-values; raises DataError unless it is between 0 and 1."""
    if not 0 < threshold < 1:
        raise DataError(f"the threshold is {threshold:g}; it is a p-value, between 0 and 1")
    return threshold


def common(
    before: Mapping[str, Before], new: pd.DataFrame, skipped: Mapping[str, str]
) -> tuple[dict[str, pd.Series], dict[str, str]]:
    """The columns that reference and new data share, and why each of the others is skipped; raises DataError where they share none."""
    names = [str(name) for name in new]
    apart = {name: "is not in the new data" for name in before if name not in names}
    apart |= {name: skipped.get(name, "is not in the reference") for name in names if name not in before}
    shared = {name: new[name] for name in before if name in names}
    if not shared:
        raise DataError(
            f"no column of the new data is in the reference: they are {_listed(names)}, it has {_listed(list(before))}"
        )
    return shared, apart


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (" …" if len(names) > 5 else "")


def compare(before: Mapping[str, Before], new: Data, threshold: float, skipped: Mapping[str, str]) -> Drift:
    """The figures of all columns; of a reference without values, KS and Wasserstein are taken at the edges of its bins."""
    shared, apart = common(before, frame_of(new, "the new data", list(before)), skipped)
    compared = {
        name: _compared(before[name], like(column, before[name], "the new data")) for name, column in shared.items()
    }
    adjusted = distances.benjamini_hochberg([one.p_value for one, _, _ in compared.values()])
    missing = distances.benjamini_hochberg([p_missing for _, _, p_missing in compared.values()])
    found = []
    for (name, (one, column, _)), p_adjusted, p_missing in zip(compared.items(), adjusted, missing, strict=True):
        rows, text = sum(column.counts) + column.missing, before[name].kind == "text"
        found.append(
            FeatureDrift(
                feature=name,
                kind="text" if text else "number",
                rows=rows,
                missing_before=before[name].reference.get("missing", 0.0),
                missing_now=column.missing / rows,
                ks=one.ks,
                chi2=one.chi2 if text else None,
                p_value=one.p_value,
                p_adjusted=p_adjusted,
                p_missing=p_missing,
                psi=one.psi,
                wasserstein=one.wasserstein,
                drifted=any(p is not None and p < threshold for p in (p_adjusted, p_missing)),
            )
        )
    return Drift(tuple(found), apart, threshold)


def _compared(before: Before, now: np.ndarray) -> tuple[distances.Distances, Column, float | None]:
    """The distances, the counts of now, and the p-value of the share of empty cells; None where no cell is empty, then and now."""
    column = counted(before, now)
    found = distances.distances(before.reference, before.rows, column.counts, column.missing)
    if before.kind != "text" and before.values is not None and (exact := distances.exact_ks(before.values, now)):
        then = before.values
        moved = distances.exact_wasserstein(then, now)
        found = found._replace(ks=exact[0], p_value=exact[1], wasserstein=moved)
    if before.kind == "text" and before.values is not None and found.chi2 is not None:
        statistic, p = distances.exact_chi2(before.values, now)
        found = found._replace(chi2=statistic, p_value=p)
    empty = before.rows - before.present
    if not empty + column.missing:
        return found, column, None
    return found, column, distances.p_of_shares(empty, before.rows, column.missing, len(now))


def counted(before: Before, values: np.ndarray) -> Column:
    """The values per bin of the reference."""
    where = bins(before.reference)
    return count_texts(values.tolist(), where) if before.kind == "text" else count_numbers(values, where)


def statistics(before: Mapping[str, Before]) -> pd.DataFrame:
    """What the reference has of each feature, (features, figures)."""
    rows = []
    for name, one in before.items():
        reference = one.reference
        figures = {key: reference.get(key) for key in ("mean", "deviation", "minimum", "maximum")}
        texts = list(reference["shares"]) if one.kind == "text" else []
        several = len({*one.values.tolist()} - {""}) if one.kind == "text" and one.values is not None else None
        rows.append(
            {
                "feature": name,
                "kind": "text" if one.kind == "text" else "number",
                "rows": one.rows,
                "missing": reference.get("missing", 0.0),
                **figures,
                "values": several,
                "most_frequent": texts[0] if texts else None,
            }
        )
    return pd.DataFrame(rows).set_index("feature")


def _date(day: str | date) -> date:
    try:
        found = pd.Timestamp(day)
        if pd.isna(found) or isinstance(day, int | float):
            raise ValueError
        return found.date()
    except (ValueError, TypeError):
        raise DataError(f'{day!r} is no day; give a date, or a text such as "2026-01-31"') from None


def _without_gaps(days: Mapping[str, Any]) -> list[str]:
    """Each day from the first to the last, as 2026-01-31."""
    if not days:
        return []
    first, last = date.fromisoformat(min(days)), date.fromisoformat(max(days))
    return [(first + timedelta(number)).isoformat() for number in range((last - first).days + 1)]


def _short(value: float) -> str:
    return f"{value:.4g}"
