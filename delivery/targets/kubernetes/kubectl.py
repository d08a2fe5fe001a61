"""Runs kubectl against one context and one namespace, and turns its failures into messages.

The context is always given: the current context of the machine has no effect.
"""

import contextlib
import json
import os
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from textwrap import shorten
from typing import IO, Any

from pipeline.errors import DeployError

CALL_SECONDS = 15  # for one request to the API server
PAUSES = (2, 4)  # seconds before the second and the third attempt to reach the API server
NOISE = re.compile(r"Warning: |[EIW]\d{4} ")  # lines of output that are not the cause of a failure
MANAGER = "slipway"  # field manager of everything we apply


@dataclass(frozen=True)
class Cluster:
    """An environment's place: a context of the kubeconfig, and a namespace."""

    environment: str
    context: str
    namespace: str


class KubectlError(DeployError):
    """A call failed; `reason` is Unreachable, Unauthorized, or Kubernetes' own: Forbidden, NotFound …"""

    def __init__(self, what: str, then: str, reason: str):
        super().__init__(what, then)
        self.reason = reason


def contexts() -> list[str]:
    """The contexts of the kubeconfig, by name."""
    done = _call(["kubectl", "config", "get-contexts", "--output=name"])
    if done.returncode:
        raise DeployError(
            f"the kubeconfig cannot be read: {shorten(' '.join(done.stderr.split()), 400)}",
            "`kubectl config view` says the same; correct that file, or point KUBECONFIG to another",
        )
    return done.stdout.split()


def run(cluster: Cluster, *arguments: str, stdin: str = "", patient: bool = True) -> str:
    """Run kubectl and return its output; raises KubectlError. With `patient`, an unreachable cluster is retried."""
    where = [f"--context={cluster.context}", f"--namespace={cluster.namespace}", f"--request-timeout={CALL_SECONDS}s"]
    for pause in (*(PAUSES if patient else ()), None):
        done = _call(["kubectl", *where, *arguments], stdin)
        if done.returncode == 0:
            return done.stdout
        error = in_words(done.stderr, cluster)
        if error.reason != "Unreachable" or pause is None:
            raise error
        time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _call(command: list[str], stdin: str = "") -> subprocess.CompletedProcess:
    # A separate session: Ctrl-C reaches us alone, and we decide what happens to a call in progress.
    try:
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="replace",  # a pod may log arbitrary bytes
            timeout=4 * CALL_SECONDS,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise DeployError(
            "kubectl is not on this machine", "install it: https://kubernetes.io/docs/tasks/tools"
        ) from None
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"Unable to connect: no answer in {4 * CALL_SECONDS} s")


def in_words(stderr: str, cluster: Cluster) -> KubectlError:
    """kubectl's standard error as an error with advice."""
    lines = dict.fromkeys(line.strip() for line in stderr.splitlines() if line.strip() and not NOISE.match(line))
    said = shorten(" ".join(lines), 400) or "kubectl failed without a message"
    by_hand = f"try by hand: `kubectl --context {cluster.context} --namespace {cluster.namespace} get pods`"
    for reason, marks, then in _KINDS:
        if any(mark in said for mark in marks):
            shown = said.partition(f"({reason}): ")[2] or said
            lead = _LEADS.get(reason, "")
            return KubectlError(f"{lead.format(**vars(cluster))}{shown}", then or by_hand, reason)
    return KubectlError(f"kubectl: {said}", by_hand, "Unknown")


_LEADS = {
    "Unreachable": "the cluster of context {context} cannot be reached: ",
    "Unauthorized": "context {context} is not logged in: ",
    "Forbidden": "no permission in context {context}: ",
    "BadRequest": "a manifest is not valid: ",
    "Invalid": "a manifest is not valid: ",
}
_KINDS = (
    (
        "Unauthorized",
        ("Unauthorized", "must be logged in", "provide credentials", "getting credentials"),
        "log in to the cluster again, as its provider says",
    ),
    (
        "Forbidden",
        ("(Forbidden)", "is forbidden"),
        "docs/kubernetes.md lists what the deploying account must be permitted",
    ),
    ("AlreadyExists", ("(AlreadyExists)",), ""),
    ("Conflict", ("(Conflict)",), "run this again"),
    ("NotFound", ("(NotFound)",), ""),
    ("Invalid", ("(Invalid)", " is invalid: "), "correct it in k8s/"),
    (
        "BadRequest",
        ("strict decoding error", "unknown field", "field not declared", "no matches for kind", "(BadRequest)"),
        "correct it in k8s/; a kind that is not known needs its operator in the cluster, or its component switched off",
    ),
    (
        "Unreachable",
        (
            *("Unable to connect", "was refused", "connection refused", "i/o timeout", "no such host", "timed out"),
            *("deadline exceeded", "TLS handshake", "x509:", "EOF", "network is unreachable", "ServiceUnavailable"),
            *("connection reset", "request canceled", "no route to host"),
        ),
        "",
    ),
)


