"""Ask what serves an experiment 100,000 times while it is killed, restarted and its share raised, and compare its log with the answers.

    make soak-experiment
    make soak-experiment ARGS='--meanwhile "make experiment-share SHARE=0.4" --meanwhile "docker restart NAME"'

It asks the environment of a project in which `make experiment-start` was run, on any target. The commands run one after the other,
spread over the requests. A subject may move from A to B when the share grows, and never back; each answer must say the same version
and variant in its body, its header and the log.
"""

import argparse
import asyncio
import json
import math
import secrets
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from delivery import targets, watch
from pipeline.artifacts import ROOT
from pipeline.data.dataset import load_dataset
from pipeline.errors import DeployError, StageError, edge
from pipeline.formats.bundle import as_sent
from pipeline.registry import experiments, versions
from pipeline.settings import load_settings
from serving.experiment.experiment import position
from serving.log.identity import identity

CONNECTIONS = 16
ROWS = 500  # of the data, which are sent again and again
TIMEOUT = 60  # seconds within which an answer must come
DEVIATIONS = 4.0  # of a share from what it should be, in standard errors


class Answer(NamedTuple):
    """What a caller was told; variant is "" outside of the experiment."""

    at: float
    subject: str | None
    version: str
    variant: str
    seconds: float


@dataclass
class Seen:
    """What the callers saw."""

    made: int = 0
    cut: int = 0  # requests without an answer: the connection was refused or ended
    answers: dict[str, Answer] = field(default_factory=dict)  # by request id
    refused: Counter[str] = field(default_factory=Counter)  # by status
    events: list[tuple[float, str]] = field(default_factory=list)


