"""An experiment on its page, in Markdown and on a terminal."""

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from pipeline.evaluation.figures import to_png
from pipeline.experiments.pages import page, picture
from pipeline.registry.experiments import STOPPING, Phase
from tests.pipeline.experiments.pages.judgements import CASES, judgement, record

WORDS = {
    "no data": "Nothing to judge yet",
    "no difference": "No difference so far",
    "B better": "Version 8 (B) is better",
    "A better": "Version 7 (A) is better",
    "ratio mismatch": "Sample ratio mismatch",
    "stopped itself": "Stopped itself",
    "ended": "Version 8 (B) is better",
    "shadow": "No difference so far",
    "shadow without outcomes": "Nothing to judge yet",
}
STEPS = {
    "no data": "look again on any day",
    "no difference": "look again on any day",
    "B better": "make experiment-stop WINNER=B",
    "A better": "make experiment-stop ends it: version 7",
    "ratio mismatch": "Find out who is missing",
    "stopped itself": "make experiment-stop ends it; docs/runbooks/experiment",
    "ended": "Ended on 2026-03-23 00:00 (UTC): B is better",
    "shadow": "make experiment-stop ends it.",
    "shadow without outcomes": "look again on any day",
}


@pytest.mark.parametrize("case", CASES)
def test_page_says_what_the_numbers_say_and_what_to_do(case):
    """The headline and the next step of each way in which an experiment can stand, on one page that loads nothing."""
    html = page.html(judgement(case), record(case))
    assert re.search(rf"<h1>.*</span> {re.escape(WORDS[case])}</h1>", html) and STEPS[case] in html
    assert "<script" not in html and not re.search(r"(?:src|href)=\"http", html)
    markdown = page.markdown(judgement(case), record(case))
    assert WORDS[case] in markdown and STEPS[case].split("(")[0].strip() in markdown.replace("&#45;", "-")


@pytest.mark.parametrize("case", CASES)
def test_terminal_has_few_lines(capsys, case):
    """Both variants side by side, the next step, and where the page is."""
    page.terminal(judgement(case), record(case), Path("build/experiment.html"))
    said = capsys.readouterr().out
    assert WORDS[case] in said and "build/experiment.html" in said
    assert re.search(r"^ +A +7 ", said, re.M) and re.search(r"^ +B +8 ", said, re.M) and len(said.splitlines()) < 15


def test_terminal_cuts_no_figure(capsys, monkeypatch):
    """Where the terminal is narrow its lines wrap; and nothing that was not counted stands there as 0."""
    monkeypatch.setenv("COLUMNS", "40")
    judged, of = judgement("no difference"), record("no difference")
    page.terminal(replace(judged, a=replace(judged.a, requests=10**12), b=replace(judged.b, mean=1e15)), of, Path("p"))
    said = capsys.readouterr().out
    assert "deviation" in said and f"{10**12:,}" in said and "…" not in said
    page.terminal(replace(judged, until=0.0), of, Path("p"))
    assert "with outcomes" not in capsys.readouterr().out


def test_what_has_ended_without_a_difference_does_not_go_on():
    """Nor does a band that has left zero on a day that is not over stand for good."""
    judged = replace(judgement("no difference"), state="ended")
    assert (
        page.headline(judged).meaning.startswith("In the share")
        and page.headline(judged).word == "No difference was found"
    )
    today = replace(judgement("B better"), decided_day=judgement("B better").time[:10])
    assert "the day is not over" in page.html(today, record("B better"))


def test_difference_is_not_shown_where_subjects_are_missing(capsys):
    """With a sample ratio mismatch neither page nor terminal has a mean, a difference or a test: they would tempt."""
    judged, of = judgement("ratio mismatch"), record("ratio mismatch")
    page.terminal(judged, of, Path("p"))
    shown = page.html(judged, of) + page.markdown(judged, of) + capsys.readouterr().out
    assert not [one for one in (judged.a.mean, judged.b.mean, abs(judged.difference)) if f"{one:.4f}" in shown]
    assert "As if this were the only look" not in shown and "Day by day" not in shown
    assert not picture.figures_for(judged, of.phases)


def test_test_for_one_look_warns_of_looking_often():
    """Welch's t, p and interval stand beside the band, with what follows of looking at them daily."""
    judged = judgement("B better")
    html = page.html(judged, record("B better"))
    section = html.split("As if this were the only look</h2>")[1].split("</section>")[0]
    assert f"{judged.welch.t:.2f}" in section and "wrong in about one of four" in section


def test_shadow_shows_both_answers_and_the_gate_s_comparison():
    """How often both answered alike, rows without an answer of B, and the gate's metric; no sample ratio, for nobody is divided."""
    html = page.html(judgement("shadow"), record("shadow"))
    assert all(words in html for words in ("96.40 %", "214 (4.10 %)", "As the gate compares", "log loss"))
    assert "Sample ratio" not in html and "As the gate compares" not in page.html(
        judgement("shadow without outcomes"), record("shadow without outcomes")
    )


def test_only_the_last_share_is_counted():
    """Earlier shares are on the page, as not counted."""
    section = page.html(judgement("no difference"), record("no difference")).split("Shares</h2>")[1]
    assert section.index("10 %") < section.index("not counted") < section.index("50 %") < section.index("> counted")


def test_experiment_that_was_interrupted_says_how_to_finish_it():
    """Whoever ended it was ended himself: the next command follows what production serves."""
    judged = replace(judgement("B better"), state=STOPPING)
    assert any("`make status` says what came of it" in line for line in page.next_steps(judged, record("B better")))


def test_names_of_a_team_are_text():
    """What somebody wrote as a reason or as a stop is no markup."""
    judged = replace(judgement("stopped itself"), words="<img src=x onerror=alert(1)> | @all")
    assert "<img src=x" not in page.html(judged, record("stopped itself"))
    assert "<img" not in page.markdown(judged, record("stopped itself"))


def test_picture_has_every_day_and_is_the_same_again():
    """The band of each day, a line at zero, the share before in grey; the same data give the same bytes."""
    judged, of = judgement("no difference"), record("no difference")
    (figure,) = picture.figures_for(judged, of.phases).values()
    above, below = figure.axes
    line = next(one for one in above.lines if one.get_label() == "difference")
    assert len(line.get_xdata()) == 21 and line.get_xdata()[0] == 5
    assert {text.get_text() for text in above.texts} == {"10 % to B", "50 % to B"}
    last, day = of.phases[-1], 86_400  # a share of a day has no room for its name, unless it is the last one
    short = (Phase(last.since - 3 * day, 0.1), Phase(last.since - 2 * day, 0.1), last)
    (named,) = picture.figures_for(judged, short).values()
    assert [text.get_text() for text in named.axes[0].texts] == ["50 % to B"]
    assert above.get_ylim()[0] < 0 < above.get_ylim()[1] and below.get_ylim()[0] == 0
    assert to_png(picture.figures_for(judged, of.phases)["difference"]) == to_png(figure)


@pytest.mark.parametrize("case", ["no data", "shadow without outcomes"])
def test_no_picture_of_nothing(case):
    """Without a difference there is no picture."""
    assert not picture.figures_for(judgement(case), record(case).phases)
