"""One issue on GitHub for one matter: opened once, kept up to date, closed when it is over, and opened again when it comes back.

The first lines of its text, which no page shows, say what it is about and what of it is known. It is found by them among the issues
with LABEL: who may not label issues cannot make us write into theirs. An issue that a person closes stays closed until something
that it does not know is wrong; nothing of what people write, add or assign is changed. It is opened again instead of
written anew, so that the discussion, its links and its people stay together.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.ci.github import Repository
from pipeline.errors import GithubError

LABEL = "slipway-monitoring"
OFF = 410  # what GitHub answers where the repository has no issues
OPENED, REOPENED, GROWN, OVER, KNOWN, LEFT, NOTHING = "opened", "reopened", "grown", "over", "known", "left", "nothing"
NEWS = (OPENED, REOPENED, GROWN, OVER)  # what people must hear of
LONGEST = 60_000  # characters of a text; GitHub takes 65,536
MARK = re.compile(r"^<!-- slipway-issue: (.+) -->\s*$", re.M)
PARTS = re.compile(r"^<!-- slipway-known: ([0-9a-f ]*) -->\s*$", re.M)


@dataclass(frozen=True)
class Matter:
    """What may be wrong. All texts are Markdown in which nothing of a stranger's is left to act.

    `mark` names the matter for ever, in letters, digits, "-" and "_". `parts` are what is wrong now, by whatever tells one from
    another, with a line for each; none: it is over. `body` says all of it, `over` that it is over; `day` is the day that it is about.
    """

    mark: tuple[str, ...]
    title: str
    body: str
    over: str
    day: str
    parts: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    def __post_init__(self):
        if not all(re.fullmatch(r"[\w-]+", word) for word in self.mark):
            raise ValueError(f"{self.mark}: no mark")

    @property
    def name(self) -> str:
        """The mark as it is written."""
        return " ".join(self.mark)

    @property
    def ids(self) -> dict[str, str]:
        """The parts by a name of sixteen characters, in which nothing of theirs can be read."""
        return {part_id(part): words for part, words in self.parts.items()}

    def text(self) -> str:
        """The issue's text, with what people do not see."""
        hidden = f"<!-- slipway-issue: {self.name} -->\n<!-- slipway-known: {' '.join(sorted(self.ids))} -->\n\n"
        return hidden + cut(self.body)


@dataclass(frozen=True)
class Kept:
    """What was done about a matter, the address of its issue ("" when there is none), and the parts that were not known before."""

    change: str
    address: str = ""
    new: tuple[str, ...] = ()


def part_id(part: str) -> str:
    """A part's short name."""
    return hashlib.sha256(part.encode()).hexdigest()[:16]


def cut(text: str) -> str:
    """The text, if it is not too long; else its whole paragraphs that are not."""
    if len(text) <= LONGEST:
        return text
    return text[:LONGEST].rpartition("\n")[0] + "\n\nThe rest is in the report.\n"


def change(known: Iterable[str] | None, now: Iterable[str]) -> str:
    """What happened to a matter, from the parts that were known (None: it never was anything) and those of now."""
    before, after = set(known or ()), set(now)
    if not after:
        return OVER if before else NOTHING
    if not before:
        return OPENED if known is None else REOPENED
    return GROWN if after - before else KNOWN


def ours(repository: Repository) -> list[dict[str, Any]]:
    """All issues with our label, the oldest first; raises GithubError, with status OFF where the repository has no issues."""
    found = repository.all(f"/issues?state=all&labels={LABEL}&sort=created&direction=asc&per_page=100")
    return [one for one in found if "pull_request" not in one]


def keep(repository: Repository, issues: list[dict[str, Any]], matter: Matter) -> Kept:
    """Bring the issue of a matter up to date, and say what was done. Done twice, the second time changes nothing.

    `issues` are those that `ours` found. Raises GithubError.
    """
    issue, others = _chosen(issues, matter)
    for other in others:
        _close_double(repository, other, issue or other)
    if issue is None:
        return _open(repository, matter) if matter.parts else Kept(NOTHING)
    known, address = _known(issue), str(issue.get("html_url", ""))
    new = tuple(one for one in matter.ids if one not in known)
    happened = change(known, matter.ids)
    closed = issue["state"] == "closed"
    if closed and happened == KNOWN:  # a person closed it: that is an answer
        return Kept(LEFT, address)
    if closed and happened == GROWN:
        happened = REOPENED
    if closed and happened in (OVER, NOTHING):
        if happened == OVER:
            _update(repository, issue, {"body": matter.text()})
        return Kept(NOTHING, address)
    if (
        happened == NOTHING and not closed
    ):  # nothing is known of it, and nothing is wrong: it was left open by a half-made change
        happened = OVER
    # The comment first: where what follows fails, the next run finds it and writes no second one.
    if happened in (REOPENED, GROWN):
        _comment(repository, issue, matter, happened, [words for one, words in matter.ids.items() if one in new])
    elif happened == OVER:
        _comment(repository, issue, matter, OVER, [matter.over])
    wanted: dict[str, Any] = {"body": matter.text(), "state": "closed" if happened == OVER else "open"}
    if happened == OVER:
        wanted["state_reason"] = "completed"
    else:
        wanted["title"] = matter.title
        _label(repository, issue, matter)
    _update(repository, issue, wanted)
    return Kept(happened, address, new)


