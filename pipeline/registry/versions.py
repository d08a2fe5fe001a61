"""The model registry in MLflow: the connection, versions by number, alias and build, and the experiments.

Aliases, never stages: `production` is what serves, `previous` what served before, `candidate` what was registered last,
`staging` what staging runs.
"""

import contextlib
import getpass
import os
import time
from pathlib import Path

from pipeline import processes
from pipeline.errors import RegistryError
from pipeline.registry import mlflow_server
from pipeline.registry.model_version import ModelVersion
from pipeline.settings import Settings

MACHINE_LEARNING = {"mlflow.experimentKind": "custom_model_development"}  # what MLflow 3 calls training, beside traces


def connect(settings: Settings):
    """An MlflowClient for the server that `mlflow_server.uri` finds; also makes it MLflow's default."""
    address = mlflow_server.uri(settings)
    import mlflow

    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    return mlflow.MlflowClient()


def _absent(error: Exception) -> bool:
    """True when MLflow says that a model, version or alias does not exist; anything else is a real error."""
    code = getattr(error, "error_code", "")
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "alias" in str(error))


def by_alias(client, name: str, alias: str) -> ModelVersion | None:
    """The model version that carries an alias, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return ModelVersion.from_mlflow(client.get_model_version_by_alias(name, alias))
    except MlflowException as error:
        if _absent(error):
            return None
        raise


def by_number(client, name: str, number: str) -> ModelVersion:
    """A model version by its number; raises RegistryError that lists the versions there are."""
    from mlflow.exceptions import MlflowException

    try:
        if number.isdecimal():  # MLflow answers anything else with words about its own parameters
            return ModelVersion.from_mlflow(client.get_model_version(name, number))
    except MlflowException as error:
        if not _absent(error):
            raise
    raise RegistryError(f"{name} has no version {number}", f"versions in MLflow: {numbers(client, name)}")


def versions(client, name: str) -> list[ModelVersion]:
    """All versions of the model, newest first."""
    found = client.search_model_versions(f"name='{name}'", order_by=["version_number DESC"], max_results=1000)
    return [ModelVersion.from_mlflow(one) for one in found]


def numbers(client, name: str) -> str:
    """The numbers of all versions, for a message."""
    return ", ".join(version.number for version in versions(client, name)) or "none"


def by_digest(client, name: str, digest: str) -> ModelVersion | None:
    """The newest version of a build, or None."""
    return _newest(client, name, "digest", digest)


def by_model_hash(client, name: str, model_hash: str) -> ModelVersion | None:
    """The newest version with this very model, of whatever commit, or None."""
    return _newest(client, name, "model_hash", model_hash)


def _newest(client, name: str, key: str, value: str) -> ModelVersion | None:
    found = client.search_model_versions(f"name='{name}' and tags.{key}='{value}'", order_by=["version_number DESC"])
    return ModelVersion.from_mlflow(found[0]) if found else None


def was_promoted(client, name: str, number: str) -> bool:
    """Whether a version was in production; one that MLflow no longer has counts as promoted, for nobody can tell."""
    from mlflow.exceptions import MlflowException

    try:
        return ModelVersion.from_mlflow(client.get_model_version(name, number)).promoted is not None
    except MlflowException as error:
        if _absent(error):
            return True
        raise


def move_alias(client, name: str, alias: str, to: str, expected: str | None, left: str = "") -> str | None:
    """Compare-and-set: move an alias to version `to` if it is on `expected` (None: on no version) or there already.

    The version that it leaves is returned, and gets the alias `left` first, so that a kill in between forgets nothing.

    MLflow has no such call. The lock keeps commands on this machine apart, and the alias is read back, so a person who
    moves it in the same instant elsewhere is noticed. Raises RegistryError when it is somewhere else.
    """
    with processes.lock("alias", f"move of alias {alias}", wait_seconds=30):
        now = by_alias(client, name, alias)
        current = now.number if now else None
        if current not in (expected, to):
            raise RegistryError(
                f"alias {alias} of {name} is on {_name(current)}, not on {_name(expected)}: someone moved it meanwhile",
                "`make status` shows what runs; `make evaluate` compares with the production model of now",
            )
        if current != to:
            if left and current:
                client.set_registered_model_alias(name, left, current)
            client.set_registered_model_alias(name, alias, to)
        after = by_alias(client, name, alias)
        if after is None or after.number != to:
            raise RegistryError(f"alias {alias} of {name} was moved away from version {to} at once", "`make status`")
    return current if current != to else None


def _name(version: str | None) -> str:
    return f"version {version}" if version else "no version"


def find_experiment(client, name: str):
    """An experiment, or None when it is not there; raises RegistryError when it was deleted."""
    found = client.get_experiment_by_name(name)
    if found and found.lifecycle_stage != "active":
        raise RegistryError(
            f"the experiment {name} was deleted in MLflow",
            f"`{mlflow_server.command(f'experiments restore --experiment-id {found.experiment_id}')}` brings it back, "
            "with its runs; nothing was changed",
        )
    return found


def experiment(client, name: str) -> str:
    """The id of an experiment, made when it is not there; two makers at once get the same. Raises as `find_experiment` does."""
    from mlflow.exceptions import MlflowException

    found = find_experiment(client, name)
    if found:
        shown_as_machine_learning(client, found)
        return found.experiment_id
    try:
        return client.create_experiment(name, tags=MACHINE_LEARNING)
    except MlflowException:
        found = find_experiment(client, name)
        if found is None:
            raise
        return found.experiment_id


def shown_as_machine_learning(client, found) -> None:
    """Tag an older experiment as model development too, unless someone chose its kind in MLflow."""
    from mlflow.exceptions import MlflowException

    for key, value in MACHINE_LEARNING.items():
        if key not in found.tags:
            with contextlib.suppress(MlflowException):  # a look, and some may train who may not change the experiment
                client.set_experiment_tag(found.experiment_id, key, value)


def check_experiments(client, name: str) -> None:
    """Raise RegistryError when the experiment of the runs, of the deployments or of the experiments was deleted in MLflow."""
    for each in (name, f"{name}-deployments", f"{name}-experiments"):
        find_experiment(client, each)


def actor() -> str:
    """Who is at work: the GitHub user in a workflow, else the user of this machine."""
    try:
        return os.environ.get("GITHUB_ACTOR") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def fetch_bundle(client, version: ModelVersion, destination: Path) -> Path:
    """Download the bundle of a model version into an empty folder and return its path."""
    import mlflow

    if not version.bundle:
        raise RegistryError(
            f"{version.name} version {version.number} has no bundle", "register it with `make register`"
        )
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=version.bundle, dst_path=str(destination)))


def timestamp(seconds: float) -> str:
    """Local time as 2026-01-31 13:45:00."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
