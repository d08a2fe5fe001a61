"""Which repository on GitHub is meant, with whose token it is spoken to, and where the button is."""

import pytest

from pipeline.ci import dispatch, github
from pipeline.errors import GithubError


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    """No variable of GitHub's, and no program says anything unless the test lets it."""
    for name in ("GITHUB_REPOSITORY", "GITHUB_SERVER_URL", "GITHUB_API_URL", "GITHUB_TOKEN", "GH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(github, "_run", lambda *command: "")


@pytest.mark.parametrize(
    "origin",
    [
        "https://github.com/octo/my.model",
        "https://github.com/octo/my.model.git",
        "https://octo:secret@github.com/octo/my.model.git/",
        "git@github.com:octo/my.model.git",
        "ssh://git@github.com:22/octo/my.model.git",
    ],
)
def test_the_remote_origin_names_the_repository(monkeypatch, origin):
    """In every form that git takes; a log-in in it is in no address that is shown."""
    monkeypatch.setattr(github, "_run", lambda *command: origin if command[0] == "git" else "")
    assert github.repository() == ("https://github.com", "octo/my.model")
    assert dispatch.page("promote.yml") == "https://github.com/octo/my.model/actions/workflows/promote.yml"


@pytest.mark.parametrize("origin", ["", "https://gitlab.example/octo/model", "/srv/git/model", "github.com"])
def test_a_repository_elsewhere_is_none(monkeypatch, origin):
    """Nothing is sent to GitHub about it, and the button is described without an address."""
    monkeypatch.setattr(github, "_run", lambda *command: origin if command[0] == "git" else "token")
    assert github.repository() is None and dispatch.start("promote.yml") is False
    assert dispatch.page("promote.yml") == "the page of promote.yml under Actions"


def test_variables_come_before_the_remote(monkeypatch):
    """As GitHub's own machines set them, for a server of one's own too."""
    monkeypatch.setenv("GITHUB_REPOSITORY", "team/model")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://git.example/")
    assert dispatch.page("a.yml") == "https://git.example/team/model/actions/workflows/a.yml"


def test_a_token_comes_from_the_environment_or_gh(monkeypatch):
    """GITHUB_TOKEN, then GH_TOKEN, then the log-in of `gh`."""
    monkeypatch.setattr(github, "_run", lambda *command: "of gh" if command[0] == "gh" else "")
    assert github.token() == "of gh"
    monkeypatch.setenv("GH_TOKEN", "second")
    assert github.token() == "second"
    monkeypatch.setenv("GITHUB_TOKEN", "first")
    assert github.token() == "first"


@pytest.mark.parametrize("api", ["http://api.example", "http://127.0.0.1.evil.example", "ftp://127.0.0.1", "127.0.0.1"])
def test_a_token_does_not_travel_in_the_open(monkeypatch, api):
    """Plain HTTP is spoken to this machine only."""
    for name, value in {"GITHUB_REPOSITORY": "a/b", "GITHUB_TOKEN": "x", "GITHUB_API_URL": api}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(GithubError, match="not an https address"):
        dispatch.start("promote.yml")


def test_a_github_that_does_not_answer_is_told(monkeypatch):
    """Nothing listens: words, without the token."""
    for name, value in {
        "GITHUB_REPOSITORY": "a/b",
        "GITHUB_TOKEN": "hunter2",
        "GITHUB_API_URL": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(GithubError, match="does not answer") as caught:
        dispatch.start("promote.yml")
    assert "hunter2" not in str(caught.value)
