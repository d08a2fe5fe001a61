"""Production as its prediction log shows it: what is counted where the log is, and what is written back beside it."""

import os
import time
from collections.abc import Sequence
from typing import IO

import msgspec

from delivery import log_command, targets
from pipeline.errors import DeployError
from pipeline.monitor.plan import Plan
from pipeline.settings import Settings
from serving.counts.exposed import Exposed
from serving.counts.records import Day, Log
from serving.experiment.count import records as experiment
from serving.experiment.count.records import Pair, Sums
from serving.log.marks import Mark

UNREACHABLE = (
    "{environment} does not serve on this machine, and SLIPWAY_DATABASE_URL is not set: there is no prediction log to read. "
    "Where the log is in PostgreSQL, give this job its address (docs/monitoring.md)."
)


def lacking(environment: str, settings: Settings) -> str:
    """Why there is no prediction log that could be read from here, or ""."""
    if os.environ.get(log_command.VARIABLE):
        return ""
    try:
        target = targets.choose(settings)
    except DeployError as error:  # of another machine, as a workflow's is not
        return f"{UNREACHABLE.format(environment=environment)} ({error.what})"
    if not target.HERE or target.serving(environment, settings) is None:
        return UNREACHABLE.format(environment=environment)
    return ""


def on_log(
    environment: str,
    settings: Settings,
    arguments: Sequence[str],
    given: bytes = b"",
    into: IO[bytes] | None = None,
) -> bytes:
    """Run a command of serving/ where the log is, as a target does; raises DeployError.

    Where the service is out of reach, that is in the database that SLIPWAY_DATABASE_URL names: the target of pipeline.toml is often
    another machine than that of a job in a workflow or a cluster.
    """
    database = os.environ.get(log_command.VARIABLE)
    if database and _out_of_reach(environment, settings):
        return log_command.run(environment, database, arguments, given, into)
    return targets.choose(settings).on_log(environment, settings, arguments, given, into)


def _out_of_reach(environment: str, settings: Settings) -> bool:
    try:
        target = targets.choose(settings)
    except DeployError:
        return True
    return target.HERE and target.serving(environment, settings) is None


def counts(environment: str, settings: Settings, plan: Plan) -> tuple[Log, list[Day]]:
    """What is in the log, and its days, counted where it is; raises DeployError when it cannot be read."""
    given = msgspec.json.encode(plan)
    printed = on_log(environment, settings, ["serving.counts"], given)
    first, *lines = printed.splitlines()
    return msgspec.json.decode(first, type=Log), [msgspec.json.decode(line, type=Day) for line in lines]


def experiment_sums(environment: str, settings: Settings, plan: experiment.Plan) -> tuple[Sums, list[Pair]]:
    """An experiment's sums, counted where the log is, and in mode shadow pairs of answers; raises DeployError when it cannot be read."""
    printed = on_log(environment, settings, ["serving.experiment.count"], msgspec.json.encode(plan))
    first, *lines = printed.splitlines()
    return msgspec.json.decode(first, type=Sums), [msgspec.json.decode(line, type=Pair) for line in lines]


def experiment_stopped(environment: str, settings: Settings, name: str) -> str:
    """Why an experiment of this name has stopped itself, in words; "" where it has not, or where the log is out of reach from here.

    Raises DeployError when the log is in reach and cannot be read.
    """
    if lacking(environment, settings):
        return ""
    now = time.time()  # of no time at all nothing is counted
    plan = experiment.Plan(
        model=settings.name,
        experiment=name,
        mode="ab",
        champion="",
        challenger="",
        since=now,
        until=now,
        outcome="value",
    )
    sums, _ = experiment_sums(environment, settings, plan)
    return sums.stop.reason if sums.stop else ""


def show(environment: str, settings: Settings, exposed: Exposed) -> None:
    """Keep what was found beside the log, where the service reads it for Prometheus; raises DeployError when it cannot be written."""
    on_log(environment, settings, ["serving.counts.findings"], msgspec.json.encode(exposed))


def exported(environment: str, settings: Settings, since: str, until: str) -> list[bytes]:
    """The requests of some days (UTC), a line of JSON each; raises DeployError when the log cannot be read."""
    command = ["serving.log.export", "--since", since, "--until", until]
    return on_log(environment, settings, command).splitlines()


def export(environment: str, settings: Settings, until: str, into: IO[bytes], since: str = "") -> None:
    """Write the requests before a day or time (UTC), and from one on, into a file, a line of JSON each; raises DeployError when the log cannot be read."""
    from_then = ["--since", since] if since else []
    on_log(environment, settings, ["serving.log.export", *from_then, "--until", until], into=into)


def marks(environment: str, settings: Settings, edges: Sequence[float]) -> list[Mark]:
    """How much is in the log between moments (seconds since 1970), counted where it is; raises DeployError when it cannot be read."""
    printed = on_log(environment, settings, ["serving.log.marks"], msgspec.json.encode(list(edges)))
    return msgspec.json.decode(printed, type=list[Mark])
