"""MLflow's pages for a person: the embedded MLflow fetched, changed, put back, and its aliases followed."""

import os
import signal
import sys
import tempfile
import time
import webbrowser
from pathlib import Path
from typing import Any

from pipeline import mlflow_pages, processes, state
from pipeline.artifacts import STATE, write_json
from pipeline.ci import dispatch
from pipeline.errors import BusyError, GithubError, RegistryError
from pipeline.registry import changes as registry_changes
from pipeline.registry import mlflow_server
from pipeline.registry.changes import Change
from pipeline.registry.embedded import heartbeat, saving, snapshot, sync
from pipeline.registry.embedded.lease import Claimant
from pipeline.registry.embedded.oci import Repository
from pipeline.settings import Settings

DEPLOY = ("production", "staging")  # the aliases that mean more than a name
WORKFLOW = "promote.yml"
SESSION = (
    STATE / "ui.json"
)  # what was fetched for a person: {"repository", "base": its digest, "before": what its registry said}


def deployed_by() -> str:
    """Who finds an alias that was moved there."""
    if mlflow_server.remote_uri():
        return f"an alias that you move there is found by the schedule of {WORKFLOW}, or by what MLflow's webhook calls"
    return "an alias that you move there is deployed by `make reconcile`"


def show(settings: Settings, browser: bool) -> None:
    """Print the address of the model's page, and open it where there is a screen."""
    address = f"{mlflow_server.shown(mlflow_server.uri(settings)).rstrip('/')}/{mlflow_pages.model(settings.name)}"
    print(f"MLflow: {address}", flush=True)
    # Without a screen Python would start a text browser, in the terminal that is read from here.
    if browser and (sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))):
        webbrowser.open(address)


def wait() -> None:
    """Until Enter, Ctrl-C or a signal to end; where there is no keyboard, a signal alone."""
    try:
        if not sys.stdin.readline():
            signal.pause()
    except KeyboardInterrupt:
        print(flush=True)


def refuse_held() -> None:
    """Raise BusyError while this folder holds MLflow for changes of its own."""
    held = heartbeat.held()
    if held and processes.find(held.get("process") or {}):
        raise BusyError(
            "MLflow was restored here to be changed", "`make save-mlflow` saves it, `make stop` lets go of it"
        )
    heartbeat.end()


def fetched(store: Repository) -> dict[str, Any] | None:
    """What is in the registry now, put in place here without holding it; None when there is nothing, here neither.

    What was changed here since the session before goes on instead. Where the registry holds nothing, it gets the MLflow of this
    machine. Raises RegistryError when the MLflow here holds what is neither, and Refused or Lost when the registry does not give it.
    """
    left = unfinished(store)
    if left:
        print("going on with what was changed here since the last `make ui`", flush=True)
        return left
    found = store.get(sync.TAG)
    if found is None and sync.holds_something():
        print(f"{store.name} holds no MLflow yet: it gets the one of this machine when you are done", flush=True)
        sync.remember(mlflow_server.HOME, None, None, [])
        return begun(store.name, None, [])
    sync.check_overwrite(store)
    if found is None:
        return None
    sync.fetch(store, found, holder=None)
    return begun(store.name, found[0], registry_changes.read(mlflow_server.HOME / snapshot.DATABASE))


def begun(repository: str, base: str | None, before: registry_changes.State) -> dict[str, Any]:
    """A session, written down so that it can go on after a kill, or with what other commands change here afterwards."""
    opened = {"repository": repository, "base": base, "before": before}
    write_json(SESSION, opened)
    return opened


def unfinished(store: Repository) -> dict[str, Any] | None:
    """The session since which the MLflow here was changed, or None; raises RegistryError when it was of another repository."""
    left, record = state.read(SESSION, state.Session, "what was changed since is not put back"), sync.record()
    if left is None or not record:
        return None
    changed = left["base"] == record["base"] and sync.content() != record["content"]
    repository = left["repository"]
    if changed and repository != store.name:
        raise RegistryError(
            f"the MLflow here was opened from {repository} and changed since; now IMAGE_REPOSITORY says {store.name}",
            "`make ui` with the IMAGE_REPOSITORY of then puts it back; else `make stop`, and move .mlflow away",
        )
    return dict(left) if changed else None