@edge
def main(argv: list[str] | None = None) -> None:
    """Ask, compare, print a table, and fail when an answer was wrong or is not in the log."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=targets.environment, default="production")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--subjects", type=int, default=10_000)
    parser.add_argument("--meanwhile", action="append", default=[], metavar="COMMAND", help="run this meanwhile")
    options = parser.parse_args(argv)
    settings = load_settings()
    client = versions.connect(settings)
    before = experiments.running(client, settings.name)
    if before is None or before.mode != "ab":
        raise StageError("no experiment in mode ab runs", "`make experiment-start CHALLENGER=… MODE=ab` starts one")
    target = targets.choose(settings)
    if target.serving(options.environment, settings) is None:
        raise DeployError(f"{options.environment} serves nothing", "`make ship` puts a model there")
    dataset = load_dataset(settings)
    rows = as_sent(dataset, dataset.features.head(ROWS))
    name = secrets.token_hex(4)
    with target.reach(options.environment, settings) as url:
        key = target.key(options.environment, settings)
        seen = uvloop.run(_ask(url, key, name, rows, options.requests, options.subjects, options.meanwhile))
    time.sleep(2)  # the log is written within a moment
    after = experiments.running(client, settings.name)
    shares = [phase.share for phase in (after or before).phases]
    logged = _logged(options.environment, settings, name)
    faults = _show(seen, before, shares, logged)
    if faults:
        raise StageError("; ".join(faults), "the table above says how many")


async def _ask(url: str, key: str, name: str, rows: list, wanted: int, subjects: int, commands: list[str]) -> Seen:
    seen = Seen()
    bodies = [json.dumps(row) for row in rows]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("asking", total=wanted)
        callers = [
            asyncio.create_task(_call(url, key, name, bodies, wanted, subjects, seen)) for _ in range(CONNECTIONS)
        ]
        for number, command in enumerate(commands, 1):
            while seen.made < wanted * number / (len(commands) + 1):
                progress.update(bar, completed=seen.made)
                await asyncio.sleep(0.05)
            began = time.time()
            process = await asyncio.create_subprocess_shell(command, cwd=ROOT, stdout=subprocess.DEVNULL)
            if status := await process.wait():
                raise StageError(f"{command!r} ended with status {status}", "see what it wrote above")
            seen.events.append((began, command))
        while not all(caller.done() for caller in callers):
            progress.update(bar, completed=seen.made)
            await asyncio.sleep(0.05)
        for caller in callers:
            caller.result()
    return seen


async def _call(url: str, key: str, name: str, bodies: list, wanted: int, subjects: int, seen: Seen) -> None:
    """Ask over one connection, and over a new one whenever the service says that this one ends, or it was cut."""
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    parts = urlsplit(url)
    while seen.made < wanted:
        seen.made += 1
        made = seen.made
        request_id = f"{name}-{made}"
        subject = None if made % 20 == 0 else f"{name}-{made * 7919 % subjects}"
        about = f',"subject":"{subject}"' if subject else ""
        body = f'{{"features":{bodies[made % len(bodies)]}{about}}}'.encode()
        head = (
            f"POST /predict HTTP/1.1\r\nHost: {parts.hostname}\r\nX-API-Key: {key}\r\nX-Request-ID: {request_id}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        began = time.perf_counter()
        try:
            async with asyncio.timeout(TIMEOUT):
                connection = connection or await asyncio.open_connection(parts.hostname, parts.port)
                reader, writer = connection
                writer.write(head.encode() + body)
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                answer = json.loads(await reader.readexactly(int(headers["content-length"])))
        except (OSError, EOFError, TimeoutError, ValueError):
            seen.cut += 1
            connection = None
            await asyncio.sleep(0.02)
            continue
        status = lines[0].split(" ", 2)[1]
        if status == "200":
            variant = headers.get("x-experiment", "=").rpartition("=")[2].upper()
            taken = time.perf_counter() - began
            seen.answers[request_id] = Answer(time.time(), subject, answer["model_version"], variant, taken)
        else:
            seen.refused[status] += 1
        if headers.get("connection") == "close":
            writer.close()
            connection = None


def _logged(environment: str, settings, name: str) -> dict[str, tuple[str, str, str]]:
    """Version, variant and role of each of our requests in the log; a request that is there twice is no answer of ours."""
    found: dict[str, tuple[str, str, str]] = {}
    with tempfile.TemporaryFile() as file:
        watch.on_log(environment, settings, ["serving.log.export"], into=file)
        file.seek(0)
        for raw in file:
            line = json.loads(raw)
            if line["request_id"].startswith(f"{name}-"):
                twice = line["request_id"] in found
                found[line["request_id"]] = ("twice",) * 3 if twice else (line["model_version"], line["variant"], line["role"])  # fmt: skip
    return found


def _show(seen: Seen, record, shares: list[float], logged: dict[str, tuple[str, str, str]]) -> list[str]:
    """Print what came of it; what must not be."""
    by_variant = Counter(answer.variant or "outside" for answer in seen.answers.values())
    ours = {"A": record.champion, "B": record.challenger, "": record.champion}
    wrong_version = sum(answer.version != ours[answer.variant] for answer in seen.answers.values())
    back = _moved_back(seen)
    misplaced, table = 0, Table(title="share of the subjects that B answered, by time between two commands")
    for column in ("from", "subjects", "B", "should be"):
        table.add_column(column)
    edges = [0.0, *(at for at, _ in seen.events), math.inf]
    for first, last, label in zip(edges, edges[1:], ["start", *(command for _, command in seen.events)], strict=False):
        subjects = {one.subject: one.variant for one in seen.answers.values() if one.subject and first <= one.at < last}
        share = sum(variant == "B" for variant in subjects.values()) / max(len(subjects), 1)
        table.add_row(label, f"{len(subjects):,}", f"{share:.4f}", " or ".join(f"{one:g}" for one in shares))
        spread = max((one * (1 - one) / max(len(subjects), 1)) ** 0.5 for one in shares)
        misplaced += not any(abs(share - one) <= DEVIATIONS * spread for one in shares)
    allowed = {True: {"B"}, False: {"A"}}
    wrong = 0
    for answer in seen.answers.values():
        if answer.subject:
            place = position(record.name, identity(answer.subject))
            wrong += answer.variant not in set().union(*(allowed[place < share] for share in shares))
        else:
            wrong += answer.variant != ""
    missing = sum(one not in logged for one in seen.answers)
    different = sum(logged[one] != (answer.version, answer.variant, "served") for one, answer in seen.answers.items() if one in logged)  # fmt: skip
    times = np.array([answer.seconds for answer in seen.answers.values()]) * 1000
    console = Console()
    console.print(table)
    console.print(f"{seen.made:,} requests: {dict(by_variant)}, cut off {seen.cut}, refused {dict(seen.refused)}")
    console.print(f"time to answer: median {np.median(times):.2f} ms, p99 {np.percentile(times, 99):.2f} ms, longest {times.max():.0f} ms")  # fmt: skip
    console.print(f"not in the log {missing}, differently in the log {different}; subjects moved back {back}, answered by the wrong variant {wrong}")  # fmt: skip
    faults = {
        "answers of another version than their header says": wrong_version,
        "subjects moved from B to A": back,
        "answers by the wrong variant": wrong,
        "shares outside of their interval": misplaced,
        "rows that differ from the answer": different,
        "answers that are not in the log": missing if not seen.cut else 0,  # a kill may lose what was under way
        "requests refused": sum(seen.refused.values()),
    }
    return [f"{count} {what}" for what, count in faults.items() if count]


def _moved_back(seen: Seen) -> int:
    """Subjects that A answered after B had."""
    first_b: dict[str, float] = {}
    last_a: dict[str, float] = {}
    for answer in seen.answers.values():
        if answer.subject and answer.variant == "B":
            first_b[answer.subject] = min(answer.at, first_b.get(answer.subject, math.inf))
        elif answer.subject:
            last_a[answer.subject] = max(answer.at, last_a.get(answer.subject, 0.0))
    return sum(at < last_a.get(subject, 0.0) for subject, at in first_b.items())


if __name__ == "__main__":
    main()
