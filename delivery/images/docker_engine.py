"""The Docker engine: connect, find, build. Whatever goes wrong there becomes an ImageError that says what to do.

An image is built by `docker buildx` where that is, else by the engine's older builder, which Docker means to remove; the
Dockerfile gives the same layers with both.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from delivery.images import recipe
from pipeline.errors import ImageError

SILENCE = 900  # seconds that an engine at work may say nothing: a large layer on a slow line
END = 12  # lines of a build's log that are shown when it fails
NO_SPACE = re.compile("no space left on device", re.I)
STEP = re.compile(r"#\d+ \[(?!internal)|Step \d+/\d+ :")  # how the two builders begin a step


def connect():
    """A client of the engine that DOCKER_HOST or the Docker context names; raises ImageError when none answers."""
    import docker

    with in_words(_no_engine):
        engine = docker.from_env(timeout=10)
        engine.ping()
    engine.api.timeout = SILENCE
    return engine


def find(engine, labels: dict[str, str], name: str):
    """The image of this name that carries all these labels, else one with its tag in another repository; or None."""
    with in_words(_engine_lost):
        found = engine.images.list(filters={"label": [f"{key}={value}" for key, value in labels.items()]})
    tag = ":" + name.rpartition(":")[2]
    fit = [image for image in found if any(other.endswith(tag) for other in image.tags)]
    return min(fit, key=lambda image: name not in image.tags, default=None)


def get(engine, name: str):
    """The image of this name in the engine, or None."""
    from docker.errors import ImageNotFound

    with in_words(_engine_lost):
        try:
            return engine.images.get(name)
        except ImageNotFound:
            return None


def get_base(engine, name: str) -> None:
    """Have the base image in the engine, pulled unless it is there."""
    from docker.errors import ImageNotFound
    from docker.utils import parse_repository_tag

    with in_words(lambda text: _no_base(name, text)):
        try:
            engine.images.get(name)
        except ImageNotFound:
            print(f"pulling the base image {name}", flush=True)
            repository, tag = parse_repository_tag(name)  # without a tag the engine would pull all there are
            for _ in events(engine.api.pull(repository, tag=tag or "latest", stream=True, decode=True)):
                pass


def build(engine, context: bytes, name: str, labels: dict[str, str], created: int, requirements: str):
    """Build the image `name` from a context and return it; `created` is its time in seconds, where the builder takes one.

    `requirements` is the file of the context that names the packages.
    """
    arguments = {"PYTHON_IMAGE": recipe.base(), "REQUIREMENTS": requirements}
    if has_buildx():
        lines = _buildx(context, name, labels, arguments | {"SOURCE_DATE_EPOCH": str(created)})
    else:
        lines = _classic(engine, context, name, labels, arguments)
    log: list[str] = []
    with in_words(lambda text: _not_built(log, text, requirements)):
        for line in lines:
            log.append(line)
            if STEP.match(line):
                print(f"  {line[:110]}", flush=True)
        return engine.images.get(name)


def has_buildx() -> bool:
    """Whether this machine has Docker's command line with buildx."""
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "buildx", "version"], capture_output=True).returncode == 0


def _buildx(context: bytes, name: str, labels: dict[str, str], arguments: dict[str, str]) -> Iterator[str]:
    """The lines that `docker buildx build` writes."""
    command = ["docker", "buildx", "build", "--load", "--progress=plain", "--tag", name]
    command += [f"--build-arg={key}={value}" for key, value in arguments.items()]
    command += [f"--label={key}={value}" for key, value in labels.items()]
    # Attestations would carry the time of the build, and so another digest each time.
    environment = os.environ | {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
    with tempfile.TemporaryFile() as file:  # not a pipe: nobody would read one that is full
        file.write(context)
        file.seek(0)
        process = subprocess.Popen(
            [*command, "-"], stdin=file, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
    try:
        assert process.stdout
        for line in process.stdout:
            yield _plain(line.decode(errors="replace"))
        if process.wait():
            raise OSError(f"docker buildx ended with status {process.returncode}")
    finally:
        process.terminate()
        process.wait()


def _classic(engine, context: bytes, name: str, labels: dict[str, str], arguments: dict[str, str]) -> Iterator[str]:
    """The lines that the engine's older builder writes."""
    stream = engine.api.build(
        fileobj=context,
        custom_context=True,
        tag=name,
        labels=labels,
        buildargs=arguments,
        platform=os.environ.get("DOCKER_DEFAULT_PLATFORM"),
        rm=True,
        forcerm=True,
        decode=True,
    )
    for event in events(stream):
        yield from map(_plain, event.get("stream", "").splitlines())


def _plain(line: str) -> str:
    """A line of a log without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip()


def events(stream) -> Iterator[dict[str, Any]]:
    """The events of a stream; the engine reports failure as one of them, which becomes an exception."""
    from docker.errors import DockerException

    for event in stream:
        if "error" in event:
            raise DockerException(event["error"])
        yield event


@contextmanager
def in_words(words: Callable[[str], ImageError]):
    """Turn what the engine's client raises into an ImageError."""
    from docker.errors import APIError, DockerException
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except APIError as error:
        raise words(_one_line(error.explanation or error)) from error
    except (RequestException, HTTPError) as error:  # the line to the engine broke, whatever it was doing
        raise (words if words is _no_engine else _engine_lost)(_one_line(error)) from error
    except (DockerException, OSError, ValueError) as error:
        raise words(_one_line(error)) from error


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__


def _no_engine(text: str) -> ImageError:
    where = os.environ.get("DOCKER_HOST") or "its usual socket"
    if re.search(r"PermissionError|permission denied", text, re.I):
        return ImageError(
            f"this user may not use the Docker engine at {where}",
            "join its group (`sudo usermod -aG docker $USER`, then log in again), or use a rootless engine",
        )
    return ImageError(
        f"no Docker engine answers at {where}: {text}",
        "start Docker; DOCKER_HOST names an engine elsewhere",
    )


def _engine_lost(text: str) -> ImageError:
    return ImageError(f"the Docker engine failed: {text}", "`docker info` says whether it answers; run this again then")


def _no_space() -> ImageError:
    return ImageError(
        "the Docker engine has no space left on its device",
        "`docker system df` shows what takes it, `docker system prune` removes what nothing uses",
    )


def _no_base(name: str, text: str) -> ImageError:
    if NO_SPACE.search(text):
        return _no_space()
    return ImageError(
        f"the base image {name} cannot be had: {text}",
        "PYTHON_IMAGE names another; `docker login` when its registry asks for it",
    )


def _cut(line: str) -> str:
    """Beginning and end of a long line: a builder repeats the whole command before it says what went wrong."""
    return line if len(line) <= 240 else f"{line[:80]} … {line[-160:]}"


def _not_built(log: list[str], text: str, requirements: str) -> ImageError:
    """Why a build failed, with the end of its log."""
    whole = "\n".join([*log, text])
    if NO_SPACE.search(whole):
        return _no_space()
    end = "".join(f"\n    {_cut(line)}" for line in [*(line for line in log if line), text][-END:])
    if re.search(r"No matching distribution|DO NOT MATCH THE HASHES|Could not install packages", whole):
        return ImageError(
            f"a package of {requirements} cannot be installed; the log ends:{end}",
            "see that the engine reaches the package index; a base image (PYTHON_IMAGE) may bring a pip.conf",
        )
    return ImageError(f"the image cannot be built; the log ends:{end}", "correct that and run this again")
