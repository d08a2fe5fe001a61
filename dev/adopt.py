"""Make a copy of the template a project of its own, once, after "Use this template":

    make adopt NAME=churn
    make adopt NAME=churn EXAMPLE=fraud    # with a recipe of examples/ in the place of the example's data and model
    make adopt NAME=churn EXAMPLE=remove   # without any

Removes what only the template needs: dev/, examples/, its tests, its workflow, its history. Resets README, CHANGELOG, CODEOWNERS and the name of the
model, and writes .github/template-version. Nothing is committed. Needs only Python's standard library, but for a recipe whose packages
`make add` then locks; it removes itself.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from dev import recipes
from pipeline.artifacts import ROOT
from pipeline.errors import SettingsError, SlipwayError, edge

# A model's name in MLflow (pipeline/settings.py) that is also a part of an image's name.
NAME = re.compile(r"(?=.{1,100}$)[a-z0-9]+((__?|-+)[a-z0-9]+)*")
VERSION = Path(".github/template-version")
SKELETON = Path("dev/skeleton")
GONE = (
    ".ci",
    ".github/workflows/template.yml",
    "CONTRIBUTING.md",
    "dev",
    "docs/adopt.md",
    "docs/benchmarks.md",
    "docs/comparison.md",
    "docs/decisions",
    "docs/examples.md",
    "examples",
    "requirements/dev.txt",
    "requirements/streams.txt",
    "tests/conftest.py",
    "tests/repository/runbook_commands.py",
    "tests/tools.py",
    *(f"tests/{room}" for room in ("delivery", "dev", "e2e", "example", "monitoring", "pipeline", "preload")),
    *(f"tests/{room}" for room in ("scripts", "serving", "spine")),
    *(
        f"tests/repository/test_{name}.py"
        for name in ("documentation", "house", "recipe_files", "runbooks", "workflow_documents", "workflow_safety")
    ),
)
EXAMPLE = ("data/breast_cancer.csv",)
WITHOUT = ("keep", "remove")  # what EXAMPLE may be besides the name of a recipe
RESET = ("README.md", "CHANGELOG.md", ".github/CODEOWNERS")
OF_EXAMPLE = (
    "data/README.md",
    *(f"project/{name}.py" for name in ("data", "model", "checks")),
    "tests/project/test_project.py",
)
PICTURES = (".svg", ".png", ".gif", ".webp")


@edge
def main(argv: list[str] | None = None) -> None:
    """Change the files and say what was done; raises SlipwayError before anything is changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="", help="the name of the model, such as churn")
    parser.add_argument(
        "--example", default="keep", help="the example's data and model: keep, remove, or a recipe instead"
    )
    options = parser.parse_args(argv)
    refuse(options.name, options.example)
    before, origin = size(), template()
    skeleton = {file: (ROOT / SKELETON / file).read_text(encoding="utf-8") for file in (*RESET, *OF_EXAMPLE)}
    verbs = template_verbs((ROOT / "Makefile").read_text(encoding="utf-8"))
    without_example, recipe = options.example == "remove", None if options.example in WITHOUT else options.example
    packages = recipes.packages(recipe) if recipe else []
    if recipe:
        recipes.lay(recipe, ROOT)
    for path in (*GONE, *(EXAMPLE if without_example else ())):
        remove(ROOT / path)
    for file in (*RESET, *(OF_EXAMPLE if without_example else ())):
        (ROOT / file).write_text(skeleton[file].replace("# NAME", f"# {options.name}"), encoding="utf-8")
    edit("Makefile", without_template_verbs)
    edit("pyproject.toml", lambda text: own_project(text, options.name))
    edit("pipeline.toml", lambda text: with_value(text, "name", r'"[^"\n]*"', f'"{options.name}"'))
    edit(".github/workflows/checks.yml", lambda text: text.replace("requirements: dev\n", "requirements: test\n"))
    if without_example:
        edit("pipeline.toml", without_settings_of_example)
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "data").glob("*.md")]
    for page in pages:
        page.write_text(without_gone(page.read_text(encoding="utf-8"), page, verbs), encoding="utf-8")
    remove_unused_pictures(pages)
    (ROOT / VERSION).write_text(origin, encoding="utf-8")
    report(options.name, before, size(), options.example)
    for package in packages:
        add(package)