def find(cluster: Cluster, *names: str, patient: bool = True) -> dict[str, dict[str, Any]]:
    """The existing ones of these objects, e.g. find(cluster, "deployment/model"), by the name they were asked for."""
    said = run(cluster, "get", *names, "--output=json", "--ignore-not-found", patient=patient)
    return {f"{found['kind'].lower()}/{found['metadata']['name']}": found for found in _items(said)}


def listed(cluster: Cluster, kinds: str, selector: str = "") -> list[dict[str, Any]]:
    """All objects of these kinds in the namespace, with these labels."""
    return _items(run(cluster, "get", kinds, "--output=json", *([f"--selector={selector}"] if selector else [])))


def _items(said: str) -> list[dict[str, Any]]:
    value = json.loads(said) if said.strip() else {"items": []}
    return value.get("items", [value])


def apply(cluster: Cluster, objects: Iterable[dict[str, Any]]) -> None:
    """Apply these objects; fields that we applied before and that none of them has are removed."""
    found = list(objects)
    if found:
        how = ("--server-side", f"--field-manager={MANAGER}", "--force-conflicts", "--filename=-")
        run(cluster, "apply", *how, stdin=documents(found))


def delete(cluster: Cluster, objects: Iterable[dict[str, Any]]) -> None:
    """Delete these objects if they exist; dependents are garbage-collected."""
    found = list(objects)
    if found:
        run(cluster, "delete", "--ignore-not-found", "--wait=false", "--filename=-", stdin=documents(found))


def merge(cluster: Cluster, name: str, change: dict[str, Any]) -> None:
    """Change some fields of one object, e.g. merge(cluster, "hpa/model", {"spec": {"minReplicas": 2}})."""
    run(cluster, "patch", name, "--type=merge", f"--patch={json.dumps(change)}")


def documents(objects: Iterable[dict[str, Any]]) -> str:
    """Objects as the input of kubectl: a stream of documents."""
    return "\n".join(json.dumps(item) for item in objects)


@contextlib.contextmanager
def proxy(cluster: Cluster) -> Iterator[str]:
    """Run `kubectl proxy` to our pods and Service; yields its URL, and always stops it.

    Any user of this machine can connect to it, so it allows nothing else of the deploying account's rights.
    """
    # The shell's `read` stops kubectl when our end of the pipe closes, which happens even if we are killed.
    shut = 'exec 3<&0; (read -r _ <&3; kill $$) >/dev/null 2>&1 & exec "$@" 3<&- </dev/null'
    ways = f"^/api/v1/namespaces/{re.escape(cluster.namespace)}/(pods|services)/[a-z0-9.-]+:[0-9]+/proxy/"
    where = ("--port=0", "--address=127.0.0.1", f"--accept-paths={ways}", r"--reject-paths=/\.\.(/|$)")
    command = ["kubectl", f"--context={cluster.context}", "proxy", *where]
    # Errors go to a file: nobody reads them meanwhile, and a full pipe would block kubectl.
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            ["sh", "-c", shut, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            start_new_session=True,
        ) as child,
    ):
        try:
            yield f"http://127.0.0.1:{_port(child, cluster, complaints)}"
        finally:
            child.terminate()


def _port(child: subprocess.Popen, cluster: Cluster, complaints: IO[str]) -> str:
    """The port that kubectl proxy chose: the end of its first line."""
    assert child.stdout is not None
    line = child.stdout.readline() if select.select([child.stdout], [], [], CALL_SECONDS)[0] else ""
    if "Starting to serve on" not in line:
        complaints.seek(0)
        raise in_words(line + complaints.read(), cluster)
    return line.strip().rpartition(":")[2]


def who() -> str:
    """This run, described for those who wait for it."""
    return f"{os.environ.get('GITHUB_ACTOR') or os.environ.get('USER') or 'somebody'} on {os.uname().nodename}"
