"""Really pushed images: their bundle is fetched from the registry by digest, as a node would."""

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import requests

HERE = re.compile(r"((?:127\.0\.0\.1|localhost):\d+)/(.+)@(sha256:[0-9a-f]{64})")  # no registry beyond this machine
BUNDLE = "app/bundle/"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


def pull(reference: str, folder: Path) -> Path | None:
    """The bundle of an image REGISTRY/NAME@DIGEST of this machine, unpacked below `folder`; None when it is not there."""
    found = HERE.fullmatch(reference)
    if found is None:
        return None
    registry, name, digest = found.groups()
    bundle = folder / digest.removeprefix("sha256:") / "app" / "bundle"
    if bundle.is_dir():
        return bundle
    address = f"http://{registry}/v2/{name}"
    try:
        manifest = _get(f"{address}/manifests/{digest}", digest)
        # The model changes most often, so it is in the last layers.
        for layer in reversed(json.loads(manifest)["layers"]):
            if _unpacked(_get(f"{address}/blobs/{layer['digest']}", layer["digest"]), bundle.parent.parent):
                return bundle
    except requests.RequestException:
        return None
    return None


def _get(url: str, digest: str) -> bytes:
    """A blob from the registry, verified against its digest."""
    answer = requests.get(url, headers={"Accept": MANIFEST}, timeout=30)
    answer.raise_for_status()
    if f"sha256:{hashlib.sha256(answer.content).hexdigest()}" != digest:
        raise requests.RequestException(f"{url} is not what its digest says")
    return answer.content


def _unpacked(layer: bytes, folder: Path) -> bool:
    """Unpack the bundle in a layer; False when it has none."""
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        members = [member for member in archive if member.isfile() and member.name.startswith(BUNDLE)]
        archive.extractall(folder, members, filter="data")
    return bool(members)
