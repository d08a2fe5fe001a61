"""Let somebody in to an MLflow that asks who one is, and say whether they may move the alias `production`.

    make mlflow-user NAME=anna                     # an account that can look at everything
    make mlflow-user NAME=anna PERMISSION=EDIT     # and register versions and move aliases of this repository's model

Who runs it is MLflow's admin: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. The password of a new account is made and
shown once. Run again, it changes the permission alone.
"""

import argparse
import re
import sys

from pipeline.errors import SettingsError, edge
from pipeline.registry import accounts
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Make the account unless it is there, and give it the permission."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="the account's name")
    parser.add_argument("--permission", default="READ", help="READ (default), EDIT or MANAGE")
    options = parser.parse_args(argv)
    if not re.fullmatch(r"[A-Za-z0-9][\w.@-]*", options.name):
        raise SettingsError(
            f"{options.name!r} is no name for an account" if options.name else "NAME is needed",
            "make mlflow-user NAME=anna",
        )
    if options.permission not in accounts.PERMISSIONS:
        raise SettingsError(
            f"there is no permission {options.permission}", f"PERMISSION is {', '.join(accounts.PERMISSIONS)}"
        )
    settings = load_settings()
    address = accounts.server()
    accounts.add(address, options.name)
    accounts.grant(address, options.name, options.permission, settings)
    print(f"{options.permission} on {settings.name}: {options.name} {accounts.PERMISSIONS[options.permission]}")


if __name__ == "__main__":
    sys.exit(main())
