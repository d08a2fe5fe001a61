"""Proof that an image was made and attested by this repository, with GitHub's attestations."""

import base64
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from delivery.images import docker_engine, image_registry, recipe
from pipeline import container_registry
from pipeline.artifacts import write_text
from pipeline.ci import repository_settings
from pipeline.errors import ImageError
from pipeline.registry.model_version import ModelVersion
from pipeline.settings import Settings

SIGNER = ".github/workflows/image.yml"
GH_SECONDS = 120
HUB = "https://index.docker.io/v1/"  # what log-ins of Docker Hub are filed under


def verify(settings: Settings, version: ModelVersion) -> str:
    """The image of a version, once it is proven; raises ImageError when anything is other than it should be."""
    name = named(settings, version)
    labelled(version, pulled(name))
    print(f"version {version.number} is {name}, and its labels agree with MLflow")
    if repository_settings.switch(os.environ, "SLIPWAY_ATTESTED") == "true":
        attested(name)
        print(f"GitHub attests that {SIGNER} of {os.environ['GITHUB_REPOSITORY']} made it")
    else:
        print("its attestation is not verified: this repository has none (`make plan` says why)")
    return name


def named(settings: Settings, version: ModelVersion) -> str:
    """What MLflow calls the image of a version: in this repository, by digest."""
    repository, _ = container_registry.repository(settings.name)
    name = version.image
    if not name:
        raise ImageError(
            f"version {version.number} has no image in MLflow", f"`make image VERSION={version.number}` makes one"
        )
    if not re.fullmatch(re.escape(repository) + "@sha256:[0-9a-f]{64}", name):
        raise ImageError(
            f"the image of version {version.number} is {name}, which is not a digest in {repository}",
            f"if IMAGE_REPOSITORY is right, `make image VERSION={version.number}` puts one there",
        )
    return name


def pulled(name: str):
    """The image as the registry has it now; an engine checks what it pulls by digest against that digest."""
    docker, auth = docker_engine.connect(), container_registry.login()
    if not image_registry.has(docker, name, auth):
        raise ImageError(
            f"{container_registry.host(name)} has no {name}, or this user may not see it",
            "`make image VERSION=n` builds and pushes a version again",
        )
    with docker_engine.in_words(lambda text: ImageError(f"{name} cannot be pulled: {text}", "run this again")):
        return docker.images.pull(name, auth_config=auth)


def labelled(version: ModelVersion, image) -> None:
    """Refuse an image whose labels name another version than MLflow."""
    says = image.labels
    for label, expected in recipe.identity(version).items():
        if says.get(label) != expected:
            raise ImageError(
                f"the image of version {version.number} is another's: its label {label} is "
                f"{says.get(label, 'missing')}, MLflow says {expected}",
                "somebody has changed the tag `image` in MLflow; "
                f"remove it, and `make image VERSION={version.number}` finds or builds the right one",
            )


def attested(name: str) -> None:
    """Refuse an image that GitHub does not attest to be this repository's own workflow's."""
    repository = os.environ.get("GITHUB_REPOSITORY", "")
    server = (os.environ.get("GITHUB_SERVER_URL") or "https://github.com").removeprefix("https://")
    host = "" if server == "github.com" else f"{server}/"
    command = ["gh", "attestation", "verify", f"oci://{name}", "--repo", repository]
    command += ["--signer-workflow", f"{host}{repository}/{SIGNER}"]
    with logged_in(name) as log_in:
        status, said = ran(command, os.environ | {"GH_HOST": server} | log_in)
    if status:
        raise ImageError(
            f"{name} is not attested to be made by {SIGNER} of {repository or 'this repository'}: {said}",
            "deploy what that workflow made: run the delivery again. `gh` needs GH_TOKEN and `attestations: read`. An image "
            "from before this repository attested: set the variable SLIPWAY_ATTEST to false until it is replaced",
        )


def ran(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """The exit status of a program and its words on one line."""
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=GH_SECONDS
        )
    except FileNotFoundError:
        return 1, "GitHub's command line `gh` is not on this machine"
    except subprocess.TimeoutExpired:
        return 1, f"`gh` did not answer within {GH_SECONDS} s"
    return done.returncode, " ".join((done.stderr or done.stdout).split())[:500] or f"`gh` ended with {done.returncode}"


@contextmanager
def logged_in(name: str) -> Iterator[dict[str, str]]:
    """Variables with which `gh` may read the image's registry: our log-in, in a configuration that goes again."""
    auth = container_registry.login()
    if not auth:
        yield {}
        return
    host = container_registry.host(name)
    secret = base64.b64encode(f"{auth['username']}:{auth['password']}".encode()).decode()
    with tempfile.TemporaryDirectory(prefix="slipway-login-") as folder:
        config = {"auths": {HUB if host == "Docker Hub" else host: {"auth": secret}}}
        write_text(Path(folder) / "config.json", json.dumps(config), mode=0o600)
        yield {"DOCKER_CONFIG": folder}
