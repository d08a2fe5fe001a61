"""Target `kubernetes`: an environment is a namespace in the cluster that its kubeconfig context names.

A release is applied and watched until its pods serve and answer as its bundle says. In production it takes over step by
step (delivery/targets/kubernetes/canary.py). After any failure the previous release is restored. The record is in the
cluster, so that any machine can continue where another was killed: see restore.py.
"""

import os
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any

from delivery import log_command
from delivery.release import CurrentRelease, Release
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
# The team decides what else may run in the namespace; our own pods meet the strictest standard.
LABELS = {"pod-security.kubernetes.io/warn": "restricted"}


def unavailable(settings: Settings) -> str | None:
    """Which variable or program is missing; None when the target is set up. Does not contact the cluster."""
    missing = [name for name in (*CONTEXTS.values(), "IMAGE_REPOSITORY") if not os.environ.get(name)]
    if missing:
        return f"{' and '.join(missing)} not set"
    return None if shutil.which("kubectl") else "kubectl is not installed"


def asked_for() -> bool:
    """Whether somebody has begun to configure this target: then nothing may quietly run elsewhere."""
    return any(os.environ.get(name) for name in CONTEXTS.values())


def serving(environment: str, settings: Settings) -> CurrentRelease | None:
    """The current release; None when nothing is running.

    After a killed run, `note` says so: this is then the release that the next deployment restores first.
    """
    cluster = _cluster(environment, settings)
    found = kubectl.find(cluster, f"configmap/{restore.NAME}", *restore.TRACES, patient=False)
    record, objects = restore.read(found.get(f"configmap/{restore.NAME}"))
    owner = found.get("deployment/model")
    if record and manifests.rolled_out_by_argo(objects):
        owner = kubectl.find(cluster, "rollout/model", patient=False).get("rollout/model")
    if record is None or owner is None or not owner.get("status", {}).get("readyReplicas"):
        return None
    left = restore.leftovers(found, record, objects)
    note = f"a deployment is in progress, or was interrupted and left {', '.join(left)}" if left else ""
    return replace(record, note=note)


def known(environment: str, settings: Settings) -> bool:
    """Whether the namespace has the record of a release, running or not."""
    return restore.remembered(_cluster(environment, settings))[0] is not None


def release(environment: str, release: Release, settings: Settings, at_once: bool = False) -> CurrentRelease:
    """Replace the current release; when that fails, restore it and raise DeployError.

    In production it takes over step by step, except with `at_once`, as for a rollback.
    """
    cluster = _cluster(environment, settings)
    _enter(cluster)
    with lease.held(cluster, kubectl.who()) as still_ours, kubectl.proxy(cluster) as api:
        show = rollout.event_printer(cluster)

        def each_poll() -> None:
            still_ours()
            show()

        return _release(Delivery(cluster, settings, api, each_poll, still_ours), release, at_once)


def _release(delivery: Delivery, release: Release, at_once: bool) -> CurrentRelease:
    """The same, while holding the lease."""
    before, earlier = restore.begin(delivery.cluster)
    _refuse_other_environment(delivery.cluster, before)
    # A rollback does not wait for the release it replaces, which may be the broken one.
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
        served = _served(delivery.cluster, release, objects, since)
        delivery.still_ours()
        restore.remember(delivery.cluster, served, objects)
    except BusyError:
        raise  # another run holds the environment now, and repairs it
    except BaseException as error:  # also KeyboardInterrupt
        raise restore.undo(delivery, before, earlier, objects, error) from error
    return served


def _take_over(delivery: Delivery, release: Release, objects: list[dict[str, Any]], at_once: bool) -> None:
    """Replace the pods, one at a time as each becomes ready."""
    print(f"applying version {release.version} to {delivery.cluster.environment}", flush=True)
    delivery.still_ours()
    kubectl.apply(delivery.cluster, objects)
    restore.all_pods(delivery.cluster)
    rollout.settled(delivery, objects, release, at_once)
    pods.prove_service(delivery, release)
    rollout.remove_canary(delivery)  # left by an aborted run


def _deserves_canary(
    cluster: Cluster, release: Release, objects: list[dict[str, Any]], before: CurrentRelease | None
) -> bool:
    """Whether production has stable pods of another image to compare the release with."""
    if cluster.environment != "production" or before is None or before.image == release.image:
        return False
    return not manifests.rolled_out_by_argo(objects) and any(map(pods.ready, pods.of_track(cluster, "stable")))


