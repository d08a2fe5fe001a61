"""Clients under constant load: counts requests, and every one without its right response."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import requests

BODY = b'{"features": [12.5, -0.5, 4, true]}'
REQUEST = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
PAUSE = 0.005  # seconds; leaves processor time for the service under test


@dataclass
class Load:
    """The clients' results so far: answers by model version, and a message for each failure."""

    answers: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """Number of requests so far."""
        return self.answers.total() + len(self.failures)


@contextmanager
def constant_load(url: str, features, callers: int = 3, headers: dict[str, str] | None = None):
    """Call `url`/predict from several clients continuously: two thirds use keep-alive, the others a new connection each time."""
    load, over = Load(), threading.Event()

    def call(keep: bool) -> None:
        session = requests.Session()
        session.trust_env = False
        while not over.is_set():
            try:
                answer = session.post(f"{url}/predict", json={"features": features}, headers=headers, timeout=20)
                if answer.status_code == 200:
                    load.answers[answer.json()["model_version"]] += 1
                else:
                    load.failures.append(f"{answer.status_code} {answer.text[:200]}")
            except requests.RequestException as error:
                load.failures.append(repr(error))
            if not keep:
                session.close()
            time.sleep(PAUSE)

    threads = [threading.Thread(target=call, args=(number % 3 > 0,), daemon=True) for number in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        over.set()
        for thread in threads:
            thread.join(30)


def call_until_refused(port: int, stop: Callable[[], None], callers: int = 16) -> list[str]:
    """Send requests over new connections from many clients, and call `stop` after 200 answers; returns what went wrong.

    Each client goes on until a connection is refused, so connections are still accepted while the server stops.
    """
    answered: list[bytes] = []
    lost: list[str] = []
    threads = [threading.Thread(target=_call, args=(port, answered, lost)) for _ in range(callers)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 60
    while len(answered) < 200 and time.monotonic() < end:
        time.sleep(0.02)
    stop()
    for thread in threads:
        thread.join(60)
    return lost if len(answered) >= 200 else [f"only {len(answered)} answers", *lost]


def _call(port: int, answered: list[bytes], lost: list[str]) -> None:
    """Send requests over new connections until one is refused."""
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port), 30)
        except OSError:
            return
        with connection:
            try:
                connection.sendall(REQUEST)
                answer = connection.recv(65_536)
                if answer.startswith(b"HTTP/1.1 200"):
                    answered.append(answer)
                else:
                    lost.append(repr(answer))
            except OSError as error:
                lost.append(repr(error))
