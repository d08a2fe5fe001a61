"""The smoke test: a release's golden predictions, replayed against what serves."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from delivery import keys
from pipeline.artifacts import read_json
from pipeline.errors import SmokeTestError, StageError

TIMEOUT = (3, 10)  # seconds to connect, and to answer; a service that needs more is not healthy


@dataclass(frozen=True)
class SmokeCheck:
    """One thing that was looked at, and what was seen."""

    check: str
    success: bool
    observed: str


@dataclass(frozen=True)
class SmokeResult:
    """What the smoke test saw, up to the first check that failed; latencies are milliseconds of one row."""

    url: str
    version: str
    rows: int
    checks: list[SmokeCheck]
    latency_ms: dict[str, float] | None

    @property
    def success(self) -> bool:
        """Whether every check passed."""
        return all(check.success for check in self.checks)

    @property
    def reason(self) -> str:
        """Why it failed, or ""."""
        return next((f"{check.check}: {check.observed}" for check in self.checks if not check.success), "")


class Differs(Exception):
    """The service is not what the bundle says."""


def smoke_test(url: str, bundle: Path, version: str, key: str = "") -> SmokeResult:
    """Replay the golden rows for those who deploy: raises DeployError naming what differs first."""
    result = replay(url, bundle, version, key)
    require_success(result)
    return result


def replay(url: str, bundle: Path, version: str, key: str = "") -> SmokeResult:
    """Compare a service with a bundle's golden rows, asking it with this key; raises StageError for an unusable bundle."""
    golden = _golden(bundle, version)
    with session_for(url) as session:
        session.headers.update(keys.headers(key))
        client = Client(session, url)
        checks = _run(
            {
                "ready": lambda: str(client.call("GET", "/readyz").get("status")),
                "version": lambda: _same_release(client, golden),
                "rows as lists": lambda: _one_by_one(client, golden, golden.rows),
                "rows by name": lambda: _one_by_one(client, golden, golden.rows_by_name),
                "batch": lambda: _batch(client, golden),
            }
        )
    return SmokeResult(url, version, len(golden.rows), checks, _percentiles(client.latencies))


def require_success(result: SmokeResult) -> None:
    """Raise SmokeTestError, with the first thing that differs, unless every check succeeded."""
    if not result.success:
        raise SmokeTestError(
            f"smoke test of {result.url} failed: {result.reason}",
            "`make status` says what runs where; `make deploy` puts it right",
        )


def read(bundle: Path, name: str) -> Any:
    """A JSON file of a bundle; raises StageError when there is none."""
    try:
        return read_json(bundle / name)
    except StageError as error:
        raise StageError(error.what, "name a bundle folder; `make register` writes build/bundle") from error


def _run(steps: dict[str, Callable[[], str]]) -> list[SmokeCheck]:
    """Each step in turn, up to the first that fails."""
    checks = []
    for name, step in steps.items():
        try:
            checks.append(SmokeCheck(name, True, step()))
        except Differs as difference:
            return [*checks, SmokeCheck(name, False, str(difference))]
    return checks


def _same_release(client: "Client", golden: "Golden") -> str:
    info = client.call("GET", "/model/info")
    for key in ("name", "version", "digest"):
        if info.get(key) != golden.release[key]:
            raise Differs(f"the service has {key} {info.get(key)}, the bundle {golden.release[key]}")
    return f"{info['name']} version {info['version']}"


def _one_by_one(client: "Client", golden: "Golden", rows: list[Any]) -> str:
    for number, row in enumerate(rows):
        golden.compare(number, client.predict(row, about=f"row {number}: "))
    return f"{len(rows)} rows as expected"


def _batch(client: "Client", golden: "Golden") -> str:
    given = client.call("POST", "/predict/batch", {"features": golden.rows}).get("predictions") or []
    if len(given) != len(golden.rows):
        raise Differs(f"{len(given)} predictions for {len(golden.rows)} rows")
    for number, answer in enumerate(given):
        golden.compare(number, answer)
    return f"{len(given)} rows as expected"


