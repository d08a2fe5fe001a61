"""Reconciliation: an alias moved in MLflow is deployed, in a fork with two versions, on this machine and on new ones as in workflows."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest
import requests

from delivery.rehearsal import otherwise
from pipeline.formats.bundle import digest, seal
from tests import preload
from tests.conftest import clean_environment
from tests.scripts.test_notify import webhook
from tests.serving.load import constant_load

NAME = "breast-cancer"
JOB = {"GITHUB_ACTIONS": "true"}


@pytest.fixture
def mlflow(two):
    """Its MLflow, in which production is on version 2 and previous on 1 before the test, whatever is running."""
    client = two.mlflow()
    for alias in list(client.get_registered_model(NAME).aliases):
        if alias.lower() == "production":
            client.delete_registered_model_alias(NAME, alias)
    client.set_registered_model_alias(NAME, "production", "2")
    if not (two.root / ".slipway/production.json").exists() or served(two) != "2":
        two.ok("-m", "scripts.reconcile")
    client.set_registered_model_alias(NAME, "previous", "1")
    return client


def aliases(client) -> dict[str, str]:
    """Alias and version."""
    return dict(client.get_registered_model(NAME).aliases)


def records(client) -> list[dict]:
    """The tags of all deployment records, newest first."""
    experiment = client.get_experiment_by_name(f"{NAME}-deployments")
    return [run.data.tags for run in client.search_runs([experiment.experiment_id])]


def served(fork, environment: str = "production") -> str:
    """The version in an environment's response."""
    return requests.get(f"{fork.json(f'.slipway/{environment}.json')['url']}/model/info", timeout=5).json()["version"]


def another_machine(fork) -> None:
    """Discard what a job leaves behind: only MLflow remains."""
    fork.ok("-m", "scripts.stop")
    for folder in (".slipway", "build"):
        shutil.rmtree(fork.root / folder, ignore_errors=True)
    fork.ok("-m", "scripts.mlflow.start_mlflow")


def changed(fork, *arguments: str) -> tuple[str, str]:
    """Reconcile as a job; returns the output `production` and the printed text."""
    outputs, said = both(fork, *arguments)
    return outputs["production"], said


def both(fork, *arguments: str) -> tuple[dict[str, str], str]:
    """Reconcile as a job; returns its outputs and the printed text."""
    file = fork.root / "output"
    file.unlink(missing_ok=True)
    said = fork.ok("-m", "scripts.reconcile", *arguments, GITHUB_OUTPUT=str(file), **JOB)
    return dict(re.findall(r"^(\w+)<<.*\n(\w+)$", file.read_text(encoding="utf-8"), re.M)), said


def by_hand(client) -> str:
    """Register a version from version 1's run, without the pipeline; returns its number."""
    first = client.get_model_version(NAME, "1")
    return client.create_model_version(NAME, f"runs:/{first.run_id}/model", run_id=first.run_id).version


def test_nothing_to_do_when_alias_and_service_agree(two, mlflow):
    """Nothing is deployed, here and on a machine where nothing runs but the record agrees."""
    before = records(mlflow)
    outputs, said = both(two)
    assert outputs == {"production": "false", "staging": "false"}
    assert "nothing to do: production serves version 2, as MLflow's alias says" in said
    another_machine(two)
    client = two.mlflow()
    assert changed(two)[0] == "false" and changed(two, "--compare")[0] == "false"
    assert records(client) == before


def test_promoted_version_is_deployed(two, mlflow):
    """Moving the alias deploys: staging and its tests first, then production; aliases and records agree. A second run does nothing."""
    mlflow.set_registered_model_alias(NAME, "production", "1")
    assert changed(two, "--compare")[0] == "true" and served(two) == "2"
    value, said = changed(two)
    assert value == "true" and "passed" in said
    assert served(two) == served(two, "staging") == "1"
    assert {key: aliases(mlflow)[key] for key in ("production", "previous", "staging")} == {
        "production": "1", "previous": "2", "staging": "1"}  # fmt: skip
    newest = records(mlflow)[0]
    wanted = {"environment": "production", "version": "1", "before": "2", "action": "reconcile", "result": "deployed"}
    assert {key: newest[key] for key in wanted} == wanted
    assert records(mlflow)[1]["environment"] == "staging"
    assert changed(two)[0] == "false"


