"""Images with a fault for a real cluster: the service's own image, started through the double's wrapper."""

import io
import os
import tarfile
import uuid
from pathlib import Path

import pytest

WRAPPER = Path(__file__).with_name("cluster") / "cluster_service.py"
# At the same depth as here, so that it finds serving/ in the same way.
INSIDE = "/app/tests/delivery/kubernetes/cluster/cluster_service.py"
DOCKERFILE = """FROM {base}
COPY cluster_service.py {inside}
ENTRYPOINT ["python", "{inside}", "{fault}"]
CMD ["--bundle", "/app/bundle", "--host", "0.0.0.0", "--port", "8000"]
"""


def build(bundle: Path, fault: str) -> str:
    """Build and push an image of a bundle with a fault ("" for none); returns REPOSITORY@sha256:..."""
    from delivery.images import docker_engine, image_registry, recipe
    from pipeline.artifacts import ROOT

    address = os.environ.get("SLIPWAY_TEST_REGISTRY") or pytest.skip(
        "a real cluster needs real images: SLIPWAY_TEST_REGISTRY (host:port) says where they are pushed to"
    )
    docker = docker_engine.connect()
    context = recipe.context(ROOT, bundle)
    # Unique: others may build the same image meanwhile.
    repository, tag = f"{address}/slipway-test/{uuid.uuid4().hex}", "1"
    name = f"{repository}:{tag}"
    docker_engine.get_base(docker, recipe.base())
    labels = {"slipway.test": repository}  # makes the image id unique, too
    image = docker_engine.build(docker, context, name, labels, 0, recipe.requirements(bundle))
    if fault:
        image = with_fault(docker, image.id, name, fault)
    return f"{repository}@{image_registry.push(docker, repository, tag, None)}"


def with_fault(docker, base: str, name: str, fault: str):
    """The image `base` with a fault on top, under a new name."""
    files = {"Dockerfile": DOCKERFILE.format(base=base, inside=INSIDE, fault=fault).encode()}
    files["cluster_service.py"] = WRAPPER.read_bytes()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for file, content in files.items():
            entry = tarfile.TarInfo(file)
            entry.size, entry.mode = len(content), 0o444
            archive.addfile(entry, io.BytesIO(content))
    packed.seek(0)
    image, _ = docker.images.build(fileobj=packed, custom_context=True, tag=name, rm=True, forcerm=True)
    return image
