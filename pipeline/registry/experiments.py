"""The record of experiments, two models in production: each is a run of the MLflow experiment NAME-experiments.

What is known of one is in the run's tags, and no other file knows them by name. Anybody may change a tag: each attribute has a value
for a tag that is missing or cannot be read. Both versions carry the name of a running experiment in the tag `experiment`, and the
names of all that they were in, in `experiments`.
"""

import hashlib
import json
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import RegistryError, reason
from pipeline.evaluation import model_card
from pipeline.evaluation.github_markdown import code, line_of, prose
from pipeline.evaluation.wording import clean
from pipeline.registry import model_version, once, versions
from pipeline.registry.deployment_record import LONGEST, Identified
from pipeline.registry.model_version import ModelVersion

STARTING, RUNNING, STOPPING, ENDED = "starting", "running", "stopping", "ended"  # `state`
PERCENT = 100
FORGOTTEN_SECONDS = 6 * 3600  # a command that began longer ago, on another machine, has ended without a word


@dataclass(frozen=True)
class Phase:
    """A time of an experiment with one share: from `since`, in seconds since 1970, to the next phase."""

    since: float
    share: float


@dataclass(frozen=True)
class ExperimentRecord:
    """Which two versions answer whom, since when, and how it ended."""

    name: str
    mode: str  # "ab" | "shadow"
    champion: str
    champion_digest: str
    challenger: str
    challenger_digest: str
    state: str = STARTING
    phases: tuple[Phase, ...] = ()  # the first begins with the experiment; a change of the share appends one
    image: str | None = None  # that holds both models with the present share, by digest
    guardrails: str = ""  # when it stops itself, as JSON: those of pipeline.toml when it started
    started: float = 0.0  # seconds since 1970, as the next; 0: production has not served it yet
    ended: float = 0.0
    winner: str = ""  # "", "A" or "B"
    reason: str = ""  # why it ended, in words
    actor: str = ""  # who started it
    host: str = ""  # that of the command which began to start or to stop it
    touched: float = 0.0  # when that command began
    run_id: str = ""

    @classmethod
    def from_mlflow(cls, run: Any) -> "ExperimentRecord":
        """The record that MLflow's client gave."""
        tags = run.data.tags
        names = ("name", "mode", "champion", "champion_digest", "challenger", "challenger_digest")
        return cls(
            **{name: tags.get(name, "") for name in names},
            state=tags.get("state", ENDED),
            phases=_phases(tags.get("phases", "")),
            image=tags.get("image") or None,
            guardrails=tags.get("guardrails", ""),
            started=_number(tags.get("started", "")),
            ended=_number(tags.get("ended", "")),
            winner=tags.get("winner", ""),
            reason=tags.get("reason", ""),
            actor=tags.get("actor", ""),
            host=tags.get("host", ""),
            touched=_number(tags.get("touched", "")),
            run_id=run.info.run_id,
        )

    @property
    def share(self) -> float:
        """The present share; raises RegistryError where the record was damaged in MLflow."""
        if not self.phases:
            raise RegistryError(
                f"the record of experiment {self.name} has no readable tag `phases`",
                "`make experiment-stop` ends the experiment",
            )
        return self.phases[-1].share

    @property
    def release(self) -> str:
        """What names a release that carries it, to the share: two of them differ in nothing that a version's number would tell."""
        return f"{self.name} {self.share!r}"

    @property
    def digest(self) -> str:
        """SHA-256 over all that makes a release with it what it is."""
        parts = (self.release, self.mode, self.champion_digest, self.challenger_digest, self.guardrails)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def victory(self) -> str:
        """What the challenger's tag `forced` says where it goes to production because it won, and the gate had not accepted it."""
        return f"won experiment {self.name}"

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state == ENDED

    def tags(self) -> dict[str, str]:
        """The tags of its run, among them the text for people."""
        texts = {
            "name": self.name,
            "mode": self.mode,
            "champion": self.champion,
            "champion_digest": self.champion_digest,
            "challenger": self.challenger,
            "challenger_digest": self.challenger_digest,
            "state": self.state,
            "phases": json.dumps([[phase.since, phase.share] for phase in self.phases]),
            "image": self.image or "",
            "guardrails": self.guardrails,
            "started": repr(self.started),
            "ended": repr(self.ended),
            "winner": self.winner,
            "reason": self.reason[:LONGEST],
            "actor": self.actor,
            "host": self.host,
            "touched": repr(self.touched),
        }
        return texts | {"mlflow.note.content": self.markdown()}

    @property
    def title(self) -> str:
        """The name of its run."""
        return f"{self.name}: version {self.challenger} beside {self.champion}, {self.state}"

    def in_words(self) -> str:
        """What it is, in a few words."""
        share = f"{PERCENT * self.phases[-1].share:g} %" if self.phases else "an unknown share"
        does = f"answers {share} of the subjects" if self.mode == "ab" else f"answers {share} in the shadow"
        return f"experiment {self.name} ({self.state}): version {self.challenger} {does} beside version {self.champion}"

    def markdown(self) -> str:
        """The record as Markdown, for the page of its run."""
        phases = [f"* {PERCENT * phase.share:g} % since {versions.timestamp(phase.since)}" for phase in self.phases]
        lines = [
            f"**{prose(self.in_words())}**",
            f"started by {code(self.actor)}" if self.actor else "",
            "\n".join(phases),
            f"ended {versions.timestamp(self.ended)}" if self.ended else "",
            f"winner: {prose(self.winner)}" if self.winner else "",
            line_of(clean(self.reason, 1000)),
        ]
        return "\n\n".join(line for line in lines if line)


