"""`make mlflow-user` on a real MLflow with logins: who may move the alias `production`, and who may not."""

import re
from urllib.parse import quote

import pytest
import requests
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from delivery import checkup
from delivery.host import passwords
from pipeline.errors import SlipwayError
from pipeline.registry import deployments, versions
from pipeline.registry.deployment_record import DEPLOYED, Deployment, last_deployment
from pipeline.settings import load_settings
from scripts.mlflow import mlflow_user
from tests.delivery.host.mlflow_auth import ADMIN, ROOT, auth_server, server

NAME = load_settings().name


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A server with two versions of this repository's model, the first in production."""
    with auth_server(tmp_path_factory.mktemp("auth"), **webhooks()) as started, pytest.MonkeyPatch.context() as patch:
        log_in(patch, started, ADMIN)
        client = MlflowClient(started, started)
        client.create_registered_model(NAME)
        run = client.create_run(client.create_experiment(NAME))
        for _ in range(2):
            client.create_model_version(NAME, f"{run.info.artifact_uri}/model", run.info.run_id)
        client.set_registered_model_alias(NAME, "production", "1")
        yield started


def webhooks() -> dict[str, str]:
    """MLflow's webhook settings from monitoring/compose.yaml, with a key made by `make up`."""
    given = yaml.safe_load((ROOT / "monitoring/compose.yaml").read_text(encoding="utf-8"))["services"]["mlflow"]
    told = {name: value for name, value in given["environment"].items() if name.startswith("MLFLOW_WEBHOOK_")}
    key = passwords.make_password("SLIPWAY_MLFLOW_WEBHOOK_KEY")
    return {name: key if value.startswith("$") else value for name, value in told.items()}


@pytest.fixture
def admin(address, monkeypatch):
    """The environment of MLflow's admin."""
    log_in(monkeypatch, address, ADMIN)
    return address


