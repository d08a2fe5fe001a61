"""Evaluations of real models on scikit-learn's small data sets, in the shape of build/evaluation.json."""

from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline import mlflow_pages
from pipeline.evaluation import gate, metrics

SOURCES = {"binary": load_breast_cancer, "multiclass": load_wine, "regression": load_diabetes}
DECIDES = {"binary": "log_loss", "multiclass": "log_loss", "regression": "rmse"}
MARGINS = {"binary": 0.01, "multiclass": 0.02, "regression": 1.0}


@dataclass(frozen=True)
class Held:
    """The hold-out of a data set: answers of a good and a bad model, and one column to slice by."""

    task: str
    classes: list[str]
    positive: int | None
    y: np.ndarray
    good: np.ndarray
    bad: np.ndarray
    column: np.ndarray
    importance: dict[str, float]


@cache
def held(task: str) -> Held:
    """Two models of the task, both of them trained for real."""
    source = SOURCES[task]()
    out = np.random.default_rng(3).random(len(source.target)) < 0.4
    x, y = source.data, source.target
    strong, weak = (Ridge(1.0), Ridge(1e4)) if task == "regression" else (_logistic(0.5), _logistic(0.0008))
    answers = []
    for model in (make_pipeline(StandardScaler(), strong), make_pipeline(StandardScaler(), weak)):
        model.fit(x[~out], y[~out])
        answers.append(model.predict(x[out]) if task == "regression" else model.predict_proba(x[out]))
    weights = np.abs(np.atleast_2d(strong.coef_)).mean(axis=0)
    names = [str(name).replace(" ", "_") for name in source.feature_names]
    return Held(
        task,
        [] if task == "regression" else [str(name) for name in source.target_names],
        0 if task == "binary" else None,
        y[out].astype(float) if task == "regression" else y[out],
        *answers,
        x[out, 2],
        dict(zip(names, (weights / weights.sum() - 0.01).tolist(), strict=True)),
    )


def _logistic(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=500)


def evaluation(task: str, candidate: str = "good", production: str | None = "bad", **changes) -> dict:
    """What evaluate.py would write: `candidate` and `production` are "good" or "bad"; `changes` replace keys."""
    data = held(task)
    known = metrics.metrics_for(task, data.positive)
    decides = known[DECIDES[task]]
    drawn = {"confidence": 0.95, "resamples": 400, "seed": 1}
    ours, theirs = getattr(data, candidate), getattr(data, production) if production else None
    found = (
        {name: gate.compare(one, data.y, ours, theirs, **drawn) for name, one in known.items()} if production else {}
    )
    rules = gate.Rules(decides.name, decides.higher_is_better, "better", MARGINS[task], 0.95)
    masks = gate.slice_masks(data.column, "some_column", np.ones(len(data.y), dtype=bool))
    slices = gate.compare_slices(decides, data.y, ours, theirs, masks, minimum_rows=30, **drawn) if production else []
    shares = np.bincount(data.y.astype(int))[: len(data.classes)] / len(data.y)
    baseline = np.tile(shares, (len(data.y), 1)) if data.classes else np.full(len(data.y), data.y.mean())
    values = {name: one.value(data.y, ours) for name, one in known.items()}
    limits = gate.judge_limits({decides.name: 2 * values[decides.name]}, values, known)
    checks = [gate.ModelCheck("parity", 1.7e-7, 1e-5), gate.ModelCheck("latency", 0.0061, 20, "ms")]
    verdict = gate.decide(
        gate.Evidence(
            value=values[decides.name],
            first=production is None,
            limits=limits,
            checks=checks,
            identical=production == candidate,
            comparison=found.get(decides.name),
            slices=slices,
        ),
        rules,
    )
    facts = {"version": "3", "run_id": "b" * 32, "commit": "2" * 40, "since": "2026-11-02 09:15 UTC"}
    return {
        "name": {"binary": "breast-cancer", "multiclass": "wine", "regression": "diabetes"}[task],
        "task": task,
        "metric": decides.name,
        "higher_is_better": decides.higher_is_better,
        "verdict": verdict.verdict,
        "reasons": list(verdict.reasons),
        "first": production is None,
        "candidate": {
            "run_id": "a" * 32,
            "run_url": f"http://127.0.0.1:5000/{mlflow_pages.run('1', 'a' * 32)}",
            "commit": "1" * 40,
            "metrics": values,
        },
        "production": facts if production else None,
        "rows": len(data.y),
        "policy": "better",
        "margin": MARGINS[task],
        "confidence": 0.95,
        "resamples": 400,
        "comparison": {"metric": decides.name} | found[decides.name].plain() if production else None,
        "metrics": [
            _row(one, values[name], found.get(name))
            | {"interval": gate.interval(one, data.y, ours, **drawn), "baseline": one.value(data.y, baseline)}
            for name, one in known.items()
        ],
        "slices": [
            {"slice": one.slice, "rows": one.rows, "judged": one.judged, "worse": gate.is_worse(one, rules)}
            | one.comparison.plain()
            for one in slices
        ],
        "limits": [asdict(one) | {"success": one.success} for one in limits],
        "checks": [asdict(one) | {"success": one.success} for one in checks],
        "format": {"format": "onnx", "format_reason": None},
        "importance": {"rows": 228, "shuffles": 5},
    } | changes


def _row(metric, value, comparison) -> dict:
    row = {"metric": metric.name, "higher_is_better": metric.higher_is_better, "candidate": value}
    empty = dict.fromkeys(("production", "difference", "lower", "upper"))
    return row | (comparison.plain() if comparison else empty)


RUN = {
    "run_id": "a" * 32,
    "commit": "1" * 40,
    "dirty": False,
    "reason": "retrain: every Monday",
    "data_hash": "d" * 64,
    "lock_hash": "e" * 64,
    "seed": 42,
    "rows": {"train": 341, "holdout": 228},
    "split": {"holdout": 0.25, "salt": "slipway", "id": "id"},
    "features": ["mean_radius", "mean_texture"],
    "experiment_id": "1",
    "run_url": f"http://127.0.0.1:5000/{mlflow_pages.run('1', 'a' * 32)}",
    "trained_at": "2026-11-02 09:15:00",
    "trained_by": "octocat",
}

DATA = {
    "success": True,
    "data_hash": "d" * 64,
    "rows": 569,
    "columns": 32,
    "checks": [
        {"column": "id", "rule": "values are unique", "severity": "critical", "success": True,
         "observed": "0 repeated", "unexpected_count": 0, "examples": []},
        {"column": "mean_radius", "rule": "values are between 5 and 30", "severity": "warning", "success": False,
         "observed": "-3.1 to 28.1", "unexpected_count": 5,
         "examples": [{"id": "842302", "row": 12, "value": -3.1}, {"id": "842517", "row": 40, "value": -0.2},
                      {"id": "84300903", "row": 77, "value": -1}]},
        {"column": "diagnosis", "rule": "values are in malignant, benign", "severity": "critical", "success": False,
         "observed": "1 other value", "unexpected_count": 1,
         "examples": [{"id": "9", "row": 3, "value": "<b>unclear</b>"}]},
    ],
}  # fmt: skip
