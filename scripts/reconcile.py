"""Make true what MLflow says: deploy the version that the alias `production` is on, where that is not what serves.

    make reconcile                  # for a version that somebody promoted in MLflow's own pages
    make reconcile ARGS=--compare   # only say whether there is something to do

The version goes the way of every other: an accepted verdict (or it was in production before), its image, staging, the tests
there, production. When that fails, the alias goes back to what serves, and the deployment record says why.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline import carrier, configured, lineage, processes, registry, workflow
from pipeline.errors import DeployError, RegistryError, SlipwayError, edge
from pipeline.settings import Settings, load_settings
from scripts import integration_test, smoke_test, targets
from scripts.deploy import approved, deploy, record_failure
from scripts.rollback import last_served, remember

WAIT_SECONDS = (
    1800  # for another delivery on this machine: it may build an image, and then there is perhaps nothing to do
)
Served = dict[str, Any] | None


@edge
def main(argv: list[str] | None = None) -> None:
    """Compare, and deploy the difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compare", action="store_true", help="only say whether there is something to do")
    options = parser.parse_args(argv)
    asked, says = configured.production(os.environ)
    if workflow.is_workflow() and not asked:
        print(f"production: {says}")
        workflow.output(changed="false")
        return
    settings = load_settings()
    carrier.refuse_unknown()
    client = registry.connect(settings)
    if options.compare:
        workflow.output(changed=str(difference(client, settings) is not None).lower())
        return
    with processes.lock("delivery", "reconcile", WAIT_SECONDS):
        version = difference(client, settings)
        if version is not None:
            reconcile(client, settings, version)
    workflow.output(changed=str(version is not None).lower())


def difference(client, settings: Settings):
    """The version that production should serve and does not, or None; raises RegistryError when MLflow needs a person."""
    version = registry.by_alias(client, settings.name, "production")
    strays = list(misnamed(client, settings.name))
    if version is None:
        without_alias(client, settings, strays)
        return None
    for what, then in strays:
        print(f"note: {what}; {then}")
    served = last_served(client, settings, "production")
    if served and (served["version"], served["digest"]) == (version.version, version.tags.get("digest")):
        print(f"nothing to do: production serves version {version.version}, as MLflow's alias says")
        return None
    now = f"version {served['version']}" if served else "nothing"
    print(f"MLflow's alias production is on version {version.version}, and production serves {now}", flush=True)
    return version


def misnamed(client, name: str) -> Iterator[tuple[str, str]]:
    """What somebody may have meant for the alias `production`: one in other letters, or a legacy stage; and what to do."""
    from mlflow.exceptions import MlflowException

    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException:  # no model yet
        return
    for alias, number in aliases.items():
        if alias != "production" and alias.lower() == "production":
            yield (
                f"{name} has the alias {alias} on version {number}, but the alias that counts is production",
                f"if version {number} is meant, set the alias production on it; remove {alias}",
            )
    for version in registry.versions(client, name):
        if version.current_stage == "Production":
            yield (
                f"{name} version {version.version} is in the legacy stage Production, which counts for nothing here",
                f"if it is meant, set the alias production on version {version.version}; end its stage",
            )


def without_alias(client, settings: Settings, strays: list[tuple[str, str]]) -> None:
    """Say why there is nothing to do; raises RegistryError when something was in production, or was meant to be."""
    if strays:
        raise RegistryError(*strays[0])
    last = registry.last_deployment(client, settings.name, "production")
    if last is None or not registry.was_promoted(client, settings.name, last["version"]):
        print(f"nothing to do: no version of {settings.name} has the alias production; `make ship` promotes the first")
        return
    there = ", ".join(found.version for found in registry.versions(client, settings.name)) or "none"
    raise RegistryError(
        f"the alias production of {settings.name} is gone; version {last['version']} was deployed last",
        f"set the alias on the version that production is to serve; versions in MLflow: {there}. "
        "Where that one was deleted, `make rollback VERSION=n` brings another back",
    )