def refuse(name: str, example: str) -> None:
    """Raise unless the name fits, the example is known and every file is committed."""
    if not NAME.fullmatch(name):
        raise SettingsError(
            f"NAME={name} cannot name a model" if name else "NAME is missing",
            "choose a name that MLflow and image registries accept, such as `make adopt NAME=churn`: "
            "a-z, 0-9, and single - or _ between them, at most 100",
        )
    if (ROOT / VERSION).exists():
        raise SlipwayError(f"this is a project already: {VERSION} exists", "nothing was changed")
    changed = git("status", "--porcelain").splitlines()
    if changed:
        raise SlipwayError(
            f"{len(changed)} {'file is' if len(changed) == 1 else 'files are'} not committed, such as {changed[0][3:]}",
            "commit or stash them, so that you can review and undo what this command changes",
        )
    recipes.known(example, WITHOUT)


def git(*arguments: str) -> str:
    """What git prints; raises SlipwayError outside of a repository and before its first commit."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SlipwayError(
            f"git {arguments[0]} failed: {done.stderr.strip()}", "run this in a clone of your repository"
        )
    return done.stdout.strip()


def size() -> tuple[int, int]:
    """The number of files that git knows or would add, and of their lines."""
    files = [ROOT / name for name in git("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")]
    there = [path for path in files if path.is_file()]
    return len(there), sum(path.read_bytes().count(b"\n") for path in there)


def template() -> str:
    """The state of the template: its version, and the tree of its files, by which its commit can be found."""
    first = git("rev-list", "--max-parents=0", "HEAD").splitlines()[-1]
    has_it = (
        subprocess.run(["git", "cat-file", "-e", f"{first}:dev/adopt.py"], cwd=ROOT, capture_output=True).returncode
        == 0
    )
    commit = first if has_it else "HEAD"  # "Use this template" copies everything in one commit; a clone has the history
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return (
        "# The state of the template that this project was made from. `git log --format='%H %T'` there finds the commit of the tree.\n"
        f"version: {version}\ntree: {git('rev-parse', f'{commit}^{{tree}}')}\n"
    )


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def edit(file: str, change: Callable[[str], str]) -> None:
    """Rewrite a file."""
    path = ROOT / file
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def without_template_verbs(makefile: str) -> str:
    """The Makefile without the last heading, which has the template's own verbs, and without a word of their tests."""
    kept = re.split(r"^# --- The template's own ", makefile, flags=re.M)[0].rstrip("\n") + "\n"
    return kept.replace(" --ignore=tests/e2e", "")


def template_verbs(makefile: str) -> set[str]:
    """The verbs under that heading."""
    return set(re.findall(r"^([a-z0-9-]+):.*## ", makefile.removeprefix(without_template_verbs(makefile)), re.M))


def own_project(text: str, name: str) -> str:
    """pyproject.toml with the project's name, and without what the template's tests install."""
    text = re.sub(r'^name = ".*"', f'name = "{name}"', text, flags=re.M)
    text = re.sub(
        r'^description = ".*"', f'description = "The model {name}, from data to production."', text, flags=re.M
    )
    return re.sub(r"^(dev|streams) = \[.*?^\]\n", "", text, flags=re.M | re.S)


def without_settings_of_example(text: str) -> str:
    """pipeline.toml without texts, slices, limits and parameters of the example."""
    text = with_value(text, "purpose", '"Shows how a model goes to production.*?"', '""')
    text = with_value(text, "not_for", '"Diagnosis, or any decision about a patient.*?"', '""')
    text = with_value(with_value(text, "target", '"diagnosis"', '"target"'), "positive", '"malignant"', '"yes"')
    text = with_value(text, "slices", r'\["mean_radius"\]', "[]")
    return re.sub(r"^(log_loss = 0\.25|roc_auc = 0\.95|C = 0\.5 .*)\n", "", text, flags=re.M)


