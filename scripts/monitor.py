"""Judge production, day by day, by its prediction log: broken data, drift, performance.

    make monitor                                  # of production
    make monitor ENVIRONMENT=staging
    make monitor ARGS=--evidently                 # besides, Evidently's report of the last days: build/evidently.html
    python -m scripts.monitor --json

Writes build/monitor.json, .md and .html, a run in the MLflow experiment NAME-monitoring, and what the service shows Prometheus.
Exit status 0 whatever it finds: build/monitor.json has the verdict. Running it twice changes nothing.
"""

import argparse
import sys
from collections.abc import Mapping

from delivery import targets, watch
from pipeline.artifacts import BUILD, ROOT, write_text
from pipeline.ci import outputs
from pipeline.data.dataset import load_dataset
from pipeline.errors import edge
from pipeline.evaluation.figures import to_png
from pipeline.evaluation.metrics import check_monitored
from pipeline.monitor import findings
from pipeline.monitor.actions import retraining_world
from pipeline.monitor.actions.expose import expose
from pipeline.monitor.judge import judge, nothing
from pipeline.monitor.pages import evidently_report, plots, report
from pipeline.monitor.pages.mlflow_run import record
from pipeline.monitor.plan import Trained, plan
from pipeline.monitor.production import trained_versions
from pipeline.registry import deployments, versions
from pipeline.registry.embedded import sync
from pipeline.settings import Settings, load_settings
from pipeline.standard_output import kept_clean

REPORT = BUILD / "monitor.html"
EVIDENTLY = BUILD / "evidently.html"
SUMMARY = BUILD / "monitor.md"


@edge
def main(argv: list[str] | None = None) -> None:
    """Count, judge, and leave the findings where people and programs look."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=targets.environment, default="production")
    parser.add_argument("--json", action="store_true", help="print build/monitor.json instead of a summary")
    parser.add_argument(
        "--evidently", action="store_true", help="have Evidently compare the last days with training, too"
    )
    options = parser.parse_args(argv)
    EVIDENTLY.unlink(missing_ok=True)
    for older in (BUILD / findings.NAME, SUMMARY, REPORT):
        older.unlink(missing_ok=True)  # must not speak for this run, should it fail
    with kept_clean():
        settings = load_settings()
        check_monitored(settings)
        found, trained = watched(settings, options.environment)
    findings.write(BUILD / findings.NAME, found)
    pictures = {name: to_png(figure) for name, figure in plots.figures_for(found).items()}
    write_text(SUMMARY, report.markdown(found))
    write_text(REPORT, report.html(found, pictures))
    if found.versions:
        with deployments.afterwards(
            "the findings could not be recorded in MLflow", then="the next `make monitor` does it"
        ):
            record(versions.connect(settings), found, [BUILD / findings.NAME, SUMMARY, REPORT], pictures)
    outputs.output(verdict=found.verdict)
    if options.json:
        print((BUILD / findings.NAME).read_text(encoding="utf-8"), end="")
    else:
        report.terminal(found, REPORT.relative_to(ROOT))
    if options.evidently:
        with kept_clean():
            second_opinion(settings, options.environment, found, trained)


def second_opinion(
    settings: Settings, environment: str, found: findings.Findings, trained: Mapping[str, Trained]
) -> None:
    """Evidently's report of the version that answered last; a note where no row can be compared."""
    version = next((one.version for one in reversed(found.versions) if one.version in trained), None)
    since, until = evidently_report.window(found.last_day, settings.monitor.window_days)
    rows = 0
    if version is not None:
        lines = watch.exported(environment, settings, since, until)
        inputs = [column["name"] for column in trained[version].contract["inputs"]]
        current = evidently_report.logged(lines, settings.name, version, inputs, settings.data.target)
        rows = len(current)
    if not rows:
        print(f"note: no row between {since} and {until} (UTC) can be compared: no {EVIDENTLY.name}", file=sys.stderr)
        return
    evidently_report.write(load_dataset(settings), current, EVIDENTLY)
    where = EVIDENTLY.relative_to(ROOT)
    print(f"  Evidently's, on {rows:,} rows of version {version} since {since}: {where}", file=sys.stderr)


def watched(settings: Settings, environment: str) -> tuple[findings.Findings, Mapping[str, Trained]]:
    """What is found in an environment, and what is known of its versions; nothing, with a note that says why, without a log."""
    if note := watch.lacking(environment, settings):
        return nothing(settings, environment, note), {}
    sync.refuse_unknown()
    client = versions.connect(settings)
    trained, gone = trained_versions(client, settings)
    what = plan(settings, trained)
    log, days = watch.counts(environment, settings, what)
    found = judge(settings, environment, what, trained, gone, log, days)
    watch.show(environment, settings, expose(found, retraining_world.given_up(client, settings, found)))
    return found, trained


if __name__ == "__main__":
    sys.exit(main())
