"""Ask Evidently, in an environment of its own, how many columns it calls drifted on each day.

    .venv/evidently/bin/python dev/evidently_drift.py days.npz     # prints one JSON list: drifted columns per day

The file holds `reference` (rows, columns) and `days` (days, rows, columns). Everything is Evidently's default.
"""

import json
import sys

import numpy as np


def main(path: str) -> None:
    """Print the number of drifted columns of each day."""
    import pandas as pd
    from evidently import Report
    from evidently.metrics import DriftedColumnsCount

    held = np.load(path)
    names = [f"x{place}" for place in range(held["reference"].shape[1])]
    reference = pd.DataFrame(held["reference"], columns=names)
    drifted = []
    for day in held["days"]:
        found = Report([DriftedColumnsCount()]).run(pd.DataFrame(day, columns=names), reference)
        drifted.append(int(found.dict()["metrics"][0]["value"]["count"]))
    print(json.dumps(drifted))


if __name__ == "__main__":
    main(sys.argv[1])
