"""The report says what the evaluation holds, in the right cell, and nothing that a team named becomes markup."""

import copy
import math
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from evaluations import DATA, RUN, SOURCES, evaluation
from markdown_it import MarkdownIt

from pipeline.evaluation import record, report
from pipeline.evaluation.pages import TEMPLATES
from pipeline.evaluation.wording import in_words, signed
from pipeline.evaluation.wording import number as number_of

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (200).to_bytes(4) + (100).to_bytes(4) + b"rest"
TALL = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (100).to_bytes(4) + (100).to_bytes(4) + b"rest"
HOSTILE = [
    "a|b",
    "a\\|b",
    "`` ` ``",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "[click](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "**bold** _it_ ~~no~~",
    "@someone #12",
    "&lt;b&gt; &amp;",
    "$x^2$",
    "www.evil.example http://evil.example",
    "---",
    "{{ secrets }} ${{ secrets }}",
]
VOID = {"meta", "img", "br", "hr"}


class Page(HTMLParser):
    """The tables, tags and headings of a page; fails on a tag that is closed wrongly."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tables, self.tags, self.open, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    def of(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]

    def table(self, first_head):
        return next(table for table in self.tables if table[0][0] == first_head)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def page_of_markdown(text):
    """The Markdown as a reader sees it: tables, raw HTML and links resolved by a parser of CommonMark."""
    return Page(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text))


def markdown(one, data, plots=None):
    """The report of plain data in Markdown."""
    return report.markdown(record.of_plain(one), data, plots)


def html(one, *rest):
    """The same as a page."""
    return report.html(record.of_plain(one), *rest)


def pages(one, data=DATA, run=RUN):
    """Both forms of a report."""
    return [page_of_markdown(markdown(one, data)), Page(html(one, data, run, {"roc": PNG}))]


def value(cell):
    return float(cell.replace("−", "-").replace(",", ""))


def state(name):
    """An evaluation of each state that a verdict can come with."""
    match name:
        case "first":
            return evaluation("binary", "good", None)
        case "accept":
            return evaluation("binary", "good", "bad")
        case "keep":
            return evaluation("binary", "good", "good")
        case "refuse":
            return evaluation("binary", "bad", "good")
        case "by limits":
            bare = evaluation("binary", "good", None, first=False, reasons=["judged by its limits alone"])
            return bare | {"production": evaluation("binary")["production"], "judged_by": "limits"}
        case "first refused":
            return evaluation("binary", "bad", None, verdict="refuse", reasons=["roc_auc 0.4 is below the limit 0.95"])
        case _:
            bare = evaluation("binary", "good", None, first=False, verdict="refuse", reasons=["cannot be compared"])
            return bare | {"production": evaluation("binary")["production"]}


STATES = ["first", "accept", "keep", "refuse", "first refused", "incomparable", "by limits"]


# --- the verdict ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "word", "meaning"),
    [
        ("first", "Accepted", "nothing was in production"),
        ("accept", "Accepted", "may replace version 3"),
        ("keep", "Kept", "Version 3 stays in production. Nothing is wrong"),
        ("refuse", "Refused", "Version 3 stays in production."),
        ("first refused", "Refused", "Nothing goes to production."),
        ("incomparable", "Refused", "Version 3 stays in production."),
        ("by limits", "Accepted", "may replace version 3, with which it was not compared: the columns changed"),
    ],
)
def test_every_state_opens_with_its_verdict_and_reasons(name, word, meaning):
    """The first words are the verdict, then what it means, then every reason."""
    one = state(name)
    for page in pages(one):
        assert word in page.text[:60]
        assert meaning in page.text
        for reason in one["reasons"]:
            assert reason in page.text
    page = Page(html(one, DATA, RUN, {}))
    assert page.of("header")[0]["class"] == f"verdict {one['verdict']}"


@pytest.mark.parametrize("name", STATES)
def test_a_keep_without_production_facts_is_still_a_sentence(name):
    """Data, run and plots may all be missing."""
    for page in (page_of_markdown(markdown(state(name), None)), Page(html(state(name), None))):
        assert "The checks of the data were not recorded." in page.text
        assert "None" not in page.text
    assert "What serves stays in production." in markdown(state("first") | {"verdict": "keep"}, None)


# --- numbers in their cells -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", list(SOURCES))
def test_each_metric_stands_in_its_row_and_column(task):
    """Candidate, production, difference and both bounds of every metric can be read back from the table."""
    one = evaluation(task)
    for page in pages(one):
        heads, *rows = page.table("metric")
        assert heads == ["metric", "candidate", "production", "difference", "interval", "candidate is"]
        assert len(rows) == len(one["metrics"])
        for cells, metric in zip(rows, one["metrics"], strict=True):
            decides = ", decides" if metric["metric"] == one["metric"] else ""
            assert cells[0] == in_words(metric["metric"]) + decides
            for cell, key in zip(cells[1:4], ("candidate", "production", "difference"), strict=True):
                assert value(cell) == pytest.approx(metric[key], rel=0.02, abs=6e-5)
            if metric["lower"] is not None:
                lower, upper = (value(part) for part in cells[4].split(" to "))
                assert lower == pytest.approx(metric["lower"], rel=0.02, abs=6e-5)
                assert upper == pytest.approx(metric["upper"], rel=0.02, abs=6e-5)


@pytest.mark.parametrize("name", ["first", "first refused", "incomparable"])
def test_without_a_comparison_the_candidate_stands_alone(name):
    """With nothing to compare there are no empty columns, no slices, and a sentence that says which of both it is."""
    one = state(name)
    for page in pages(one):
        heads, *rows = page.table("metric")
        assert heads == ["metric", "candidate", "interval", "baseline"]
        assert all(" to " in row[2] for row in rows)
        assert [value(row[3]) for row in rows] == pytest.approx(
            [row["baseline"] for row in one["metrics"]], rel=0.01, abs=1e-3
        )
        assert [value(row[1]) for row in rows] == pytest.approx([row["candidate"] for row in one["metrics"]], rel=1e-3)
        assert ("Nothing is in production yet." in page.text) == one["first"]
        assert ("It could not be compared with production." in page.text) == (not one["first"])
        assert "slice" not in [table[0][0] for table in page.tables]


def test_a_rule_about_the_table_shows_rows_and_no_value():
    """Such a rule has no cell to show; an empty cell of a column is called empty."""
    checks = [
        {"column": "(features)", "rule": "r", "severity": "warning", "success": False, "observed": "2 of 9 rows",
         "unexpected_count": 2, "examples": [{"id": "a", "row": 234}]},
        {"column": "age", "rule": "r", "severity": "warning", "success": False, "observed": "1 of 9 rows",
         "unexpected_count": 1, "examples": [{"id": "b", "row": 7, "value": None}]},
    ]  # fmt: skip
    data = DATA | {"checks": checks}
    for text in (markdown(evaluation("binary"), data), html(evaluation("binary"), data)):
        assert "row 234" in text and "row 7: empty" in text
        assert "None" not in text


@pytest.mark.parametrize(
    ("higher", "difference", "lower", "upper", "word"),
    [
        (True, 0.2, 0.1, 0.3, "▲ better"),
        (False, 0.2, 0.1, 0.3, "▼ worse"),
        (True, -0.2, -0.3, -0.1, "▼ worse"),
        (False, -0.2, -0.3, -0.1, "▲ better"),
        (True, 0.1, -0.1, 0.3, "△ perhaps better"),
        (False, 0.1, -0.1, 0.3, "▽ perhaps worse"),
        (True, 0.1, None, None, "△ perhaps better"),
        (True, 0.0, -0.1, 0.1, "= same"),
        (False, 0.0, 0.0, 0.0, "= same"),
        (True, 0.1, 0.0, 0.3, "△ perhaps better"),
        (True, None, None, None, "– not defined"),
    ],
)
def test_direction_follows_the_metric_and_the_whole_interval(higher, difference, lower, upper, word):
    """Better or worse is said only when the whole interval is on that side, whichever way the metric counts."""
    row = {"metric": "own_score", "higher_is_better": higher, "candidate": 1.0, "production": 1.0}
    row |= {"difference": difference, "lower": lower, "upper": upper}
    for page in pages(evaluation("binary", metrics=[row])):
        assert page.table("metric")[1][0] == "own score"
        assert page.table("metric")[1][-1] == word


def test_the_deciding_metric_stands_out_without_colour():
    """The gate's metric is bold and says that it decides, in both forms."""
    one = state("accept")
    assert "| **log loss, decides** |" in markdown(one, DATA)
    strong = [row for row in Page(html(one, DATA)).of("tr") if row.get("class") == "strong"]
    assert len(strong) == 1


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0.99414, "0.9941"),
        (54.3217, "54.32"),
        (12345.678, "12,346"),
        (-0.5, "−0.5000"),
        (0.0, "0.0000"),
        (1.5e-12, "1.50e−12"),
        (1.7e308, "1.70e+308"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_numbers_are_short_and_never_lie(number, shown):
    """Four digits or so; what is tiny or huge keeps its size, and what is unknown is a dash."""
    assert number_of(number) == shown


@pytest.mark.parametrize(("change", "shown"), [(0.0131, "+0.0131"), (-0.0131, "−0.0131"), (0, "0.0000"), (None, "–")])
def test_differences_carry_their_sign(change, shown):
    """A difference has a plus or a minus, zero has neither."""
    assert signed(change, 4) == shown


# --- what the hold-out can show -------------------------------------------------------------------------------------


def test_the_report_says_what_this_holdout_could_have_shown():
    """Rows, detectable difference and the one seen are in one sentence; so is that nothing could be shown."""
    one = state("accept")
    one["comparison"] = one["comparison"] | {"detectable": 0.0312, "difference": -0.0155}
    for page in pages(one):
        rows = f"{one['rows']:,} rows"
        assert (
            f"With {rows}, a true difference in log loss of 0.031 would have been shown four times in five" in page.text
        )
        assert "The difference seen is −0.0155." in page.text
    one["comparison"] = one["comparison"] | {"detectable": None}
    assert "no difference in log loss could have been shown: there are too few" in markdown(one, DATA)
    for detectable in (0.0, None):
        one["comparison"] = one["comparison"] | {"detectable": detectable, "difference": 0.0}
        assert "Both models score alike in log loss" in markdown(one, DATA)
    one["comparison"] = one["comparison"] | {"difference": None}
    assert "What this hold-out can show" not in markdown(one, DATA)


# --- slices, limits, portable model ---------------------------------------------------------------------------------


def slice_row(name, difference, lower, upper, judged=True, worse=False):
    row = {"slice": name, "rows": 40, "judged": judged, "worse": worse, "candidate": 0.5, "production": 0.4}
    return row | {"difference": difference, "lower": lower, "upper": upper}


def test_slices_put_the_worse_ones_first_and_say_why_one_is_not_judged():
    """Log loss: a slice that is surely worse leads; too few rows, or a loss within the margin, is said in words."""
    slices = [
        slice_row("fine", -0.1, -0.2, -0.05),
        slice_row("small", 0.1, None, None, judged=False),
        slice_row("little", 0.001, 0.0005, 0.002),
        slice_row("bad", 0.1, 0.05, 0.2, worse=True),
    ]
    for page in pages(state("refuse") | {"slices": slices}):
        heads, *rows = page.table("slice")
        assert [(row[0], row[-1]) for row in rows] == [
            ("bad", "▼ worse"),
            ("fine", "▲ better"),
            ("small", "· not judged: too few rows"),
            ("little", "▼ worse, within the margin"),
        ]
        assert [value(row[heads.index("difference")]) for row in rows] == [0.1, -0.1, 0.1, 0.001]
        assert rows[2][heads.index("interval")] == "–"
        assert "Worse on 1 of 4." in page.text
    many = [slice_row(f"s{n}", 0.0, -0.1, 0.1) for n in range(70)]
    for page in pages(state("keep") | {"slices": many}):
        assert len(page.table("slice")) == 61
        assert "10 more are in evaluation.json." in page.text
        assert "Surely worse on none of 70." in page.text


def test_limits_say_which_way_they_count():
    """A score must be at least its limit, a loss at most; the result is a word."""
    limits = [
        {"metric": "roc_auc", "limit": 0.95, "value": 0.91, "success": False, "higher_is_better": True},
        {"metric": "log_loss", "limit": 0.25, "value": math.nan, "success": False},
        {"metric": "accuracy", "limit": 0.5, "value": 0.9, "success": True},
    ]
    for page in pages(state("accept") | {"limits": limits}):
        table = next(table for table in page.tables if "limit" in table[0])
        assert table[1:] == [
            ["ROC AUC", "0.9100", "at least 0.95", "✕ broken"],
            ["log loss", "–", "at most 0.25", "✕ broken"],
            ["accuracy", "0.9000", "at least 0.5", "✓ holds"],
        ]
    assert "Absolute limits" not in markdown(state("accept") | {"limits": []}, DATA)


def test_checks_of_the_portable_model_have_units():
    """Observed value and limit carry the unit; a failed check says so."""
    checks = [
        {"check": "parity", "observed": 1.7e-7, "limit": 1e-5, "unit": "", "success": True},
        {"check": "latency", "observed": 31.25, "limit": 20, "unit": "ms", "success": False},
        {"check": "bundle size", "observed": 12000.4, "limit": None, "success": True},
    ]
    for page in pages(state("refuse") | {"checks": checks}):
        assert page.table("check")[1:] == [
            ["parity", "1.7e−07", "1e−05", "✓ passed"],
            ["latency", "31.25 ms", "20 ms", "✕ failed"],
            ["bundle size", "12,000", "–", "✓ passed"],
        ]
    assert "Portable model" not in markdown(state("accept") | {"checks": []}, DATA)


# --- data and lineage -----------------------------------------------------------------------------------------------


def test_only_failed_data_checks_are_listed_critical_first():
    """Passed checks are counted; failed ones show column, rule, observed value and example rows."""
    for page in pages(state("accept")):
        heads, *rows = page.table("column")
        assert heads == ["column", "rule", "severity", "observed", "for example"]
        assert rows == [
            ["diagnosis", "values are in malignant, benign", "✕ critical", "1 other value", "row 3: <b>unclear</b>"],
            ["mean_radius", "values are between 5 and 30", "! warning", "-3.1 to 28.1",
             "row 12: -3.1; row 40: -0.2; row 77: -1; 2 more"],
        ]  # fmt: skip
        assert "569 rows, 32 columns; 1 of 3 checks passed." in page.text


def test_clean_data_is_one_sentence_and_very_dirty_data_is_cut():
    """With every check passed there is no table; of 80 failures 60 are listed and the rest counted."""
    clean = DATA | {"checks": DATA["checks"][:1]}
    for page in pages(state("accept"), clean):
        assert "1 of 1 checks passed." in page.text
        assert "column" not in [table[0][0] for table in page.tables]
    bare = {"column": "", "rule": "r", "severity": "warning", "success": False, "observed": "o", "unexpected_count": 0}
    for page in pages(state("accept"), DATA | {"checks": [bare] * 80}):
        assert len(page.table("column")) == 61
        assert page.table("column")[1] == ["table", "r", "! warning", "o", "–"]
        assert "20 more are in data.json." in page.text


def test_lineage_names_commits_data_and_runs():
    """Commit, data hash, seed, rows and the production version are there; the run is a link."""
    page = Page(html(state("accept"), DATA, RUN | {"dirty": True}, {}))
    lineage = dict(page.table("what")[1:])
    assert lineage["candidate, commit"] == "1" * 40 + " with changes"
    assert lineage["data, SHA-256"] == "d" * 64
    assert lineage["seed"] == "42"
    assert lineage["rows"] == "341 to train on, 228 held out"
    assert lineage["gate"] == "policy “better”, margin 0.01 log loss"
    assert lineage["production"] == "version 3, since 2026-11-02 09:15 UTC"
    assert page.of("a")[0]["href"] == state("accept")["candidate"]["run_url"]
    assert dict(page_of_markdown(markdown(state("accept"), DATA)).table("what")[1:])["data, SHA-256"] == "d" * 64


def test_lineage_says_on_what_shapley_values_rest_or_why_there_are_none():
    """How many rows were explained beside how many; without the library one line says so; older records say nothing."""
    found = {"rows": 100, "background": 16, "of": "malignant", "columns": {"a": 0.1}}
    assert "100 held-out rows beside 16 training rows" in html(evaluation("binary", shapley=found), DATA)
    missing = {"missing": "the package shap is not installed"}
    assert "none: the package shap is not installed" in html(evaluation("binary", shapley=missing), DATA)
    assert "Shapley" not in html(evaluation("binary"), DATA)


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "", "http://a b", "//evil.example"])
def test_only_addresses_of_the_web_become_links(address):
    """A run's address that is not http(s) is left out; its text stays."""
    one = state("accept")
    one["candidate"] = one["candidate"] | {"run_url": address}
    for page in pages(one):
        assert page.of("a") == []
        assert "a" * 32 in page.text


