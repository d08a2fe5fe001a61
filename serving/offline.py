"""Answer rows from a file, as the service would, and leave the answers in another:

python -m serving.offline --bundle build/bundle --rows rows.npz --answers answers.npz

The pipeline asks a stored scikit-learn model so, in a process of its own: the model's code is the bundle's, whatever the
repository holds now. rows.npz has an array for each input: f0, f1, …; answers.npz has `answers`, probabilities (n, k) or values
(n,), and with --calls `milliseconds`, the median time of a single prediction.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from pathlib import Path

import numpy as np

from serving.bundle import BundleError, open_bundle
from serving.predictor import NoAnswer, Predictor, load_predictor
from serving.rows import Row

CHUNK = 10_000  # rows asked at once


def main(argv: list[str] | None = None) -> int:
    """Return 0 when every row has an answer, finite or not; else say why in one line and return 1."""
    parser = argparse.ArgumentParser(prog="python -m serving.offline", description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--calls", type=int, default=0, help="single predictions to time (default: none)")
    parser.add_argument("--only", default="", help="packages, with commas, that may be imported (default: any)")
    args = parser.parse_args(argv)
    if args.only:
        sys.meta_path.insert(0, _Only(set(args.only.split(","))))
    try:
        predictor = load_predictor(open_bundle(args.bundle))
        with np.load(args.rows, allow_pickle=False) as columns:
            rows = list(_rows(columns))
        answers = [predictor.outputs(rows[start : start + CHUNK])[-1] for start in range(0, len(rows), CHUNK)]
        timed = _milliseconds(predictor, rows, args.calls) if args.calls else np.nan
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except NoAnswer as error:
        cause = error.__cause__ or error
        line = (str(cause).strip().splitlines() or [""])[0][:300]
        print(f"error: it does not answer these rows: {type(cause).__name__}: {line}", file=sys.stderr)
        return 1
    np.savez(args.answers, answers=np.concatenate(answers), milliseconds=timed)
    return 0


class _Only(MetaPathFinder):
    """Hides what an image of the service would not have."""

    def __init__(self, packages: set[str]):
        here = {name.partition(".")[0] for name in sys.modules}
        self._known = packages | here | set(sys.stdlib_module_names)

    def find_spec(self, name: str, path=None, target=None) -> None:
        """Leave a known package to the others; raise ModuleNotFoundError for the rest."""
        package = name.partition(".")[0]
        # The standard library's list of itself lacks the module that is written when Python is built.
        if package not in self._known and not package.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _rows(columns) -> Iterator[Row]:
    lists = [columns[f"f{position}"].tolist() for position in range(len(columns.files))]
    return zip(*lists, strict=True)


def _milliseconds(predictor: Predictor, rows: list[Row], calls: int) -> float:
    times = []
    for call in range(calls):
        begin = time.perf_counter()
        predictor.predict_one(rows[call % len(rows)])
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


if __name__ == "__main__":
    sys.exit(main())
