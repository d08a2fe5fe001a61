"""Accounts of the team's MLflow: made, renewed, and given permissions."""

import secrets

import requests

from pipeline.errors import RegistryError
from pipeline.registry import mlflow_server, versions
from pipeline.settings import Settings

PERMISSIONS = {
    "READ": "can look at everything, and move nothing",
    "EDIT": "can register versions, record deployments and move aliases, production among them",
    "MANAGE": "can also delete, and is what the pipeline's own account needs",
}
EXPERIMENTS = ("deployments", "experiments", "models", "monitoring")  # NAME-… in MLflow, beside NAME itself


def server() -> str:
    """The address of an MLflow that asks who one is; raises RegistryError for one that does not."""
    mlflow_server.quiet_environment()
    remote = mlflow_server.remote_uri()
    if not remote:
        raise RegistryError(
            "MLFLOW_TRACKING_URI is not set, and the server on this machine has no accounts",
            "set it to a server that asks who one is: docs/mlflow-server.md",
        )
    problem = mlflow_server.health(remote, timeout=5) or mlflow_server.refuses(remote, timeout=30)
    if problem:
        raise RegistryError(
            f"MLflow at {mlflow_server.shown(remote)} {problem}",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of its admin",
        )
    return remote.rstrip("/")


def add(address: str, name: str) -> None:
    """Make the account and show its password, or say that it is there."""
    if call("GET", address, "2.0/mlflow/users/get", username=name) is not None:
        print(f"{name} has an account; its password stays as it is")
        return
    password = secrets.token_urlsafe(18)
    call("POST", address, "2.0/mlflow/users/create", username=name, password=password)
    print(f"{name} has an account now. Its password, shown this once: {password}", flush=True)


def grant(address: str, name: str, permission: str, settings: Settings) -> None:
    """Give the permission on the model and on the experiments of its training, deployments and monitoring, of A/B tests and of comparisons of models."""
    client = versions.connect(settings)
    names = [settings.name, *(f"{settings.name}-{each}" for each in EXPERIMENTS)]
    experiments = [versions.experiment(client, each) for each in names]
    for kind, each in [("registered_model", settings.name), *(("experiment", each) for each in experiments)]:
        what = {"username": name, "resource_type": kind, "resource_id": each}
        now = call("GET", address, "3.0/mlflow/users/permissions/get", **what)
        if now and now["permission"] != permission:
            call(
                "POST", address, "3.0/mlflow/users/permissions/revoke", **what
            )  # MLflow does not replace one by another
            call("POST", address, "3.0/mlflow/users/permissions/grant", **what, permission=permission)


def call(method: str, address: str, path: str, **said: str) -> dict | None:
    """What MLflow answers, None for an account that is not there; raises RegistryError in words for whatever else it refuses."""
    params, json = (said, None) if method == "GET" else (None, said)
    login, api = mlflow_server.login(address), f"{mlflow_server.shown(address)}/api/{path}"
    answer = requests.request(method, api, auth=login, timeout=30, params=params, json=json)
    if answer.status_code == 403:
        raise RegistryError(f"MLflow does not let {login[0]} do that", "only its admin gives accounts")
    if answer.status_code == 404 and "RESOURCE_DOES_NOT_EXIST" not in answer.text:
        raise RegistryError(
            "this MLflow has no accounts", "start it so that it asks who one is: docs/mlflow-server.md says how"
        )
    if answer.status_code == 404:
        return None
    if not answer.ok:
        raise RegistryError(f"MLflow answers {answer.status_code}: {answer.text.strip()[:200]}", "`make doctor`")
    return answer.json()
