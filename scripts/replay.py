"""Ask another version the rows that production answered, and compare the answers: nobody gets them, and nothing is changed.

    make replay VERSION=8                             # the last 7 days of production
    make replay VERSION=8 DAYS=30 ENVIRONMENT=staging
    python -m scripts.replay --candidate              # what `make train` left, on [gate] replay_days; never fails

Writes build/replay.html, .md and .json. A run that is killed goes on where it was when you start it again.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

import msgspec

from delivery import deployment, targets, watch
from pipeline import processes
from pipeline.artifacts import BUILD, ROOT, read_json, write_text
from pipeline.ci import outputs
from pipeline.errors import DeployError, PortabilityError, RegistryError, StageError, edge, reason
from pipeline.evaluation import record
from pipeline.evaluation.figures import to_png
from pipeline.experiments.replay import page, result, run, scoring, state
from pipeline.experiments.replay.result import Replay
from pipeline.experiments.replay.run import Asked, Log
from pipeline.experiments.replay.scoring import Challenger
from pipeline.formats import bundle
from pipeline.monitor.actions.retraining_world import in_log_time
from pipeline.monitor.production import trained_versions
from pipeline.registry import versions
from pipeline.registry.embedded import sync
from pipeline.settings import Settings, load_settings
from serving.model.contract import Contract

MOST_ROWS = 1_000_000  # that are asked; of a larger log, a part of the requests is drawn
MOST_OF_CANDIDATE = 100_000  # where somebody waits for the checks of a pull request
LONGEST = 365
PAGES = ("html", "md", "json")


@edge
def main(argv: list[str] | None = None) -> None:
    """Replay, and leave the result where people and later stages look."""
    options = asked(argv)
    for older in PAGES:
        (BUILD / f"replay.{older}").unlink(missing_ok=True)  # must not speak for this run, should it fail
    settings = load_settings()
    if options.candidate:
        of_candidate(settings)
        return
    if not options.version:
        raise StageError("no version is named", "say which is asked: `make replay VERSION=8`")
    what = Asked(options.environment, options.days, MOST_ROWS)
    if note := watch.lacking(what.environment, settings):
        raise DeployError(
            note, "a service logs where SLIPWAY_DATABASE_URL is set; `make deploy` sets it on this machine"
        )
    sync.refuse_unknown()
    client = versions.connect(settings)
    version = versions.by_number(client, settings.name, options.version)
    folder = deployment.fetch(client, state.FOLDER.name, version)
    try:
        found = replay(client, settings, challenger(f"version {version.number}", folder, version.digest), what)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(page.terminal(found)))
    print(f"  the whole report: {(BUILD / 'replay.html').relative_to(ROOT)}")


def asked(argv: list[str] | None) -> argparse.Namespace:
    """What the user asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=targets.environment, default="production")
    parser.add_argument("--days", type=whole_days, default=7, help=f"1 to {LONGEST} (default: 7)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", help="the registered version that is asked")
    which.add_argument("--candidate", action="store_true", help="ask build/model, on the days of [gate] replay_days")
    return parser.parse_args(argv)


def whole_days(text: str) -> int:
    """A number of days; raises ArgumentTypeError."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of days from 1 to {LONGEST}")
    return int(text)


def of_candidate(settings: Settings) -> None:
    """Replay build/model for the report of a pull request: what stands in the way is a note there, and no error."""
    days = settings.gate.replay_days
    if not days:
        print("no replay: pipeline.toml [gate] replay_days is 0")
        return
    folder, digest = candidate()
    what = Asked("production", days, MOST_OF_CANDIDATE)
    try:
        found = replay_of_candidate(settings, folder, digest, what)
    except Exception as error:  # whatever it is, the candidate is judged without it
        why = reason(error)
        if isinstance(error, DeployError):  # names a database's host, which the report of a pull request must not
            print(why, file=sys.stderr)
            why = "the prediction log could not be read from here (docs/replay.md)"
        found = nothing(settings, what, f"The rows of production were not replayed: {why.rstrip('.')}.", digest)
        leave(found)
    print(found.note or "\n".join(page.terminal(found)))


def candidate() -> tuple[Path, str]:
    """The folder and the digest of what would be registered: build/model, or build/quantised where that was taken."""
    digest = read_json(BUILD / "run.json")["model_digest"]
    if (BUILD / record.NAME).exists():
        evaluation = record.read(BUILD)
        if evaluation.candidate.model_digest == digest:
            folder, digest = evaluation.registers
            return BUILD / folder, digest
    return BUILD / "model", digest


def replay_of_candidate(settings: Settings, folder: Path, digest: str, what: Asked) -> Replay:
    """The replay of build/model; raises SlipwayError where there can be none."""
    if watch.lacking(what.environment, settings):
        raise DeployError("no database is named, and production does not serve on this machine")
    sync.refuse_unknown()
    if bundle.digest(folder) != digest:
        raise StageError(f"build/{folder.name} is not of build/run.json", "run `make train`")
    return replay(versions.connect(settings), settings, challenger("the candidate", folder, digest), what)


def nothing(settings: Settings, what: Asked, note: str, digest: str) -> Replay:
    """A result that says why there is none."""
    return Replay(
        name=settings.name,
        environment=what.environment,
        challenger="the candidate",
        digest=digest,
        note=note,
        days=what.days,
    )


def challenger(label: str, folder: Path, digest: str) -> Challenger:
    """The model in a folder as it is asked; raises StageError where the service would not load it here."""
    plain = read_json(folder / "contract.json")
    found = Challenger(label, digest, msgspec.convert(plain, Contract), plain, bundle.model_files(folder))
    try:
        scoring.ask(found, [found.contract.example_row])
    except PortabilityError as error:
        raise StageError(f"{label} cannot be asked here: {error.what}", error.then) from error
    return found


def replay(client, settings: Settings, model: Challenger, what: Asked) -> Replay:
    """Ask the model the rows of the log, compare, and write the result; raises SlipwayError where it cannot."""
    live = versions.by_alias(client, settings.name, what.environment)
    trained, _ = trained_versions(client, settings)
    contracts = {number: msgspec.convert(one.contract, Contract) for number, one in trained.items()}
    if live is None or live.number not in contracts:
        raise RegistryError(
            f"MLflow has no bundle of the version in {what.environment}, whose rows are asked",
            f"`make deploy ENVIRONMENT={what.environment}` puts one there",
        )
    run.refuse_other_question(model, contracts[live.number], what.environment)
    log = Log(
        marks=lambda edges: watch.marks(what.environment, settings, edges),
        export=lambda since, until, into: watch.export(what.environment, settings, until, into, since=since),
    )
    with processes.lock("replay", f"replay of {model.label}"):
        asking = run.begin(settings, model, contracts, what, log, in_log_time(time.time()))
        found = asking.finish(named=not outputs.is_workflow())
        if model.label == f"version {live.number}":
            note = f"{model.label} is what serves: where it answered, only rounding differs; other differences are to versions that answered before or beside it."
            found = msgspec.structs.replace(found, notes=[note, *found.notes])
        leave(found)
        asking.forget()
    return found


def leave(found: Replay) -> None:
    """Write the result where people and later stages look."""
    BUILD.mkdir(exist_ok=True)
    pictures = {name: to_png(figure) for name, figure in page.figures_for(found).items()}
    write_text(BUILD / "replay.html", page.html(found, pictures))
    write_text(BUILD / "replay.md", page.markdown(found))
    result.write(BUILD, found)


if __name__ == "__main__":
    sys.exit(main())
