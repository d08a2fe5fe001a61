"""A small prediction log, written with the store, and what is to be counted of it."""

import json
from typing import Any

import msgspec

from serving.counts.records import Bins, Plan, Version
from serving.log.store import Store
from serving.model.contract import Contract

DAY = 86_400
MONDAY = 20_000 * DAY  # a midnight
CLASSES = ["no", "yes"]


def contract(task: str = "binary") -> Contract:
    """A contract with a number, a flag and a text."""
    classes = {"classes": CLASSES, "positive": "yes"} if task == "binary" else {}
    return msgspec.convert(
        {
            "schema": 1,
            "name": "cars",
            "task": task,
            "format": "skops",
            "target": "sold",
            "skops": {"layout": "frame"},
            "inputs": [
                {
                    "name": "age",
                    "type": "number",
                    "nullable": True,
                    "example": 1,
                    "observed": {"minimum": 0, "maximum": 9},
                },
                {"name": "used", "type": "boolean", "example": True},
                {
                    "name": "colour",
                    "type": "text",
                    "nullable": True,
                    "example": "red",
                    "observed": {"values": ["blue", "red"]},
                },
            ],
            **classes,
        },
        Contract,
    )


def version(task: str = "binary") -> Version:
    """How the rows of that contract are counted."""
    numbers = Bins(edges=[1.0, 5.0], center=3.0, scale=2.0)
    return Version(
        contract=contract(task),
        features={"age": numbers, "used": Bins(edges=[1.0]), "colour": Bins(values=["red"])},
        prediction={"yes": Bins(edges=[0.5])} if task == "binary" else {"sold": numbers},
        target=Bins(values=CLASSES) if task == "binary" else numbers,
        loss=Bins(edges=[0.5, 2.0]),
        surprise=None if task == "binary" else ([4.0], [1.0, 3.0]),
        slices={"age": Bins(edges=[5.0]), "used": Bins(edges=[1.0]), "colour": Bins(values=["red"])},
    )


def plan(*versions: str, task: str = "binary", **more: Any) -> Plan:
    """What to count: these versions, until long after the last day."""
    found = {number: version(task) for number in versions or ("1",)}
    return Plan(model="cars", versions=found, **{"until": MONDAY + 90 * DAY, "label_window": 7 * DAY} | more)


def asked(
    request_id: str,
    at: float,
    rows: list[list[Any]],
    yes: list[float],
    role: str = "served",
    subject: str = "subject-hash",
):
    """A logged request: its rows, and the probability of "yes" for each."""
    answers = [
        {"label": CLASSES[p > 0.5], "class_id": int(p > 0.5), "probabilities": {"no": 1 - p, "yes": p}} for p in yes
    ]
    features, given = json.dumps(rows).encode(), json.dumps(answers).encode()
    return request_id, at, "shop", subject, role, len(rows), 0.2, features, given


def told(request_id: str, at: float, outcome: Any, row: int = 0):
    """An outcome that came at a time."""
    return request_id, row, json.dumps(outcome), at, "shop"


def store(url: str, number: str = "1", model: str = "cars") -> Store:
    """The log, written by a version."""
    return Store(url, model, number)
