"""Run a bundle's golden rows through its model and compare the answers:

python -m serving.model.golden --bundle build/bundle

This tests a new image before its version is registered: a missing library or locale shows here.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from serving.model.bundle import BundleError, open_bundle
from serving.model.predictor import NoAnswer, load_predictor
from serving.model.rows import RowError, read_rows


def main(argv: list[str] | None = None) -> int:
    """Return 0 when every golden row gets the expected answer; else return 1 with one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m serving.model.golden", description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    folder = parser.parse_args(argv).bundle
    try:
        print(compared(folder))
    except (BundleError, NoAnswer, RowError, OSError) as error:
        cause = (isinstance(error, NoAnswer) and error.__cause__) or error
        line = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:300]
        print(f"error: {line.replace(f'{folder}: ', '')}", file=sys.stderr)
        return 1
    return 0


def compared(folder: Path) -> str:
    """How many golden rows are answered as expected, in words; raises BundleError beyond the tolerance."""
    bundle = open_bundle(folder)
    golden = json.loads((folder / "golden.json").read_bytes())
    rows = read_rows(bundle.contract, golden["inputs"])
    given = np.asarray(load_predictor(bundle).predict(rows)[-1], dtype=np.float64)
    expected = np.array([_numbers(one) for one in golden["expected"]], dtype=np.float64)
    given = given.reshape(expected.shape)
    off = float((np.abs(given - expected) / np.maximum(1, np.abs(expected))).max())
    if not off <= golden["tolerance"]:
        raise BundleError(f"its answer to a golden row differs by {off:.2g}, {golden['tolerance']:g} is tolerated")
    return f"{len(rows)} golden rows are answered as expected"


def _numbers(answer: dict[str, Any]) -> list[float]:
    return answer.get("probabilities") or [answer["value"]]


if __name__ == "__main__":
    sys.exit(main())
