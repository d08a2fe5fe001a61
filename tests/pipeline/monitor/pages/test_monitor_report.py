"""The monitor's pages say what was found, and nothing that a team named becomes markup; its figures show their numbers."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest
from markdown_it import MarkdownIt

from pipeline.evaluation.figures import to_png
from pipeline.monitor.findings import DayRow, Distribution, Measured, OutcomeCounts, Performance, TTest, WatchedVersion
from pipeline.monitor.pages import plots, report
from tests.pipeline.monitor.found import findings, incident, performance
from tests.pipeline.monitor.watched import columns, day, days, numbers, watched

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>|`$x^2$` **b** @someone [c](javascript:1)'
OURS = {"html", "head", "meta", "title", "style", "body", "main", "header", "p", "h1", "h2", "h3", "span", "ul", "li", "dl", "div",
        "dt", "dd", "small", "section", "table", "thead", "tbody", "tr", "th", "td", "code", "figure", "img", "sub"}  # fmt: skip
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (200).to_bytes(4) + (100).to_bytes(4) + b"rest"
MANY = tuple(f"column_{number:03}" for number in range(300))


@dataclass
class Seen(HTMLParser):
    """The tags and the text of a page."""

    page: str
    tags: list[tuple[str, dict]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self):
        super().__init__(convert_charrefs=True)
        self.feed(self.page)
        self.text = re.sub(r"[\s⁠]+", " ", self.text.split("}\n}\n")[-1])

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def seen(found):
    """Both forms of the report as a reader sees them."""
    rendered = MarkdownIt("commonmark").enable("table").render(report.markdown(found))
    return [Seen(rendered), Seen(report.html(found, {"evidence": PNG}))]


EMPTY = {
    "no log": findings(verdict="unknown", versions=[], outcomes=OutcomeCounts(), notes=["nothing was asked yet"]),
    "nothing judged": findings(
        verdict="unknown",
        versions=[
            WatchedVersion(version="3", first_day=day(0), last_day=day(0), rows=2, judged=False, why_not="too few rows")
        ],
        days=[DayRow(day=day(0), version="3", rows=2)],
    ),
    "one day": watched(days=days(1)),
    "one column": watched(columns=columns(("a",)), days=days(5, ("a",)), distributions=[numbers("a")]),
    "no outcomes": watched(
        days=days(outcomes=False), performance=Performance(), outcomes=OutcomeCounts(), estimated=[]
    ),
    "hundreds of columns": watched(columns=columns(MANY), days=days(names=MANY)),
    "days without rows": watched(days=[days()[0], days()[29]]),
    "a column that is always empty": watched(
        distributions=[
            Distribution(name="a", edges=[], before=[0.0], now=[0.0]),
            Distribution(name="b", values=[], before=[1.0], now=[1.0]),
            Distribution(name="c", edges=[1.0], before=[0.5, 0.5], now=[0.0, 0.0]),
        ]
    ),
}


# --- the pages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "first"),
    [
        (findings(), "✅ No alarm: `cars, production`"),
        (findings(incident(), verdict="watch"), "👀 Something moved: `cars, production`"),
        (findings(incident("data_broken"), verdict="broken"), "❌ Data broken: `cars, production`"),
        (findings(performance(), verdict="falling"), "📉 Performance is falling: `cars, production`"),
        (EMPTY["no log"], "⏸️ Nothing judged: `cars, production`"),
        (EMPTY["nothing judged"], "⏸️ Nothing judged: `cars, production`"),
    ],
)
def test_the_verdict_is_in_the_first_line(found, first):
    """The Markdown begins with the verdict, and the page and the terminal say it in the same words."""
    assert report.markdown(found).splitlines()[0] == f"## {first}"
    assert report.headline(found).word in Seen(report.html(found)).text[:80]


@pytest.mark.parametrize(
    ("p_value", "said"), [(0.02, "as it was in training"), (1e-9, "accuracy 0.85 (hold-out 0.98)")]
)
def test_no_alarm_does_not_hide_worse_answers(p_value, said):
    """Where the t-test is sure and the detector is not yet, the verdict says both."""
    test = TTest(rows=1000, mean_before=0.05, mean_now=0.77, t=12, p_value=p_value, drifted=True)
    accuracy = Measured(
        name="accuracy", value=0.853, rows=2100, higher_is_better=True, low=0.83, high=0.86, holdout=0.98
    )
    meaning = report.headline(
        findings(performance=Performance(metrics=[accuracy], t_test=test), daily_metric="accuracy")
    ).meaning
    assert said in meaning


def test_every_incident_is_on_the_pages():
    """Open or over, each is there with its column, its first day, the size before and now, and its rows."""
    many = [incident(column=f"c{number}", since=day(number), rows=1000 + number) for number in range(70)]
    over = incident("data_broken", "closed", check="missing", open=False, closed_day=day(9), before=0.01, now=0.2)
    for page in seen(findings(*many, over, performance(before=1.5, now=2.25, unit="mean error"))):
        for number in range(70):
            assert re.search(
                rf"c{number} data drift: distribution {day(number)} .*?10.0 % → 35.0 % .*?{1000 + number:,}", page.text
            )
        assert f"closed broken data: empty cells 2026-11-20 {day(9)} 1.0 % → 20.0 %" in page.text
        assert "1.5 → 2.25" in page.text


def test_names_become_no_markup():
    """A name of a model, column, version, slice or note with markup in it is text on both pages."""
    found = watched(
        name=HOSTILE, columns=columns((HOSTILE,)), notes=[HOSTILE], incidents=[incident(column=HOSTILE, version=HOSTILE, words=HOSTILE)],
        versions=[WatchedVersion(version=HOSTILE, first_day=day(0), last_day=day(1), rows=1, judged=True, why_not=HOSTILE)],
    )  # fmt: skip
    for page in seen(found):
        assert {tag for tag, _ in page.tags} <= OURS
        assert not [
            attributes for _, attributes in page.tags if "onerror" in attributes or attributes.get("src") == "x"
        ]
        assert page.text.count("<script>alert(1)</script>") >= 5


def test_the_page_needs_nothing_else():
    """No script, no address: pictures are in the page, each in its section, and a browser may load nothing."""
    page = report.html(watched(), {"evidence": PNG, "performance": PNG})
    tags = Seen(page).tags
    assert [attributes["alt"] for tag, attributes in tags if tag == "img"] == [
        report.PICTURES["evidence"],
        report.PICTURES["performance"],
    ]
    assert all(attributes["src"].startswith("data:image/png;base64,") for tag, attributes in tags if tag == "img")
    assert "default-src 'none'" in page and "http" not in page.replace("http-equiv", "")
    assert page.index("Day by day") < page.index(report.PICTURES["evidence"]) < page.index("<h2>Columns")


def test_measured_performance_stands_beside_hold_out_and_estimate():
    """A row has the measured value with its interval, the hold-out's value, and the estimate; worse only by the whole interval."""
    for page in seen(watched()):
        assert "accuracy 0.8430 0.8210 to 0.8630 0.9120 0.9020 4,000 ▼ worse" in page.text
        assert (
            "Of the rows that are old enough, 64.0 % have an outcome. Half of the outcomes came after 26 hours"
            in page.text
        )
        assert "without a request in the log 1" in page.text
    near = (
        watched()
        .performance.metrics[0]
        .__class__(name="accuracy", value=0.9, low=0.88, high=0.92, holdout=0.912, rows=900, higher_is_better=True)
    )
    assert "= as at release" in report.markdown(watched(performance=Performance(metrics=[near])))


