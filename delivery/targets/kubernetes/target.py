"""Target `kubernetes`: an environment is a namespace in the cluster that its kubeconfig context names.

A release is applied and watched until its pods serve and answer as its bundle says; in production it takes over step by
step beside what serves (delivery/targets/kubernetes/canary.py). What served before is restored after any failure. The cluster itself keeps the
record, so that any machine can go on where another was killed: see restore.py.
"""

import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from delivery.release import Release
from delivery.targets.kubernetes import canary, cluster_keys, kubectl, lease, manifests, pods, restore, rollout
from delivery.targets.kubernetes.kubectl import Cluster, KubectlError
from delivery.targets.kubernetes.pods import Delivery
from pipeline.errors import BusyError, DeployError
from pipeline.settings import Settings

NAME = "kubernetes"
WHY = (
    "a namespace for each environment, in the clusters that SLIPWAY_STAGING_CONTEXT and SLIPWAY_PRODUCTION_CONTEXT name"
)
IMAGES = True
HERE = False
CONTEXTS = {"staging": "SLIPWAY_STAGING_CONTEXT", "production": "SLIPWAY_PRODUCTION_CONTEXT"}
LABEL = "slipway/environment"
# What may be in the namespace besides is the team's affair; our own pods pass the strictest standard.
LABELS = {"pod-security.kubernetes.io/warn": "restricted"}


def unavailable(settings: Settings) -> str | None:
    """Which variable or program is missing; None when the target is set up. Asks no cluster."""
    missing = [name for name in (*CONTEXTS.values(), "IMAGE_REPOSITORY") if not os.environ.get(name)]
    if missing:
        return f"{' and '.join(missing)} not set"
    return None if shutil.which("kubectl") else "kubectl is not installed"


def asked_for() -> bool:
    """Whether somebody has begun to set this target up: then nothing may quietly run elsewhere instead."""
    return any(os.environ.get(name) for name in CONTEXTS.values())


def serving(environment: str, settings: Settings) -> dict[str, Any] | None:
    """What serves in the environment: {name, version, digest, image, url, since, bundle …}; None when nothing does.

    Where a run was killed midway, `note` says so: what is named is what the next deployment goes back to first.
    """
    cluster = _cluster(environment, settings)
    found = kubectl.find(cluster, f"configmap/{restore.NAME}", *restore.TRACES, patient=False)
    record, objects = restore.read(found.get(f"configmap/{restore.NAME}"))
    owner = found.get("deployment/model")
    if record and manifests.rolled_out_by_argo(objects):
        owner = kubectl.find(cluster, "rollout/model", patient=False).get("rollout/model")
    if record is None or owner is None or not owner.get("status", {}).get("readyReplicas"):
        return None
    there = record["bundle"] if Path(record["bundle"]).is_dir() else None
    left = restore.leftovers(found, record, objects)
    note = {"note": f"a deployment is under way, or ended midway and left {', '.join(left)}"} if left else {}
    return record | {"bundle": there} | note


def known(environment: str, settings: Settings) -> bool:
    """Whether the namespace remembers a release, serving or not."""
    return restore.remembered(_cluster(environment, settings))[0] is not None


def release(environment: str, release: Release, settings: Settings, at_once: bool = False) -> dict[str, Any]:
    """Put a release into the place of what serves; raises DeployError after restoring that when it fails.

    In production it takes over step by step, unless it is to be there `at_once`, as for a rollback.
    """
    cluster = _cluster(environment, settings)
    _enter(cluster)
    with lease.held(cluster, kubectl.who()) as still_ours, kubectl.proxy(cluster) as api:
        show = rollout.event_printer(cluster)

        def each_poll() -> None:
            still_ours()
            show()

        return _release(Delivery(cluster, settings, api, each_poll, still_ours), release, at_once)


def _release(delivery: Delivery, release: Release, at_once: bool) -> dict[str, Any]:
    """The same, once nobody else can be at work there."""
    before, earlier = restore.begin(delivery.cluster)
    _refuse_other_environment(delivery.cluster, before)
    # A rollback does not wait for what it replaces: it is the way out when that is what ails.
    delivery = replace(delivery, key=cluster_keys.ours(delivery.cluster))
    sound = at_once or restore.repair(delivery, before, earlier)
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    objects = _rendered(delivery, release, since)
    delivery.still_ours()
    delivery = replace(delivery, key=cluster_keys.prepared(delivery.cluster, objects))
    try:
        if sound and not at_once and _deserves_canary(delivery.cluster, release, earlier + objects, before):
            canary.take_over(delivery, release, objects, earlier)
        else:
            _take_over(delivery, release, objects, at_once)
        record = _record(delivery.cluster, release, objects, since)
        delivery.still_ours()
        restore.remember(delivery.cluster, record, objects)
    except BusyError:
        raise  # another run has the environment now, and puts it right
    except BaseException as error:  # whatever it was, the keyboard included
        raise restore.undo(delivery, before, earlier, objects, error) from error
    return record


def _take_over(delivery: Delivery, release: Release, objects: list[dict[str, Any]], at_once: bool) -> None:
    """Replace pods by pods of the release, one at a time as each is ready."""
    print(f"applying version {release.version} to {delivery.cluster.environment}", flush=True)
    delivery.still_ours()
    kubectl.apply(delivery.cluster, objects)
    restore.all_pods(delivery.cluster)
    rollout.settled(delivery, objects, release, at_once)
    pods.prove_service(delivery, release)
    rollout.remove_canary(delivery)  # that an aborted run may have left


