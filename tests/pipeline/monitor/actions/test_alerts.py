"""What people are told of findings: what, since when, how large, on which rows, and what to do first; nothing of a stranger's acts."""

import re
from typing import get_args

import pytest
from markdown_it import MarkdownIt
from msgspec.structs import replace

from pipeline.artifacts import ROOT
from pipeline.ci import issues
from pipeline.ci.issues import Kept
from pipeline.monitor.actions import alerts
from pipeline.monitor.findings import Check, Kind, Measured, Performance
from tests.pipeline.monitor.found import VERSION, findings, incident, performance

BLOB, RUN = "https://github.com/octo/cars/blob/HEAD", "https://github.com/octo/cars/actions/runs/7"
HOSTILE = [
    "a|b",
    "`` ` ``",
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "**bold** _it_ ~~no~~",
    "@someone #12",
    "-->",
    "www.evil.example http://evil.example",
    "line\n# head",
]


def matter(kind, *incidents, **given):
    """The matter of one kind."""
    return alerts.of_kind(kind, findings(*incidents, **given), BLOB, RUN)


def test_the_text_says_all():
    """What, since when, how large, on which rows and version, the first step, the runbook and the run."""
    found = matter("data_drift", incident())
    assert found.title == "cars, production: data drift: mean_area"
    for part in (
        "since 2026-11-20", "35 % of the rows are above 782.7", "| 10.0 % | 35.0 % |", "4,200", "`3`", "2026-11-30",
        "See what else happened on the first day", f"({BLOB}/docs/runbooks/drift-found.md)", f"({RUN})",
    ):  # fmt: skip
        assert part in found.body, part


def test_what_is_about_outcomes_has_the_metric_that_people_know():
    """Beside the hold-out's, and on how many outcomes."""
    one = Measured(name="accuracy", value=0.7612, holdout=0.8533, rows=700, higher_is_better=True)
    given = {"daily_metric": "accuracy", "performance": Performance(metrics=[one])}
    said = "- accuracy 0.76 (hold-out 0.85) over the last 700 outcomes"
    assert said in matter("performance", performance(), **given).body
    assert said not in matter("data_drift", incident(), **given).body


def test_each_kind_has_one_matter():
    """Also those of which nothing is found, so that their issues close."""
    found = findings(incident(), performance())
    marks = [one.mark for one in alerts.matters(found, BLOB, RUN)]
    assert set(alerts.CHECKS) == set(get_args(Check))
    assert marks == [("cars", "production", kind) for kind in alerts.KINDS] and set(alerts.KINDS) == set(get_args(Kind))
    standing = [one.mark[2] for one in alerts.matters(found, BLOB, RUN) if one.parts]
    assert standing == ["data_drift", "performance"]


@pytest.mark.parametrize("runbook", sorted({*(kind.runbook for kind in alerts.KINDS.values()), "retraining-exhausted"}))
def test_the_first_step_is_that_of_the_runbook(runbook):
    """An issue names the commands of the runbook's first look, and the runbook is there."""
    page = (ROOT / f"docs/runbooks/{runbook}.md").read_text(encoding="utf-8")
    look = re.search(r"## First look\n\n```\n(.+?)```", page, re.S)[1].splitlines()
    kind = next((name for name, one in alerts.KINDS.items() if one.runbook == runbook), None)
    body = matter(kind, incident(kind)).body if kind else alerts.exhausted(findings(), "tried twice", BLOB, RUN).body
    assert look and not [command for command in look if f"`{command}`" not in body]


def test_what_is_over_is_no_part():
    """A closed incident is in the text, and does not keep the issue open."""
    over = matter("data_drift", incident(open=False, closed_day="2026-11-29"))
    assert over.parts == {} and "over on 2026-11-29" in over.body and "has no data drift any more" in over.body


def test_figures_that_change_are_no_new_part():
    """A part is a column and what is wrong with it: another version, day or figure does not call people again."""
    first = matter("data_drift", incident())
    later = matter("data_drift", incident(version="4", alarm_day="2026-11-23", now=0.5, words="more"))
    assert set(first.parts) == set(later.parts) != set(matter("data_drift", incident(check="missing")).parts)


