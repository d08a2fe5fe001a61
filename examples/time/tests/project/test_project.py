"""Your own tests: of your data and your model."""

import pandas as pd

from project.data import AHEAD, load
from project.model import build, wape


def test_no_column_knows_what_is_younger_than_a_week():
    """What a row says of the past is what the shop sold AHEAD days before."""
    frame = load().set_index(["shop", "day"])
    for (shop, day), row in frame.sample(50, random_state=0).iterrows():
        before = (shop, f"{pd.Timestamp(day) - pd.Timedelta(days=AHEAD):%Y-%m-%d}")
        if before in frame.index:
            assert row["week_ago"] == frame.loc[before, "loaves"]


def test_the_model_is_better_than_last_week_on_later_days():
    """Fitted on the first four fifths, it is nearer the last fifth than what was sold a week before."""
    frame = load().sort_values("day", ignore_index=True)
    first = int(0.8 * len(frame))
    early, late = frame[:first], frame[first:]
    model = build({"alpha": 0.001}, seed=0).fit(early, early["loaves"])
    sold = late["loaves"].to_numpy()
    assert wape(sold, model.predict(late)) < 0.75 * wape(sold, late["week_ago"].to_numpy())
