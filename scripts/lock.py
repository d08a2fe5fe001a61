"""Compile the dependency groups of pyproject.toml into requirements/*.txt: exact versions with hashes, no index address.

make lock                       # what pyproject.toml asks for beyond what is locked; every other version stays
make lock UPGRADE=scikit-learn  # besides, the newest version of one package that pyproject.toml allows
make lock UPGRADE=all           # the newest versions of all
"""

import argparse
import sys

from pipeline.errors import edge
from pipeline.packages import groups


@edge
def main(argv: list[str] | None = None) -> None:
    """Write one locked file for each group."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upgrade", default="", help="`all`, or the name of a package; else versions stay as they are")
    groups.lock_all(groups.upgrade(parser.parse_args(argv).upgrade))


if __name__ == "__main__":
    sys.exit(main())