def test_moving_back_counts_as_a_rollback(two, mlflow):
    """The newer version is tagged, so that the next push does not deploy it again; moving forward removes the tag."""
    mlflow.set_registered_model_alias(NAME, "production", "1")
    two.ok("-m", "scripts.reconcile")
    assert "rolled_back" in mlflow.get_model_version(NAME, "2").tags
    mlflow.set_registered_model_alias(NAME, "production", "2")
    two.ok("-m", "scripts.reconcile")
    assert not {"rolled_back"} & {*mlflow.get_model_version(NAME, "1").tags, *mlflow.get_model_version(NAME, "2").tags}


def test_stopped_service_is_restarted_locally(two, mlflow):
    """Outside a workflow only a responding service counts as serving."""
    another_machine(two)
    assert "production serves version 2" in two.ok("-m", "scripts.reconcile")
    assert served(two) == "2" and aliases(two.mlflow())["previous"] == "1"


def test_promotion_while_nothing_runs_follows_the_record(two, mlflow):
    """If nothing serves, the newest record says which version is replaced."""
    another_machine(two)
    client = two.mlflow()
    client.set_registered_model_alias(NAME, "production", "1")
    two.ok("-m", "scripts.reconcile")
    assert served(two) == "1" and aliases(client)["previous"] == "2"


def test_version_without_verdict_is_not_deployed(two, mlflow):
    """It never passed the gate: it is refused, the alias goes back to the current release, and the record says why."""
    number = by_hand(mlflow)
    mlflow.set_registered_model_alias(NAME, "production", number)
    said = two.refused("-m", "scripts.reconcile")
    assert f"version {number} has no accepted verdict" in said and "alias production is on version 2 again" in said
    assert (aliases(mlflow)["production"], aliases(mlflow)["previous"], served(two)) == ("2", "1", "2")
    newest = records(mlflow)[0]
    assert (newest["action"], newest["result"], newest["version"]) == ("reconcile", "failed", number)
    assert "no accepted verdict" in newest["detail"]
    mlflow.delete_model_version(NAME, number)


def test_unpromoted_delivery_is_not_undone(two, mlflow):
    """Between its deployment and its promotion production differs from the alias: that is left to the delivery."""
    mlflow.delete_model_version_tag(NAME, "1", "promoted")
    mlflow.set_model_version_tag(NAME, "1", "compared_with", "2")
    two.ok("-m", "scripts.deploy", "--environment", "production", "--version", "1")
    assert "nothing to do yet: a delivery has just put version 1 into production" in changed(two)[1]
    assert served(two) == "1" and aliases(mlflow)["production"] == "2"
    two.ok("-m", "scripts.promote")
    assert changed(two)[0] == "false" and aliases(mlflow)["production"] == "1"


@pytest.fixture
def unaccepted(mlflow):
    """Version 1 as if the gate had refused it and nobody had deployed it."""
    was = dict(mlflow.get_model_version(NAME, "1").tags)
    mlflow.set_model_version_tag(NAME, "1", "verdict", "refuse")
    mlflow.delete_model_version_tag(NAME, "1", "promoted")
    yield "1"
    mlflow.delete_model_version_tag(NAME, "1", "forced")
    for tag in ("verdict", "promoted"):
        mlflow.set_model_version_tag(NAME, "1", tag, was[tag])


def test_forced_version_needs_a_reason(two, mlflow, unaccepted):
    """The tag `forced` without a value is refused; with a reason the version is deployed, and the record keeps the reason."""
    mlflow.set_registered_model_alias(NAME, "production", unaccepted)
    mlflow.set_model_version_tag(NAME, unaccepted, "forced", " ")
    assert "its tag forced gives no reason" in two.refused("-m", "scripts.reconcile")
    assert aliases(mlflow)["production"] == "2" == served(two)
    mlflow.set_model_version_tag(NAME, unaccepted, "forced", "the gate's data is known to be wrong")
    mlflow.set_registered_model_alias(NAME, "production", unaccepted)
    two.ok("-m", "scripts.reconcile")
    assert served(two) == unaccepted
    newest = records(mlflow)[0]
    assert (newest["result"], newest["detail"]) == ("deployed", "forced: the gate's data is known to be wrong")
    mlflow.set_registered_model_alias(NAME, "production", "2")
    two.ok("-m", "scripts.reconcile")
    two.ok("-m", "scripts.rollback", "--version", unaccepted)  # it was deployed before, so it may come back


