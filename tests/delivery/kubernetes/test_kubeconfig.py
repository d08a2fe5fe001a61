"""The kubeconfig that a job's environment carries, and the log-in without keys; a cluster answers in tests/delivery/kubernetes."""

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
    """A kubeconfig with these contexts, all of one cluster and one user (default: with a token)."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": DATA}}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in contexts],
        "users": [{"name": "u", "user": {"token": "hunter2"} if user is None else user}],
    }


@pytest.fixture(autouse=True)
def job(monkeypatch, tmp_path):
    """The environment of a job that has nothing yet."""
    for name in [name for name in os.environ if name.startswith(("SLIPWAY_", "KUBE", "ACTIONS_", "GITHUB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path))
    monkeypatch.setenv("GITHUB_ENV", str(tmp_path / "env"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run `make cluster` with a kubeconfig; the variables it sets for later steps, {} when it failed, and its words."""

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
    """Nothing given means one sentence, success, and nothing written; in production as well."""
    for environment in ("staging", "production"):
        for given in ("", " \n"):
            found, said = run(given, environment)
            assert not found and "SLIPWAY_KUBECONFIG is not set" in said and not list(tmp_path.iterdir())


def test_the_file_is_this_users_alone_and_as_it_was_given(run, tmp_path):
    """The content is written byte for byte, readable for this user only, in a folder that others cannot enter."""
    text = yaml.safe_dump(kubeconfig("one")) + "# 0123, on, 1e5: not read and written again\n"
    file = Path(run(text)[0]["KUBECONFIG"])
    assert file.is_relative_to(tmp_path) and file.read_text(encoding="utf-8") == text
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent)] == [0o600, 0o700]


def test_outside_of_a_workflow_the_variables_are_printed(run, monkeypatch):
    """A person gets lines that a shell takes."""
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
def test_contexts_are_found_by_variable_by_name_or_alone(run, contexts, named, expected):
    """A variable wins, then the context called as the environment, then the only one."""
    found, _ = run(kubeconfig(*contexts), **named)
    assert [found[name] for name in VARIABLES[1:]] == expected


def test_contexts_that_cannot_be_told_apart_are_listed(run):
    """With several contexts and no names, which is which is asked, and nothing is written."""
    found, said = run(kubeconfig("blue", "green"))
    assert not found and "blue, green" in said and "SLIPWAY_STAGING_CONTEXT" in said
    found, said = run(kubeconfig("blue"), SLIPWAY_PRODUCTION_CONTEXT="grey")
    assert not found and "SLIPWAY_PRODUCTION_CONTEXT=grey is not a context" in said and "blue" in said


@pytest.mark.parametrize("asked", ["", "false"])
def test_production_in_a_cluster_must_be_asked_for(run, asked):
    """A kubeconfig that only the environment `production` knows does not open it: the repository variable does."""
    found, said = run(kubeconfig("one"), "production", SLIPWAY_DEPLOY_PRODUCTION=asked)
    assert not found and "required reviewers" in said
    assert run(kubeconfig("one"), "production", SLIPWAY_DEPLOY_PRODUCTION="true")[0]


def cut(config: dict, *path: str | int) -> str:
    """A kubeconfig without one of its parts."""
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
def test_what_cannot_work_is_refused_in_words(run, text, words):
    """A kubeconfig that is encoded, cut, or leans on another machine is told apart, repeated nowhere, and not written."""
    found, said = run(text)
    assert not found and words in said and "next: " in said


@pytest.mark.parametrize("contexts", [[{"cluster": "c", "user": "u"}], [{"cluster": "c"}], [{"cluster": "c", "user": None}]])  # fmt: skip
def test_a_user_without_credentials_logs_in_with_githubs_token(run, contexts):
    """An empty user, or none at all, gets a credential plugin that is started by absolute paths; other users stay."""
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
    """A token that says when it ends, as GitHub's do."""
    parts = [json.dumps(part).encode() for part in ({"alg": "none"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "signature"])


def test_a_credential_ends_before_its_token_does(monkeypatch, capsys):
    """kubectl gets the token of the audience asked for, and is told to ask again half a minute before it ends."""
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
def test_a_token_that_does_not_say_when_it_ends_is_used_all_the_same(value):
    """Without an expiry kubectl uses it until it ends itself."""
    assert oidc_token.credential(value)["status"] == {"token": value}


def test_the_audience_is_kubernetes_unless_named(monkeypatch, capsys):
    """The default is the word that the documentation tells the cluster."""
    with endpoint() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        assert oidc_token.main() == 0 and server.audiences == ["kubernetes"]


def ask(monkeypatch, **environment: str) -> str:
    """Ask for a token where that must fail; the words."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DeployError) as error:
        oidc_token.token("kubernetes")
    return f"{error.value.what} {error.value.then}"


def test_a_job_without_permission_is_told_which(monkeypatch):
    """Neither the variables nor a refusing endpoint leave anybody guessing: id-token: write."""
    assert "id-token: write" in ask(monkeypatch)
    with endpoint() as server:
        server.faults = [403]
        said = ask(monkeypatch, **server.environment())
        assert "answered 403" in said and "id-token: write" in said and len(server.audiences) == 1


def test_an_endpoint_that_fails_is_asked_three_times(monkeypatch):
    """Two failures in a row are ridden out; a third is told."""
    monkeypatch.setattr(oidc_token, "PAUSE", 0.01)
    with endpoint() as server:
        server.faults = [500, 429]
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        assert oidc_token.token("kubernetes") == "token-of-staging"
        server.faults = [502, 503, 500]
        assert "answered 500" in ask(monkeypatch)


def test_a_silent_endpoint_is_left_in_time(monkeypatch):
    """One that does not answer is given up before kubectl's own patience ends, and so is one that is not there."""
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
def test_an_answer_without_a_token_is_told(monkeypatch, body):
    """Whatever comes instead of a token is an error in words."""
    with endpoint() as server:
        server.body = body
        assert "answered without a token" in ask(monkeypatch, **server.environment())


def test_refusals_repeat_nothing_of_the_kubeconfig():
    """The words name the setting, never what it holds."""
    with pytest.raises(SettingsError) as error:
        carried.parsed("token: hunter2\n  x: [hunter2")
    assert "hunter2" not in error.value.what + error.value.then