def test_an_address_cannot_leave_its_link():
    """Brackets, bars and quotes in an address are part of it, in a table's cell too."""
    one = state("accept")
    one["candidate"] = one["candidate"] | {"run_url": 'https://mlflow.example/a)|b"><script>'}
    for page in pages(one):
        (link,) = page.of("a")
        assert unquote(link["href"]) == one["candidate"]["run_url"]
        assert page.of("script") == []
        assert len(page.table("what")[1]) == 2


# --- hostile names --------------------------------------------------------------------------------------------------


def named(name):
    """An evaluation and data in which everything that a team may name has this name."""
    one, data = copy.deepcopy(state("refuse")), copy.deepcopy(DATA)
    one["name"] = name
    one["reasons"] = [f"worse on {name}", name]
    one["slices"] = [slice_row(name, 0.1, 0.05, 0.2, worse=True)]
    one["candidate"]["commit"] = one["production"]["commit"] = one["production"]["since"] = name
    data["checks"] = [
        {"column": name, "rule": name, "severity": "critical", "success": False, "observed": name,
         "unexpected_count": 1, "examples": [{"id": name, "row": 1, "value": name}]}
    ]  # fmt: skip
    return one, data


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_shown_letter_by_letter(name):
    """Whatever a column is called, it stands in its own cell as it is, and no table gains or loses a column."""
    one, data = named(name)
    for page in pages(one, data):
        assert page.table("slice")[1][0].replace("\u2060", "") == name
        cells = page.table("column")[1]
        assert (cells[0], cells[1], cells[3], cells[4]) == (name, name, name, f"row 1: {name}")
        for table in page.tables:
            assert len({len(row) for row in table}) == 1
        assert f"worse on {name}" in page.text.replace("\u2060", "")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_adds_no_element(name):
    """The elements of the page are the same as with a harmless name: no image, link, script, emphasis."""
    hostile, harmless = pages(*named(name)), pages(*named("harmless"))
    for with_it, without in zip(hostile, harmless, strict=True):
        # In Markdown a name that could end its code span is an element written out; it is a code element either way.
        assert [tag for tag, _ in with_it.tags] == [tag for tag, _ in without.tags]
        assert [set(attributes) for _, attributes in with_it.tags] == [
            set(attributes) for _, attributes in without.tags
        ]


