"""The smoke test and the integration tests, against what serves in an environment."""

import os
import subprocess
import sys

from delivery import keys, smoke, targets
from pipeline.artifacts import ROOT
from pipeline.errors import DeployError
from pipeline.settings import load_settings

# Installed plugins (schemathesis and hypothesis among them) take two seconds to import, while somebody waits for a promotion.
# Set in the environment, and empty, it has them back.
PLAIN = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def integration(environment: str) -> int:
    """Ask what serves in an environment; pytest's exit status. Raises DeployError when nothing is deployed there."""
    settings = load_settings()
    target = targets.choose(settings)
    served = target.serving(environment, settings)
    if served is None:
        raise DeployError(
            f"{environment} serves nothing to test",
            f"`make deploy ENVIRONMENT={environment}`",
        )
    if not served.local_bundle:
        raise DeployError(
            f"the bundle of version {served.version} is not on this machine",
            f"`make deploy ENVIRONMENT={environment} VERSION={served.version}` fetches it",
        )
    command = [sys.executable, "-m", "pytest", "-q", "tests/integration"]
    with target.reach(environment, settings) as url:
        about = {"SLIPWAY_URL": url, "SLIPWAY_BUNDLE": str(served.local_bundle)}
        about[keys.VARIABLE] = target.key(environment, settings)
        return subprocess.run(command, cwd=ROOT, env=PLAIN | os.environ | about).returncode


def smoke_test(environment: str) -> smoke.SmokeResult:
    """Test what an environment serves, at the address that its target gives this machine."""
    settings = load_settings()
    target = targets.choose(settings)
    served = target.serving(environment, settings)
    again = f"`make deploy ENVIRONMENT={environment}`"
    if served is None:
        raise DeployError(f"nothing is deployed to {environment}", again)
    if not served.local_bundle:
        raise DeployError(f"the bundle of version {served.version} is not on this machine", f"{again} fetches it")
    with target.reach(environment, settings) as url:
        return smoke.replay(url, served.local_bundle, served.version, target.key(environment, settings))
