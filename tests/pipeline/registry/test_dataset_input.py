"""The data set information that MLflow gets."""

import json

import numpy as np
import pandas as pd
from mlflow.data.pandas_dataset import from_pandas

from pipeline.registry.training_run import dataset_input


def table(rows: int) -> pd.DataFrame:
    """Numbers, texts, booleans and a target; one text and one number are missing, in rows that an even sample skips."""
    place = np.arange(rows)
    frame = pd.DataFrame(
        {
            "count": place,
            "size": place / 7,
            "text": np.where(place % 2, "a", "b").astype(object),
            "flag": place % 3 == 0,
        }
    ).assign(target="yes")
    frame.loc[rows // 2 + 2, "text"] = None
    frame.loc[rows // 3 + 1, "size"] = np.nan
    return frame


def test_sample_has_the_schema_and_size_of_the_table():
    """MLflow shows every column with its type, whether it may be missing, and the true number of rows."""
    whole = table(5000)
    told = dataset_input.SampledDataset(whole, "iris-train", "target", "d" * 36).to_dict()
    assert told == from_pandas(whole, targets="target", name="iris-train", digest="d" * 36).to_dict()
    assert json.loads(told["profile"]) == {"num_rows": 5000, "num_elements": 25_000}
    schema = json.loads(told["schema"])["mlflow_colspec"]
    assert [column["name"] for column in schema if not column["required"]] == ["size", "text"]


def test_mlflow_gets_only_a_sample():
    """A thousand rows and one for each column with a missing value, whatever the size; a small table is whole."""
    assert len(dataset_input.sample(table(20_000))) == dataset_input.SAMPLE + 2
    small = table(50)
    assert dataset_input.sample(small).equals(small)
