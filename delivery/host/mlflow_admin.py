"""MLflow's administrator on this host: whether MLflow requires a login, and its password from monitoring/.env."""

import re

import requests

from delivery.host.compose import compose, done

LOOPBACK = re.compile(r"127\..*|::1|\[::1\]|localhost")
SET_PASSWORD = """
import os
from mlflow.server.auth import auth_config, store
store.init_db(auth_config.database_uri)
store.update_user(auth_config.admin_username, password=os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"])
"""


def asks(model: dict) -> bool:
    """Whether MLflow requires a login, by the same rule as its command in monitoring/compose.yaml."""
    environment = model["services"]["mlflow"]["environment"]
    chosen, address = environment["SLIPWAY_MLFLOW_AUTH"], environment["SLIPWAY_ADDRESS"]
    return chosen != "none" and not (chosen == "auto" and LOOPBACK.fullmatch(address))


def keep_password(model: dict, address: str) -> None:
    """Set the password of MLflow's admin to the one in monitoring/.env: the database may be older than that file."""
    password = model["services"]["mlflow"]["environment"]["MLFLOW_AUTH_ADMIN_PASSWORD"]
    api = f"{address}/api/2.0/mlflow/users/current"
    as_localhost = {"Host": "localhost:5000"}  # MLflow may refuse the address that it is bound to as a host name
    if requests.get(api, auth=("admin", password), headers=as_localhost, timeout=30).status_code == 401:
        said = compose("exec", "-T", "mlflow", "python", "-", input=SET_PASSWORD)
        done(
            said,
            "the password of MLflow's admin could not be set",
            "`docker compose -f monitoring/compose.yaml logs mlflow`",
        )
