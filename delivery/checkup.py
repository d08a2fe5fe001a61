"""What is configured, what is missing and what will be skipped, as 'make doctor' shows it."""

import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from packaging.requirements import Requirement

from delivery import keys, targets
from delivery.relay import registration
from delivery.targets import docker, process
from pipeline import container_registry, processes
from pipeline.artifacts import ROOT
from pipeline.ci import lineage, repository_settings
from pipeline.errors import SlipwayError
from pipeline.registry import mlflow_server, versions
from pipeline.registry.experiments import running
from pipeline.settings import Settings, load_settings

FREE_GB = 2  # what environment, MLflow and builds take together, with some air


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `ok`, `note` (works, but know this) or `fault` (stands in the way)."""

    what: str
    state: str
    says: str


def examine() -> list[Finding]:
    """Everything that can be known without starting or changing anything."""
    findings = [requirements(), checkout(), space()]
    try:
        settings = load_settings()
    except SlipwayError as error:
        return [*findings, Finding("pipeline.toml", "fault", error.what)]
    findings.append(Finding("pipeline.toml", "ok", f'model "{settings.name}", task {settings.data.task}'))
    looks: list[Callable[[Settings], Finding]] = [data, mlflow, webhook, target, image, callers]
    findings += [*example_left(settings), *(look(settings) for look in looks)]
    findings += experiment(settings)
    return findings + [served(settings, environment) for environment in targets.ENVIRONMENTS] + workflows()


def workflows() -> list[Finding]:
    """What `make plan` would say with this environment; a repository's own variables and secrets are in GitHub alone."""
    try:
        plan = repository_settings.delivery(os.environ, {})
    except SlipwayError as error:
        return [Finding("workflows", "note", f"{error.what}; {error.then}")]
    note = "as this environment says; the job `plan` of a delivery says it of the repository's variables and secrets"
    return [Finding("workflows", "ok", note), *(Finding(f"· {what}", "ok", says) for what, (_, says) in plan.items())]


def requirements() -> Finding:
    """Whether what is installed is what is locked."""
    text = (ROOT / "requirements" / "pipeline.txt").read_text(encoding="utf-8")
    locked = [Requirement(line) for line in re.findall(r"^[\w.-]+==[^\\\n]+", text, re.M)]
    meant = [package for package in locked if package.marker is None or package.marker.evaluate()]
    other = [
        f"{package.name} {there}" for package in meant if (there := installed(package.name)) not in package.specifier
    ]
    python = ".".join(map(str, sys.version_info[:3]))
    if other:
        return Finding("requirements", "fault", f"not as locked: {', '.join(other[:5])}; run `make clean` and again")
    return Finding("requirements", "ok", f"Python {python}, packages as locked")


def installed(name: str) -> str:
    """The version of an installed package, "0" when it is missing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "0"


def checkout() -> Finding:
    """Whether a build can be traced to a commit."""
    commit, dirty = lineage.commit()
    if commit == "none":
        return Finding("git", "note", "not a git checkout with a commit: builds cannot be traced to one")
    return Finding(
        "git",
        "note" if dirty else "ok",
        f"commit {commit[:12]}" + (", with uncommitted changes" if dirty else ""),
    )


def space() -> Finding:
    """Whether there is room for MLflow and builds."""
    free = shutil.disk_usage(ROOT).free / 1e9
    return Finding("disk", "ok" if free > FREE_GB else "fault", f"{free:.1f} GB free, {FREE_GB} GB are enough")


def data(settings: Settings) -> Finding:
    """Whether the data can be read and has the columns that the settings name."""
    from pipeline.data.dataset import load_dataset

    try:
        found = load_dataset(settings)
    except SlipwayError as error:
        return Finding("data", "fault", f"{error.what}; {error.then}" if error.then else error.what)
    rows, columns = found.features.shape
    return Finding("data", "ok", f"{rows} rows, {columns} features, target {settings.data.target}")


def example_left(settings: Settings) -> list[Finding]:
    """What is still the shipped example's although the data is another."""
    from pipeline.data import leftovers
    from pipeline.data.dataset import read_frame

    try:
        frame = read_frame()
    except SlipwayError:
        return []  # `data` says why
    return [
        Finding(where, "note", what) for where, what in leftovers.found(frame, settings, ROOT / "project/checks.py")
    ]


def mlflow(settings: Settings) -> Finding:
    """Which MLflow is used, and whether it answers."""
    mlflow_server.quiet_environment()
    remote = mlflow_server.remote_uri()
    if remote:
        looks = (lambda: mlflow_server.health(remote, timeout=5), lambda: mlflow_server.refuses(remote, timeout=30))
        problem = next(filter(None, map(mlflow_server.persistent, looks)), None)
        says = f"{mlflow_server.shown(remote)} (MLFLOW_TRACKING_URI) {problem or 'answers'}"
        return Finding("MLflow", "fault", says) if problem else experiments(settings, says)
    record = mlflow_server.running()
    if record:
        return experiments(settings, f"MLFLOW_TRACKING_URI is not set: the server on this machine, {record['uri']}")
    return Finding("MLflow", "ok", "MLFLOW_TRACKING_URI is not set: a server on this machine is started when needed")


