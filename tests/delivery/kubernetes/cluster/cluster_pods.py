"""The node: every pod is a real process that serves a bundle, with HTTP probes, restart back-off and graceful termination.

One container per pod. Seconds of the pod's specification pass `speed` times faster, with two exceptions, so that a busy
machine fails no pod: the time to start, and the interval of liveness probes.
"""

import asyncio
import secrets
import socket
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from cluster_ask import Ask
from cluster_container import Container
from cluster_events import tell
from cluster_images import Images
from cluster_resources import PODS
from cluster_status import bad_request
from cluster_store import Object, Store, now
from starlette.responses import Response

NODE = "node-1"


class Node:
    """Runs the pods of the store."""

    def __init__(self, store: Store, folder: Path, speed: float):
        self.store = store
        self.images = Images(folder / "catalogue")
        self.speed = speed
        self.folder = folder
        self.ready_since: dict[str, float] = {}
        self._containers: dict[str, Container] = {}
        self._tasks: dict[str, asyncio.Task] = {}
        self._number: Counter[str] = Counter()

    def seconds(self, given: float) -> float:
        """The duration of a specification's seconds here."""
        return given / self.speed

    def look(self) -> None:
        """Start new pods."""
        for pod in self.store.all(PODS):
            uid = pod["metadata"]["uid"]
            if uid not in self._tasks:
                self._tasks[uid] = asyncio.create_task(self._run(pod))

    async def stop(self) -> None:
        """Kill all processes."""
        for task in self._tasks.values():
            task.cancel()
        for container in self._containers.values():
            container.kill()

    async def _run(self, pod: Object) -> None:
        meta = pod["metadata"]
        self._number["pods"] += 1
        self._schedule(pod, f"10.244.0.{self._number['pods']}")
        container = self._containers[meta["uid"]] = Container(self, pod)
        life = asyncio.create_task(container.live())
        try:
            await self._until_deleted(meta)
            await container.end()
        finally:
            life.cancel()
            container.kill()
            self.ready_since.pop(meta["uid"], None)
        if self._mine(meta):
            self.store.remove(PODS, meta["namespace"], meta["name"])

    def _mine(self, meta: Object) -> Object | None:
        """The current state of the pod; None when it is gone or another one has its name."""
        found = self.store.peek(PODS, meta["namespace"], meta["name"])
        return found if found and found["metadata"]["uid"] == meta["uid"] else None

    async def _until_deleted(self, meta: Object) -> None:
        while (found := self._mine(meta)) and "deletionTimestamp" not in found["metadata"]:
            await asyncio.sleep(0.05)

    def _schedule(self, pod: Object, address: str) -> None:
        meta = pod["metadata"]

        def write(value: Object) -> None:
            value["spec"]["nodeName"] = NODE
            value["status"] |= {"podIP": address, "hostIP": "10.0.0.1", "startTime": now()}
            set_condition(value, "PodScheduled", True)

        self.store.change(PODS, meta["namespace"], meta["name"], write)
        placed = f"Successfully assigned {meta['namespace']}/{meta['name']} to {NODE}"
        tell(self.store, pod, "Scheduled", placed, source="default-scheduler")

    def free_port(self) -> int:
        """A free port below the ephemeral ports, which outgoing connections could take before the pod listens."""
        for port in secrets.SystemRandom().sample(range(20_000, 32_768), 100):
            with socket.socket() as probe, suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
        raise OSError("none of a hundred ports is free")

    def report(self, pod: Object, status: Object) -> None:
        """Write a container's status, and the resulting status of its pod."""
        meta = pod["metadata"]
        if not self._mine(meta):
            return
        if not status["ready"]:
            self.ready_since.pop(meta["uid"], None)
        else:
            self.ready_since.setdefault(meta["uid"], time.monotonic())

        def write(value: Object) -> None:
            running = value["status"].get("containerStatuses", [{}])[0].get("state", {}).get("running")
            if running and "running" in status["state"]:
                status["state"]["running"] = running
            value["status"] |= {"containerStatuses": [status], "phase": _phase(status)}
            reason = "" if status["ready"] else "ContainersNotReady"
            message = "" if status["ready"] else f"containers with unready status: [{status['name']}]"
            for kind in ("ContainersReady", "Ready"):
                set_condition(value, kind, status["ready"], reason, message)
            set_condition(value, "Initialized", True)

        self.store.change(PODS, meta["namespace"], meta["name"], write)

    def address(self, pod: Object, port: str) -> str | None:
        """Where the process behind a pod's port (a number or a name) listens; None when there is none."""
        container = self._containers.get(pod["metadata"]["uid"])
        ports = pod["spec"]["containers"][0].get("ports", [])
        known = any(port in (str(one["containerPort"]), one.get("name")) for one in ports)
        return container.address if container and known else None

    def logs(self, ask: Ask) -> Response:
        """The log of a pod's process."""
        pod = self.store.get(PODS, ask.namespace, ask.name)
        container = self._containers.get(pod["metadata"]["uid"])
        previous = ask.query.get("previous") == "true"
        file = container.log(previous) if container else None
        if file is None:
            name = pod["spec"]["containers"][0]["name"]
            about = "previous terminated container" if previous else "container"
            waiting = pod["status"].get("containerStatuses", [{}])[0].get("state", {}).get("waiting", {})
            reason = "not found" if previous else f"is waiting to start: {waiting.get('reason', 'ContainerCreating')}"
            raise bad_request(f'{about} "{name}" in pod "{ask.name}" {reason}')
        lines = file.read_bytes().splitlines(keepends=True)
        tail = ask.query.get("tailLines")
        return Response(
            b"".join(lines[-int(tail) :] if tail and int(tail) else [] if tail else lines), media_type="text/plain"
        )


def set_condition(value: Object, kind: str, true: bool, reason: str = "", message: str = "") -> None:
    """Set a condition in an object's status; its time changes only with its value."""
    conditions = value["status"].setdefault("conditions", [])
    old = next((one for one in conditions if one["type"] == kind), None)
    status = "True" if true else "False"
    moved = now() if old is None or old["status"] != status else old["lastTransitionTime"]
    new = {"type": kind, "status": status, "lastTransitionTime": moved}
    new |= {"reason": reason} if reason else {}
    new |= {"message": message} if message else {}
    value["status"]["conditions"] = [one for one in conditions if one is not old] + [new]


def _phase(status: Object) -> str:
    return "Running" if "running" in status["state"] or status["restartCount"] else "Pending"
