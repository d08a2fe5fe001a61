"""Delivery in a fork with two versions: registry and running service stay consistent."""

import json
import re
import time

import psutil
import pytest
import requests

from tests.serving.load import constant_load
from tests.spine.flaky_proxy import BEFORE, flaky

FORGET = ("-m", "scripts.forget", "--environment")


@pytest.fixture
def client(two):
    """A client for the fork's MLflow."""
    return two.mlflow()


def by_hand(client):
    """A version that somebody registered from version 1's run, without the pipeline."""
    first = client.get_model_version("breast-cancer", "1")
    return client.create_model_version("breast-cancer", f"runs:/{first.run_id}/model", run_id=first.run_id)


def records(client) -> list:
    """The runs of all deployment records, newest first."""
    experiment = client.get_experiment_by_name("breast-cancer-deployments")
    return list(client.search_runs([experiment.experiment_id]))


def deployments(client) -> list[dict]:
    """The tags of all deployment records, newest first."""
    return [run.data.tags for run in records(client)]


def test_promotion_keeps_the_previous_version(two, client):
    """After the second version was promoted, the alias previous is on the first."""
    assert client.get_model_version_by_alias("breast-cancer", "production").version == "2"
    assert client.get_model_version_by_alias("breast-cancer", "previous").version == "1"


def test_release_that_dies_after_its_test_is_undone(two, client):
    """When a release passes its test but fails behind the proxy, the previous one serves again, and the record says why."""
    before = two.json(".slipway/production.json")
    line = "        contract = self.contract\n"
    dying = f"{line}        self.asked = getattr(self, 'asked', 0) + 1\n        if self.asked > 1 and self.release.version == '1':\n            __import__('os').kill(__import__('os').getppid(), 9)\n            __import__('os')._exit(3)\n"
    two.edit("serving/http/framework_app.py", line, dying)
    said = two.refused("-m", "scripts.rollback")
    two.edit("serving/http/framework_app.py", dying, line)
    assert "smoke test" in said and "version 2 was restored" in said
    assert two.json(".slipway/production.json") == before
    assert requests.get(f"{before['url']}/model/info", timeout=5).json()["version"] == "2"
    assert two.status()["production"]["agree"]
    newest = deployments(client)[0]
    assert (newest["action"], newest["version"], newest["result"]) == ("rollback", "1", "failed")
    assert "smoke test" in newest["detail"]


@pytest.mark.parametrize("gone", ["breast-cancer-deployments", "breast-cancer"])
def test_deleted_experiment_stops_commands_early(two, client, gone):
    """After it was deleted in MLflow's pages, training and deployment stop at the start, with the command that restores it."""
    served, written = two.json(".slipway/production.json"), (two.root / "build/run.json").read_bytes()
    experiment = client.get_experiment_by_name(gone).experiment_id
    client.delete_experiment(experiment)
    try:
        commands = [["train.py"], ["-m", "scripts.rollback"], ["-m", "scripts.deploy", "--environment", "production"]]
        said = [two.refused(*command) for command in (commands if "deployments" in gone else commands[:1])]
        findings = {row["what"]: row for row in json.loads(two.run("-m", "scripts.doctor", "--json").stdout)}
    finally:
        client.restore_experiment(experiment)
    (two.root / "build/run.json").write_bytes(written)
    for words in [*said, findings["MLflow"]["says"]]:
        assert f"the experiment {gone} was deleted in MLflow" in words
        assert f"experiments restore --experiment-id {experiment}" in words
    assert findings["MLflow"]["state"] == "fault"
    assert two.json(".slipway/production.json") == served and two.status()["production"]["agree"]


def test_mlflow_failure_after_the_release_is_a_warning(two, client):
    """The rollback has replaced production, so it is green and says what is missing; the next command completes alias, tags and record."""

    def fails(method, path):
        return path.endswith(("registered-models/alias", "runs/log-batch", "runs/update")) and method in (
            "POST",
            "PATCH",
        )

    with flaky(two.json(".mlflow/server.json")["uri"], 1, kinds=BEFORE, fails=fails) as proxy:
        done = two.run(
            "-m", "scripts.rollback", MLFLOW_TRACKING_URI=proxy.url, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"
        )  # fmt: skip
    assert done.returncode == 0 and done.stderr.count("warning: production serves version 1, but ") == 2
    assert "alias says so" not in done.stdout and deployments(client)[0]["result"] == "begun"
    state = two.status()["production"]
    assert (state["version"], state["alias"], state["agree"]) == ("1", "1", True)
    newest = deployments(client)[0]
    assert (newest["action"], newest["version"], newest["result"]) == ("rollback", "1", "deployed")
    assert client.get_model_version_by_alias("breast-cancer", "previous").version == "2"
    assert "rolled_back" in client.get_model_version("breast-cancer", "2").tags
    two.ok("-m", "scripts.rollback", "--version", "2")
    assert two.status()["production"]["agree"] and deployments(client)[0]["bookkeeping"] == "done"


