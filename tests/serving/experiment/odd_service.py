"""The service with a challenger that misbehaves in its process, as ODD says, and a supervisor that is less patient.

python -m tests.serving.experiment.odd_service --bundle …

The challenger does so with rows whose first value is ODD_VALUE; it answers all others.
"""

import os
import sys
import time

from serving.__main__ import main
from serving.experiment import shadow, tee
from serving.model.bundle import BundleError
from serving.model.predictor import load_predictor
from serving.runtime import shadow_process

ODD_VALUE = 13.0
SLOW = 0.01  # seconds for a row, over a hundred times as long as the model needs
_leaked = []


def _crash() -> None:
    os.abort()


def _hang() -> None:
    time.sleep(3600)


def _leak() -> None:
    _leaked.append(b"x" * 20_000_000)


def _slow() -> None:
    time.sleep(SLOW)


def _fill() -> None:
    _leaked.append(b"x" * 2 * shadow.GROWTH)  # more than there can be, at once


def _odd_predictor(bundle):
    if os.environ["ODD"] == "refuse":
        raise BundleError("no such library")
    predictor = load_predictor(bundle)
    run, run_one, misbehave = predictor.predict, predictor._model.run_one, globals()["_" + os.environ["ODD"]]

    def predict(rows):
        for row in rows:
            if row[0] == ODD_VALUE:
                misbehave()
        return run(rows)

    def model_run_one(row):
        if row[0] == ODD_VALUE:
            misbehave()
        return run_one(row)

    predictor.predict, predictor._model.run_one = predict, model_run_one
    return predictor


if __name__ == "__main__":
    shadow.load_predictor = _odd_predictor
    shadow_process.BACK_OFF = (0.1,)
    if os.environ["ODD"] == "hang":
        shadow_process.HANG = 1.0
    tee.ROOM = 2_000
    sys.exit(main())
