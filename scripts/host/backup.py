"""Copy all that MLflow of `make up` knows into one dated folder: its database, accounts included, and its artifacts.

    make backup                        # backups/2026-01-31T134500Z/, read back and checked; the newest 7 are kept

SLIPWAY_BACKUPS names another folder, best on another disk, SLIPWAY_BACKUPS_KEPT another number. A folder is there whole or not at
all. Artifacts in S3 are not copied: their bucket is to keep versions itself. Bring one back with `make restore-backup`.
"""

import argparse
import shutil
import sys

from delivery.host import backups
from delivery.host.compose import require_engine
from pipeline import processes
from pipeline.errors import edge


@edge
def main(argv: list[str] | None = None) -> None:
    """Make a backup, then remove the oldest beyond those that are kept."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    kept = backups.number_kept()
    require_engine()
    with processes.lock("one-host", "make backup"):
        made = backups.make(backups.folder())
        for old in backups.complete(backups.folder())[kept:]:
            shutil.rmtree(old)
            print(f"removed {old.name}: the newest {kept} are kept")
    print(f"\nbackup {made}\nbring it back with: make restore-backup BACKUP={made.name}")


if __name__ == "__main__":
    sys.exit(main())
