"""The commands of the runbooks."""

import re

from tests.repository.test_links import ROOT

RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))


def commands(text: str) -> list[str]:
    """The lines of all code blocks of a page, in order."""
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.M | re.S)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def all_commands() -> list[str]:
    """The commands of all runbooks, each once."""
    return list(dict.fromkeys(line for page in RUNBOOKS for line in commands(page.read_text(encoding="utf-8"))))
