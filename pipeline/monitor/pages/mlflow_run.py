"""What the monitor found, in MLflow: a run of the experiment NAME-monitoring for each environment and last day.

Judging the same days again updates the same run. Names of columns are made fit for MLflow, where metrics are grouped by what stands
before the slash.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import mlflow_names
from pipeline.evaluation.github_markdown import line_of, prose
from pipeline.evaluation.wording import clean, known
from pipeline.monitor.findings import Findings
from pipeline.monitor.pages import report
from pipeline.registry import once, versions

MOST_COLUMNS = 200  # of which metrics are logged, those with most evidence; monitor.json has all
MOST_INCIDENTS = 20  # in the text on the run's page
A_REQUEST = 900  # metrics at once: MLflow takes 1,000 of metrics, parameters and tags together


def record(client, found: Findings, files: Sequence[Path], pictures: Mapping[str, bytes]) -> str:
    """Make or update the run of the last day; return its id. `files` and `pictures` (PNG by name) become its artifacts.

    Raises RegistryError when the experiment was deleted, or what MLflow's client raises.
    """
    from mlflow.entities import Metric, Param, RunTag

    experiment = versions.experiment(client, f"{found.name}-monitoring")
    run = _existing(client, experiment, found) or once.run(client, experiment, title(found), _key(found))
    run_id, now = run.info.run_id, int(1000 * time.time())
    values = [Metric(name, value, now, 0) for name, value in metrics(found).items()]
    # MLflow lets nobody change a parameter, and a version may have come since this day was judged first: the tag says so.
    parameters = {"environment": found.environment, "versions": _versions(found)}
    fresh = [Param(key, value) for key, value in parameters.items() if key not in run.data.params]
    tags = [RunTag(key, value) for key, value in _tags(found).items()]
    client.log_batch(run_id, values[:A_REQUEST], fresh, tags)
    for start in range(A_REQUEST, len(values), A_REQUEST):
        client.log_batch(run_id, values[start : start + A_REQUEST])
    with tempfile.TemporaryDirectory() as folder:
        for name, png in pictures.items():
            Path(folder, f"{name}.png").write_bytes(png)
        client.log_artifacts(run_id, folder, "plots")
    for file in files:
        client.log_artifact(run_id, str(file))
    client.update_run(run_id, "FINISHED", title(found))
    return run_id


def title(found: Findings) -> str:
    """The name of the run: day and verdict."""
    place = "" if found.environment == "production" else f"{found.environment}, "
    return f"{place}{found.last_day}: {report.headline(found).word.lower()}"


def metrics(found: Findings) -> dict[str, float]:
    """Everything that is a number, by the name that MLflow shows; of names that MLflow cannot tell apart, the first."""
    named: dict[str, float] = {}
    for name, value in _metrics(found):
        if known(value):
            named.setdefault(name, float(value))
    return named


def _metrics(found: Findings) -> Iterator[tuple[str, Any]]:
    yield "open_incidents", len(found.open_incidents())
    ranked = sorted(found.columns, key=lambda one: -(one.evidence or 0))[:MOST_COLUMNS]
    for one in ranked:
        name = mlflow_names.fit(one.name if one.kind == "feature" else f"{one.kind}: {one.name}")
        for what, value in (("evidence", one.evidence), ("missing", one.missing_now), ("psi", one.psi), ("ks", one.ks)):
            yield f"{what}/{name}", value
    for row in found.performance.metrics:
        yield f"performance/{mlflow_names.fit(row.name)}", row.value
    for estimate in found.estimated:
        yield f"estimated/{mlflow_names.fit(estimate.name)}", estimate.value
    yield "coverage", found.performance.coverage
    yield "outcomes", found.outcomes.matched
    yield "rows", sum(row.rows for row in found.days if row.day == found.last_day)


def _key(found: Findings) -> dict[str, str]:
    """The tags that identify a run."""
    return {"environment": found.environment, "last_day": found.last_day}


def _existing(client, experiment: str, found: Findings):
    condition = " and ".join(f"tags.{key} = '{value}'" for key, value in _key(found).items())
    runs = client.search_runs([experiment], condition, order_by=["attributes.start_time ASC"], max_results=1)
    return runs[0] if runs else None


def _tags(found: Findings) -> dict[str, str]:
    kinds = dict.fromkeys(one.kind for one in found.open_incidents())
    return _key(found) | {
        "verdict": found.verdict,
        "kinds": ", ".join(kinds) or "none",
        "version": _versions(found),
        "mlflow.note.content": _text(found),
    }


def _versions(found: Findings) -> str:
    """The versions that answered, the newest last."""
    numbers = [one.version for one in sorted(found.versions, key=lambda one: (one.last_day, one.first_day))]
    return clean(", ".join(numbers), 200) or "none"


def _text(found: Findings) -> str:
    """What people read on the run's page."""
    head, standing = report.headline(found), found.open_incidents()
    incidents = [f"- {prose(clean(one.words, 300))}" for one in standing[:MOST_INCIDENTS]]
    more = [f"- {len(standing) - MOST_INCIDENTS} more"] if len(standing) > MOST_INCIDENTS else []
    notes = [line_of(clean(note, 300)) for note in found.notes[:3]]
    lines = [
        f"**{head.word}**",
        head.meaning,
        "\n".join([*incidents, *more]),
        *notes,
        "The artifact monitor.html has all.",
    ]
    return "\n\n".join(line for line in lines if line)[:8000]
