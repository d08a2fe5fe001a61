"""Open MLflow's pages, wherever MLflow is; put back what was changed there, and have it deployed.

    make ui                    # ARGS=--no-browser: only print the address

Where MLflow travels in the image registry it is fetched, opened, and put back when you are done, unless somebody saved
another one meanwhile: then nothing is overwritten, and both are shown. Nobody has to wait while you look.
"""

import argparse
import sys

from delivery import mlflow_ui
from pipeline import processes
from pipeline.errors import edge
from pipeline.registry import mlflow_server
from pipeline.registry.embedded import saving, sync
from pipeline.registry.embedded.oci import Repository
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Open what there is, and where it travels bring it back."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    browser = not parser.parse_args(argv).no_browser
    mlflow_server.quiet_environment()
    settings = load_settings()
    repository, reason = sync.place(settings)
    if reason:
        mlflow_ui.show(settings, browser)
        print(reason if mlflow_server.remote_uri() else f"{reason}, and so does what you change")
        print(mlflow_ui.deployed_by())
        return
    with processes.lock("carried-mlflow", "make ui"):
        sync.recover()
        mlflow_ui.refuse_held()
        store = Repository(repository)
        opened = mlflow_ui.fetched(store)
        if opened is None:
            print(f"{repository} holds no MLflow yet: the first delivery makes one")
            return
        mlflow_ui.show(settings, browser)
        print("press Enter here (or Ctrl-C) when you are done: what you changed is then put back", flush=True)
        mlflow_ui.wait()
        with processes.lock("delivery", "make ui", saving.WAIT_SECONDS):
            mlflow_ui.done(settings, store, opened)


if __name__ == "__main__":
    sys.exit(main())
