"""Days of a small model in production, counted as the log's counter does it, and what the model was trained on."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import numpy as np

from pipeline.monitor.findings import Findings
from pipeline.monitor.judge import judge
from pipeline.monitor.plan import Trained, plan
from pipeline.settings import Settings
from serving.counts.columns import count_numbers, count_texts
from serving.counts.records import Column, Day, Log, Outcomes, Rows, Version
from tests.pipeline.monitor.watched_columns import numbers

DAY = 86_400
FIRST = 20_000  # the day, counted from 1970
COLOURS = ["red", "blue"]
ROWS = 4000  # of the training, and of the hold-out


class World:
    """A number `size`, a text `colour`, a second number `noise`; the answer is "yes" where size is above 0, 85 % of the time."""

    def __init__(self, seed: int = 0):
        self.rng = np.random.default_rng(seed)
        size, noise = self.rng.normal(size=ROWS), self.rng.normal(size=ROWS)
        p = probability(size)
        wrong = self.rng.random(ROWS) > 0.85
        y = (size > 0) ^ wrong
        loss = losses(p, y)
        contract = {
            "schema": 1, "name": "cars", "task": "binary", "format": "skops", "target": "sold", "skops": {"layout": "frame"},
            "classes": ["no", "yes"], "positive": "yes",
            "inputs": [
                {"name": "size", "type": "number", "nullable": True, "example": 1, "observed": {"minimum": -5, "maximum": 5}},
                {"name": "noise", "type": "number", "example": 1, "observed": {"minimum": -5, "maximum": 5}},
                {"name": "colour", "type": "text", "example": "red", "observed": {"values": COLOURS}},
            ],
        }  # fmt: skip
        reference = {
            "rows": ROWS,
            "features": {"size": numbers(size), "noise": numbers(noise), "colour": {"shares": {"red": 0.7, "blue": 0.3}, "missing": 0.0}},
            "prediction": {"no": numbers(1 - p), "yes": numbers(p)},
            "prediction_rows": ROWS,
            "target": {"shares": {"no": 1 - float(y.mean()), "yes": float(y.mean())}},
            "loss": numbers(loss) | {"mean": float(loss.mean()), "deviation": float(loss.std())},
            "metrics": {"accuracy": 1 - float(wrong.mean())},
            "expected_accuracy": 0.85,
        }  # fmt: skip
        self.trained = Trained(contract, reference)

    def day(
        self, number: int, version: Version, rows: int = 1000, labelled: float = 1.0, correct: float = 0.85,
        change: Callable[[dict], None] = lambda columns: None, name: str = "1", **more,
    ) -> Day:  # fmt: skip
        """A day's counts; `change` may move its columns, and `correct` is how often the answer is right."""
        rng = self.rng
        columns = {"size": rng.normal(size=rows), "noise": rng.normal(size=rows), "colour": rng.choice(COLOURS, rows, p=[0.7, 0.3])}  # fmt: skip
        change(columns)
        p = probability(np.nan_to_num(columns["size"]))
        y = (p > 0.5) ^ (rng.random(rows) > correct)
        told = rng.random(rows) < labelled
        day = Day(day=date(FIRST + number), version=name, requests=rows)
        day.rows = Rows(
            requests=rows, rows=rows,
            features={one: self._count(version, one, values) for one, values in columns.items()},
            prediction={"yes": count_numbers(p, version.prediction["yes"])},
            labels={"no": int((p <= 0.5).sum()), "yes": int((p > 0.5).sum())},
            expected_correct=float(np.maximum(p, 1 - p).sum()), expected_loss=float(losses(p, p > 0.5).sum()),
        )  # fmt: skip
        day.outcomes = self._outcomes(version, p[told], y[told])
        for key, value in more.items():
            setattr(day, key, value)
        return day

    def _count(self, version: Version, name: str, values: np.ndarray) -> Column:
        if name == "colour":
            return count_texts(values.tolist(), version.features[name], frozenset(COLOURS))
        return count_numbers(values, version.features[name], -5, 5)

    def _outcomes(self, version: Version, p: np.ndarray, y: np.ndarray) -> Outcomes:
        answered, loss = p > 0.5, losses(p, y)
        confusion = np.bincount(y * 2 + answered, minlength=4).reshape(2, 2).tolist()
        return Outcomes(
            rows=len(y), confusion=confusion, wrong=int((answered != y).sum()), expected_correct=0.85 * len(y),
            target=count_texts(["yes" if one else "no" for one in y], version.target), loss=count_numbers(loss, version.loss),
            loss_sum=float(loss.sum()), loss_squares=float((loss**2).sum()), delay=[len(y)] + [0] * 19,
        )  # fmt: skip


def probability(size: np.ndarray) -> np.ndarray:
    """What the model answers: sure by 85 %."""
    return np.where(size > 0, 0.85, 0.15) + np.clip(size, -1, 1) * 0.0001


def losses(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Minus the logarithm of what was true."""
    return -np.log(np.where(y, p, 1 - p))


def date(day: int) -> str:
    """A day that is counted from 1970, as 2026-01-31."""
    return datetime.fromtimestamp(day * DAY, UTC).date().isoformat()


def settings(**monitor) -> Settings:
    """The settings of that model."""
    text = {
        "name": "cars", "data": {"task": "binary", "id": "id", "target": "sold", "positive": "yes"},
        "split": {"holdout": 0.25, "salt": "s"}, "train": {"seed": 1}, "gate": {"metric": "log_loss", "margin": 0.01},
        "monitor": monitor,
    }  # fmt: skip
    return Settings.model_validate(text)


def judged(world: World, days: Callable[[Version], list[Day]], **monitor) -> Findings:
    """The findings on the morning after the last of these days."""
    rules = settings(**monitor)
    trained = {"1": world.trained, "2": world.trained}
    what = plan(rules, trained)
    found = [msgspec.json.decode(msgspec.json.encode(one), type=Day) for one in days(what.versions["1"])]
    now = (
        (max((datetime.fromisoformat(f"{one.day}T00:00:00+00:00").timestamp() for one in found), default=FIRST * DAY))
        + DAY
        + 3600
    )
    log = Log(now=now, models={"cars": sum(one.requests for one in found)} if found else {})
    return judge(rules, "production", what, trained, {"7": "the bundle of version 7 is gone from MLflow"}, log, found)
