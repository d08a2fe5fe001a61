"""Compare the candidate with the production model on one hold-out, and decide.

    make evaluate               # or: python evaluate.py, after `make train`
    python evaluate.py --first  # start anew after the production version was deleted in MLflow
    make evaluate COLUMNS=changed  # the columns are meant to differ from production's: the limits alone decide

Asks both models as the service asks them. Writes build/evaluation.json (the verdict and all it rests on), build/report.md,
build/report.html and build/plots/, and adds metrics and figures to the candidate's run in MLflow. Exits 0 whatever it decides:
`make gate` turns the verdict into an exit status, after the report is out.
"""

import argparse
import sys
import time

import msgspec

from pipeline.artifacts import BUILD, read_json, write_text
from pipeline.comparison.candidate import ServedCandidate, beside_int8, candidate
from pipeline.comparison.compared import compared
from pipeline.comparison.explained import Explained, explain
from pipeline.comparison.pictures import draw
from pipeline.comparison.production import in_production
from pipeline.comparison.recorded import record_of
from pipeline.data.dataset import load_dataset
from pipeline.errors import edge
from pipeline.evaluation import findings, gate, record, report
from pipeline.evaluation.measures import (
    to_measure,
)
from pipeline.evaluation.record import (
    DataChange,
    Evaluation,
)
from pipeline.formats import bundle
from pipeline.registry import versions
from pipeline.registry.training_run import run_title
from pipeline.search import study
from pipeline.settings import Settings, load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Judge the candidate of build/ and write the verdict and the report."""
    options = asked(argv)
    (BUILD / record.NAME).unlink(missing_ok=True)  # an older verdict must not speak for this candidate
    settings = load_settings()
    dataset = load_dataset(settings)
    run, data = read_json(BUILD / "run.json"), read_json(BUILD / "data.json")

    # The candidate as it will be served, and the production model on the same rows.
    served = candidate(settings, dataset, run)
    measures = to_measure(settings, dataset)
    served, int8 = beside_int8(settings, dataset, run, measures, served)
    client = versions.connect(settings)
    production = in_production(client, settings, dataset, options.first, measures.units)
    found = compared(client, settings, dataset, measures, served, production)

    # The verdict.
    problem = rolled_back(client, settings, served) or (production.problem if production else None)
    evidence = gate.Evidence(
        value=found.values[measures.decides.name],
        first=production is None,
        limits=gate.judge_limits(settings.gate.limits, found.values, measures.known),
        checks=served.checks,
        identical=found.identical,
        comparison=found.comparisons.get(measures.decides.name),
        slices=found.slices,
        best=found.beside_best,
        production_problem=problem,
        columns_changed=options.columns == "changed",
    )
    explained = explain(settings, dataset, served, study.of_run(run))
    number = next_version(client, settings, served.digest)
    evaluation = record_of(
        settings, dataset, run, served, measures, production, found, evidence, number, explained, int8
    )

    # What people and later stages read.
    pictures = draw(settings, dataset, measures, found, served, evaluation, explained)
    tell_mlflow(client, settings, run, evaluation, explained)
    write_text(BUILD / "report.md", report.markdown(evaluation, data))
    write_text(BUILD / "report.html", report.html(evaluation, data, run, pictures))
    record.write(BUILD, evaluation)
    say(evaluation, evidence)


def asked(argv: list[str] | None) -> argparse.Namespace:
    """What the user asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", action="store_true", help="start anew when production's version was deleted")
    parser.add_argument(
        "--columns", choices=("unchanged", "changed"), default="unchanged",
        help="changed: where production needs columns that the data lacks, [gate.limits] alone decide",
    )  # fmt: skip
    return parser.parse_args(argv)


def next_version(client, settings: Settings, digest: str) -> int:
    """The number that this build would be registered under, as of now."""
    registered = versions.by_digest(client, settings.name, digest)
    if registered:
        return int(registered.number)
    newest = versions.versions(client, settings.name)
    return int(newest[0].number) + 1 if newest else 1


def remember(client, run_id: str, data: DataChange | None) -> None:
    """Tag the run with its largest drift, so that MLflow knows when data was last compared with production's."""
    if data and data.drift:
        worst = data.drift[0]
        client.set_tag(run_id, "drift_from", data.version)
        client.set_tag(run_id, "drift_column", worst.column[:500])
        client.set_tag(run_id, "drift_psi", str(worst.psi))


def rolled_back(client, settings: Settings, served: ServedCandidate) -> gate.Problem | None:
    """A reason to keep production when this very model was rolled back: what was wrong with it, the hold-out did not show.

    A push is another commit, and so another build, but where the model is the same it has the same faults.
    """
    model = bundle.model_hash(served.folder)
    version = versions.by_digest(client, settings.name, served.digest)
    version = version or versions.by_model_hash(client, settings.name, model)
    if version is None or version.rolled_back is None:
        return None
    return gate.Problem(
        "keep",
        f"this model is version {version.number}, which was rolled back on {version.rolled_back}; "
        f"`make rollback VERSION={version.number}` brings it back.",
    )


def tell_mlflow(client, settings: Settings, run: dict, evaluation: Evaluation, explained: Explained) -> None:
    """Add metrics, figures and the verdict to the candidate's run in MLflow."""
    from mlflow.entities import Metric

    run_id, now = run["run_id"], int(time.time() * 1000)
    scores = [
        Metric(name, value, now, 0, model_id=run["model_id"]) for name, value in evaluation.candidate.metrics.items()
    ]
    client.log_batch(run_id, metrics=scores)
    client.log_artifacts(run_id, str(BUILD / "plots"), "plots")
    client.log_dict(run_id, explained.importance, "feature_importance.json")
    if evaluation.shapley:
        client.log_dict(run_id, msgspec.to_builtins(evaluation.shapley), "shapley.json")
    remember(client, run_id, evaluation.data)
    client.set_tag(run_id, "judged_by", evaluation.judged_by)
    registered = versions.by_digest(client, settings.name, evaluation.registers[1])
    run_title.tell(client, run_id, evaluation.verdict, registered.number if registered else None)


def say(evaluation: Evaluation, evidence: gate.Evidence) -> None:
    """Tell the user what was found."""
    for name, value in evaluation.candidate.metrics.items():
        print(f"  {name:<24} {value:.4f}")
    if evidence.columns_changed and evaluation.judged_by != "limits":
        print("COLUMNS=changed is ignored: the columns are not what stands between the candidate and production")
    print("report: build/report.html")
    for how in findings.how_rows_count(evaluation):
        print(f"  {how}")
    if findings.distinct(evaluation) < evaluation.rows:
        print(f"  {findings.repeated_rows(evaluation)}")
    if evaluation.best and evaluation.best.problem:
        print(f"  {findings.best_not_compared(evaluation.best)}")
    for why in evaluation.reasons:
        print(f"  {why}")
    if evaluation.format and evaluation.format.format_reason:
        print(f"  Served by {evaluation.format.library} itself, not as ONNX: {evaluation.format.format_reason}.")
    print(f"verdict: {evaluation.verdict}")


if __name__ == "__main__":
    sys.exit(main())
