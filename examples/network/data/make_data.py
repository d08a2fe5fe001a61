"""Makes network.csv: 3,000 measurements at electric motors, all of them invented. The same seed gives the same file.

python data/make_data.py
"""

from pathlib import Path

import numpy as np
import pandas as pd


def make(rows: int = 3000, seed: int = 1) -> pd.DataFrame:
    """Motors and what was wrong with them: what tells is the product of two measurements, not either of them alone.

    An unbalanced rotor shakes with the square of its speed. A worn bearing shakes at high frequencies, and more under load.
    A loose foot shakes in one direction only, whichever that is.
    """
    rng = np.random.default_rng(seed)
    state = rng.choice(["bearing", "healthy", "loose", "unbalanced"], rows, p=[0.2, 0.45, 0.15, 0.2])
    speed = rng.uniform(600, 3000, rows)
    load = rng.uniform(0.2, 1.0, rows)
    turn = (speed / 3000) ** 2
    across, along = rng.lognormal(-0.9, 0.25, rows) * (0.5 + turn), rng.lognormal(-0.9, 0.25, rows) * (0.5 + turn)
    shake = np.where(state == "unbalanced", rng.uniform(1.2, 2.6, rows) * turn, 0)
    side = rng.random(rows) < 0.5
    loose = np.where(state == "loose", rng.uniform(0.8, 1.6, rows), 0)
    across, along = across + shake + loose * side, along + shake + loose * ~side
    high = rng.lognormal(-1.6, 0.35, rows) + np.where(state == "bearing", rng.uniform(0.25, 0.9, rows) * load, 0)
    warm = 32 + 22 * load + 6 * turn + np.where(state == "bearing", rng.uniform(0, 9, rows) * load, 0)
    return pd.DataFrame(
        {
            "id": [f"motor-{row:05d}" for row in range(1, rows + 1)],
            "speed_rpm": speed.round(0).astype(int),
            "load": load.round(3),
            "vibration_across": across.round(3),
            "vibration_along": along.round(3),
            "vibration_high": high.round(3),
            "temperature": (warm + rng.normal(0, 2, rows)).round(1),
            "state": state,
        }
    )


if __name__ == "__main__":
    make().to_csv(Path(__file__).with_name("network.csv"), index=False)
