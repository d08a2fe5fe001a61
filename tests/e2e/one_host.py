"""`make up` in a copy of the template on the real engine, with its own project name and ports."""

import hashlib
import json
import os
import secrets
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from delivery.host.compose import PASSWORDS
from pipeline.processes import free_port
from tests.conftest import Fork, clean_environment

IMAGES = Path(__file__).parent / "images"
PUBLIC = "SLIPWAY_TEST_PUBLIC_IMAGES"  # set it if docker.io is reachable: then the images of compose.yaml are used


@dataclass
class Host:
    """A fork, and what distinguishes its containers from others on this engine."""

    fork: Fork
    name: str = field(default_factory=lambda: f"slipway-test-up-{secrets.token_hex(3)}")
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        ports = {f"SLIPWAY_{service}_PORT": str(free_port()) for service in ("MLFLOW", "PROMETHEUS", "GRAFANA")}
        self.environment = ports | {"SLIPWAY_NETWORK": self.name}
        if not os.environ.get(PUBLIC):
            self.environment |= stand_ins()

    def url(self, service: str) -> str:
        """A service's URL on this machine."""
        return f"http://127.0.0.1:{self.environment[f'SLIPWAY_{service.upper()}_PORT']}"

    def production(self) -> str:
        """Production's URL on this machine."""
        settings = tomllib.loads((self.fork.root / "pipeline.toml").read_text(encoding="utf-8"))
        return f"http://127.0.0.1:{settings['deploy']['production_port']}"

    def up(self, **more: str) -> str:
        """`make up`; returns its output. The first one builds MLflow's image."""
        return self.fork.ok("-m", "scripts.host.up", timeout=900, **self.environment | more)

    def refused(self, **more: str) -> str:
        """A `make up` that must fail with a message; returns the message."""
        return self.fork.refused("-m", "scripts.host.up", **self.environment | more)

    def ship(self) -> str:
        """`make ship` with the target docker and this host's MLflow; returns its output."""
        self.fork.edit("pipeline.toml", 'target = "process" ', 'target = "docker" ')
        return self.fork.ok(
            "-m", "scripts.ship", timeout=600, MLFLOW_TRACKING_URI=self.url("mlflow"), **self.environment
        )

    def down(self) -> str:
        """`make down`; returns its output."""
        return self.fork.ok("-m", "scripts.host.up", "--down", **self.environment)

    def compose(self, *arguments: str) -> str:
        """The output of `docker compose` on the fork's file."""
        command = ["docker", "compose", "--file", str(self.fork.root / "monitoring/compose.yaml"), *arguments]
        # the file requires passwords, even for commands that only query or stop
        environment = clean_environment() | self.environment | dict.fromkeys(PASSWORDS, "-")
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    def run(self, lines: str) -> None:
        """Run a documentation page's commands in the fork, as a person would; each must succeed."""
        environment = clean_environment() | self.environment
        command = ["bash", "-euo", "pipefail", "-c", lines]
        done = subprocess.run(command, cwd=self.fork.root, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def containers(self) -> dict[str, dict]:
        """The engine's description of each container, by service."""
        ids = self.compose("ps", "--all", "--quiet").split()
        said = (
            subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, check=True).stdout
            if ids
            else "[]"
        )
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in json.loads(said)}

    def remove(self) -> None:
        """Remove everything of it from this engine."""
        self.fork.run("-m", "scripts.stop")
        image = self.fork.root / "build/image.json"
        if image.exists():
            subprocess.run(["docker", "rmi", "--force", json.loads(image.read_text())["image"]], capture_output=True)
        self.compose("down", "--volumes", "--timeout", "5")
        images = [f"{self.name}/{service}" for service in ("mlflow", "monitor")]
        subprocess.run(["docker", "rmi", "--force", *images], capture_output=True)
        subprocess.run(["docker", "network", "rm", self.name], capture_output=True)


def _made_of() -> str:
    """A tag that depends on the stand-ins' content: another checkout on this engine may have others."""
    content = b"".join(path.read_bytes() for path in sorted(IMAGES.rglob("*")) if path.is_file())
    return hashlib.sha256(content + os.environ.get("PYTHON_IMAGE", "").encode()).hexdigest()[:12]


def stand_ins() -> dict[str, str]:
    """Stand-ins for the public images, made of Debian's packages; skips if they cannot be built."""
    made = {}
    for name in ("postgres", "prometheus", "grafana"):
        image = f"slipway-test/{name}:{_made_of()}"
        command = ["docker", "build", "--quiet", "--tag", image, "--file", str(IMAGES / f"{name}.Dockerfile")]
        base = os.environ.get("PYTHON_IMAGE")
        command += ["--build-arg", f"PYTHON_IMAGE={base}"] if base else []
        built = subprocess.run([*command, str(IMAGES)], capture_output=True, text=True)
        if built.returncode:
            pytest.skip(
                f"no stand-in for {name} can be built ({built.stderr.strip()[-200:]}); {PUBLIC}=yes uses the real ones"
            )
        made[f"SLIPWAY_{name.upper()}_IMAGE"] = image
    return made
