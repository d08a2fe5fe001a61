"""Have the MLflow server tell the webhook relay when an alias is moved, and see that it does.

    make webhook URL=https://relay.example.com/webhook

Run again, it changes the webhook that is there. The secret is SLIPWAY_RELAY_SECRET, the one that the relay has.
"""

import argparse
import os
import sys

from delivery.relay import registration
from delivery.relay.server import secret
from pipeline.errors import RegistryError, SettingsError, edge
from pipeline.registry import mlflow_server
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Make or change the webhook, and have MLflow try it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="the relay's address, ending in /webhook")
    url = parser.parse_args(argv).url
    if not url.startswith(("http://", "https://")):
        what = f"URL {url!r} does not begin with https:// or http://" if url else "URL is needed"
        raise SettingsError(what, "make webhook URL=https://relay.example.com/webhook")
    key = secret(os.environ.get("SLIPWAY_RELAY_SECRET", "").strip())
    settings = load_settings()
    address = mlflow_server.uri(settings)
    webhook, done = registration.put(address, settings.name, url, key)
    print(f"{done} the webhook {registration.name(settings.name)} on {mlflow_server.shown(address)}")
    if mlflow_server.remote_uri():
        print(f"note: it survives a restart of MLflow only where that server has {registration.KEY}")
    result = registration.attempt(address, webhook)
    if not result.get("success"):
        what, then = registration.failure(result)
        raise RegistryError(f"the webhook is there, but {what}", then)
    print(f"MLflow tried it, and {url} answered {result['response_status']}")


if __name__ == "__main__":
    sys.exit(main())
