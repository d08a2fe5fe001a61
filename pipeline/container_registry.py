"""Where images and the embedded MLflow are kept: the image repository that the environment names, and its log-in."""

import os
import re

from pipeline.errors import ImageError

PATTERN = re.compile(
    r"(?P<host>(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+|[a-z0-9-]+(?=:\d))(:\d+)?/)?"
    r"(?P<path>[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*)*)"
)


def repository(name: str) -> tuple[str, bool]:
    """The repository of a model's images, and whether it is in a registry; raises ImageError when IMAGE_REPOSITORY is none.

    Upper case is lowered: GitHub allows it in the names of owners and repositories, image registries do not.
    """
    given = os.environ.get("IMAGE_REPOSITORY", "").strip().lower()
    if not given:
        return "slipway/" + re.sub(r"[-_]*_[-_]*", "_", name).strip("-_"), False
    wrong = _wrong(given)
    if wrong:
        raise ImageError(
            f"IMAGE_REPOSITORY={given} is not the name of an image repository: {wrong}",
            f"name another in the variable IMAGE_REPOSITORY, such as {_fit(given) or 'ghcr.io/team/model'}: registry and path, no tag",
        )
    return given, True


def _wrong(given: str) -> str:
    """What is wrong with the name of a repository, or ""."""
    if "://" in given:
        return f"it begins with {given.split('://')[0]}://"
    if "@" in given:
        return "it includes a digest"
    if ":" in given.rpartition("/")[2]:
        return f'it includes the tag "{given.rpartition(":")[2]}"'
    if len(given) > 200 or not PATTERN.fullmatch(given):
        return "only a-z, 0-9 and single . _ - between them may stand in its parts"
    return ""


def _fit(given: str) -> str:
    """A repository of nearly this name that may be one, or ""."""
    parts = [re.sub(r"[._-]{2,}", "-", re.sub(r"[^a-z0-9._:-]+", "-", part)).strip("._-") for part in given.split("/")]
    near = "/".join(parts)
    return near if PATTERN.fullmatch(near) else ""


def host(repository: str) -> str:
    """The registry of a repository, for people."""
    first, slash, _ = repository.partition("/")
    return first if slash and (set(".:") & set(first) or first == "localhost") else "Docker Hub"


def login() -> dict[str, str] | None:
    """The log-in from the environment, or None: then the engine's own counts. Raises ImageError when half of it is there."""
    names = ("IMAGE_REPOSITORY_USERNAME", "IMAGE_REPOSITORY_PASSWORD")
    username, password = (os.environ.get(name, "") for name in names)
    if bool(username) != bool(password):
        there, absent = names if username else reversed(names)
        raise ImageError(f"{there} is set, but {absent} is not", "set both, or none to use the engine's own log-in")
    return {"username": username, "password": password} if username else None