def _phases(text: str) -> tuple[Phase, ...]:
    try:
        return tuple(Phase(float(since), float(share)) for since, share in json.loads(text))
    except (ValueError, TypeError):
        return ()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def records(client, name: str) -> list[ExperimentRecord]:
    """All experiments of a model, newest first; raises RegistryError when they were deleted in MLflow."""
    return _found(client, name, "")


def running(client, name: str) -> ExperimentRecord | None:
    """The experiment that is starting, running or stopping, or None; of two that began at once the first. Raises as `records` does."""
    found = _found(client, name, f"tags.state != '{ENDED}'")
    return found[-1] if found else None


def challenger(client, name: str, record: ExperimentRecord) -> ModelVersion:
    """The challenger of an experiment; raises RegistryError when it was deleted in MLflow."""
    try:
        return versions.by_number(client, name, record.challenger)
    except RegistryError as error:
        raise RegistryError(
            f"version {record.challenger}, the challenger of experiment {record.name}, was deleted in MLflow",
            f"`make experiment-stop` ends the experiment: version {record.champion} then serves alone",
        ) from error


def _found(client, name: str, condition: str) -> list[ExperimentRecord]:
    experiment = versions.find_experiment(client, f"{name}-experiments")
    if experiment is None:
        return []
    newest = ["attributes.start_time DESC"]
    runs = client.search_runs([experiment.experiment_id], condition, order_by=newest, max_results=1000)
    return [ExperimentRecord.from_mlflow(run) for run in runs]


def begin(client, name: str, record: ExperimentRecord) -> ExperimentRecord:
    """Record that an experiment of a model is starting, and tag both versions; returns it with its run.

    Raises RegistryError where one from elsewhere has begun in the same moment, and was first.
    """
    experiment = versions.experiment(client, f"{name}-experiments")
    run = once.run(client, experiment, record.title, record.tags())
    begun = replace(record, run_id=run.info.run_id)
    first = running(client, name)
    if first and first.run_id != begun.run_id:
        change(client, begun, state=ENDED, ended=time.time(), reason=f"experiment {first.name} began first")
        raise RegistryError(f"{first.in_words()}, and it began first", "`make experiment` says how it stands")
    tag(client, name, begun)
    return begun


def change(client, record: ExperimentRecord, **known: Any) -> ExperimentRecord:
    """Record what has changed of an experiment; returns it as it is now."""
    from mlflow.entities import RunTag

    changed = replace(record, **known)
    was = record.tags()
    tags = [RunTag(key, value) for key, value in changed.tags().items() if was[key] != value]
    client.log_batch(record.run_id, tags=tags)
    client.update_run(record.run_id, "FINISHED" if changed.over else "RUNNING", changed.title)
    return changed


