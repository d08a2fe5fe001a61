"""Documentation that cannot drift: what it names exists, and what exists is named."""

import ast
import re
import subprocess
from contextlib import closing
from pathlib import Path

import pandas as pd
from great_expectations import ExpectationSuite, expectations

from serving.access.keys import SCOPES
from serving.config import Config
from serving.counts import findings
from serving.http.endpoints import PATHS
from serving.log.blocks import Prediction
from serving.log.store import Store
from tests.repository.test_house import LAYERS
from tests.repository.test_links import ACTIONS, TEXTS, linked, said_by, verbs

ROOT = Path(__file__).resolve().parents[2]


def test_every_verb_is_documented():
    """docs/verbs.md has a row for each verb of the Makefile; a verb without one is a verb that nobody finds."""
    rows = "".join(re.findall(r"^\| (`make [^|]+) \|", TEXTS["docs/verbs.md"], re.M))
    assert set(re.findall(r"`make ([a-z0-9-]+)", rows)) == set(verbs())


def test_words_of_commands_name_existing_verbs():
    """A message that tells the user to run `make x` names a verb that exists."""
    sources = [
        *ROOT.glob("*.py"),
        *(path for room in ("pipeline", "delivery", "scripts", "dev") for path in (ROOT / room).rglob("*.py")),
    ]
    said = {verb for path in sources for verb in re.findall(r"`make ([a-z0-9-]+)", path.read_text(encoding="utf-8"))}
    assert said and said <= set(verbs())


def test_make_alone_lists_what_people_use_every_day():
    """`make` prints about twenty verbs, and among them the ones that a first day needs."""
    everyday = said_by()
    assert {"ship", "test", "check", "status", "rollback", "help-all"} <= everyday.keys() <= verbs().keys()
    assert len(everyday) <= 25


def test_the_readme_is_read_in_three_minutes():
    """README.md has at most 700 words, with all that is not prose counted too; everything else is in docs/."""
    assert len(TEXTS["README.md"].split()) <= 700


def test_pictures_of_the_readme_are_small():
    """README.md shows pictures of this repository alone, each below 120 kB, besides the badges of GitHub's own workflows."""
    shown = re.findall(r"(?:!\[[^]]*\]\(|src=\"|srcset=\")([^)\"]+)", TEXTS["README.md"])
    own = [picture for picture in shown if not picture.startswith(ACTIONS)]
    assert len(own) >= 6 and not [picture for picture in own if "://" in picture]
    assert not [picture for picture in own if (ROOT / picture).stat().st_size > 120_000]


def test_no_picture_is_left_behind():
    """Each file in docs/pictures/ is shown by README.md or a page of docs/."""
    shown = {((ROOT / page).parent / target).resolve() for page in TEXTS for target in linked(page)}
    assert set((ROOT / "docs" / "pictures").iterdir()) <= shown


def test_the_code_in_the_readme_is_the_example():
    """load() and build() in README.md are those of the shipped example, and its checks run as they stand there."""
    code = ast.parse(re.search(r"```python\n(.+?)```", TEXTS["README.md"], re.S).group(1))
    shown = {function.name: function for function in code.body if isinstance(function, ast.FunctionDef)}
    assert set(shown) == {"load", "build", "expectations"}
    for name, file in (("load", "data.py"), ("build", "model.py")):
        shipped = ast.parse((ROOT / "tests/example/project" / file).read_text(encoding="utf-8"))
        (example,) = [node for node in shipped.body if isinstance(node, ast.FunctionDef) and node.name == name]
        example.body = example.body[1:]  # without its docstring
        assert ast.dump(shown[name]) == ast.dump(example), name
    scope = {"ExpectationSuite": ExpectationSuite, "expect": expectations}
    exec(compile(ast.Module([shown["expectations"]], []), "README.md", "exec"), scope)
    assert scope["expectations"]().expectations[0].column in pd.read_csv(ROOT / "data/breast_cancer.csv", nrows=1)


def test_the_index_names_every_page():
    """docs/README.md links each page of docs/ and those of the root that people read."""
    found = {((ROOT / "docs") / target).resolve().relative_to(ROOT).as_posix() for target in linked("docs/README.md")}
    assert {page for page in TEXTS if page.startswith("docs/")} - {"docs/README.md"} <= found
    assert {"CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"} <= found


def test_the_architecture_names_every_room():
    """docs/architecture.md has a row for each folder of pipeline/, delivery/ and serving/ with Python in it, and for no other."""
    files = [file for room in ("pipeline", "delivery", "serving") for file in (ROOT / room).rglob("*.py")]
    rooms = {file.parent.relative_to(ROOT).as_posix() + "/" for file in files}
    rows = re.findall(r"^\| `((?:pipeline|delivery|serving)/[a-z_/]*)` \|", TEXTS["docs/architecture.md"], re.M)
    assert sorted(rows) == sorted(rooms)


def test_the_architecture_shows_who_may_import_whom():
    """The table in docs/architecture.md is the order of layers that test_house.py holds."""
    table = TEXTS["docs/architecture.md"].split("## Who may import whom")[1].split("\n## ")[0]
    shown = []
    for room, order in reversed(re.findall(r"^\| ([^|]+) \| ([^|]*`[^|]*) \|", table, re.M)):
        before = f"{room[1:-1]}." if room.startswith("`") else ""
        shown += [{before + name for name in re.findall(r"`([^`]+)`", names)} for names in order.split("→")]
    rooms = {"serving", "pipeline", "delivery"}  # as names of the files that stand in the room itself
    assert [names for names in shown if names] == [set(layer) - rooms for layer in LAYERS if set(layer) - rooms]


def test_every_endpoint_of_the_service_is_documented():
    """The first table of endpoints in docs/service.md names each route, and no other."""
    table = TEXTS["docs/service.md"].split("## Endpoints")[1].split("\n## ")[0]
    rows = "".join(re.findall(r"^\|.*$", table, re.M))
    assert set(re.findall(r"`(?:GET |POST )?(/[a-z/.]*)`", rows)) == set(PATHS)


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


def test_every_column_of_the_prediction_log_is_documented(tmp_path):
    """docs/service.md has a row for each column of the log's tables and each field of a request, and for no other."""
    with closing(Store(f"sqlite:///{tmp_path}/log.db")) as store:
        findings.make(store)
        kept = {
            f"Table `{table}`": tuple(name for _, name, *_ in store.query(f"PRAGMA table_info({table})"))
            for table in ("prediction_blocks", "outcomes", "refusals", "experiment_stops", "findings")
        }
    for words, columns in {**kept, "For each request the block has": Prediction._fields}.items():
        text = TEXTS["docs/service.md"].split(words)[1]
        rows = re.findall(r"^\| `([a-z_]+)` \|", text.split("\n\n", 2)[1], re.M)
        assert tuple(rows) == columns


def test_every_scope_is_documented():
    """docs/service.md says what each scope opens."""
    table = TEXTS["docs/service.md"].split("## Keys")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\| `([a-z]+)` \|", table, re.M)) == SCOPES


def test_the_map_names_what_is_there():
    """Each path in the README's map exists, and each folder of the root is in the map."""
    table = TEXTS["README.md"].split("## The map")[1].split("\n## ")[0]
    paths = [path for row in re.findall(r"^\| (`[^|]+) \|", table, re.M) for path in re.findall(r"`([^`]+)`", row)]
    assert all((ROOT / path).exists() for path in paths)
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    folders = {file.split("/")[0] for file in listed if "/" in file and not file.startswith(".ci/")}
    assert folders == {path.split("/")[0] for path in paths if path.endswith("/")}
