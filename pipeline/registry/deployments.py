"""The history of deployments: each is a run of the experiment NAME-deployments, begun before anything is released.

What MLflow cannot record is not deployed: the record and a tag of the version are written first, and they take the same
permissions as all that follows. After the release only updates are left, which may be made twice: the record's end, the alias,
the marks on versions. A command that cannot make one says so and goes on; the next one makes it (`settle`).
"""

import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.errors import RegistryError, reason
from pipeline.registry import model_version, once, versions

BEGUN, DEPLOYED, FAILED = "begun", "deployed", "failed"  # the tag `result`
DUE, DONE = "due", "done"  # the tag `bookkeeping`, of a record whose deployment moves its alias itself
MARKS = "marks"  # of a record whose deployment follows an alias: only the marks on versions are to be set
OVERTAKEN = "overtaken"  # somebody moved the alias to another version meanwhile
FORGOTTEN_SECONDS = 6 * 3600  # a deployment that began longer ago, on another machine, has ended without a word
REPAIR = "the next `make status`, deploy, promote or reconcile does it"


def begin(
    client, name: str, environment: str, about: dict[str, Any], moves_from: str | None = None, left: str | None = None
) -> str:
    """Record that a deployment begins and return the record's id; raises RegistryError or what MLflow's client raises.

    `moves_from`: the version ("none" for none) that the environment's alias is on, where this deployment moves the alias itself.
    `left`: the version that is then to be marked as rolled back, or "" for none; given alone, the alias is there already.
    """
    experiment = versions.experiment(client, f"{name}-deployments")
    tags = _tags(environment, about) | {"result": BEGUN}
    if moves_from is not None:
        tags |= {"bookkeeping": DUE, "alias_from": moves_from, "left": left or ""}
    elif left is not None:
        tags |= {"bookkeeping": MARKS, "left": left}
    run = once.run(client, experiment, _title(tags), tags | {"mlflow.note.content": versions.told(tags)})
    model_version.set_tags(client, name, about["version"], last_deployment=run.info.run_id)
    return run.info.run_id


def end(client, record: str, result: str, **changed: str) -> None:
    """Write how a deployment ended: `deployed` or `failed`, and what became known meanwhile."""
    from mlflow.entities import RunTag

    tags = client.get_run(record).data.tags | changed | {"result": result}
    tags["detail"] = tags["detail"][:4000]
    changed |= {"result": result, "detail": tags["detail"], "mlflow.note.content": versions.told(tags)}
    client.log_batch(record, tags=[RunTag(key, value) for key, value in changed.items()])
    client.update_run(record, "FINISHED" if result == DEPLOYED else "FAILED", _title(tags))


def fail(client, record: str, error: BaseException, **changed: str) -> None:
    """Write why a deployment failed; an MLflow that cannot take it must not hide why."""
    with afterwards("the failure could not be recorded in MLflow", then=""):
        end(client, record, FAILED, detail=reason(error), **changed)


def record_failure(client, name: str, environment: str, about: dict[str, Any], error: BaseException) -> None:
    """Append a deployment that failed before it could begin."""
    with afterwards("the failure could not be recorded in MLflow", then=""):
        append(client, name, environment, about, FAILED, reason(error))


def append(client, name: str, environment: str, about: dict[str, Any], result: str, detail: str = "") -> str:
    """Append the record of something that has ended already; its id."""
    tags = _tags(environment, about) | {"result": result, "detail": detail[:4000]}
    experiment = versions.experiment(client, f"{name}-deployments")
    run = once.run(client, experiment, _title(tags), tags | {"mlflow.note.content": versions.told(tags)})
    client.set_terminated(run.info.run_id, "FINISHED" if result == DEPLOYED else "FAILED")
    return run.info.run_id


def _tags(environment: str, about: dict[str, Any]) -> dict[str, str]:
    return {
        "environment": environment,
        **about,
        "before": about["before"] or "none",
        "actor": versions.actor(),
        "host": socket.gethostname(),
        "detail": "",
    }


def _title(tags: dict[str, str]) -> str:
    return f"{tags['environment']}: version {tags['version']} {tags['result']}"


