"""`make alert`: issues and chat hear of each incident once, and of its end."""

import pytest

from pipeline.ci import github
from pipeline.monitor.findings import write
from tests.pipeline.ci.github_double import github as server
from tests.pipeline.monitor.found import findings, incident, performance
from tests.scripts.incoming_webhook import webhook

DRIFT, BETTER = findings(incident(), name="scratch"), findings(name="scratch")


@pytest.fixture
def alert(scratch, monkeypatch, tmp_path, mlflow_client):
    """Run the verb on findings; nothing of GitHub's or a chat's is set unless the test does it."""
    for name in ("GITHUB_REPOSITORY", "GITHUB_TOKEN", "GH_TOKEN", "GITHUB_API_URL", "SLIPWAY_WEBHOOK", "GITHUB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setattr(github, "PAUSE", 0.01)

    def run(found=None, status=0):
        if found is not None:
            write(scratch.root / "build/monitor.json", found)
        ended, out, err = scratch.run("ci.alert")
        assert ended == status, out + err
        return out + err

    return run


@pytest.fixture
def hub(monkeypatch):
    """A repository on GitHub that the environment names."""
    with server() as made:
        yield made, lambda: [monkeypatch.setenv(*pair) for pair in made.variables().items()]


def test_an_issue_and_a_message_for_each_incident(alert, hub, monkeypatch):
    """Said once; more of it, its end and its return are said as well, with the issue's address."""
    made, name_it = hub
    name_it()
    with webhook() as chat:
        monkeypatch.setenv("SLIPWAY_WEBHOOK", chat.url)
        for found in (DRIFT, DRIFT, findings(incident(), performance(), name="scratch"), BETTER, BETTER, DRIFT):
            alert(found)
    first = [message["text"].splitlines()[0] for message in chat.got]
    assert first == [
        "scratch, production: data drift",
        "scratch, production: falling performance",
        "scratch, production: data drift is over",
        "scratch, production: falling performance is over",
        "scratch, production: data drift again",
    ]
    assert chat.got[0]["text"].endswith("https://github.com/octo/cars/issues/1") and len(made.issues) == 2
    assert [one["state"] for one in made.issues] == ["open", "closed"]


def test_the_summary_has_the_report(alert, tmp_path):
    """Also where nothing was judged: then it says what is missing."""
    alert(DRIFT)
    assert "mean_area: 35 % of the rows" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    alert(findings(versions=[], name="scratch", verdict="unknown", notes=["there is no prediction log"]))
    assert "there is no prediction log" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_without_github_mlflow_remembers_what_a_chat_was_told(alert, monkeypatch):
    """Once each, and again after a message that did not arrive."""
    with webhook(500) as chat:
        monkeypatch.setenv("SLIPWAY_WEBHOOK", chat.url)
        assert "no issues are kept" in alert(DRIFT) and len(chat.got) == 1
    with webhook() as chat:
        monkeypatch.setenv("SLIPWAY_WEBHOOK", chat.url)
        for found in (DRIFT, DRIFT, BETTER, BETTER, DRIFT):
            alert(found)
    assert [message["text"].splitlines()[0].rpartition(": ")[2] for message in chat.got] == [
        "data drift",
        "data drift is over",
        "data drift again",
    ]


def test_without_anything_it_prints(alert):
    """No chat, no GitHub: the incident is a line, and the second time it is known."""
    assert "new: scratch, production: data drift: mean_area" in alert(DRIFT)
    assert "known: scratch, production: data drift: mean_area" in alert(DRIFT)
    assert "over: scratch production data_drift" in alert(BETTER)


def test_nothing_found_tells_nobody(alert, hub):
    """No file, or no version that was judged: GitHub is not even asked, and no issue closes."""
    made, name_it = hub
    name_it()
    assert "there is no build/monitor.json, which `make monitor` writes" in alert()
    assert "no version was judged" in alert(findings(versions=[], name="scratch")) and made.tokens == set()


def test_a_repository_without_issues_is_green(alert, hub):
    """It says so, and the chat still hears of incidents once."""
    made, name_it = hub
    name_it()
    made.off = True
    said = alert(DRIFT)
    assert "octo/cars has none (Settings → General → Features → Issues)" in said and "new: scratch" in said


def test_one_kind_that_fails_does_not_keep_the_others_back(alert, hub):
    """The verb is red in the end, and says what was refused."""
    made, name_it = hub
    name_it()
    made.refuse.append(("POST", "/issues$", 422, {}))
    said = alert(findings(incident(), performance(), name="scratch"), status=1)
    assert [one["title"] for one in made.issues] == ["scratch, production: falling performance"]
    assert "the issue about scratch production data_drift could not be kept: GitHub answers 422" in said
