"""Experiments that have stopped themselves: kept beside the log, so that a stop holds for every replica and after a restart."""

from typing import NamedTuple

from serving.log.store import Store

_KEEP = (
    "INSERT INTO experiment_stops (model, experiment, time, reason) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (model, experiment) DO NOTHING"
)


class Stop(NamedTuple):
    """When an experiment stopped itself (seconds since 1970, UTC), and why, in words."""

    time: float
    reason: str


def keep(store: Store, model: str, experiment: str, stop: Stop) -> None:
    """Keep a stop, unless one is kept already: the first one counts. Raises StoreError."""
    store.write([(_KEEP, (model, experiment, *stop))])


def read(store: Store, model: str, experiment: str) -> Stop | None:
    """The stop of an experiment, None where it has not stopped itself; raises StoreError."""
    query = "SELECT time, reason FROM experiment_stops WHERE model = ? AND experiment = ?"
    return next((Stop(*row) for row in store.query(query, (model, experiment))), None)