def test_markdown_mentions_nobody_and_refers_to_nothing():
    """Outside code, a name with @ or # has something between sign and word, for GitHub resolves entities first."""
    text = page_of_markdown(markdown(*named("@someone #12"))).text
    prose = text[text.index("worse on") : text.index("Candidate beside production")]
    assert "@someone" not in prose and "#12" not in prose
    assert "someone" in prose


@pytest.mark.parametrize("reason", ["see http://evil.example now", "see WWW.evil.example", "costs $5$ and $x^2$"])
def test_prose_makes_no_link_and_no_formula_by_itself(reason):
    """GitHub turns bare addresses into links and dollar signs into formulas: neither is left in the source as it is."""
    source = markdown(state("accept") | {"reasons": [reason]}, DATA)
    (line,) = (line for line in source.splitlines() if line.startswith("- "))
    assert not re.search(r"://|www\.|\$", line, flags=re.IGNORECASE)
    assert reason in page_of_markdown(source).text


@pytest.mark.parametrize("reason", ["- a", "1. a", "12) a", "# a", "+ a", "=== a", "    a", "> a", "* a"])
def test_a_reason_cannot_begin_a_block(reason):
    """A reason that begins like a list, heading or quotation stays the text of its line."""
    page = page_of_markdown(markdown(state("accept") | {"reasons": [reason]}, DATA))
    assert len(page.of("li")) == 1
    assert not page.of("h1") and not page.of("ol") and not page.of("blockquote") and not page.of("pre")
    assert reason.strip() in page.text.replace("\u2060", "")


