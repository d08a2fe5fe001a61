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
from dataclasses import replace
from typing import Any

from pipeline.errors import RegistryError, reason
from pipeline.registry import model_version, once, promotion, versions
from pipeline.registry.deployment_record import (
    BEGUN,
    DEPLOYED,
    DONE,
    DUE,
    FAILED,
    MARKS,
    OVERTAKEN,
    Deployment,
    Identified,
    last_unsettled,
)

FORGOTTEN_SECONDS = 6 * 3600  # a deployment that began longer ago, on another machine, has ended without a word
REPAIR = "the next `make status`, deploy, promote or reconcile does it"


def begin(client, name: str, deployment: Deployment) -> Deployment:
    """Record the start of a deployment; returns it with its run. Raises RegistryError or what MLflow's client raises."""
    begun = append(client, name, deployment)
    model_version.set_tags(client, name, deployment.version, last_deployment=begun.run_id)
    return begun


def append(client, name: str, deployment: Deployment) -> Deployment:
    """Append the record of a deployment, which may have ended already; returns it with its run."""
    experiment = versions.experiment(client, f"{name}-deployments")
    run = once.run(client, experiment, deployment.title, deployment.tags())
    return replace(deployment, run_id=run.info.run_id, experiment_id=experiment)


def end(client, deployment: Deployment, result: str, **known: Any) -> None:
    """Record how a deployment ended, `deployed` or `failed`, with the attributes that are known only now."""
    from mlflow.entities import RunTag

    ended = replace(deployment, result=result, **known)
    was = deployment.tags()
    changed = [RunTag(key, value) for key, value in ended.tags().items() if was.get(key) != value]
    client.log_batch(deployment.run_id, tags=changed)
    client.update_run(deployment.run_id, "FINISHED" if result == DEPLOYED else "FAILED", ended.title)


def fail(client, deployment: Deployment, error: BaseException, **known: Any) -> None:
    """Write why a deployment failed; an MLflow that cannot take it must not hide why."""
    with afterwards("the failure could not be recorded in MLflow", then=""):
        end(client, deployment, FAILED, detail=reason(error), **known)


def record_failure(client, name: str, deployment: Deployment, error: BaseException) -> None:
    """Append a deployment that failed before it could begin."""
    with afterwards("the failure could not be recorded in MLflow", then=""):
        append(client, name, replace(deployment, result=FAILED, detail=reason(error)))


@contextmanager
def afterwards(what: str, then: str = REPAIR) -> Iterator[None]:
    """Say as a warning what of the bookkeeping failed, and go on: what it is about has happened, and is not undone."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        yield
    except (MlflowException, RegistryError, RequestException, OSError) as error:
        print(f"warning: {what}: {reason(error)}" + (f"; {then}" if then else ""), file=sys.stderr, flush=True)


def complete(client, name: str, deployment: Deployment) -> None:
    """Do what a deployment that moves its alias leaves to do once it serves.

    Done twice, it changes nothing. Raises RegistryError when somebody has moved the alias elsewhere meanwhile: that counts.
    """
    version = deployment.version
    try:
        if deployment.environment == "production":
            promotion.promote(client, name, version, deployment.alias_from, deployment.action)
            mark_left(client, name, version, deployment.left)
        else:
            client.set_registered_model_alias(name, deployment.environment, version)
    except RegistryError:
        _keep_books(client, deployment, OVERTAKEN)
        raise
    _keep_books(client, deployment, DONE)


def mark(client, name: str, deployment: Deployment) -> None:
    """Mark the versions between which production changed when a deployment followed the alias."""
    mark_left(client, name, deployment.version, deployment.left)
    promotion.promoted(client, name, deployment.version, "MLflow alias")
    _keep_books(client, deployment, DONE)


def _keep_books(client, deployment: Deployment, state: str) -> None:
    client.set_tag(deployment.run_id, "bookkeeping", state)


def mark_left(client, name: str, version: str, left: str) -> None:
    """Mark the version that was left as rolled back, so that the next push does not ship the same build; it is back: no mark."""
    if versions.by_number(client, name, version).rolled_back is not None:
        model_version.remove_mark(client, name, version, "rolled_back")
    if left and left != version and any(found.number == left for found in versions.versions(client, name)):
        model_version.set_tags(client, name, left, rolled_back=versions.timestamp(time.time()))


def settle(client, name: str, environment: str, serving: Callable[[], Identified | None]) -> None:
    """Bring record and alias of the last deployment to an environment up to date, where a command could not; says what it did.

    To be called where no deployment is under way on this machine. `serving` says what the environment serves.
    Raises what MLflow's client raises.
    """
    last = last_unsettled(client, name, environment)
    if last is None:
        return
    served = serving()
    wanted = (last.version, last.digest, last.experiment)
    there = served is not None and (served.version, served.digest, served.experiment) == wanted
    what = f"the deployment of version {last.version} to {environment}"
    if last.result == BEGUN:
        if not there:
            if last.host == socket.gethostname() or time.time() - last.began > FORGOTTEN_SECONDS:
                end(client, last, FAILED, detail="it ended before it could say how")
                print(f"note: {what} had ended without a record of how; it is recorded as failed", file=sys.stderr)
            return
        end(client, last, DEPLOYED, detail="recorded afterwards")
        print(f"note: {what} is now recorded in MLflow", file=sys.stderr)
    if not there:
        return
    if last.bookkeeping == DUE:
        _settle_alias(client, name, last)
    elif environment == "production":
        now = versions.by_alias(client, name, "production")
        if now is None or now.number != last.version:
            return
        if last.bookkeeping == MARKS:
            mark(client, name, last)
        elif now.promoted is None:
            promotion.promoted(client, name, now.number, last.action)


def _settle_alias(client, name: str, last: Deployment) -> None:
    """Move the alias of a deployment that could not do it, unless somebody has moved it since: that is a wish of theirs."""
    environment = last.environment
    now = versions.by_alias(client, name, environment)
    if (now.number if now else None) not in (last.alias_from, last.version):
        _keep_books(client, last, OVERTAKEN)
        return
    complete(client, name, last)
    print(f"note: alias {environment} is now on version {last.version}, which {environment} serves", file=sys.stderr)
