"""Fetch the rows that a version was trained on, to train on them again.

    make snapshot               # of the version in production
    make snapshot VERSION=7

Writes build/rows.parquet, checked against the hashes in MLflow, and prints the command that trains on it. There is a snapshot where
[data] snapshot in pipeline.toml was true at the training.
"""

import argparse
import sys

from pipeline import artifacts
from pipeline.data import snapshot
from pipeline.errors import RegistryError, edge
from pipeline.registry import versions
from pipeline.registry.training_run import data_snapshot
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Fetch it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--version", help="the version in MLflow (default: the one in production)")
    number = parser.parse_args(argv).version
    settings = load_settings()
    client = versions.connect(settings)
    version = (
        versions.by_number(client, settings.name, number)
        if number
        else versions.by_alias(client, settings.name, "production")
    )
    if version is None:
        raise RegistryError("nothing is in production", "name a version: `make snapshot VERSION=n`")
    data_snapshot.fetch(client, version, settings, artifacts.BUILD / snapshot.FILE)
    print(f"the rows of version {version.number}, trained on commit {version.commit[:12]}: build/{snapshot.FILE}")
    print(f"  {snapshot.VARIABLE}=build/{snapshot.FILE} make ship")


if __name__ == "__main__":
    sys.exit(main())