@pytest.mark.parametrize("name", EMPTY)
def test_pages_and_figures_of_what_is_hardly_there(name):
    """Without a log, days, columns or outcomes, and with hundreds of columns, pages and pictures are made, and none says nan or None."""
    found = EMPTY[name]
    pictures = {each: to_png(figure) for each, figure in plots.figures_for(found).items()}
    assert bool(pictures) == (name != "no log")
    for text in (report.markdown(found), Seen(report.html(found, pictures)).text):
        assert not re.search(r"\bnan\b|\bNone\b|\binf\b", text)
    assert "not measured" in report.markdown(found) or found.performance.metrics or not found.days


def test_the_markdown_shows_fifteen_columns_and_counts_the_others():
    """A job's summary is short: the columns with most evidence, and how many more there are."""
    text = report.markdown(EMPTY["hundreds of columns"])
    assert len(re.findall(r"^\| `column_\d+` \| (?:feature|prediction) ", text, re.M)) == 15
    assert "`column_000`" in text and "285 more are in monitor.json." in text


def test_the_terminal_says_verdict_incidents_and_where_the_report_is(capsys):
    """A few plain lines; what looks like rich's markup in a name stays text."""
    report.terminal(watched(incidents=[incident(words="[bold]x[/bold] moved")]), Path("build/monitor.html"))
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "▼ cars, production: performance is falling"
    assert "  data drift since 2026-11-20: [bold]x[/bold] moved" in rest
    assert rest[-2:] == ["  what to do: docs/runbooks/drift-found.md", "  the whole report: build/monitor.html"]


