"""Keep GitHub from switching off the workflows with a schedule.

    make keep-alive     # GITHUB_TOKEN with `actions: write`

GitHub disables a workflow with a schedule when a public repository had no commit for 60 days: the whole file, whatever else starts it. Enabling
it anew begins the 60 days again. A workflow that a person has disabled stays so. Elsewhere than in a workflow this does nothing.
"""

import argparse
import sys

import yaml

from pipeline.artifacts import ROOT
from pipeline.ci import github
from pipeline.errors import GithubError, edge

OURS = ("active", "disabled_inactivity")  # states that no person has chosen


@edge
def main(argv: list[str] | None = None) -> None:
    """Enable each workflow with a schedule; exit status 1 when GitHub refuses."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    repository = github.of_environment()
    if repository is None:
        print("nothing to keep alive: GITHUB_REPOSITORY and GITHUB_TOKEN, which a workflow has, are not both set")
        return
    for name in scheduled():
        try:
            state = repository.content(repository.ask("GET", f"/actions/workflows/{name}")).get("state", "")
        except GithubError as error:
            if error.status != 404:
                raise
            print(f"{name}: GitHub does not know it yet")
            continue
        if state in OURS:
            repository.ask("PUT", f"/actions/workflows/{name}/enable")
        print(f"{name}: {'enabled' if state in OURS else f'left as it is, {state}'}")


def scheduled() -> list[str]:
    """The workflows of this repository that have a schedule."""
    files = sorted((ROOT / ".github/workflows").glob("*.y*ml"))
    return [file.name for file in files if "schedule" in (_triggers(file.read_text(encoding="utf-8")) or ())]


def _triggers(text: str):
    """What starts a workflow; YAML reads `on` as true."""
    content = yaml.safe_load(text)
    return content.get("on", content.get(True)) if isinstance(content, dict) else None


if __name__ == "__main__":
    sys.exit(main())