def end(client, name: str, record: ExperimentRecord, **known: Any) -> ExperimentRecord:
    """Record that an experiment has ended, now, and take its mark from both versions; done twice, it changes nothing more."""
    untag(client, name, record)
    ended = change(client, record, state=ENDED, ended=record.ended or time.time(), **known)
    on_cards(client, name, ended)
    return ended


def on_cards(client, name: str, record: ExperimentRecord) -> None:
    """Say on the cards of both versions that they were in this experiment, and how it ended; nothing of one that never served.

    A card that cannot be written is told and no more: the experiment has ended all the same.
    """
    from mlflow.exceptions import MlflowException

    if not record.started:
        return
    days = " to ".join(versions.timestamp(each)[:10] for each in (record.started, record.ended))
    for letter, number, other in (("A", record.champion, record.challenger), ("B", record.challenger, record.champion)):
        try:
            run = client.get_run(record.run_id)
            verdict = run.data.tags.get("verdict", "not judged")
            ended = [verdict, f"winner {record.winner or 'none'}", *([record.reason] if record.reason else [])]
            what = f"experiment {record.name} ({record.mode}), as {letter} beside version {other}"
            before = client.get_model_version(name, number).description or ""
            of = {"experiment_id": run.info.experiment_id, "run_id": record.run_id}
            after = model_card.tried(before, days, what, ", ".join(ended), of)
            if after != before:
                client.update_model_version(name, number, after)
        except MlflowException as error:
            print(f"note: the card of version {number} could not be written: {reason(error)}", file=sys.stderr)


def settle(client, name: str, serving: Callable[[], Identified | None], ours: bool = False, why: str = "") -> None:
    """Finish or undo what a command that starts or stops an experiment has left behind; says what it did.

    To be called where no delivery is under way on this machine. `serving` says what production serves; `ours`: the command was this one,
    which failed, for the reason `why`. Only the record is changed: what does not serve has not begun, what still serves has not ended.
    Raises what MLflow's client raises.
    """
    record = running(client, name)
    if record is None or record.state == RUNNING:
        return
    elsewhere = record.host != socket.gethostname() and time.time() - record.touched < FORGOTTEN_SECONDS
    if elsewhere and not ours:
        return
    served = serving()
    there = served is not None and bool(record.phases) and served.experiment == record.release
    if record.state == STOPPING and not there:
        end(client, name, record)
        said = "has ended"
    elif there:
        if record.winner == "B":
            unforce(client, name, record)
        now = time.time()
        phases = record.phases
        if record.started and record.state == STARTING:  # until now some subjects met the smaller share
            phases = (*phases[:-1], Phase(now, record.share))
        change(client, record, state=RUNNING, started=record.started or now, phases=phases, winner="", reason="")
        stop = "; `make experiment-stop` once more ends it" if record.state == STOPPING else ""
        said = f"runs: production serves it{stop}"
    elif record.started:
        change(client, record, state=RUNNING, phases=record.phases[:-1], image=None)
        said = f"keeps its share of {PERCENT * record.phases[-2].share:g} %: production never served the new one"
    else:
        end(client, name, record, reason=why or "its start was interrupted before production served it")
        said = "did not start; a new one needs another name"
    print(f"note: experiment {record.name} {said}", file=sys.stderr, flush=True)


def tag(client, name: str, record: ExperimentRecord) -> None:
    """Give both versions the tags `experiment` and `experiments`."""
    for number in (record.champion, record.challenger):
        before = versions.by_number(client, name, number).experiments.split()
        names = " ".join(dict.fromkeys([*before, record.name]))
        model_version.set_tags(client, name, number, experiment=record.name, experiments=names)


def unforce(client, name: str, record: ExperimentRecord) -> None:
    """Take the victory from a challenger that did not come to production."""
    for version in versions.versions(client, name):
        if version.number == record.challenger and version.forced == record.victory:
            model_version.remove_mark(client, name, version.number, "forced")


def untag(client, name: str, record: ExperimentRecord) -> None:
    """Take the mark `experiment` from the versions that MLflow still has."""
    for version in versions.versions(client, name):
        if version.number in (record.champion, record.challenger) and version.experiment == record.name:
            model_version.remove_mark(client, name, version.number, "experiment")
