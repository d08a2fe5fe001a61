"""Compare the candidate with the production model on one hold-out, and decide.

    make evaluate               # or: python evaluate.py, after `make train`
    python evaluate.py --first  # start anew after the production version was deleted in MLflow
    make evaluate COLUMNS=changed  # the columns are meant to differ from production's: the limits alone decide

Asks both models as the service asks them. Writes build/evaluation.json (the verdict and all it rests on), build/report.md,
build/report.html and build/plots/, and adds metrics and figures to the candidate's run in MLflow. Exits 0 whatever it decides:
`make gate` turns the verdict into an exit status, after the report is out.
"""

import argparse
import math
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from pipeline.artifacts import BUILD, read_json, replace_directory, write_text
from pipeline.comparison.best_version import BestVersion, best_afterwards, best_row, best_version, compare_with_best
from pipeline.comparison.production import Production, in_production
from pipeline.comparison.recent import recent_rows
from pipeline.data.dataset import Dataset, load_dataset
from pipeline.decisions import judged, rules
from pipeline.errors import StageError, edge
from pipeline.evaluation import findings, gate, metrics, plots, record, report
from pipeline.evaluation import quantised as int8_beside
from pipeline.evaluation.figures import to_png
from pipeline.evaluation.importance import permutation, shapley
from pipeline.evaluation.measures import (
    Measures,
    baseline,
    counting,
    distinct,
    of_baseline,
    position_of_positive,
    to_measure,
)
from pipeline.evaluation.record import (
    Candidate,
    CheckRow,
    Compared,
    Comparison,
    DataChange,
    Evaluation,
    Format,
    Importance,
    LimitRow,
    MetricRow,
    SliceRow,
)
from pipeline.formats import bundle, choose
from pipeline.formats.comparison import formats_page
from pipeline.registry import versions
from pipeline.registry.training_run import run_title
from pipeline.search import search_picture, study
from pipeline.settings import TRAINING, Settings, load_settings
from serving.model.decision import Threshold, threshold_of


@dataclass(frozen=True)
class ServedCandidate:
    """The candidate as the service runs it: its answers on the hold-out, and its checks beside the trained model."""

    folder: Path
    digest: str
    files: dict[str, bytes]
    contract: dict
    y_pred: np.ndarray
    alone: np.ndarray  # what the model answers without its rules; the same where it has none
    threshold: Threshold | None
    checks: list[gate.ModelCheck]


@dataclass(frozen=True)
class Comparisons:
    """The candidate's metrics; and, on `rows` (mask over the hold-out), both models by every metric and on every slice."""

    values: dict[str, float]
    rows: np.ndarray
    production: np.ndarray | None  # y_pred on these rows; None: nothing could be compared
    identical: bool = False
    comparisons: Mapping[str, gate.Comparison] = field(default_factory=dict)
    slices: tuple[gate.Slice, ...] = ()
    best: BestVersion | None = None
    beside_best: gate.Best | None = None
    production_threshold: Threshold | None = None


@dataclass(frozen=True)
class Explained:
    """What the report says of the model alone: which columns its answers rest on, and how its parameters were found."""

    importance: dict[str, float]
    contributions: shapley.Contributions | None  # None: the library is not there
    search: record.Search | None


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


# --- the candidate ---


