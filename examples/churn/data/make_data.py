"""Makes churn.csv: 4,000 customers of a telephone company, all of them invented. The same seed gives the same file.

python data/make_data.py
"""

from pathlib import Path

import numpy as np
import pandas as pd

CONTRACTS = {"monthly": 1.1, "one_year": -0.5, "two_years": -1.4}
PAYMENTS = {"card": 0.0, "transfer": 0.1, "invoice": 0.5}
REGIONS = ["coast", "lakes", "north", "plains", "south"]


def make(rows: int = 4000, seed: int = 1) -> pd.DataFrame:
    """Customers and whether they left within three months: about a quarter did.

    Who has no internet has no data volume; who was never asked has no satisfaction. Both are empty, and the second tells something.
    """
    rng = np.random.default_rng(seed)
    contract = rng.choice(list(CONTRACTS), rows, p=[0.55, 0.27, 0.18])
    payment = rng.choice(list(PAYMENTS), rows, p=[0.5, 0.3, 0.2])
    tenure = np.clip(rng.gamma(1.6, 16, rows), 1, 120).astype(int)
    internet = rng.random(rows) < 0.8
    fee = np.round(18 + 25 * internet + rng.gamma(2, 7, rows), 2)
    volume = np.where(internet, np.round(rng.lognormal(3.4, 0.7, rows), 1), np.nan)
    calls = rng.poisson(0.9, rows)
    asked = rng.random(rows) < 0.65
    satisfaction = np.where(asked, np.clip(np.round(rng.normal(3.6 - 0.35 * calls, 1.0, rows)), 1, 5), np.nan)
    logit = (
        -2.0
        + pd.Series(contract).map(CONTRACTS).to_numpy()
        + pd.Series(payment).map(PAYMENTS).to_numpy()
        - 0.9 * np.log1p(tenure / 12)
        + 0.035 * (fee - 45)
        + np.where(calls >= 3, 1.3, 0.15 * calls)  # the third call is one too many
        + np.where(asked, 0.6 * (3.4 - np.nan_to_num(satisfaction)), 0.25)
        + np.where((contract == "monthly") & (tenure < 6), 0.8, 0.0)  # the first months decide
    )
    left = rng.random(rows) < 1 / (1 + np.exp(-logit))
    return pd.DataFrame(
        {
            "id": [f"customer-{row:05d}" for row in range(1, rows + 1)],
            "contract": contract,
            "payment": payment,
            "region": rng.choice(REGIONS, rows),
            "tenure_months": tenure,
            "monthly_fee": fee,
            "data_gb": volume,
            "support_calls": calls,
            "satisfaction": satisfaction,
            "paperless": rng.random(rows) < 0.6,
            "left": np.where(left, "yes", "no"),
        }
    )


if __name__ == "__main__":
    make().to_csv(Path(__file__).with_name("churn.csv"), index=False)