def with_value(text: str, key: str, old: str, new: str) -> str:
    """A key with another value; the comment behind it stays in its column."""

    def line(match: re.Match) -> str:
        return f"{key} = {new}  ".ljust(min(len(match[0]), 32)) if match[0].endswith(" ") else f"{key} = {new}"

    return re.sub(rf"^{key} = {old} *", line, text, flags=re.M)


def without_gone(text: str, page: Path, verbs: set[str]) -> str:
    """A page without what is about the template alone, and without links to pages that are gone."""
    text = re.sub(r"^<!-- template -->\n.*?^<!-- /template -->\n+", "", text, flags=re.M | re.S)
    text = re.sub(r"^ +dev(\[| -->).*\n", "", text, flags=re.M)  # in the picture of the rooms
    kept = [
        line for line in text.splitlines(keepends=True) if not (line[:2] in ("| ", "- ") and is_gone(line, page, verbs))
    ]

    def plain(link: re.Match) -> str:
        return link[0] if there(link[2], page) else link[1]

    def sentence(match: re.Match) -> str:
        return match[0] if there(match[1], page) else ""

    # A sentence that begins with such a link says nothing without it.
    text = re.sub(r"(?<=\.) \[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)[^.\n|]*\.", sentence, "".join(kept))
    return re.sub(r"!?\[([^\]]*)\]\(([^)#\s]+)(?:#[^)]*)?\)", plain, text)


def is_gone(line: str, page: Path, verbs: set[str]) -> bool:
    """Whether a row or an item is about a verb, a path, a workflow or a page that is gone."""
    words = re.findall(r"`([^`]+)`", line)
    said = {verb for word in words for verb in re.findall(r"^make ([a-z0-9-]+)", word)}
    paths = any(word.rstrip("/") in GONE or word == "template" for word in words)
    gone = [target for target in re.findall(r"\]\(([^)#\s]+)", line) if not there(target, page)]
    only = len(gone) > 1 and len(gone) == line.count("](")
    return bool(said & verbs) or paths or only or (bool(gone) and line[2:].startswith("["))


def there(target: str, page: Path) -> bool:
    """Whether a link leads somewhere."""
    return "://" in target or target.startswith("../../actions/") or (page.parent / target).exists()


def remove_unused_pictures(pages: list[Path]) -> None:
    """Remove the pictures in docs/ that only pages of the template showed."""
    shown = "".join(page.read_text(encoding="utf-8") for page in pages)
    for path in (ROOT / "docs").rglob("*"):
        if path.suffix in PICTURES and path.name not in shown:
            path.unlink()


def add(package: str) -> None:
    """Have the project's own verb add a package of the recipe: it locks what the model needs."""
    print(f"--- make add PACKAGE={package}", flush=True)
    words = ["make", "--no-print-directory", "add", f"PACKAGE={package}", f"PYTHON={sys.executable}"]
    if subprocess.run(words, cwd=ROOT).returncode:
        raise SlipwayError(
            f"`make add PACKAGE={package}` failed; all else is done", "run it again; its words are above"
        )


def report(name: str, before: tuple[int, int], after: tuple[int, int], example: str) -> None:
    """Print what was done, and what to do next."""
    print(
        f"{name} is a project of its own: {before[0]} files and {before[1]} lines before, {after[0]} and {after[1]} now"
    )
    print(f"removed:  {', '.join(GONE)}")
    print(f"new:      {', '.join(RESET)}, {VERSION}")
    print(
        f"edited:   Makefile, pyproject.toml, pipeline.toml (name = {name!r}), checks.yml, pages that named what is gone"
    )
    if example not in WITHOUT:
        print(f"recipe:   {example} is in project/, data/, tests/project/ and pipeline.toml")
    if example == "remove":
        print(f"example:  {', '.join(EXAMPLE)} removed; {', '.join(OF_EXAMPLE)} say what to write")
        print("next:     write load() and build(), name your columns in pipeline.toml, then `make checks`, `make ship`")
    print("review:   `git status`, then `git add --all && git commit`; `git restore . && git clean -d` undoes it")


if __name__ == "__main__":
    sys.exit(main())
