"""The verdict and all it rests on, as it is written to build/evaluation.json."""

import math
from collections.abc import Mapping
from dataclasses import asdict

from pipeline.artifacts import BUILD
from pipeline.comparison.best_version import best_afterwards, best_row
from pipeline.comparison.candidate import ServedCandidate
from pipeline.comparison.compared import Comparisons
from pipeline.comparison.explained import Explained
from pipeline.comparison.production import Production
from pipeline.data.dataset import Dataset
from pipeline.decisions import judged
from pipeline.evaluation import gate, metrics, record
from pipeline.evaluation.importance import permutation, shapley
from pipeline.evaluation.measures import Measures, baseline, counting, distinct, of_baseline
from pipeline.evaluation.record import (
    Candidate,
    CheckRow,
    Compared,
    Comparison,
    Evaluation,
    Format,
    Importance,
    LimitRow,
    MetricRow,
    SliceRow,
)
from pipeline.formats.comparison import formats_page
from pipeline.search import study
from pipeline.settings import TRAINING, Settings


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


def rules_of(settings: Settings, decides: metrics.Metric) -> gate.Rules:
    """What pipeline.toml asks of the metric that decides."""
    asks = settings.gate
    return gate.Rules(decides.name, decides.higher_is_better, asks.policy, asks.margin, asks.confidence)


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


def or_none(value: float) -> float | None:
    """The value, or None where it is undefined: JSON has no NaN."""
    return value if math.isfinite(value) else None
