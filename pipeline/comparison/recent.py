"""The rows of production among the hold-out, as a slice: on them it shows how a model does on what is asked now."""

from datetime import timedelta
from pathlib import Path

import numpy as np

from pipeline.artifacts import ROOT
from pipeline.data.dataset import Dataset
from pipeline.errors import DataError

ROWS = ROOT / "data" / "production" / "rows.parquet"  # of `make backfill`
TIME = "answered_at"  # the column that says when a row was answered; load() drops it
DAYS = 30  # up to the newest row with an outcome


def recent_rows(dataset: Dataset, file: Path = ROWS) -> tuple[str, np.ndarray] | None:
    """A label, and which rows of the data (n,) production was asked in its last 30 days with outcomes, by their ids.

    None where load() adds no such rows. Raises DataError where the file cannot be read.
    """
    if not file.is_file():
        return None
    import pandas as pd
    import pyarrow

    try:
        known = pd.read_parquet(file, columns=[dataset.settings.data.id, TIME])
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{file} cannot be read: {str(error).splitlines()[0]}", "run `make backfill` again") from error
    if known.empty:
        return None
    first = known[TIME].max().normalize() - timedelta(days=DAYS - 1)
    ids = set(known.loc[known[TIME] >= first, dataset.settings.data.id].astype(str))
    rows = np.fromiter((one in ids for one in dataset.ids), dtype=bool, count=len(dataset.ids))
    return (f"production since {first.date().isoformat()}", rows) if rows.any() else None