def test_no_request_is_lost_while_versions_change(two, client):
    """Under constant load production goes back to version 1 and on to version 2 again: every request is answered."""
    url = two.json(".slipway/production.json")["url"]
    example = [field["example"] for field in two.json("build/bundle/contract.json")["inputs"]]
    with constant_load(url, example) as load:
        two.ok("-m", "scripts.rollback")
        two.ok("-m", "scripts.rollback", "--version", "2")
    assert load.failures == []
    assert min(load.answers["1"], load.answers["2"]) > 50


def test_release_that_never_becomes_ready_is_stopped(two):
    """A service that hangs is stopped after ready_seconds."""
    two.edit("pipeline.toml", "ready_seconds = 30", "ready_seconds = 2")
    line = "    args = parser.parse_args(argv)\n"
    two.edit("serving/__main__.py", line, f"{line}    __import__('time').sleep(600)\n")
    said = two.refused("-m", "scripts.rollback")
    two.edit("serving/__main__.py", f"{line}    __import__('time').sleep(600)\n", line)
    two.edit("pipeline.toml", "ready_seconds = 2", "ready_seconds = 30")
    assert "was not ready within 2 s" in said
    assert two.status()["production"]["version"] == "2"


def test_release_with_wrong_answers_is_undone(two):
    """A service without the golden answers never reaches the environment's port."""
    before = two.json(".slipway/staging.json")
    path = two.root / "serving/model/predictor.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "\n_right = Predictor.predict\nPredictor.predict = lambda self, rows: _right(self, [[v * 1.5 for v in row] for row in rows])\n", encoding="utf-8")  # fmt: skip
    said = two.refused("-m", "scripts.deploy", "--environment", "staging", "--version", "1")
    path.write_text(text, encoding="utf-8")
    assert ("smoke test" in said and "golden" in said.lower()) or "row" in said
    assert two.json(".slipway/staging.json") == before


def test_version_compared_with_an_outdated_one_is_refused(two, client):
    """A version compared with version 1 is refused once version 2 is in production."""
    client.set_registered_model_alias("breast-cancer", "production", "1")
    client.set_model_version_tag("breast-cancer", "2", "compared_with", "none")
    said = two.refused("-m", "scripts.deploy", "--environment", "production", "--version", "2")
    client.set_registered_model_alias("breast-cancer", "production", "2")
    client.set_model_version_tag("breast-cancer", "2", "compared_with", "1")
    assert "was compared with version none, but version 1 is in production" in said


def test_rehearsal_shows_a_broken_release_undone(two, client):
    """A release with wrong answers is refused in staging, which serves as before, and no request is lost."""
    before = two.json(".slipway/staging.json")
    said = two.ok("-m", "scripts.rehearse")
    assert "smoke test of" in said and "probability of" in said and "undone: a broken release does no harm" in said
    asked, lost = re.search(r"requests made +(\d+) meanwhile, of them lost: (\d+)", said).groups()
    assert int(asked) > 5 and int(lost) == 0
    assert two.json(".slipway/staging.json") == before
    newest = deployments(client)[0]
    assert (newest["action"], newest["environment"], newest["result"]) == ("rehearsal", "staging", "undone")


def test_rehearsal_fails_when_nothing_refuses(two, client):
    """With a smoke test that ignores answers, the rehearsal says so and exits red; then staging has the good release."""
    line = "        expected = self.expected[number]\n"
    two.edit("delivery/smoke.py", line, f"        return\n{line}")
    done = two.run("-m", "scripts.rehearse")
    two.edit("delivery/smoke.py", f"        return\n{line}", line)
    assert done.returncode == 1 and "NOT undone as it should be" in done.stdout
    assert two.status()["staging"]["agree"]
    assert "passed" in two.ok("-m", "scripts.integration_test", "--environment", "staging")


