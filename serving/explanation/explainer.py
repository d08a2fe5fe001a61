"""Explanations as requests ask for them: one after the other, in a thread beside the event loop, at a low priority.

Meanwhile the loop answers everybody else. A model is asked in pieces, and gives way between them.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np

from serving.experiment.variants import Variant
from serving.explanation import shapley
from serving.model.contract import Contract
from serving.model.predictor import Answer, NoAnswer, Predictor
from serving.model.rows import Row
from serving.problems import Problem
from serving.requests.body import Disconnected

MOST = 50_000  # rows that the model is asked for one explanation
SECONDS = 2.0  # of the model's time that an explanation may take, as its answers to the background rows let expect
WAITING = 4  # explanations that may wait in one worker while another is made
LOW = 10  # the priority of the thread, as `nice` counts it
TRAIN_AGAIN = "the bundle has no background rows, which came with a later release; train the model again to have its answers explained"


class Explanation(msgspec.Struct, frozen=True):
    """What each feature added to an answer: `base` and the contributions add up to `answer`."""

    of: str
    base: float
    answer: float
    contributions: dict[str, float]
    rows: int
    evaluations: int
    exact: bool
    error: float
    latency_ms: float


class Explainable:
    """A model whose answers can be explained: how it is asked, and the rows that its answers are compared with."""

    def __init__(self, contract: Contract, predictor: Predictor, background: tuple[Row, ...]):
        """Raises Problem 422 when there are no such rows, or the model has too many features to ask about each."""
        if not background:
            raise Problem(422, TRAIN_AGAIN)
        if shapley.needed(len(contract.inputs)) > MOST:
            raise Problem(422, f"a model of {len(contract.inputs)} features is not explained: it would take too long")
        self.contract, self._predictor = contract, predictor
        self._kind: Any = object if any(column.type == "text" for column in contract.inputs) else np.float64
        self._background = self._as_array(background)

    def explain(self, row: Row, answer: Answer, left: Callable[[], bool]) -> Explanation:
        """Why the model answered this row so; `left` is asked now and then whether nobody waits any more.

        Raises Disconnected then, and Problem 422 where the model has no answer to a mixture of two rows.
        """
        began = time.perf_counter()
        column, of, value = self._about(answer)

        def ask(points: np.ndarray) -> np.ndarray:
            if left():
                raise Disconnected
            rows: Any = points.tolist() if self._kind is object else points
            return np.asarray(self._predictor.predict(rows)[-1], np.float64).reshape(len(points), -1)[:, column]

        try:
            given = ask(self._background)
            most = self._evaluations((time.perf_counter() - began) / len(given))
            found = shapley.explain(ask, self._as_array([row])[0], value, self._background, given, most)
        except NoAnswer as error:
            raise Problem(
                422, "the model has no finite answer to a mixture of these values and those of a background row"
            ) from error
        names, values = self.contract.names, found.values.tolist()
        latency = round((time.perf_counter() - began) * 1000, 3)
        counts = (found.rows, found.evaluations, found.exact, found.error)
        return Explanation(of, found.base, value, dict(zip(names, values, strict=True)), *counts, latency)

    def _about(self, answer: Answer) -> tuple[int, str, float]:
        """What is explained: its place among the outputs, its name, and what the model answered."""
        if "value" in answer:
            return 0, self.contract.target, answer["value"]
        label = self.contract.positive or answer["label"]
        return self.contract.classes.index(label), label, answer["probabilities"][label]

    def _evaluations(self, seconds: float) -> int:
        """How many there may be, where one takes so long."""
        return max(shapley.needed(len(self.contract.inputs)), min(MOST, int(SECONDS / seconds)))

    def _as_array(self, rows: Any) -> np.ndarray:
        made = np.empty((len(rows), len(self.contract.inputs)), self._kind)
        made[:] = rows
        return made


class Explainer:
    """The thread in which explanations are made, and those that wait for it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "explanation", _step_back)
        self._models: dict[Variant, Explainable] = {}
        self._asked = 0

    async def explain(
        self, variant: Variant, row: Row, answer: Answer, gone: Callable[[], Awaitable[None]]
    ) -> Explanation:
        """Why this variant answered a row so, unless the caller leaves, which `gone` waits for: then raises Disconnected.

        Raises Problem 429 when too many wait already, and what `Explainable` raises.
        """
        model = self._models.get(variant)
        if model is None:
            model = self._models[variant] = Explainable(variant.contract, variant.predictor, variant.background)
        if self._asked > WAITING:
            raise Problem(429, "too many explanations at once; ask again a little later", headers={"retry-after": "2"})
        self._asked += 1
        left = threading.Event()
        work = asyncio.get_running_loop().run_in_executor(self._thread, model.explain, row, answer, left.is_set)
        leaving = asyncio.ensure_future(gone())
        try:
            await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise Disconnected
            return work.result()
        finally:
            left.set()
            work.cancel()
            leaving.cancel()
            self._asked -= 1


def _step_back() -> None:
    """Let the event loop's thread go first; elsewhere than on Linux a thread has no priority of its own."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + LOW)
