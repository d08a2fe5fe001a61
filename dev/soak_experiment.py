"""Ask what serves an experiment 100,000 times while it is killed, restarted and its share raised, and compare its log with the answers.

    make soak-experiment
    make soak-experiment ARGS='--meanwhile "make experiment-share SHARE=0.4" --kill "docker restart NAME"'

It asks the environment of a project in which `make experiment-start` was run, on any target. The commands run one after the other,
spread over the requests, and asking goes on until the last one has ended. Only around a command that --kill names may requests be
cut off, or answers be missing in the log. A subject may move from A to B when the share grows, and never back; each answer must say
the same in its body, its header and the log.
"""

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from delivery import targets, watch
from dev.soak_comparison import Answer, Event, Found, Logged, Seen, Trouble, compare, quiet
from pipeline.artifacts import ROOT
from pipeline.data.dataset import load_dataset
from pipeline.errors import DeployError, StageError, edge
from pipeline.formats.bundle import as_sent
from pipeline.registry import experiments, versions
from pipeline.settings import load_settings
from serving.log.export import LAST

CONNECTIONS = 16
ROWS = 500  # of the data, which are sent again and again
OUTSIDE = 20  # one of so many requests names no subject
STRIDE = 7919  # between the subjects of two requests, so that all ask in turn
TIMEOUT = 60  # seconds within which an answer must come
PAUSE = 0.02  # seconds after a connection was cut
WRITTEN = 2.0  # seconds until the last answers are in the log
MAKES = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL")  # else a verb that is run meanwhile gets our ARGS


class Command(NamedTuple):
    """What is run meanwhile; `kills` says that requests under way may go without an answer."""

    text: str
    kills: bool


class Wanted(NamedTuple):
    """Whom to ask how often: `name` begins each request's id, and `rate` is in requests a second."""

    url: str
    key: str
    name: str
    requests: int
    subjects: int
    rate: float


@edge
def main(argv: list[str] | None = None) -> None:
    """Ask, compare, print a table, and fail when an answer was wrong or is not in the log."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=targets.environment, default="production")
    parser.add_argument("--url", help="another way to it, as of an Ingress")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--subjects", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=900, help="requests a second at most (default: 900, below the service's own limit)")  # fmt: skip
    for option, kills in (("--meanwhile", False), ("--kill", True)):
        parser.add_argument(
            option, dest="commands", action="append", type=partial(Command, kills=kills), default=[], metavar="COMMAND"
        )
    options = parser.parse_args(argv)
    settings = load_settings()
    client = versions.connect(settings)
    record = experiments.running(client, settings.name)
    if record is None or record.mode != "ab":
        raise StageError("no experiment in mode ab runs", "`make experiment-start CHALLENGER=… MODE=ab` starts one")
    target = targets.choose(settings)
    if target.serving(options.environment, settings) is None:
        raise DeployError(f"{options.environment} serves nothing", "`make ship` puts a model there")
    dataset = load_dataset(settings)
    bodies = [json.dumps(row) for row in as_sent(dataset, dataset.features.head(ROWS))]
    name = secrets.token_hex(4)
    seen = Seen(record.share)
    with (
        nullcontext(options.url) if options.url else target.reach(options.environment, settings, as_callers=True) as url
    ):
        key = target.key(options.environment, settings)
        wanted = Wanted(url, key, name, options.requests, options.subjects, options.rate)
        share = partial(_share, client, settings)
        uvloop.run(_ask(wanted, bodies, options.commands, seen, share))
    time.sleep(WRITTEN)
    found = compare(seen, record, _logged(options.environment, settings, wanted.name, seen.began))
    _show(seen, found)
    if found.faults:
        raise StageError("; ".join(found.faults), "the table above says how many")


def _share(client, settings) -> float:
    """The share that is in force now; raises StageError when the experiment has ended."""
    record = experiments.running(client, settings.name)
    if record is None:
        raise StageError("the experiment has ended meanwhile", "run commands that leave it running")
    return record.share


async def _ask(wanted: Wanted, bodies: list[str], commands: list[Command], seen: Seen, share) -> None:
    seen.began = time.time()
    between = wanted.requests // (len(commands) + 1)
    over = asyncio.Event()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("asking", total=wanted.requests)
        callers = [asyncio.create_task(_call(wanted, bodies, seen, over)) for _ in range(CONNECTIONS)]
        for command in [*commands, None]:
            until = seen.made + between
            while seen.made < until:
                await asyncio.sleep(0.05)
                progress.update(bar, completed=seen.made)
                _raise_from(callers)
            if command:
                seen.events.append(await _run(command, share))
        while seen.made < wanted.requests:
            await asyncio.sleep(0.05)
        over.set()
        await asyncio.gather(*callers)


def _raise_from(callers: list[asyncio.Task]) -> None:
    for caller in callers:
        if caller.done():
            caller.result()


async def _run(command: Command, share) -> Event:
    began = time.time()
    surroundings = {name: value for name, value in os.environ.items() if name not in MAKES}
    process = await asyncio.create_subprocess_shell(command.text, cwd=ROOT, env=surroundings, stdout=subprocess.DEVNULL)
    if status := await process.wait():
        raise StageError(f"{command.text!r} ended with status {status}", "see what it wrote above")
    ended = time.time()
    return Event(began, ended, command.text, command.kills, await asyncio.to_thread(share))


async def _call(wanted: Wanted, bodies: list[str], seen: Seen, over: asyncio.Event) -> None:
    """Ask over one connection, and over a new one whenever the service says that this one ends, or it was cut."""
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    place = urlsplit(wanted.url)
    while not over.is_set():
        seen.made += 1
        made = seen.made
        await _turn(seen, wanted.rate)
        request_id = f"{wanted.name}-{made}"
        subject = None if made % OUTSIDE == 0 else f"{wanted.name}-{made * STRIDE % wanted.subjects}"
        about = f',"subject":"{subject}"' if subject else ""
        body = f'{{"features":{bodies[made % len(bodies)]}{about}}}'.encode()
        head = (
            f"POST {place.path.rstrip('/')}/predict HTTP/1.1\r\nHost: {place.netloc}\r\nX-API-Key: {wanted.key}\r\n"
            f"X-Request-ID: {request_id}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        asked = time.time()
        try:
            async with asyncio.timeout(TIMEOUT):
                connection = connection or await asyncio.open_connection(place.hostname, place.port or 80)
                reader, writer = connection
                writer.write(head.encode() + body)
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines if line)}
                answer = json.loads(await reader.readexactly(int(headers["content-length"])))
        except (OSError, EOFError, TimeoutError, ValueError, KeyError):
            seen.troubles.append(Trouble(request_id, asked, time.time(), "cut"))
            if connection:
                connection[1].close()
            connection = None
            await asyncio.sleep(PAUSE)
            continue
        status = first.split(" ", 2)[1]
        if status == "200":
            experiment, _, variant = headers.get("x-experiment", "").partition("=")
            version = answer["model_version"]
            said = _said(answer)
            seen.answers[request_id] = Answer(asked, time.time(), subject, version, experiment, variant, said)
        else:
            seen.troubles.append(Trouble(request_id, asked, time.time(), status))
        if headers.get("connection") == "close":
            writer.close()
            connection = None


async def _turn(seen: Seen, rate: float) -> None:
    """Wait for a request's turn. What could not be asked in time is not made up for, or a rate limit would refuse it."""
    now = time.time()
    seen.turn = max(now, seen.turn + 1 / rate)
    await asyncio.sleep(seen.turn - now)


