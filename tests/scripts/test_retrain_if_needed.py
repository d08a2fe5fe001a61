"""`make retrain-if-needed`: retrain.yml is started once, for a reason that MLflow keeps, or the reasons against it are told."""

import time

import pytest

from pipeline.ci import github, issues
from pipeline.data.dataset import load_dataset
from pipeline.monitor.actions import alerts, retraining_world
from pipeline.monitor.findings import DayRow, write
from pipeline.registry import deployments, experiments
from pipeline.registry.deployment_record import Deployment
from pipeline.registry.experiments import RUNNING, ExperimentRecord, Phase
from pipeline.settings import load_settings
from tests.pipeline.ci.github_double import github as server
from tests.pipeline.monitor.found import findings, performance
from tests.scripts.conftest import customers
from tests.scripts.incoming_webhook import webhook

REVIEWED = {"protection_rules": [{"type": "required_reviewers"}]}
STARTED = "/actions/workflows/retrain.yml/dispatches"


def falling(**given):
    """Findings that ask for a retraining."""
    day = time.strftime("%Y-%m-%d", time.gmtime())
    labels = [DayRow(day=day, version="1", rows=1000, labelled=900)]
    return findings(performance(), name="scratch", days=labels, **given)


class Fork:
    """A scratch project with a version in production, on other data than now."""

    def __init__(self, scratch, client):
        self.scratch, self.client = scratch, client
        client.create_registered_model("scratch")
        settings = load_settings()
        tags = {"data_hash": load_dataset(settings).hash}
        client.create_model_version("scratch", source="/nowhere", run_id=None, tags=tags)
        client.set_registered_model_alias("scratch", "production", "1")
        scratch.data(customers(241))

    def run(self, found=None, status=0) -> str:
        """Run the verb on findings; what it said."""
        if found is not None:
            write(self.scratch.root / "build/monitor.json", found)
        ended, out, err = self.scratch.run("ci.retrain_if_needed")
        assert ended == status, out + err
        return out + err

    def trained(self, reason: str, days_ago: float) -> None:
        """A training of that reason."""
        found = self.client.get_experiment_by_name("scratch")
        experiment = found.experiment_id if found else self.client.create_experiment("scratch")
        began = int((time.time() - days_ago * 86400) * 1000)
        self.client.set_terminated(
            self.client.create_run(experiment, start_time=began, tags={"reason": reason}).info.run_id
        )


