"""The container of a pod: pull, start, probe, restart, stop."""

import asyncio
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster_environment import Missing, environment, mounts
from cluster_events import tell
from cluster_images import Image
from cluster_probes import probe
from cluster_resources import PODS
from cluster_store import Object, now

ROOT = Path(__file__).resolve().parents[4]
SERVICE = Path(__file__).with_name("cluster_service.py")
BACK_OFF = 10.0  # seconds until the first restart; doubled each time
LONGEST = 300.0


class Container:
    """The process of one pod, through all its restarts."""

    def __init__(self, node, pod: Object):
        self.node = node
        self.pod = pod
        self.spec = pod["spec"]["containers"][0]
        self.address: str | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._folder = node.folder / "pods" / pod["metadata"]["uid"]
        self._mounts = self._folder / "mounts"
        self._restarts = 0
        self._last: Object = {}
        self._ending = False
        self._probing: asyncio.Task | None = None

    def log(self, previous: bool) -> Path | None:
        """The process' log file, or that of the run before."""
        number = self._restarts - (1 if previous else 0)
        file = self._folder / f"{number}.log"
        return file if file.exists() else self.log_before(number) if not previous else None

    def log_before(self, number: int) -> Path | None:
        """While it waits for its restart: the log of the run that ended."""
        file = self._folder / f"{number - 1}.log"
        return file if file.exists() else None

    async def live(self) -> None:
        """Run until cancelled: a process that exits is restarted."""
        self._report({"waiting": {"reason": "ContainerCreating"}})
        image = await self._pull()
        while True:
            given = await self._environment()
            started = time.monotonic()
            await self._start(image, given)
            code = await self._watch_process()
            self._terminated(code)
            if self._ending:
                return
            self._restarts += 1
            await self._back_off(time.monotonic() - started)

    async def _pull(self) -> Image:
        """The image, once it can be pulled."""
        name, wait = self.spec["image"], BACK_OFF
        self.tell("Pulling", f'Pulling image "{name}"')
        while (image := self.node.images.pull(name)) is None:
            resolve = (
                f'failed to pull and unpack image "{name}": failed to resolve reference "{name}": {name}: not found'
            )
            self.tell("Failed", f'Failed to pull image "{name}": rpc error: code = NotFound desc = {resolve}', True)
            self.tell("Failed", "Error: ErrImagePull", True)
            self._report({"waiting": {"reason": "ErrImagePull", "message": resolve}})
            await asyncio.sleep(self.node.seconds(wait) / 2)
            self.tell("BackOff", f'Back-off pulling image "{name}"')
            self.tell("Failed", "Error: ImagePullBackOff", True)
            self._report({"waiting": {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{name}"'}})
            await asyncio.sleep(self.node.seconds(wait) / 2)
            wait = min(wait * 2, LONGEST)
        self.tell("Pulled", f'Successfully pulled image "{name}"')
        return image

    async def _start(self, image: Image, given: dict[str, str]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        port = self.node.free_port()
        with (self._folder / f"{self._restarts}.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                os.environ.get("SLIPWAY_TEST_PYTHON", sys.executable), str(SERVICE), image.fault, "--bundle", image.bundle, "--port", str(port),
                cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ) | given | {"PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        self.address = f"127.0.0.1:{port}"
        name = self.spec["name"]
        self.tell("Created", f"Created container: {name}")
        self.tell("Started", f"Started container {name}")
        self._report({"running": {"startedAt": now()}})

    async def _environment(self) -> dict[str, str]:
        """The container's variables, once all their sources exist; mount paths are those of this machine."""
        while True:
            try:
                there = mounts(self.node.store, self.pod, self._mounts)
                break
            except Missing as error:
                self.tell("FailedMount", str(error), True)
                await asyncio.sleep(self.node.seconds(BACK_OFF))
        while True:
            try:
                found = environment(self.node.store, self.pod)
                return {name: _replaced(value, there) for name, value in found.items()}
            except Missing as error:
                self.tell("Failed", f"Error: {error}", True)
                self._report({"waiting": {"reason": "CreateContainerConfigError", "message": str(error)}})
                await asyncio.sleep(self.node.seconds(BACK_OFF))

    async def _watch_process(self) -> int:
        """Probe the process until it exits; return its exit code."""
        assert self._process
        self._probing = asyncio.create_task(self._probes())
        try:
            return await self._process.wait()
        finally:
            self._probing.cancel()
            self.address = None

    async def _probes(self) -> None:
        if "startupProbe" in self.spec:
            await self._until("startupProbe", "Startup", wanted=True)
        self._report({"running": {"startedAt": now()}}, started=True)
        if "livenessProbe" in self.spec:
            liveness = asyncio.create_task(self._until("livenessProbe", "Liveness", wanted=False))
            try:
                await self._readiness()
            finally:
                liveness.cancel()
        else:
            await self._readiness()

    async def _until(self, which: str, name: str, wanted: bool) -> None:
        """Probe until it succeeds (`wanted`) or forever; kill the process when it fails too often in a row."""
        settings, failed = self.spec[which], 0
        await asyncio.sleep(self.node.seconds(settings.get("initialDelaySeconds", 0)))
        speed = self.node.speed if wanted else 1.0  # at the start it is probed more often, but with the same total time
        while failed < settings["failureThreshold"] * speed:
            said = await probe(self.address, settings)
            if said is None and wanted:
                return
            failed = 0 if said is None else failed + 1
            if said and failed % speed < 1:
                self.tell("Unhealthy", f"{name} probe failed: {said}", True)
            await asyncio.sleep(settings["periodSeconds"] / speed)
        self.tell("Killing", f"Container {self.spec['name']} failed {name.lower()} probe, will be restarted")
        self._signal(signal.SIGKILL)

    async def _readiness(self) -> None:
        settings = self.spec.get("readinessProbe")
        if settings is None:
            self._ready(True)
            return
        good = bad = 0
        await asyncio.sleep(self.node.seconds(settings.get("initialDelaySeconds", 0)))
        while True:
            said = await probe(self.address, settings)
            good, bad = (good + 1, 0) if said is None else (0, bad + 1)
            if said:
                self.tell("Unhealthy", f"Readiness probe failed: {said}", True)
            if good >= settings["successThreshold"]:
                self._ready(True)
            elif bad >= settings["failureThreshold"]:
                self._ready(False)
            with suppress(Missing):  # a deleted Secret stays mounted in running pods
                mounts(self.node.store, self.pod, self._mounts)
            await asyncio.sleep(self.node.seconds(settings["periodSeconds"]))

    async def _back_off(self, lived: float) -> None:
        wait = min(BACK_OFF * 2 ** (self._restarts - 1), LONGEST)
        name, pod = self.spec["name"], self.pod["metadata"]["name"]
        said = f"back-off {int(wait)}s restarting failed container={name} pod={pod}"
        self._report({"waiting": {"reason": "CrashLoopBackOff", "message": said}})
        self.tell("BackOff", f"Back-off restarting failed container {name} in pod {pod}", True)
        await asyncio.sleep(max(0.0, self.node.seconds(wait) - lived / 10))

    async def end(self) -> None:
        """Stop the process: preStop, SIGTERM, and SIGKILL after the grace period."""
        self._ending = True
        meta = self.pod["metadata"]
        found = self.node.store.peek(PODS, meta["namespace"], meta["name"]) or self.pod
        grace = self.node.seconds(found["metadata"].get("deletionGracePeriodSeconds", 30))
        self.tell("Killing", f"Stopping container {self.spec['name']}")
        ends = time.monotonic() + grace
        sleep = self.spec.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        await asyncio.sleep(min(self.node.seconds(sleep), grace))
        if self._probing:
            self._probing.cancel()  # a stopping pod gets no more readiness probes
        self._signal(signal.SIGTERM)
        while self._running() and time.monotonic() < ends:
            await asyncio.sleep(0.02)
        self.kill()

    def kill(self) -> None:
        """Kill the process."""
        self._signal(signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def _signal(self, number: int) -> None:
        if self._running():
            assert self._process
            self._process.send_signal(number)

    def tell(self, reason: str, message: str, warning: bool = False) -> None:
        """Record an event about this pod."""
        tell(self.node.store, self.pod, reason, message, warning)

    def _terminated(self, code: int) -> None:
        reason = "Completed" if code == 0 else "Error"
        self._last = {
            "terminated": {"exitCode": code if code >= 0 else 128 - code, "reason": reason, "finishedAt": now()}
        }
        self._report(self._last)

    def _ready(self, ready: bool) -> None:
        self._report({"running": {"startedAt": now()}}, started=True, ready=ready)

    def _report(self, state: dict[str, Any], started: bool = False, ready: bool = False) -> None:
        self.node.report(self.pod, self._status(state, started, ready))

    def _status(self, state: dict[str, Any], started: bool, ready: bool) -> Object:
        image = self.spec["image"]
        status = {"name": self.spec["name"], "image": image, "imageID": image, "state": state, "ready": ready}
        status |= {"lastState": self._last if "terminated" not in state else {}}
        return status | {"restartCount": self._restarts, "started": started}


def _replaced(value: str, mounted: dict[str, str]) -> str:
    """A path below a mount, as it is on this machine."""
    for path, there in mounted.items():
        if value.startswith(f"{path}/"):
            return there + value.removeprefix(path)
    return value