def candidate(settings: Settings, dataset: Dataset, run: dict) -> ServedCandidate:
    """The candidate's answers on the hold-out, and its checks against the trained model.

    What train.py found in its other trials is taken from run.json: it is about these very bytes.
    """
    folder = BUILD / "model"
    if run["settings_hash"] != settings.fingerprint(*TRAINING):
        raise StageError("pipeline.toml was changed since the model was trained", "run `make train`")
    if run["data_hash"] != dataset.hash or bundle.digest(folder) != run["model_digest"]:
        raise StageError("build/model is not of build/run.json and the present data", "run `make train`")
    contract, files, tolerance = read_json(folder / "contract.json"), bundle.model_files(folder), settings.gate.parity
    trial = choose.on_holdout(dataset, bundle.predictions(folder))
    measured = choose.measure(*rules.without(files, contract), [trial], tolerance, choose.CALLS)
    (alone,), (parity,) = measured.answers, measured.parity
    y_pred, milliseconds = alone, measured.milliseconds
    if contract.get("rules"):
        (y_pred,), milliseconds = choose.ask(files, contract, [trial.rows], choose.CALLS)
    elsewhere = [one for one in run["trials"] if one["where"] != choose.HOLDOUT]
    labels = [gate.ModelCheck("labels that differ from the trained model's", parity.labels, 0, "rows")]
    checks = [
        *(labels if dataset.classes else []),
        gate.ModelCheck("parity", finite(parity.difference), tolerance),
        *(gate.ModelCheck(f"parity {one['where']}", finite(one["difference"]), tolerance) for one in elsewhere),
        gate.ModelCheck("latency", milliseconds, settings.gate.max_latency_ms, "ms"),
        gate.ModelCheck("bundle size", bundle.size_mb(folder), settings.gate.max_bundle_mb, "MB"),
    ]
    return ServedCandidate(folder, run["model_digest"], files, contract, y_pred, alone, threshold_of(contract), checks)


def beside_int8(
    settings: Settings, dataset: Dataset, run: dict, measures: Measures, served: ServedCandidate
) -> tuple[ServedCandidate, record.Int8 | None]:
    """The candidate that goes on, and how the one in int8 stands beside the one in float32; None where none is asked for."""
    made, folder = run.get("int8"), BUILD / "quantised"
    if not made:
        return served, None
    if not made["digest"]:
        return served, record.Int8(how=made["how"], reason=made["reason"])
    if not folder.is_dir() or bundle.digest(folder) != made["digest"]:
        raise StageError("build/quantised is not of build/run.json", "run `make train`")
    contract, files = read_json(folder / "contract.json"), bundle.model_files(folder)
    held = dataset.features[dataset.holdout]
    y_pred, milliseconds = choose.predict(files, contract, held, choose.CALLS)
    alone = choose.predict(*rules.without(files, contract), held)[0] if contract.get("rules") else y_pred
    single, int8 = int8_beside.sides(dataset, (served.files, served.contract, served.y_pred), (files, contract, y_pred))
    found = int8_beside.judge(settings.gate, measures, made["how"], made["digest"], single, int8, served.threshold)
    print(f"{'int8' if found.taken else 'float32'} goes on: {found.reason}")
    if not found.taken:
        return served, found
    measured = {"latency": milliseconds, "bundle size": bundle.size_mb(folder)}
    checks = [replace(one, observed=measured.get(one.check, one.observed)) for one in served.checks]
    return ServedCandidate(folder, made["digest"], files, contract, y_pred, alone, served.threshold, checks), found


def explain(settings: Settings, dataset: Dataset, served: ServedCandidate, search: record.Search | None) -> Explained:
    """By how much the served model's score falls when a column is shuffled, and what columns add to single answers."""
    rows, shuffles = permutation.counts(dataset)
    if rows < dataset.holdout.sum() or shuffles < permutation.MOST_SHUFFLES:
        print(f"feature importance: {rows} of the held-out rows, {shuffles} shuffles of each column")

    def ask(frames):
        return choose.ask(served.files, served.contract, frames, each=True)[0]

    seed = settings.train.seed
    columns = permutation.feature_importance(ask, dataset, seed, rows, shuffles)
    return Explained(columns, shapley.contributions(ask, dataset, seed) if shapley.available() else None, search)


# --- what is measured ---