def test_staging_alias_deploys_to_staging_only(two, mlflow):
    """Moving the alias staging deploys and tests there; production is not changed."""
    before = "1" if served(two, "staging") == "2" else "2"
    mlflow.set_registered_model_alias(NAME, "staging", before)
    outputs, said = both(two)
    assert outputs == {"production": "false", "staging": "true"} and "passed" in said
    assert (served(two, "staging"), served(two), aliases(mlflow)["staging"]) == (before, "2", before)
    assert records(mlflow)[0]["environment"] == "staging"


def test_refused_staging_version_loses_the_alias(two, mlflow):
    """It goes back to staging's current release."""
    number, serves = by_hand(mlflow), served(two, "staging")
    mlflow.set_registered_model_alias(NAME, "staging", number)
    said = two.refused("-m", "scripts.reconcile", "--environment", "staging")
    assert f"version {number} has no accepted verdict" in said and f"alias staging is on version {serves} again" in said
    assert aliases(mlflow)["staging"] == served(two, "staging") == serves
    assert (records(mlflow)[0]["environment"], records(mlflow)[0]["result"]) == ("staging", "failed")
    mlflow.delete_model_version(NAME, number)


def test_aliases_of_both_environments_are_followed(two, mlflow):
    """With production on one version and staging on another, each ends with its own, although production's went through staging."""
    two.ok("-m", "scripts.rollback", "--environment", "staging", "--version", "1")
    for alias, version in (("production", "1"), ("staging", "2")):
        mlflow.set_registered_model_alias(NAME, alias, version)
    assert both(two)[0] == {"production": "true", "staging": "true"}
    assert (served(two), served(two, "staging")) == ("1", "2")
    assert (aliases(mlflow)["production"], aliases(mlflow)["staging"]) == ("1", "2")


def broken_version(client, folder) -> str:
    """A version that the gate accepted, with golden predictions that are not its model's; returns its number."""
    first = client.get_model_version(NAME, "1")
    bundle = Path(client.download_artifacts(first.run_id, "bundle-1", str(folder)))
    golden, release = (json.loads((bundle / file).read_text()) for file in ("golden.json", "release.json"))
    golden["expected"] = [otherwise(answer) for answer in golden["expected"]]
    (bundle / "golden.json").write_text(json.dumps(golden))
    tags = {key: value for key, value in first.tags.items() if key != "promoted"} | {"digest": digest(bundle)}
    version = client.create_model_version(NAME, f"runs:/{first.run_id}/model", first.run_id, tags=tags).version
    (bundle / "release.json").write_text(json.dumps(release | {"version": version, "digest": tags["digest"]}))
    seal(bundle)
    client.log_artifacts(first.run_id, str(bundle), f"broken-{version}")
    client.set_model_version_tag(NAME, version, "bundle", f"runs:/{first.run_id}/broken-{version}")
    return version


def test_broken_version_never_reaches_production(two, mlflow, tmp_path):
    """Production answers every request with its own version all the time; alias, record and a message describe the failure."""
    number = broken_version(mlflow, tmp_path)
    mlflow.set_registered_model_alias(NAME, "production", number)
    url = two.json(".slipway/production.json")["url"]
    example = [column["example"] for column in requests.get(f"{url}/model/info", timeout=5).json()["inputs"]]
    with webhook() as hook, constant_load(url, example) as load:
        said = two.refused("-m", "scripts.reconcile", SLIPWAY_WEBHOOK=hook.url)
    texts = [one["text"] for one in hook.got]
    assert set(load.answers) == {"2"} and not load.failures and load.requests > 100
    assert "± 1e-05" in said and (aliases(mlflow)["production"], aliases(mlflow)["previous"]) == ("2", "1")
    record = records(mlflow)[0]
    assert (record["version"], record["result"]) == (number, "failed") and "± 1e-05" in record["detail"]
    assert len(texts) == 1 and f"version {number}, given the alias production in MLflow, was not deployed" in texts[0]
    assert "± 1e-05" in texts[0] and "What served before serves on" in texts[0]
    mlflow.delete_model_version(NAME, number)


def test_successful_promotion_is_announced(two, mlflow):
    """With one message."""
    mlflow.set_registered_model_alias(NAME, "production", "1")
    with webhook() as hook:
        two.ok("-m", "scripts.reconcile", SLIPWAY_WEBHOOK=hook.url)
    assert hook.got == [{"text": f"{NAME}: version 1, given the alias production in MLflow, is deployed"}]


