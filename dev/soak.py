"""Ask a service a million times while it is restarted, replaced by another version and ended, and compare its log with the answers.

    make soak
    python -m dev.soak --requests 20000 --json

Every request must be answered, and the prediction log must hold each answer once. Nothing of yours is touched: the services
run on free ports with the bundle in build/bundle, and their log is in a temporary folder.
"""

import argparse
import asyncio
import hashlib
import json
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import Progress

from pipeline.artifacts import BUILD, ROOT, sha256, write_json
from pipeline.errors import SlipwayError, StageError, edge
from pipeline.processes import free_port
from serving.log.reader import read_blocks
from serving.log.store import Store

CONNECTIONS = 16
EVENTS = (
    ("SIGHUP", 0.2),
    ("next version", 0.4),
    ("SIGHUP", 0.6),
    ("restart", 0.8),
)  # after which share of the requests
TIMEOUT = 60  # seconds within which an answer must come


@edge
def main(argv: list[str] | None = None) -> None:
    """Soak, print what came of it, and fail when an answer or a record is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=_many, default=1_000_000, help="how many to make (default: a million)")
    parser.add_argument("--bundle", type=Path, default=BUILD / "bundle", help="what to serve")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    if not (options.bundle / "manifest.json").is_file():
        raise StageError(f"{options.bundle} is no bundle", "run `make register` first")
    with tempfile.TemporaryDirectory() as folder:
        found = soak(options.bundle, options.requests, Path(folder))
    print(json.dumps(found, indent=2) if options.json else _told(found))
    if faults := verdict(found):
        raise StageError("; ".join(faults), "the table above says how many")


def _many(text: str) -> int:
    if not text.isdigit() or int(text) < 100:
        raise argparse.ArgumentTypeError("a whole number of at least 100 is needed")
    return int(text)


def verdict(found: dict) -> list[str]:
    """What must not be: answers that did not come, records that do not match."""
    faults = []
    if found["lost"]:
        faults.append(f"{found['lost']} requests got no answer")
    if other := {status: count for status, count in found["answers"].items() if status != "200"}:
        faults.append(f"answers other than 200: {other}")
    if found["records"] != found["answers"].get("200", 0) or not found["records_match"]:
        faults.append(f"{found['records']} records for {found['answers'].get('200', 0)} answers")
    if len(found["versions"]) != 2:
        faults.append(f"versions that answered: {', '.join(found['versions'])}")
    return faults


def soak(bundle: Path, requests: int, folder: Path) -> dict:
    """Make so many requests, or more until the last service has come, and count what came of them."""
    key, database = secrets.token_urlsafe(32), folder / "log.db"
    environment = {
        "SLIPWAY_API_KEYS": f"soak predict,metrics,admin {hashlib.sha256(key.encode()).hexdigest()}",
        "SLIPWAY_RATE_LIMIT": "0",
        "SLIPWAY_RATE_LIMIT_BYTES": "0",
        "SLIPWAY_DATABASE_URL": f"sqlite:///{database}",
    }
    bundles = [bundle, next_version(bundle, folder / "next")]
    record, port = folder / "serves.json", free_port()
    with _running(["serving.runtime.proxy", "--port", str(port), "--to-record", str(record)], {}, "proxy open") as _:
        began = time.monotonic()
        answered = uvloop.run(_soak(bundles, requests, key, port, record, environment))
        seconds = time.monotonic() - began
    with closing(Store(f"sqlite:///{database}")) as store:
        ids = [request_id for block in read_blocks(store, 0, math.inf) for request_id in block.request_ids]
    return {
        "requests": answered.made,
        "seconds": round(seconds, 1),
        "answers": dict(answered.statuses),
        "versions": dict(answered.versions),
        "lost": answered.lost,
        "records": len(ids),
        "records_match": sorted(ids) == sorted(answered.ids),
        "events": answered.events,
    }


class Answered:
    """What the callers saw."""

    def __init__(self):
        self.made = 0
        self.lost = 0
        self.ids: list[str] = []
        self.statuses: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self.events: list[str] = []


async def _soak(bundles: list[Path], requests: int, key: str, port: int, record: Path, environment: dict) -> Answered:
    seen = Answered()
    first = _start(bundles[0], environment)
    try:
        address = await asyncio.to_thread(_address, first)
        write_json(record, {"address": address})
        row = json.dumps(_example(bundles[0]))
        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("soaking", total=requests)
            callers = [
                asyncio.create_task(_call(number, requests, key, port, row, seen)) for number in range(CONNECTIONS)
            ]
            events = list(EVENTS)
            while not all(caller.done() for caller in callers):
                progress.update(bar, completed=min(seen.made, requests))
                if events and seen.made >= events[0][1] * requests:
                    event, _ = events.pop(0)
                    after = seen.made
                    if event == "SIGHUP":
                        first.send_signal(signal.SIGHUP)
                    else:
                        following = _start(bundles[1], environment)
                        write_json(record, {"address": await asyncio.to_thread(_address, following)})
                        first, leaving = following, first
                        await asyncio.to_thread(_end, leaving)
                    seen.events.append(f"{event} after {after:,}")
                await asyncio.sleep(0.05)
            for caller in callers:
                caller.result()
    finally:
        await asyncio.to_thread(_end, first)
    return seen


async def _call(number: int, requests: int, key: str, port: int, row: str, seen: Answered) -> None:
    """Ask over one connection, and over a new one whenever the service says that this one ends."""
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    body = f'{{"features": {row}}}'.encode()
    while seen.made < requests or len(seen.events) < len(EVENTS):
        seen.made += 1
        name = f"{number}-{seen.made}"
        head = (
            f"POST /predict HTTP/1.1\r\nHost: soak\r\nX-API-Key: {key}\r\nX-Request-ID: {name}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                connection = connection or await asyncio.open_connection("127.0.0.1", port)
                reader, writer = connection
                writer.write(head.encode() + body)
                got = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(got.partition("content-length: ")[2].partition("\r\n")[0])
                answer = json.loads(await reader.readexactly(length))
        except (OSError, EOFError, TimeoutError, ValueError):
            seen.lost += 1
            connection = None
            continue
        status = got.split(" ", 2)[1]
        seen.statuses[status] += 1
        if status == "200":
            seen.versions[answer["model_version"]] += 1
            seen.ids.append(name)
        if "connection: close" in got:
            writer.close()
            connection = None


def _example(bundle: Path) -> list:
    contract = json.loads((bundle / "contract.json").read_text(encoding="utf-8"))
    return [column["example"] for column in contract["inputs"]]


def next_version(bundle: Path, folder: Path) -> Path:
    """The same model as another version."""
    shutil.copytree(bundle, folder)
    release = json.loads((folder / "release.json").read_text(encoding="utf-8"))
    write_json(folder / "release.json", {**release, "version": f"{release['version']}-next"})
    files = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.name != "manifest.json"}
    write_json(folder / "manifest.json", {"files": files})
    return folder


def _start(bundle: Path, environment: dict[str, str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "serving", "--bundle", str(bundle), "--port", "0", "--workers", "2"]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)


def _address(service: subprocess.Popen) -> str:
    """Wait until it answers; raises SlipwayError when it does not start."""
    assert service.stdout is not None
    line = service.stdout.readline()
    if not line.startswith("serving "):
        raise SlipwayError("the service did not start", "see what it wrote above")
    return line.split("http://")[1].strip()


def _end(service: subprocess.Popen) -> None:
    service.terminate()
    try:
        service.wait(40)
    except subprocess.TimeoutExpired:
        service.kill()
        service.wait()
        raise SlipwayError("the service did not end on SIGTERM", "see what it wrote above") from None
    if service.stdout is not None:
        service.stdout.close()


@contextmanager
def _running(module: list[str], environment: dict[str, str], word: str):
    process = subprocess.Popen(
        [sys.executable, "-m", *module], cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        if not process.stdout.readline().startswith(word):
            raise SlipwayError(f"{module[0]} did not start", "see what it wrote above")
        yield process
    finally:
        _end(process)


def _told(found: dict) -> str:
    rate = found["requests"] / max(found["seconds"], 0.001)
    return "\n".join(
        [
            f"{found['requests']:,} requests in {found['seconds']} s ({rate:,.0f} a second)",
            f"answers: {', '.join(f'{count:,} × {status}' for status, count in found['answers'].items())}; lost: {found['lost']}",
            f"by version: {', '.join(f'{version}: {count:,}' for version, count in found['versions'].items())}",
            f"records in the log: {found['records']:,}, {'each answer once' if found['records_match'] else 'NOT those of the answers'}",
            f"meanwhile: {'; '.join(found['events'])}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
