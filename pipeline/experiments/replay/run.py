"""A replay from its plan to its result, in stretches of the log that are kept one by one, so that a killed run loses one at most."""

import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from pipeline.artifacts import BUILD
from pipeline.errors import StageError
from pipeline.experiments.replay import result, scoring, state
from pipeline.experiments.replay.result import Replay
from pipeline.experiments.replay.scoring import Challenger, Rows
from pipeline.settings import Settings
from serving.log.marks import Mark
from serving.model.contract import Contract

DAY = 86_400
TELL_SECONDS = 5  # between two lines of progress


class Log(NamedTuple):
    """The prediction log, where it is: how much is in it between moments, and its requests between two as lines of JSON."""

    marks: Callable[[Sequence[float]], list[Mark]]
    export: Callable[[str, str, IO[bytes]], None]


class Asked(NamedTuple):
    """What is replayed: whose rows of how many days, and how many of them at most."""

    environment: str
    days: int
    most: int


@dataclass
class Run:
    """A run over the stretches of a plan; `marks` are those of the log now, and `scored` counts the rows that this run has asked."""

    settings: Settings
    model: Challenger
    contracts: Mapping[str, Contract]
    what: Asked
    log: Log
    folder: Path
    plan: state.Plan
    marks: list[Mark]
    scored: int = 0

    def finish(self, named: bool) -> Replay:
        """Ask what is left, and compare; `named`: examples have the ids of their requests. Raises StageError where no row can be compared."""
        begin = time.monotonic()
        rows = scoring.joined([*self._parts()])
        seconds = time.monotonic() - begin
        if not len(rows):
            self.forget()  # another run would only find nothing again
            raise StageError(
                f"none of the rows can be compared: {_why_none(rows)}", "docs/replay.md says which rows are taken"
            )
        found = result.compare(
            self.settings, rows, self.model.contract.classes, named,
            {version: one.decision for version, one in self.contracts.items()}, self.model.contract.decision,
        )  # fmt: skip
        return msgspec.structs.replace(
            found,
            environment=self.what.environment,
            challenger=self.model.label,
            digest=self.model.digest,
            days=self.what.days,
            since=self.plan.edges[0],
            until=self.plan.edges[-1],
            share=self.plan.share,
            scored=self.scored,
            seconds=seconds,
            notes=self._notes(),
        )

    def forget(self) -> None:
        """Delete what was kept: answers and outcomes of single rows, which nobody needs once the result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _parts(self) -> Iterator[Rows]:
        """The rows of each stretch: as an earlier run left them, where the log has not changed there, else asked now."""
        begin = told = time.monotonic()
        done = kept = 0
        for number, mark in enumerate(self.marks):
            if mark.blocks or not number:
                part = state.load(self.folder, number, mark)
                kept += 0 if part is None else len(part)
                yield self._asked(number, mark) if part is None else part
                done += mark.rows
            now = time.monotonic()
            if now - told > TELL_SECONDS or number == len(self.marks) - 1:
                told = now
                before = f", {kept:,} of them by an earlier run" if kept else ""
                rate = self.scored / max(now - begin, 1e-3)
                said = (
                    f"{min(done, self.plan.rows):,} of {self.plan.rows:,} rows of the log{before}; {rate:,.0f} rows/s"
                )
                print(said, file=sys.stderr, flush=True)

    def _asked(self, number: int, mark: Mark) -> Rows:
        """The rows of a stretch, asked now and kept."""
        since, until = self.plan.edges[number : number + 2]
        BUILD.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=BUILD) as lines:
            self.log.export(_iso(since), _iso(until), lines)
            lines.seek(0)
            plan = self.plan
            asked = scoring.score(lines, self.settings, self.model, self.contracts, plan.slices, plan.share, plan.salt)
            part = scoring.joined([*asked])
        state.save(self.folder, number, mark, part)
        self.scored += len(part)
        return part

    def _notes(self) -> list[str]:
        lost = [name for name in self.settings.gate.slices if name not in self.model.contract.names]
        return [f"No slices by {', '.join(lost)}: {self.model.label} has no such feature."] if lost else []


def begin(
    settings: Settings, model: Challenger, contracts: Mapping[str, Contract], what: Asked, log: Log, now: float
) -> Run:
    """The run that was killed, to go on with, or a new one over the last days up to `now` (in the log's time).

    `contracts` are those of the versions that may have answered. Raises StageError where the log has no request of these days.
    """
    state.tidy()
    folder = state.FOLDER / f"{what.environment}-{what.days}-{model.digest[:16]}"
    same = f"{settings.fingerprint('name', 'data', 'monitor')} {what.most}"
    slices = [name for name in settings.gate.slices if name in model.contract.names]
    plan = state.read_plan(folder, same, slices)
    if plan is None:
        plan = _planned(what, log, slices, same, round(now, 3))
        state.write_plan(folder, plan)
    else:
        begun = datetime.fromtimestamp(plan.begun).strftime("%Y-%m-%d %H:%M")
        print(f"going on with the replay that was begun on {begun}", file=sys.stderr)
    return Run(settings, model, contracts, what, log, folder, plan, log.marks(plan.edges))


def _planned(what: Asked, log: Log, slices: list[str], same: str, until: float) -> state.Plan:
    hours = state.hours(until - what.days * DAY, until)
    marks = log.marks(hours)
    rows = sum(mark.rows for mark in marks)
    if not rows:
        raise StageError(
            f"the prediction log of {what.environment} has no request of the last {what.days} days",
            "ask for more days with DAYS=…, or come back when callers have asked",
        )
    edges = [round(each, 3) for each in state.stretches(hours, marks)]
    return state.Plan(edges, min(1.0, what.most / rows), rows, slices, secrets.token_hex(16), time.time(), same)


def refuse_other_question(model: Challenger, live: Contract, environment: str) -> None:
    """Raise StageError where the model needs what the rows of the live version lack, or answers something else."""
    other = model.contract
    if (other.task, set(other.classes)) != (live.task, set(live.classes)):
        kinds = [f"{one.task} {', '.join(one.classes)}".strip() for one in (other, live)]
        raise StageError(
            f"{model.label} answers another question ({kinds[0]}) than {environment} ({kinds[1]})",
            "choose a version with the same classes",
        )
    if lacking := [name for name in other.names if name not in live.names]:
        raise StageError(
            f"{model.label} needs features that the rows of {environment} lack: {', '.join(lacking[:12])}",
            "choose a version with the inputs of production",
        )


def _why_none(rows: Rows) -> str:
    counts = rows.counts
    said = [f"{number:,} refused ({why})" for why, number in counts.refused.items()]
    said += [f"{number:,} {why}" for why, number in counts.left_out.items()]
    return "; ".join(said[:6]) or "callers asked none"


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
