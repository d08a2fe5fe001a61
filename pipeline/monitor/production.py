"""What is known of the versions that may have answered: contract and reference of their bundles, from MLflow."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from pipeline.artifacts import read_json
from pipeline.errors import SlipwayError
from pipeline.monitor.plan import Trained
from pipeline.registry import versions
from pipeline.registry.model_version import ModelVersion
from pipeline.settings import Settings

NEWEST = 10  # versions that are asked for; rows of older ones are counted in total only
PAPERS = ("contract.json", "reference.json")


def trained_versions(client, settings: Settings) -> tuple[dict[str, Trained], dict[str, str]]:
    """Contract and reference by version, and for each version without them why: its bundle is gone, say."""
    found, missing = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for version in _candidates(client, settings):
            try:
                found[version.number] = _papers(version, Path(folder) / version.number)
            except SlipwayError as error:
                missing[version.number] = error.what
    return found, missing


def _candidates(client, settings: Settings) -> Iterable[ModelVersion]:
    """The newest versions that are deployable, and whatever an alias is on."""
    known = {version.number: version for version in versions.versions(client, settings.name)}
    chosen = [version for version in known.values() if version.bundle][:NEWEST]
    aliased = [versions.by_alias(client, settings.name, alias) for alias in ("production", "previous", "staging")]
    return {version.number: version for version in [*chosen, *aliased] if version}.values()


def _papers(version: ModelVersion, folder: Path) -> Trained:
    import mlflow
    from mlflow.exceptions import MlflowException

    gone = SlipwayError(f"the bundle of version {version.number} is gone from MLflow")
    if not version.bundle:
        raise gone
    read = []
    for paper in PAPERS:
        try:
            path = mlflow.artifacts.download_artifacts(artifact_uri=f"{version.bundle}/{paper}", dst_path=str(folder))
        except (MlflowException, OSError) as error:
            if _unreachable(error):
                raise
            raise gone from error
        read.append(read_json(Path(path)))
    return Trained(*read)


def _unreachable(error: Exception) -> bool:
    """Whether MLflow as a whole does not answer, which says nothing about one bundle."""
    return "Max retries" in str(error) or "Connection refused" in str(error)
