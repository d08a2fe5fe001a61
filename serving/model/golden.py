"""Ask a bundle's model its golden rows, and compare:

python -m serving.model.golden --bundle build/bundle

A new image is tried so before its version is registered: what an image lacks (a library, a locale) shows here.
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
    """Return 0 when every golden row has the expected answer; else say why in one line and return 1."""
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
    """How far the answers are from the expected ones, in words; raises BundleError when they are further than tolerated."""
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
