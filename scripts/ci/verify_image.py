"""Prove, before a deployment, that a version's image is what MLflow says and was made by this repository:

    make verify-image VERSION=3

The image is pulled from IMAGE_REPOSITORY by the digest in MLflow, and its labels must name the version. With
SLIPWAY_ATTESTED=true, GitHub's attestation must say besides that this repository's own workflow made it (`gh`, GH_TOKEN).
"""

import argparse
import sys

from delivery.images import attestation, build
from pipeline import container_registry
from pipeline.errors import edge
from pipeline.registry import versions
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Verify the image of one version."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--version", help="version in MLflow; without it, the one in build/registered.json")
    options = parser.parse_args(argv)
    settings = load_settings()
    if not container_registry.repository(settings.name)[1]:
        print("nothing to verify: IMAGE_REPOSITORY is not set, so images never leave the machine that builds them")
        return
    attestation.verify(settings, build.chosen(versions.connect(settings), settings, options.version))


if __name__ == "__main__":
    sys.exit(main())