def compared(
    client,
    settings: Settings,
    dataset: Dataset,
    measures: Measures,
    served: ServedCandidate,
    production: Production | None,
) -> Comparisons:
    """The candidate's metrics, and the comparison with production where there is one that can be compared.

    The labels of each model are decided by its own threshold, where it has one.
    """
    y_true, y_pred, threshold = measures.y_true, served.y_pred, served.threshold
    values = {
        name: one.value(y_true, one.seen(y_pred, threshold), measures.weights) for name, one in measures.known.items()
    }
    if production is None or production.problem:
        return Comparisons(values, np.ones(len(y_true), dtype=bool), None)
    rows = production.rows
    both, drawn = (y_pred[rows], production.y_pred), measures.drawn(rows)
    thresholds = threshold, production.threshold

    def seen(metric: metrics.Metric) -> tuple[np.ndarray, np.ndarray]:
        return metric.seen(both[0], thresholds[0]), metric.seen(both[1], thresholds[1])

    comparisons = {name: gate.compare(one, y_true[rows], *seen(one), **drawn) for name, one in measures.known.items()}
    masks = slice_masks(settings, dataset, rows)
    slices = gate.compare_slices(
        measures.decides, y_true[rows], *seen(measures.decides), masks, minimum_rows=settings.gate.slice_rows, **drawn
    )
    best = best_version(client, settings, dataset, production, measures.units)
    beside_best = compare_with_best(best, measures, y_pred, threshold) if best and not best.problem else None
    identical = thresholds[0] == thresholds[1] and gate.identical(*both)
    return Comparisons(values, rows, both[1], identical, comparisons, tuple(slices), best, beside_best, thresholds[1])


def finite(value: float) -> float:
    """The value, or where it is infinite the largest number that JSON can carry."""
    return min(value, sys.float_info.max)


def or_none(value: float) -> float | None:
    """The value, or None where it is undefined: JSON has no NaN."""
    return value if math.isfinite(value) else None


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