def log_in(patch: pytest.MonkeyPatch, address: str, login: dict[str, str]) -> None:
    """Use this login from now on."""
    for key, value in ({"MLFLOW_TRACKING_URI": address, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"} | login).items():
        patch.setenv(key, value)


def made(capsys, name: str, *arguments: str) -> dict[str, str]:
    """Create an account with the command; returns the printed login."""
    assert mlflow_user.main(["--name", name, *arguments]) == 0
    said = capsys.readouterr().out
    password = re.search(rf"^{name} has an account now\. Its password, shown this once: (\S+)$", said, re.M)
    assert password, said
    return {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password.group(1)}


def refused(capsys, *arguments: str) -> str:
    """The error message of a failing command."""
    assert mlflow_user.main([*arguments]) == 1
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return said.err


def move(address: str, version: str) -> None:
    """Move the alias `production` as MLflow's pages do."""
    MlflowClient(address, address).set_registered_model_alias(NAME, "production", version)


def on(address: str) -> str:
    """The version in production."""
    return MlflowClient(address, address).get_model_version_by_alias(NAME, "production").version


def test_nothing_is_readable_without_a_login(address):
    """The API returns 401; only the health check is open, for monitoring."""
    assert requests.get(f"{address}/api/2.0/mlflow/registered-models/search", timeout=10).status_code == 401
    assert requests.get(f"{address}/health", timeout=10).status_code == 200


def test_reader_cannot_move_production(admin, monkeypatch, capsys):
    """An account with READ can read the alias, and gets 403 when it moves it; the alias stays."""
    log_in(monkeypatch, admin, made(capsys, "reader"))
    assert on(admin) == "1"
    with pytest.raises(MlflowException) as caught:
        move(admin, "2")
    assert caught.value.get_http_status_code() == 403
    assert on(admin) == "1"


def test_editor_can_move_production(admin, monkeypatch, capsys):
    """An account with EDIT moves the alias and records deployments."""
    log_in(monkeypatch, admin, made(capsys, "editor", "--permission", "EDIT"))
    move(admin, "2")
    assert on(admin) == "2"
    move(admin, "1")
    client = MlflowClient(admin, admin)
    about = Deployment.of(versions.by_number(client, NAME, "1"), "production", "deploy", "process", None)
    deployments.end(client, deployments.begin(client, NAME, about), DEPLOYED)
    assert last_deployment(client, NAME, "production").version == "1"


def test_editor_cannot_delete(admin, monkeypatch, capsys):
    """The pipeline's account, which deletes an alias in a rollback, needs MANAGE."""
    editor = made(capsys, "second-editor", "--permission", "EDIT")
    pipeline = made(capsys, "pipeline", "--permission", "MANAGE")
    client = MlflowClient(admin, admin)
    client.set_registered_model_alias(NAME, "previous", "2")
    log_in(monkeypatch, admin, editor)
    with pytest.raises(MlflowException) as caught:
        client.delete_registered_model_alias(NAME, "previous")
    assert caught.value.get_http_status_code() == 403
    log_in(monkeypatch, admin, pipeline)
    client.delete_registered_model_alias(NAME, "previous")


def test_second_run_changes_only_the_permission(admin, monkeypatch, capsys):
    """It creates no second account and no new password, and the new permission applies from then on."""
    login = made(capsys, "anna", "--permission", "EDIT")
    assert mlflow_user.main(["--name", "anna", "--permission", "READ"]) == 0
    said = capsys.readouterr().out
    assert "anna has an account; its password stays as it is" in said and "password, shown" not in said
    log_in(monkeypatch, admin, login)
    with pytest.raises(MlflowException):
        move(admin, "2")


def test_only_the_admin_can_create_accounts(admin, monkeypatch, capsys):
    """Any other account can neither create accounts nor raise its own permission, and the message says so."""
    log_in(monkeypatch, admin, made(capsys, "climber"))
    assert "does not let climber do that" in refused(capsys, "--name", "friend")
    assert "does not let climber do that" in refused(capsys, "--name", "climber", "--permission", "MANAGE")


def test_only_the_admin_can_create_webhooks(admin, monkeypatch, capsys):
    """The admin creates and lists a webhook with a secret, over http to a private address; another account gets 403."""
    relay = {"name": "relay", "url": "http://127.0.0.1:8080/webhook", "events": ["model_version_alias.created"]}
    client = MlflowClient(admin, admin)
    client.create_webhook(**relay, secret="a secret")
    assert [one.url for one in client.list_webhooks()] == [relay["url"]]
    log_in(monkeypatch, admin, made(capsys, "listener", "--permission", "MANAGE"))
    with pytest.raises(MlflowException) as caught:
        client.create_webhook(**relay)
    assert caught.value.get_http_status_code() == 403


def test_mlflow_does_not_record_who_moved_an_alias(admin, monkeypatch, capsys):
    """No field of model or version names the user; docs/mlflow-server.md says so, and what the records contain instead."""
    log_in(monkeypatch, admin, made(capsys, "mover", "--permission", "EDIT"))
    move(admin, "2")
    move(admin, "1")
    client = MlflowClient(admin, admin)
    told = [vars(client.get_model_version(NAME, "1")), vars(client.get_registered_model(NAME))]
    assert "mover" not in repr(told)


def test_missing_login_is_named_by_every_command(admin, monkeypatch, capsys):
    """Without an account, or with a wrong password, the message names 401 and the two variables, also in `make doctor`."""
    settings = load_settings()
    monkeypatch.setenv("HOME", "/nonexistent")
    for name in ADMIN:
        monkeypatch.delenv(name)
    with pytest.raises(SlipwayError) as caught:
        versions.connect(settings)
    assert "answers 401: it asks who we are" in caught.value.what and "MLFLOW_TRACKING_USERNAME" in caught.value.then
    found = checkup.mlflow(settings)
    assert found.state == "fault" and "answers 401" in found.says
    log_in(monkeypatch, admin, {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "wrong password"})
    assert "does not know the user admin, or the password is another" in refused(capsys, "--name", "friend")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--name", ""], "NAME is needed"),
        (["--name", "anna; --"], "is no name for an account"),
        (["--name", "anna", "--permission", "edit"], "there is no permission edit"),
    ],
)
def test_invalid_arguments_are_refused_before_any_request(arguments, words, capsys, monkeypatch):
    """An invalid name or permission is named, without a server."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert words in refused(capsys, *arguments)


def test_server_without_accounts_says_so(tmp_path, monkeypatch, capsys):
    """Without MLFLOW_TRACKING_URI, and on a server without logins, the message says that there are no accounts."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "has no accounts" in refused(capsys, "--name", "anna")
    with server(tmp_path) as open_to_all:
        log_in(monkeypatch, open_to_all, ADMIN)
        assert "this MLflow has no accounts" in refused(capsys, "--name", "anna")


def test_login_is_read_from_mlflow_s_credentials_file(admin, tmp_path, monkeypatch):
    """An account in ~/.mlflow/credentials works, as it does for MLflow's own client."""
    for name in ADMIN:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".mlflow").mkdir()
    lines = "\n".join(f"{key.lower()} = {value}" for key, value in ADMIN.items())
    (tmp_path / ".mlflow/credentials").write_text(f"[mlflow]\n{lines}\n", encoding="utf-8")
    assert checkup.mlflow(load_settings()).says.endswith("answers")


def test_login_in_the_url_works(admin, monkeypatch, capsys):
    """A workflow's secret may contain the account in the URL: commands use it, and never show the password."""
    user, password = ADMIN.values()
    for name in ADMIN:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", admin.replace("://", f"://{user}:{quote(password)}@"))
    found = checkup.mlflow(load_settings())
    assert found.state == "ok" and password not in found.says and quote(password) not in found.says
    assert versions.by_alias(versions.connect(load_settings()), NAME, "production")
    made(capsys, "by-address")
