"""Documentation that cannot drift: what it names exists, and what exists is named."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "data").glob("*.md")])
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}


def verbs() -> dict[str, str]:
    """The verbs of the Makefile with their help."""
    return dict(re.findall(r"^([a-z0-9-]+):.*?## (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def test_every_verb_is_in_the_readme():
    """A verb of the Makefile that README.md does not name is a verb that nobody finds."""
    named = set(re.findall(r"`make ([a-z0-9-]+)", TEXTS["README.md"]))
    assert set(verbs()) - {"help"} <= named


@pytest.mark.parametrize("page", TEXTS)
def test_every_named_verb_exists(page):
    """A page that says `make x` names a verb of the Makefile."""
    spoken = set(re.findall(r"(?:`|^)make ([a-z0-9-]+)", TEXTS[page], re.M))
    assert spoken <= set(verbs())


def test_words_of_commands_name_existing_verbs():
    """A message that tells the user to run `make x` names a verb that exists."""
    sources = [*ROOT.glob("*.py"), *(ROOT / "pipeline").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    said = {verb for path in sources for verb in re.findall(r"`make ([a-z0-9-]+)", path.read_text(encoding="utf-8"))}
    assert said and said <= set(verbs())


def test_make_alone_lists_every_verb():
    """`make` prints each verb with its line."""
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for verb, words in verbs().items():
        assert f"make {verb} " in listed and words in listed


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_somewhere(page):
    """A relative link or picture leads to a file of the repository."""
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", TEXTS[page]):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), target


def test_every_endpoint_of_the_service_is_in_the_readme():
    """The README's table of the service names each route, and no other."""
    sources = ((ROOT / "serving" / name).read_text(encoding="utf-8") for name in ("rest.py", "hot.py"))
    source = "".join(sources)
    pages = re.findall(r"\"(/[a-z]*)\": \"\w+\.html\"", (ROOT / "serving" / "pages.py").read_text(encoding="utf-8"))
    routes = {*re.findall(r"\"(/[a-z/]+)\"", source), *pages, "/openapi.json"}
    table = TEXTS["README.md"].split("## The service")[1].split("\n## ")[0]
    assert set(re.findall(r"`(?:GET |POST )?(/[a-z/.]*)`", table)) == routes


def test_the_map_names_what_is_there():
    """Each path in the README's map exists, and each folder of the root is in the map."""
    table = TEXTS["README.md"].split("## The map")[1].split("\n## ")[0]
    paths = re.findall(r"^\| `([^`]+)`", table, re.M)
    assert all((ROOT / path).exists() for path in paths)
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    folders = {file.split("/")[0] for file in listed if "/" in file and not file.startswith(".ci/")}
    assert folders == {path.split("/")[0] for path in paths if path.endswith("/")}
