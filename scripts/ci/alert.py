"""Tell people what the monitor found: one issue for each kind of incident, one message to a chat for each incident.

    make alert                  # after the monitor, which writes build/monitor.json

In a workflow the issues of its repository are kept (GITHUB_TOKEN with `issues: write`), and the summary of the job gets the report.
Where there are no issues, this prints what they would say, and MLflow's experiment NAME-monitoring remembers what a chat was told.
SLIPWAY_WEBHOOK hears of what is new, has come back, or is over, once. Run twice, it says nothing twice.
"""

import argparse
import sys

from pipeline import artifacts
from pipeline.ci import chat, github, issues, lineage, outputs
from pipeline.ci.issues import Kept, Matter
from pipeline.errors import GithubError, edge
from pipeline.monitor import findings
from pipeline.monitor.actions import alert_memory, alerts
from pipeline.monitor.findings import Findings
from pipeline.monitor.pages import report
from pipeline.registry import versions
from pipeline.settings import load_settings

MOST = 1_000_000  # bytes of a summary: GitHub takes 1 MiB of a step


@edge
def main(argv: list[str] | None = None) -> None:
    """Keep issues and chat up to date with build/monitor.json; exit status 1 when somebody could not be told."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    file = artifacts.BUILD / findings.NAME
    if not file.exists():
        print(f"nobody is told anything: there is no build/{file.name}, which `{artifacts.MADE_BY[file.name]}` writes")
        return
    found = findings.read(file)
    summarise(found)
    if not alerts.judged(found):
        print("nobody is told anything: no version was judged")
        return
    wanted = alerts.matters(found, github.page("blob/HEAD"), lineage.link())
    kept = in_issues(wanted)
    if kept is None:
        in_experiment(wanted, found)
        return
    told, failed = kept
    for matter, one in told:
        say(matter, one)
        if one.change in issues.NEWS and chat.webhook_url():
            chat.tell(alerts.message(one, matter.mark[-1], found))
    if failed:
        raise failed


def summarise(found: Findings) -> None:
    """Put the report into the summary of the job, also where nothing could be judged: it says what is missing."""
    text = report.markdown(found)
    fits = len(text.encode()) <= MOST
    outputs.summary(text if fits else "The monitor's report is too long to be shown: the artifact has all.")


def in_issues(wanted: list[Matter]) -> tuple[list[tuple[Matter, Kept]], GithubError | None] | None:
    """Keep an issue for each matter; what was done, and the first failure. None where there are no issues to keep."""
    repository = github.of_environment()
    if repository is None:
        print("no issues are kept: GITHUB_REPOSITORY and GITHUB_TOKEN, which a workflow has, are not both set")
        return None
    try:
        there = issues.ours(repository)
    except GithubError as error:
        if error.status != issues.OFF:
            raise
        print(f"no issues are kept: {repository.path} has none (Settings → General → Features → Issues)")
        return None
    done, failed = [], None
    for matter in wanted:
        try:
            done.append((matter, issues.keep(repository, there, matter)))
        except GithubError as error:  # the other kinds are told all the same
            print(f"the issue about {matter.name} could not be kept: {error.what}", file=sys.stderr)
            failed = failed or error
    return done, failed


def in_experiment(wanted: list[Matter], found: Findings) -> None:
    """Print what issues would say, and tell a chat what it does not know yet, by the memory in MLflow."""
    client = versions.connect(load_settings())
    for matter in wanted:
        kept = alert_memory.compare(client, matter)
        say(matter, kept)
        if kept.change == issues.NOTHING:
            continue
        news = kept.change in issues.NEWS and chat.webhook_url()
        if not news or chat.tell(alerts.message(kept, matter.mark[-1], found)):  # else the next run tells it
            alert_memory.remember(client, matter)


def say(matter: Matter, kept: Kept) -> None:
    """One line about a matter that is or was something."""
    words = {
        issues.OPENED: "new",
        issues.REOPENED: "has come back",
        issues.GROWN: "there is more of it",
        issues.OVER: "over",
        issues.KNOWN: "known",
        issues.LEFT: "known, and a person closed its issue",
    }
    if kept.change in words:
        line = matter.title if matter.parts else " ".join(matter.mark)
        print(f"{words[kept.change]}: {line}" + (f" ({kept.address})" if kept.address else ""))


if __name__ == "__main__":
    sys.exit(main())
