"""Which rows are held out: decided by a hash of the row's id, so a row never changes sides as data grows."""

import hashlib
from collections.abc import Iterable

import numpy as np


def is_holdout(ids: Iterable[object], share: float, salt: str) -> np.ndarray:
    """True for the rows of the hold-out, shape (n,).

    A row is held out when the first 8 bytes of BLAKE2b(salt, id), read as a fraction of 2^64, lie below `share`.
    So with the same salt a larger share only adds rows.
    """
    key = hashlib.blake2b(salt.encode(), digest_size=32).digest()
    limit = int(share * 2**64)
    return np.fromiter(
        (
            int.from_bytes(hashlib.blake2b(str(row).encode(), digest_size=8, key=key).digest(), "big") < limit
            for row in ids
        ),
        dtype=bool,
    )