def done(settings: Settings, store: Repository, opened: dict[str, Any]) -> None:
    """Say what was changed, put it back, and start what deploys it."""
    mlflow_server.stop()  # what it was asked for is written, and nothing is half written
    if sync.content() == sync.record()["content"]:
        print("nothing was changed, and nothing is put back", flush=True)
        return
    now = registry_changes.read(mlflow_server.HOME / snapshot.DATABASE)
    changes = registry_changes.compare(opened["before"], now)
    print("you changed:")
    print(
        "\n".join(
            registry_changes.table(changes) or ["  nothing of a model, but runs, experiments or what was changed back"]
        ),
        flush=True,
    )
    try:
        put_back(store, opened, changes)
    except BaseException:
        if SESSION.exists():
            print("what you changed is still here: `make ui` goes on with it", flush=True)
        raise
    begun(store.name, sync.record()["base"], now)
    if moved := registry_changes.moved(changes, settings.name, DEPLOY):
        start(moved)


def put_back(store: Repository, opened: dict[str, Any], changes: list[Change]) -> None:
    """Compare and set, under the lease; raises RegistryError, with nothing overwritten, when somebody else saved meanwhile."""
    if saved(store, opened, changes):
        return
    claimant = Claimant(store.name, sync.who())
    claimant.acquire()
    try:
        heartbeat.begin(claimant)
        if not saved(store, opened, changes):
            saving.send(store, claimant)
    finally:
        heartbeat.end()


def saved(store: Repository, opened: dict[str, Any], changes: list[Change]) -> bool:
    """Whether the registry has what is here, as after a put-back whose end was not heard of; raises RegistryError when it moved on."""
    found = store.get(sync.TAG)
    if (found[0] if found else None) == opened["base"]:
        return False
    layers = found[1]["layers"] if found else []
    if sorted(snapshot.contents(layers)) == sync.content():
        return True
    with tempfile.TemporaryDirectory() as folder:
        theirs = registry_changes.read(sync.database(store, layers, Path(folder)))
    raise conflict(store.name, changes, registry_changes.compare(opened["before"], theirs))


def conflict(name: str, changes: list[Change], theirs: list[Change]) -> RegistryError:
    """Show both sides, and keep what this person did in a folder, where nothing overwrites it."""
    print(f"meanwhile {name} was saved by somebody else, who changed:")
    print(
        "\n".join(
            registry_changes.table(theirs) or ["  nothing of a model, but runs, experiments or what was changed back"]
        ),
        flush=True,
    )
    kept = STATE / f"ui-{time.strftime('%Y%m%d-%H%M%S')}"
    sync.set_aside(kept)
    SESSION.unlink(missing_ok=True)
    both = sorted({one[:2] for one in changes} & {one[:2] for one in theirs})
    clash = f"; both changed {', '.join(f'{what} of {model}' for model, what in both)}" if both else ""
    return RegistryError(
        f"nothing was put back: {name} is no longer what was opened here{clash}",
        f"`make ui` opens what it is now: change it again there, if that is still right. Yours is kept in {kept}",
    )


def start(moved: list[str]) -> None:
    """Start the workflow that deploys what an alias says, or say where to; raises GithubError when GitHub refuses."""
    names, page = " and ".join(moved), dispatch.page(WORKFLOW)
    by_hand = f"press “Run workflow” on {page}; its schedule finds the change too, within hours"
    try:
        begun = dispatch.start(WORKFLOW)
    except GithubError as error:
        raise GithubError(f"MLflow is saved, but {WORKFLOW} was not started: {error.what}", by_hand) from error
    if begun:
        print(f"started {WORKFLOW}, which deploys what the alias {names} says: {page}")
    else:
        print(f"the alias {names} was moved. To have it deployed now, {by_hand}")
