"""`make keep-alive`: workflows with a schedule are enabled anew; those that a person disabled are left alone."""

import pytest

from scripts.ci import keep_alive
from tests.pipeline.ci.github_double import github


@pytest.fixture
def hub(monkeypatch):
    """GitHub, and an environment that names it."""
    with github() as made:
        for name, value in made.variables().items():
            monkeypatch.setenv(name, value)
        yield made


def test_every_workflow_with_a_schedule_is_found():
    """Those that GitHub would switch off, itself among them; and no other."""
    found = keep_alive.scheduled()
    assert {"weekly.yml", "promote.yml", "security.yml"} <= set(found)
    assert not {"deliver.yml", "retrain.yml", "rollback.yml"} & set(found)


def test_what_github_disabled_is_enabled_and_what_a_person_disabled_is_not(hub, capsys):
    """A workflow that is active is enabled too: that begins the 60 days anew."""
    hub.states |= {"weekly.yml": "active", "promote.yml": "disabled_inactivity", "security.yml": "disabled_manually"}
    assert keep_alive.main([]) == 0
    enabled = [rest.split("/")[3] for method, rest, _ in hub.got]
    assert enabled == ["promote.yml", "weekly.yml"]
    said = capsys.readouterr().out
    assert "security.yml: left as it is, disabled_manually" in said and "weekly.yml: enabled" in said


def test_a_refusal_is_red(hub, capsys):
    """With the permission that is missing."""
    hub.states["weekly.yml"] = "active"
    hub.refuse.append(("PUT", "/enable$", 403, {}))
    assert keep_alive.main([]) == 1
    assert "GitHub answers 403" in (said := capsys.readouterr().err) and "`permissions`" in said


def test_on_a_laptop_it_does_nothing(monkeypatch, capsys):
    """Without the variables of a workflow nothing is asked."""
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert keep_alive.main([]) == 0 and "nothing to keep alive" in capsys.readouterr().out