# --- the figures ----------------------------------------------------------------------------------------------------


def test_the_heatmap_shows_evidence_alarms_and_releases():
    """A cell has the evidence of its column and day, an alarm a colour of its own, a day without rows none; a line stands at each release."""
    found = watched(days=[*days(10), *days()[12:]])
    axes = plots.evidence(found).axes[0]
    cells = axes.images[0].get_array()
    assert axes.get_yticklabels()[0].get_text() == "mean_area" and cells.shape == (6, 30)
    assert cells[0, 3] == pytest.approx(days()[3].evidence["mean_area"])
    assert cells[:, 10:12].mask.all() or np.isnan(np.ma.filled(cells[:, 10:12], np.nan)).all()
    colour = axes.images[0].cmap(axes.images[0].norm(cells[0, 29]))
    assert matplotlib.colors.to_hex(colour) == plots.VERMILION.lower()
    assert [line.get_xdata()[0] for line in axes.lines] == [-0.5, 19.5]


def test_the_heatmap_has_the_thirty_columns_with_most_evidence():
    """Of hundreds of columns the first thirty are shown, and the title says of how many; long names are cut."""
    names = ("a" * 100, *MANY[1:])
    figure = plots.evidence(watched(columns=columns(names), days=days(names=names)))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == 30 and "the 30 with most of 300" in figure.get_suptitle()
    assert labels[0].startswith("aaa") and len(labels[0]) <= 26


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_a_histogram_holds_all_rows(scale):
    """However the bins of the reference lie, the shares that are drawn add up to one, then and now."""
    steps = plots.distributions(watched(distributions=[numbers("a", 2.5, scale)])).axes[0].patches
    for patch in steps:
        assert sum(patch.get_data().values) == pytest.approx(1)


def test_performance_shows_both_lines_the_hold_out_and_the_limit():
    """Measured and estimated values stand at their days; hold-out and limit are lines of their own; coverage is below."""
    above, below = plots.performance(watched()).axes
    lines = {line.get_label(): line for line in above.lines}
    assert lines["measured"].get_ydata()[:13] == pytest.approx(0.91)
    assert np.isnan(lines["measured"].get_ydata()[29]) and lines["estimated"].get_ydata()[29] == pytest.approx(0.901)
    assert lines["hold-out, 0.9120"].get_ydata()[0] == 0.912 and lines["limit, 0.8"].get_ydata()[0] == 0.8
    assert below.patches[29].get_height() == pytest.approx(10 / days()[29].rows)


def test_versions_of_one_day_count_together():
    """Where two versions answered on a day, its value is that of all rows, and its rows are those of both."""
    both = [
        DayRow(day=day(0), version=v, rows=n, labelled=n, measured=value)
        for v, n, value in (("3", 300, 0.8), ("4", 100, 0.6))
    ]
    above, below = plots.performance(watched(days=both)).axes
    assert above.lines[0].get_ydata() == pytest.approx([0.75]) and below.patches[0].get_height() == 1
    assert plots.rows(watched(days=both)).axes[0].patches[0].get_height() == 400
