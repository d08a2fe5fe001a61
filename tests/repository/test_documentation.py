"""Documentation that cannot drift: what it names exists, and what exists is named."""

import re
import subprocess
from pathlib import Path

import pytest

from serving import app
from serving.access.keys import SCOPES
from serving.config import Config
from serving.http.fast_path import FastPath
from serving.log.store import Outcome, Prediction

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
    sources = [
        *ROOT.glob("*.py"),
        *(path for room in ("pipeline", "delivery", "scripts", "dev") for path in (ROOT / room).rglob("*.py")),
    ]
    said = {verb for path in sources for verb in re.findall(r"`make ([a-z0-9-]+)", path.read_text(encoding="utf-8"))}
    assert said and said <= set(verbs())


def said_by(*command: str) -> dict[str, str]:
    """The verbs that a help lists, with their lines."""
    listed = subprocess.run(["make", *command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^  make ([a-z0-9-]+) +(.+)$", listed, re.M))


def test_make_help_all_lists_every_verb():
    """`make help-all` prints each verb with its line."""
    assert said_by("help-all") == verbs()


def test_make_alone_lists_what_people_use_every_day():
    """`make` prints about twenty verbs, and among them the ones that a first day needs."""
    everyday = said_by()
    assert {"ship", "test", "check", "status", "rollback", "help-all"} <= everyday.keys() <= verbs().keys()
    assert len(everyday) <= 25


def test_no_verb_is_taken_for_a_file():
    """Each verb is declared phony: a file or folder of its name does not keep it from running."""
    declared = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert set(" ".join(declared).split()) == set(verbs())


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_somewhere(page):
    """A relative link or picture leads to a file of the repository."""
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", TEXTS[page]):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), target


def test_every_endpoint_of_the_service_is_in_the_readme():
    """The tables of README.md and docs/service.md name each route, and no other."""
    routes = {*FastPath.PATHS, *app.PATHS, *app.PAGES}
    for page, heading in (("README.md", "## The service"), ("docs/service.md", "## Endpoints")):
        table = TEXTS[page].split(heading)[1].split("\n## ")[0]
        rows = "".join(re.findall(r"^\|.*$", table, re.M))
        assert set(re.findall(r"`(?:GET |POST )?(/[a-z/.]*)`", rows)) == routes, page


def test_every_variable_of_the_service_is_documented():
    """docs/service.md has a row for each SLIPWAY_ variable that serving/ reads, with its default, and for no other."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "serving").rglob("*.py"))
    read = set(re.findall(r"\"(SLIPWAY_[A-Z_]+)\"", sources))
    table = TEXTS["docs/service.md"].split("## Settings")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(SLIPWAY_[A-Z_]+)` \| ([^|]+) \|", table, re.M))
    assert len(read) >= 6 and set(rows) == read
    defaults = Config(open=True)
    assert rows["SLIPWAY_RATE_LIMIT"] == f"{defaults.rate_limit:g}"
    assert rows["SLIPWAY_RATE_LIMIT_BYTES"] == f"{defaults.rate_limit_bytes:.0f}"
    assert rows["SLIPWAY_LOG_RETENTION_DAYS"] == f"{defaults.retention_days:g}"
    assert rows["SLIPWAY_REQUEST_LOG"] == ("`on`" if defaults.request_log else "`off`")


def test_every_column_of_the_prediction_log_is_documented():
    """docs/service.md has a row for each column of both tables, and for no other."""
    for table, columns in (
        ("predictions", (*Prediction._fields, "model", "model_version")),
        ("outcomes", Outcome._fields),
    ):
        text = TEXTS["docs/service.md"].split(f"Table `{table}`")[1]
        rows = re.findall(r"^\| `([a-z_]+)` \|", text.split("\n\n", 2)[1], re.M)
        assert tuple(rows) == columns


def test_every_scope_is_documented():
    """docs/service.md says what each scope opens."""
    table = TEXTS["docs/service.md"].split("## Keys")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\| `([a-z]+)` \|", table, re.M)) == SCOPES


def test_the_map_names_what_is_there():
    """Each path in the README's map exists, and each folder of the root is in the map."""
    table = TEXTS["README.md"].split("## The map")[1].split("\n## ")[0]
    paths = re.findall(r"^\| `([^`]+)`", table, re.M)
    assert all((ROOT / path).exists() for path in paths)
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    folders = {file.split("/")[0] for file in listed if "/" in file and not file.startswith(".ci/")}
    assert folders == {path.split("/")[0] for path in paths if path.endswith("/")}
