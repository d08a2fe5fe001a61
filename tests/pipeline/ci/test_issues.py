"""One issue for one matter, kept on a server that speaks GitHub's API: opened once, updated, closed, opened again."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pipeline.ci import github, issues
from pipeline.errors import GithubError
from tests.pipeline.ci.github_double import github as server

DRIFT = issues.Matter(
    ("cars", "production", "data_drift"),
    "cars: drift",
    "Text.",
    "It is over.",
    "2026-11-30",
    {"area\nshape": "area moved"},
)
NOTHING = replace(DRIFT, parts={}, body="Over.", day="2026-12-04")


@pytest.fixture
def hub(monkeypatch):
    """GitHub, and an environment that names it."""
    monkeypatch.setattr(github, "PAUSE", 0.01)
    with server() as made:
        for name, value in made.variables().items():
            monkeypatch.setenv(name, value)
        yield made


def keep(matter=DRIFT):
    """Keep a matter as a run does."""
    repository = github.of_environment()
    return issues.keep(repository, issues.ours(repository), matter)


def test_an_issue_is_written_once(hub):
    """The second run finds it by its label and its mark, and changes nothing at all."""
    hub.issue(title="somebody's", labels=["bug"])
    assert keep().change == issues.OPENED
    changed = list(hub.got)
    assert keep().change == issues.KNOWN and hub.got == changed
    assert [one["title"] for one in hub.issues] == ["somebody's", "cars: drift"]
    assert hub.tokens == {"Bearer hunter2"}


def test_an_issue_is_found_among_many(hub):
    """It may be on any page of the list."""
    for number in range(5):
        hub.issue(title=f"{number}", labels=[issues.LABEL])
    assert keep().address == keep().address and len(hub.issues) == 6


def test_text_is_updated_without_a_comment(hub):
    """Other figures of what is known are no news."""
    keep()
    assert keep(replace(DRIFT, body="Other figures.", title="cars: still")).change == issues.KNOWN
    assert hub.issues[0]["body"].endswith("Other figures.") and hub.issues[0]["title"] == "cars: still"
    assert hub.comments == {}


def test_another_part_is_a_comment(hub):
    """It is said once, and names the new part alone."""
    keep()
    more = replace(DRIFT, parts=DRIFT.parts | {"size\nshape": "size moved"})
    assert keep(more).change == issues.GROWN and keep(more).change == issues.KNOWN
    (said,) = hub.comments[1]
    assert "There is more of it." in said["body"] and "- size moved" in said["body"] and "area" not in said["body"]


def test_a_part_that_recovers_is_no_news(hub):
    """The text has it; nobody is called for it."""
    keep(replace(DRIFT, parts=DRIFT.parts | {"size\nshape": "size moved"}))
    assert keep().change == issues.KNOWN and hub.comments == {}


def test_recovery_closes_and_the_next_incident_opens_again(hub):
    """One issue through its whole life, with a comment for each change."""
    keep()
    assert keep(NOTHING).change == issues.OVER and hub.issues[0]["state"] == "closed"
    assert hub.issues[0]["state_reason"] == "completed"
    assert keep(NOTHING).change == issues.NOTHING
    assert keep(replace(DRIFT, day="2026-12-20")).change == issues.REOPENED and hub.issues[0]["state"] == "open"
    assert [one["body"].splitlines()[2] for one in hub.comments[1]] == ["It is over.", "It has come back."]
    assert len(hub.issues) == 1


def test_nothing_wrong_and_no_issue_is_nothing(hub):
    """An issue is not opened to say that all is well."""
    assert keep(NOTHING).change == issues.NOTHING and hub.got == []


def test_a_persons_closing_is_an_answer(hub):
    """It stays closed while nothing new is wrong, and opens when something else is."""
    keep()
    hub.issues[0]["state"] = "closed"
    assert keep().change == issues.LEFT and hub.issues[0]["state"] == "closed" and hub.comments == {}
    more = replace(DRIFT, parts=DRIFT.parts | {"size\nshape": "size moved"})
    assert keep(more).change == issues.REOPENED and hub.issues[0]["state"] == "open"


def test_what_a_person_closed_is_forgotten_when_it_is_over(hub):
    """The same incident, later, is a new one."""
    keep()
    hub.issues[0]["state"] = "closed"
    assert keep(NOTHING).change == issues.NOTHING and hub.comments == {}
    assert keep().change == issues.REOPENED


def test_what_people_add_stays(hub):
    """Their labels, and the title while nothing is wrong, are left alone; a missing label of ours is added."""
    keep(replace(DRIFT, labels=("needs-human",)))
    hub.issues[0]["labels"] = [{"name": issues.LABEL}, {"name": "mine"}]
    keep(replace(DRIFT, labels=("needs-human",)))
    assert [one["name"] for one in hub.issues[0]["labels"]] == [issues.LABEL, "mine", "needs-human"]


def test_a_mark_without_our_label_is_nobodys(hub):
    """Who may not label issues cannot make us write into theirs."""
    hub.issue(body=DRIFT.text(), title="a trap")
    assert keep().change == issues.OPENED and hub.issues[0]["title"] == "a trap"


def test_two_runs_at_once_leave_one_issue(hub):
    """The older of two stays open; the other says which that is, and loses its mark."""
    hub.issue(body=DRIFT.text(), title="cars: drift", labels=[issues.LABEL])
    issues.keep(github.of_environment(), [], DRIFT)  # a run that has read the list before the first was there
    assert [one["state"] for one in hub.issues] == ["open", "closed"]
    assert hub.comments == {2: [{"body": "The same is in #1."}]} and "slipway-issue" not in hub.issues[1]["body"]
    assert keep().change == issues.KNOWN


def test_many_runs_at_once_leave_one_issue(hub):
    """Whatever the order in which they read and write."""
    repository = github.of_environment()
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(lambda _: issues.keep(repository, issues.ours(repository), DRIFT), range(8)))
    assert [one["number"] for one in hub.issues if one["state"] == "open"] == [1]
    assert keep().change == issues.KNOWN and {one.change for one in kept} <= {issues.OPENED, issues.KNOWN}


def test_a_comment_is_not_repeated_after_a_failure(hub):
    """Where the text could not be updated after the comment, the next run updates it and says nothing again."""
    keep()
    hub.refuse.append(("PATCH", "/issues/1$", 422, {}))
    with pytest.raises(GithubError, match="answers 422"):
        keep(NOTHING)
    assert keep(NOTHING).change == issues.OVER
    assert len(hub.comments[1]) == 1 and hub.issues[0]["state"] == "closed"


def test_a_label_that_github_leaves_out_is_added(hub):
    """Without it no later run would find the issue."""
    hub.drops_labels = True
    keep()
    assert issues.LABEL in [one["name"] for one in hub.issues[0]["labels"]]


def test_a_token_that_may_not_label_opens_nothing_for_long(hub):
    """Else there would be one more issue a day: it is closed, and the run is red."""
    hub.drops_labels = True
    hub.refuse.append(("POST", "/labels$", 403, {}))
    with pytest.raises(GithubError, match="may not label issues"):
        keep()
    assert hub.issues[0]["state"] == "closed"


def test_a_repository_without_issues_is_told_by_its_status(hub):
    """The caller says so, and is not red."""
    hub.off = True
    with pytest.raises(GithubError) as raised:
        keep()
    assert raised.value.status == issues.OFF


@pytest.mark.parametrize("headers", [{"Retry-After": "0"}, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}])
def test_a_short_rate_limit_is_waited_for(hub, monkeypatch, headers):
    """As long as GitHub says, where that is less than a minute; what was not done is safe to ask for again."""
    monkeypatch.setattr(github.time, "sleep", lambda seconds: None)
    hub.refuse.append(("POST", "/issues$", 403, headers))
    assert keep().change == issues.OPENED and len(hub.issues) == 1


def test_a_long_rate_limit_is_told(hub):
    """With the time when it ends."""
    hub.refuse.append(("GET", "/issues$", 429, {"Retry-After": "3000"}))
    with pytest.raises(GithubError, match=r"its rate limit is used up until \d\d:\d\d UTC"):
        keep()


def test_a_fault_that_passes_is_tried_again_but_nothing_is_created_twice(hub):
    """Reading and changing may be repeated; after a failed creation nobody knows whether there is an issue."""
    hub.refuse += [("GET", "/issues$", 502, {})]
    assert keep().change == issues.OPENED
    hub.refuse.append(("POST", "/comments$", 502, {}))
    with pytest.raises(GithubError, match="answers 502"):
        keep(NOTHING)
    assert keep(NOTHING).change == issues.OVER


@pytest.mark.parametrize(("status", "then"), [(401, "the token has expired"), (403, "`permissions`"), (404, "")])
def test_refusals_are_told_in_words(hub, status, then):
    """What GitHub answers, and what to do where that is known; never the token."""
    hub.refuse.append(("GET", "/issues$", status, {}))
    with pytest.raises(GithubError) as raised:
        keep()
    assert f"GitHub answers {status}" in raised.value.what and then in raised.value.then
    assert "hunter2" not in f"{raised.value.what} {raised.value.then} {github.of_environment()!r}"


def test_a_long_text_is_cut():
    """GitHub refuses a text of more than 65,536 characters."""
    long = replace(DRIFT, body="line\n" * 20_000, parts={f"{number}": "" for number in range(250)})
    assert len(long.text()) < 65_536 and long.text().endswith("The rest is in the report.\n")


def test_a_mark_holds_no_markup():
    """What could end the comment that hides it is refused."""
    with pytest.raises(ValueError, match="no mark"):
        replace(DRIFT, mark=("a", "-->"))
