"""The chain of stages from data to production, each a process, with its progress on the screen."""

import json
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from delivery import keys, targets
from delivery.release import CurrentRelease
from pipeline import container_registry, preload
from pipeline.artifacts import BUILD, ROOT, read_json, write_json
from pipeline.errors import SlipwayError
from pipeline.evaluation import record
from pipeline.registry import mlflow_server
from pipeline.settings import Settings

LOGS = BUILD / "logs"
WAIT_SECONDS = 600  # for another `make ship` here, or for the last stage of one that was killed
COMMANDS = {
    "validate": ["-m", "scripts.validate_data"],
    "validate-model": ["-m", "scripts.validate_model"],
    "mlflow": ["-m", "scripts.mlflow.start_mlflow"],
    "train": ["train.py"],
    "evaluate": ["evaluate.py"],
    "register": ["register_model.py"],
    "image": ["-m", "scripts.build_image"],
    "deploy staging": ["-m", "scripts.deploy", "--environment", "staging"],
    "integration": ["-m", "scripts.integration_test", "--environment", "staging"],
    "deploy production": ["-m", "scripts.deploy", "--environment", "production"],
    "promote": ["-m", "scripts.promote"],
}


@dataclass
class Stage:
    """A verb on its way: running, done or failed; `said` is the last line that it printed."""

    verb: str
    state: str = "running"
    began: float = 0.0
    seconds: float = 0.0
    said: str = ""


def run(settings: Settings, asked: list[str], progress: "Progress") -> str:
    """Run the stages, of the last ones those that the verdict leaves to run; return the verdict.

    `asked` are the options of evaluate.py that the user gave.
    """
    begin_mlflow(settings)
    preload.prepare()
    with progress:
        if mlflow_server.remote_uri():  # its health page may answer when nothing else does: known before any work
            progress.run("mlflow")
        progress.run("validate", "validate-model")
        progress.run("train")
        progress.run("evaluate", extra=asked)
        evaluation = record.read(BUILD)
        if evaluation.verdict == "accept":
            deliver(settings, progress)
        elif evaluation.production and not serves(settings, evaluation.production.version):
            progress.run("deploy production", extra=["--version", evaluation.production.version])
    write_json(BUILD / "ship.json", {stage.verb: round(stage.seconds, 2) for stage in progress.stages})
    return evaluation.verdict


def check_target(settings: Settings) -> None:
    """Know before any work that what will be trained can be delivered; raises what would be raised only then."""
    target = targets.check(settings)
    if target.IMAGES:
        container_registry.repository(settings.name)
    if target.HERE:
        keys.ours()
    for environment in targets.ENVIRONMENTS:
        targets.serving(environment, settings)


def deliver(settings: Settings, progress: "Progress") -> None:
    """An accepted candidate's way into production; the version is named, for others may register theirs meanwhile."""
    progress.run("register")
    version = ["--version", read_json(BUILD / "registered.json")["version"]]
    if targets.choose(settings).IMAGES:
        progress.run("image", extra=version)
    progress.run("deploy staging", extra=version)
    progress.run("integration")
    progress.run("deploy production", extra=version)
    progress.run("promote")


def begin_mlflow(settings: Settings) -> None:
    """Have MLflow started while the data is validated; one that does not answer is known before anything is trained."""
    mlflow_server.quiet_environment()
    if mlflow_server.remote_uri():
        mlflow_server.uri(settings)
    else:
        mlflow_server.begin(settings)


def serves(settings: Settings, version: str) -> bool:
    """Whether production serves this version now; after a restart of the machine nothing does."""
    served = targets.serving("production", settings)
    return served is not None and served.version == version


