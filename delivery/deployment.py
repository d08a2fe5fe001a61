"""Deploying a registered version: fetch its bundle, have its image, release it on the target, record it in MLflow."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from delivery import targets
from delivery.experiment import composition
from delivery.images import attestation, build
from delivery.release import CurrentRelease, Release
from pipeline.artifacts import STATE, read_json, replace_directory
from pipeline.ci import outputs, repository_settings
from pipeline.errors import DeployError, RegistryError, StageError
from pipeline.formats import bundle
from pipeline.registry import deployments, experiments, promotion, versions
from pipeline.registry.deployment_record import DEPLOYED, DUE, MARKS, Deployment, Identified, last_deployment
from pipeline.registry.experiments import STOPPING, ExperimentRecord
from pipeline.registry.model_version import NOTHING, ModelVersion
from pipeline.settings import Settings

WAIT_SECONDS = 120  # for another deployment on this machine: a swap takes a few seconds
EXPERIMENT = "experiment"  # `action` of what starts one, changes its share, or promotes its winner
FORWARD = (
    "deploy",
    "reconcile",
    EXPERIMENT,
)  # what a version comes by; other actions bring back, at once, what served before


def settle(client, settings: Settings, environment: str) -> None:
    """Bring MLflow up to date with the last deployment and experiment, where a command could not; held by the lock `delivery`."""
    deployments.settle(client, settings.name, environment, lambda: last_served(client, settings, environment))
    if environment == "production":
        experiments.settle(client, settings.name, lambda: last_served(client, settings, environment))


def last_served(client, settings: Settings, environment: str) -> CurrentRelease | Deployment | None:
    """What an environment serves. In a workflow a container ends with its job: there it is what was deployed last."""
    served = targets.serving(environment, settings)
    if served or not outputs.is_workflow() or targets.choose(settings).NAME == "kubernetes":
        return served
    return last_deployment(client, settings.name, environment)


def chosen(client, settings: Settings, environment: str, number: str | None) -> ModelVersion:
    """The model version to deploy: by number, else the candidate (staging) or what staging serves (production)."""
    if number:
        return versions.by_number(client, settings.name, number)
    if environment == "staging":
        found = versions.by_alias(client, settings.name, "candidate")
        if found is None:
            raise RegistryError(f"{settings.name} has no candidate in MLflow", "`make register` makes one")
        return found
    served = targets.serving("staging", settings)
    if served is None:
        raise DeployError("staging serves nothing that could go to production", "`make deploy ENVIRONMENT=staging`")
    return versions.by_number(client, settings.name, served.version)


def approved(client, settings: Settings, environment: str, version: ModelVersion) -> None:
    """Refuse a version that was not accepted, or not against the model that is in production now."""
    promotion.check_allowed(version)
    if environment != "production":
        return
    now = versions.by_alias(client, settings.name, "production")
    current = now.number if now else NOTHING
    if current not in (version.compared_with, version.number):
        raise DeployError(
            f"version {version.number} was compared with version {version.compared_with or 'unknown'}, but version {current} is in production now",
            compare_again(),
        )


def compare_again() -> str:
    """What to do about a comparison that is out of date, where we are: a job's machine has no command line."""
    if outputs.is_workflow():
        return "run the workflow again, from its first job: it compares with the production model of now"
    return (
        "`make evaluate` compares with the production model of now; `make rollback VERSION=n` deploys without comparing"
    )


