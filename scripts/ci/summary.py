"""Sum up a delivery: verdict, comparison, what staging and production serve, and how old it all is.

make summary

Goes into the job summary in a workflow, and to the terminal elsewhere. It shows what there is: a file or an MLflow that is
missing is left out, and never an error.
"""

import argparse
import sys

from pipeline import artifacts
from pipeline.ci import outputs
from pipeline.errors import SlipwayError, edge
from pipeline.evaluation.findings import Cell, Name, Section, Table
from pipeline.evaluation.github_markdown import prose, section
from pipeline.evaluation.wording import number
from pipeline.pull_request import comment
from pipeline.pull_request import report as pull_request_report
from pipeline.registry import experiments, mlflow_server, versions
from pipeline.registry import history as ages
from pipeline.registry.deployment_record import last_deployment
from pipeline.registry.embedded import snapshot
from pipeline.registry.model_version import NOTHING
from pipeline.settings import Settings, load_settings

MOST = 1_000_000  # characters are at most so many bytes: GitHub takes 1 MiB of a step
ENVIRONMENTS = ("staging", "production")


@edge
def main(argv: list[str] | None = None) -> None:
    """Write the summary."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    settings = load_settings()
    text = markdown(settings)
    outputs.summary(text)
    if not outputs.is_workflow():
        print(text)


def markdown(settings: Settings) -> str:
    """The whole summary, of what there is."""
    blocks = [f"# {settings.name}", *of_build(settings), *of_mlflow(settings)]
    if len(blocks) == 1:
        blocks.append("Nothing has been trained or deployed here yet.")
    return shortened(comment.fitted([*blocks, ""], MOST // 2))


def shortened(text: str) -> str:
    """The text, if its bytes are not too many; else a note in its place."""
    return (
        text
        if len(text.encode()) <= MOST
        else "The summary is too long to be shown: the artifacts of the run have all.\n"
    )


def of_build(settings: Settings) -> list[str]:
    """What the stages found, if any has run in this job."""
    if not any((artifacts.BUILD / name).exists() for name in pull_request_report.STAGES):
        return []
    found = pull_request_report.document(settings)
    return [f"## {comment.title(found)}", *comment.findings(found)]


def of_mlflow(settings: Settings) -> list[str]:
    """What MLflow knows, if there is one: none is started for the sake of a summary."""
    if pull_request_report.production_unknown():
        return ["What is in production is not known here: MLflow could not be fetched."]
    if not (mlflow_server.remote_uri() or (mlflow_server.HOME / snapshot.DATABASE).exists()):
        return []
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        client = versions.connect(settings)
        return [environments(client, settings.name), history(client, settings.name)]
    except (SlipwayError, MlflowException, RequestException) as error:
        return [f"MLflow could not be asked: {prose(str(error).splitlines()[0])}"]


def environments(client, name: str) -> str:
    """What each environment serves, by the record of its last deployment, whether the alias agrees, and the experiment that runs."""
    rows: list[tuple[Cell, ...]] = []
    for environment in ENVIRONMENTS:
        last = last_deployment(client, name, environment)
        found = versions.by_alias(client, name, environment)
        alias = found.number if found else None
        serves = f"version {last.version}" if last else "nothing"
        if alias != (last.version if last else None):
            serves += f", its alias is on {f'version {alias}' if alias else 'none'}"
        since = versions.timestamp(last.since) if last else "–"
        rows.append((environment, serves, since, Name(last.image or NOTHING) if last else "–"))
    table = Table(("environment", "serves", "since", "image"), rows, words=range(4))
    experiment = experiments.running(client, name)
    return section(Section("Environments", (experiment.in_words(),) if experiment else (), table))


def history(client, name: str) -> str:
    """When was last trained, retrained on schedule, and compared with the data of production."""
    trained, retrained = ages.last_training(client, name), ages.last_retraining(client, name)
    compared = ages.last_comparison(client, name)
    drift = ages.drift_of(compared) if compared else None
    rows: list[tuple[Cell, ...]] = [
        ("training", _when(trained), Name(trained.tags["reason"]) if trained and trained.tags.get("reason") else "–"),
        ("scheduled retraining", _when(retrained), "–"),
        ("data compared with production's", _when(compared), _worst(drift)),
    ]
    table = Table(("what", "last", "of it"), rows, words=range(3))
    warning = ages.warning(retrained)
    return section(Section("Ages", (f"⚠️ {warning}",) if warning else (), table))


def _when(happened: ages.Happened | None) -> str:
    return f"{ages.in_words(happened.when)}, {versions.timestamp(happened.when)}" if happened else "never"


def _worst(drift: tuple[float, str, str] | None) -> str:
    if drift is None:
        return "–"
    psi, column, version = drift
    return f"largest PSI {number(psi, 3)}, “{column}” against version {version}"


if __name__ == "__main__":
    sys.exit(main())