def test_a_reason_is_shown_to_its_end():
    """Only names are cut: a long reason says at its end what to do."""
    reason = "column " + "x" * 400 + " is gone: restore it"
    for page in pages(state("refuse") | {"reasons": [reason]}):
        assert reason in page.text


def test_names_with_control_characters_stay_on_their_line():
    """Line ends, reversed reading direction and lone surrogates are taken out; very long names are cut; none is said."""
    for name, shown in [
        ("a\nb\r\tc", "a b  c"),
        ("a\u202eb", "a b"),
        ("a\ud800b", "a�b"),
        ("x" * 300, "x" * 199 + "…"),
    ]:
        for page in pages(*named(name)):
            assert page.table("slice")[1][0] == shown
        html(*named(name), RUN, {}).encode("utf-8")
    for page in pages(*named("")):
        assert page.table("slice")[1][0] == "(empty)"


# --- the HTML page --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STATES)
def test_html_needs_nothing_from_anywhere(name):
    """No script, no stylesheet or picture of another place; web addresses only where one may click."""
    text = html(state(name), DATA, RUN, {"roc": PNG, "comparison": TALL})
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "form", "base"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for key, found in attributes.items():
            assert not key.startswith("on")
            if key == "src":
                assert found.startswith("data:image/png;base64,")
            elif re.search(r"https?:|//", found or ""):
                assert (tag, key) == ("a", "href")
    assert not re.search(r"url\(|@import|@font-face", text)
    assert "default-src 'none'" in text


