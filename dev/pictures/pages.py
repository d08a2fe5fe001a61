"""Markdown as a page that looks as on GitHub, as far as our own pages and comments need it."""

from pathlib import Path

from markdown_it import MarkdownIt

STYLE = Path(__file__).parent / "markdown.css"


def document(markdown: str) -> str:
    """A page of the repository. Its pictures and links are relative to where the page is written."""
    return _page(f"<main>{_html(markdown)}</main>")


def comment(markdown: str) -> str:
    """The comment on a pull request, down to its chart, which only GitHub draws."""
    head = _html(markdown.split("```mermaid")[0])
    return _page(f'<div class="comment"><header><b>github-actions</b> commented</header><main>{head}</main></div>')


def _html(markdown: str) -> str:
    return MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(markdown)


def _page(body: str) -> str:
    style = STYLE.read_text(encoding="utf-8")
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><style>{style}</style><body>{body}</body></html>\n'