def test_mlflow_killed_after_the_alias_moved_loses_nothing(two, mlflow):
    """The next reconcile starts the server, finds the promotion and deploys it."""
    mlflow.set_registered_model_alias(NAME, "production", "1")
    server = psutil.Process(two.json(".mlflow/server.json")["pid"])
    for process in (*server.children(recursive=True), server):
        process.kill()
    server.wait(10)
    two.ok("-m", "scripts.reconcile")
    assert served(two) == "1" == aliases(two.mlflow())["production"]


def test_failure_in_staging_stops_the_promotion(two, mlflow):
    """After a red integration test production is unchanged, the alias is back, and the reason is recorded."""
    mlflow.set_registered_model_alias(NAME, "production", "1")
    two.write("tests/integration/test_red.py", "def test_red():\n    assert False\n")
    said = two.refused("-m", "scripts.reconcile")
    (two.root / "tests/integration/test_red.py").unlink()
    assert "version 1 failed the integration test in staging" in said
    assert (aliases(mlflow)["production"], aliases(mlflow)["previous"], served(two)) == ("2", "1", "2")
    assert "failed the integration test" in records(mlflow)[0]["detail"]


def test_failure_in_production_is_undone(two, mlflow):
    """When the service dies in production alone, the previous release serves, both aliases are back, and one record says why."""
    mlflow.set_registered_model_alias(NAME, "production", "1")
    line = "    args = parser.parse_args(argv)\n"
    dying = f"{line}    if '/production/version-1-' in ' '.join(map(str, vars(args).values())):\n        raise SystemExit('no disk')\n"
    two.edit("serving/__main__.py", line, dying)
    said = two.refused("-m", "scripts.reconcile")
    two.edit("serving/__main__.py", dying, line)
    assert "no disk" in said
    assert (aliases(mlflow)["production"], aliases(mlflow)["previous"], served(two)) == ("2", "1", "2")
    assert [row["result"] for row in records(mlflow)[:2]] == ["failed", "deployed"]