def _deserves_canary(
    cluster: Cluster, release: Release, objects: list[dict[str, Any]], before: dict[str, Any] | None
) -> bool:
    """Whether there are stable pods of another image in production that the release can be compared with."""
    if cluster.environment != "production" or before is None or before["image"] == release.image:
        return False
    return not manifests.rolled_out_by_argo(objects) and any(map(pods.ready, pods.of_track(cluster, "stable")))


@contextmanager
def reach(environment: str, settings: Settings, as_callers: bool = False) -> Iterator[str]:
    """An address for this machine that leads through the API server to the environment.

    To one pod, as with `kubectl port-forward`: tests that count what they asked for must not be spread over many. Or, as
    callers come, to the Service: whoever asks on while pods are replaced must not hang on one of them.
    """
    cluster = _cluster(environment, settings)
    if as_callers:
        with kubectl.proxy(cluster) as api:
            yield f"{api}{pods.path(cluster, 'services', 'model', 80)}"
        return
    ready = [pod["metadata"]["name"] for pod in pods.of_track(cluster, "stable") if pods.ready(pod)]
    if not ready:
        raise DeployError(f"{environment} has no pod that is ready", f"`make deploy ENVIRONMENT={environment}`")
    with kubectl.proxy(cluster) as api:
        yield f"{api}{pods.path(cluster, 'pods', ready[0], pods.PORT)}"


def key(environment: str, settings: Settings) -> str:
    """The key with which delivery asks the environment, "" where there is none; it is read from the cluster."""
    return cluster_keys.ours(_cluster(environment, settings))


def key_in_shell(environment: str, settings: Settings) -> str:
    """How a command line gets that key."""
    return cluster_keys.shown(_cluster(environment, settings))


def forget(environment: str, settings: Settings, subject: str) -> str:
    """Raises DeployError with the command to run: pods are entered by people, not by the deploying account."""
    cluster = _cluster(environment, settings)
    where = f"kubectl --context {cluster.context} --namespace {cluster.namespace}"
    raise DeployError(
        f"the prediction log of {environment} is reached from its pods",
        f"`{where} exec deployment/model -- python -m serving.log.store delete-subject --subject={shlex.quote(subject)}`",
    )


def stop(environment: str) -> bool:
    """Nothing runs on this machine, and a cluster is not taken down by the way: False."""
    return False


def _cluster(environment: str, settings: Settings) -> Cluster:
    """Where the environment is; raises DeployError when its context is not named, or is not in the kubeconfig."""
    variable = CONTEXTS[environment]
    context = os.environ.get(variable)
    if not context:
        raise DeployError(
            f"{variable} is not set, and the current context of kubectl is never used",
            f"set it to the context of your kubeconfig in which {environment} is",
        )
    there = kubectl.contexts()
    if context not in there:
        raise DeployError(
            f"{variable} is {context}, which is no context of the kubeconfig",
            f"there are: {', '.join(there) or 'none'}",
        )
    return Cluster(environment, context, manifests.namespace(environment, settings.name))


def _enter(cluster: Cluster) -> None:
    """Have the namespace; raises DeployError when it belongs to another environment."""
    try:
        found = kubectl.find(cluster, f"namespace/{cluster.namespace}").get(f"namespace/{cluster.namespace}")
    except KubectlError as error:
        if error.reason != "Forbidden":
            raise
        return  # an account that may work in its namespace alone: the record there tells the environment too
    if found is None:
        print(f"making namespace {cluster.namespace}", flush=True)
        about = {"name": cluster.namespace, "labels": {LABEL: cluster.environment, **LABELS}}
        kubectl.apply(cluster, [{"apiVersion": "v1", "kind": "Namespace", "metadata": about}])
    elif (owner := found["metadata"].get("labels", {}).get(LABEL, cluster.environment)) != cluster.environment:
        raise _other(cluster, owner)


def _refuse_other_environment(cluster: Cluster, before: dict[str, Any] | None) -> None:
    if before and before["environment"] != cluster.environment:
        raise _other(cluster, before["environment"])


def _other(cluster: Cluster, owner: str) -> DeployError:
    return DeployError(
        f"namespace {cluster.namespace} in context {cluster.context} is {owner}, not {cluster.environment}",
        f"correct {CONTEXTS[cluster.environment]}, or `namespace:` in k8s/overlays/{cluster.environment}",
    )


def _rendered(delivery: Delivery, release: Release, since: str) -> list[dict[str, Any]]:
    about = {"name": release.name, "version": release.version, "digest": release.digest, "since": since}
    return manifests.render(delivery.cluster.environment, delivery.settings.name, str(release.image), about)


def _record(cluster: Cluster, release: Release, objects: list[dict[str, Any]], since: str) -> dict[str, Any]:
    return {
        "environment": cluster.environment,
        "name": release.name,
        "version": release.version,
        "digest": release.digest,
        "image": release.image,
        "url": _address(cluster, objects),
        "since": since,
        "bundle": str(release.bundle),
    }


def _address(cluster: Cluster, objects: list[dict[str, Any]]) -> str:
    """Where callers find the service: the host of Ingress or route, else its name inside the cluster."""
    ingress, route = manifests.find(objects, "Ingress"), manifests.find(objects, "HTTPRoute")
    hosts = [rule.get("host") for rule in ingress["spec"]["rules"]] if ingress else []
    hosts += route["spec"].get("hostnames", []) if route else []
    return f"https://{hosts[0]}" if hosts and hosts[0] else f"http://model.{cluster.namespace}"
