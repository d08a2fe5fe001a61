"""A real PostgreSQL server on loopback, with its own data folder."""

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from pipeline.processes import free_port
from tests import tools


@contextmanager
def postgres(folder: Path):
    """Start it and yield a start function, a stop function and its URL with a password; skips where it is not installed."""
    tools.require("postgres")
    initdb, pg_ctl = (tools.program(name, *tools.postgres_folders()) for name in ("initdb", "pg_ctl"))
    # PostgreSQL refuses to run as root, and must own its data folder.
    owner = {"user": "nobody"} if os.geteuid() == 0 else {}
    # Two servers of one process may run at once. The path of a socket is short, so this is not below pytest's folders.
    data = Path(tempfile.mkdtemp(prefix="slipway-postgres-", dir="/tmp"))
    password = folder / "password"
    password.write_text("s3cret-of-postgres\n")
    if owner:
        shutil.chown(data, "nobody")
        folder.chmod(0o755)
    port, host = free_port(), "127.0.0.1"
    options = f"-c listen_addresses={host} -c port={port} -c unix_socket_directories={data} -c fsync=off"
    with password.open() as given:
        command = [initdb, "-D", data / "db", "-U", "slipway", "-A", "scram-sha-256", "--pwfile=/dev/stdin"]
        subprocess.run(command, stdin=given, check=True, capture_output=True, **owner)

    def control(verb, *more):
        command = [pg_ctl, "-D", data / "db", "-w", "-s", "-l", data / "log", *more, verb]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **owner)

    def start():
        control("start", "-o", options)

    def stop():
        control("stop", "-m", "immediate")

    try:
        start()
        yield start, stop, f"postgresql://slipway:s3cret-of-postgres@{host}:{port}/postgres"
    finally:
        subprocess.run([pg_ctl, "-D", data / "db", "-m", "immediate", "-s", "stop"], capture_output=True, **owner)
        shutil.rmtree(data, ignore_errors=True)
