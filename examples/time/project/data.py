"""Your data: one function that returns it as a table."""

from pathlib import Path

import pandas as pd

AHEAD = (
    7  # days between the order of the flour and the day: what is younger than that is not known when the model is asked
)


def load() -> pd.DataFrame:
    """Return one row per shop and day: what was known a week before, and the loaves that were sold.

    Every past value is at least AHEAD days old. A column with yesterday's sales would make the figures here better, and nobody could
    fill it when the forecast is made.
    """
    sold = pd.read_csv(Path(__file__).parent.parent / "data" / "time.csv")
    sold["offer"] = sold["offer"].astype(bool)
    day, by_shop = pd.to_datetime(sold["day"]), sold.groupby("shop")["loaves"]
    frame = sold[["day", "shop", "temperature", "offer"]].assign(
        id=sold["shop"] + "-" + sold["day"],
        weekday=day.dt.day_name(),
        week_ago=by_shop.shift(AHEAD),
        two_weeks_ago=by_shop.shift(2 * AHEAD),
        month_before=by_shop.transform(lambda loaves: loaves.shift(AHEAD).rolling(28).mean()),
        loaves=sold["loaves"],
    )
    return frame.dropna(ignore_index=True)  # the first weeks of each shop have no past
