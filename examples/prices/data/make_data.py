"""Makes prices.csv: 3,000 flats that were sold, all of them invented. The same seed gives the same file.

python data/make_data.py
"""

from pathlib import Path

import numpy as np
import pandas as pd

# What a square metre costs beside the average of the town, in logarithms.
DISTRICTS = {"old_town": 0.45, "harbour": 0.3, "hill": 0.22, "north": 0.0, "west": -0.05, "mills": -0.2, "ring": -0.3}
CONDITIONS = {"to_renovate": -0.22, "fair": -0.06, "good": 0.0, "renovated": 0.14}
ENERGY = {"A": 0.08, "B": 0.05, "C": 0.02, "D": 0.0, "E": -0.04, "F": -0.08}


def make(rows: int = 3000, seed: int = 1) -> pd.DataFrame:
    """Sold flats: prices are products of what a flat has, times noise of about 12 %, so that a few are very dear."""
    rng = np.random.default_rng(seed)
    district = rng.choice(list(DISTRICTS), rows, p=[0.08, 0.08, 0.12, 0.22, 0.2, 0.15, 0.15])
    condition = rng.choice(list(CONDITIONS), rows, p=[0.12, 0.3, 0.4, 0.18])
    energy = rng.choice(list(ENERGY), rows, p=[0.06, 0.12, 0.22, 0.3, 0.2, 0.1])
    area = np.clip(rng.lognormal(4.25, 0.4, rows), 18, 400).round(1)
    rooms = np.clip(np.round(area / 26 + rng.normal(0, 0.6, rows)), 1, 9).astype(int)
    built = rng.integers(1890, 2024, rows)
    floor = rng.integers(0, 9, rows)
    lift = rng.random(rows) < np.where(built > 1960, 0.7, 0.25)
    centre = np.clip(rng.gamma(2.5, 1.6, rows), 0.1, 18).round(2)
    logarithm = (
        7.9
        + 1.02 * np.log(area)
        + pd.Series(district).map(DISTRICTS).to_numpy()
        + pd.Series(condition).map(CONDITIONS).to_numpy()
        + pd.Series(energy).map(ENERGY).to_numpy()
        - 0.05 * centre
        + 0.0012 * (built - 1960)
        - np.where(lift, 0.0, 0.02 * floor)  # a high floor without a lift
        + rng.normal(0, 0.12, rows)
    )
    return pd.DataFrame(
        {
            "id": [f"sale-{row:05d}" for row in range(1, rows + 1)],
            "area_m2": area,
            "rooms": rooms,
            "floor": floor,
            "lift": lift,
            "built": built,
            "district": district,
            "condition": condition,
            "energy_class": np.where(rng.random(rows) < 0.15, "", energy),  # not every seller has the certificate
            "centre_km": centre,
            "price": (np.exp(logarithm) / 1000).round(0).astype(int) * 1000,
        }
    )


if __name__ == "__main__":
    make().to_csv(Path(__file__).with_name("prices.csv"), index=False)
