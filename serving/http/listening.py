"""The end of a listening socket: connections that wait on it are taken, and no more come."""

import contextlib
import ctypes
import socket
import struct

SO_ATTACH_FILTER = 26  # Linux's number; the socket module does not know it
# A program for the kernel (classic BPF), run for each packet to the socket: drop one that opens a connection (SYN without ACK).
_DROP_NEW = (
    (0x30, 0, 0, 13),  # load the flags of the TCP header
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # is it SYN alone?
    (0x06, 0, 0, 0),  # then drop it
    (0x06, 0, 0, 0x7FFFFFFF),  # else take it whole
)


def take_no_more(listener: socket.socket) -> None:
    """Let no new connection begin on this socket, in whichever process; those that have begun still arrive.

    Whoever tries meanwhile is refused once the socket is closed, instead of being cut off after it has asked. Where the system
    knows no such filter, nothing happens.
    """
    program = b"".join(struct.pack("HBBI", *step) for step in _DROP_NEW)
    held = ctypes.create_string_buffer(program)
    with contextlib.suppress(OSError):
        listener.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(_DROP_NEW), ctypes.addressof(held))
        )