def add(repository: Repository, issues: list[dict[str, Any]], matter: Matter, text: str) -> None:
    """Say something in the issue of a matter, if one is open, once."""
    issue, _ = _chosen(issues, matter)
    if issue and issue["state"] == "open":
        _say(repository, issue, text, text)


def _chosen(issues: list[dict[str, Any]], matter: Matter) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The issue of a matter: the oldest that is open, else the newest of all; and others of it that are open as well."""
    about = [one for one in issues if (found := MARK.search(one.get("body") or "")) and found[1] == matter.name]
    about.sort(key=lambda one: one["number"])
    opened = [one for one in about if one["state"] == "open"]
    return next(iter(opened or about[::-1]), None), opened[1:]


def _known(issue: dict[str, Any]) -> set[str]:
    found = PARTS.search(issue.get("body") or "")
    return set(found[1].split()) if found else set()


def _open(repository: Repository, matter: Matter) -> Kept:
    body = {"title": matter.title, "body": matter.text(), "labels": [LABEL, *matter.labels]}
    issue = repository.content(repository.ask("POST", "/issues", body))
    if LABEL not in _labels(issue):
        _labelled_or_closed(repository, issue)
    # Another run may have opened one in the same moment: of two, the older one stays, and both runs see which that is.
    again, others = _chosen(ours(repository), matter)
    for other in others:
        _close_double(repository, other, again or other)
    if again and again["number"] != issue["number"]:
        return Kept(KNOWN, str(again.get("html_url", "")))
    return Kept(OPENED, str(issue.get("html_url", "")), tuple(matter.ids))


def _labels(issue: dict[str, Any]) -> set[str]:
    return {one["name"] if isinstance(one, dict) else str(one) for one in issue.get("labels", [])}


def _labelled_or_closed(repository: Repository, issue: dict[str, Any]) -> None:
    """Label an issue whose label GitHub left out; where the token may not, close it, for no run would find it again."""
    try:
        repository.ask("POST", f"/issues/{issue['number']}/labels", {"labels": [LABEL]})
    except GithubError as error:
        repository.ask("PATCH", f"/issues/{issue['number']}", {"state": "closed", "state_reason": "not_planned"})
        raise GithubError(
            f"the token may not label issues, and without the label {LABEL} no later run finds them: {error.what}",
            "give it the permission to write issues",
            error.status,
        ) from error


def _label(repository: Repository, issue: dict[str, Any], matter: Matter) -> None:
    missing = [label for label in matter.labels if label not in _labels(issue)]
    if missing:
        repository.ask("POST", f"/issues/{issue['number']}/labels", {"labels": missing})


def _update(repository: Repository, issue: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Change what differs, if anything does."""
    same = ("body", "title", "state")
    if any(key in wanted and _plain(issue.get(key)) != _plain(wanted[key]) for key in same):
        repository.ask("PATCH", f"/issues/{issue['number']}", wanted)


def _plain(text: Any) -> str:
    """A text as GitHub's pages and its API both give it."""
    return str(text or "").replace("\r\n", "\n").strip()


def _comment(repository: Repository, issue: dict[str, Any], matter: Matter, happened: str, lines: list[str]) -> None:
    """Say what happened, unless a comment of that day says so already."""
    heads = {REOPENED: "It has come back.", GROWN: "There is more of it."}
    text = "\n".join([heads[happened], "", *(f"- {line}" for line in lines)] if happened in heads else lines)
    _say(repository, issue, text, repr((happened, matter.day, sorted(matter.ids))))


def _say(repository: Repository, issue: dict[str, Any], text: str, once: str) -> None:
    """Write a comment, unless there is one that was written for the same."""
    mark = f"<!-- slipway-comment: {part_id(once)} -->"
    place = f"/issues/{issue['number']}/comments"
    if not any(mark in (one.get("body") or "") for one in repository.all(f"{place}?per_page=100")):
        repository.ask("POST", place, {"body": cut(f"{mark}\n\n{text}")})


def _close_double(repository: Repository, double: dict[str, Any], stays: dict[str, Any]) -> None:
    """Close an issue that another one is about already."""
    if double["number"] == stays["number"]:
        return
    number = double["number"]
    body = re.sub(MARK, "", double.get("body") or "")  # it is nobody's any more, whatever becomes of it
    repository.ask("POST", f"/issues/{number}/comments", {"body": f"The same is in #{stays['number']}."})
    repository.ask("PATCH", f"/issues/{number}", {"body": body, "state": "closed", "state_reason": "not_planned"})