@dataclass(frozen=True)
class Golden:
    """The rows of a bundle with the answers that its service must give."""

    release: dict[str, str]
    names: list[str]
    classes: list[str]
    tolerance: float
    rows: list[list[Any]]
    expected: list[dict[str, Any]]

    @property
    def rows_by_name(self) -> list[dict[str, Any]]:
        """The same rows as {name: value}."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]

    def compare(self, number: int, given: dict[str, Any]) -> None:
        """Raise Differs when an answer is not the expected one of that row."""
        expected = self.expected[number]
        if "value" in expected:
            return self._close(number, "value", given.get("value"), expected["value"])
        if given.get("label") != expected["label"]:
            raise Differs(f"row {number} is {given.get('label')!r}, expected {expected['label']!r}")
        probabilities = given.get("probabilities") or {}
        for name, wanted in zip(self.classes, expected["probabilities"], strict=True):
            self._close(number, f"probability of {name!r}", probabilities.get(name), wanted)

    def _close(self, number: int, what: str, seen: Any, wanted: float) -> None:
        # Relative as well: a regression's values may be far larger than 1.
        near = {"rel_tol": self.tolerance, "abs_tol": self.tolerance}
        if not isinstance(seen, int | float) or not math.isclose(seen, wanted, **near):
            raise Differs(f"row {number}: {what} is {seen}, expected {wanted} ± {self.tolerance:g}")


def _golden(bundle: Path, version: str) -> Golden:
    contract, golden = read(bundle, "contract.json"), read(bundle, "golden.json")
    release = read(bundle, "release.json")
    rows, expected = golden["inputs"], golden["expected"]
    if release["version"] != version:
        raise StageError(f"{bundle} is version {release['version']}, not {version}", "name the bundle that is served")
    if not rows or len(rows) != len(expected):
        raise StageError(f"{bundle}/golden.json has no rows, or not one answer for each", "run `make register` again")
    names = [column["name"] for column in contract["inputs"]]
    return Golden(release, names, contract["classes"] or [], golden["tolerance"], rows, expected)


class Client:
    """Asks one service, without retries: a request that fails is what the smoke test is there to see."""

    def __init__(self, session: requests.Session, url: str):
        self._session = session
        self._url = url.rstrip("/")
        self.latencies: list[float] = []

    def predict(self, row: Any, about: str) -> dict[str, Any]:
        """Predict one row, and note its latency in milliseconds."""
        began = time.perf_counter()
        answer = self.call("POST", "/predict", {"features": row}, about)
        self.latencies.append((time.perf_counter() - began) * 1000)
        return answer

    def call(self, method: str, path: str, body: Any = None, about: str = "") -> dict[str, Any]:
        """Make one request and return its JSON; raises Differs, led by `about`, for anything but 200."""
        try:
            # Not elsewhere either: the key is for this service alone.
            response = self._session.request(
                method, self._url + path, json=body, timeout=TIMEOUT, allow_redirects=False
            )
            answer = response.json()
        except requests.JSONDecodeError:
            raise Differs(f"{about}{path} answered {response.status_code} without JSON") from None
        except requests.Timeout:
            raise Differs(f"{about}{path} did not answer within {TIMEOUT[1]} s") from None
        except requests.RequestException as error:
            raise Differs(f"{about}{path} cannot be reached ({type(error).__name__})") from None
        if not isinstance(answer, dict):
            raise Differs(f"{about}{path} answered something else than an object")
        if response.status_code != 200:
            raise Differs(f"{about}{path} answered {response.status_code} {answer.get('detail', '')}".strip())
        return answer


def session_for(url: str) -> requests.Session:
    """A client for an environment's URL."""
    session = requests.Session()
    # A proxy named in the environment cannot reach the loopback of this machine.
    session.trust_env = urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1")
    return session


def _percentiles(latencies: list[float]) -> dict[str, float] | None:
    if len(latencies) < 2:
        return None
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return {"median": round(cuts[49], 3), "p95": round(cuts[94], 3), "p99": round(cuts[98], 3)}


def show(result: SmokeResult) -> None:
    """Print the checks and the latencies as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "", "observed", title=f"smoke test of {result.url}", title_justify="left")
    for check in result.checks:
        mark = Text("ok", "green") if check.success else Text("FAILED", "red")
        table.add_row(check.check, mark, Text(check.observed))
    if result.latency_ms:
        figures = ", ".join(f"{name} {value:.2f} ms" for name, value in result.latency_ms.items())
        table.add_row("latency of one row", "", figures)
    Console().print(table)
