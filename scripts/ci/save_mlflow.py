"""Put the embedded MLflow back into the image registry, and let go of it.

    make save-mlflow

Only what is new is sent. Nothing is overwritten that another job has saved meanwhile: then this one must run again.
"""

import argparse
import sys

from pipeline import processes
from pipeline.errors import RegistryError, edge
from pipeline.registry import mlflow_server
from pipeline.registry.embedded import heartbeat, saving, sync
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Save MLflow if it was restored to be changed; in a workflow this runs also after a failure."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    mlflow_server.quiet_environment()
    repository, reason = sync.place(load_settings())
    if reason:
        print(f"nothing to save: {reason}")
        return
    with processes.lock("carried-mlflow", "make save-mlflow"):
        held, restored = heartbeat.held(), sync.record().get("holder")
        if held is None and restored:
            raise RegistryError(
                "the lease on this MLflow was let go of (by `make stop`?) before it was saved", saving.AGAIN
            )
        if held is None or restored != held["holder"]:
            print("nothing was saved: the MLflow here was not restored to be changed", flush=True)
            heartbeat.end()
            return
        saving.end_cancelled()
        with processes.lock("delivery", "make save-mlflow", saving.WAIT_SECONDS):
            saving.save(repository, held)


if __name__ == "__main__":
    sys.exit(main())