def experiments(settings: Settings, server: str) -> Finding:
    """Whether the experiments of an MLflow that answers may be written to: one that was deleted takes nothing."""
    try:
        versions.check_experiments(versions.connect(settings), settings.name)
    except SlipwayError as error:
        return Finding("MLflow", "fault", f"{server}; {error.what}; {error.then}")
    return Finding("MLflow", "ok", server)


def experiment(settings: Settings) -> list[Finding]:
    """The experiment that an MLflow which answers knows to run; nothing is started for that."""
    from mlflow.exceptions import MlflowException

    if not mlflow_server.remote_uri() and not mlflow_server.running():
        return []
    try:
        record = running(versions.connect(settings), settings.name)
    except (SlipwayError, MlflowException):
        return []  # the finding of MLflow says why
    return (
        [Finding("experiment", "note", f"{record.in_words()}; no other version goes to production")] if record else []
    )


def webhook(settings: Settings) -> Finding:
    """Whether MLflow reaches a relay that takes what it tells; nothing is started for that."""
    record = None if mlflow_server.remote_uri() else mlflow_server.running()
    return Finding(
        "webhook", *registration.state(mlflow_server.remote_uri() or (record["uri"] if record else None), settings.name)
    )


def target(settings: Settings) -> Finding:
    """Where releases run, and why there."""
    try:
        chosen = targets.check(settings)
    except SlipwayError as error:
        return Finding("target", "fault", f"{error.what}; {error.then}")
    skipped = [f"{other.NAME}: {why}" for other in targets.TARGETS if (why := other.unavailable(settings))]
    words = f"{chosen.NAME}: {chosen.WHY}"
    return Finding("target", "ok", "; ".join([words, *skipped]))


def image(settings: Settings) -> Finding:
    """Where images go, when releases are images."""
    try:
        if not targets.choose(settings).IMAGES:
            return Finding("images", "ok", "not needed: releases run as processes")
        repository, pushed = container_registry.repository(settings.name)
    except SlipwayError as error:
        return Finding("images", "fault", f"{error.what}; {error.then}")
    if pushed:
        return Finding("images", "ok", f"pushed to {repository}")
    return Finding("images", "ok", f"IMAGE_REPOSITORY is not set: kept in this machine's engine as {repository}")


def callers(settings: Settings) -> Finding:
    """Who may call what is released, and whether delivery itself may."""
    try:
        if not targets.choose(settings).HERE:
            return Finding("callers", "ok", "who has a key: each namespace has a Secret model-api-keys")
        if keys.ours():
            return Finding("callers", "ok", f"who has a key of {keys.given()}; delivery has the one in {keys.VARIABLE}")
    except SlipwayError as error:
        return Finding("callers", "fault", f"{error.what}; {error.then}")
    return Finding("callers", "ok", "no keys are set: whoever is on this machine may call, and nobody else")


def served(settings: Settings, environment: str) -> Finding:
    """What serves in an environment, and on this machine whether its port is free or its own."""
    try:
        chosen = targets.choose(settings)
        serving = chosen.serving(environment, settings)
    except SlipwayError as error:
        return Finding(environment, "fault", error.what)
    number = settings.deploy.port(environment)
    here = chosen.NAME != "kubernetes"
    if serving and serving.port in (None, number):
        says = f"serves version {serving.version} at {serving.url}"
        if serving.name != settings.name:
            return Finding(environment, "note", f"{says}, of the model {serving.name}: the next release replaces it")
        note = serving.note
        return Finding(environment, "note" if note else "ok", f"{says}; {note}" if note else says)
    for target in (docker, process) if here else ():
        if target.holds(environment, settings):
            return Finding(environment, "note", _nothing_behind(target.NAME, chosen.NAME))
    if here and processes.port_taken(number):
        return Finding(
            environment,
            "fault",
            f"port {number} is taken: [deploy] {environment}_port in pipeline.toml names another",
        )
    return Finding(environment, "ok", "nothing deployed" + (f"; port {number} is free" if here else ""))


def _nothing_behind(holder: str, chosen: str) -> str:
    if holder != chosen:
        return f"target {holder} serves there; `make stop` ends it, and then `make ship` serves by target {chosen}"
    return "its release does not run; `make ship` starts it again, `make rollback VERSION=n` another one"


def show(findings: list[Finding]) -> None:
    """Print the findings as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    signs = {"ok": Text("✓", "green"), "note": Text("!", "yellow"), "fault": Text("✗", "bold red")}
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for finding in findings:
        table.add_row(signs[finding.state], finding.what, Text(finding.says))
    Console().print(table)
