"""The comment on a pull request says what the report holds, and nothing that the report names becomes markup."""

import re

import pytest
from markdown_it import MarkdownIt
from pull_requests import CHANGE, plain, report_of

from pipeline.evaluation.wording import in_words
from pipeline.pull_request import comment
from pipeline.pull_request.schema import PullRequest

LINK, HEAD = "https://github.example/o/r/actions/runs/7", "a" * 40
OURS = {"<sub>", "</sub>", "<details>", "<summary>", "</summary>", "</details>", "<code>", "</code>"}


def rendered(found):
    """The comment of a report."""
    return comment.markdown(PullRequest.model_validate(found), LINK, HEAD)


def first_chart(text):
    """The lines of the first Mermaid block."""
    return re.search(r"^```mermaid\n(.*?)\n```$", text, flags=re.M | re.S)[1]


def tokens(text):
    """What a renderer of GitHub's Markdown makes of it, inner tokens too."""
    parsed = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    return [inner for token in parsed for inner in [token, *(token.children or [])]]


def words(text):
    """The comment as read, without markup."""
    return " ".join(token.content for token in tokens(text) if token.type in ("text", "code_inline"))


def shape(text):
    """The order of everything that is markup: two comments of the same report with other names have the same."""
    kinds = [
        token.type for token in tokens(text) if token.type not in ("text", "text_special", "code_inline", "html_inline")
    ]
    return kinds


# --- the verdict ------------------------------------------------------------------------------------------------------


def test_an_accepted_candidate_says_what_a_merge_does():
    """Verdict, next version and the version whose place it takes are in the first lines."""
    text = rendered(plain())
    assert text.startswith("## ✅ Accepted: `breast-cancer`\n")
    assert "registered as version 4" in text and "in the place of version 3" in text
    assert f"]({LINK})" in text and f"`{HEAD[:12]}`" in text


@pytest.mark.parametrize(
    ("candidate", "production", "title", "sentence"),
    [
        ("good", None, "✅ Accepted", "as the first model"),
        ("good", "good", "⏸️ Kept", "nothing changes: version 3 stays in production."),
        ("bad", "good", "❌ Refused", "the delivery would be red, and version 3 stays in production."),
    ],
)
def test_every_verdict_has_its_sentence(candidate, production, title, sentence):
    """First model, keep and refuse say what a merge would do."""
    text = rendered(plain("binary", candidate, production))
    assert title in text.splitlines()[0] and sentence in text


def test_a_failed_stage_is_named_with_what_it_found():
    """Without an evaluation the comment says which verb failed, on what, and that production stays."""
    failed = plain(evaluation=None, failed_stage="validate", failures=["diagnosis: no empty cells; observed: 3"])
    text = rendered(failed)
    assert text.startswith("## ❌ Failed") and "`make validate` failed or did not run" in text
    assert "- diagnosis: no empty cells; observed: 3" in text and "production stays as it is" in text
    assert "Candidate beside production" not in text


def test_an_unreadable_production_is_no_first_model():
    """Where production could not be read, "first model" is never said: the comparison is missing."""
    text = rendered(plain("binary", "good", None, production_unknown=True))
    assert text.startswith("## ⚠️ Not compared") and "could not be read" in text and "first model" not in text
    refused = plain("binary", "good", None, production_unknown=True)
    refused["evaluation"] |= {"verdict": "refuse", "reasons": ["roc_auc 0.4 is below the limit 0.95"]}
    text = rendered(refused)
    assert text.startswith("## ❌ Refused") and "roc_auc 0.4" in text and "would be red" in text


# --- what was found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_each_metric_has_its_row(task):
    """Every metric is in the table, beside production, with its interval."""
    found = plain(task)
    text = rendered(found)
    for row in found["evaluation"]["metrics"]:
        line = next(line for line in text.splitlines() if line.lstrip("| *").startswith(in_words(row["metric"])))
        assert line.count("|") == 7


REPLAY = {
    "note": "", "days": 7, "rows": 1234, "refused": 3, "agreement": 0.98, "outcomes": 500, "subjects": 90, "metric": "log_loss",
    "higher_is_better": False, "candidate": 0.1, "production": 0.2, "difference": -0.1, "lower": -0.15, "upper": -0.05,
}  # fmt: skip


def test_a_replay_has_a_section():
    """Rows, agreement and the difference with its interval; without outcomes no table, and with a note that alone."""
    text = rendered(plain(replay=REPLAY))
    assert "asked 1,234 rows of the last 7 days: 98.0 % of the answers are the same." in text
    assert "no answer to 3 more" in text and "−0.1500 to −0.0500 | ▲ better" in text and "90 subjects" in text
    none = dict.fromkeys(("candidate", "production", "difference", "lower", "upper", "subjects"))
    assert "No outcome of these rows has come yet." in rendered(plain(replay=REPLAY | none | {"outcomes": 0}))
    noted = rendered(plain(replay=REPLAY | none | {"note": "The rows were not replayed: <b>no</b> log"}))
    assert "The rows were not replayed" in noted and "<b>" not in noted and "1,234" not in noted
    assert "On the rows that production answered" not in rendered(plain())


