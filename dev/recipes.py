"""The recipes in examples/: each has the few files that a project writes, and of pipeline.toml only what it sets itself.

Needs only Python's standard library, because `make adopt` runs before anything is installed.
"""

import re
import shutil
from pathlib import Path

from pipeline.artifacts import ROOT
from pipeline.errors import SettingsError

EXAMPLES = ROOT / "examples"
SETTINGS, PACKAGES = "pipeline.toml", "packages.txt"
# What a recipe replaces as a whole: the template's own example would be left in it otherwise.
REPLACED = ("project", "data", "tests/project")
# Tables whose keys are the team's own.
OPEN = ("train.parameters", "gate.limits", "monitor.limits", "monitor.tolerances", "search.space")
TABLE = re.compile(r"^\[([\w.]+)\]")
SETTING = re.compile(r'^(\w+) = ("(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^#\s]+) *(#.*)?$')
COLUMN = 32  # where comments begin in pipeline.toml


def names() -> list[str]:
    """The recipes that there are."""
    return sorted(path.parent.name for path in EXAMPLES.glob(f"*/{SETTINGS}"))


def known(name: str, besides: tuple[str, ...] = ()) -> str:
    """The name, if it is a recipe's or one of those `besides`; raises SettingsError that lists them."""
    allowed = (*names(), *besides)
    if name not in allowed:
        raise SettingsError(
            f"EXAMPLE={name} is no recipe" if name else "EXAMPLE is missing",
            f"choose one of {', '.join(allowed)}; docs/examples.md says what each recipe shows",
        )
    return name


def packages(name: str) -> list[str]:
    """What a recipe needs besides the template's packages, one requirement each."""
    path = EXAMPLES / name / PACKAGES
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line for line in lines if line and not line.startswith("#")]


def lay(name: str, folder: Path) -> None:
    """Put a recipe's files into a copy of the template, in the place of the example's; its settings into pipeline.toml."""
    recipe = EXAMPLES / name
    own = (recipe / SETTINGS).read_text(encoding="utf-8")
    template = (folder / SETTINGS).read_text(encoding="utf-8")
    for room in REPLACED:
        shutil.rmtree(folder / room, ignore_errors=True)
        shutil.copytree(recipe / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "project" / "__init__.py").touch()
    (folder / SETTINGS).write_text(with_settings(template, own), encoding="utf-8")


def with_settings(template: str, own: str) -> str:
    """pipeline.toml with a recipe's values in their places.

    A comment of the recipe takes the place of the template's, which stays otherwise. Of the tables in OPEN the recipe's lines
    alone remain. `positive` becomes a comment where the task has no positive class. Raises ValueError for a setting that the
    template has not.
    """
    lines = template.splitlines()
    for table, given in _tables(own).items():
        if table in OPEN:
            begin = _place(lines, table) + 1
            end = next((at for at in range(begin, len(lines)) if not lines[at].strip()), len(lines))
            lines[begin:end] = given
            continue
        for line in filter(SETTING.match, given):
            at = _place(lines, table, line.split(" = ")[0])
            lines[at] = _with_comment(line, lines[at])
    text = "\n".join(lines) + "\n"
    binary = re.search(r'^task = "binary"', text, re.M)
    return text if binary else re.sub(r'^positive = "[^"]*" *', '# positive = "yes"'.ljust(COLUMN), text, flags=re.M)


def _tables(text: str) -> dict[str, list[str]]:
    """The lines of each table that are not empty; those before the first table are under ""."""
    tables: dict[str, list[str]] = {"": []}
    name = ""
    for line in text.splitlines():
        if head := TABLE.match(line):
            name = head[1]
            tables[name] = []
        elif line.strip():
            tables[name].append(line)
    return tables


def _place(lines: list[str], table: str, key: str | None = None) -> int:
    """Where a table begins, or a key of it stands."""
    here = ""
    for at, line in enumerate(lines):
        if head := TABLE.match(line):
            here = head[1]
            if here == table and key is None:
                return at
        elif here == table and key and line.startswith(f"{key} = "):
            return at
    raise ValueError(f"pipeline.toml has no {f'[{table}] ' if table else ''}{key or ''}".rstrip())


def _with_comment(own: str, template: str) -> str:
    mine, theirs = SETTING.match(own), SETTING.match(template)
    assert mine
    comment = mine[3] or (theirs[3] if theirs else "")
    setting = f"{mine[1]} = {mine[2]}"
    return f"{setting:<{COLUMN - 2}}  {comment}" if comment else setting
