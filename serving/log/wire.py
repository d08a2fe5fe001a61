"""How records travel between the processes of a service: as frames, each behind a header that says what and how much it is."""

import struct
from collections.abc import Iterator

from serving.log.blocks import Frame

READ = 1 << 18  # bytes that are read at a time; a channel holds about as many

# Header of a frame: its kind, the sizes of its two parts in bytes, and what its block's row needs: records, rows, first and last time.
HEAD = struct.Struct("<BIIIIdd")
# The kinds of a frame: outcomes, refusals and the stop of an experiment, which have one part only, and predictions, of which each
# source has a kind of its own.
OUTCOMES, REFUSALS, STOP, PREDICTIONS = range(4)
PLAIN, CONTROL, CHALLENGER = range(3)  # the sources, in the order of serving/experiment/experiment.py `sources`


def packed(kind: int, frame: Frame) -> bytes:
    """A frame as it is sent."""
    requests, rows, first, last, about, content = frame
    return b"".join((HEAD.pack(kind, len(about), len(content), requests, rows, first, last), about, content))


def arrived(buffer: bytearray) -> Iterator[tuple[int, Frame]]:
    """Take every whole frame with its kind from what was received so far; go through all of them."""
    start = 0
    while len(buffer) >= (begin := start + HEAD.size):
        kind, about, content, requests, rows, first, last = HEAD.unpack_from(buffer, start)
        middle, end = begin + about, begin + about + content
        if len(buffer) < end:
            break
        with memoryview(buffer) as view:
            frame = Frame(requests, rows, first, last, bytes(view[begin:middle]), bytes(view[middle:end]))
        start = end
        yield kind, frame
    del buffer[:start]