def test_concurrent_runs_deploy_once(two, mlflow):
    """Of two that start together one deploys, the other waits and finds nothing to do; both succeed."""
    mlflow.set_registered_model_alias(NAME, "production", "1")
    before = len(records(mlflow))
    both = [
        subprocess.Popen([preload.python(), "-m", "scripts.reconcile"], cwd=two.root, env=clean_environment(),
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(records(mlflow)) == before + 2 and sum("nothing to do: production" in words for words in said) == 1


def test_alias_moved_during_a_deployment_is_reported(two, mlflow):
    """It stays where it was moved, and the message leaves it to the next run."""
    mlflow.set_registered_model_alias(NAME, "production", "1")
    uri = two.json(".mlflow/server.json")["uri"]
    move = f"from mlflow import MlflowClient\n\ndef test_move():\n    MlflowClient({uri!r}, {uri!r}).set_registered_model_alias({NAME!r}, 'production', '2')\n"
    two.write("tests/integration/test_move.py", move)
    said = two.refused("-m", "scripts.reconcile")
    (two.root / "tests/integration/test_move.py").unlink()
    assert "alias production was moved to version 2 meanwhile" in said and aliases(mlflow)["production"] == "2"
    assert two.ok("-m", "scripts.reconcile") and served(two) == "2"


@pytest.mark.parametrize("alias", ["Production", "PRODUCTION"])
def test_alias_in_other_case_is_reported(two, mlflow, alias):
    """`Production` is not `production`: alone it is an error with advice, beside the right one a note."""
    mlflow.set_registered_model_alias(NAME, alias, "1")
    assert f"note: {NAME} has the alias {alias} on version 1" in changed(two)[1]
    mlflow.delete_registered_model_alias(NAME, "production")
    said = two.refused("-m", "scripts.reconcile")
    assert f"has the alias {alias} on version 1" in said and "set the alias production on it" in said
    assert served(two) == "2"


def test_legacy_stage_is_reported(two, mlflow):
    """MLflow's old stage Production has no effect, and a message says so."""
    mlflow.transition_model_version_stage(NAME, "1", "Production")
    assert "version 1 is in the legacy stage Production" in changed(two)[1]
    mlflow.delete_registered_model_alias(NAME, "production")
    said = two.refused("-m", "scripts.reconcile")
    mlflow.transition_model_version_stage(NAME, "1", "None")
    assert "set the alias production on version 1" in said and served(two) == "2"


def test_removed_alias_is_reported(two, mlflow):
    """Without the alias production there is no wish: the message names the last deployment and the versions, and nothing is changed."""
    mlflow.delete_registered_model_alias(NAME, "production")
    said = two.refused("-m", "scripts.reconcile")
    assert "version 2 was deployed last" in said and "versions in MLflow: 2, 1" in said and served(two) == "2"


def test_deleted_version_is_reported(two, mlflow):
    """Deleting the version in production deletes its alias, too: a message says so, and nothing is changed."""
    third = mlflow.copy_model_version(f"models:/{NAME}/2", NAME).version
    experiment = mlflow.get_experiment_by_name(f"{NAME}-deployments").experiment_id
    newest = mlflow.search_runs([experiment], "tags.environment = 'production' and tags.result = 'deployed'")[0]
    was = newest.data.tags["version"]
    mlflow.set_tag(newest.info.run_id, "version", third)
    mlflow.delete_registered_model_alias(NAME, "production")
    mlflow.delete_model_version(NAME, third)
    said = two.refused("-m", "scripts.reconcile", **JOB)
    mlflow.set_tag(newest.info.run_id, "version", was)
    assert f"version {third} was deployed last" in said and "make rollback VERSION=n" in said


def test_before_the_first_promotion_there_is_nothing_to_do(two, mlflow):
    """An unknown model, or one that was never in production, gives one sentence and success."""
    two.edit("pipeline.toml", f'name = "{NAME}" ', 'name = "other" ')
    value, said = changed(two)
    two.edit("pipeline.toml", 'name = "other" ', f'name = "{NAME}" ')
    assert value == "false" and "no version of other has the alias production" in said


def test_team_s_production_must_be_requested(two, mlflow):
    """With a team's own MLflow a workflow changes production only if the repository requests it: otherwise MLflow gets no request."""
    file = two.root / "output"
    file.unlink(missing_ok=True)
    team = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "GITHUB_OUTPUT": str(file)}
    said = two.ok("-m", "scripts.reconcile", "--environment", "production", **team, **JOB)
    assert "SLIPWAY_DEPLOY_PRODUCTION to true" in said
    assert file.read_text(encoding="utf-8").splitlines()[1] == "false"
    assert "cannot be reached" in two.refused(
        "-m", "scripts.reconcile", **team, **JOB, SLIPWAY_DEPLOY_PRODUCTION="true"
    )


def test_rollback_on_another_machine(two, mlflow):
    """Version 2 was deployed by an earlier job: rollback restores version 1, aliases and tag as on that machine."""
    another_machine(two)
    two.ok("-m", "scripts.rollback", **JOB)
    client = two.mlflow()
    assert served(two) == "1"
    assert (aliases(client)["production"], aliases(client)["previous"]) == ("1", "2")
    assert "rolled_back" in client.get_model_version(NAME, "2").tags
    assert "nothing to do" in changed(two)[1]


def test_rollback_of_an_unpromoted_version_on_another_machine(two, mlflow):
    """If the last job deployed version 1 and ended before its promotion, rollback restores the alias's version 2."""
    two.ok("-m", "scripts.rollback", "--version", "1")
    client = two.mlflow()
    client.set_registered_model_alias(NAME, "production", "2")
    client.set_registered_model_alias(NAME, "previous", "1")
    another_machine(two)
    two.ok("-m", "scripts.rollback", **JOB)
    client = two.mlflow()
    assert served(two) == "2" and aliases(client)["production"] == "2"
    assert "rolled_back" in client.get_model_version(NAME, "1").tags


def test_job_deploys_promotes_and_rehearses_on_its_own_machine(two, mlflow):
    """A deploy job's steps work on a new machine: staging and its rehearsal, production and its promotion."""
    another_machine(two)
    two.ok("-m", "scripts.deploy", "--environment", "staging", "--version", "2", **JOB)
    assert "undone: a broken release does no harm" in two.ok("-m", "scripts.rehearse", **JOB)
    another_machine(two)
    two.ok("-m", "scripts.deploy", "--environment", "production", "--version", "2", **JOB)
    two.ok("-m", "scripts.promote", **JOB)
    client = two.mlflow()
    assert (aliases(client)["production"], aliases(client)["previous"], served(two)) == ("2", "1", "2")
