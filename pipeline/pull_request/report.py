"""The report on a pull request, made from what the stages left in build/. A stage that failed is part of the report."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from pipeline import artifacts
from pipeline.ci import lineage
from pipeline.errors import StageError
from pipeline.evaluation import record
from pipeline.evaluation.findings import counts_up
from pipeline.evaluation.record import DataChange, Evaluation
from pipeline.evaluation.wording import clean
from pipeline.experiments.replay import result
from pipeline.pull_request import schema
from pipeline.pull_request.schema import MOST_COLUMNS, MOST_METRICS, MOST_REASONS, MOST_ROWS, TEXT, WORDS, PullRequest
from pipeline.registry import mlflow_server
from pipeline.registry.embedded import snapshot
from pipeline.settings import Settings

STAGES = {
    "data.json": "validate",
    "model_checks.json": "validate-model",
    "run.json": "train",
    record.NAME: "evaluate",
}


def document(settings: Settings) -> PullRequest:
    """The report on what is in build/ now. Missing files are no error: the stage that should have written one has failed."""
    files = {name: _read(artifacts.BUILD / name) for name in STAGES}
    evaluation = _evaluated()
    stage, failures = failed(files, evaluation)
    number, head = event()
    commit, _ = lineage.commit()
    evaluation = None if stage else evaluation
    data = files["data.json"]
    return PullRequest.model_validate(
        {
            "format": 1,
            "name": settings.name,
            "number": number,
            "head": head,
            "commit": commit if len(commit) == 40 else None,
            "link": lineage.link(),
            "failed_stage": stage,
            "failures": [_text(failure, WORDS) for failure in failures[:MOST_REASONS]],
            "production_unknown": production_unknown(),
            "evaluation": _evaluation(evaluation) if evaluation else None,
            "data": _data(data, evaluation.data if evaluation else None) if data else None,
            "replay": _replay(evaluation.registers[1]) if evaluation else None,
        }
    )


def event() -> tuple[int | None, str | None]:
    """Number and head commit of the pull request that this workflow runs for; None and None elsewhere."""
    path = os.environ.get("GITHUB_EVENT_PATH")
    found = (_read(Path(path)) or {}).get("pull_request") if path else None
    return (found["number"], found["head"]["sha"]) if found else (None, None)


def production_unknown() -> bool:
    """Whether the embedded MLflow was to be fetched and could not be: then nothing is known of production."""
    return not mlflow_server.remote_uri() and (mlflow_server.HOME / snapshot.UNKNOWN).exists()


def failed(files: Mapping[str, dict | None], evaluation: Evaluation | None) -> tuple[str | None, list[str]]:
    """The first stage that failed, by its verb, and what it found; None when all passed.

    Files of other data or of another build were left by an older run, so their stage has not run this time.
    """
    data, checks, run = (files[name] for name in ("data.json", "model_checks.json", "run.json"))
    if not data or not data.get("success"):
        return "validate", [_data_failure(one) for one in _critical(data)]
    if not checks or not checks.get("success"):
        broken = [one for one in (checks or {}).get("checks", []) if not one["success"]]
        return "validate-model", [f"{one['check']}: {one['observed']}" for one in broken]
    if not run or run.get("data_hash") != data["data_hash"]:
        return "train", []
    if not evaluation or evaluation.candidate.model_digest != run["model_digest"]:
        return "evaluate", []
    return None, []


def _critical(data: dict | None) -> list[dict]:
    return [one for one in (data or {}).get("checks", []) if not one["success"] and one["severity"] == "critical"]


def _data_failure(check: Mapping) -> str:
    return f"{check['column'] or 'table'}: {check['rule']}; observed: {check['observed']}"


def _read(path: Path) -> dict | None:
    """A JSON object, or None where there is none: what is damaged counts as not written."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _evaluated() -> Evaluation | None:
    """What evaluate.py found, or None: what is damaged counts as not written."""
    try:
        return record.read(artifacts.BUILD)
    except StageError:
        return None


