"""Makes time.csv: what four bakeries sold on each of 900 days, all of it invented. The same seed gives the same file.

python data/make_data.py
"""

from pathlib import Path

import numpy as np
import pandas as pd

SHOPS = {"bridge": 320.0, "harbour": 210.0, "market": 480.0, "station": 640.0}
WEEK = np.array([0.92, 0.9, 0.95, 1.0, 1.15, 1.35, 0.6])  # Monday to Sunday


def make(days: int = 900, seed: int = 1) -> pd.DataFrame:
    """Loaves by shop and day: a weekly rhythm, seasons, a slow growth, offers, and noise that lasts for days."""
    rng = np.random.default_rng(seed)
    dates = pd.date_range("2023-01-02", periods=days, freq="D")
    warm = 10 - 9 * np.cos(2 * np.pi * (dates.day_of_year.to_numpy() - 15) / 365) + rng.normal(0, 3, days)
    frames = []
    for shop, usual in SHOPS.items():
        drift = np.zeros(days)
        for day in range(1, days):
            drift[day] = 0.85 * drift[day - 1] + rng.normal(0, 0.03)
        offer = rng.random(days) < 0.08
        level = (
            usual
            * WEEK[dates.day_of_week.to_numpy()]
            * (1 + 0.25 * np.arange(days) / days)
            * np.exp(drift - 0.006 * (warm - 10) + 0.22 * offer)
        )
        frames.append(
            pd.DataFrame(
                {
                    "day": dates.strftime("%Y-%m-%d"),
                    "shop": shop,
                    "temperature": warm.round(1),
                    "offer": offer,
                    "loaves": rng.poisson(level),
                }
            )
        )
    return pd.concat(frames).sort_values(["day", "shop"], ignore_index=True)


if __name__ == "__main__":
    make().to_csv(Path(__file__).with_name("time.csv"), index=False)
