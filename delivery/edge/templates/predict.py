"""Ask the model of this folder; nothing but onnxruntime and numpy is needed, and no network.

python predict.py                     # check the golden rows, and time a prediction
python predict.py --form              # asks for the inputs, one by one
python predict.py '{"age": 41, …}'    # answers a row, or a list of rows; "-" reads them from standard input
python predict.py --json …            # the same as JSON

Exit status 1: a golden row is not answered as expected. 2: what was given cannot be answered.
"""

import argparse
import json
import math
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

BUNDLE = Path(__file__).resolve().parent / "bundle"
CALLS = 2000
LARGEST = {"float32": float(np.finfo("float32").max), "float64": float(np.finfo("float64").max)}


class Refused(Exception):
    """A value that the model does not take, in words."""


def main() -> int:
    """Check, ask or answer, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="?", help='a row as JSON, {"name": value} or a list of values, or a list of rows')
    parser.add_argument("--form", action="store_true", help="ask for the inputs, one by one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    contract, golden = (json.loads((BUNDLE / f"{name}.json").read_bytes()) for name in ("contract", "golden"))
    try:
        session = load()
        if options.form:
            show(answers(session, contract, [ask(contract)]), options.json)
        elif options.rows is not None:
            given = json.loads(sys.stdin.read() if options.rows == "-" else options.rows)
            many = isinstance(given, list) and bool(given) and isinstance(given[0], list | dict)
            found = answers(session, contract, given if many else [given])
            show(found if many else found[:1], options.json, many)
        else:
            return report(checked(session, contract, golden), options.json)
    except (Refused, json.JSONDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (EOFError, KeyboardInterrupt):
        return 2
    return 0


def load() -> onnxruntime.InferenceSession:
    """The model, in one thread: one row is too little work for more."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(BUNDLE / "model.onnx", options, providers=["CPUExecutionProvider"])


def answers(session, contract: dict, rows: list) -> list[dict]:
    """The answer to each row; raises Refused."""
    read = [row_of(contract, row) for row in rows]
    given = run(session, contract, read)
    return [answer(contract, one) for one in given]


def run(session, contract: dict, rows: list[list]) -> np.ndarray:
    """Probabilities (n, k) or values (n, 1) in float64 for rows in the order of the contract."""
    form = contract["onnx"]
    if form["layout"] == "matrix":
        feeds = {"features": np.array(rows, form["dtype"])}
    else:
        feeds = {
            f"f{place}": np.array([[row[place]] for row in rows], object if column["type"] == "text" else form["dtype"])
            for place, column in enumerate(contract["inputs"])
        }
    output = session.run([form.get("probabilities") or form["label"]], feeds)[0]
    return np.asarray(output, np.float64).reshape(len(rows), -1)


def answer(contract: dict, given: np.ndarray) -> dict:
    """What the service would answer; raises Refused where the model has no finite answer."""
    if not np.isfinite(given).all():
        raise Refused("the model has no finite answer for these values")
    if not contract["classes"]:
        return {"value": float(given[0])}
    classes, place = contract["classes"], int(given.argmax())
    if contract.get("labels") == "threshold":
        positive = classes.index(contract["positive"])
        place = positive if given[positive] >= contract["threshold"] else 1 - positive
    return {"label": classes[place], "probabilities": dict(zip(classes, given.tolist(), strict=True))}


def checked(session, contract: dict, golden: dict) -> dict:
    """How the golden rows are answered, and how long a prediction takes; `failed` says in words which row is wrong, or is empty."""
    rows = [row_of(contract, row) for row in golden["inputs"]]
    largest, failed = 0.0, ""
    for number, (given, expected) in enumerate(zip(run(session, contract, rows), golden["expected"], strict=True)):
        wanted = np.array(expected.get("probabilities") or [expected["value"]])
        off = float((np.abs(given - wanted) / np.maximum(1, np.abs(wanted))).max())
        largest = max(largest, off)
        if not off <= golden["tolerance"]:
            failed = failed or f"golden row {number} differs by {off:.2g}, {golden['tolerance']:g} is tolerated"
        elif contract["classes"] and answer(contract, given)["label"] != expected["label"]:
            failed = failed or f"golden row {number} should be {expected['label']}"
    times = []
    for call in range(CALLS):
        begin = time.perf_counter()
        run(session, contract, [rows[call % len(rows)]])
        times.append(time.perf_counter() - begin)
    return {
        "runtime": f"Python {platform.python_version()}, onnxruntime {onnxruntime.__version__}",
        "golden_rows": len(rows),
        "largest_difference": largest,
        "tolerance": golden["tolerance"],
        "failed": failed,
        "median_ms": statistics.median(times) * 1000,
        "model_bytes": (BUNDLE / "model.onnx").stat().st_size,
    }