def test_the_chart_has_two_bars_for_each_metric_between_0_and_1():
    """Names, values of production and values of the candidate are three lists of one length; rmse stays out."""
    text = first_chart(rendered(plain("regression")))
    assert "R²" in text and "RMSE" not in text
    text = first_chart(rendered(plain()))
    names = re.findall(r'"([^"]+)"', re.search(r"x-axis \[(.*)\]", text)[1])
    bars = [found.split(", ") for found in re.findall(r"bar \[(.*)\]", text)]
    assert len(names) == len(set(names)) == len(bars[0]) == len(bars[1]) and len(bars) == 2
    assert all((one == "-1.0000") != (two == "-1.0000") for one, two in zip(*bars, strict=True))


def test_moved_columns_get_a_chart_and_words():
    """A column from 0.1 is in a chart of its own and marked in the table; below there is no chart."""
    text = rendered(plain())
    assert "### Data that has moved" in text and "PSI by column" in text
    assert "| `mean_radius` | 0.310 | ▲ moved far | 0.0 % | 2.0 % |" in text
    assert "| `mean_area` | 0.120 | △ moved |" in text and "| `worst_area` | 0.010 | · as before |" in text
    still = plain()
    still["data"]["change"]["drift"] = CHANGE["drift"][2:]
    assert "PSI by column" not in rendered(still)


def test_rows_are_compared_as_far_as_they_are_known():
    """More, fewer, as many, the very same, or not known: each is a sentence of its own."""
    for change, sentence in (
        ({}, "40 more than the 529 of version 3; which ones is not known."),
        ({"rows_before": 600}, "31 fewer than the 600"),
        ({"rows_before": 569}, "As many as the 569"),
        ({"rows_before": None}, "is not known"),
        ({"same": True, "rows_added": 0, "rows_removed": 0}, "no row added, none removed"),
    ):
        found = plain()
        found["data"]["change"] |= change
        assert sentence in words(rendered(found))
    assert "Columns that are new: age." in words(rendered(plain()))


def test_labels_that_look_alike_are_told_apart():
    """A chart takes two bars of one name for one: they get numbers."""
    assert comment.labels(["a|b", "a<b", "a_b", "a b 2", ""]) == ['"a b"', '"a b 2"', '"a b 3"', '"a b 2 2"', '"?"']
    assert len(set(comment.labels(["x" * 50 + str(place) for place in range(9)]))) == 9


# --- too much ---------------------------------------------------------------------------------------------------------


def test_a_comment_is_cut_between_sections_with_a_note():
    """However much a report holds, the comment stays below the limit, and no table or fence is cut in two."""
    found = plain()
    name = "`|<&" * 30
    found["evaluation"]["slices"] = [found["evaluation"]["slices"][0] | {"slice": name}] * 60
    found["data"]["change"]["drift"] = [CHANGE["drift"][0] | {"column": name}] * 60
    found["data"]["failed"] = [
        {"column": name, "rule": name, "severity": "critical", "observed": name} for _ in range(20)
    ]
    text = rendered(found)
    assert len(text) <= comment.MOST and "sections are left out" in text and LINK in text
    assert text.count("```") % 2 == 0 and text.count("<details>") == text.count("</details>")
    assert all(line.endswith("|") for line in text.splitlines() if line.startswith("|"))


def test_the_largest_allowed_report_is_still_a_comment():
    """With every list and text as long as it may be, and made of what takes the most room, verdict and link stay."""
    found = plain()
    text = "&" * 400
    found["evaluation"]["reasons"] = [text] * 20
    metric = found["evaluation"]["metrics"][0] | {"metric": "&" * 120}
    found["evaluation"]["metrics"] = [metric] * 60
    made = rendered(found)
    assert len(made) <= comment.MOST and made.startswith("## ✅ Accepted") and LINK in made


# --- hostile names ----------------------------------------------------------------------------------------------------

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '<a href="https://evil.example">x</a>',
    "</details></td></table><h1>x",
    "<!-- hidden",
    "<details open>",
    "&lt;script&gt; &#60;b&#62;",
    "[click](https://evil.example)",
    "[click][1]",
    "[1]: https://evil.example",
    "![x](https://evil.example/x.png)",
    "[^1]",
    "<https://evil.example>",
    "https://evil.example",
    "HTTP://EVIL.EXAMPLE/x",
    "www.evil.example",
    "mail someone@evil.example",
    "@octocat @octo/team",
    "#12 octo/repo#12 GH-12",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "::error file=x::y",
    "::set-output name=number::1",
    "##[group]x",
    "```",
    "~~~~",
    "`` ` ``",
    "```mermaid graph TD; A-->B",
    "x | y | z |",
    "\\| \\\\| \\",
    "# heading",
    "=====",
    "-----",
    "- [ ] task",
    "1. one",
    "1) one",
    "> quote [!CAUTION]",
    "**bold** __bold__ *it* _it_ ~~no~~",
    "$x^2$ $`x`$",
    "%%{init: {'securityLevel': 'loose'}}%%",
    '"] click A "https://evil.example"',
    "x-axis [1] bar [2] end",
    "    indented",
    "{{ secrets.X }} ${{ secrets.X }}",
    "javascript:alert(1)",
]


