"""Start the embedded MLflow server unless it runs, wait until it answers, and print its address.

make mlflow
"""

import argparse
import sys

from pipeline import mlflow_server
from pipeline.errors import edge
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Leave an MLflow server running; with MLFLOW_TRACKING_URI set, only check that it answers."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    print(f"MLflow: {mlflow_server.uri(load_settings())}")


if __name__ == "__main__":
    sys.exit(main())
