"""Your data: one function that returns it as a table."""

import pandas as pd


def load() -> pd.DataFrame:
    """Return one row per example, with the id and target columns that pipeline.toml names; every other column is a feature."""
    raise NotImplementedError(
        "write load() in project/data.py: return your data as a table, for example pd.read_csv('data/customers.csv')"
    )
