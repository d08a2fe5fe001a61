"""What a decision about a retraining must know besides the findings: from MLflow, from GitHub, and from the data."""

import time

from pipeline.ci.github import Repository
from pipeline.comparison import fresh_data
from pipeline.errors import GithubError, SettingsError, SlipwayError
from pipeline.monitor.actions import retraining
from pipeline.monitor.actions.alert_memory import experiment_name
from pipeline.monitor.actions.retraining import Attempt, World
from pipeline.monitor.findings import Findings
from pipeline.registry import experiments, once, versions
from pipeline.registry.deployment_record import BEGUN, last_unsettled
from pipeline.registry.deployments import FORGOTTEN_SECONDS
from pipeline.registry.training_run.run_reason import RETRAIN
from pipeline.settings import Settings
from serving.log.clock import as_logged

ENVIRONMENT = "retraining"  # whose reviewers approve
DELIVERIES = ("deliver.yml", "experiment.yml", "retrain.yml", "rollback.yml", "weekly.yml")
REMEMBERED = 200  # runs; more than anything asks for
ASKED = "retraining"  # tag of a run: why a retraining was asked for


def in_log_time(seconds: float) -> float:
    """A time as the prediction log counts it: that of its days, and so of incidents. Raises SettingsError."""
    try:
        return as_logged(seconds)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def attempts(client, name: str) -> list[Attempt]:
    """The newest retrainings, by whomever they were started, in the log's time; one that was asked for and then trained counts once."""
    asked = _runs(client, experiment_name(name), f"tags.{ASKED} != ''", ASKED)
    trained = _runs(client, name, f"tags.reason LIKE '{RETRAIN.strip()}%'", "reason")
    waiting = sorted(asked, key=lambda one: one.when)
    alone = []
    for training in sorted(trained, key=lambda one: one.when):
        for one in waiting:
            if one.reason == training.reason and one.when <= training.when:
                waiting.remove(one)
                break
        else:
            alone.append(training)
    return sorted([*asked, *alone], key=lambda one: one.when)


def given_up(client, settings: Settings, found: Findings) -> bool:
    """Whether the allowed number of retrainings is used up, for an incident that is still open."""
    incident = retraining.cause(found, settings.retrain)
    if incident is None:
        return False
    world = World(in_log_time(time.time()), attempts(client, settings.name))
    return bool(retraining.exhausted(found, incident, settings.retrain, world))


def _runs(client, experiment: str, condition: str, tag: str) -> list[Attempt]:
    found = versions.find_experiment(client, experiment)
    if found is None:
        return []
    runs = client.search_runs(
        [found.experiment_id],
        f"attributes.status != 'FAILED' and {condition}",
        order_by=["attributes.start_time DESC"],
        max_results=REMEMBERED,
    )
    return [Attempt(in_log_time(run.info.start_time / 1000), run.data.tags[tag].removeprefix(RETRAIN)) for run in runs]


def ask(client, name: str, reason: str, incident: str) -> str:
    """Record that a retraining is asked for, before it is: what fails afterwards is not tried again every day. The run's id."""
    experiment = versions.experiment(client, experiment_name(name))
    tags = {ASKED: reason, "incident": incident}
    run_id = once.run(client, experiment, f"retraining: {reason}", tags).info.run_id
    client.update_run(run_id, "FINISHED")
    return run_id


def not_asked(client, run_id: str) -> None:
    """Take back what `ask` recorded: nothing was started."""
    client.update_run(run_id, "FAILED")


def trained_day(client, name: str) -> str:
    """The day on which the production version was registered, "" when there is none."""
    production = versions.by_alias(client, name, "production")
    return time.strftime("%Y-%m-%d", time.gmtime(in_log_time(production.created))) if production else ""


def under_way(client, name: str, repository: Repository | None) -> str:
    """An experiment, a deployment in progress by MLflow's records, or a delivery in progress on GitHub; "" for none."""
    if experiment := experiments.running(client, name):
        return f"{experiment.in_words()}; a new version could not go to production beside it"
    for environment in ("production", "staging"):
        last = last_unsettled(client, name, environment)
        if last and last.result == BEGUN and time.time() - last.began < FORGOTTEN_SECONDS:
            return f"a release is under way: version {last.version} to {environment} ({last.action})"
    for workflow in DELIVERIES if repository else ():
        for run in _newest(repository, workflow):
            if run.get("status") != "completed":
                return f"a delivery is under way: {workflow} is {run.get('status')} ({run.get('html_url', '')})"
    return ""


def _newest(repository, workflow: str) -> list[dict]:
    try:
        return repository.content(repository.ask("GET", f"/actions/workflows/{workflow}/runs?per_page=20"))[
            "workflow_runs"
        ]
    except GithubError as error:
        if error.status == 404:  # not on the default branch
            return []
        raise
    except (KeyError, TypeError):
        raise GithubError(f"what answers at {repository.api} is not GitHub") from None


def unapproved(repository: Repository) -> str:
    """Why nobody would be asked to approve a retraining, "" when somebody is."""
    then = (
        f"add required reviewers under Settings → Environments → {ENVIRONMENT}, or set [retrain] approve = false in pipeline.toml; "
        "a person may start retrain.yml at any time"
    )
    try:
        found = repository.content(repository.ask("GET", f"/environments/{ENVIRONMENT}"))
    except GithubError as error:
        if error.status != 404:
            raise
        return f"nobody could approve it: there is no environment {ENVIRONMENT}; {then}"
    rules = found.get("protection_rules") if isinstance(found, dict) else None
    if any(isinstance(one, dict) and one.get("type") == "required_reviewers" for one in rules or []):
        return ""
    return f"nobody could approve it: the environment {ENVIRONMENT} has no reviewers; {then}"


def same_data(client, settings: Settings) -> str:
    """That a retraining would learn nothing; "" when there is something new, or when the data cannot be read here: retrain.yml looks again."""
    try:
        fresh, says = fresh_data.look(client, settings)
    except SlipwayError as error:
        print(f"the data cannot be compared here, the retraining itself will: {error.what}")
        return ""
    return "" if fresh else f"{says}; bring new rows into what load() reads first"
