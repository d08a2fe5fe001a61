"""Show what runs where: version, since when, address, and whether MLflow's alias agrees with reality.

make status
python -m scripts.status --json
"""

import argparse
import json
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from delivery import deployment, targets
from delivery.experiment import admission
from pipeline import processes
from pipeline.ci import outputs
from pipeline.errors import BusyError, edge
from pipeline.registry import deployments, experiments, mlflow_server, versions
from pipeline.registry.embedded import sync
from pipeline.settings import Settings, load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Print a line for each environment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(argv)
    settings = load_settings()
    sync.refuse_unknown()
    client = versions.connect(settings)
    settle(client, settings)
    rows = [state(client, settings, environment) for environment in targets.ENVIRONMENTS]
    promoted = versions.by_alias(client, settings.name, "production")
    experiment = experiments.running(client, settings.name)
    outputs.output(image=(experiment and experiment.image) or (promoted.image if promoted else ""))
    if options.json:
        about = {"mlflow": mlflow_server.shown(mlflow_server.uri(settings)), "environments": rows}
        print(json.dumps(about | {"experiment": asdict(experiment) if experiment else None}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("environment", "serves", "since", "address", "alias", "agree"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        other = f"{row['name']} " if row["name"] not in (None, settings.name) else ""
        words = [other + (row["version"] or "nothing"), row["since"] or "", row["url"] or "", row["alias"] or "none"]
        table.add_row(row["environment"], *words, "yes" if row["agree"] else "[bold red]no[/]")
    console = Console()
    console.print(table)
    for row in rows:
        if row["note"]:
            console.print(f"{row['environment']}: {row['note']}", style="bold red", highlight=False, soft_wrap=True)
    if experiment:
        console.print(experiment.in_words(), highlight=False, soft_wrap=True)
        if told := admission.told_stop(settings, experiment.name):
            console.print(told, style="bold red", highlight=False, soft_wrap=True)
    console.print(f"MLflow: {mlflow_server.shown(mlflow_server.uri(settings))}", highlight=False)


def settle(client, settings: Settings) -> None:
    """Bring MLflow up to date with the last deployments, where their commands could not, unless one is at work now."""
    with suppress(BusyError), processes.lock("delivery", "make status"):
        for environment in targets.ENVIRONMENTS:
            with deployments.afterwards(f"the last deployment to {environment} could not be looked up", then=""):
                deployment.settle(client, settings, environment)


def state(client, settings: Settings, environment: str) -> dict[str, Any]:
    """What an environment serves, and what its alias says."""
    served = targets.choose(settings).serving(environment, settings)
    found = versions.by_alias(client, settings.name, environment)
    alias = found.number if found else None
    astray = ""
    if found and served and served.version == alias:
        astray = deployment.experiment_astray(client, settings, environment, found, served)
    note = f"{astray}; `make reconcile` sets that right" if astray else None
    return {
        "environment": environment,
        "version": served.version if served else None,
        "since": served.since if served else None,
        "url": served.url if served else None,
        "digest": served.digest if served else None,
        "alias": alias,
        "name": served.name if served else None,
        "note": (served.note or note) if served else None,
        "experiment": (served.experiment or None) if served else None,
        "agree": (served.version, served.name) == (alias, settings.name) if served else alias is None,
    }


if __name__ == "__main__":
    sys.exit(main())
