"""Which rows are held out: by a hash of the row's id or group, or by time.

A hash never moves a row to the other side as data grows. With a time split the newest rows are held out: newer data moves the
cut forwards, never backwards, so a model that was trained before an earlier cut has seen no row that is held out later.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

from pipeline.errors import DataError


def is_holdout(keys: Iterable[object], share: float, salt: str) -> np.ndarray:
    """True for the rows of the hold-out, shape (n,). `keys` are ids, or groups, whose rows then stay together.

    A row is held out when the first 8 bytes of BLAKE2b(salt, key), read as a fraction of 2^64, lie below `share`.
    So with the same salt a larger share only adds rows.
    """
    limit = int(share * 2**64)
    return np.fromiter((number < limit for number in hashes(keys, salt)), dtype=bool)


def time_cut(times: np.ndarray, share: float):
    """The time from which on rows are held out: the newest `share` of them, as nearly as equal times, which stay together, allow.

    Raises DataError where all rows have the same time.
    """
    ordered = np.sort(times)
    if ordered[0] == ordered[-1]:
        raise DataError(
            f"all rows have the same time {shown(ordered[0])}, so none is older than the hold-out",
            'name another column in pipeline.toml [data] time, or set [split] by = "id"',
        )
    wanted = max(1, round(share * len(ordered)))
    at = ordered[-wanted]
    starts = np.unique(ordered)[1:]  # the oldest time is always trained on
    near = starts[max(0, np.searchsorted(starts, at) - 1) :][:3]
    held = len(ordered) - np.searchsorted(ordered, near)
    return near[np.abs(held - wanted).argmin()]


def shown(time) -> str:
    """A time as text: ISO 8601 in UTC, or a number; `parsed_cut` reads it again."""
    return str(np.datetime_as_string(time, timezone="UTC")) if isinstance(time, np.datetime64) else repr(float(time))


def parsed_cut(text: str):
    """The time that `shown` wrote; None where the text is none."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return np.datetime64(text.removesuffix("Z"), "us")
    except ValueError:
        return None


def hashes(keys: Iterable[object], salt: str) -> Iterable[int]:
    """A number below 2^64 for each key: the first 8 bytes of BLAKE2b(salt, key)."""
    key = hashlib.blake2b(salt.encode(), digest_size=32).digest()
    for one in keys:
        yield int.from_bytes(hashlib.blake2b(str(one).encode(), digest_size=8, key=key).digest(), "big")