def test_rehearsal_fails_when_the_broken_release_does_not_start(two):
    """Nothing was shown, so it exits red with that reason."""
    line = "    args = parser.parse_args(argv)\n"
    two.edit("serving/__main__.py", line, f"{line}    raise SystemExit('no disk')\n")
    said = two.refused("-m", "scripts.rehearse")
    two.edit("serving/__main__.py", f"{line}    raise SystemExit('no disk')\n", line)
    assert "no disk" in said and "undone" not in said
    assert two.status()["staging"]["agree"]


def test_terminated_deployment_is_undone(two, client):
    """SIGTERM, as for a cancelled job, ends a deployment like Ctrl-C: nothing of it remains, and the record says so."""
    line = "    args = parser.parse_args(argv)\n"
    before = two.json(".slipway/staging.json")
    two.edit("serving/__main__.py", line, f"{line}    __import__('time').sleep(60)\n")
    process = two.start("-m", "scripts.deploy", "--environment", "staging", "--version", "1")
    try:
        for said in process.stdout:
            if "waiting until the service" in said:
                break
        process.terminate()
        assert process.wait(30) == 130
    finally:
        two.edit("serving/__main__.py", f"{line}    __import__('time').sleep(60)\n", line)
    assert "Traceback" not in process.stdout.read()
    assert two.json(".slipway/staging.json") == before
    started = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if "serving" in (p.info["cmdline"] or [])]
    assert not any(f"{two.root}/.slipway/staging/version-1-" in part for command in started for part in command)
    assert (deployments(client)[0]["result"], deployments(client)[0]["detail"]) == (
        "failed",
        "stopped by the keyboard or a signal",
    )


def test_auto_does_not_change_the_target_quietly(two, client):
    """After a deployment to containers, and with no engine now, `auto` is refused and does not start a process."""
    newest = next(run for run in records(client) if run.data.tags["result"] == "deployed")
    environment = newest.data.tags["environment"]
    client.set_tag(newest.info.run_id, "target", "docker")
    two.edit("pipeline.toml", 'target = "process" ', 'target = "auto" ')
    command = ["-m", "scripts.deploy", "--environment", environment, "--version", newest.data.tags["version"]]
    said = two.refused(*command, DOCKER_HOST="unix:///nowhere/docker.sock")
    two.edit("pipeline.toml", 'target = "auto" ', 'target = "process" ')
    client.set_tag(newest.info.run_id, "target", "process")
    assert f"{environment} was last deployed to target docker, and `auto` means process here" in said


def test_rollback_of_an_unpromoted_version_restores_the_alias_s(two, client):
    """When production serves another version than the alias's, rollback restores the alias's, and tags the other one."""
    two.ok("-m", "scripts.rollback", "--version", "1")
    client.set_registered_model_alias("breast-cancer", "production", "2")
    client.set_registered_model_alias("breast-cancer", "previous", "1")
    two.ok("-m", "scripts.rollback")
    assert two.status()["production"]["version"] == "2" and two.status()["production"]["agree"]
    assert "rolled_back" in client.get_model_version("breast-cancer", "1").tags
    assert "rolled_back" not in client.get_model_version("breast-cancer", "2").tags


def test_version_of_another_model_is_not_promoted(two):
    """After the name in pipeline.toml changed, production serves another model's version, which is not promoted as this one's."""
    two.edit("pipeline.toml", 'name = "breast-cancer" ', 'name = "other" ')
    said = two.refused("-m", "scripts.promote")
    two.edit("pipeline.toml", 'name = "other" ', 'name = "breast-cancer" ')
    assert "production serves nothing that could be promoted" in said


def test_promotion_after_the_alias_moved_restores_the_alias_s_version(two, client):
    """If the alias was moved to another version meanwhile, promote is refused and production serves that version."""
    version = by_hand(client)
    for key, value in client.get_model_version("breast-cancer", "1").tags.items():
        client.set_model_version_tag("breast-cancer", version.version, key, value)
    client.set_registered_model_alias("breast-cancer", "production", version.version)
    said = two.refused("-m", "scripts.promote")
    assert "someone moved it meanwhile" in said
    status = two.status()["production"]
    client.set_registered_model_alias("breast-cancer", "production", "2")
    two.ok("-m", "scripts.rollback", "--version", "2")
    client.delete_model_version("breast-cancer", version.version)
    # The copy has version 1's bundle, so production reports 1.
    assert status["version"] == "1" and status["alias"] == version.version