def _said(answer: dict) -> str:
    """The prediction alone, as a text that is one object for all that are equal."""
    about = ("model_version", "request_id", "latency_ms")
    return sys.intern(json.dumps({name: value for name, value in answer.items() if name not in about}, sort_keys=True))


def _logged(environment: str, settings, name: str, since: float) -> dict[str, list[Logged]]:
    """What the log has of our requests."""
    found: dict[str, list[Logged]] = {}
    with tempfile.TemporaryFile() as file:
        since_then = datetime.fromtimestamp(since - 1, UTC).isoformat()
        watch.export(environment, settings, LAST, file, since_then)
        file.seek(0)
        for raw in file:
            line = json.loads(raw)
            if line["request_id"].startswith(f"{name}-"):
                about = [line[part] for part in ("model_version", "experiment", "variant", "role", "subject")]
                row = Logged(*about, _said(line["answers"][0]))  # type: ignore[call-arg]
                found.setdefault(line["request_id"], []).append(row)
    return found


def _show(seen: Seen, found: Found) -> None:
    table = Table()
    for column in ("between commands", "seconds", "subjects", "B answered", "should be", "± 4 errors"):
        table.add_column(column)
    times = [0.0, *(event.ended - event.began for event in seen.events)]
    for window, seconds in zip(found.windows, times, strict=True):
        share = window.b / max(window.subjects, 1)
        label, took = window.label, f"{seconds:.1f}" if seconds else ""
        table.add_row(label, took, f"{window.subjects:,}", f"{share:.4f}", f"{window.share:g}", f"{4 * window.spread:.4f}")  # fmt: skip
    console = Console()
    console.print(table)
    by_variant = Counter(answer.variant or "outside" for answer in seen.answers.values())
    troubles = Counter(trouble.how for trouble in seen.troubles)
    requests = len(seen.answers) + len(seen.troubles)
    console.print(f"{requests:,} requests; answered {dict(by_variant)}; not answered {dict(troubles)}")
    for variant in ("A", "B"):
        taken = [1000 * (one.at - one.asked) for one in quiet(seen) if one.variant == variant]
        if taken:
            middle, high = np.percentile(taken, [50, 99])
            console.print(f"time to answer between commands, {variant}: median {middle:.2f} ms, p99 {high:.2f} ms, longest {max(taken):.0f} ms")  # fmt: skip
    for command, given in found.lost.items():
        console.print(
            f"{len(given)} answers lost from the log, given {min(given):.2f} to {max(given):.2f} s after the start of {command!r}"
        )
    console.print(f"{found.both} subjects met A again after B while the share changed")
    console.print(", ".join(f"{what}: {count}" for what, count in found.wrong.items()))


if __name__ == "__main__":
    sys.exit(main())
