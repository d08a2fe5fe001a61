"""Make the pictures of README.md from real runs, in a copy of what is committed:

    make pictures

Needs Chromium with its driver, a font with emoji, and the ports of pipeline.toml. Writes docs/pictures/. What takes long on a busy machine
is seen in the recording, so run it on an idle one.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from dev.pictures import drawings, pages, screens, terminal
from dev.try_fork import AUTHOR, copy
from pipeline import mlflow_pages
from pipeline.artifacts import ROOT, write_text
from pipeline.errors import SlipwayError, edge
from tests import tools
from tests.serving.browser import Browser, browsing

PICTURES = ROOT / "docs" / "pictures"
BETTER, WORSE = "C = 1.0", "C = 0.01"  # of the parameter in pipeline.toml, beside the one that is shipped
MLFLOW_SIZE = (1440, 960)  # in less its columns overlap
ASSISTANT = "button[aria-label=Close]"
STAGES = ("validate", "validate-model", "train", "evaluate", "pr-report", "pr-comment")


@edge
def main(argv: list[str] | None = None) -> None:
    """Draw, ship, look, and write every picture; raises SlipwayError where a run did not show what it should."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    if not tools.THERE["browser"]():
        raise SlipwayError(tools.WORDS["browser"], "install both, then run it again")
    PICTURES.mkdir(exist_ok=True)
    draw()
    with tempfile.TemporaryDirectory(prefix="pictures-") as folder:
        fork = Path(folder) / "our-model"
        copy(ROOT, fork)
        (fork / ".venv").symlink_to(ROOT / ".venv")
        change(fork, 'target = "auto" ', 'target = "process" ')  # the same picture on every machine
        try:
            record(fork)
            with browsing(Path(folder) / "profile") as browser:
                look(fork, browser)
        finally:
            make(fork, "stop")


def draw() -> None:
    """The pictures that need no run: the loop and the badges."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for form, palette in drawings.PALETTES.items():
        write_text(PICTURES / f"loop-{form}.svg", drawings.loop(palette))
    write_text(PICTURES / "python.svg", drawings.badge("Python", project["requires-python"].removeprefix(">=") + "+"))
    write_text(PICTURES / "licence.svg", drawings.badge("licence", "Apache-2.0"))


def record(fork: Path) -> None:
    """The first `make ship` of a fork, as a terminal shows it."""
    printed = terminal.record(command("ship"), fork, environment())
    shown = [(at, text.replace(str(fork), "~/our-model")) for at, text in printed]
    write_text(PICTURES / "ship.svg", terminal.svg("make ship", shown))


def look(fork: Path, browser: Browser) -> None:
    """A better model put into production and a worse one refused, as people see both."""
    settings = tomllib.loads((fork / "pipeline.toml").read_text(encoding="utf-8"))
    change(fork, "C = 0.5", BETTER)
    make(fork, "ship")
    screens.take(browser, (fork / "build" / "report.html").as_uri(), "h1", PICTURES / "report.png")
    service = f"http://127.0.0.1:{settings['deploy']['production_port']}/"
    screens.take(browser, service, "#f0", PICTURES / "service.png", predict)
    mlflow = f"http://127.0.0.1:{settings['mlflow']['port']}"
    version = f"{mlflow}/#/models/{settings['name']}/versions/2?{mlflow_pages.SIDE}"
    screens.take(browser, version, "table", PICTURES / "mlflow.png", read_card, MLFLOW_SIZE)
    change(fork, BETTER, WORSE)
    page = fork.parent / "comment.html"
    write_text(page, pages.comment(comment(fork)))
    screens.take(browser, page.as_uri(), "table", PICTURES / "pull-request.png")


def predict(browser: Browser) -> None:
    """Ask the service for an answer, by the form of its page."""
    browser.one("#predict").click()
    browser.wait("#facts dd")
    browser.run("scrollTo(0, 0)")


def read_card(browser: Browser) -> None:
    """Close what MLflow opens beside a version's card at the first visit."""
    browser.wait(ASSISTANT)
    browser.one(ASSISTANT).click()


def comment(fork: Path) -> str:
    """The comment that a pull request with this commit would get."""
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=fork, capture_output=True, text=True, check=True
    ).stdout.strip()
    event = fork.parent / "event.json"
    write_text(event, json.dumps({"pull_request": {"number": 1, "head": {"sha": head}}}))
    github = {
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_RUN_ID": "1",
        "GITHUB_REPOSITORY": "team/our-model",
    }
    for verb in STAGES[:-1]:
        make(fork, verb, **github)
    incoming = fork / "build" / "incoming"
    incoming.mkdir()
    shutil.copy(fork / "build" / "pull_request.json", incoming)
    make(fork, STAGES[-1], **github)
    found = (fork / "build" / "comment.md").read_text(encoding="utf-8")
    if "refused" not in found.lower():
        raise SlipwayError(f"the model with {WORSE} was not refused", "choose a worse one in dev/make_pictures.py")
    return found


def change(fork: Path, old: str, new: str) -> None:
    """Change a line of pipeline.toml in a commit; raises SlipwayError when it is not there."""
    path = fork / "pipeline.toml"
    text = path.read_text(encoding="utf-8")
    if old not in text:
        raise SlipwayError(f"pipeline.toml does not hold {old!r}", "bring dev/make_pictures.py up to date")
    path.write_text(text.replace(old, new), encoding="utf-8")
    subprocess.run(["git", *AUTHOR, "commit", "--quiet", "--all", "--message", new], cwd=fork, check=True)


def make(fork: Path, verb: str, **more: str) -> None:
    """Run a verb in the fork; raises SlipwayError with what it printed."""
    done = subprocess.run(command(verb), cwd=fork, env=environment() | more, capture_output=True, text=True)
    if done.returncode:
        raise SlipwayError(f"`make {verb}` failed in a copy of this repository", done.stdout + done.stderr)


def command(verb: str) -> list[str]:
    """A verb in the fork, with the environment of this repository as it is."""
    return ["make", "--silent", "--old-file=.venv/pipeline.ready", verb]


def environment() -> dict[str, str]:
    """Our environment without what would lead the fork to somebody's server or cluster, or its make to our arguments.

    Python may keep what it compiles, as on a user's machine.
    """
    ours = (
        "SLIPWAY_",
        "MLFLOW_TRACKING",
        "GITHUB_",
        "IMAGE_REPOSITORY",
        "MAKE",
        "MFLAGS",
        "COLUMNS",
        "LINES",
        "PYTHONDONT",
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return kept | {"TERM": "xterm-256color"}


if __name__ == "__main__":
    sys.exit(main())
