"""Add a package that your model needs: to the right group of pyproject.toml, to the locks, to .venv.

make add PACKAGE=xgboost              # XGBoost, LightGBM, CatBoost: also ready for an image that they serve in
make add PACKAGE="polars>=1.30,<2"    # any other package, for the training
make add PACKAGE=umap-learn SERVING=yes  # also for images of scikit-learn's own models

No other version moves. Says what an image gains by it.
"""

import argparse
import subprocess
import sys

from pipeline.artifacts import ROOT
from pipeline.errors import SlipwayError, edge
from pipeline.packages import addition


@edge
def main(argv: list[str] | None = None) -> None:
    """Edit, lock, install, and say what was done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", nargs="?", default="", help="its name, and if you like its versions: xgboost>=3,<4")
    parser.add_argument("--serving", action="store_true", help="also in images of scikit-learn's own models")
    options = parser.parse_args(argv)
    if not options.package:
        raise SlipwayError("no package was named", "make add PACKAGE=xgboost")
    for line in addition.add(options.package, options.serving):
        print(line, flush=True)
    if subprocess.run(["make", "--silent", ".venv/pipeline.ready"], cwd=ROOT).returncode:
        raise SlipwayError(
            "it is locked, but could not be installed", "the lines above say why; `make setup` tries again"
        )
    print(addition.size_of_image(options.package, options.serving))


if __name__ == "__main__":
    sys.exit(main())
