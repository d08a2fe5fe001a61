"""Building and pushing the image of a model version, unless it is there already."""

from pathlib import Path
from typing import Any

from delivery.images import docker_engine, image_registry, recipe
from pipeline import container_registry, processes
from pipeline.artifacts import BUILD, ROOT, read_json
from pipeline.ci import lineage
from pipeline.errors import ImageError, RegistryError, StageError
from pipeline.registry import experiments, model_version, versions
from pipeline.registry.experiments import ExperimentRecord
from pipeline.registry.model_version import ModelVersion
from pipeline.settings import Settings

WAIT_SECONDS = 900  # for another build on this machine


def chosen(client, settings: Settings, number: str | None) -> ModelVersion:
    """The version asked for, or the one that this build registered."""
    if number:
        return versions.by_number(client, settings.name, number)
    registered = read_json(BUILD / "registered.json")
    version = versions.by_number(client, settings.name, registered["version"])
    if version.digest != registered["digest"]:
        raise StageError(
            f"build/registered.json is about another version {registered['version']} than MLflow's",
            "run `make register`, or name a version: `make image VERSION=n`",
        )
    return version


def build(client, settings: Settings, version: ModelVersion, bundle: Path) -> dict[str, Any]:
    """The image of a model version, as build/image.json has it: found where it is already, else built, and pushed."""
    of_version(version, bundle)
    repository, in_registry = container_registry.repository(settings.name)
    auth = container_registry.login()
    with processes.lock("image", f"image of version {version.number}", WAIT_SECONDS):
        found = pushed_before(version, repository, auth) if in_registry else None
        if found:
            return found
        docker = docker_engine.connect()
        image = in_engine(docker, version, bundle, f"{repository}:{recipe.tag(version)}")
        size = image.attrs["Size"]
        if not in_registry:
            return recipe.record(version, repository, image.id, False, size)
        name = f"{repository}@{image_registry.push(docker, repository, recipe.tag(version), auth)}"
        model_version.set_tags(client, version.name, version.number, image=name)
    return recipe.record(version, repository, name, True, size)


def of_experiment(client, settings: Settings, version: ModelVersion, record: ExperimentRecord, bundle: Path) -> str:
    """The image that holds both models of an experiment, in a registry by digest; found where it is already, else built, and pushed.

    It is recorded with the experiment, so that the very same one is deployed again whenever the champion is: nothing is asked or built
    for that.
    """
    repository, in_registry = container_registry.repository(settings.name)
    if record.image and record.image.startswith(f"{repository}@sha256:"):
        return record.image
    auth = container_registry.login()
    with processes.lock("image", f"image of experiment {record.name}", WAIT_SECONDS):
        docker = docker_engine.connect()
        tag = recipe.tag(version, record)
        image = in_engine(docker, version, bundle, f"{repository}:{tag}", record)
        name = f"{repository}@{image_registry.push(docker, repository, tag, auth)}" if in_registry else image.id
        experiments.change(client, record, image=name)
    return name


def before(settings: Settings, version: ModelVersion) -> str | None:
    """The image that was pushed for this version earlier, as MLflow has it; one of another repository is not ours."""
    repository, _ = container_registry.repository(settings.name)
    return version.image if version.image.startswith(f"{repository}@sha256:") else None


def of_version(version: ModelVersion, folder: Path) -> None:
    """Refuse a bundle that is damaged or of another version."""
    from pipeline.formats import bundle

    if not version.digest:
        raise RegistryError(f"version {version.number} was not registered by this pipeline", "`make ship` makes one")
    release = bundle.verify(folder)
    for key, expected in {"name": version.name, "version": version.number, "digest": version.digest}.items():
        if release[key] != expected:
            raise StageError(
                f"the bundle is of {key} {release[key]}, not of {expected}", "`make register` puts it right"
            )


def pushed_before(version: ModelVersion, repository: str, auth: dict[str, str] | None) -> dict[str, Any] | None:
    """What was pushed for this version earlier, if the registry still has it."""
    name = version.image
    if not name.startswith(f"{repository}@"):
        return None
    try:
        docker = docker_engine.connect()
    except ImageError as error:  # a machine without engine may deploy what another one has built
        print(f"version {version.number} has the image {name}; not looked up in the registry: {error.what}", flush=True)
        return recipe.record(version, repository, name, True, None)
    if not image_registry.has(docker, name, auth):
        print(f"{container_registry.host(repository)} no longer has {name}", flush=True)
        return None
    here = docker_engine.get(docker, name)
    return recipe.record(version, repository, name, True, here.attrs["Size"] if here else None)


def in_engine(docker, version: ModelVersion, bundle: Path, name: str, experiment: ExperimentRecord | None = None):
    """The image of this version, or of an experiment with it, in the engine; built unless it is there."""
    # One image for each version: what was built for it is used, also when the service's code has changed since.
    found = docker_engine.find(docker, recipe.identity(version, experiment), name)
    if found:
        repository, tag = name.rsplit(":", 1)
        found.tag(repository, tag)
        return found
    context = recipe.context(ROOT, bundle)
    made_of = recipe.inputs(context)
    docker_engine.get_base(docker, recipe.base())
    commit, dirty = lineage.commit()
    revision = f"{commit}-dirty" if dirty else commit
    print(f"building {name} on {recipe.base()}", flush=True)
    labels, locked = recipe.labels(version, revision, made_of, experiment), recipe.requirements(bundle)
    return docker_engine.build(docker, context, name, labels, version.created, locked)
