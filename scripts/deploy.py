"""Put a registered version into an environment: fetch its bundle, start it beside the old one, test it, swap, record.

    make deploy ENVIRONMENT=staging              # the version registered last
    make deploy ENVIRONMENT=production           # the version that staging serves
    make deploy ENVIRONMENT=staging VERSION=3

What served before is restored when the new release does not become ready or fails its smoke test.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipeline import bundle, lineage, processes, registry
from pipeline.artifacts import STATE, replace_directory
from pipeline.errors import DeployError, RegistryError, SlipwayError, edge
from pipeline.settings import Settings, load_settings
from scripts import targets

WAIT_SECONDS = 120  # for another deployment on this machine: a swap takes a few seconds


@edge
def main(argv: list[str] | None = None) -> None:
    """Deploy the version asked for, or the one whose turn it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=targets.environment, required=True)
    parser.add_argument("--version", help="version in MLflow; without it, the one whose turn it is")
    options = parser.parse_args(argv)
    settings = load_settings()
    client = registry.connect(settings)
    with processes.lock("delivery", f"deploy to {options.environment}", WAIT_SECONDS):
        version = chosen(client, settings, options.environment, options.version)
        approved(client, settings, options.environment, version)
        record = deploy(client, settings, options.environment, version, "deploy")
        if options.environment == "staging":
            client.set_registered_model_alias(settings.name, "staging", version.version)
    print(f"{options.environment} serves version {record['version']} at {record['url']}")


def chosen(client, settings: Settings, environment: str, number: str | None):
    """The model version to deploy: by number, else the candidate (staging) or what staging serves (production)."""
    if number:
        return registry.by_number(client, settings.name, number)
    if environment == "staging":
        found = registry.by_alias(client, settings.name, "candidate")
        if found is None:
            raise RegistryError(f"{settings.name} has no candidate in MLflow", "`make register` makes one")
        return found
    record = targets.choose(settings).serving("staging")
    if record is None:
        raise DeployError("staging serves nothing that could go to production", "`make deploy ENVIRONMENT=staging`")
    return registry.by_number(client, settings.name, record["version"])


def approved(client, settings: Settings, environment: str, version) -> None:
    """Refuse a version that was not accepted, or not against the model that is in production now."""
    if version.tags.get("verdict") != "accept":
        raise DeployError(
            f"version {version.version} has no accepted verdict",
            "`make evaluate` and `make register` give it one",
        )
    if environment != "production":
        return
    now = registry.by_alias(client, settings.name, "production")
    current, compared = now.version if now else "none", version.tags.get("compared_with")
    if current not in (compared, version.version):
        raise DeployError(
            f"version {version.version} was compared with version {compared}, but version {current} is in production now",
            "`make evaluate` compares with the production model of now; `make rollback VERSION=n` deploys without comparing",
        )


def deploy(client, settings: Settings, environment: str, version, action: str) -> dict[str, Any]:
    """Release a version on the target of this machine and append the deployment record, also when it fails."""
    target = targets.choose(settings)
    before = target.serving(environment)
    about = {
        "version": version.version,
        "before": before["version"] if before else None,
        "digest": version.tags.get("digest", ""),
        "action": action,
        "target": target.NAME,
        "link": lineage.link(),
    }
    try:
        folder = fetch(client, environment, version)
        record = target.release(environment, folder, settings)
    except SlipwayError as error:
        registry.record_deployment(client, settings.name, environment, **about, result="failed", detail=error.what)
        raise
    registry.record_deployment(client, settings.name, environment, **about, result="deployed")
    tidy(environment, keep={folder, *([Path(before["bundle"])] if before else [])})
    return record


def fetch(client, environment: str, version) -> Path:
    """The verified bundle of a version under .slipway/ENVIRONMENT/; raises StageError when a byte of it is wrong."""
    if "digest" not in version.tags:
        raise RegistryError(f"version {version.version} was not registered by this pipeline", "`make ship` makes one")
    for left in STATE.glob(".fetch-*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    folder = STATE / environment / f"version-{version.version}-{version.tags['digest'][:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=STATE, prefix=".fetch-"))
    try:
        fetched = registry.fetch_bundle(client, version, work)
        bundle.verify(fetched)
        replace_directory(fetched, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def tidy(environment: str, keep: set[Path]) -> None:
    """Remove bundles of the environment other than the one that serves and the one before it."""
    for folder in (STATE / environment).iterdir():
        if folder not in keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
