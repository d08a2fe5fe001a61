"""The real service in a separate process, as in a deployment."""

import hashlib
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import requests

from tests.serving.bundles import read

ROOT = Path(__file__).parents[2]
KEY = "slipway_" + "k" * 43  # a key with every scope, for services that use `with_keys`
HEADERS = {"X-API-Key": KEY}


@dataclass(frozen=True)
class Service:
    """A running service, its bundle, and a client for it."""

    url: str
    bundle: Path
    process: subprocess.Popen
    session: requests.Session
    errors: IO[bytes]

    @property
    def logged(self) -> str:
        """Its log so far."""
        # Opened without truncation: the service writes at the file position that it shares with this file.
        return os.pread(self.errors.fileno(), os.fstat(self.errors.fileno()).st_size, 0).decode()

    @property
    def contract(self):
        """The contract of its bundle."""
        return read(self.bundle, "contract.json")

    @property
    def golden(self):
        """The golden rows of its bundle."""
        return read(self.bundle, "golden.json")

    @property
    def example(self):
        """The contract's example row, by name."""
        return {column["name"]: column["example"] for column in self.contract["inputs"]}

    def get(self, path, **more):
        """GET a path."""
        return self.session.get(self.url + path, timeout=10, **more)

    def post(self, path, body=None, **more):
        """POST a JSON body (or, by `data`, any bytes)."""
        return self.session.post(self.url + path, json=body, timeout=30, **more)

    def hang_up(self):
        """Close its client's connections: the service waits for its callers to leave before it ends.

        A session that is closed leaves them open as long as somebody holds one of its responses.
        """
        for adapter in self.session.adapters.values():
            pools = adapter.poolmanager.pools
            for key in pools.keys():  # noqa: SIM118  # it is no dictionary
                pools[key].close()

    def predict(self, features, **fields):
        """POST one row to /predict."""
        return self.post("/predict", {"features": features, **fields})


def caller(name: str, key: str, scopes: str = "predict,metrics,admin") -> str:
    """The keys file's line for a client."""
    return f"{name} {scopes} {hashlib.sha256(key.encode()).hexdigest()}\n"


def with_keys(folder: Path) -> dict[str, str]:
    """Settings for a service with the key KEY, a prediction log in this folder, and no rate limit."""
    return {
        "SLIPWAY_API_KEYS": caller("tester", KEY),
        "SLIPWAY_RATE_LIMIT": "0",
        "SLIPWAY_RATE_LIMIT_BYTES": "0",
        "SLIPWAY_DATABASE_URL": f"sqlite:///{folder}/log.db",
    }


@contextmanager
def serving(bundle: Path, *options: str, module: str = "serving", **settings: str):
    """Start `python -m serving` on a free port of this machine with these environment variables; SIGTERM at the end.

    `module` is another one that runs the service.
    """
    command = [sys.executable, "-m", module, "--bundle", str(bundle), "--port", "0", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        try:
            line = process.stdout.readline()
            if not line.startswith("serving "):
                errors.seek(0)
                raise AssertionError(f"the service did not start: {errors.read().decode()}")
            with requests.Session() as session:
                session.trust_env = False
                service = Service(line.split()[-1], bundle, process, session, errors)
                try:
                    yield service
                finally:
                    service.hang_up()
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