def named(attack):
    """A report in which everything that may hold text holds this."""
    found = plain(failed_stage="train", failures=[attack], link=attack)
    evaluation, data = found["evaluation"], found["data"]
    evaluation |= {"reasons": [attack], "metric": attack}
    evaluation["comparison"]["metric"] = attack
    evaluation["production"]["since"] = attack
    for rows, key in (("metrics", "metric"), ("slices", "slice"), ("limits", "metric"), ("checks", "check")):
        for row in evaluation[rows]:
            row[key] = attack
    evaluation["checks"][0]["unit"] = attack
    change = data["change"] | {"columns_added": [attack], "columns_removed": [attack]}
    change["drift"] = [one | {"column": attack} for one in change["drift"]]
    failed = [one | {"column": attack, "rule": attack, "observed": attack} for one in data["failed"]]
    found["data"] = data | {"change": change, "failed": failed}
    return found


@pytest.mark.parametrize("reasons", [False, True])
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_of_a_report_becomes_markup(attack, reasons):
    """Links, pictures, HTML, tables, fences, lists, headings: the comment has exactly those of a harmless name."""
    hostile, harmless = named(attack), named("harmless")
    if reasons:
        hostile["failed_stage"] = harmless["failed_stage"] = None
    text = rendered(hostile)
    found = tokens(text)
    assert shape(text) == shape(rendered(harmless))
    assert [token.attrs["href"] for token in found if token.type == "link_open"] == [LINK]
    assert not [token for token in found if token.type == "image"]
    inline = [token.content for token in found if token.type == "html_inline"]
    blocks = [token.content for token in found if token.type == "html_block"]
    tags = [*inline, *(tag for block in blocks for tag in re.findall(r"<[^>]*>", block))]
    assert set(tags) <= OURS


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_github_itself_would_link_is_broken_up(attack):
    """Outside of code no mention, issue, commit or address is left in one piece, as GitHub looks for them in the text."""
    shown = [token.content for token in tokens(rendered(named(attack))) if token.type == "text"]
    text = "\n".join(shown).replace(LINK, "")
    assert not re.search(r"(?<!\w)@\w|#\d|GH-\d|\b[0-9a-f]{7,40}\b", text, flags=re.IGNORECASE)
    # An entity stands in the source where an address would begin, so no plain "://" is there to be found.
    source = rendered(named(attack)).replace(LINK, "").replace(f"`{attack}`", "")
    source = re.sub(r"^```mermaid\n.*?\n```$", "", source, flags=re.M | re.S)
    assert not re.search(r"://|www\.", source, flags=re.IGNORECASE)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_chart_holds_only_its_own_words(attack):
    """In a Mermaid block each line is of one of our seven forms, whatever a column is called."""
    form = re.compile(
        r'(%%\{init: \{"xyChart": \{"width": \d+, "height": \d+\}, '
        r'"themeVariables": \{"xyChart": \{"plotColorPalette": "[#0-9a-f, ]+"\}\}\}\}%%'
        r'|xychart-beta horizontal|    title "[^"]*"|    x-axis \[("[\w .,…?²-]+"(, )?)+\]'
        r"|    y-axis [\d.]+ --> [\d.]+|    bar \[[-\d., ]+\])"
    )
    blocks = re.findall(r"^```mermaid\n(.*?)\n```$", rendered(named(attack)), flags=re.M | re.S)
    assert len(blocks) == 2
    for line in "\n".join(blocks).splitlines():
        assert form.fullmatch(line), line


def test_the_link_of_the_report_is_not_used():
    """Only what GitHub says is linked: the report's own address is ignored."""
    assert "evil.example" not in rendered(plain(link="https://evil.example/runs/1"))


def test_extreme_numbers_are_numbers_in_a_cell():
    """The largest and smallest numbers that a report may hold break nothing."""
    found = plain()
    for key, value in (("candidate", 1.7e308), ("production", -1.7e308), ("difference", 5e-324), ("lower", None)):
        for rows in ("metrics", "slices"):
            for row in found["evaluation"][rows]:
                row[key] = value
    found["evaluation"]["comparison"] |= {"difference": 1e308, "detectable": 1e-308}
    found["data"]["change"]["drift"][0]["psi"] = 1.7e308
    text = rendered(found)
    assert "1.70e+308" in text and len(text) <= comment.MOST


def test_a_report_alone_makes_a_comment_without_data():
    """Where neither data nor evaluation is known, there is still a comment."""
    text = comment.markdown(report_of(evaluation=None, data=None, failed_stage="validate"), "", None)
    assert "make validate" in text and "None" not in text
