"""Run tests/integration against what an environment serves.

make integration ENVIRONMENT=staging
"""

import argparse
import os
import subprocess
import sys

from delivery import keys, targets
from pipeline.artifacts import ROOT
from pipeline.errors import DeployError, edge
from pipeline.settings import load_settings

# Installed plugins (schemathesis and hypothesis among them) take two seconds to import, while somebody waits for a promotion.
# Set in the environment, and empty, it has them back.
PLAIN = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


@edge
def main(argv: list[str] | None = None) -> int:
    """Exit with pytest's status; raises DeployError when nothing is deployed there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=targets.environment, required=True)
    options = parser.parse_args(argv)
    settings = load_settings()
    target = targets.choose(settings)
    record = target.serving(options.environment, settings)
    if record is None:
        raise DeployError(
            f"{options.environment} serves nothing to test",
            f"`make deploy ENVIRONMENT={options.environment}`",
        )
    if not record["bundle"]:
        raise DeployError(
            f"the bundle of version {record['version']} is not on this machine",
            f"`make deploy ENVIRONMENT={options.environment} VERSION={record['version']}` fetches it",
        )
    command = [sys.executable, "-m", "pytest", "-q", "tests/integration"]
    with target.reach(options.environment, settings) as url:
        about = {"SLIPWAY_URL": url, "SLIPWAY_BUNDLE": record["bundle"]}
        about[keys.VARIABLE] = target.key(options.environment, settings)
        return subprocess.run(command, cwd=ROOT, env=PLAIN | os.environ | about).returncode


if __name__ == "__main__":
    sys.exit(main())
