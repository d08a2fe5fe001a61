"""A workflow of this repository, started through GitHub's API by a person's or a job's token, or the page where it is started by hand."""

from pipeline.ci import github
from pipeline.errors import GithubError


def page(workflow: str) -> str:
    """Where to start a workflow by hand: an address where it is known."""
    return github.page(f"actions/workflows/{workflow}") or f"the page of {workflow} under Actions"


def start(workflow: str, **inputs: str) -> bool:
    """Start a workflow on the default branch; False when there is no token or no repository on GitHub to start it with.

    Raises GithubError when GitHub refuses or does not answer.
    """
    repository = github.connect()
    if repository is None:
        return False
    try:
        branch = repository.content(repository.ask("GET", ""))["default_branch"]
    except (KeyError, TypeError):
        raise GithubError(f"what answers at {repository.api} is not GitHub") from None
    body = {"ref": branch} | ({"inputs": inputs} if inputs else {})
    repository.ask("POST", f"/actions/workflows/{workflow}/dispatches", body)
    return True
