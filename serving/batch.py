"""Answer rows from a file, as the service would, and leave the answers in another:

python -m serving.batch --bundle build/bundle --rows rows.npz --answers answers.npz

The pipeline asks a model so. A stored scikit-learn model is asked in a process of its own: its code is the bundle's, whatever the
repository holds now. rows.npz has an array for each input: f0, f1, …; a column of text is the UTF-8 bytes of a JSON list. Its array
`parts`, which may be absent, has the numbers of rows that are asked together. answers.npz has `answers`, probabilities (n, k) or
values (n,), and with --calls `milliseconds`, the median time of a single prediction.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from serving.model.bundle import BundleError, open_bundle
from serving.model.contract import Contract
from serving.model.predictor import NoAnswer, Predictor, load_predictor
from serving.model.rows import Row

REFUSED = (BundleError, NoAnswer)
CHUNK = 10_000  # rows asked at once


def main(argv: list[str] | None = None) -> int:
    """Return 0 when every row has an answer, finite or not; else say why in one line and return 1."""
    parser = argparse.ArgumentParser(prog="python -m serving.batch", description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--calls", type=int, default=0, help="single predictions to time (default: none)")
    parser.add_argument("--each", action="store_true", help="leave NaN where a row has no answer, instead of failing")
    parser.add_argument("--only", default="", help="packages, with commas, that may be imported (default: any)")
    args = parser.parse_args(argv)
    if args.only:
        sys.meta_path.insert(0, _Only(set(args.only.split(","))))
    try:
        with np.load(args.rows, allow_pickle=False) as columns:
            rows = list(_rows(columns))
            parts = columns["parts"].tolist() if "parts" in columns.files else [len(rows)]
        answers, milliseconds = ask(args.bundle, rows, parts, args.calls, args.each)
    except REFUSED as error:
        print(f"error: {in_words(error)}", file=sys.stderr)
        return 1
    np.savez(args.answers, answers=answers, milliseconds=milliseconds)
    return 0


def ask(
    folder: Path, rows: Sequence[Row], parts: Sequence[int], calls: int = 0, each: bool = False
) -> tuple[np.ndarray, float]:
    """What the bundle in a folder answers (see `answer`), and the median milliseconds of `calls` single predictions, or NaN.

    Raises BundleError, or NoAnswer.
    """
    predictor = load_predictor(open_bundle(folder))
    answers = answer(predictor, rows, parts, each)
    return answers, _milliseconds(predictor, rows, calls) if calls else np.nan


def largest(contract: dict[str, Any]) -> float:
    """The largest number that the service lets through to the model of a contract."""
    return msgspec.convert(contract, Contract).largest


def in_words(error: Exception) -> str:
    """Why there are no answers, in one line."""
    if isinstance(error, BundleError):
        return str(error)
    cause = error.__cause__ or error
    line = (str(cause).strip().splitlines() or [""])[0][:300]
    return f"it does not answer these rows: {type(cause).__name__}: {line}"


def answer(predictor: Predictor, rows: Sequence[Row], parts: Sequence[int], each: bool = False) -> np.ndarray:
    """Probabilities (n, k) or values (n,) in float64, not finite where the model gives that.

    The rows of a part are asked together, at most 10,000 at once. Raises NoAnswer when the model fails on a row; with `each`, that
    row has NaN, and NoAnswer is raised only when there is no answer at all.
    """
    width, failures = max(1, len(predictor.contract.classes)), []

    def ask(some: Sequence[Row]) -> np.ndarray:
        try:
            return np.asarray(predictor.outputs(some)[-1], dtype=np.float64).reshape(len(some), width)
        except NoAnswer as error:
            if not each:
                raise
            failures.append(error)
        if len(some) == 1:
            return np.full((1, width), np.nan)
        half = len(some) // 2
        return np.concatenate([ask(some[:half]), ask(some[half:])])

    given, start = [np.empty((0, width))], 0
    for size in parts:
        end = start + size
        given += [ask(rows[begin : min(begin + CHUNK, end)]) for begin in range(start, end, CHUNK)]
        start = end
    answers = np.concatenate(given)
    if failures and np.isnan(answers).all():
        raise failures[-1]
    return answers if predictor.contract.classes else answers.ravel()


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
    count = len([name for name in columns.files if name != "parts"])
    return zip(*(_values(columns[f"f{position}"]) for position in range(count)), strict=True)


def _values(column: np.ndarray) -> list:
    return json.loads(column.tobytes()) if column.dtype == np.uint8 else column.tolist()


def _milliseconds(predictor: Predictor, rows: Sequence[Row], calls: int) -> float:
    times = []
    for call in range(calls):
        begin = time.perf_counter()
        predictor.predict_one(rows[call % len(rows)])
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


if __name__ == "__main__":
    sys.exit(main())