def test_version_without_verdict_is_refused(two, client):
    """A version registered by hand has no accepted verdict."""
    version = by_hand(client).version
    said = two.refused("-m", "scripts.deploy", "--environment", "staging", "--version", version)
    client.delete_model_version("breast-cancer", version)
    assert "no accepted verdict" in said


def test_status_shows_disagreement(two, client):
    """When the alias is moved by hand, status says that alias and service differ."""
    client.set_registered_model_alias("breast-cancer", "production", "1")
    assert not two.status()["production"]["agree"]
    shown = two.ok("-m", "scripts.status")
    client.set_registered_model_alias("breast-cancer", "production", "2")
    row = next(line for line in shown.splitlines() if line.startswith("production"))
    assert row.split()[-2:] == ["1", "no"]


def test_staging_is_rolled_back_by_number(two):
    """Staging has no alias previous, so the version must be given."""
    assert "name one with VERSION=n" in two.refused("-m", "scripts.rollback", "--environment", "staging")
    two.ok("-m", "scripts.rollback", "--environment", "staging", "--version", "1")
    assert two.status()["staging"]["version"] == "1" and two.status()["staging"]["agree"]


def test_smoke_and_integration_find_the_environment(two):
    """Both verbs find the environment's URL by themselves."""
    assert "median" in two.ok("-m", "scripts.smoke_test", "--environment", "production")
    assert "passed" in two.ok("-m", "scripts.integration_test", "--environment", "production")


def test_doctor_describes_the_configuration(two):
    """It lists model, data, MLflow, target and the running releases, and finds no problem."""
    findings = {row["what"]: row for row in json.loads(two.ok("-m", "scripts.doctor", "--json"))}
    assert findings["data"]["says"].startswith("569 rows, 30 features")
    assert "MLFLOW_TRACKING_URI is not set" in findings["MLflow"]["says"]
    assert findings["target"]["says"].startswith("process: ")
    assert "serves version 2" in findings["production"]["says"]
    assert not [row for row in findings.values() if row["state"] == "fault"]
    assert "569 rows" in two.ok("-m", "scripts.doctor")


def test_doctor_fails_with_a_problem(two):
    """A fault in settings, data or MLflow is in its report and its exit status."""
    done = two.run("-m", "scripts.doctor", "--json", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 1 and "cannot be reached" in done.stdout
    (two.root / "data/breast_cancer.csv").rename(two.root / "data/gone.csv")
    done = two.run("-m", "scripts.doctor", "--json")
    (two.root / "data/gone.csv").rename(two.root / "data/breast_cancer.csv")
    assert done.returncode == 1 and "the data file is missing" in done.stdout
    two.edit("pipeline.toml", "salt =", "slat =")
    done = two.run("-m", "scripts.doctor", "--json")
    two.edit("pipeline.toml", "slat =", "salt =")
    assert done.returncode == 1 and "did you mean salt?" in done.stdout


def test_forget_deletes_in_the_given_environment(two):
    """`make forget` changes production's log alone; without a subject, or with a wrong environment, it says so."""
    for environment in ("staging", "production"):
        record = two.json(f".slipway/{environment}.json")
        names = two.json("build/bundle/contract.json")["inputs"]
        body = {"features": [column["example"] for column in names], "subject": "customer-17"}
        assert requests.post(f"{record['url']}/predict", json=body, timeout=5).status_code == 200
    deadline = time.monotonic() + 60
    for environment in ("staging", "production"):
        while f"{environment}: 1 predictions deleted" not in two.ok(*FORGET, environment, "--subject", "customer-17"):
            assert time.monotonic() < deadline, "it was never written"
    assert "no subject is named" in two.refused(*FORGET, "production", "--subject", "")


def test_stop_stops_everything(two):
    """After `make stop` nothing serves and nothing listens; a second one says so."""
    url = two.json(".slipway/production.json")["url"]
    said = two.ok("-m", "scripts.stop")
    assert "production" in said and "staging" in said and "MLflow" in said
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=2)
    assert "nothing was running" in two.ok("-m", "scripts.stop")
    assert "serves nothing" in two.refused("-m", "scripts.promote")
    assert "serves nothing" in two.refused("-m", "scripts.integration_test", "--environment", "staging")
    assert "staging serves nothing" in two.refused("-m", "scripts.deploy", "--environment", "production")
