"""What a template of Markdown makes of a text: a harmless sentence, whoever wrote it and however it is put in."""

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from pipeline.evaluation import github_markdown
from pipeline.evaluation.findings import Section, Table

HOSTILE = "<b>x</b> | [a](http://evil.example) @you #1 `c` $y$"


@pytest.mark.parametrize(
    "template", ["{{ text }}", "{% for one in [text] %}{{ one }}{% endfor %}", "{{ text | string }}"]
)
def test_a_text_is_harmless_by_default(template):
    """A template that says no more than which text goes where cannot make it markup."""
    shown = github_markdown.environment().from_string(template).render(text=HOSTILE)
    assert shown == github_markdown.prose(HOSTILE) and "<b>" not in shown and "://" not in shown


def test_only_what_is_marked_as_markup_is_left_as_it_is():
    """A link that we made ourselves stays one, also at the start of a line."""
    link = Markup("[ours](https://example.org)")
    for template in ("{{ link }}", "{{ link | line }}"):
        assert github_markdown.environment().from_string(template).render(link=link) == link


def test_a_name_that_a_template_misspells_is_an_error():
    """A page with a hole in it would not be noticed."""
    with pytest.raises(UndefinedError):
        github_markdown.environment().from_string("{{ txet }}").render(text="x")


def test_no_text_begins_a_block():
    """Pages are cut between blocks, and a text that holds the sign of a cut stays within its own."""
    page = github_markdown.environment().from_string("one{{ cut }}{{ text }}").render(text=f"a{github_markdown.CUT}b")
    assert github_markdown.blocks_of(page) == ["one", "a b"]


def test_a_section_is_its_heading_sentences_table_and_notes():
    """In this order, with an empty line between."""
    table = Table(("what", "value"), [("a", "1"), ("b", "2")], strong=0)
    assert github_markdown.section(Section("Head", ["A sentence."], table, ["One.", "Two."])) == (
        "### Head\n\nA sentence.\n\n| what | value |\n| :-- | --: |\n| **a** | 1 |\n| b | 2 |\n\n<sub>One. Two.</sub>\n\n"
    )
