"""The kubeconfig from a job's environment, and the login without keys; tests/delivery/kubernetes has the tests with a cluster."""

import base64
import calendar
import json
import os
import stat
import time
from pathlib import Path

import pytest
import yaml

from delivery.targets.kubernetes import kubeconfig as carried
from delivery.targets.kubernetes import oidc_token
from pipeline.errors import DeployError, SettingsError
from scripts.ci import cluster
from tests.delivery.kubernetes.oidc_endpoint import endpoint

DATA = base64.b64encode(b"-----BEGIN CERTIFICATE-----").decode()
VARIABLES = ("KUBECONFIG", "SLIPWAY_STAGING_CONTEXT", "SLIPWAY_PRODUCTION_CONTEXT")


def kubeconfig(*contexts: str, user: dict | None = None, server: str = "https://127.0.0.1:9") -> dict:
    """A kubeconfig with these contexts, all with one cluster and one user (default: with a token)."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": DATA}}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in contexts],
        "users": [{"name": "u", "user": {"token": "hunter2"} if user is None else user}],
    }


@pytest.fixture(autouse=True)
def job(monkeypatch, tmp_path):
    """The environment of a job without any settings."""
    for name in [name for name in os.environ if name.startswith(("SLIPWAY_", "KUBE", "ACTIONS_", "GITHUB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path))
    monkeypatch.setenv("GITHUB_ENV", str(tmp_path / "env"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run `make cluster` with a kubeconfig; returns the variables for later steps, {} on failure, and its output."""

    def ran(config: dict | str, environment: str = "staging", **more: str) -> tuple[dict[str, str], str]:
        text = config if isinstance(config, str) else yaml.safe_dump(config)
        for name, value in {"SLIPWAY_KUBECONFIG": text, **more}.items():
            monkeypatch.setenv(name, value)
        status = cluster.main(["--environment", environment])
        said = "".join(capsys.readouterr())
        assert "hunter2" not in said and "Traceback" not in said
        assert (status == 0) == ("error: " not in said)
        return variables(tmp_path / "env"), said

    return ran


