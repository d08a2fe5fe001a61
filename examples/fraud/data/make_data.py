"""Makes fraud.parquet: 40,000 card payments, all of them invented; 3 in 1,000 are fraud. The same seed gives the same rows.

python data/make_data.py
"""

from pathlib import Path

import numpy as np
import pandas as pd

MERCHANTS = ["groceries", "fuel", "restaurant", "clothes", "travel", "electronics", "gift_cards"]
USUAL = [0.34, 0.14, 0.2, 0.14, 0.07, 0.08, 0.03]
OF_THIEVES = [0.05, 0.07, 0.05, 0.13, 0.15, 0.3, 0.25]
SHARE = 0.003
ODD = 0.12  # share of honest payments that look like those of a thief: people do travel and give presents


def make(rows: int = 40_000, seed: int = 1) -> pd.DataFrame:
    """Payments and whether they were fraud. Exactly 3 in 1,000 are; one thief in eight uses a card that was reported stolen."""
    rng = np.random.default_rng(seed)
    fraud = np.zeros(rows, dtype=bool)
    fraud[rng.permutation(rows)[: round(SHARE * rows)]] = True
    odd = ~fraud & (rng.random(rows) < ODD)
    strange = fraud | odd
    # A thief does several odd things at once, an honest person one of them.
    kind = rng.integers(0, 4, rows)

    def shows(which: int, chance: float) -> np.ndarray:
        return (fraud & (rng.random(rows) < chance)) | (odd & (kind == which))

    dear, far, fast, night = shows(0, 0.75), shows(1, 0.7), shows(2, 0.65), shows(3, 0.55)
    merchant = np.where(strange, rng.choice(MERCHANTS, rows, p=OF_THIEVES), rng.choice(MERCHANTS, rows, p=USUAL))
    amount = np.where(dear, rng.lognormal(5.9, 0.6, rows), rng.lognormal(3.2, 0.9, rows))
    distance = np.where(far, rng.lognormal(6.5, 0.8, rows), rng.lognormal(1.4, 1.0, rows))
    before = np.where(fast, rng.poisson(7, rows), rng.poisson(1.2, rows))
    hour = np.where(night, rng.integers(0, 6, rows), np.clip(rng.normal(14, 4, rows), 0, 23.9).astype(int))
    present = rng.random(rows) < np.where(fraud, 0.2, 0.7)
    stolen = rng.random(rows) < np.where(fraud, 1 / 8, 0.0)
    return pd.DataFrame(
        {
            "id": [f"payment-{row:06d}" for row in range(1, rows + 1)],
            "amount": np.round(np.clip(amount, 0.5, 9000), 2),
            "hour": hour,
            "merchant": merchant,
            "distance_km": np.round(distance, 1),
            "payments_today": before,
            "card_present": present,
            "card_age_days": rng.integers(1, 2000, rows),
            "reported_stolen": stolen,
            "fraud": np.where(fraud, "yes", "no"),
        }
    )


if __name__ == "__main__":
    make().to_parquet(Path(__file__).with_name("fraud.parquet"), index=False, compression="zstd")
