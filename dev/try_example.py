"""Ship a recipe of examples/ in a copy of the repository, ask it for a prediction, and remove the copy:

    make try EXAMPLE=fraud
    make try EXAMPLE=fraud ARGS=--keep    # it serves on; the copy stays in build/try/fraud

The copy has the repository's files as they are now, committed or not, ports and MLflow of its own, and its release runs as a process.
Packages that the recipe needs besides are added to the copy alone.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

from delivery.drill.ports import replace_ports
from dev import recipes
from pipeline.artifacts import BUILD, ROOT
from pipeline.errors import SlipwayError, edge

AUTHOR = ["-c", "user.name=recipe", "-c", "user.email=recipe@example.com"]


@edge
def main(argv: list[str] | None = None) -> None:
    """Ship the recipe; raises SlipwayError with the command that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--example", default="", help="the recipe, such as fraud")
    parser.add_argument("--keep", action="store_true", help="let it serve on, and keep the copy")
    options = parser.parse_args(argv)
    name = recipes.known(options.example)
    folder = BUILD / "try" / name
    end(folder)
    copy(folder)
    recipes.lay(name, folder)
    prepare(folder, recipes.packages(name))
    try:
        make(folder, "ship")
        ask(folder)
        if options.keep:
            print(f"it serves on; `cd {folder.relative_to(ROOT)} && make stop` ends it")
    finally:
        if not options.keep:
            end(folder)
    print(f"the recipe {name} works")


def copy(folder: Path) -> None:
    """Copy what git knows of this repository or would add, as it is now."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SlipwayError(f"git ls-files failed: {done.stderr.strip()}", "run this in a clone of the repository")
    for file in map(Path, filter(None, done.stdout.split("\0"))):
        if (ROOT / file).is_file():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, folder / file, follow_symlinks=False)


def prepare(folder: Path, packages: list[str]) -> None:
    """Give the copy ports, an environment and a commit of its own.

    The environment is ours, by hard links: what is installed into the copy replaces files there, and none of ours.
    """
    replace_ports(folder)
    settings = folder / recipes.SETTINGS
    text = settings.read_text(encoding="utf-8")
    settings.write_text(recipes.with_settings(text, '[deploy]\ntarget = "process"\n'), encoding="utf-8")
    if (ROOT / ".venv").is_dir():
        shutil.copytree(ROOT / ".venv", folder / ".venv", symlinks=True, copy_function=link)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    for package in packages:
        make(folder, "add", f"PACKAGE={package}")
    for command in (["add", "--all"], [*AUTHOR, "commit", "--quiet", "--message", "A recipe"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


def link(source: str, target: str) -> None:
    """Link a file of the environment; what says that something is installed is copied, for make changes its time in place."""
    if source.endswith(".ready"):
        shutil.copy2(source, target)
    else:
        os.link(source, target)


def make(folder: Path, *words: str) -> None:
    """Run a verb in the copy; what it prints is shown as it comes."""
    print(f"--- make {' '.join(words)}", flush=True)
    # What leads to the real project's servers and images is not meant for a recipe.
    ours = ("SLIPWAY_", "MLFLOW_TRACKING", "GITHUB_", "IMAGE_REPOSITORY", "MAKE", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    if subprocess.run(["make", "--no-print-directory", *words], cwd=folder, env=environment).returncode:
        raise SlipwayError(f"`make {' '.join(words)}` failed in {folder.relative_to(ROOT)}", "its words are above")


def ask(folder: Path) -> None:
    """Ask production for the first golden row, and print question and answer."""
    served = json.loads((folder / ".slipway" / "production.json").read_text(encoding="utf-8"))
    golden = json.loads((Path(served["bundle"]) / "golden.json").read_text(encoding="utf-8"))
    body = json.dumps({"features": golden["inputs"][0]}).encode()
    asked = urllib.request.Request(f"{served['url']}/predict", data=body, headers={"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        print(f"POST {served['url']}/predict {body.decode()}\n{answer.read().decode()}")


def end(folder: Path) -> None:
    """Stop what runs in a copy, and remove it."""
    if (folder / ".venv").exists():
        subprocess.run(["make", "--silent", "stop"], cwd=folder, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
