"""What the log's counter is to count: the bins of each version, from its bundle's contract and reference."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from pipeline.settings import Settings
from serving.counts.records import Bins, Plan, Version
from serving.model.contract import Contract

DAY = 86_400
THIRDS = (1 / 3, 2 / 3)
SLICES = 10  # values of a column of text that are slices


@dataclass(frozen=True)
class Trained:
    """What a version's bundle says of it: contract.json and reference.json."""

    contract: dict[str, Any]
    reference: dict[str, Any]


def plan(settings: Settings, versions: Mapping[str, Trained]) -> Plan:
    """What to count of these versions."""
    return Plan(
        model=settings.name,
        versions={number: counted(trained, settings.gate.slices) for number, trained in versions.items()},
        label_window=settings.monitor.label_window_days * DAY,
    )


def counted(trained: Trained, slices: list[str]) -> Version:
    """How the rows of a version are counted; an older reference lacks some of what newer ones have."""
    contract = msgspec.convert(trained.contract, Contract)
    reference = trained.reference
    target = Bins(values=contract.classes) if contract.classes else bins(reference.get("target", {"edges": []}))
    surprise = reference.get("surprise")
    return Version(
        contract=contract,
        features={name: bins(column) for name, column in reference["features"].items()},
        prediction={name: bins(column) for name, column in reference["prediction"].items()},
        target=target,
        loss=bins(reference.get("loss", {"edges": []})),
        surprise=(surprise["edges"], surprise["limits"]) if surprise else None,
        deciders=bins(reference["deciders"]) if "deciders" in reference else None,
        slices={name: _parts(reference["features"][name]) for name in slices if name in reference["features"]},
    )


def bins(column: Mapping[str, Any]) -> Bins:
    """The bins of a column of reference.json."""
    if "edges" in column:
        scale = float(column.get("deviation") or 1.0)
        return Bins(edges=column["edges"], center=float(column.get("mean") or 0.0), scale=scale)
    return Bins(values=list(column["shares"]))


def _parts(column: Mapping[str, Any]) -> Bins:
    """The slices of a column: thirds of numbers, or the most frequent texts."""
    if "edges" not in column:
        return Bins(values=list(column["shares"])[:SLICES])
    below = np.cumsum(column["shares"])[:-1]
    nearest = {int(np.abs(below - third).argmin()) for third in THIRDS} if len(below) else set()
    return Bins(edges=[column["edges"][place] for place in sorted(nearest)])
