"""Whose run it is that reads the carried MLflow."""

import json

import pytest

from pipeline.registry.embedded import restoring

HERE, FORK = {"full_name": "octo/model"}, {"full_name": "stranger/model"}


@pytest.mark.parametrize(
    ("head", "login", "stranger"),
    [(HERE, "ana", False), (FORK, "ana", True), (None, "ana", True), (HERE, "dependabot[bot]", True)],
)
def test_pull_requests_of_forks_and_of_dependabot_are_strangers(head, login, stranger, tmp_path, monkeypatch):
    """Runs that do not hear of the repository's variables are known by the event; a fork that was deleted is one."""
    event = {"repository": HERE, "pull_request": {"head": {"repo": head}, "user": {"login": login}}}
    (tmp_path / "event.json").write_text(json.dumps(event), encoding="utf-8")
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(tmp_path / "event.json"))
    assert restoring._of_a_stranger() is stranger


def test_a_push_is_no_stranger(tmp_path, monkeypatch):
    """An event without a pull request, and no event at all, is of this repository."""
    (tmp_path / "event.json").write_text('{"repository": {"full_name": "octo/model"}}', encoding="utf-8")
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(tmp_path / "event.json"))
    assert not restoring._of_a_stranger()
    monkeypatch.delenv("GITHUB_EVENT_PATH")
    assert not restoring._of_a_stranger()
