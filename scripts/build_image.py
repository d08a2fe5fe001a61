"""Build the image of a model version, push it, and write down its digest:

    make image                  # the version registered last
    make image VERSION=3

Writes build/image.json. With IMAGE_REPOSITORY set the image is pushed there and the version in MLflow gets the tag `image`,
REPOSITORY@DIGEST; without it the image stays in this machine's engine. What is there already is not built again.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from delivery.images import build
from pipeline import container_registry
from pipeline.artifacts import BUILD, write_json
from pipeline.ci import outputs
from pipeline.errors import edge
from pipeline.registry import versions
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Build and push the image of one version."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--version", help="version in MLflow; without it, the one in build/registered.json")
    options = parser.parse_args(argv)
    settings = load_settings()
    container_registry.repository(settings.name)  # a wrong name is told before MLflow is started
    client = versions.connect(settings)
    version = build.chosen(client, settings, options.version)
    with tempfile.TemporaryDirectory() as folder:
        image = build.build(client, settings, version, versions.fetch_bundle(client, version, Path(folder)))
    write_json(BUILD / "image.json", image)
    _, _, digest = image["image"].partition("@")
    outputs.output(image=image["image"], repository=image["repository"], digest=digest)
    print(f"version {version.number} is {image['image']}" + ("" if image["pushed"] else " (in this engine only)"))


if __name__ == "__main__":
    sys.exit(main())
