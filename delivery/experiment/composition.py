"""The folder of a release with two models: the champion's bundle as it is, and beside it the experiment with the challenger's.

manifest.json contract.json model.onnx …      the champion's bundle
experiment/experiment.json                    which experiment this is
experiment/challenger/manifest.json …         the challenger's bundle
"""

import shutil
from pathlib import Path

import msgspec

from pipeline.artifacts import write_text
from pipeline.errors import DeployError
from pipeline.registry.experiments import ExperimentRecord
from serving.experiment.experiment import CHALLENGER, FILE, Carried, Experiment, open_experiment
from serving.model.bundle import EXPERIMENT, BundleError, open_bundle


def compose(champion: Path, challenger: Path, record: ExperimentRecord, into: Path) -> Carried:
    """Make the folder `into`, which must not exist, of two bundles; raises DeployError where they cannot be served together.

    What is made is read as the service reads it, to the last byte.
    """
    shutil.copytree(champion, into)
    shutil.copytree(challenger, into / EXPERIMENT / CHALLENGER)
    write_text(
        into / EXPERIMENT / FILE, msgspec.json.format(msgspec.json.encode(about(record)), indent=2).decode() + "\n"
    )
    try:
        carried = open_experiment(into, open_bundle(into))
    except BundleError as error:
        raise DeployError(
            f"experiment {record.name} cannot be served: {str(error).removeprefix(f'{into}/{EXPERIMENT}: ')}",
            "a challenger takes the same inputs and gives the same classes as the version in production",
        ) from error
    assert carried, "it was just written"
    return carried


def about(record: ExperimentRecord) -> Experiment:
    """What experiment.json says; raises DeployError where the record in MLflow was damaged."""
    try:
        said = {
            "name": record.name,
            "mode": record.mode,
            "share": record.share,
            "challenger": record.challenger,
            "challenger_digest": record.challenger_digest,
            "guardrails": msgspec.json.decode(record.guardrails or "{}"),
        }
        return msgspec.convert(said, Experiment)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise DeployError(
            f"the record of experiment {record.name} is damaged: {error}", "`make experiment-stop` ends the experiment"
        ) from error