def _replay(digest: str) -> dict[str, Any] | None:
    """What `make replay-candidate` found of the build with this digest, or None."""
    try:
        found = artifacts.read_as(artifacts.BUILD / result.NAME, result.Replay)
    except StageError:
        return None
    if found.digest != digest:
        return None
    one = found.paired
    return {
        "note": _text(found.note, WORDS),
        "days": found.days,
        "rows": found.rows,
        "refused": sum(found.refused.values()),
        "agreement": one.agreement if one else None,
        "outcomes": one.outcomes if one else 0,
        "subjects": one.subjects if one else None,
        "metric": _text(one.metric if one else ""),
        "higher_is_better": bool(one and one.higher_is_better),
        "candidate": one.b if one else None,
        "production": one.a if one else None,
        "difference": one.difference if one else None,
        "lower": one.lower if one else None,
        "upper": one.upper if one else None,
    }


def _text(text: object, most: int = TEXT) -> str:
    """Text that the reader of the report accepts: on one line, visible, not endless."""
    return clean(text, most)


def _evaluation(found: Evaluation) -> dict[str, Any]:
    """As much of a record as the report has, with texts that its reader accepts."""
    plain = record.plain(found)
    ways = {row.metric: row.higher_is_better for row in found.metrics}
    limits = [
        row | {"higher_is_better": counts_up(limit, ways)}
        for row, limit in zip(plain["limits"], found.limits, strict=True)
    ]
    production = found.production and _kept(plain["production"], schema.Production)
    return {
        **{key: plain[key] for key in ("verdict", "higher_is_better", "first", "next_version", "rows", "confidence")},
        "reasons": [_text(reason, WORDS) for reason in found.reasons[:MOST_REASONS]],
        "metric": _text(found.metric),
        "production": production,
        "comparison": found.comparison and _kept(plain["comparison"], schema.Comparison),
        "metrics": [_kept(row, schema.Metric) for row in plain["metrics"][:MOST_METRICS]],
        "slices": [
            _kept(row, schema.Slice) for row in sorted(plain["slices"], key=lambda row: not row["worse"])[:MOST_ROWS]
        ],
        "limits": [_kept(row, schema.Limit) for row in limits[:MOST_METRICS]],
        "checks": [_kept(row, schema.Check) for row in plain["checks"][:MOST_METRICS]],
        "decision": found.decision and _kept(plain["decision"], schema.Decision),
        "counting": found.counting
        and _kept(plain["counting"], schema.Counting)
        | {"unweighted": [_text(name) for name in found.counting.unweighted[:MOST_METRICS]]},
    }


def _kept(row: Mapping, part: type[schema.Part]) -> dict[str, Any]:
    """The keys of a row that the report has, with texts that it accepts."""
    return {key: _text(row[key]) if isinstance(row[key], str) else row[key] for key in part.model_fields}


def _data(data: dict, change: DataChange | None) -> dict[str, Any]:
    broken = sorted((one for one in data["checks"] if not one["success"]), key=lambda one: one["severity"])
    return {
        "rows": data["rows"],
        "columns": data["columns"],
        "checks": len(data["checks"]),
        "passed": len(data["checks"]) - len(broken),
        "failed": [
            {
                "column": _text(one["column"] or "table"),
                "rule": _text(one["rule"], WORDS),
                "severity": one["severity"],
                "observed": _text(one["observed"], WORDS),
            }
            for one in broken[:MOST_REASONS]
        ],
        "change": _change(change) if change else None,
    }


def _change(found: DataChange) -> dict[str, Any]:
    change = msgspec.to_builtins(found)
    columns = {
        key: [_text(name) for name in change[key][:MOST_COLUMNS]] for key in ("columns_added", "columns_removed")
    }
    shown = [one | {"column": _text(one["column"])} for one in change["drift"][:MOST_COLUMNS]]
    return change | columns | {"drift": shown}
