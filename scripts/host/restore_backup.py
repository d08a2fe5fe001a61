"""Bring MLflow of `make up` back from a backup: every run, version, alias, deployment record, account and artifact.

    make restore-backup                                      # the newest
    make restore-backup BACKUP=2026-01-31T134500Z REPLACE=yes

Where MLflow holds something already it refuses, unless REPLACE=yes says that this is to go. The backup is compared with its checksums
before anything is touched, and filled in beside what is there; one step puts it in place. Killed before that step, it changed
nothing that MLflow sees; run it again. What serves in production does not depend on MLflow and serves on.
"""

import argparse
import sys

from delivery.host import restoring, services
from delivery.host.backups import checked, fingerprint
from delivery.host.compose import require_engine
from pipeline import processes
from pipeline.errors import edge


@edge
def main(argv: list[str] | None = None) -> None:
    """Check a backup, fill it in, put it in place, and start what `make up` starts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backup", help="its name; default: the newest")
    parser.add_argument("--replace", action="store_true", help="what MLflow holds now may go")
    options = parser.parse_args(argv)
    require_engine()
    with processes.lock("one-host", "make restore-backup"):
        backup = restoring.choose(options.backup)
        print(f"comparing {backup.name} with its checksums", flush=True)
        manifest = checked(backup)
        model = restoring.prepare(manifest)
        restoring.refuse_to_overwrite(options.replace)
        restoring.restore(backup, manifest)
        services.up()
    print(f"\nMLflow holds what it held at {backup.name}: {restoring.held()}")
    if manifest["webhook_key"] != fingerprint(model["services"]["mlflow"]["environment"]):
        print(
            "note: the key of the webhooks is another one since: write the old SLIPWAY_MLFLOW_WEBHOOK_KEY into monitoring/.env"
        )
        print("      and `make up`, or webhooks cannot be listed nor sent (docs/mlflow-server.md)")


if __name__ == "__main__":
    sys.exit(main())
