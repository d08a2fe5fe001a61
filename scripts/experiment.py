"""Look at the experiment that runs, on any day: is one of the two models better?

    make experiment                               # the one that runs
    make experiment NAME=greener                  # one that has ended
    python -m scripts.experiment --json

Counts where the prediction log is. Writes build/experiment.json, .md and .html, and keeps them with the experiment's run in MLflow.
Exit status 0 whatever it finds. Running it twice changes nothing. `make experiment-stop` ends one that has stopped itself, and the workflow
experiment.yml does so every morning.
"""

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from delivery import watch
from pipeline import artifacts
from pipeline.ci import outputs
from pipeline.errors import RegistryError, edge
from pipeline.evaluation.figures import to_png
from pipeline.experiments.judge import judge, plan_of
from pipeline.experiments.judgement import NAME, Arm, Judgement
from pipeline.experiments.limits import guardrails
from pipeline.experiments.pages import mlflow_run, page, picture
from pipeline.experiments.pairs import compared
from pipeline.registry import deployments, experiments, versions
from pipeline.registry.embedded import sync
from pipeline.registry.experiments import ExperimentRecord
from pipeline.settings import Settings, load_settings

SUMMARY, PAGE = "experiment.md", "experiment.html"
DAY = 86_400
NONE = "no experiment runs; `make experiment-start CHALLENGER=n SHARE=0.1 NAME=…` starts one (docs/experiments.md)"


@edge
def main(argv: list[str] | None = None) -> None:
    """Count, judge, and leave what is known where people and programs look."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="", help="of an experiment that has ended; by default the one that runs")
    parser.add_argument("--json", action="store_true", help="print build/experiment.json instead of a summary")
    options = parser.parse_args(argv)
    for older in (NAME, SUMMARY, PAGE):
        (artifacts.BUILD / older).unlink(missing_ok=True)  # must not speak for this run, should it fail
    settings = load_settings()
    sync.refuse_unknown()
    client = versions.connect(settings)
    record = named(client, settings, options.name)
    if record is None:
        print("null" if options.json else NONE)
        outputs.output(verdict="none")
        outputs.summary(NONE)
        return
    judged = judgement(client, settings, record)
    leave(client, record, judged)
    outputs.output(verdict=judged.verdict)
    outputs.summary((artifacts.BUILD / SUMMARY).read_text(encoding="utf-8"))
    if options.json:
        print((artifacts.BUILD / NAME).read_text(encoding="utf-8"), end="")
    else:
        page.terminal(judged, record, Path("build", PAGE))


def named(client, settings: Settings, name: str) -> ExperimentRecord | None:
    """The experiment of that name, or without one the one that runs; raises RegistryError where there is none of that name."""
    if not name:
        return experiments.running(client, settings.name)
    found = experiments.records(client, settings.name)
    for record in found:
        if record.name == name:
            return record
    known = ", ".join(dict.fromkeys(record.name for record in found)) or "none"
    raise RegistryError(f"there is no experiment {name}", f"known are: {known}")


def judgement(client, settings: Settings, record: ExperimentRecord) -> Judgement:
    """What the log says of an experiment now, or what was kept of one that has ended."""
    before = mlflow_run.kept(client, record) if record.over else None
    if before and before.state == record.state:
        return before  # of one that has ended the log may keep no rows any more
    if not record.started:
        return uncounted(settings, record, "It has not served yet, so nothing was counted.")
    if note := watch.lacking("production", settings):
        return uncounted(
            settings, record, "Nothing could be counted, because the prediction log is out of reach.", note
        )
    outcome = settings.experiment.outcome if record.mode == "ab" else "answer"
    plan = plan_of(record, settings, "value" if outcome == "value" else None, settings.monitor.label_window_days * DAY)
    sums, pairs = watch.experiment_sums("production", settings, plan)
    return judge(record, sums, settings, compared(settings, pairs), guardrails(settings))


def uncounted(settings: Settings, record: ExperimentRecord, words: str, note: str = "") -> Judgement:
    """What the record alone says of an experiment."""
    return Judgement(
        model=settings.name,
        experiment=record.name,
        mode="shadow" if record.mode == "shadow" else "ab",
        state=record.state,
        share=record.phases[-1].share if record.phases else 0.0,
        champion=record.champion,
        challenger=record.challenger,
        started=record.started,
        since=record.phases[-1].since if record.phases else record.started,
        until=0.0,
        time=datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
        outcome="value" if settings.experiment.outcome == "value" else "error" if settings.data.task == "regression" else "correct",
        measure="",
        higher_is_better=True,
        verdict="running",
        words=words,
        a=Arm(variant="A", version=record.champion),
        b=Arm(variant="B", version=record.challenger),
        notes=[note] if note else [],
    )  # fmt: skip


def leave(client, record: ExperimentRecord, judged: Judgement) -> None:
    """Write the files, and keep them with the run where something was counted."""
    pictures = {name: to_png(figure) for name, figure in picture.figures_for(judged, record.phases).items()}
    texts = {
        NAME: msgspec.json.format(msgspec.json.encode(judged)).decode() + "\n",
        SUMMARY: page.markdown(judged, record),
        PAGE: page.html(judged, record, pictures),
    }
    for name, text in texts.items():
        artifacts.write_text(artifacts.BUILD / name, text)
    if judged.until:
        with deployments.afterwards("this look could not be kept in MLflow", then="the next `make experiment` does it"):
            mlflow_run.keep(client, record, judged, [artifacts.BUILD / name for name in texts], pictures)


if __name__ == "__main__":
    sys.exit(main())