@contextmanager
def afterwards(what: str, then: str = REPAIR) -> Iterator[None]:
    """Say as a warning what of the bookkeeping failed, and go on: what it is about has happened, and is not undone."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        yield
    except (MlflowException, RegistryError, RequestException, OSError) as error:
        print(f"warning: {what}: {reason(error)}" + (f"; {then}" if then else ""), file=sys.stderr, flush=True)


def complete(client, name: str, environment: str, record: str) -> str:
    """Do what a deployment that moves its alias leaves to do once it serves; the version that the alias was on, or "".

    Done twice, it changes nothing. Raises RegistryError when somebody has moved the alias elsewhere meanwhile: that counts.
    """
    tags = client.get_run(record).data.tags
    version, moves_from = tags["version"], tags["alias_from"]
    try:
        if environment == "production":
            versions.promote(client, name, version, None if moves_from == "none" else moves_from, tags["action"])
            mark_left(client, name, version, tags["left"])
        else:
            client.set_registered_model_alias(name, environment, version)
    except RegistryError:
        client.set_tag(record, "bookkeeping", OVERTAKEN)
        raise
    client.set_tag(record, "bookkeeping", DONE)
    return moves_from if moves_from not in ("none", version) else ""


def mark(client, name: str, version: str, record: str) -> None:
    """Mark the versions between which production changed when a deployment followed the alias."""
    mark_left(client, name, version, client.get_run(record).data.tags["left"])
    versions.promoted(client, name, version, "MLflow alias")
    client.set_tag(record, "bookkeeping", DONE)


def mark_left(client, name: str, version: str, left: str) -> None:
    """Mark the version that was left as rolled back, so that the next push does not ship the same build; it is back: no mark."""
    if versions.by_number(client, name, version).rolled_back is not None:
        model_version.remove_mark(client, name, version, "rolled_back")
    if left and left != version and any(found.number == left for found in versions.versions(client, name)):
        model_version.set_tags(client, name, left, rolled_back=versions.timestamp(time.time()))


def settle(client, name: str, environment: str, serving: Callable[[], dict[str, Any] | None]) -> None:
    """Bring record and alias of the last deployment to an environment up to date, where a command could not; says what it did.

    To be called where no deployment is under way on this machine. `serving` says what the environment serves.
    Raises what MLflow's client raises.
    """
    found = _unsettled(client, name, environment)
    if found is None:
        return
    record, tags = found.info.run_id, found.data.tags
    served = serving()
    there = served is not None and (served["version"], served["digest"]) == (tags["version"], tags["digest"])
    what = f"the deployment of version {tags['version']} to {environment}"
    if tags["result"] == BEGUN:
        if not there:
            if tags["host"] == socket.gethostname() or time.time() - found.info.start_time / 1000 > FORGOTTEN_SECONDS:
                end(client, record, FAILED, detail="it ended before it could say how")
                print(f"note: {what} had ended without a record of how; it is recorded as failed", file=sys.stderr)
            return
        end(client, record, DEPLOYED, detail="recorded afterwards")
        print(f"note: {what} is now recorded in MLflow", file=sys.stderr)
    if not there:
        return
    if tags.get("bookkeeping") == DUE:
        _settle_alias(client, name, environment, record, tags)
    elif environment == "production":
        now = versions.by_alias(client, name, "production")
        if now is None or now.number != tags["version"]:
            return
        if tags.get("bookkeeping") == MARKS:
            mark(client, name, now.number, record)
        elif now.promoted is None:
            versions.promoted(client, name, now.number, tags["action"])


def _settle_alias(client, name: str, environment: str, record: str, tags: dict[str, str]) -> None:
    """Move the alias of a deployment that could not do it, unless somebody has moved it since: that is a wish of theirs."""
    now = versions.by_alias(client, name, environment)
    if (now.number if now else "none") not in (tags["alias_from"], tags["version"]):
        client.set_tag(record, "bookkeeping", OVERTAKEN)
        return
    complete(client, name, environment, record)
    print(f"note: alias {environment} is now on version {tags['version']}, which {environment} serves", file=sys.stderr)


def _unsettled(client, name: str, environment: str):
    """The newest deployment to an environment, if anything may be left to do for it; else None."""
    experiment = versions.find_experiment(client, f"{name}-deployments")
    if experiment is None:
        return None
    runs = client.search_runs(
        [experiment.experiment_id],
        f"tags.environment = '{environment}' and tags.result != '{FAILED}' and tags.action != 'rehearsal'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return runs[0] if runs else None
