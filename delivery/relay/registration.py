"""Registers the relay's webhook on the MLflow server by its REST API: finds, creates or updates, and tests it."""

from typing import Any
from urllib.parse import quote, urlencode

from delivery.relay.remote import RemoteError, mlflow
from pipeline.errors import RegistryError
from pipeline.registry import mlflow_server

EVENTS = [{"entity": "MODEL_VERSION_ALIAS", "action": action} for action in ("CREATED", "DELETED")]
TRY_SECONDS = 60  # MLflow tries four times, with pauses
LOOK_SECONDS = 20  # the same limit for `make doctor`, which checks much else
KEY = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"
# MLflow's refusals, and what to do on the server.
PRIVATE = "start the MLflow server with MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS=true where the relay is on a private address"
REMEDIES = (
    ("URL scheme", "start the MLflow server with MLFLOW_WEBHOOK_ALLOWED_SCHEMES=http,https, or give the relay https"),
    ("non-public", PRIVATE),
    ("resolve", "the MLflow server cannot find that host: use a name that is known where MLflow runs"),
    ("hostname", "an example is https://relay.example.com/webhook"),
)


def name(model: str) -> str:
    """The webhook's name on the server, by which it is found again."""
    return f"slipway-{model}"[:63].rstrip("-_")


def find(address: str, model: str, seconds: float = 10) -> list[dict[str, Any]]:
    """The webhooks of that name, normally one; raises RemoteError when MLflow does not list them."""
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        page = mlflow("GET", address, f"webhooks?{urlencode({'max_results': 100, 'page_token': token})}", seconds) or {}
        found += [hook for hook in page.get("webhooks", []) if hook.get("name") == name(model)]
        token = page.get("next_page_token", "")
        if not token:
            return found


def put(address: str, model: str, url: str, secret: str) -> tuple[str, str]:
    """Create the webhook, or update the existing one; return its id and which of the two. Raises RegistryError."""
    wanted = {"name": name(model), "url": url, "events": EVENTS, "secret": secret, "status": "ACTIVE"}
    wanted["description"] = "starts a promotion when an alias is moved; `make webhook` made it"
    try:
        there = find(address, model)
        for extra in there[1:]:  # left by two concurrent commands: each would get every event
            mlflow("DELETE", address, f"webhooks/{quote(extra['webhook_id'])}")
        path = f"webhooks/{quote(there[0]['webhook_id'])}" if there else "webhooks"
        made = mlflow("PATCH" if there else "POST", address, path, 30, wanted)
        return made["webhook"]["webhook_id"], "updated" if there else "created"
    except RemoteError as answer:
        raise refused(answer) from None


def attempt(address: str, webhook: str, seconds: float = TRY_SECONDS) -> dict[str, Any]:
    """The result of MLflow's own test: {"success", "response_status", "response_body", "error_message"}; raises RegistryError."""
    try:
        return mlflow("POST", address, f"webhooks/{quote(webhook)}/test", seconds, {"event": EVENTS[0]})["result"]
    except RemoteError as answer:
        if not answer.status:
            what = f"MLflow's test delivery got no response within {seconds:g} s"
            raise RegistryError(what, "is the relay running, and may MLflow's machine reach it?") from None
        raise refused(answer) from None


def refused(answer: RemoteError) -> RegistryError:
    """The error for a refusal by MLflow, with advice."""
    then = next((then for words, then in REMEDIES if answer.status == 400 and words in answer.what), "")
    if answer.status == 500:
        then = (
            f"it answers so when {KEY} on the MLflow server is not the key that a webhook's secret was stored with; "
            "docs/promote-in-mlflow.md says how to fix it"
        )
    elif answer.status == 404:
        then = "that server has no webhooks: they need a newer MLflow, on a database"
    elif answer.status in (401, 403):
        then = "see MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; it takes a user who may manage"
    return RegistryError(f"MLflow {answer.what}", then)


def failure(result: dict[str, Any]) -> tuple[str, str]:
    """Why a test did not reach the relay, and what to do."""
    status, error = result.get("response_status"), str(result.get("error_message", ""))
    if status == 401:
        return "the relay refused it with 401: it has another secret", "give both the same SLIPWAY_RELAY_SECRET"
    if status:
        return f"something at that address answered {status}", "the address ends in /webhook, where the relay listens"
    if "refused" in error:
        return "MLflow did not reach it: nothing listens there", "is the relay running, and is that its port?"
    if "WRONG_VERSION_NUMBER" in error:
        return "what listens there speaks http, not https", "give the address with http://, or put TLS before the relay"
    short = " ".join(error.split())[:300]
    if "not a public IP" in error:
        return "MLflow may not reach a private address", PRIVATE
    return f"MLflow did not reach it ({short})", "is the relay running, and may MLflow's machine reach it?"


def state(address: str | None, model: str) -> tuple[str, str]:
    """The state of the webhook for `make doctor`: ok or note, and a sentence. MLflow tests it with an event that is ignored."""
    schedule = "a moved alias is noticed by the schedule of promote.yml, or by `make reconcile`"
    try:
        there = find(address, model, seconds=3) if address else []
    except RemoteError as answer:
        return "note", f"MLflow cannot list its webhooks ({answer.what}); {refused(answer).then or schedule}"
    if not address or not there:
        return "ok", f"schedule only: {schedule}; `make webhook` makes it immediate"
    url = mlflow_server.shown(there[0].get("url", ""))
    if there[0].get("status") != "ACTIVE":
        return "note", f"the webhook to {url} is switched off in MLflow; `make webhook` switches it on"
    try:
        result = attempt(address, there[0]["webhook_id"], LOOK_SECONDS)
    except RegistryError as error:
        return "note", f"MLflow should notify {url}, but {error.what}; {error.then or schedule}"
    if not result.get("success"):
        what, then = failure(result)
        return "note", f"MLflow should notify {url}, but {what}; {then}"
    return "ok", f"MLflow notifies {url}, and the relay accepts it"