@contextmanager
def reach(environment: str, settings: Settings, as_callers: bool = False) -> Iterator[str]:
    """A URL for this machine that leads through the API server to the environment.

    By default to one pod, as `kubectl port-forward`: tests that count their requests must not be spread over many pods.
    With `as_callers` to the Service, as clients: requests that go on while pods are replaced must not stick to one pod.
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
    """Delivery's API key for the environment, "" when there is none; it is read from the cluster."""
    return cluster_keys.ours(_cluster(environment, settings))


def key_in_shell(environment: str, settings: Settings) -> str:
    """How a command line reads that key."""
    return cluster_keys.shown(_cluster(environment, settings))


def on_log(
    environment: str,
    settings: Settings,
    arguments: Sequence[str],
    given: bytes = b"",
    into: IO[bytes] | None = None,
) -> bytes:
    """Run `python -m` with these arguments on the prediction log that SLIPWAY_DATABASE_URL names, and return its output.

    Raises DeployError, with the command to run where no variable names it: the deploying account may not execute commands in pods.
    """
    if database := os.environ.get(log_command.VARIABLE):
        return log_command.run(environment, database, arguments, given, into)
    cluster = _cluster(environment, settings)
    where = f"kubectl --context {cluster.context} --namespace {cluster.namespace}"
    raise DeployError(
        f"the prediction log of {environment} is reached from its pods",
        f"set {log_command.VARIABLE} where its database can be reached, or run "
        f"`{where} exec --stdin deployment/model -- python -m {shlex.join(arguments)}`",
    )


def stop(environment: str) -> bool:
    """False: nothing runs on this machine, and `stop` does not touch a cluster."""
    return False


def _cluster(environment: str, settings: Settings) -> Cluster:
    """The environment's place; raises DeployError when its context is not set, or not in the kubeconfig."""
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
    """Create the namespace if needed; raises DeployError when it belongs to another environment."""
    try:
        found = kubectl.find(cluster, f"namespace/{cluster.namespace}").get(f"namespace/{cluster.namespace}")
    except KubectlError as error:
        if error.reason != "Forbidden":
            raise
        return  # the account is limited to its namespace: the record there also names the environment
    if found is None:
        print(f"making namespace {cluster.namespace}", flush=True)
        about = {"name": cluster.namespace, "labels": {LABEL: cluster.environment, **LABELS}}
        kubectl.apply(cluster, [{"apiVersion": "v1", "kind": "Namespace", "metadata": about}])
    elif (owner := found["metadata"].get("labels", {}).get(LABEL, cluster.environment)) != cluster.environment:
        raise _other(cluster, owner)


def _refuse_other_environment(cluster: Cluster, before: CurrentRelease | None) -> None:
    if before and before.environment != cluster.environment:
        raise _other(cluster, before.environment)


def _other(cluster: Cluster, owner: str) -> DeployError:
    return DeployError(
        f"namespace {cluster.namespace} in context {cluster.context} is {owner}, not {cluster.environment}",
        f"correct {CONTEXTS[cluster.environment]}, or `namespace:` in k8s/overlays/{cluster.environment}",
    )


def _rendered(delivery: Delivery, release: Release, since: str) -> list[dict[str, Any]]:
    about = {"name": release.name, "version": release.version, "digest": release.digest, "since": since}
    if release.experiment:
        about["experiment"] = release.experiment
    return manifests.render(delivery.cluster.environment, delivery.settings.name, str(release.image), about)


def _served(cluster: Cluster, release: Release, objects: list[dict[str, Any]], since: str) -> CurrentRelease:
    return CurrentRelease(
        environment=cluster.environment,
        name=release.name,
        version=release.version,
        digest=release.digest,
        image=release.image,
        url=_address(cluster, objects),
        bundle=release.bundle,
        since=since,
        experiment=release.experiment,
    )


def _address(cluster: Cluster, objects: list[dict[str, Any]]) -> str:
    """The URL for clients: the host of Ingress or route, else the name inside the cluster."""
    ingress, route = manifests.find(objects, "Ingress"), manifests.find(objects, "HTTPRoute")
    hosts = [rule.get("host") for rule in ingress["spec"]["rules"]] if ingress else []
    hosts += route["spec"].get("hostnames", []) if route else []
    return f"https://{hosts[0]}" if hosts and hosts[0] else f"http://model.{cluster.namespace}"
