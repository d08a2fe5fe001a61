"""A separate image registry (Debian's docker-registry), which can be killed, restarted and given a login."""

import resource
import subprocess
import threading
import time
from pathlib import Path

import requests

from pipeline.processes import free_port
from tests import tools

# For user "tester" and password "right horse"; bcrypt with the minimum of rounds.
HTPASSWD = "tester:$2b$04$v4ejhHf.OvbIkuxiIKQ7CeImSVaR2j3Ywjb9vegSsw5Ms.fXcdXpi\n"


class OwnRegistry:
    """A registry process with its storage in a folder; skips the test if the program is not installed."""

    def __init__(self, folder: Path, login: bool = False):
        tools.require("docker-registry")
        self.program = tools.program("docker-registry")
        self.folder, self.port = folder, free_port()
        self.address = f"127.0.0.1:{self.port}"
        (folder / "htpasswd").write_text(HTPASSWD)
        auth = f"auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}\n" if login else ""
        (folder / "config.yml").write_text(
            f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n{auth}"
            f"storage:\n  filesystem: {{rootdirectory: {folder}/data}}\n  delete: {{enabled: true}}\n"
            f"http: {{addr: '{self.address}'}}\n"
        )
        self.process: subprocess.Popen | None = None
        self.ended = threading.Event()

    def start(self) -> None:
        """Start it, or restart it with its content, and wait until it responds."""
        with (self.folder / "log").open("ab") as log:
            command = [self.program, "serve", str(self.folder / "config.yml")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(200):
            try:
                requests.get(f"http://{self.address}/v2/", timeout=2)
                return
            except requests.ConnectionError:
                time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def kill(self) -> None:
        """Kill it, as in a crash."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def kill_at(self, size: int, back_after: float | None) -> None:
        """Kill it once it stores this many bytes; restart it after a number of seconds, or never.

        Until then no file of it can grow larger than that, so no push of a larger layer ends before it is killed.
        """
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, size))

        def watch():
            while not self.ended.wait(0.01) and self._held() < size:
                pass
            self.kill()
            if back_after is not None and not self.ended.wait(back_after):
                self.start()

        self.watcher = threading.Thread(target=watch, daemon=True)
        self.watcher.start()

    def _held(self) -> int:
        """The number of bytes it stores, or 0 if a file or folder was moved meanwhile."""
        try:
            return sum(path.stat().st_size for path in (self.folder / "data").rglob("data"))
        except FileNotFoundError:
            return 0

    def forget(self, repository: str, digest: str) -> None:
        """Delete an image, like a registry's clean-up policy."""
        requests.delete(f"http://{self.address}/v2/{repository}/manifests/{digest}", timeout=5).raise_for_status()

    def close(self) -> None:
        """Stop it and its watcher."""
        self.ended.set()
        if watcher := getattr(self, "watcher", None):
            watcher.join()
        self.kill()