def variables(file: Path) -> dict[str, str]:
    """The variables in a GITHUB_ENV file with values of one line: KEY<<MARK, value, MARK."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {lines[at].split("<<")[0]: lines[at + 1] for at in range(0, len(lines), 3)}


def test_without_a_kubeconfig_there_is_no_cluster(run, tmp_path):
    """It prints one sentence, succeeds and writes nothing; in production as well."""
    for environment in ("staging", "production"):
        for given in ("", " \n"):
            found, said = run(given, environment)
            assert not found and "SLIPWAY_KUBECONFIG is not set" in said and not list(tmp_path.iterdir())


def test_file_is_private_and_unchanged(run, tmp_path):
    """The content is written byte for byte, readable for this user only, in a folder that others cannot enter."""
    text = yaml.safe_dump(kubeconfig("one")) + "# 0123, on, 1e5: not read and written again\n"
    file = Path(run(text)[0]["KUBECONFIG"])
    assert file.is_relative_to(tmp_path) and file.read_text(encoding="utf-8") == text
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent)] == [0o600, 0o700]


def test_outside_a_workflow_the_variables_are_printed(run, monkeypatch):
    """As lines for a shell."""
    monkeypatch.delenv("GITHUB_ACTIONS")
    monkeypatch.delenv("GITHUB_ENV")
    said = run(kubeconfig("my context"))[1]
    assert "export KUBECONFIG=/" in said and "export SLIPWAY_STAGING_CONTEXT='my context'\n" in said


@pytest.mark.parametrize(
    "contexts, named, expected",
    [
        (["staging", "production", "other"], {}, ["staging", "production"]),
        (["only"], {}, ["only", "only"]),
        (["staging"], {}, ["staging", "staging"]),
        (["a", "production"], {"SLIPWAY_STAGING_CONTEXT": "a"}, ["a", "production"]),
        (["staging", "production", "a"], {"SLIPWAY_PRODUCTION_CONTEXT": "a"}, ["staging", "a"]),
    ],
)
def test_context_is_found_by_variable_or_name_or_alone(run, contexts, named, expected):
    """A variable wins, then the context named like the environment, then the only one."""
    found, _ = run(kubeconfig(*contexts), **named)
    assert [found[name] for name in VARIABLES[1:]] == expected


def test_ambiguous_contexts_are_listed(run):
    """With several contexts of other names, the message asks for the choice, and nothing is written."""
    found, said = run(kubeconfig("blue", "green"))
    assert not found and "blue, green" in said and "SLIPWAY_STAGING_CONTEXT" in said
    found, said = run(kubeconfig("blue"), SLIPWAY_PRODUCTION_CONTEXT="grey")
    assert not found and "SLIPWAY_PRODUCTION_CONTEXT=grey is not a context" in said and "blue" in said


@pytest.mark.parametrize("asked", ["", "false"])
def test_production_in_a_cluster_must_be_requested(run, asked):
    """A kubeconfig of the environment `production` does not suffice: the repository variable is needed."""
    found, said = run(kubeconfig("one"), "production", SLIPWAY_DEPLOY_PRODUCTION=asked)
    assert not found and "required reviewers" in said
    assert run(kubeconfig("one"), "production", SLIPWAY_DEPLOY_PRODUCTION="true")[0]


def cut(config: dict, *path: str | int) -> str:
    """A kubeconfig with one part missing."""
    part = config
    for step in path[:-1]:
        part = part[step]
    del part[path[-1]]
    return yaml.safe_dump(config)


def text_of(user: dict) -> str:
    return yaml.safe_dump(kubeconfig("one", user=user))


@pytest.mark.parametrize(
    "text, words",
    [
        (base64.b64encode(yaml.safe_dump(kubeconfig("one")).encode()).decode(), "is base64"),
        ("apiVersion: v1\nclusters:\n- cluster: {server: 'https", "is not YAML (line 3"),
        ("a password, hunter2!", "it is no YAML mapping"),
        ("- hunter2", "it is no YAML mapping"),
        (cut(kubeconfig("one"), "clusters"), "has no clusters"),
        (cut(kubeconfig("one"), "contexts"), "has no contexts"),
        (cut(kubeconfig("one"), "users"), "whose user is not in it"),
        (cut(kubeconfig("one"), "clusters", 0, "cluster"), "whose cluster has no address"),
        (cut(kubeconfig("one"), "contexts", 0, "context", "cluster"), "whose cluster has no address"),
        ("clusters: [hunter2]\ncontexts: [1]", "no list of names"),
        ("clusters: [{name: a, cluster: hunter2}]", "say nothing"),
        (
            text_of({"client-certificate-data": DATA[:-2], "client-key-data": DATA}),
            "client-certificate-data that is cut",
        ),
        (text_of({"client-certificate": "/home/me/cert.pem"}), "not on this machine (client-certificate)"),
        (text_of({"tokenFile": "token.txt"}), "not on this machine (tokenFile)"),
        (text_of({"exec": {"command": "no-such-login"}}), "program no-such-login, which is not on this machine"),
        (text_of({}), "may not ask for GitHub's OIDC token"),
    ],
)
def test_unusable_kubeconfig_is_refused_with_the_reason(run, text, words):
    """One that is encoded, truncated, or needs files of another machine has its own message, is quoted nowhere, and not written."""
    found, said = run(text)
    assert not found and words in said and "next: " in said


@pytest.mark.parametrize("contexts", [[{"cluster": "c", "user": "u"}], [{"cluster": "c"}], [{"cluster": "c", "user": None}]])  # fmt: skip
def test_user_without_credentials_uses_githubs_token(run, contexts):
    """An empty or missing user gets a credential plugin with absolute paths; other users stay."""
    config = kubeconfig("one", user={})
    config["contexts"][0]["context"] = contexts[0]
    config["users"].append({"name": "other", "user": {"token": "t"}})
    with endpoint() as server:
        found, _ = run(config, **server.environment())
    written = yaml.safe_load(Path(found["KUBECONFIG"]).read_text(encoding="utf-8"))
    user = written["contexts"][0]["context"]["user"]
    plugin = carried.entries(written, "users")[user]["exec"]
    assert Path(plugin["command"]).is_absolute() and plugin["args"] == ["-m", "delivery.targets.kubernetes.oidc_token"]
    assert carried.entries(written, "users")["other"] == {"token": "t"}


def jwt(**claims: float) -> str:
    """A token with an expiry, like GitHub's."""
    parts = [json.dumps(part).encode() for part in ({"alg": "none"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "signature"])


def test_credential_expires_before_its_token(monkeypatch, capsys):
    """kubectl gets the token for the requested audience, and is told to ask again half a minute before it expires."""
    ends = int(time.time()) + 300
    with endpoint() as server:
        server.token = jwt(exp=ends)
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SLIPWAY_OIDC_AUDIENCE", "my cluster&more")
        assert oidc_token.main() == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["apiVersion"], said["kind"]) == ("client.authentication.k8s.io/v1", "ExecCredential")
        assert said["status"]["token"] == server.token and server.audiences == ["my cluster&more"]
        when = time.strptime(said["status"]["expirationTimestamp"], "%Y-%m-%dT%H:%M:%SZ")
        assert ends - 30 == calendar.timegm(when)