def test_html_is_the_same_text_every_time():
    """The page holds no date and no random identifier."""
    assert html(state("accept"), DATA, RUN, {"roc": PNG}) == html(state("accept"), DATA, RUN, {"roc": PNG})


def test_every_picture_has_words_and_wide_ones_get_the_width():
    """Each plot is embedded whole with an alternative text; two panels side by side span the gallery."""
    page = Page(html(state("accept"), DATA, RUN, {"roc": TALL, "confusion_matrix": PNG, "own_plot": TALL}))
    pictures = page.of("img")
    assert [picture["alt"] for picture in pictures] == [
        report.PICTURES["roc"],
        report.PICTURES["confusion_matrix"],
        "own plot",
    ]
    assert [figure["class"] for figure in page.of("figure")] == ["plot", "wide", "plot"]
    assert "Plots" not in Page(html(state("accept"), DATA, RUN, {})).text


def test_first_figures_are_those_that_decide():
    """Above the tables stand the deciding metric of both models and their difference; without production only one."""
    text = Page(html(state("accept"), DATA, RUN, {})).text
    row = next(row for row in state("accept")["metrics"] if row["metric"] == "log_loss")
    for label, key in (("log loss, candidate", "candidate"), ("log loss, production", "production")):
        shown = re.search(rf"{label} (\S+)", text)[1]
        assert value(shown) == pytest.approx(row[key], rel=0.01)
    assert "log loss, production" not in Page(html(state("first"), DATA, RUN, {})).text
    unknown = Page(html(state("first") | {"metric": "gone"}, DATA, RUN, {})).text
    assert "gone, candidate" not in unknown


