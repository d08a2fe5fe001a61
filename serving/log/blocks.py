"""The form in which the prediction log keeps requests: blocks of many, in columns, compressed.

A block has two pieces: `about` says which requests they are, and `content` has their rows and answers. Each is a list of
one or more parts in msgpack, compressed with zstd. A part comes from one worker as it is, so that the process that writes
the log need not decode it; a part of `about` is a list of columns in the order of ABOUT, and one of `content` the same of CONTENT.
"""

import struct
import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVEL = 1  # of zstd; level 3 saves a tenth of the bytes and takes twice the time
_LIST = struct.Struct(">BH")  # a list's header in msgpack, with room for up to 65,535 items

About = tuple[list[str], list[float], list[str], list[str | None], list[str], list[int], list[float]]
Content = tuple[list[bytes], list[bytes]]


class Prediction(NamedTuple):
    """One answered request; a batch is one record. `features` and `answers` are JSON lists in UTF-8, one item per row."""

    request_id: str
    time: float  # seconds since 1970, UTC
    caller: str
    subject: str | None
    role: str  # "served"; "test" for a request of the delivery's own; "shadow" for an answer that no caller got
    rows: int
    latency_ms: float
    features: bytes
    answers: bytes


ABOUT, CONTENT = Prediction._fields[:7], Prediction._fields[7:]


class Source(NamedTuple):
    """Which model answered, and in which experiment as which variant: "A", "B", or "" outside of any."""

    model: str = ""
    model_version: str = ""
    experiment: str = ""
    variant: str = ""


class Frame(NamedTuple):
    """Encoded records, with what the row of their block says of them."""

    requests: int
    rows: int
    first_time: float
    last_time: float
    about: bytes
    content: bytes


class Block(NamedTuple):
    """Requests with answers of one source, as columns of the same length."""

    source: Source
    request_ids: list[str]
    times: list[float]
    callers: list[str]
    subjects: list[str | None]
    roles: list[str]
    rows: list[int]
    latencies: list[float]
    features: list[bytes]
    answers: list[bytes]


_encode = msgspec.msgpack.Encoder().encode
_about = msgspec.msgpack.Decoder(list[About]).decode
_content = msgspec.msgpack.Decoder(list[Content]).decode
_compressor = zstd.ZstdCompressor(LEVEL)


class DamagedError(ValueError):
    """Bytes that are no piece of a block."""


def frame_of(records: Sequence[Sequence[Any]]) -> Frame:
    """At least one record, each with the fields of Prediction in order, as a frame."""
    columns = tuple(zip(*records, strict=True))
    times, rows = columns[1], columns[5]
    about, content = _encode(columns[:7]), _encode(columns[7:])
    return Frame(len(records), sum(rows), min(times), max(times), about, content)


def records_of(frames: Sequence[Frame]) -> list[Prediction]:
    """The records of some frames again."""
    columns = chain(
        _joined(_about(_listed([one.about for one in frames]))),
        _joined(_content(_listed([one.content for one in frames]))),
    )
    return [Prediction(*one) for one in zip(*columns, strict=True)]


def pack(parts: Sequence[bytes]) -> bytes:
    """A piece of a block, of the `about` or the `content` of its frames."""
    return compress(_listed(parts))


def about_of(piece: bytes) -> About:
    """The columns of a piece `about`; raises DamagedError."""
    return _unpacked(piece, _about)


def content_of(piece: bytes) -> Content:
    """The columns of a piece `content`; raises DamagedError."""
    return _unpacked(piece, _content)


def compress(content: bytes) -> bytes:
    """The same in fewer bytes."""
    return _compressor.compress(content, zstd.ZstdCompressor.FLUSH_FRAME)


def decompress(content: bytes) -> bytes:
    """What was compressed; raises DamagedError."""
    try:
        return zstd.decompress(content)
    except zstd.ZstdError as error:
        raise DamagedError(str(error)) from error


def _unpacked(piece: bytes, decode: Any) -> Any:
    try:
        return _joined(decode(decompress(piece)))
    except msgspec.MsgspecError as error:
        raise DamagedError(str(error)) from error


def _listed(parts: Sequence[bytes]) -> bytes:
    return b"".join((_LIST.pack(0xDC, len(parts)), *parts))


def _joined(parts: Sequence[Any]) -> Any:
    """The columns of all parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return tuple(list(chain.from_iterable(column)) for column in zip(*parts, strict=True))
