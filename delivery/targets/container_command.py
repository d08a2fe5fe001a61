"""A command in a running container, with something to read."""

import contextlib
import socket
import threading
from typing import IO

from delivery import log_command


def run_in(
    container, command: list[str], given: bytes, into: IO[bytes] | None = None
) -> tuple[int | None, bytes, list[str]]:
    """Run a command in a container, with `given` as its standard input: its status, its output, and its lines on standard error.

    The status is None where the engine does not know how the command ended. The output goes into the file `into`, if there is one, instead of memory.
    """
    from docker.utils.socket import frames_iter

    api = container.client.api
    # The engine waits until all that is given was read, also after the command has ended early.
    whole = ["sh", "-c", '"$@"; status=$?; cat > /dev/null; exit $status', "sh", *command]
    run = api.exec_create(container.id, whole, stdin=True)["Id"]
    connection = api.exec_start(run, socket=True)
    raw = getattr(connection, "_sock", connection)  # over a Unix socket it is a file that holds one
    raw.settimeout(None)
    printed, said = bytearray(), bytearray()

    def hand_over() -> None:
        with contextlib.suppress(OSError):  # it ended without reading all
            raw.sendall(given)
            raw.shutdown(socket.SHUT_WR)

    writer = threading.Thread(target=hand_over, daemon=True)
    writer.start()
    for stream, piece in frames_iter(connection, tty=False):
        if stream == 1 and into is not None:
            into.write(piece)
        else:
            (printed if stream == 1 else said).extend(piece)
    writer.join()
    connection.close()
    lines: list[str] = []
    log_command.listen(bytes(said).splitlines(), lines)
    return api.exec_inspect(run)["ExitCode"], bytes(printed), lines
