"""Measuring what a service answers under load, step by step, with a picture."""

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delivery.load.generator import Client, Load, Measured, Response, event_loop, read_address
from pipeline.artifacts import BUILD, ROOT, read_json, to_json
from pipeline.errors import DeployError, SlipwayError
from pipeline.evaluation.wording import clean

BUSY = 0.9  # cores' worth of processor from which on the generator, which has one core, was the limit
REDRAW = 0.5  # seconds; drawing takes a millisecond in which no answer is read
MOST_BODIES = 8 << 20  # bytes of requests that are kept ready


@dataclass(frozen=True)
class Model:
    """What a service says that it serves, and the rows to ask it with."""

    name: str
    version: str
    rows: list[Any]
    source: str


def measure(options: argparse.Namespace) -> int:
    """Load a service, show what it answered, and return the exit status; raises SlipwayError, also unless all were predictions."""
    with _address(options) as (url, bundle, key), event_loop() as run:
        client = Client(read_address(url), _key(options.key) or key, options.timeout)
        model = _model(run(_ask(client, "GET", "/model/info")), [bundle, BUILD / "bundle"])
        requests = _requests(client, model.rows, options.rows)
        _try(client, run(_ask(client, *requests[0])))
        raw = [client.address.request(*request, client.key) for request in requests]
        load = Load(client, raw, options.connections, options.seconds, options.rate)
        if not options.json:
            print(f"loading {client.address.url} for {options.seconds:g} s", file=sys.stderr, flush=True)
        with _progress(options.seconds) as watch:
            measured = run(_interruptible(load, watch))
    summary = _summary(client.address.url, model, options, measured)
    undrawn = _draw(measured, summary, options.picture) if summary["latency_ms"] else ""
    print(to_json(summary), end="") if options.json else _show(summary)
    if undrawn:  # told last: what was measured is not lost for it
        raise SlipwayError(f"the picture cannot be written to {options.picture}: {undrawn}", "name another --picture")
    return _judge(summary)


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The options of `make load`."""
    from delivery import targets

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip(":"))
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--environment", type=targets.environment, help="load what is deployed there (default: production)"
    )
    where.add_argument("--url", help="or the address of a service")
    parser.add_argument("--connections", type=_whole(1, 10_000), default=16, help="callers at a time (default: 16)")
    parser.add_argument("--seconds", type=_number(0.1, 86_400), default=10.0, help="how long (default: 10)")
    parser.add_argument(
        "--rows", type=_whole(1, 1_000_000), help="rows a request to /predict/batch (default: one, to /predict)"
    )
    parser.add_argument(
        "--rate", type=_number(0.001, 1e6), help="requests a second (default: as fast as they are answered)"
    )
    parser.add_argument("--timeout", type=_number(0.01, 3600), default=10.0, help="seconds for an answer (default: 10)")
    parser.add_argument(
        "--expect",
        type=_whole(100, 599),
        action="append",
        default=[],
        metavar="STATUS",
        help="a status that is no failure, such as 429; may be given again",
    )
    parser.add_argument("--key", help="API key; better in the environment as SLIPWAY_KEY, which no shell remembers")
    parser.add_argument(
        "--picture", type=Path, default=BUILD / "load.png", help="where the picture goes (default: build/load.png)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args(argv)


def _whole(least: int, most: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"a whole number from {least} to {most} is needed, not {text!r}")
        return int(text)

    return whole


def _number(least: float, most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        with suppress(ValueError):
            if least <= float(text) <= most:
                return float(text)
        raise argparse.ArgumentTypeError(f"a number from {least:g} to {most:g} is needed, not {text!r}")

    return number


def _key(given: str | None) -> str:
    """The API key, or ""; raises SlipwayError when it is none that a header can carry, without saying it."""
    key = (given if given is not None else os.environ.get("SLIPWAY_KEY", "")).strip()
    if not re.fullmatch(r"[\x21-\x7e]*", key):
        raise SlipwayError(
            "the API key holds a character that no key has", "look at SLIPWAY_KEY: one word, letters and digits"
        )
    return key


@contextmanager
def _address(options: argparse.Namespace) -> Iterator[tuple[str, Path | None, str]]:
    """The address to load, the bundle known to serve there, and delivery's key; raises DeployError when nothing does."""
    if options.url is not None:
        yield options.url, None, ""
        return
    from delivery import targets
    from pipeline.settings import load_settings

    settings, environment = load_settings(), options.environment or "production"
    target = targets.choose(settings)
    served = target.serving(environment, settings)
    if served is None:
        raise DeployError(
            f"nothing is deployed to {environment}",
            f"`make deploy ENVIRONMENT={environment}`, or `make load URL=http://…`",
        )
    with target.reach(environment, settings, as_callers=True) as url:
        yield url, served.local_bundle, target.key(environment, settings)


