"""The training side, split again: folds for cross-validation, and the rows that stop a training early. The hold-out is in neither."""

import numpy as np

from pipeline.data.dataset import Dataset
from pipeline.data.holdout import hashes, is_holdout, time_cut
from pipeline.errors import DataError

STOP_SHARE = 0.1  # of the training rows, set aside to stop training early


def folds(dataset: Dataset, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Masks (fit, judge) over the training rows for cross-validation, each of shape (training rows,).

    The split by id or group gives `count` folds that together judge each training row once: rows of one group stay together,
    and each class is dealt out evenly, in the order of a hash. The split by time gives `count` folds that go forwards: each fits
    on all rows before the ones that it judges, and the oldest rows are judged by none.
    The hold-out is in no fold. Raises DataError where the rows do not suffice: fewer ids, groups or times than folds, or a class
    without a row on the side that is fitted.
    """
    rows = ~dataset.holdout
    y = dataset.y[rows]
    times = _times(dataset)
    made = _forwards(times[rows], count) if times is not None else _dealt(dataset.keys[rows], y, dataset, count)
    for number, (fit, _) in enumerate(made, 1):
        absent = sorted(set(range(len(dataset.classes))) - set(y[fit].tolist())) if dataset.classes else []
        if absent:
            raise DataError(
                f"class {dataset.classes[absent[0]]!r} has no row to learn from in fold {number} of {count} of the training side",
                "add rows of that class, or ask for fewer [search] folds ([decision] takes five)",
            )
    return made


def stop_rows(dataset: Dataset, places: np.ndarray | None = None, share: float = STOP_SHARE) -> np.ndarray:
    """The training rows that are set aside to stop training early, as a mask over the training rows, or over those at `places`.

    By a hash of id or group with a salt of its own, so that it is another draw than the hold-out; with a time split the newest, and
    none where all have the same time. A class that would have no other row keeps all of its rows for the fit.
    """
    rows = np.flatnonzero(~dataset.holdout) if places is None else places
    if (times := _times(dataset)) is not None:
        some = times[rows]
        chosen = some >= time_cut(some, share) if len(np.unique(some)) > 1 else np.zeros(len(rows), dtype=bool)
    else:
        chosen = is_holdout(dataset.keys[rows], share, f"{dataset.settings.split.salt} stop")
    if dataset.classes:
        y = dataset.y[rows]
        chosen &= ~np.isin(y, np.setdiff1d(y[chosen], y[~chosen]))
    return chosen


def _times(dataset: Dataset) -> np.ndarray | None:
    """The time of each row where the split is by time."""
    return dataset.times if dataset.settings.split.by == "time" else None


def _dealt(keys: np.ndarray, y: np.ndarray, dataset: Dataset, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Keys sorted by their commonest class and then by hash, dealt out like cards."""
    names, place = np.unique(keys.astype(str), return_inverse=True)
    if len(names) < count:
        what = "groups" if dataset.groups is not None else "rows"
        raise DataError(f"the training side has {len(names)} {what}, too few for {count} folds", "add data")
    hashed = np.fromiter(hashes(names, f"{dataset.settings.split.salt} folds"), dtype=np.uint64)
    commonest = np.zeros(len(names), dtype=int)
    if dataset.classes:
        counted = np.zeros((len(names), len(dataset.classes)), dtype=int)
        np.add.at(counted, (place, y), 1)
        commonest = counted.argmax(axis=1)
    fold = np.empty(len(names), dtype=int)
    fold[np.lexsort((hashed, commonest))] = np.arange(len(names)) % count
    return [(fold[place] != number, fold[place] == number) for number in range(count)]


def _forwards(times: np.ndarray, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Blocks of about equal size in the order of time; each but the first is judged by what came before."""
    known = np.unique(times)
    if len(known) <= count:
        raise DataError(
            f"the training side has {len(known)} different times, too few for {count} folds",
            "name a finer column in pipeline.toml [data] time, or ask for fewer [search] folds ([decision] takes five)",
        )
    ordered = np.sort(times)
    starts = ordered[[len(ordered) * part // (count + 1) for part in range(1, count + 1)]]
    if len(np.unique(starts)) < count or starts[0] == ordered[0]:  # some times have very many rows
        starts = known[[len(known) * part // (count + 1) for part in range(1, count + 1)]]
    ends = [*starts[1:], None]
    return [
        (times < start, (times >= start) & (times < end if end is not None else True))
        for start, end in zip(starts, ends, strict=True)
    ]
