"""Markdown for GitHub and MLflow, of templates into which every text goes as text: it becomes no markup, mention, link or formula.

In a template `{{ text }}` is a harmless sentence without more ado; `| line` is one at the start of a line, `| code` a name letter by letter,
`| cell` a cell of a table. What is wrapped in Markup is left as it is.
"""

import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.evaluation.findings import Cell, Link, Name, Section, Table
from pipeline.evaluation.wording import Mark, clean

TEMPLATES = Path(__file__).with_name("templates")
NAME_LENGTH = 200  # characters of a name that are shown
CUT = "\f"  # stands between two blocks of a page; no text can hold one, for `clean` takes it out


# --- templates ---


@cache
def environment(folder: Path = TEMPLATES) -> Environment:
    """Where templates of a folder, and those of the report, are found, and how texts get into them."""
    found = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        finalize=_harmless,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "code": lambda text: Markup(code(text)),
        "line": lambda text: text if isinstance(text, Markup) else Markup(line_of(text)),
        "cell": lambda value: Markup(_cell(value)),
    }
    found.globals["cut"] = Markup(CUT)
    return found


def _harmless(value: object) -> Markup:
    return value if isinstance(value, Markup) else Markup(prose(str(value)))


def section(one: Section) -> str:
    """A section with its heading."""
    return environment().get_template("sections.md").module.section(one)  # type: ignore[attr-defined]


def table(one: Table) -> str:
    """The lines of a table."""
    return environment().get_template("sections.md").module.table(one)  # type: ignore[attr-defined]


def blocks_of(page: str) -> list[str]:
    """The blocks of a page that are not empty."""
    return [block for block in page.split(CUT) if block.strip()]


def _cell(value: Cell) -> str:
    match value:
        case Mark():
            return f"{prose(value.sign)} {prose(value.word)}"
        case Link() if web(value.address):
            return f"[{code(value.text)}]({_address(value.address)})"
        case Link():
            return code(value.text)
        case Name():
            return code(value)
        case _:
            return prose(value)


# --- texts that stay texts ---


def code(text: str) -> str:
    """A code span; as entities where a backtick, bar or backslash could end the span or the cell."""
    text = clean(text, NAME_LENGTH) or "(empty)"
    return f"<code>{_entities(text)}</code>" if re.search(r"[`|\\]", text) else f"`{text}`"


def _entities(text: str) -> str:
    """Every ASCII character that Markdown or HTML could act on, as an entity: those never make structure."""
    return re.sub(r"[^\w ]", lambda found: f"&#{ord(found[0])};" if found[0].isascii() else found[0], text).replace(
        "_", "&#95;"
    )


# Emphasis, code, links, HTML, formulas; mentions and references; addresses that would become links by themselves.
# GitHub also links GH-12 and the hash of a commit.
ACTIVE = re.compile(
    r"[\\`*\[\]<>&|~$]|(?<![^\W_])_|_(?![^\W_])|[@#](?=\w)|(?<=www)\.|:(?=//)|(?<=\bGH)-(?=\d)"
    r"|(?<![\w.,])[0-9a-f]{7,40}\b",
    flags=re.IGNORECASE,
)


def prose(text: str) -> str:
    """A sentence that stays one: no part of it becomes markup, a mention, a reference or a link."""

    def harmless(found: re.Match) -> str:
        # GitHub looks for mentions after entities are resolved, so something must stand in between.
        if len(found[0]) > 1:
            return "\N{WORD JOINER}".join(re.findall(".{1,6}", found[0]))
        return f"&#{ord(found[0])};" + ("\N{WORD JOINER}" if found[0] in "@#-" else "")

    return ACTIVE.sub(harmless, clean(text))


def line_of(text: str) -> str:
    """Prose at the start of a line, where a dash or a number would begin a list."""
    return re.sub(r"^([-+#=]|\d+(?=[.)]))", r"\1&#8288;", prose(text))


def web(address: str) -> bool:
    """Only an address of the web may be followed or loaded: never javascript:."""
    return re.match(r"https?://[^\s]+$", address, flags=re.IGNORECASE) is not None


def _address(address: str) -> str:
    """An address that can end neither a Markdown link nor the cell it is in."""
    return re.sub(r"[()<>\[\]|\\`\"]", lambda found: f"%{ord(found[0]):02X}", address)
