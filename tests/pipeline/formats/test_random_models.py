"""Random models, fitted on random data, are served like they were trained, or refused with a true reason.

Estimators and pipelines of scikit-learn are tried, and networks and boosted trees. `make fuzz` tries 300 combinations of each, or
FUZZ_MODELS=2000; FUZZ_SEED repeats a run, and FUZZ_MODEL=17 tries one combination of it.
"""

import os
import signal
import time
import warnings
from collections import Counter

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from pipeline.errors import PortabilityError
from pipeline.formats import bare_service, bundle
from serving import batch
from tests.pipeline.formats import random_models
from tests.pipeline.formats.random_models import compare

LONG = os.environ.get("FUZZ") == "long"
SEED = int(os.environ.get("FUZZ_SEED") or (time.time_ns() % 1_000_000 if LONG else 1))
COMBINATIONS = int(os.environ.get("FUZZ_MODELS") or (300 if LONG else 12))
HANGS = 600  # seconds for one combination, on a busy machine too


@pytest.fixture
def in_this_process(tmp_path, monkeypatch):
    """Stored models are asked in this process: a new one for each takes longer than all the rest."""

    def ask(files, contract, parts, calls=0, each=False):
        folder = bundle.try_out(files, contract, tmp_path / f"stored-{time.monotonic_ns()}")
        rows = [
            row for part in parts for row in part[[one["name"] for one in contract["inputs"]]].itertuples(False, None)
        ]
        try:
            answers, milliseconds = batch.ask(folder, rows, [len(part) for part in parts], calls, each)
        except batch.REFUSED as error:
            raise PortabilityError(batch.in_words(error)) from error
        return np.split(answers, np.cumsum([len(part) for part in parts])[:-1]), milliseconds

    monkeypatch.setattr(bare_service, "ask", ask)


def hung(*_):
    """What ends a combination that takes too long."""
    raise AssertionError(f"not ended within {HANGS} s")


def test_random_models_are_served_as_trained(in_this_process, tmp_path):
    """Every combination of data, steps and estimator answers all that its contract admits as it was trained, or is refused with a true reason."""
    try_all(random_models.pipeline, tmp_path)


def test_random_networks_and_trees_are_served_as_trained(in_this_process, exporter_read_once, tmp_path):
    """So does every network and every model of boosted trees."""
    from tests.pipeline.formats import random_families

    try_all(random_families.draw, tmp_path)


def try_all(draw, folder):
    """Try the combinations that the environment asks for, with models that `draw` makes; tell what each came to."""
    only = os.environ.get("FUZZ_MODEL")
    words = "models" if draw is random_models.pipeline else "networks"
    numbers = [int(only)] if only else range(COMBINATIONS)
    print(f"\n{len(numbers)} random models, seed {SEED}; FUZZ_SEED={SEED} repeats them", flush=True)
    ended: Counter[str] = Counter()
    failed, began = [], time.monotonic()
    signal.signal(signal.SIGALRM, hung)
    for done, number in enumerate(numbers):
        signal.alarm(HANGS)
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"), threadpool_limits(1):
                warnings.simplefilter("ignore")
                result = compare(SEED, number, folder / str(number), draw)
            ended[result.ended if result.ended != "same" else f"same, {result.said.split(',')[0]}"] += 1
            if LONG:
                print(f"{number}: {result.ended}: {result.said}", flush=True)
        except Exception as error:
            again = f"FUZZ_SEED={SEED} FUZZ_MODEL={number} make fuzz ARGS='-k {words}'"
            failed.append(f"{again}\n  {type(error).__name__}: {error}")
            print(f"FAILED {failed[-1]}", flush=True)
        finally:
            signal.alarm(0)
        if done % 50 == 49:
            print(f"{done + 1} of {len(numbers)} in {time.monotonic() - began:.0f} s: {dict(ended)}", flush=True)
    print(f"{dict(ended)}, {len(failed)} failed", flush=True)
    assert not failed, "\n".join(failed)
