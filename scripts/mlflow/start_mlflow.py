"""Start the embedded MLflow server unless it runs, wait until it answers, and print its address.

make mlflow
"""

import argparse
import sys

from pipeline.errors import edge
from pipeline.registry import mlflow_server, versions
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Leave an MLflow server running; with MLFLOW_TRACKING_URI set, only check that it answers."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    settings = load_settings()
    versions.connect(settings).search_experiments(max_results=1)  # its health page may answer when nothing else does
    print(f"MLflow: {mlflow_server.shown(mlflow_server.uri(settings))}")


if __name__ == "__main__":
    sys.exit(main())
