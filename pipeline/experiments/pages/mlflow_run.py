"""What is known of an experiment, kept with its run in MLflow: the difference by day as metrics, and the files of the last look."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from pipeline.evaluation.wording import known
from pipeline.experiments.judgement import NAME, Judgement, Look
from pipeline.registry.experiments import ExperimentRecord

DAY = 86_400
A_REQUEST = 900  # metrics at once: MLflow takes 1,000 of metrics, parameters and tags together


def keep(
    client, record: ExperimentRecord, judged: Judgement, files: Sequence[Path], pictures: Mapping[str, bytes]
) -> None:
    """Log the days that are over and are not there yet, and put `files` and `pictures` (PNG by name) in place of the last ones.

    The step of a metric is the day of the experiment, from 0. Doing it twice changes nothing. Raises what MLflow's client raises.
    """
    from mlflow.entities import Metric, RunTag

    last = max((one.step for one in client.get_metric_history(record.run_id, "subjects/A")), default=-1)
    values = [
        Metric(name, value, 1000 * (start + DAY), step)
        for step, start, look in _whole_days(judged)
        if step > last
        for name, value in _metrics(look)
    ]
    tags = [RunTag("verdict", judged.verdict)]
    client.log_batch(record.run_id, values[:A_REQUEST], tags=tags)
    for start in range(A_REQUEST, len(values), A_REQUEST):
        client.log_batch(record.run_id, values[start : start + A_REQUEST])
    with tempfile.TemporaryDirectory() as folder:
        for name, png in pictures.items():
            Path(folder, f"{name}.png").write_bytes(png)
        client.log_artifacts(record.run_id, folder)
    for file in files:
        client.log_artifact(record.run_id, str(file))


def kept(client, record: ExperimentRecord) -> Judgement | None:
    """The judgement that was kept last; None where there is none, or one that this program does not read."""
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            path = client.download_artifacts(record.run_id, NAME, folder)
            return msgspec.json.decode(Path(path).read_bytes(), type=Judgement)
        except (MlflowException, OSError, msgspec.MsgspecError):
            return None


def _whole_days(judged: Judgement) -> Iterator[tuple[int, int, Look]]:
    """The days that were over when it was judged: their place in the experiment, when they began, and what was known."""
    first = int((judged.started or judged.since) // DAY)
    for look in judged.looks:
        start = int(datetime.fromisoformat(f"{look.day}T00:00:00+00:00").astimezone(UTC).timestamp())
        if start + DAY <= judged.until:
            yield start // DAY - first, start, look


def _metrics(look: Look) -> Iterator[tuple[str, float]]:
    named = {
        "difference": look.difference,
        "low": look.low,
        "high": look.high,
        "mean/A": look.mean_a,
        "mean/B": look.mean_b,
        "subjects/A": look.subjects_a,
        "subjects/B": look.subjects_b,
        "measured/A": look.measured_a,
        "measured/B": look.measured_b,
    }
    for name, value in named.items():
        if known(value):
            yield name, float(value)