def report(found: dict, as_json: bool) -> int:
    """Print what was checked; the exit status."""
    if as_json:
        print(json.dumps(found))
    else:
        print(f"{found['runtime']}, model of {found['model_bytes']:,} bytes")
        words = found["failed"] or f"{found['golden_rows']} golden rows are answered as expected"
        print(f"{words}; largest difference {found['largest_difference']:.2g}")
        print(f"median of {CALLS} single predictions: {found['median_ms'] * 1000:.0f} µs")
    return 1 if found["failed"] else 0


def show(found: list[dict], as_json: bool, many: bool = False) -> None:
    """Print answers."""
    if as_json:
        print(json.dumps(found if many else found[0], ensure_ascii=False))
        return
    for one in found:
        print(one["label"] if "label" in one else f"{one['value']:.6g}")
        for name, value in one.get("probabilities", {}).items():
            print(f"  {name:<20} {value:6.1%}  {'█' * round(value * 30)}")


def ask(contract: dict) -> dict:
    """The inputs, asked one by one; Enter takes the example."""
    row = {}
    print("Enter takes the value in brackets" + ("; null means none" if _nullable(contract) else "") + ".")
    for column in contract["inputs"]:
        while column["name"] not in row:
            example = json.dumps(column["example"], ensure_ascii=False)
            typed = input(f"{column['name']}, {allowed(column)} [{example}]: ").strip()
            try:
                value = column["example"] if not typed else from_text(column, typed)
                read(contract, column, value)
                row[column["name"]] = value
            except Refused as error:
                print(f"  {error}")
    return row


def _nullable(contract: dict) -> bool:
    return any(column["nullable"] for column in contract["inputs"])


def from_text(column: dict, typed: str):
    """What somebody typed, as JSON would have it."""
    if typed == "null" and column["nullable"]:
        return None
    if column["type"] == "text":
        return typed
    if column["type"] == "boolean":
        return {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}.get(typed.lower(), typed)
    try:
        return float(typed)
    except ValueError:
        return typed


def row_of(contract: dict, given) -> list:
    """A row in the order of the contract, as the model takes it; raises Refused naming what is wrong."""
    names = [column["name"] for column in contract["inputs"]]
    if isinstance(given, dict):
        for name in [*(name for name in names if name not in given), *(name for name in given if name not in names)]:
            raise Refused(f"{name!r} is {'unknown' if name in given else 'missing'}")
        given = [given[name] for name in names]
    if not isinstance(given, list) or len(given) != len(names):
        raise Refused(f"a row is an object, or a list of {len(names)} values: {', '.join(names)}")
    return [read(contract, column, value) for column, value in zip(contract["inputs"], given, strict=True)]


def read(contract: dict, column: dict, value):
    """A value as the model takes it: a text, or a number, NaN for null; raises Refused."""
    kind = column["type"]
    if column["nullable"] and (value is None or (kind == "text" and value == "")):
        return "" if kind == "text" else math.nan
    known = column.get("values")
    if kind == "text":
        fits = isinstance(value, str)
    elif kind == "boolean":
        fits = isinstance(value, bool) or (is_number(value) and value in (0, 1))
    else:
        fits = is_number(value) and in_range(column, value, LARGEST[contract["onnx"]["dtype"]])
    if not fits or (known is not None and value not in known):
        raise Refused(
            f"{column['name']!r}: {json.dumps(value, ensure_ascii=False)} was given, allowed is {allowed(column)}"
        )
    return value if kind == "text" else float(value)


def is_number(value) -> bool:
    """Whether it is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def in_range(column: dict, value: float, largest: float) -> bool:
    """Whether a number is within the bounds of its column."""
    low, high = column.get("minimum"), column.get("maximum")
    above, below = column.get("exclusive_minimum"), column.get("exclusive_maximum")
    return (
        -largest <= value <= largest
        and (column["type"] != "integer" or value == math.floor(value))
        and (low is None or value >= low)
        and (high is None or value <= high)
        and (above is None or value > above)
        and (below is None or value < below)
    )


def allowed(column: dict) -> str:
    """The allowed values in words."""
    if column.get("values") is not None:
        words = "one of " + ", ".join(json.dumps(value, ensure_ascii=False) for value in column["values"])
    elif column["type"] in ("boolean", "text"):
        words = {"boolean": "true or false", "text": "a text"}[column["type"]]
    else:
        words = "a whole number" if column["type"] == "integer" else "a number"
        bounds = {
            "minimum": "at least",
            "exclusive_minimum": "above",
            "maximum": "at most",
            "exclusive_maximum": "below",
        }
        said = [f"{bounds[key]} {column[key]:.12g}" for key in bounds if column.get(key) is not None]
        words += f", {' and '.join(said)}" if said else ""
    return words + (" or null" if column["nullable"] else "")


if __name__ == "__main__":
    sys.exit(main())