@pytest.fixture
def fork(scratch, monkeypatch, mlflow_client):
    """The scratch project, outside of GitHub and without a chat."""
    for name in ("GITHUB_REPOSITORY", "GITHUB_TOKEN", "GH_TOKEN", "GITHUB_API_URL", "SLIPWAY_WEBHOOK", "GITHUB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(github, "PAUSE", 0.01)
    return Fork(scratch, mlflow_client)


@pytest.fixture
def hub(monkeypatch, fork):
    """A repository on GitHub with reviewers for retrainings, that the environment names."""
    with server() as made:
        made.environments["retraining"] = REVIEWED
        for pair in made.variables().items():
            monkeypatch.setenv(*pair)
        yield made


def starts(hub) -> list[dict]:
    """The inputs with which retrain.yml was started."""
    return [body["inputs"] for _, rest, body in hub.got if rest == STARTED]


def test_it_is_started_once_with_its_reason(fork, hub, monkeypatch):
    """The second run finds in MLflow that it was asked for; the chat hears of it once."""
    with webhook() as chat:
        monkeypatch.setenv("SLIPWAY_WEBHOOK", chat.url)
        assert "started retrain.yml, which waits for a reviewer" in fork.run(falling())
        assert "no retraining: the last retraining was on " in fork.run()
    reason = "performance: accuracy 0.76 (hold-out 0.85), since 2026-11-20"
    assert starts(hub) == [{"reason": reason, "approve": "true"}] and len(chat.got) == 1
    assert [body["ref"] for _, rest, body in hub.got if rest == STARTED] == ["trunk"]


def test_mlflow_keeps_why_and_for_which_incident(fork, hub):
    """A run of the experiment of monitoring, with the reason as its name and its tags."""
    fork.run(falling())
    experiment = fork.client.get_experiment_by_name("scratch-monitoring").experiment_id
    (run,) = fork.client.search_runs([experiment])
    assert run.info.run_name.startswith("retraining: performance: ")
    assert run.data.tags["incident"] == "production performance wrong 2026-11-22"


def test_the_issue_says_that_a_retraining_was_started(fork, hub):
    """Once, as a comment on the issue of that kind; without issues the retraining starts all the same."""
    matter = alerts.of_kind("performance", falling(), None, "")
    hub.issue(body=matter.text(), title=matter.title, labels=[issues.LABEL])
    fork.run(falling())
    (said,) = hub.comments[1]
    assert "A retraining was started, which waits for a reviewer: performance: " in said["body"]


def test_a_repository_without_issues_retrains_too(fork, hub):
    """It only cannot say so there."""
    hub.off = True
    assert "started retrain.yml" in fork.run(falling()) and len(starts(hub)) == 1


def test_a_start_that_fails_is_tried_again(fork, hub):
    """What GitHub refused was not asked for, and is red."""
    hub.refuse.append(("POST", "/dispatches$", 422, {}))
    assert "retrain.yml was not started: GitHub answers 422" in fork.run(falling(), status=1)
    assert "started retrain.yml" in fork.run()


def test_a_training_that_was_asked_for_counts_once(fork):
    """In MLflow there are then two runs, of the question and of the training."""
    why = "performance: accuracy 0.76, since 2026-11-20"
    retraining_world.ask(fork.client, "scratch", why, "an incident")
    time.sleep(0.01)
    fork.trained(f"retrain: {why}", 0)
    fork.trained("retrain: every Monday", 20)
    fork.trained("push", 1)
    found = retraining_world.attempts(fork.client, "scratch")
    assert [one.reason for one in found] == ["every Monday", why]


def test_the_same_data_start_nothing(fork, hub):
    """The refusal says what is missing; without GitHub's help nothing is trained in vain."""
    fork.scratch.data(customers())
    said = fork.run(falling())
    assert "no retraining: nothing new: the data are those of version 1" in said and starts(hub) == []


def test_data_that_cannot_be_read_here_do_not_stand_against_it(fork, hub):
    """retrain.yml itself looks again: the monitor may have no access to the database."""
    (fork.scratch.root / "data.csv").unlink()
    assert "the data cannot be compared here" in fork.run(falling()) and len(starts(hub)) == 1


def test_without_reviewers_nobody_approves(fork, hub):
    """approve = true needs them; approve = false starts at once."""
    for environments in ({}, {"retraining": {"protection_rules": []}}):
        hub.environments = environments
        assert "no retraining: nobody could approve it" in fork.run(falling())
    with (fork.scratch.root / "pipeline.toml").open("a") as file:
        file.write("[retrain]\napprove = false\n")
    fork.run()
    assert [one["approve"] for one in starts(hub)] == ["false"]


@pytest.mark.parametrize("status", ["queued", "in_progress", "waiting"])
def test_a_delivery_that_goes_on_is_waited_for(fork, hub, status):
    """Also one that waits for a reviewer; one that has ended does not count."""
    hub.runs["deliver.yml"] = [{"status": "completed"}, {"status": status, "html_url": "https://github.com/x"}]
    assert f"a delivery is under way: deliver.yml is {status}" in fork.run(falling())
    hub.runs["deliver.yml"].pop()
    assert "started retrain.yml" in fork.run()


def test_a_release_that_mlflow_knows_is_waited_for(fork, hub):
    """A canary or a rollback, begun and not ended."""
    deployments.append(fork.client, "scratch", Deployment("production", "1", "d" * 64, "rollback", "kubernetes"))
    assert "a release is under way: version 1 to production (rollback)" in fork.run(falling())


def test_an_experiment_is_waited_for(fork, hub):
    """A new version could not go to production beside it; one that has ended does not count."""
    fork.client.create_model_version("scratch", source="/nowhere", run_id=None)
    record = ExperimentRecord("spring", "ab", "1", "", "2", "", state=RUNNING, phases=(Phase(1.0, 0.1),))
    begun = experiments.begin(fork.client, "scratch", record)
    assert "no retraining: experiment spring (running)" in fork.run(falling())
    experiments.end(fork.client, "scratch", begun)
    assert "started retrain.yml" in fork.run()


def test_on_a_laptop_the_command_is_printed(fork):
    """Ready to paste, and nothing is recorded as tried."""
    said = fork.run(falling())
    assert "SLIPWAY_REASON='retrain: performance: accuracy 0.76 (hold-out 0.85), since 2026-11-20' make ship" in said
    assert "make ship" in fork.run()


def test_what_retraining_cannot_mend_needs_a_human(fork, hub):
    """After two in vain one issue with that label is opened, and closed when the incident is over."""
    with (fork.scratch.root / "pipeline.toml").open("a") as file:
        file.write("[retrain]\nmin_days_between = 0\n")
    for days in (1, 2):
        fork.trained("retrain: performance: accuracy 0.76, since 2026-11-20", days)
    since = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 5 * 86400))
    long_ago = {"incidents": [performance(alarm_day=since)]}
    for _ in range(2):
        assert "did not end it, a person must look" in fork.run(falling(**long_ago))
    (issue,) = hub.issues
    assert {one["name"] for one in issue["labels"]} == {"slipway-monitoring", "needs-human"} and starts(hub) == []
    fork.run(findings(name="scratch"))
    assert issue["state"] == "closed"


def test_staging_starts_nothing(fork, hub):
    """What is tested there is no reason to train."""
    assert "what is found in staging starts no retraining" in fork.run(falling(environment="staging"))


def test_a_drill_counts_in_the_days_of_its_log(fork, hub, monkeypatch):
    """Where a second is a day of the log, a training of eight seconds ago is over a week old."""
    fork.trained("retrain: every Monday", 8 / 86400)
    assert "no retraining: the last retraining was on" in fork.run(falling())
    monkeypatch.setenv("SLIPWAY_LOG_CLOCK", f"{time.time() - 60:.3f}:86400")
    assert "the last retraining was on" not in fork.run()


def test_nothing_judged_is_nothing_to_decide(fork, hub):
    """Without the monitor's file, and without a judged version."""
    assert "there is no build/monitor.json" in fork.run()
    assert "no version was judged" in fork.run(findings(versions=[], name="scratch")) and hub.tokens == set()
