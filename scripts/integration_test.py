"""Run tests/integration against what an environment serves.

make integration ENVIRONMENT=staging
"""

import argparse
import sys

from delivery import proof, targets
from pipeline.errors import edge


@edge
def main(argv: list[str] | None = None) -> int:
    """Exit with pytest's status; raises DeployError when nothing is deployed there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=targets.environment, required=True)
    options = parser.parse_args(argv)
    return proof.integration(options.environment)


if __name__ == "__main__":
    sys.exit(main())
