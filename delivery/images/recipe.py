"""What an image is made of and called: pure values; delivery/images/docker_engine.py does things with them.

An image carries one model version: NAME:v{version}-{commit}; that of an experiment carries the challenger besides. Its context is
the code of serving/, the locked requirements and one bundle folder, and nothing else of the repository, so that no secret and no data
can slip in.
"""

import hashlib
import io
import os
import re
import tarfile
import time
from pathlib import Path
from typing import Any

from pipeline.formats.bundle import REQUIREMENTS
from pipeline.registry.experiments import ExperimentRecord
from pipeline.registry.model_version import ModelVersion
from serving.experiment.experiment import CHALLENGER
from serving.model.bundle import EXPERIMENT
from serving.model.contract import FILES

BASE = "python:3.11-slim-bookworm"
BOTH = "requirements/models.txt"  # for an experiment whose two models have different formats
# What of serving/ is in an image; serving/Dockerfile.dockerignore says the same for builds by hand.
CODE = ("**/*.py", "http/static/*.css", "http/static/*.html", "http/static/*.js")


def base() -> str:
    """The image that ours is built on: PYTHON_IMAGE, else the one that the Dockerfile names."""
    return os.environ.get("PYTHON_IMAGE") or BASE


def tag(version: ModelVersion, experiment: ExperimentRecord | None = None) -> str:
    """The tag of a model version's image, or of the one that holds the challenger besides; another share is another image."""
    plain = f"v{version.number}-{version.commit[:12]}"
    return f"{plain}-{experiment.name}-{experiment.digest[:8]}" if experiment else plain


def labels(
    version: ModelVersion, revision: str, made_of: str, experiment: ExperimentRecord | None = None
) -> dict[str, str]:
    """The labels: which model this is and where it comes from; the same version at the same commit has the same."""
    server, path = (os.environ.get(f"GITHUB_{key}", "") for key in ("SERVER_URL", "REPOSITORY"))
    about = {
        "org.opencontainers.image.title": version.name,
        "org.opencontainers.image.description": f"Predictions of {version.name} version {version.number} over HTTP",
        "org.opencontainers.image.version": version.number,
        "org.opencontainers.image.revision": revision,
        "org.opencontainers.image.created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(version.created)),
        "org.opencontainers.image.base.name": base(),
        **identity(version, experiment),
        "slipway.data": version.data_hash,
        "slipway.commit": version.commit,
        "slipway.inputs": made_of,
    }
    return about | ({"org.opencontainers.image.source": f"{server}/{path}"} if server and path else {})


def identity(version: ModelVersion, experiment: ExperimentRecord | None = None) -> dict[str, str]:
    """The labels that name a version beyond doubt: its number alone is used again by another MLflow.

    The digest of an image with an experiment is another, so that it is never found where the version alone is looked for.
    """
    return {
        "slipway.name": version.name,
        "slipway.version": version.number,
        "slipway.run": version.run_id,
        "slipway.digest": experiment.digest if experiment else version.digest,
        **(
            {"slipway.experiment": experiment.release, "slipway.challenger": experiment.challenger}
            if experiment
            else {}
        ),
    }


def context(root: Path, bundle: Path) -> bytes:
    """The build context as a tar archive: the same files give the same bytes, wherever and whenever it is made."""
    files = {"Dockerfile": root / "serving/Dockerfile"}
    code = [path for pattern in CODE for path in (root / "serving").glob(pattern)]
    files |= {path.relative_to(root).as_posix(): path for path in code}
    inside = (path for path in bundle.rglob("*") if not path.is_dir())
    files |= {f"build/bundle/{path.relative_to(bundle).as_posix()}": path for path in inside}
    contents = {name: path.read_bytes() for name, path in files.items()}
    locked = [(root / name).read_bytes() for name in _locked(bundle)]
    united = locked[0] if len(locked) == 1 else _united([text.decode() for text in locked]).encode()
    contents[requirements(bundle)] = united
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in sorted(contents.items()):
            entry = tarfile.TarInfo(name)  # owner 0, time 0, and this mode, whatever they are on this machine
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def requirements(bundle: Path) -> str:
    """The file of locked packages that an image's service needs, by its path in the context."""
    files = _locked(bundle)
    return files[0] if len(files) == 1 else BOTH


def _locked(bundle: Path) -> list[str]:
    """The locked files for the formats of a bundle's model and of an experiment's challenger."""
    models = (bundle, bundle / EXPERIMENT / CHALLENGER)
    found = {REQUIREMENTS[kind] for one in models for kind, file in FILES.items() if (one / file).exists()}
    return sorted(found) or [REQUIREMENTS["onnx"]]


def _united(texts: list[str]) -> str:
    """Locked files as one: the same versions are in all of them, so each package is taken once."""
    blocks = [block for text in texts for block in re.split(r"^(?=[\w.-]+==)", text, flags=re.M)[1:]]
    return "".join(dict.fromkeys(blocks))


def inputs(context: bytes) -> str:
    """SHA-256 over all that decides what an image holds: its files, its base and the processor it is for."""
    platform = os.environ.get("DOCKER_DEFAULT_PLATFORM", "")
    return hashlib.sha256(context + f"{base()} {platform}".encode()).hexdigest()


def record(version: ModelVersion, repository: str, image: str, pushed: bool, size: int | None) -> dict[str, Any]:
    """What build/image.json says of a version's image; `size` in bytes, None when no engine here holds it."""
    return {
        "name": version.name,
        "version": version.number,
        "commit": version.commit,
        "digest": version.digest,
        "image": image,
        "repository": repository,
        "tag": tag(version),
        "pushed": pushed,
        "size_mb": size and round(size / 1e6, 1),
    }
