"""Make labelled rows of the prediction log and the outcomes that came back, for load() to add to the data.

    make backfill                                 # of production
    make backfill ENVIRONMENT=staging

Writes data/production/rows.parquet and rows.json. Rows are taken when they are older than [monitor] label_delay_days, with outcomes that
came within label_window_days. Running it twice on a day changes nothing. docs/outcomes-as-data.md has the line for load().
"""

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime

import msgspec

from delivery import targets, watch
from pipeline.artifacts import BUILD
from pipeline.errors import RegistryError, edge
from pipeline.monitor import backfill
from pipeline.monitor.actions.retraining_world import in_log_time
from pipeline.monitor.production import trained_versions
from pipeline.registry import versions
from pipeline.registry.embedded import sync
from pipeline.settings import load_settings
from serving.model.contract import Contract

DAY = 86_400


@edge
def main(argv: list[str] | None = None) -> None:
    """Read the log, write the rows, and say what was left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=targets.environment, default="production")
    environment = parser.parse_args(argv).environment
    settings = load_settings()
    if note := watch.lacking(environment, settings):
        print(note)
        return
    sync.refuse_unknown()
    client = versions.connect(settings)
    trained, _ = trained_versions(client, settings)
    contracts = {number: msgspec.convert(one.contract, Contract) for number, one in trained.items()}
    live = versions.by_alias(client, settings.name, "production" if environment == "production" else environment)
    if live is None or live.number not in contracts:
        raise RegistryError(
            f"MLflow has no bundle of the version in {environment}, whose columns the rows are to have",
            f"`make deploy ENVIRONMENT={environment}` puts one there",
        )
    until = in_log_time(time.time()) - settings.monitor.label_delay_days * DAY
    day = datetime.fromtimestamp(until, UTC).date().isoformat()
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryFile(dir=BUILD) as lines:
        watch.export(environment, settings, day, lines)
        lines.seek(0)
        facts = {"environment": environment, "version": live.number, "before": day}
        counts = backfill.write(backfill.FOLDER, lines, settings, contracts, live.number, facts)
    print(f"{environment}, before {day}:")
    print("\n".join(backfill.summary(counts)))


if __name__ == "__main__":
    sys.exit(main())