async def _ask(client: Client, method: str, path: str, body: bytes = b"") -> Response:
    """One request; raises DeployError when there is no answer, or one that asks for another key."""
    try:
        answer = await client.ask(method, path, body)
    except ConnectionError as error:
        raise DeployError(
            f"{client.address.url} cannot be asked: {error}", "`make status` says what runs where"
        ) from None
    if answer.status in (401, 403):
        what = f"answered {answer.status}: {_detail(answer)}"
        then = "this key does not open it" if client.key else "give its API key in the environment, as SLIPWAY_KEY"
        raise DeployError(f"{client.address.url}{path} {what}", then)
    return answer


def _try(client: Client, answer: Response) -> None:
    """Raise DeployError when a prediction is not to be had at all."""
    if answer.status in (404, 405):
        raise DeployError(
            f"{client.address.url} takes no predictions: it answered {answer.status}: {_detail(answer)}",
            "name the address of a prediction service",
        )


def _model(answer: Response, bundles: list[Path | None]) -> Model:
    """The model that answers, with the golden rows of a bundle of the very same model, or else its example row."""
    try:
        info = json.loads(answer.body)
        name, version, inputs = str(info["name"]), str(info["version"]), info["inputs"]
        example = [column["example"] for column in inputs]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DeployError(
            f"this is no prediction service: /model/info answered {answer.status}: {_detail(answer)}",
            "name the address of one, without /predict",
        ) from None
    for bundle in bundles:
        if bundle and (rows := _golden(bundle, info)):
            return Model(name, version, rows, f"{len(rows)} golden rows of its bundle")
    return Model(name, version, [example], "the example row of /model/info")


def _golden(bundle: Path, info: dict[str, Any]) -> list[Any]:
    """The golden rows of a bundle of this model; none when it is another's, or cannot be read."""
    try:
        release = read_json(bundle / "release.json")
        same = all(release[key] == info.get(key) for key in ("name", "version", "digest"))
        return read_json(bundle / "golden.json")["inputs"] if same else []
    except (SlipwayError, OSError, KeyError, TypeError):
        return []


def _requests(client: Client, rows: list[Any], batch: int | None) -> list[tuple[str, str, bytes]]:
    """Method, path and body of requests to be sent in turn: one for each row, or batches that begin at each row."""
    if batch is None:
        return [("POST", "/predict", json.dumps({"features": row}).encode()) for row in rows]
    requests, size = [], 0
    for first in range(len(rows)):
        turn = [rows[(first + place) % len(rows)] for place in range(batch)]
        requests.append(("POST", "/predict/batch", json.dumps({"features": turn}).encode()))
        size += len(requests[-1][2])
        if size > MOST_BODIES:
            break
    return requests


async def _interruptible(load: Load, watch: Callable[[Measured, float], None]) -> Measured:
    """Run a load that Ctrl-C and what else ends a command end early; an exception of theirs would get lost in a callback."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        return await load.run(watch)
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        loop.add_signal_handler(number, load.stop)
    try:
        return await load.run(watch)
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


@contextmanager
def _progress(seconds: float) -> Iterator[Callable[[Measured, float], None]]:
    """A bar on standard error with what is measured so far; drawn by whoever calls, so that no thread is in the way."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(), TextColumn("{task.description}", markup=False))
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, auto_refresh=False, transient=True, disable=not console.is_terminal
    ) as bar:
        task, drawn = bar.add_task("connecting", total=seconds), 0.0

        def watch(measured: Measured, passed: float) -> None:
            nonlocal drawn
            if not console.is_terminal or time.perf_counter() < drawn + REDRAW:
                return
            drawn = time.perf_counter()
            errors = measured.answered - measured.predicted + measured.broken.total()
            said = f"{passed:.0f} s, {measured.answered / passed:,.0f} requests/s, {errors:,} errors"
            bar.update(task, completed=passed, description=said, refresh=True)

        yield watch