def slice_masks(settings: Settings, dataset: Dataset, common: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Label and mask (over the common rows) of every slice that pipeline.toml asks for, and of production's rows of late."""
    held = np.flatnonzero(dataset.holdout)[common]
    rows = np.zeros(len(dataset.holdout), dtype=bool)
    rows[held] = True
    masks = []
    for column in settings.gate.slices:
        masks += gate.slice_masks(dataset.features[column].to_numpy(), column, rows)
    if recent := recent_rows(dataset):
        label, asked_of_late = recent
        if asked_of_late[held].any():
            masks.append((label, asked_of_late[held]))
    return masks


# --- the record, the report and the run ---


def rules_of(settings: Settings, decides: metrics.Metric) -> gate.Rules:
    """What pipeline.toml asks of the metric that decides."""
    asks = settings.gate
    return gate.Rules(decides.name, decides.higher_is_better, asks.policy, asks.margin, asks.confidence)


def record_of(
    settings: Settings, dataset: Dataset, run: dict, served: ServedCandidate, measures: Measures, production: Production | None,
    found: Comparisons, evidence: gate.Evidence, next_number: int, explained: Explained, int8: record.Int8 | None,
) -> Evaluation:  # fmt: skip
    """The verdict and all it rests on."""
    rules = rules_of(settings, measures.decides)
    verdict, decisive = gate.decide(evidence, rules), evidence.comparison
    return Evaluation(
        name=settings.name,
        task=settings.data.task,
        metric=rules.metric,
        higher_is_better=rules.higher_is_better,
        verdict=verdict.verdict,
        reasons=list(verdict.reasons),
        first=evidence.first,
        judged_by="limits" if gate.judged_by_limits(evidence) else "comparison" if production else "first",
        settings_hash=settings.fingerprint(*TRAINING, "gate"),
        candidate=candidate_of(run, found.values),
        production=production.facts if production else None,
        data=production.data if production else None,
        next_version=next_number,
        rows=int(found.rows.sum()),
        distinct_rows=distinct(found.rows, measures.repeats),
        counting=counting(dataset, measures, found.rows),
        policy=rules.policy,
        margin=rules.margin,
        confidence=rules.confidence,
        resamples=settings.gate.resamples,
        comparison=Comparison(metric=rules.metric, **decisive.plain()) if decisive else None,
        metrics=metric_rows(dataset, measures, found, served),
        best=best_row(found.best, found.beside_best) if found.best else None,
        best_version=best_afterwards(production, found.beside_best, decisive, rules),
        slices=[slice_row(one, rules, measures.subjects is not None) for one in found.slices],
        limits=[limit_row(one) for one in evidence.limits],
        checks=[CheckRow(**asdict(one), success=one.success) for one in evidence.checks],
        format=Format(served.contract["format"], served.contract["format_reason"]),
        int8=int8,
        importance=Importance(*permutation.counts(dataset)),
        search=study.best_of(explained.search) if explained.search else None,
        shapley=shapley_of(explained.contributions),
        decision=judged.decision_of(run, dataset, served.y_pred),
        rules=judged.rule_rows(served.files, dataset, served.alone, served.threshold),
        formats=formats_page.of_model(BUILD, run["model_digest"]),
    )


def shapley_of(found: shapley.Contributions | None) -> record.Shapley:
    """The mean size of what each column adds, or why it is not known."""
    return shapley.summary(found) if found else record.Shapley(missing=shapley.MISSING)


def candidate_of(run: dict, values: Mapping[str, float]) -> Candidate:
    """The run that was judged, with those metrics that are defined."""
    facts = {key: run[key] for key in ("run_id", "run_url", "commit", "model_digest", "data_hash")}
    return Candidate(**facts, metrics={name: value for name, value in values.items() if math.isfinite(value)})


def metric_rows(dataset: Dataset, measures: Measures, found: Comparisons, served: ServedCandidate) -> list[MetricRow]:
    """The lines of the report's table of metrics."""
    rows, dummy, made = found.rows, baseline(dataset), []
    for name, metric in measures.known.items():
        y_pred = metric.seen(served.y_pred[rows], served.threshold)
        interval = gate.interval(metric, measures.y_true[rows], y_pred, **measures.drawn(rows))
        comparison = found.comparisons.get(name)
        figures = comparison.plain() if comparison else {"candidate": or_none(found.values[name])}
        made.append(
            MetricRow(
                metric=name,
                higher_is_better=metric.higher_is_better,
                interval=interval,
                baseline=or_none(
                    of_baseline(metric, measures.y_true, metric.seen(dummy, served.threshold), measures.weights)
                ),
                **{key: figures.get(key) for key in Compared.__struct_fields__},  # type: ignore[arg-type]
            )
        )
    return made


def limit_row(one: gate.Limit) -> LimitRow:
    """A line of the report's table of limits."""
    return LimitRow(
        metric=one.metric,
        limit=one.limit,
        value=or_none(one.value),
        higher_is_better=one.higher_is_better,
        success=one.success,
    )


def slice_row(one: gate.Slice, rules: gate.Rules, grouped: bool) -> SliceRow:
    """A line of the report's table of slices; `grouped`: rows are drawn by their group."""
    figures = one.comparison.plain()
    return SliceRow(
        slice=one.slice,
        rows=one.rows,
        distinct_rows=one.rows if one.distinct is None or grouped else one.distinct,
        groups=one.distinct if grouped else None,
        judged=one.judged,
        worse=one.judged and gate.is_worse(one, rules),
        **{key: figures[key] for key in Compared.__struct_fields__},
    )


def draw(
    settings: Settings, dataset: Dataset, measures: Measures, found: Comparisons, served: ServedCandidate,
    evaluation: Evaluation, explained: Explained,
) -> dict[str, bytes]:  # fmt: skip
    """Draw every figure of both models into build/plots/; return them as PNG by name."""
    figures = plots.figures_for(
        settings.data.task, dataset.classes, position_of_positive(settings, dataset), measures.y_true[found.rows],
        served.y_pred[found.rows], production=found.production, importance=explained.importance,
        thresholds=(served.threshold, found.production_threshold),
        weights=None if measures.weights is None else measures.weights[found.rows],
    )  # fmt: skip
    figures |= judged.pictures(evaluation.decision, dataset, served.y_pred)
    if evaluation.comparison:
        figures["comparison"] = plots.comparison(evaluation)
    if explained.contributions and len(explained.contributions.values):
        figures["shapley"] = plots.contributions(explained.contributions)
    if evaluation.formats:
        figures["formats"] = formats_page.draw(evaluation.formats)
    if explained.search:
        figures["search"] = search_picture.draw(explained.search)
    pictures = {name: to_png(figure) for name, figure in figures.items()}
    folder = BUILD / ".plots"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(picture)
    replace_directory(folder, BUILD / "plots")
    return pictures


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