@pytest.mark.parametrize("value", ["opaque", "a.b.c", jwt(), jwt(exp="soon")])
def test_token_without_an_expiry_is_used(value):
    """kubectl then uses it until it exits."""
    assert oidc_token.credential(value)["status"] == {"token": value}


def test_default_audience_is_kubernetes(monkeypatch, capsys):
    """As the documentation says."""
    with endpoint() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        assert oidc_token.main() == 0 and server.audiences == ["kubernetes"]


def ask(monkeypatch, **environment: str) -> str:
    """Request a token that must be refused; returns the message."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DeployError) as error:
        oidc_token.token("kubernetes")
    return f"{error.value.what} {error.value.then}"


def test_missing_permission_is_named(monkeypatch):
    """Without the variables, or with a refusing endpoint, the message names id-token: write."""
    assert "id-token: write" in ask(monkeypatch)
    with endpoint() as server:
        server.faults = [403]
        said = ask(monkeypatch, **server.environment())
        assert "answered 403" in said and "id-token: write" in said and len(server.audiences) == 1


def test_failing_endpoint_is_tried_three_times(monkeypatch):
    """Two failures in a row are retried; a third is reported."""
    monkeypatch.setattr(oidc_token, "PAUSE", 0.01)
    with endpoint() as server:
        server.faults = [500, 429]
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        assert oidc_token.token("kubernetes") == "token-of-staging"
        server.faults = [502, 503, 500]
        assert "answered 500" in ask(monkeypatch)


def test_silent_endpoint_times_out(monkeypatch):
    """A silent or missing endpoint is given up before kubectl's own timeout."""
    monkeypatch.setattr(oidc_token, "PAUSE", 0.01)
    monkeypatch.setattr(oidc_token, "SECONDS", 0.2)
    with endpoint() as server:
        server.delay = 1
        since = time.monotonic()
        assert "cannot be reached" in ask(monkeypatch, **server.environment())
        assert time.monotonic() - since < 5
    assert "cannot be reached" in ask(monkeypatch)
    assert "is no address" in ask(monkeypatch, ACTIONS_ID_TOKEN_REQUEST_URL="nowhere")


@pytest.mark.parametrize("body", ["<html>", "{}", "[]", '{"value": ""}', '{"value": 1}'])
def test_response_without_a_token_is_reported(monkeypatch, body):
    """Any other response is an error with a message."""
    with endpoint() as server:
        server.body = body
        assert "answered without a token" in ask(monkeypatch, **server.environment())


def test_messages_do_not_quote_the_kubeconfig():
    """They name the setting, never its content."""
    with pytest.raises(SettingsError) as error:
        carried.parsed("token: hunter2\n  x: [hunter2")
    assert "hunter2" not in error.value.what + error.value.then