def _summary(url: str, model: Model, options: argparse.Namespace, measured: Measured) -> dict[str, Any]:
    """Everything that is shown, as JSON; latencies in milliseconds."""
    seconds, latencies = measured.seconds, measured.latencies.summary()
    refused: list[dict[str, Any]] = [
        {
            "status": status,
            "count": refusal.count,
            "detail": _detail(refusal.first),
            "retry_after": refusal.first.headers.get("retry-after"),
        }
        for status, refusal in sorted(measured.refused.items())
    ]
    unexpected = sum(error["count"] for error in refused if error["status"] not in options.expect)
    failed = unexpected + measured.broken.total() + (0 if measured.interrupted else measured.unanswered)
    return {
        "success": not failed and bool(measured.answered),
        "url": url,
        "name": model.name,
        "version": model.version,
        "rows": model.source,
        "rows_per_request": options.rows or 1,
        "batch": options.rows is not None,
        "rate": options.rate,
        "connections": options.connections,
        "seconds": round(seconds, 3),
        "interrupted": measured.interrupted,
        "requests": measured.answered,
        "predictions": measured.predicted,
        "requests_per_second": round(measured.answered / seconds, 1),
        "rows_per_second": round(measured.predicted * (options.rows or 1) / seconds, 1),
        "latency_ms": {name: round(1000 * value, 3) for name, value in latencies.items()} if latencies else None,
        "errors": refused,
        "connection_errors": [{"what": what, "count": count} for what, count in measured.broken.most_common()],
        "unanswered": measured.unanswered,
        "failed": failed,
        "generator": {"cpu": round(measured.cpu, 3), "limit": measured.cpu >= BUSY},
        "picture": None,
    }


def _detail(answer: Response) -> str:
    """What an answer says is wrong, in words."""
    text = answer.body[:4000].decode("utf-8", "replace")
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        text = json.loads(answer.body)["detail"]
    return clean(text, 200) or "without a word"


def _draw(measured: Measured, summary: dict[str, Any], path: Path) -> str:
    """Write the picture and note where it is; why it cannot be written, or ""."""
    from delivery.load.picture import latency_over_time
    from pipeline.evaluation.figures import save_png

    title = f"{summary['name']} version {summary['version']}: {_how(summary)}"
    try:
        save_png(latency_over_time(measured.latencies, clean(title, 90), measured.seconds), path)
    except OSError as error:
        return error.strerror or str(error)
    summary["picture"] = str(path)
    return ""


def _how(summary: dict[str, Any]) -> str:
    asked = f"{summary['rate']:,g} requests/s due" if summary["rate"] else "as fast as answered"
    rows = f", {summary['rows_per_request']:,} rows a request" if summary["batch"] else ""
    connections = f"{summary['connections']:,} connection{'s' if summary['connections'] > 1 else ''}"
    return f"{asked}, {connections}, {summary['seconds']:.1f} s{rows}"


def _show(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    title = clean(f"load of {summary['url']}, {summary['name']} version {summary['version']}")
    table = Table("", "", show_header=False, title=Text(title), title_justify="left")
    for what, seen, style in _lines(summary):
        table.add_row(what, Text(seen, style))
    Console().print(table)


def _lines(summary: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The table: what, seen, and the colour of what was seen."""
    yield "load", _how(summary) + (", stopped early" if summary["interrupted"] else ""), ""
    yield "rows", summary["rows"], ""
    yield "requests", f"{summary['requests']:,}", ""
    yield "requests/s", f"{summary['requests_per_second']:,.1f}", "bold"
    yield "rows/s", f"{summary['rows_per_second']:,.1f}", ""
    for name, value in (summary["latency_ms"] or {}).items():
        yield f"latency, {name}", f"{value:,.2f} ms", ""
    for error in summary["errors"]:
        later = f"; Retry-After: {clean(error['retry_after'], 40)}" if error["retry_after"] else ""
        yield f"answered {error['status']}", f"{error['count']:,} times: {error['detail']}{later}", "red"
    for error in summary["connection_errors"]:
        yield "connection error", f"{error['count']:,} times: {error['what']}", "red"
    if summary["unanswered"]:
        yield "without an answer", f"{summary['unanswered']:,} requests when the load ended", "yellow"
    generator = f"{100 * summary['generator']['cpu']:.0f} % of a core"
    if summary["generator"]["limit"]:
        yield "generator", f"{generator}: it was the limit itself, the service may well do more", "yellow"
    else:
        yield "generator", generator, ""
    if summary["picture"]:
        path = Path(summary["picture"])
        yield "picture", str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path), ""


def _judge(summary: dict[str, Any]) -> int:
    """The exit status; raises SlipwayError when something failed."""
    if summary["failed"]:
        raise DeployError(f"{summary['failed']:,} requests failed at {summary['url']}", _advice(summary))
    if summary["interrupted"]:
        return 130
    if not summary["requests"]:
        raise DeployError(f"{summary['url']} answered nothing", "load it for longer")
    return 0


def _advice(summary: dict[str, Any]) -> str:
    """What to do about the failures."""
    if any(error["status"] == 429 for error in summary["errors"]):
        return (
            "it takes no more from one caller: ask for less by --rate, accept that by --expect 429, or raise its limit"
        )
    if summary["unanswered"] and not summary["errors"] and not summary["connection_errors"]:
        return "it does not keep up with this --rate"
    return "the table says what it answered; its log says more"
