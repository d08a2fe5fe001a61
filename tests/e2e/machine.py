"""A machine as GitHub gives one to a job: empty at the start; what is started or written there is removed at the end."""

import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests import preload
from tests.conftest import clean_environment
from tests.e2e.expressions import Expressions

REPOSITORY = "Octo/Template"
NOT_HERE = ("actions/checkout", "./.github/actions/setup")  # replaced by a clone, and by the environment of these tests
TOO_LONG = 300  # seconds for one step


@dataclass
class Result:
    """A job's result and its output."""

    result: str = "success"
    outputs: dict[str, str] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    log: str = ""
    summary: str = ""

    def add(self, other: "Result") -> None:
        """Add the result of a called workflow's job."""
        if other.result == "failure":
            self.result = "failure"
        self.ran += other.ran
        self.log += other.log
        self.summary += other.summary


@dataclass
class Run:
    """One run of a workflow: its jobs by name, its artifacts, and its comments."""

    event_name: str
    event: dict[str, Any]
    given: dict[str, Result]
    jobs: dict[str, Result] = field(default_factory=dict)
    artifacts: dict[str, Path] = field(default_factory=dict)
    comments: list[dict[str, str]] = field(default_factory=list)

    def results(self) -> dict[str, str]:
        """The result of each job."""
        return {name: job.result for name, job in self.jobs.items()}

    def log(self) -> str:
        """The whole output."""
        return "".join(f"=== {name}: {job.result}\n{job.log}" for name, job in self.jobs.items())


class Machine:
    """An empty machine: a fresh clone and an empty home, with a link to the environment of these tests."""

    def __init__(self, origin: Path, folder: Path, run: Run, job_id: str, environment: dict[str, str]):
        self.folder, self.run, self.result = folder, run, Result()
        self.clone, self.mark = folder / "our model", f"github_{folder}"
        (folder / "home").mkdir(parents=True)
        subprocess.run(["git", "clone", "-q", str(origin), str(self.clone)], check=True, capture_output=True)
        link_environment(self.clone / ".venv")
        (folder / "event.json").write_text(json.dumps(run.event), encoding="utf-8")
        self.environment = clean_environment() | self._environment(job_id) | environment
        self.environment.pop("KUBECONFIG", None)  # the user who runs these tests may have a cluster, a job has none

    def _environment(self, job_id: str) -> dict[str, str]:
        """The variables that GitHub sets on its machines, as far as the verbs may read them."""
        files = {key: str(self.folder / key) for key in ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STEP_SUMMARY")}
        return files | {
            "HOME": str(self.folder / "home"),
            "PYTHON": getattr(sys, "_base_executable", sys.executable),  # before setup: without our requirements
            "RUNNER_TRACKING_ID": self.mark,
            "RUNNER_TEMP": str(self.folder),
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": self.run.event_name,
            "GITHUB_EVENT_PATH": str(self.folder / "event.json"),
            "GITHUB_JOB": job_id,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": "1",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_WORKSPACE": str(self.clone),
        }

    def step(self, step: dict, environment: dict[str, str], expressions: Expressions) -> bool:
        """Run a step; False when it failed."""
        if "run" in step:
            return self.command(step["run"], environment)
        action, given = (
            step["uses"].partition("@")[0],
            {k: expressions.fill(v) for k, v in step.get("with", {}).items()},
        )
        if action == "actions/upload-artifact":
            self._upload(given)
        elif action == "actions/download-artifact":
            shutil.copytree(self.run.artifacts[given["name"]], self.clone / given["path"])
        elif action == "marocchino/sticky-pull-request-comment":
            self.run.comments.append(given | {"text": (self.clone / given["path"]).read_text(encoding="utf-8")})
        else:
            assert action in NOT_HERE, f"{action} is not known here"
        return True

    def command(self, command: str, environment: dict[str, str] | None = None) -> bool:
        """Run a command as a step does; False when it failed. Its output goes to a file, because background processes may keep it open."""
        later = _pairs(self.folder / "GITHUB_ENV")
        (self.folder / "GITHUB_OUTPUT").write_text("", encoding="utf-8")
        with (self.folder / "log").open("a", encoding="utf-8") as log:
            log.write(f"--- {command}\n")
            log.flush()
            done = subprocess.run(
                ["bash", "-e", "-c", command],
                cwd=self.clone,
                env=self.environment | later | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=TOO_LONG,
            )
        self.result.ran.append(command)
        return done.returncode == 0

    def outputs(self) -> dict[str, str]:
        """The outputs of the last step."""
        return _pairs(self.folder / "GITHUB_OUTPUT")

    def _upload(self, given: dict[str, str]) -> None:
        paths = [path for pattern in given["path"].split() for path in self.clone.glob(pattern)]
        assert paths or given.get("if-no-files-found") != "error", f"no {given['path']} to upload"
        kept = Path(tempfile.mkdtemp(dir=self.folder))
        for path in paths:
            (shutil.copytree if path.is_dir() else shutil.copy)(path, kept / path.name)
        self.run.artifacts[given["name"]] = kept

    def end(self, engine, repository: str) -> None:
        """Stop all processes started here, found by a mark in their environment, and remove containers and images."""
        for process in psutil.process_iter():
            try:
                if process.environ().get("RUNNER_TRACKING_ID") == self.mark:
                    process.kill()
                    process.wait(10)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        for container in engine.containers.list(
            all=True, ignore_removed=True, filters={"label": f"slipway.checkout={self.clone}"}
        ):
            container.remove(force=True)
        for image in engine.images.list(repository):
            engine.images.remove(image.id, force=True)
        for name in ("log", "GITHUB_STEP_SUMMARY"):
            path = self.folder / name
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            setattr(self.result, "log" if name == "log" else "summary", text)


def link_environment(folder: Path) -> None:
    """Make a .venv of links with ready marks of its own, newer than the clone: nothing is installed, and emptying it removes only links."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for path in Path(sys.prefix).iterdir():
        if path.suffix != ".ready" and path.name != "bin":
            (folder / path.name).symlink_to(path)
    for path in Path(sys.prefix, "bin").iterdir():
        (programs / path.name).symlink_to(preload.python() if path.name == "python" else path)
    for name in ("installer", "pipeline", "test", "dev", "audit"):  # what adds to another is no older
        (folder / f"{name}.ready").touch()


def _pairs(path: Path) -> dict[str, str]:
    """The values in one of GitHub's command files, each between two marks or after an equals sign."""
    found: dict[str, str] = {}
    lines = iter(path.read_text(encoding="utf-8").splitlines() if path.exists() else [])
    for line in lines:
        key, between, mark = line.partition("<<")
        if between and "=" not in key:
            found[key] = "\n".join(itertools.takewhile(lambda one, mark=mark: one != mark, lines))
        else:
            found[line.partition("=")[0]] = line.partition("=")[2]
    return found
