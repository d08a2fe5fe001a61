"""A model tried in the image that it will be deployed in, before it is registered.

What answers on the machine that trained may fail in an image, which has other system libraries, locales and another Python.
So where releases run in images, the image is built with everything but the version's number, and the service asks its model the
golden rows there, locked in as in production. The layers stay with the builder: `make image` then adds the number.
"""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from delivery.images import docker_engine, recipe
from pipeline import processes
from pipeline.artifacts import ROOT
from pipeline.errors import ImageError, PortabilityError
from pipeline.formats import bundle
from pipeline.settings import Settings

SECONDS = 600  # that the service may take to load the model and to answer the golden rows
WAIT_SECONDS = 900  # for another build on this machine
LOCKED = {
    "network_mode": "none",
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "read_only": True,
    "tmpfs": {"/tmp": "size=64m"},
}
COMMAND = ["python", "-m", "serving.model.golden", "--bundle", "/app/bundle"]


def before_registration(settings: Settings, content: Path, digest: str) -> str:
    """Try the content of a bundle in an image; what was found, in words, "" where releases run on this machine itself.

    Raises PortabilityError with the service's own words when it does not answer as expected in there.
    """
    if settings.deploy.target == "process":
        return ""
    try:
        docker = docker_engine.connect()
    except ImageError:
        return _without_engine(content)
    with tempfile.TemporaryDirectory() as work, processes.lock("image", "trial of an image", WAIT_SECONDS):
        folder = Path(work) / "bundle"
        unnumbered = {"name": settings.name, "version": "0", "run_id": "", "commit": "", "digest": digest}
        bundle.assemble(content, folder, unnumbered)
        name = f"slipway/trial:{digest[:12]}"
        print(f"trying the model in an image on {recipe.base()}", flush=True)
        docker_engine.get_base(docker, recipe.base())
        docker_engine.build(docker, recipe.context(ROOT, folder), name, {}, 0, recipe.requirements(folder))
        try:
            return _answered(docker, name)
        finally:
            with docker_engine.in_words(ImageError):
                docker.images.remove(name, force=True, noprune=True)


def _answered(docker: Any, name: str) -> str:
    """What the service said in a container of the image."""
    with docker_engine.in_words(lambda text: ImageError(f"the trial of the image failed: {text}", "run this again")):
        container = docker.containers.create(name, COMMAND[1:], entrypoint=COMMAND[:1], **LOCKED)
        try:
            container.start()
            status = _status(container)
            said = container.logs(stdout=status == 0, stderr=status != 0).decode(errors="replace")
        finally:
            container.remove(force=True)
    last = (said.strip().splitlines() or [f"it ended with status {status}"])[-1].removeprefix("error: ")
    if status:
        raise PortabilityError(
            f"the image of the service cannot run this model: {last}",
            f"it has what {recipe.base()} and the requirements of serving/Dockerfile bring; nothing was registered",
        )
    return f"in an image on {recipe.base()}, {last}"


def _status(container: Any) -> int:
    """The exit status of a container, once it has ended."""
    from requests import RequestException

    try:
        return container.wait(timeout=SECONDS)["StatusCode"]
    except RequestException as error:
        if "timed out" not in str(error):
            raise
        raise PortabilityError(
            f"the image of the service did not answer the golden rows within {SECONDS} s", "nothing was registered"
        ) from error


def _without_engine(content: Path) -> str:
    """What the trial on this machine does not say about an image, in words; "" where that is nothing."""
    found = re.search(r"python:(\d+\.\d+)", recipe.base())
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if (content / "model.onnx").exists() or not found or found[1] == here:
        return ""
    return f"note: the model was tried with Python {here}, and {recipe.base()} has {found[1]}: no Docker engine answers here"
