"""Delivery in a fork with two versions: what cannot go wrong between registry and running service."""

import json

import pytest
import requests


@pytest.fixture(scope="module")
def two(fork):
    """A fork in which version 2 has replaced version 1."""
    fork.edit("pipeline.toml", 'policy = "better" ', 'policy = "not_worse" ')
    fork.edit("pipeline.toml", "margin = 0.01 ", "margin = 0.5 ")
    fork.ok("-m", "scripts.ship")
    fork.edit("pipeline.toml", "C = 0.5 ", "C = 0.6 ")
    fork.ok("-m", "scripts.ship")
    return fork


@pytest.fixture
def client(two):
    """A client of the fork's MLflow."""
    return two.mlflow()


def by_hand(client):
    """A version that somebody made from version 1's run, without the pipeline."""
    first = client.get_model_version("breast-cancer", "1")
    return client.create_model_version("breast-cancer", f"runs:/{first.run_id}/model", run_id=first.run_id)


def deployments(client) -> list[dict]:
    """The tags of all deployment records, newest first."""
    experiment = client.get_experiment_by_name("breast-cancer-deployments")
    return [run.data.tags for run in client.search_runs([experiment.experiment_id])]


def test_promotion_kept_the_version_before(two, client):
    """After the second version was promoted, the alias previous is on the first."""
    assert client.get_model_version_by_alias("breast-cancer", "production").version == "2"
    assert client.get_model_version_by_alias("breast-cancer", "previous").version == "1"


def test_release_that_fails_on_its_own_port_is_replaced_by_what_served(two, client):
    """When a release passes its trial but does not start in its place, the version before serves again, and the record says why."""
    port = two.json(".slipway/production.json")["port"]
    line = "    args = parser.parse_args(argv)\n"
    broken = f"{line}    if args.port == {port} and 'version-1' in str(args.bundle):\n        raise SystemExit('lost its disk')\n"
    two.edit("serving/__main__.py", line, broken)
    said = two.refused("-m", "scripts.rollback")
    two.edit("serving/__main__.py", broken, line)
    assert "lost its disk" in said and "version 2 was restored" in said
    assert requests.get(f"http://127.0.0.1:{port}/model/info", timeout=5).json()["version"] == "2"
    assert two.status()["production"]["agree"]
    newest = deployments(client)[0]
    assert (newest["action"], newest["version"], newest["result"]) == ("rollback", "1", "failed")
    assert "lost its disk" in newest["detail"]


def test_release_that_never_becomes_ready_is_given_up(two):
    """A service that hangs is given up after ready_seconds, and ended."""
    two.edit("pipeline.toml", "ready_seconds = 30", "ready_seconds = 2")
    line = "    args = parser.parse_args(argv)\n"
    two.edit("serving/__main__.py", line, f"{line}    __import__('time').sleep(600)\n")
    said = two.refused("-m", "scripts.rollback")
    two.edit("serving/__main__.py", f"{line}    __import__('time').sleep(600)\n", line)
    two.edit("pipeline.toml", "ready_seconds = 2", "ready_seconds = 30")
    assert "was not ready within 2 s" in said
    assert two.status()["production"]["version"] == "2"


def test_release_with_other_answers_is_undone(two):
    """A service that answers, but not as the golden predictions say, never gets to the environment's port."""
    before = two.json(".slipway/staging.json")
    path = two.root / "serving/predictor.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "\n_right = Predictor.predict\nPredictor.predict = lambda self, rows: _right(self, [[v * 1.5 for v in row] for row in rows])\n", encoding="utf-8")  # fmt: skip
    said = two.refused("-m", "scripts.deploy", "--environment", "staging", "--version", "1")
    path.write_text(text, encoding="utf-8")
    assert ("smoke test" in said and "golden" in said.lower()) or "row" in said
    assert two.json(".slipway/staging.json") == before


def test_version_compared_with_another_one_does_not_go_to_production(two, client):
    """A version that was compared with version 1 is refused once version 2 is in production."""
    client.set_registered_model_alias("breast-cancer", "production", "1")
    client.set_model_version_tag("breast-cancer", "2", "compared_with", "none")
    said = two.refused("-m", "scripts.deploy", "--environment", "production", "--version", "2")
    client.set_registered_model_alias("breast-cancer", "production", "2")
    client.set_model_version_tag("breast-cancer", "2", "compared_with", "1")
    assert "was compared with version none, but version 1 is in production" in said


def test_promotion_after_someone_moved_the_alias_restores_what_the_alias_says(two, client):
    """When the alias was moved to another version meanwhile, promote is refused and production serves that version."""
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
    # The copy carries version 1's bundle, so production says 1.
    assert status["version"] == "1" and status["alias"] == version.version


def test_version_without_verdict_is_not_deployed(two, client):
    """A version that somebody registered by hand has no accepted verdict and is refused."""
    version = by_hand(client).version
    said = two.refused("-m", "scripts.deploy", "--environment", "staging", "--version", version)
    client.delete_model_version("breast-cancer", version)
    assert "no accepted verdict" in said


def test_status_shows_disagreement(two, client):
    """When the alias is moved by hand, status says that alias and reality do not agree."""
    client.set_registered_model_alias("breast-cancer", "production", "1")
    assert not two.status()["production"]["agree"]
    shown = two.ok("-m", "scripts.status")
    client.set_registered_model_alias("breast-cancer", "production", "2")
    row = next(line for line in shown.splitlines() if line.startswith("production"))
    assert row.split()[-2:] == ["1", "no"]


def test_staging_is_rolled_back_by_number(two):
    """Staging has no alias previous: a version must be named, and then it serves."""
    assert "name one with VERSION=n" in two.refused("-m", "scripts.rollback", "--environment", "staging")
    two.ok("-m", "scripts.rollback", "--environment", "staging", "--version", "1")
    assert two.status()["staging"]["version"] == "1" and two.status()["staging"]["agree"]


def test_smoke_and_integration_run_against_an_environment(two):
    """Both verbs find the environment's address by themselves."""
    assert "median" in two.ok("-m", "scripts.smoke_test", "--environment", "production")
    assert "passed" in two.ok("-m", "scripts.integration_test", "--environment", "production")


def test_doctor_says_what_is_configured(two):
    """Doctor names model, data, MLflow, target and what serves, and finds nothing in the way."""
    findings = {row["what"]: row for row in json.loads(two.ok("-m", "scripts.doctor", "--json"))}
    assert findings["data"]["says"].startswith("569 rows, 30 features")
    assert "MLFLOW_TRACKING_URI is not set" in findings["MLflow"]["says"]
    assert findings["target"]["says"].startswith("process: ")
    assert "serves version 2" in findings["production"]["says"]
    assert not [row for row in findings.values() if row["state"] == "fault"]
    assert "569 rows" in two.ok("-m", "scripts.doctor")


def test_doctor_ends_red_when_something_stands_in_the_way(two):
    """A fault in settings, data or MLflow is a fault of the doctor's report and its exit status."""
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


def test_stop_ends_everything(two):
    """After `make stop` nothing serves, nothing listens, and stopping again says so."""
    url = two.json(".slipway/production.json")["url"]
    said = two.ok("-m", "scripts.stop")
    assert "production" in said and "staging" in said and "MLflow" in said
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=2)
    assert "nothing was running" in two.ok("-m", "scripts.stop")
    assert "serves nothing" in two.refused("-m", "scripts.promote")
    assert "serves nothing" in two.refused("-m", "scripts.integration_test", "--environment", "staging")
    assert "staging serves nothing" in two.refused("-m", "scripts.deploy", "--environment", "production")