def test_tables_keep_their_meaning_on_a_phone():
    """Cells carry the head of their column, since a phone shows rows as cards, and the table's roles are named."""
    page = Page(html(state("accept"), DATA, RUN, {}))
    assert all(table["role"] == "table" and table["aria-label"] for table in page.of("table"))
    assert all(cell["data-head"] and cell["role"] == "cell" for cell in page.of("td"))
    heads = {cell["data-head"] for cell in page.of("td")}
    assert {"candidate", "production", "difference", "interval"} <= heads


def brightness(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1])
def test_text_has_contrast_in_light_and_in_dark(theme):
    """Every text colour on every ground it stands on has at least the 4.5 : 1 of WCAG's level AA."""
    style = (TEMPLATES / "report.css").read_text()
    colours = dict(
        re.findall(r"--([\w-]+): (#[0-9a-f]{6})", re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)[theme])
    )
    grounds = {ground: ["page", "card"] for ground in ("ink", "soft", "better", "worse", "warn", "link")}
    grounds["ink"] += ["accept", "keep", "refuse", "notice"]
    grounds["soft"] += ["accept", "keep", "refuse", "notice"]
    grounds["better"].append("accept")
    grounds["worse"].append("refuse")
    grounds["warn"].append("notice")
    for text, under in grounds.items():
        for ground in under:
            low, high = sorted((brightness(colours[text]), brightness(colours[ground])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, f"{text} on {ground}"


# --- plots in Markdown ----------------------------------------------------------------------------------------------


def test_markdown_shows_plots_of_the_web_only():
    """A plot with an address is shown with its words; a path of this machine would be a broken picture."""
    addresses = {"roc": 'https://example.org/roc.png?a=1&b="2', "calibration": "build/plots/calibration.png"}
    page = page_of_markdown(markdown(state("accept"), DATA, addresses))
    (picture,) = page.of("img")
    assert picture == {"src": addresses["roc"], "alt": report.PICTURES["roc"]}
    assert "<details>" not in markdown(state("accept"), DATA, {})


@pytest.mark.parametrize("production", ["bad", None])
def test_copies_of_rows_are_counted_and_said(production):
    """How many rows are distinct, why that matters, and what to set where they are alike by chance."""
    found = evaluation("binary", production=production)
    found |= {"distinct_rows": 31, "slices": [row | {"distinct_rows": 12} for row in found["slices"]]}
    text = markdown(found, DATA)
    assert f"Only 31 of the {found['rows']} rows are distinct" in text
    assert "repeated_rows" in text
    assert (production is None) or f"{found['slices'][0]['rows']} (12 distinct)" in text
    assert "distinct" not in markdown(found | {"distinct_rows": found["rows"], "slices": []}, DATA)


def test_a_best_version_that_could_not_be_compared_is_a_note():
    """Which version, and why; without such a problem there is nothing to say."""
    found = evaluation("binary") | {"best": {"version": "2", "problem": "it needs other columns than the data has"}}
    said = "Version 2, the best so far, could not be compared as well: it needs other columns than the data has."
    assert said in markdown(found, DATA)
    assert said in html(found, DATA, RUN, {})
    compared = found | {"best": {"version": "2", "problem": ""}}
    assert "could not be compared as well" not in markdown(compared, DATA)
