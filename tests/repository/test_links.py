"""Pages, links and verbs: what a page or `make` names exists. Also a part of projects made from the template."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "data").glob("*.md")])
ACTIONS = "../../actions/workflows/"  # from the page of a repository, GitHub's pages of its workflows
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}


def linked(page: str) -> list[str]:
    """What a page links to or shows, within the repository."""
    found = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)|(?:src|srcset)=\"([^\"]+)\"", TEXTS[page])
    return [target for pair in found for target in pair if target and "://" not in target]


def verbs() -> dict[str, str]:
    """The verbs of the Makefile with their help."""
    return dict(re.findall(r"^([a-z0-9-]+):.*?## (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def said_by(*command: str) -> dict[str, str]:
    """The verbs that a help lists, with their lines."""
    listed = subprocess.run(["make", *command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^  make ([a-z0-9-]+) +(.+)$", listed, re.M))


@pytest.mark.parametrize("page", TEXTS)
def test_every_named_verb_exists(page):
    """A page that says `make x` names a verb of the Makefile."""
    spoken = set(re.findall(r"(?:`|^)make ([a-z0-9-]+)", TEXTS[page], re.M))
    assert spoken <= set(verbs())


def test_make_help_all_lists_every_verb():
    """`make help-all` prints each verb with its line."""
    assert said_by("help-all") == verbs()


def test_no_verb_is_taken_for_a_file():
    """Each verb is declared phony: a file or folder of its name does not keep it from running."""
    declared = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert set(" ".join(declared).split()) == set(verbs())


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_somewhere(page):
    """A relative link or picture leads to a file of the repository, and a link to GitHub Actions to a workflow's file."""
    for target in linked(page):
        if not target.startswith(ACTIONS):
            assert ((ROOT / page).parent / target).exists(), target
        else:
            assert (ROOT / ".github/workflows" / target.removeprefix(ACTIONS).removesuffix("/badge.svg")).exists(), (
                target
            )
