"""Start a retraining if what the monitor found asks for one and nothing stands against it.

    make retrain-if-needed      # after the monitor, which writes build/monitor.json

[retrain] in pipeline.toml says for which incidents, how often and with how many new outcomes. In a workflow this starts retrain.yml with its
reason (GITHUB_TOKEN with `actions: write`); elsewhere it prints the command. Every reason against it is printed. Where retraining has been
tried often enough, an issue with the label needs-human says so.
"""

import argparse
import shlex
import sys
import time
from dataclasses import replace

from pipeline import artifacts
from pipeline.ci import chat, dispatch, github, issues, lineage, outputs
from pipeline.ci.github import Repository
from pipeline.errors import GithubError, edge
from pipeline.evaluation.github_markdown import prose
from pipeline.monitor import findings
from pipeline.monitor.actions import alert_memory, alerts, retraining, retraining_world
from pipeline.monitor.actions.retraining import Decision, World
from pipeline.monitor.findings import Findings
from pipeline.registry import versions
from pipeline.registry.training_run.run_reason import RETRAIN
from pipeline.settings import Settings, load_settings

WORKFLOW = "retrain.yml"


@edge
def main(argv: list[str] | None = None) -> None:
    """Decide, say why, and act."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    file = artifacts.BUILD / findings.NAME
    if not file.exists():
        print(f"nothing to decide: there is no build/{file.name}, which `{artifacts.MADE_BY[file.name]}` writes")
        return
    settings, found = load_settings(), findings.read(file)
    if not alerts.judged(found):
        print("nothing to decide: no version was judged")
        return
    if found.environment != "production":
        print(f"nothing to decide: what is found in {found.environment} starts no retraining")
        return
    client, repository = versions.connect(settings), github.of_environment()
    decision = decide(client, settings, found, repository)
    say(decision)
    if decision.start:
        start(client, settings, found, decision, repository)
    tell_exhausted(client, found, decision, repository)


def decide(client, settings: Settings, found: Findings, repository: Repository | None) -> Decision:
    """Decide with what is known at once; what takes long is looked at only where nothing else stands against a retraining."""
    rules, delay, now = settings.retrain, settings.monitor.label_delay_days, retraining_world.in_log_time(time.time())
    if retraining.cause(found, rules) is None:
        return retraining.decide(found, rules, delay, World(now))
    name = settings.name
    world = World(now, retraining_world.attempts(client, name), retraining_world.trained_day(client, name))
    decision = retraining.decide(found, rules, delay, world)
    if not decision.start:
        return decision
    world = replace(
        world,
        under_way=retraining_world.under_way(client, name, repository),
        unapproved=retraining_world.unapproved(repository) if repository and rules.approve else "",
        same_data=retraining_world.same_data(client, settings),
    )
    return retraining.decide(found, rules, delay, world)


def say(decision: Decision) -> None:
    """Print the decision and put it into the summary of the job."""
    lines = [f"no retraining: {one}" for one in decision.refusals] or [f"a retraining is needed: {decision.reason}"]
    print("\n".join(lines))
    outputs.summary("### Retraining\n\n" + "\n".join(f"- {prose(line)}" for line in lines))


def start(client, settings: Settings, found: Findings, decision: Decision, repository: Repository | None) -> None:
    """Start the workflow, once; on a machine without one, print what starts it."""
    reason = decision.reason
    if repository is None:
        print(f"  SLIPWAY_REASON={shlex.quote(RETRAIN + reason)} make ship")
        return
    incident = retraining.cause(found, settings.retrain)
    assert incident is not None
    named = f"{found.environment} {incident.kind} {incident.check} {incident.alarm_day}"
    asked = retraining_world.ask(client, settings.name, reason, named)
    try:
        dispatch.start(WORKFLOW, reason=reason, approve=str(settings.retrain.approve).lower())
    except GithubError as error:
        retraining_world.not_asked(client, asked)
        raise GithubError(f"{WORKFLOW} was not started: {error.what}", error.then, error.status) from error
    waits = ", which waits for a reviewer" if settings.retrain.approve else ""
    print(f"started {WORKFLOW}{waits}: {dispatch.page(WORKFLOW)}")
    in_issue(
        found,
        incident.kind,
        repository,
        f"A retraining was started{waits}: {prose(reason)} ({dispatch.page(WORKFLOW)})",
    )
    if chat.webhook_url():
        head = f"{settings.name}, {found.environment}: a retraining was started{waits}"
        chat.tell(alerts.unmentioned(f"{head}\n{reason}\n{dispatch.page(WORKFLOW)}"))


def in_issue(found: Findings, kind: str, repository: Repository, text: str) -> None:
    """Say in the issue of the incident what was done about it; it has been done, whether that can be said or not."""
    try:
        issues.add(repository, issues.ours(repository), alerts.of_kind(kind, found, None, ""), text)
    except GithubError as error:
        print(f"the issue does not say so: {error.what}", file=sys.stderr)


def tell_exhausted(client, found: Findings, decision: Decision, repository: Repository | None) -> None:
    """Keep the issue that a person must look, and tell a chat once."""
    matter = alerts.exhausted(found, decision.exhausted, github.page("blob/HEAD"), lineage.link())
    kept = None
    if repository is not None:
        try:
            kept = issues.keep(repository, issues.ours(repository), matter)
        except GithubError as error:
            if error.status != issues.OFF:
                raise
    kept = kept or alert_memory.compare(client, matter)
    news = kept.change in (issues.OPENED, issues.REOPENED) and chat.webhook_url()
    lines = [line for line in (matter.title, decision.exhausted, kept.address) if line]
    said = not news or chat.tell(alerts.unmentioned("\n".join(lines)))
    if said and not kept.address and kept.change != issues.NOTHING:
        alert_memory.remember(client, matter)


if __name__ == "__main__":
    sys.exit(main())