def deploy(
    client,
    settings: Settings,
    environment: str,
    version: ModelVersion,
    action: str,
    moves: bool = False,
    left: str | None = None,
    why: str = "",
) -> CurrentRelease:
    """Release a version on the target of this machine; what serves now.

    The record in MLflow is begun before and ended after. What MLflow cannot record is not deployed; once the release serves,
    a failing MLflow is a warning, and the next command brings it up to date. With `moves` the alias of the environment is
    moved too, and the version `left` marked as rolled back; without `moves`, `left` ("" for none) says that the alias is there already.
    `why` is kept with the record.
    """
    refuse_beside_experiment(client, settings, environment, version, action)
    target = targets.choose(settings)
    before = target.serving(environment, settings)
    deployment = Deployment.of(version, environment, action, target.NAME, before)
    if experiment := carried(client, settings, version):
        deployment = replace(deployment, experiment=experiment.release, image=experiment.image)
    if moves:
        now = versions.by_alias(client, settings.name, environment)
        deployment = replace(deployment, bookkeeping=DUE, alias_from=now.number if now else None, left=left or "")
    elif left is not None:
        deployment = replace(deployment, bookkeeping=MARKS, left=left)
    deployment = deployments.begin(client, settings.name, deployment)
    image = deployment.image
    try:
        refuse_another_place(client, settings, environment, target, before, action)
        if target.IMAGES and repository_settings.switch(os.environ, "SLIPWAY_ATTESTED") == "true":
            attestation.verify(settings, version)
        release = prepared(client, settings, environment, version, images=target.IMAGES, again=action not in FORWARD)
        image = release.image
        served = target.release(environment, release, settings, at_once=action not in FORWARD)
    except BaseException as error:
        deployments.fail(client, deployment, error, image=image)
        raise
    forced = promotion.forced(version)
    detail = why or (f"forced: {forced}" if forced else "")
    if version.judged_by == "limits" and action in FORWARD:
        detail = detail or "judged by its limits alone: the columns changed"
    with deployments.afterwards(f"{environment} serves version {version.number}, but that could not be recorded"):
        deployments.end(client, deployment, DEPLOYED, image=image, detail=detail)
    if moves:
        with deployments.afterwards(f"{environment} serves version {version.number}, but its alias was not moved"):
            deployments.complete(client, settings.name, deployment)
    elif left is not None:
        with deployments.afterwards(
            f"{environment} serves version {version.number}, but the marks on versions were not set"
        ):
            deployments.mark(client, settings.name, deployment)
    tidy(environment, keep={release.bundle, *([before.bundle] if before else [])})
    return served


def carried(client, settings: Settings, version: ModelVersion) -> ExperimentRecord | None:
    """The experiment that a release of this version carries: the one that starts or runs, where it is the champion."""
    record = experiments.running(client, settings.name)
    if record is None or record.state == STOPPING:
        return None
    return record if (record.champion, record.champion_digest) == (version.number, version.digest) else None


def experiment_astray(client, settings: Settings, environment: str, version: ModelVersion, served: Identified) -> str:
    """Why what serves a version does not carry the experiment that it should, in words; "" where it does. Staging need not carry one."""
    record = experiments.running(client, settings.name)
    if record and record.state == STOPPING and served.experiment == record.release:
        return ""  # a command is at work on it
    wanted = carried(client, settings, version)
    if wanted is None:
        return f"it carries experiment {served.experiment}, which does not run" if served.experiment else ""
    if served.experiment == wanted.release or (environment == "staging" and not served.experiment):
        return ""
    return f"it carries {served.experiment or 'no experiment'}, not experiment {wanted.release}"


def refuse_beside_experiment(client, settings: Settings, environment: str, version: ModelVersion, action: str) -> None:
    """Refuse to put another version into production while an experiment runs; what brings back is always allowed."""
    if environment != "production" or action not in FORWARD:
        return
    record = experiments.running(client, settings.name)
    if record is None or record.state == STOPPING or version.number == record.champion:
        return
    dead = last_served(client, settings, environment) is None
    raise DeployError(
        f"version {version.number} cannot go to production while {record.in_words()}",
        (f"production serves nothing now: `make reconcile` starts version {record.champion} again. " if dead else "")
        + "`make experiment` says how it stands; `make experiment-stop` ends it, and then deploy again. `make rollback` is "
        "allowed, and ends it too",
    )


