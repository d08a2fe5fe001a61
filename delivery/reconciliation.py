"""Following MLflow's aliases: what they say is deployed where it is not what serves."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from delivery import proof, smoke, targets
from delivery.deployment import deploy, experiment_astray, last_served, refuse_beside_experiment
from pipeline.ci import chat, lineage
from pipeline.errors import DeployError, RegistryError, reason
from pipeline.registry import deployments, promotion, versions
from pipeline.registry.deployment_record import Deployment, Identified, last_deployment
from pipeline.registry.model_version import ModelVersion
from pipeline.settings import Settings

WAIT_SECONDS = (
    1800  # for another delivery on this machine: it may build an image, and then there is perhaps nothing to do
)
DELIVERY_SECONDS = 1800  # within which a delivery promotes what it has deployed, if it lives


def follow(client, settings: Settings, environment: str) -> ModelVersion | None:
    """Deploy what MLflow says of an environment, where another version serves, and tell SLIPWAY_WEBHOOK; the version, or None."""
    version = None
    link = f"\n{lineage.link()}" if lineage.link() else ""
    try:
        version = difference(client, settings, environment)
        if version is not None:
            (reconcile if environment == "production" else stage)(client, settings, version)
            chat.tell(f"{in_words(settings.name, version, environment)} is deployed{link}")
    except BaseException as error:
        why = reason(error)
        if version is None:
            chat.tell(f"{settings.name}: what MLflow says of {environment} cannot be followed: {why}{link}")
        else:
            what = in_words(settings.name, version, environment)
            chat.tell(f"{what} was not deployed: {why}. What served before serves on{link}")
        raise
    return version


def in_words(name: str, version: ModelVersion, environment: str) -> str:
    """A promotion in words."""
    return f"{name}: version {version.number}, given the alias {environment} in MLflow,"


def difference(client, settings: Settings, environment: str) -> ModelVersion | None:
    """The version that an environment should serve and does not, or None; raises RegistryError when MLflow needs a person."""
    version = versions.by_alias(client, settings.name, environment)
    if environment == "production":
        strays = list(promotion.misnamed(client, settings.name))
        if version is None:
            print(f"nothing to do: {promotion.without_alias(client, settings.name, strays)}")
            return None
        for what, then in strays:
            print(f"note: {what}; {then}")
    if version is None:
        print(f"nothing to do: no version of {settings.name} has the alias {environment}")
        return None
    served = last_served(client, settings, environment)
    there = promotion.is_served(version, served)
    astray = experiment_astray(client, settings, environment, version, served) if served and there else ""
    if there and not astray:
        print(f"nothing to do: {environment} serves version {version.number}, as MLflow's alias says")
        return None
    if environment == "production" and served and is_about_to_be_promoted(client, settings, served):
        print(
            f"nothing to do yet: a delivery has just put version {served.version} into production, and promotes it next"
        )
        return None
    now = f"version {served.version}" if served else "nothing"
    also = f", but {astray}" if astray else ""
    print(
        f"MLflow's alias {environment} is on version {version.number}, and {environment} serves {now}{also}", flush=True
    )
    return version


def is_about_to_be_promoted(client, settings: Settings, served: Identified) -> bool:
    """Whether what serves was put there by a delivery that tests it now and moves the alias then, or died on the way just now."""
    last = last_deployment(client, settings.name, "production")
    if last is None or (last.version, last.action) != (served.version, "deploy"):
        return False
    recent = time.time() - last.since < DELIVERY_SECONDS
    return recent and not versions.was_promoted(client, settings.name, served.version)


def reconcile(client, settings: Settings, version: ModelVersion) -> None:
    """Bring a version through staging into production, and MLflow in line with that; raises when it fails, all undone."""
    served = last_served(client, settings, "production")
    served = served or last_deployment(client, settings.name, "production")  # it has stopped, or is not ready
    before = in_mlflow(client, settings.name, served)
    with given_back(client, settings, version, before):
        with recorded(client, settings, "production", version, served), wish_kept(client, settings):
            refuse_beside_experiment(client, settings, "production", version, "reconcile")
            if version.promoted is None:
                promotion.check_allowed(version)
            prove(client, settings, version)
        if before and before.number != version.number:  # first, so that a kill in between forgets nothing
            client.set_registered_model_alias(settings.name, "previous", before.number)
        goes_back = version.promoted is not None and before is not None and before.is_newer_than(version)
        left = before.number if before and goes_back else ""
        now = deploy(client, settings, "production", version, "reconcile", left=left)
    still_wanted(client, settings.name, version)
    print(f"production serves version {now.version} at {now.url}, as MLflow's alias says")


def stage(client, settings: Settings, version: ModelVersion) -> None:
    """Bring a version into staging and test it there; when it fails, the alias goes to what staging serves, and it raises."""
    served = last_served(client, settings, "staging")
    try:
        with recorded(client, settings, "staging", version, served):
            promotion.check_allowed(version)
            prove(client, settings, version)
    except BaseException:
        now = in_mlflow(client, settings.name, last_served(client, settings, "staging"))
        if now and versions.move_alias(client, settings.name, "staging", now.number, expected=version.number):
            print(f"alias staging is on version {now.number} again", flush=True)
        raise
    print(f"staging serves version {version.number}, as MLflow's alias says")


@contextmanager
def wish_kept(client, settings: Settings) -> Iterator[None]:
    """When staging is on the way to another version, its alias, which a proof moves, is put back for the next look."""
    wish = versions.by_alias(client, settings.name, "staging")
    if wish is None or promotion.is_served(wish, last_served(client, settings, "staging")):
        yield
        return
    try:
        yield
    finally:
        client.set_registered_model_alias(settings.name, "staging", wish.number)


def in_mlflow(client, name: str, served: Identified | None) -> ModelVersion | None:
    """The version in MLflow that served; None when nothing did, or MLflow no longer has it, or another of its number."""
    try:
        found = versions.by_number(client, name, served.version) if served else None
    except RegistryError:
        return None
    return found if found and served and found.digest == served.digest else None


@contextmanager
def given_back(client, settings: Settings, wanted: ModelVersion, before: ModelVersion | None) -> Iterator[None]:
    """When what is done here fails, the aliases go back to where they were, as far as nobody has moved them again.

    Where production serves the version all the same (the command was stopped after the release), they stay.
    """
    previous = versions.by_alias(client, settings.name, "previous")
    try:
        yield
    except BaseException:  # whatever it was, the keyboard included: MLflow must say what is true
        try:
            if not promotion.is_served(wanted, targets.serving("production", settings)):
                move_back(client, settings.name, wanted.number, before, previous)
        except Exception as error:
            print(f"the aliases could not be put back: {reason(error)}", file=sys.stderr)
        raise


def move_back(client, name: str, wanted: str, before: ModelVersion | None, previous: ModelVersion | None) -> None:
    """Put the alias production back on what served, where anything did, and previous where it was."""
    if previous:
        client.set_registered_model_alias(name, "previous", previous.number)
    elif before:
        client.delete_registered_model_alias(name, "previous")
    if before and versions.move_alias(client, name, "production", before.number, expected=wanted):
        print(f"alias production is on version {before.number} again", flush=True)


@contextmanager
def recorded(
    client, settings: Settings, environment: str, version: ModelVersion, served: Identified | None
) -> Iterator[None]:
    """Append what fails on the way to an environment to the deployment records; what fails there, `deploy` records itself."""
    deployment = Deployment.of(version, environment, "reconcile", targets.choose(settings).NAME, served)
    try:
        yield
    except BaseException as error:
        deployments.record_failure(client, settings.name, deployment, error)
        raise


def prove(client, settings: Settings, version: ModelVersion, action: str = "reconcile") -> None:
    """Put a version into staging and test it there; raises DeployError when a test fails."""
    deploy(client, settings, "staging", version, action, moves=True)
    result = proof.smoke_test("staging")
    smoke.show(result)
    smoke.require_success(result)
    if proof.integration("staging"):
        raise DeployError(
            f"version {version.number} failed the integration test in staging",
            "its words are above; `make integration ENVIRONMENT=staging` runs it again",
        )


def still_wanted(client, name: str, version: ModelVersion) -> None:
    """Raise RegistryError when somebody moved the alias while its version was on the way."""
    now: ModelVersion | None = version
    with deployments.afterwards("the alias production could not be looked up", then="`make status` shows it"):
        now = versions.by_alias(client, name, "production")
    if now is None or now.number != version.number:
        raise RegistryError(
            f"alias production was moved to {f'version {now.number}' if now else 'no version'} meanwhile",
            "`make reconcile` once more brings that about",
        )