def reconcile(client, settings: Settings, version) -> None:
    """Bring a version through staging into production, and MLflow in line with that; raises when it fails, all undone."""
    served = last_served(client, settings, "production")
    served = served or registry.last_deployment(client, settings.name, "production")  # it has stopped, or is not ready
    before = in_mlflow(client, settings.name, served)
    with given_back(client, settings.name, version.version, before):
        with recorded(client, settings, version, served):
            if "promoted" not in version.tags:
                approved(client, settings, "staging", version)
            prove(client, settings, version)
        if before and before.version != version.version:  # first, so that a kill in between forgets nothing
            client.set_registered_model_alias(settings.name, "previous", before.version)
        record = deploy(client, settings, "production", version, "reconcile")
    finish(client, settings.name, version, before)
    print(f"production serves version {record['version']} at {record['url']}, as MLflow's alias says")


def in_mlflow(client, name: str, served: Served):
    """The version in MLflow that served; None when nothing did, or MLflow no longer has it, or another of its number."""
    try:
        found = registry.by_number(client, name, served["version"]) if served else None
    except RegistryError:
        return None
    return found if found and served and found.tags.get("digest") == served["digest"] else None


@contextmanager
def given_back(client, name: str, wanted: str, before) -> Iterator[None]:
    """When what is done here fails, the aliases go back to where they were, as far as nobody has moved them again."""
    previous = registry.by_alias(client, name, "previous")
    try:
        yield
    except BaseException:  # whatever it was, the keyboard included: MLflow must say what is true
        try:
            move_back(client, name, wanted, before, previous)
        except Exception as error:
            words = error.what if isinstance(error, SlipwayError) else error
            print(f"the aliases could not be put back: {words}", file=sys.stderr)
        raise


def move_back(client, name: str, wanted: str, before, previous) -> None:
    """Put the alias production back on what served, where anything did, and previous where it was."""
    if previous:
        client.set_registered_model_alias(name, "previous", previous.version)
    elif before:
        client.delete_registered_model_alias(name, "previous")
    if before and registry.move_alias(client, name, "production", before.version, expected=wanted):
        print(f"alias production is on version {before.version} again", flush=True)


@contextmanager
def recorded(client, settings: Settings, version, served: Served) -> Iterator[None]:
    """Append what fails on the way to production to the deployment records; what fails there, `deploy` records itself."""
    about = {
        "version": version.version,
        "before": served["version"] if served else None,
        "digest": version.tags.get("digest", ""),
        "image": version.tags.get("image", "none"),
        "action": "reconcile",
        "target": targets.choose(settings).NAME,
        "link": lineage.link(),
    }
    try:
        yield
    except BaseException as error:
        record_failure(client, settings, "production", about, error)
        raise


def prove(client, settings: Settings, version) -> None:
    """Put a version into staging and test it there; raises DeployError when a test fails."""
    deploy(client, settings, "staging", version, "reconcile")
    client.set_registered_model_alias(settings.name, "staging", version.version)
    for what, test in (("smoke", smoke_test.main), ("integration", integration_test.main)):
        if test(["--environment", "staging"]):
            raise DeployError(
                f"version {version.version} failed the {what} test in staging",
                f"its words are above; `make {what} ENVIRONMENT=staging` runs it again",
            )


def finish(client, name: str, version, before) -> None:
    """Remember that the version was in production, and, where it is an older one again, that the newer one was left."""
    back = "promoted" in version.tags and before and int(before.version) > int(version.version)
    registry.promoted(client, name, version.version, "MLflow alias")
    remember(client, name, version.version, before.version if back else None)
    now = registry.by_alias(client, name, "production")
    if now is None or now.version != version.version:
        raise RegistryError(
            f"alias production was moved to {f'version {now.version}' if now else 'no version'} meanwhile",
            "`make reconcile` once more brings that about",
        )


if __name__ == "__main__":
    sys.exit(main())
