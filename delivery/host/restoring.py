"""Restoring a backup of this host's MLflow."""

from pathlib import Path

from delivery.host import services
from delivery.host.backups import ARTIFACTS, DUMP, complete, folder
from delivery.host.compose import compose, described, done
from delivery.host.passwords import make_metrics_key, make_passwords
from pipeline.errors import OneHostError

PSQL = ("exec", "-T", "postgres", "psql", "--quiet", "--no-psqlrc", "--username=mlflow", "--set=ON_ERROR_STOP=1")
AGAIN = "run it again: MLflow is unchanged"
# One transaction: at no moment is there no database, or two.
SWAP = """
DROP DATABASE IF EXISTS mlflow_before;
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ('mlflow', 'mlflow_restored') \\g /dev/null
BEGIN;
ALTER DATABASE mlflow RENAME TO mlflow_before;
ALTER DATABASE mlflow_restored RENAME TO mlflow;
COMMIT;
"""
# Hard links, not moves: until the database is replaced, the present one must find its files. Afterwards a file of the
# backup has two links, and a file with a single link belongs to what was replaced.
UNPACK = "rm -rf /artifacts/.restoring && mkdir /artifacts/.restoring && tar -C /artifacts/.restoring -xz"
LINK = "cp -alf /artifacts/.restoring/. /artifacts/"
TIDY = "find /artifacts -type f -links 1 -delete && rm -rf /artifacts/.restoring"


def choose(name: str | None) -> Path:
    """The backup of this name, or the newest; raises OneHostError listing the existing ones."""
    there = complete(folder())
    found = [path for path in there if name in (None, path.name)]
    if found:
        return found[0]
    names = ", ".join(path.name for path in there)
    what = f"there is no backup {name}" if name else "there is no backup"
    raise OneHostError(
        f"{what} in {folder()}",
        f"{f'there are: {names}' if names else '`make backup` makes one'}; SLIPWAY_BACKUPS names another folder",
    )


def prepare(manifest: dict) -> dict:
    """Start PostgreSQL alone, so that nothing else writes meanwhile; return the resolved configuration."""
    make_passwords()
    make_metrics_key()
    model = described()
    place = model["services"]["mlflow"]["environment"]["MLFLOW_ARTIFACTS_DESTINATION"]
    if place != manifest["artifacts"]:
        raise OneHostError(
            f"the backup's artifacts belong into {manifest['artifacts']}, and SLIPWAY_ARTIFACTS says {place}",
            "set SLIPWAY_ARTIFACTS in monitoring/.env to what it was (the volume: remove the line)",
        )
    services.make_network(model["networks"]["slipway"]["name"])
    services.have_images(model)
    services.start("postgres")
    services.set_password(model)
    return model


def refuse_to_overwrite(replace: bool) -> None:
    """Raise OneHostError when MLflow holds something and overwriting it was not confirmed."""
    now = held()
    if now != "nothing" and not replace:
        raise OneHostError(
            f"MLflow here holds {now}", "with REPLACE=yes they are lost, and the backup takes their place"
        )


def held() -> str:
    """What MLflow's database holds, in words."""
    if rows("SELECT to_regclass('model_versions') IS NOT NULL AND to_regclass('runs') IS NOT NULL") != "t":
        return "nothing"
    counts = rows(
        "SELECT (SELECT count(*) FROM experiments WHERE name <> 'Default'), (SELECT count(*) FROM runs), "
        "(SELECT count(*) FROM model_versions)"
    ).split("|")
    words = [f"{count} {what}" for count, what in zip(counts, ("experiments", "runs", "versions"), strict=True)]
    return ", ".join(words) if any(map(int, counts)) else "nothing"


def rows(sql: str) -> str:
    """The result of a query on MLflow's database, as plain rows."""
    said = compose(*PSQL, "--dbname=mlflow", "--tuples-only", "--no-align", input=sql)
    return done(said, "PostgreSQL does not answer", "`make up` says more").strip()


def restore(backup: Path, manifest: dict) -> None:
    """Load the backup beside the present data, then swap them."""
    here = ARTIFACTS in manifest["files"]
    done(compose("stop", "mlflow"), "MLflow cannot be stopped", "`make down`, then run this again")
    if here:
        print("restoring the artifacts", flush=True)
        fill(backup / ARTIFACTS, "run", "--rm", "--no-deps", "-T", "mlflow", "sh", "-c", UNPACK)
    print("restoring the database", flush=True)
    maintain("DROP DATABASE IF EXISTS mlflow_restored;\nCREATE DATABASE mlflow_restored;")
    load = ("pg_restore", "--username=mlflow", "--dbname=mlflow_restored", "--exit-on-error", "--no-owner")
    fill(backup / DUMP, "exec", "-T", "postgres", *load)
    print("switching to the restored data", flush=True)
    if here:
        in_mlflow(LINK)
    maintain(SWAP)
    if here:
        in_mlflow(TIDY)
    maintain("DROP DATABASE IF EXISTS mlflow_before;")


def fill(source: Path, *command: str) -> None:
    """Pipe a file into a compose command."""
    with source.open("rb") as file:
        done(compose(*command, stdin=file), f"{source.name} could not be restored", f"is the disk full? {AGAIN}")


def maintain(sql: str) -> None:
    """Run SQL as administrator, outside MLflow's database."""
    done(compose(*PSQL, "--dbname=postgres", input=sql), "PostgreSQL refuses", AGAIN)


def in_mlflow(command: str) -> None:
    """Run a command in the container that holds the artifacts."""
    said = compose("run", "--rm", "--no-deps", "-T", "mlflow", "sh", "-c", command)
    done(said, "the artifacts could not be put in place", "run it again, with REPLACE=yes")
