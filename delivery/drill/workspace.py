"""A copy of the project for a drill, with ports, MLflow, log and data of its own, so that nothing of the real one is touched."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from delivery.drill.ports import replace_ports
from pipeline.artifacts import ROOT, write_text
from pipeline.errors import SlipwayError

LEFT_OUT = {
    ".git",
    ".venv",
    ".mlflow",
    ".slipway",
    "build",
    "htmlcov",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
}
OURS = (
    "SLIPWAY_",
    "MLFLOW_",
    "GITHUB_",
    "IMAGE_REPOSITORY",
    "KUBECONFIG",
    "DOCKER_HOST",
    "ENVIRONMENT",
    "MAKE",
    "MFLAGS",
)
AUTHOR = ["-c", "user.name=drill", "-c", "user.email=drill@example.com"]
# What a drill cannot wait for, or would not survive: [table] key = value. Nor would it survive the limits of gate
# and monitor: in the changed world no model may be as good as they ask.
SETTINGS = {
    "deploy": {"target": '"process"'},
    "monitor": {"label_delay_days": "1", "window_days": "7", "min_outcomes": "100"},
    "gate": {"policy": '"better"'},
    "retrain": {"on": '["performance"]', "min_new_labels": "300"},
}
# project/data.py of the copy: the team's own data, and what came in since the world is another.
LOAD = '''"""The team's data, and the rows of production whose outcomes are known."""

from pathlib import Path

import pandas as pd

from project.own_data import load as own

SINCE: str | None = {since!r}  # a day, as the issue names it


def load() -> pd.DataFrame:
    """Return the team's rows, and after them those of production since that day."""
    if SINCE is None:
        return own()
    rows = pd.read_parquet(Path(__file__).parent.parent / "data" / "production" / "rows.parquet")
    rows = rows[rows["answered_at"] >= pd.Timestamp(SINCE, tz="UTC")].drop(columns="answered_at")
    return pd.concat([own(), rows], ignore_index=True)
'''

# At the end of project/checks.py of the copy: the changed world contradicts rules that hold in the real one.
NO_RULES = "\n\nINVARIANCES = []  # type: ignore\nDIRECTIONS = []  # type: ignore\n"


def make(folder: Path) -> None:
    """Copy the project into a folder that does not exist, as a repository of one commit."""
    shutil.copytree(ROOT, folder, ignore=lambda _, names: [name for name in names if name in LEFT_OUT], symlinks=True)
    (folder / ".venv").symlink_to(ROOT / ".venv", target_is_directory=True)
    settings = folder / "pipeline.toml"
    write_text(settings, with_settings(settings.read_text(encoding="utf-8")))
    replace_ports(folder)
    (folder / "project" / "data.py").rename(folder / "project" / "own_data.py")
    learn_from(folder, None)
    checks = folder / "project" / "checks.py"
    write_text(checks, checks.read_text(encoding="utf-8") + NO_RULES)
    commit(folder, "A copy for a drill", ["init", "--quiet"])


def learn_from(folder: Path, since: str | None) -> None:
    """Have load() of the copy add the rows of production since a day, or none."""
    write_text(folder / "project" / "data.py", LOAD.format(since=since))


def commit(folder: Path, message: str, *before: list[str]) -> None:
    """Commit all that is there."""
    for command in (*before, ["add", "--all"], [*AUTHOR, "commit", "--quiet", "--allow-empty", "--message", message]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)


def with_settings(text: str) -> str:
    """pipeline.toml with SETTINGS in the place of its own values, and the others as they are."""
    for table, values in SETTINGS.items():
        if not re.search(rf"^\[{table}\]", text, re.M):
            text += f"\n[{table}]\n"
        for key, value in values.items():
            head, body, rest = re.split(rf"(^\[{table}\].*?(?=^\[|\Z))", text, maxsplit=1, flags=re.M | re.S)
            line = rf"^{key} *= *[^#\n]*"
            body = re.sub(line, f"{key} = {value}  ", body, flags=re.M) if re.search(line, body, re.M) else f"{body.rstrip()}\n{key} = {value}\n\n"  # fmt: skip
            text = head + body + rest
    return re.sub(r"^\[(?:gate|monitor)\.limits\].*?(?=^\[|\Z)", "", text, flags=re.M | re.S)


def surroundings(clock: str) -> dict[str, str]:
    """The variables of a command in the copy: none of those that point to the real environments, and the log's clock."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return kept | {"SLIPWAY_LOG_CLOCK": clock, "SLIPWAY_LOG_RETENTION_DAYS": "0"}


def run(folder: Path, command: list[str], clock: str, shown: bool = True, **more: str) -> str:
    """Run a command in the copy and return what it prints; raises SlipwayError when it fails."""
    done = subprocess.run(
        command, cwd=folder, env=surroundings(clock) | more, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if shown:
        print("".join(f"    {line}\n" for line in done.stdout.splitlines()), end="", flush=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-4:]
        raise SlipwayError(f"`{' '.join(command)}` failed in the copy: {' / '.join(last)}", look_into(folder))
    return done.stdout


def look_into(path: Path) -> str:
    """Where to look when a drill fails: the copy is removed after it, unless it is to be kept."""
    return f"look into {path}, which stays with `make drill ARGS=--keep`"