def test_the_first_incident_of_many_is_the_largest():
    """A title names five columns, the table forty; how many there are besides is said."""
    many = [incident(column=f"c{number:02d}", evidence=number) for number in range(60)]
    found = matter("data_drift", *many)
    assert found.title.endswith("data drift: c59, c58, c57, c56, c55 and 55 more")
    assert "- 20 more" in found.body and found.body.count("\n| ") == 40 + 2 and len(found.parts) == 60


def test_nothing_judged_is_not_nothing_wrong():
    """Where no version was judged no issue is closed."""
    assert alerts.judged(findings()) and alerts.judged(findings(performance(), versions=[]))
    assert not alerts.judged(findings(versions=[replace(VERSION, judged=False)]))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_acts_nowhere(name):
    """The elements of the page are those of a harmless name; the comment about it is one line of text."""

    def elements(name):
        found = matter("data_drift", incident(column=name, words=f"{name}: moved", unit=name))
        page = MarkdownIt("commonmark").enable("table").render(found.text() + "\n" + "\n".join(found.parts.values()))
        page = re.sub(r"<!-- slipway-known: .* -->", "", page)
        return [re.sub("[0-9a-f]{16}", "", tag) for tag in re.findall(r"<[^>]+>", page)]

    assert elements(name) == elements("harmless")


@pytest.mark.parametrize("name", ["@octocat", "a @team b", "<!channel>", "x\n@all"])
def test_nobody_is_called_by_a_name(name):
    """Neither a title nor a chat message mentions anybody or has a line more."""
    found = findings(incident(column=name, words=f"{name}: moved"))
    title = alerts.of_kind("data_drift", found, BLOB, RUN).title
    told = alerts.message(Kept(issues.OPENED), "data_drift", found)
    assert not re.search(r"@\w", title + told) and "\n" not in title and len(told.splitlines()) == 3


def test_a_message_says_what_is_new():
    """The first line has model, environment and kind; of more of the same, only what was not known is said."""
    found = findings(incident(), incident(column="texture", words="texture moved"))
    new = issues.part_id("texture\ndistribution")
    told = alerts.message(Kept(issues.GROWN, "https://github.com/octo/cars/issues/4", (new,)), "data_drift", found)
    assert told.splitlines()[:2] == ["cars, production: data drift, more of it", "texture moved"]
    assert told.splitlines()[-1] == "https://github.com/octo/cars/issues/4"
    over = alerts.message(Kept(issues.OVER), "performance", findings())
    assert over == "cars, production: falling performance is over"
    assert "data drift again" in alerts.message(Kept(issues.REOPENED), "data_drift", found)


def test_retraining_that_gave_up_needs_a_human():
    """Its issue has the label, the reason as text, and closes when the reason is gone."""
    found = alerts.exhausted(findings(performance()), "2 retrainings since <b> did not help", BLOB, RUN)
    assert found.labels == ("needs-human",) and "&#60;b&#62;" in found.body and "retraining-exhausted.md" in found.body
    assert found.parts and not alerts.exhausted(findings(), "", BLOB, RUN).parts


def test_a_share_of_nearly_nothing_is_written_so():
    """No exponent, and no zero for what is not zero."""
    assert [alerts.percent(share) for share in (0.0, 0.0004, 0.0005, 0.35, None)] == [
        "0.0 %",
        "< 0.1 %",
        "0.1 %",
        "35.0 %",
        "–",
    ]


def test_small_figures_are_not_rounded_to_nothing():
    """A mean error of a thousandth has decimals that show it; a share has two."""
    error = Measured(name="mae", value=0.0042, holdout=0.0021, rows=900, higher_is_better=False)
    share = Measured(name="accuracy", value=0.76, holdout=1.0, rows=900, higher_is_better=True)
    assert alerts.beside_holdout(error) == "MAE 0.0042 (hold-out 0.0021)"
    assert alerts.beside_holdout(share) == "accuracy 0.76 (hold-out 1.00)"