def refuse_another_place(
    client, settings: Settings, environment: str, target, before: CurrentRelease | None, action: str
) -> None:
    """Refuse to deploy quietly somewhere else than last time: another target, or a cluster that knows of nothing."""
    last = last_deployment(client, settings.name, environment)
    if last is None and before is not None:
        print(f"note: this MLflow does not know what {environment} serves, {before.name} version {before.version}")
    if action not in FORWARD or last is None:
        return
    if settings.deploy.target == "auto" and last.target != target.NAME:
        raise DeployError(
            f"{environment} was last deployed to target {last.target}, and `auto` means {target.NAME} here",
            f"`make doctor` says why; set {last.target} up, or name a target in pipeline.toml [deploy]",
        )
    if before is None and target.NAME == last.target == "kubernetes" and not target.known(environment, settings):
        raise DeployError(
            f"{environment} was last deployed as version {last.version}, but this cluster and namespace know of nothing",
            f"is the context the right one? In a new cluster, `make rollback ENVIRONMENT={environment} "
            f"VERSION={last.version}` puts that version there first",
        )


def prepared(
    client, settings: Settings, environment: str, version: ModelVersion, images: bool, again: bool = False
) -> Release:
    """What a target needs to serve a version: its verified bundle and, where asked for, its image.

    A version that serves `again` gets the very image that it had, by digest; nothing is asked or built for that. While an experiment
    runs, its champion's release carries the challenger, whoever deploys it.
    """
    experiment = carried(client, settings, version)
    folder = fetch(client, environment, version, experiment)
    image = None
    if images and experiment:
        image = build.of_experiment(client, settings, version, experiment, folder)
    elif images:
        image = build.before(settings, version) if again else None
        image = image or build.build(client, settings, version, folder)["image"]
    says = read_json(folder / "release.json")
    return Release(
        says["name"], says["version"], says["digest"], folder, image, experiment.release if experiment else ""
    )


def fetch(client, environment: str, version: ModelVersion, experiment: ExperimentRecord | None = None) -> Path:
    """The verified bundle of a version, with what an experiment adds, under .slipway/ENVIRONMENT/.

    Raises StageError when a byte of it is wrong, DeployError where the challenger cannot be served beside it. A run that is killed leaves
    nothing there.
    """
    with fetched(client, version, experiment) as whole:
        name = f"version-{version.number}-{version.digest[:12]}"
        if experiment:
            name += f"-{experiment.name}-{experiment.digest[:8]}"
        folder = STATE / environment / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        replace_directory(whole, folder)
    return folder


@contextmanager
def fetched(client, version: ModelVersion, experiment: ExperimentRecord | None = None) -> Iterator[Path]:
    """The same in a folder that goes again."""
    for left in STATE.glob(".fetch-*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    STATE.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=STATE, prefix=".fetch-"))
    try:
        champion = verified(client, version, work / "champion")
        if experiment is None:
            yield champion
            return
        try:
            challenger = verified(client, experiments.challenger(client, version.name, experiment), work / "challenger")
        except StageError as error:
            way_out = f"{error.then}; `make experiment-stop` ends an experiment that runs, without it"
            raise StageError(error.what, way_out) from error
        composition.compose(champion, challenger, experiment, work / "both")
        yield work / "both"
    finally:
        shutil.rmtree(work, ignore_errors=True)


def verified(client, version: ModelVersion, folder: Path) -> Path:
    """The bundle of a version, downloaded into a folder; raises StageError when a byte of it is wrong."""
    if not version.digest:
        raise RegistryError(f"version {version.number} was not registered by this pipeline", "`make ship` makes one")
    folder.mkdir()
    there = versions.fetch_bundle(client, version, folder)
    try:
        bundle.verify(there)
    except StageError as error:
        raise StageError(f"version {version.number} in MLflow: {error.what}", error.then) from error
    return there


def tidy(environment: str, keep: set[Path]) -> None:
    """Remove bundles of the environment other than the one that serves and the one before it."""
    for folder in (STATE / environment).iterdir():
        if folder not in keep:
            shutil.rmtree(folder, ignore_errors=True)
