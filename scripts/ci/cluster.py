"""Write the kubeconfig that the environment carries to a file of its own, for the steps that follow:

    make cluster ENVIRONMENT=staging

SLIPWAY_KUBECONFIG is its content; without it there is no cluster and nothing is written. A user without credentials logs in
with GitHub's OIDC token (delivery/targets/kubernetes/oidc_token.py). Production is refused unless SLIPWAY_DEPLOY_PRODUCTION is true: a
kubeconfig that only the environment `production` knows was not seen when the delivery was planned.
"""

import argparse
import os
import sys

import yaml

from delivery import targets
from delivery.targets.kubernetes import kubeconfig
from delivery.targets.kubernetes.target import CONTEXTS
from pipeline.ci import repository_settings
from pipeline.errors import edge


@edge
def main(argv: list[str] | None = None) -> None:
    """Write the kubeconfig, and say which contexts are staging and production."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=targets.environment, required=True)
    options = parser.parse_args(argv)
    text = os.environ.get(kubeconfig.GIVEN, "")
    if not text.strip():
        print(f"cluster: {repository_settings.cluster({})[1]}")
        return
    if options.environment == "production":
        kubeconfig.asked_for()
    config = kubeconfig.parsed(text)
    chosen = {environment: kubeconfig.choose(config, environment) for environment in targets.ENVIRONMENTS}
    for context in dict.fromkeys(chosen.values()):
        kubeconfig.log_in(config, context)
    same = config == kubeconfig.parsed(
        text
    )  # then it is written as it came: YAML read and written again may mean something else
    file = kubeconfig.written(text if same else yaml.safe_dump(config, sort_keys=False))
    kubeconfig.hand_on({"KUBECONFIG": str(file)} | {CONTEXTS[key]: name for key, name in chosen.items()})
    print("; ".join(f"{environment} is the context {name}" for environment, name in chosen.items()))


if __name__ == "__main__":
    sys.exit(main())
