"""The process in a pod: our service with the fault of its image built in, so that its own metrics show it.

python tests/delivery/kubernetes/cluster/cluster_service.py FAULT --bundle DIR --port PORT      (FAULT may be "")
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]


def main(argv: list[str]) -> int:
    """Serve as `python -m serving` does, with a fault."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    sys.path[0] = str(ROOT)
    fault, _, amount = argv[0].partition(":")
    if fault:
        FAULTS[fault](amount)

    from serving.__main__ import main as serve

    return serve(argv[1:])


def _end_with(parent: int) -> None:
    """Exit when the parent process dies."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def crash(_: str) -> None:
    """Exits at once, with an error."""
    raise SystemExit("error: the model of this image cannot be loaded")


def crash_garbled(_: str) -> None:
    """Exits at once, with bytes that are not text."""
    sys.stderr.buffer.write(b"broken: \xff\xfe\xe2\x28\n")
    raise SystemExit(1)


def slow_start(seconds: str) -> None:
    """Delays listening."""
    time.sleep(float(seconds or 5))


def never_ready(_: str) -> None:
    """Runs, but never becomes ready."""
    from serving.http.fast_path import FastPath
    from serving.problems import Problem

    def ready(self):
        raise Problem(503, "the model does not answer its example row: no reason given")

    FastPath.ready = ready  # type: ignore[method-assign]


def wrong_answers(_: str) -> None:
    """Becomes ready, but predicts something else than the bundle's golden answers."""
    import numpy as np

    from serving.model.predictor import Predictor

    many, one = Predictor.predict, Predictor.predict_one

    def predict(self, rows):
        outputs = many(self, rows)
        if not self.contract.classes:
            return [outputs[0] * 2 + 1]
        return [(outputs[0] + 1) % len(self.contract.classes), np.roll(outputs[1], 1, axis=1)]

    def predict_one(self, row):
        return _wrong(one(self, row), self.contract.classes)

    Predictor.predict, Predictor.predict_one = predict, predict_one  # type: ignore[method-assign]


def _wrong(answer: dict, classes: list[str] | None) -> dict:
    if not classes:
        return {"value": answer["value"] * 2 + 1}
    other = (answer["class_id"] + 1) % len(classes)
    turned = list(answer["probabilities"].values())
    probabilities = dict(zip(classes, turned[-1:] + turned[:-1], strict=True))
    return {"label": classes[other], "class_id": other, "probabilities": probabilities}


def _before_answers(what: Callable[[], None]) -> None:
    from serving.requests.decoder import Decoder

    row, rows = Decoder.row, Decoder.rows

    def late_row(self, body):
        what()
        return row(self, body)

    def late_rows(self, body):
        what()
        return rows(self, body)

    Decoder.row, Decoder.rows = late_row, late_rows  # type: ignore[method-assign]


def slow(seconds: str) -> None:
    """Delays each prediction."""
    _before_answers(lambda: time.sleep(float(seconds or 0.03)))


def errors(share: str) -> None:
    """Fails at every twentieth prediction (or at another share)."""
    every, number = round(1 / float(share or 0.05)), count(1)

    def fail() -> None:
        if next(number) % every == 0:
            raise RuntimeError("this image fails now and then")

    _before_answers(fail)


FAULTS: dict[str, Callable[[str], None]] = {
    "crash": crash,
    "crash-garbled": crash_garbled,
    "slow-start": slow_start,
    "never-ready": never_ready,
    "wrong-answers": wrong_answers,
    "slow": slow,
    "errors": errors,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