class Progress:
    """The stages so far, drawn while they run; without a terminal, a line for each when it ends."""

    def __init__(self, console: Console, lock: int):
        self.console = console
        self.lock = lock
        self.stages: list[Stage] = []
        self.live = Live(get_renderable=self.table, console=console, refresh_per_second=8, transient=False)

    def __enter__(self) -> "Progress":
        LOGS.mkdir(parents=True, exist_ok=True)
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def run(self, *verbs: str, extra: list[str] | None = None) -> None:
        """Run verbs side by side and wait for all; raises SlipwayError with the output of the first that failed."""
        stages = [Stage(verb, began=time.monotonic()) for verb in verbs]
        self.stages += stages
        with ThreadPoolExecutor(len(stages)) as pool:
            list(pool.map(lambda stage: self.execute(stage, extra or []), stages))
        for stage in stages:
            if stage.state == "failed":
                self.fail(stage)

    def execute(self, stage: Stage, extra: list[str]) -> None:
        """Run one verb with its output in build/logs/."""
        command = [*COMMANDS[stage.verb], *extra]
        status = self.alone(stage, command) if stage.verb == "validate" else preload.run(command, log_of(stage))
        stage.seconds = time.monotonic() - stage.began
        stage.said = last_words(log_of(stage).read_text(encoding="utf-8", errors="replace"))
        stage.state = "done" if status == 0 else "failed"
        if not self.console.is_terminal:
            say(self.console, f"{stage.state:<7}{stage.verb:<18}{stage.seconds:6.1f} s  {stage.said}")

    def alone(self, stage: Stage, command: list[str]) -> int:
        """Run the one verb that has heavy imports of its own, beside those that the others share."""
        with log_of(stage).open("wb") as log:
            python = [sys.executable, *command]
            return subprocess.run(
                python, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[self.lock]
            ).returncode

    def fail(self, stage: Stage) -> None:
        """Show what the stage printed, and end."""
        self.__exit__()
        say(self.console, log_of(stage).read_text(encoding="utf-8", errors="replace").strip())
        verb = stage.verb.split()[0]
        raise SlipwayError(
            f"`make {verb}` failed; nothing after it was run", f"its words are above and in {shown(stage)}"
        )

    def table(self) -> Table:
        """One line for each stage so far."""
        table = Table.grid(padding=(0, 2))
        for stage in self.stages:
            running = stage.state == "running"
            sign = (
                Spinner("dots") if running else Text("✓", "green") if stage.state == "done" else Text("✗", "bold red")
            )
            seconds = time.monotonic() - stage.began if running else stage.seconds
            table.add_row(
                sign,
                stage.verb,
                f"{seconds:5.1f} s",
                Text(stage.said, "dim", overflow="ellipsis", no_wrap=True),
            )
        return table


def say(console: Console, text: str) -> None:
    """Print a text as it stands: brackets are no markup, and a line to paste is not broken."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def last_words(text: str) -> str:
    """The last line that a stage printed, frames of tables aside."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and line.strip()[0] not in "└│┃┏"]
    return lines[-1] if lines else ""


def notes() -> list[str]:
    """What the deployment to production wanted people to know."""
    text = (LOGS / "deploy-production.log").read_text(encoding="utf-8", errors="replace")
    return [line for line in text.splitlines() if line.startswith("note: ")]


def log_of(stage: Stage) -> Path:
    """The file with the stage's output."""
    return LOGS / f"{stage.verb.replace(' ', '-')}.log"


def shown(stage: Stage) -> str:
    """That file as people write it."""
    return str(log_of(stage).relative_to(ROOT))


def show_end(settings: Settings, verdict: str, seconds: float, console: Console) -> None:
    """The verdict, the addresses, and a request to paste."""
    evaluation = record.read(BUILD)
    served = targets.serving("production", settings)
    colour = {"accept": "green", "keep": "yellow", "refuse": "red"}[verdict]
    console.print(f"\n[bold {colour}]{verdict}[/]  after {seconds:.1f} s", highlight=False)
    for line in [*evaluation.reasons, *(notes() if verdict == "accept" else [])]:
        say(console, f"  {line}")
    lines = [("report", str(BUILD / "report.html")), ("MLflow", mlflow_server.shown(mlflow_server.uri(settings)))]
    if served:
        lines = [
            ("production", f"{served.url}  (version {served.version}, since {served.since})"),
            ("docs", f"{served.url}/docs"),
            *lines,
            ("try it", curl(served, targets.choose(settings).key_in_shell("production", settings))),
        ]
    console.print()
    for name, value in lines:
        say(console, f"{name + ':':<12}{value}")


def curl(served: CurrentRelease, key: str) -> str:
    """A command line that asks production for the contract's example; `key` is how the shell gets a key, or ""."""
    if not served.local_bundle:
        return f"{served.url}/docs has an example"
    example = [field["example"] for field in read_json(served.local_bundle / "contract.json")["inputs"]]
    body = json.dumps({"features": example}, ensure_ascii=False)
    line = f"curl -s {served.url}/predict -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    # By standard input: what is an argument can be seen by everybody on the machine.
    return f"printf '{keys.HEADER}: %s' \"{key}\" | {line} -H @-" if key else line
