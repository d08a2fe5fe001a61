"""Rules for pods beyond being valid: each takes all objects of an environment and returns the breaches."""

import re
from collections.abc import Iterator

from manifest_objects import containers, of, pods, selects, servers

from delivery.targets.kubernetes.manifests import BY_DIGEST
from serving.runtime.workers import END

ENDPOINTS = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}


def image_is_named_by_digest(objects: list[dict]) -> Iterator[str]:
    """A tag can be moved to another image; a digest cannot."""
    for name, container in containers(objects):
        if not BY_DIGEST.fullmatch(container["image"]):
            yield f"{name}: {container['image']} has no digest"


def nobody_runs_as_root(objects: list[dict]) -> Iterator[str]:
    """The image's numeric user, which Kubernetes can check without looking inside."""
    for name, _, spec in pods(objects):
        context = spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or context.get("runAsUser") != 10001:
            yield f"{name}: may run as another user than 10001"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: system calls are not filtered"
    for name, container in containers(objects):
        if {"runAsUser", "runAsNonRoot"} & set(container.get("securityContext", {})):
            yield f"{name}: a container overrides the pod's user"


def containers_have_no_privileges(objects: list[dict]) -> Iterator[str]:
    """The requirements of Kubernetes' profile "restricted", and a read-only root file system."""
    wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    for name, container in containers(objects):
        context = container.get("securityContext", {})
        yield from (f"{name}: {key} is not {value}" for key, value in wanted.items() if context.get(key) != value)
        if context.get("privileged"):
            yield f"{name}: is privileged"
    for name, _, spec in pods(objects):
        if any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name}: shares something with its node"
        yield from (f"{name}: mounts a path of its node" for volume in spec.get("volumes", []) if "hostPath" in volume)


def pods_get_no_token(objects: list[dict]) -> Iterator[str]:
    """The service never uses the Kubernetes API, so an attacker inside it must not be able to."""
    known = {item["metadata"]["name"]: item for item in of(objects, "ServiceAccount")}
    for name, _, spec in pods(objects):
        if spec.get("automountServiceAccountToken") is not False or spec.get("enableServiceLinks") is not False:
            yield f"{name}: gets a token or the addresses of others"
        if known.get(spec.get("serviceAccountName"), {}).get("automountServiceAccountToken") is not False:
            yield f"{name}: has no account of its own without a token"


def probes_ask_the_right_endpoint(objects: list[dict]) -> Iterator[str]:
    """Readiness depends on the model, liveness on the process alone: a model that is not ready is no reason to restart."""
    for name, container in ((name, one) for name, _, spec in servers(objects) for one in spec["containers"]):
        for probe, path in ENDPOINTS.items():
            if container.get(probe, {}).get("httpGet") != {"path": path, "port": "http"}:
                yield f"{name}: {probe} does not ask {path}"


def requests_and_limits_are_set(objects: list[dict]) -> Iterator[str]:
    """Without a request the autoscaler has no measure; without a limit one pod can starve its node."""
    for name, container in containers(objects):
        for kind in ("requests", "limits"):
            missing = {"cpu", "memory"} - set(container.get("resources", {}).get(kind, {}))
            if missing:
                yield f"{name}: no {kind} of {', '.join(sorted(missing))}"


def pods_spread_out(objects: list[dict]) -> Iterator[str]:
    """Over hosts and zones, counting pods of their own kind; a preference, so that one node suffices."""
    for name, labels, spec in servers(objects):
        spread = {rule["topologyKey"]: rule for rule in spec.get("topologySpreadConstraints", [])}
        if set(spread) != {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}:
            yield f"{name}: not spread over hosts and zones"
        for rule in spread.values():
            if not selects(rule["labelSelector"], labels) or rule["whenUnsatisfiable"] != "ScheduleAnyway":
                yield f"{name}: {rule['topologyKey']} does not count its own pods, or keeps them from starting"


def stopping_leaves_time_for_open_requests(objects: list[dict]) -> Iterator[str]:
    """The preStop sleep and the service's own shutdown both fit into the grace period."""
    for name, _, spec in servers(objects):
        sleeps = [
            container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            for container in spec["containers"]
        ]
        if not all(sleeps):
            yield f"{name}: stops before its callers know"
        if spec.get("terminationGracePeriodSeconds", 30) <= max(sleeps) + END:
            yield f"{name}: is killed with requests open"


def jobs_end(objects: list[dict]) -> Iterator[str]:
    """A job ends in time and never runs beside itself, and what ended is removed."""
    for item in of(objects, "CronJob"):
        spec, job = item["spec"], item["spec"]["jobTemplate"]["spec"]
        limits = [spec.get(f"{kind}JobsHistoryLimit", 10) for kind in ("successful", "failed")]
        if spec.get("concurrencyPolicy") != "Forbid" or not spec.get("startingDeadlineSeconds"):
            yield f"{item['metadata']['name']}: may run beside itself, or long after its time"
        if not job.get("activeDeadlineSeconds") or job.get("backoffLimit", 6) > 2:
            yield f"{item['metadata']['name']}: goes on for ever"
        if max(limits) > 3 or not job.get("ttlSecondsAfterFinished"):
            yield f"{item['metadata']['name']}: leaves its pods"


SECRET = re.compile(r"(password|passwd|token|secret|key|credential|url|dsn)$", re.I)


def no_secret_stands_in_a_manifest(objects: list[dict]) -> Iterator[str]:
    """Secrets come from the cluster, by name."""
    yield from (f"Secret {item['metadata']['name']}: is in the manifests" for item in of(objects, "Secret"))
    for name, container in containers(objects):
        for variable in container.get("env", []):
            value = variable.get("value", "")
            if value and (SECRET.search(variable["name"]) or re.search(r"://[^/\s]*@", value)):
                yield f"{name}: {variable['name']} holds its value"
