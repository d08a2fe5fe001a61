"""The rows of a training as a file, so that it can be repeated when what load() reads has changed."""

import io
import os
import sys
from pathlib import Path

import pandas as pd

from pipeline.errors import DataError

VARIABLE = "SLIPWAY_DATA_SNAPSHOT"  # a file that is read in place of load()
FILE = "rows.parquet"


def given() -> Path | None:
    """The file that SLIPWAY_DATA_SNAPSHOT names, None when it names none."""
    name = os.environ.get(VARIABLE, "").strip()
    return Path(name) if name else None


def to_parquet(frame: pd.DataFrame) -> bytes:
    """The rows in order, as Parquet without anything else: the same rows give the same bytes with the same locked packages.

    Raises DataError for a column that Parquet cannot hold.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        table = pyarrow.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    except pyarrow.ArrowException as error:
        raise DataError(
            f"the rows cannot be kept as a snapshot: {str(error).splitlines()[0]}",
            "make each column all numbers or all text in load()",
        ) from error
    target = io.BytesIO()
    parquet.write_table(table, target, compression="zstd", store_schema=False)
    return target.getvalue()


def read(source: Path | io.BytesIO) -> pd.DataFrame:
    """The rows of a snapshot; whole numbers and truth values of which some are empty keep their type."""
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(source)
    except (OSError, pyarrow.ArrowException) as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise DataError(
            f"{source} is not a readable snapshot: {what}",
            f"`make snapshot VERSION=n` fetches one; without {VARIABLE} load() is called",
        ) from error
    frame = table.to_pandas()
    for field in table.schema:
        if table[field.name].null_count and pyarrow.types.is_integer(field.type):
            frame[field.name] = table[field.name].to_pandas(types_mapper={field.type: pd.Int64Dtype()}.get)
    return frame


def say(path: Path) -> None:
    """Tell that the data are not those of load()."""
    print(f"note: the data are the snapshot {path}, because {VARIABLE} is set; load() is not called", file=sys.stderr)
