"""A page of results in two forms: Markdown for GitHub, and one HTML file that needs nothing else.

Both are templates/report.* with the same sections in them. What a team named (columns, classes, slices) is text, never markup.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline.evaluation import github_markdown
from pipeline.evaluation.findings import Headline, Link, Name, Section
from pipeline.evaluation.wording import Mark, clean, in_words

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
WIDE = 800  # pixels: more than half of the page can show
TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Page:
    """What a page says: a verdict in a `tone` of the style sheet, why, the figures that one wants first, and the rest.

    A tile is what a figure is, the figure, and a word on it. `pictures` has the words for each plot by its name.
    """

    name: str
    tone: str
    head: Headline
    reasons: Sequence[str]
    sections: Sequence[Section]
    pictures: Mapping[str, str]
    tiles: Sequence[tuple[str, str, str]] = ()


def markdown(page: Page, plots: Mapping[str, str] | None = None) -> str:
    """The page for a pull request or a job's summary; `plots` maps a plot's name to its address."""
    pictures = {name: address for name, address in (plots or {}).items() if github_markdown.web(address)}
    return (
        github_markdown.environment()
        .get_template("report.md")
        .render(
            page=page,
            pictures=[(escape(address), escape(_words(page, name))) for name, address in pictures.items()],
        )
    )


def html(page: Page, plots: Mapping[str, bytes] | None = None) -> str:
    """The page as one file: no script, nothing from another host; `plots` maps a plot's name to its PNG.

    A plot that a section names stands there; the others stand together at the end.
    """
    pictures = {name: _picture(_words(page, name), png) for name, png in (plots or {}).items()}
    placed = {name for section in page.sections for name in section.plots}
    return (
        _environment()
        .get_template("report.html")
        .render(
            page=page,
            policy=Markup(POLICY),
            style=Markup(TEMPLATES.joinpath("report.css").read_text(encoding="utf-8")),
            sections=[
                (section, [pictures[name] for name in section.plots if name in pictures]) for section in page.sections
            ],
            others=[picture for name, picture in pictures.items() if name not in placed],
        )
    )


@cache
def _environment() -> Environment:
    """How texts get into the HTML page: escaped, on one line, never endless."""
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else clean(value),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.tests |= {
        "mark": lambda cell: isinstance(cell, Mark),
        "link": lambda cell: isinstance(cell, Link),
        "name": lambda cell: isinstance(cell, Name),
        "web": github_markdown.web,
    }
    found.filters["short"] = lambda name: clean(name, github_markdown.NAME_LENGTH) or "(empty)"
    return found


def _picture(words: str, png: bytes) -> dict[str, str]:
    """A plot in the page: its words, itself, and the room that it takes."""
    # A PNG's size stands at the same place in every one: panels side by side need the whole width.
    across, down = (int.from_bytes(png[at : at + 4]) for at in (16, 20))
    source = Markup(f"data:image/png;base64,{base64.b64encode(png).decode()}")
    return {"words": words, "source": source, "width": "wide" if across > min(1.4 * down, WIDE) else "plot"}


def _words(page: Page, name: str) -> str:
    return page.pictures.get(name, in_words(name))
