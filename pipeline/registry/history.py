"""When things last happened, as MLflow knows: trainings, retrainings on schedule, comparisons of data with production's."""

import time
from dataclasses import dataclass
from typing import Any

STALE_DAYS = 60  # GitHub ends schedules of public repositories after so long without a commit
DAY = 86400
SCHEDULED = "retrain: every Monday"  # as weekly.yml has it
SWITCHED_OFF = (
    "A Monday without new data trains nothing. If there are new data: GitHub switches schedules off after 60 days without a commit in "
    "public repositories, and in forks: Actions → weekly → Enable workflow."
)


@dataclass(frozen=True)
class Happened:
    """A run of the model's experiment: when it began (seconds since 1970), its id and its tags."""

    when: float
    run_id: str
    tags: dict[str, str]


def last(client, name: str, condition: str = "") -> Happened | None:
    """The newest finished training of a model that meets a condition of MLflow's search, or None."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return None
    finished = "attributes.status = 'FINISHED'" + (f" and {condition}" if condition else "")
    runs = client.search_runs([found.experiment_id], finished, order_by=["attributes.start_time DESC"], max_results=1)
    return Happened(runs[0].info.start_time / 1000, runs[0].info.run_id, dict(runs[0].data.tags)) if runs else None


def last_training(client, name: str) -> Happened | None:
    """The newest training of a delivery; what a pull request tries does not count."""
    return last(client, name, "tags.reason != 'pull request'")


def last_retraining(client, name: str) -> Happened | None:
    """The newest training that the schedule of weekly.yml began."""
    return last(client, name, f"tags.reason = '{SCHEDULED}'")


def last_comparison(client, name: str) -> Happened | None:
    """The newest training whose data was compared with that of the production model."""
    return last(client, name, "tags.drift_psi != ''")


def in_words(when: float, now: float | None = None) -> str:
    """How long ago, to the day: "today", "1 day ago", "12 days ago"."""
    days = max(int(((time.time() if now is None else now) - when) // DAY), 0)
    return "today" if not days else f"{days} day{'' if days == 1 else 's'} ago"


def warning(retraining: Happened | None, now: float | None = None) -> str | None:
    """What to do when no retraining has come for longer than a schedule may sleep, or none ever; else None."""
    if retraining is None:
        return f"No scheduled retraining has run yet. {SWITCHED_OFF}"
    age = (time.time() if now is None else now) - retraining.when
    if age <= STALE_DAYS * DAY:
        return None
    return f"The last scheduled retraining was {in_words(retraining.when, now)}. {SWITCHED_OFF}"


def drift_of(comparison: Happened) -> tuple[float, str, str] | None:
    """Largest stability index, its column and production's version then; None when the tags are not ours."""
    tags: dict[str, Any] = comparison.tags
    try:
        return float(tags["drift_psi"]), tags["drift_column"], tags["drift_from"]
    except (KeyError, ValueError):
        return None
