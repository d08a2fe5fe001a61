"""Untrusted runs that read the embedded MLflow."""

import json

import pytest

from pipeline.registry.embedded import restoring

HERE, FORK = {"full_name": "octo/model"}, {"full_name": "stranger/model"}


@pytest.mark.parametrize(
    ("head", "login", "stranger"),
    [(HERE, "ana", False), (FORK, "ana", True), (None, "ana", True), (HERE, "dependabot[bot]", True)],
)
def test_forks_and_dependabot_are_untrusted(head, login, stranger, tmp_path, monkeypatch):
    """Runs that do not get the repository's variables are recognised by the event, also for a deleted fork."""
    event = {"repository": HERE, "pull_request": {"head": {"repo": head}, "user": {"login": login}}}
    (tmp_path / "event.json").write_text(json.dumps(event), encoding="utf-8")
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(tmp_path / "event.json"))
    assert restoring._of_a_stranger() is stranger


def test_push_is_trusted(tmp_path, monkeypatch):
    """An event without a pull request, or no event at all, belongs to this repository."""
    (tmp_path / "event.json").write_text('{"repository": {"full_name": "octo/model"}}', encoding="utf-8")
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(tmp_path / "event.json"))
    assert not restoring._of_a_stranger()
    monkeypatch.delenv("GITHUB_EVENT_PATH")
    assert not restoring._of_a_stranger()
