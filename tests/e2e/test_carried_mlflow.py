"""The embedded MLflow between machines: saved in a real registry, changed by one job at a time, never lost halfway."""

import json
import subprocess
import time
from contextlib import closing

import psutil
import pytest

from pipeline.processes import free_port
from pipeline.registry.embedded import lease, oci
from tests.e2e.carried_machine import QUICK, Machine, tag
from tests.e2e.registries import OwnRegistry

ROUNDS = 3  # 20 were run by hand


def test_saved_state_is_restored_on_the_next_machine(machine, repository):
    """An empty registry gives an empty MLflow; the next machine restores what was saved, and so on."""
    first, second = machine(), machine()
    assert "holds no MLflow yet" in first.restore()
    first.write("one")
    assert "MLflow is saved" in first.save()
    second.restore()
    assert second.names() == ["one"]
    second.write("two")
    assert "in 2 parts" in second.save(), "the database and the new run, not the old one"
    first.restore()
    assert first.names() == ["one", "two"]
    assert tag(repository, "lease")["annotations"]["slipway.holder"] == first.lease()["holder"]


def test_models_aliases_and_files_are_restored(machine):
    """What a real MLflow server stored on one machine, the next machine's server returns: run, file, version, alias."""
    first, second = machine(), machine()
    first.restore()
    client = _mlflow(first)
    client.create_registered_model("model")
    run = client.create_run(client.create_experiment("travels")).info.run_id
    client.log_text(run, "a file", "notes/file.txt")
    client.create_model_version("model", f"runs:/{run}/notes", run)
    client.set_registered_model_alias("model", "production", "1")
    first.save()
    assert not (first.home / "server.json").exists(), "the server was ended: nothing is written after the save"
    second.restore()
    client = _mlflow(second)
    assert client.get_model_version_by_alias("model", "production").run_id == run
    assert [file.path for file in client.list_artifacts(run, "notes")] == ["notes/file.txt"]
    assert "unchanged" in second.save(), "a server that was only asked changes nothing"


def _mlflow(machine: Machine):
    from mlflow import MlflowClient

    text = (machine.root / "pipeline.toml").read_text()
    (machine.root / "pipeline.toml").write_text(text.replace("port = 5000", f"port = {free_port()}"))
    uri = machine.run("-m", "scripts.mlflow.start_mlflow").split()[-1]
    return MlflowClient(uri, uri)


def test_unchanged_mlflow_is_not_sent(machine, repository):
    """Saving without changes moves no tag, frees the lease and stops the heartbeat; saving twice is harmless."""
    one = machine()
    one.restore()
    one.write("one")
    one.save()
    before = tag(repository, "state")
    one.restore()
    heartbeat = one.heartbeat()
    assert "unchanged" in one.save()
    _gone(heartbeat)
    assert tag(repository, "state") == before
    assert tag(repository, "lease")["annotations"]["slipway.holder"] == ""
    assert "nothing was saved" in one.save()


def test_concurrent_machines_take_turns(machine, repository):
    """Two machines that repeatedly restore, increase a count and save lose no count: one works, the other waits."""
    machines = [machine(), machine()]
    for number in range(ROUNDS):
        running = [one.start_restore() for one in machines]
        first = _first_to_end(running)
        one, other = machines[first], machines[1 - first]
        time.sleep(0.5)
        assert running[1 - first].poll() is None, "both hold it"
        one.write(f"{number} first")
        one.save()
        said = running[1 - first].communicate(timeout=30)[0]
        assert running[1 - first].returncode == 0, said
        assert f"{number} first" in other.names(), "it goes on from the winner's state"
        other.write(f"{number} second")
        other.save()
    one.restore()
    assert len(one.names()) == 2 * ROUNDS


def _first_to_end(running: list[subprocess.Popen]) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for index, process in enumerate(running):
            if process.poll() is not None:
                assert process.returncode == 0, process.stdout.read()
                return index
        time.sleep(0.01)
    raise AssertionError("neither got it")


def test_lease_of_a_dead_holder_is_taken(machine):
    """While the heartbeat continues, others wait and name the holder; after it was killed with its job, the lease is taken after `dead`, not before."""
    dead, heir = machine(), machine()
    dead.restore()
    dead.write("lost")
    waiting = heir.start_restore()
    time.sleep(4)
    assert waiting.poll() is None, waiting.stdout.read()
    dead.heartbeat().kill()
    killed = time.monotonic()
    said = waiting.communicate(timeout=30)[0]
    assert waiting.returncode == 0 and "waiting: " in said, said
    assert time.monotonic() - killed > 2.5
    assert "nothing was overwritten" in dead.save(status=1)


def test_stale_save_is_refused(machine, repository):
    """A job that lost its lease, and whose state is no longer the latest, overwrites nothing and is told to run again."""
    slow, quick = machine(), machine()
    slow.restore()
    slow.write("slow")
    slow.heartbeat().kill()
    quick.restore(timing=QUICK.replace("dead=3", "dead=0.5"))
    quick.write("quick")
    quick.save()
    before = tag(repository, "state")
    said = slow.save(status=1)
    assert "no longer held by this job" in said and "run the workflow again" in said
    assert tag(repository, "state") == before
    assert "was let go of" in slow.save(status=1)


def test_moved_state_is_not_overwritten_even_under_the_lease(machine, repository):
    """Compare and set: a state that moved although the lease is ours (a person moved the tag) is not overwritten."""
    one = machine()
    one.restore()
    one.write("one")
    store = oci.Repository(f"{repository}/mlflow")
    store.put("state", oci.manifest([], {"by": "hand"}))
    assert "was changed by another job" in one.save(status=1)
    assert tag(repository, "state")["annotations"]["by"] == "hand"
    assert tag(repository, "lease")["annotations"]["slipway.holder"] == "", "and others may go on"


def test_heartbeat_alternates_and_stops_by_itself(machine, repository):
    """A lease needs only two contents; its heartbeat stops when the record is gone or the lease is another's."""
    one = machine()
    one.restore()
    heartbeat, seen = one.heartbeat(), set()
    until = time.monotonic() + 4
    while time.monotonic() < until:
        seen.add(tag(repository, "lease")["digest"])
    assert len(seen) == 2
    store = oci.Repository(f"{repository}/mlflow")
    while not _ended(heartbeat):  # a heartbeat in progress may arrive after the first
        store.put("lease", lease.content("other", "somebody else", "tick"))
        time.sleep(0.2)
    assert "was taken by another job" in (one.root / ".slipway/lease.log").read_text()
    store.put("lease", lease.content(*lease.FREE))
    one.restore()
    heartbeat = one.heartbeat()
    while tag(repository, "lease")["annotations"]["slipway.beat"] != "tock":  # until it has begun
        time.sleep(0.05)
    (one.root / ".slipway/lease.json").unlink()
    _gone(heartbeat)


def _ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def _gone(process: psutil.Process) -> None:
    deadline = time.monotonic() + 10
    while not _ended(process):
        assert time.monotonic() < deadline, "the heartbeat goes on"
        time.sleep(0.05)


def test_heartbeat_stops_after_its_maximum_time(machine):
    """A lease that nobody frees is not held forever."""
    one = machine()
    one.restore(timing=QUICK.replace("patience=60", "longest=1"))
    _gone(one.heartbeat())
    assert "the maximum" in (one.root / ".slipway/lease.log").read_text()


CANCELLED = """
import sys, time
from pathlib import Path
from pipeline import processes
from pipeline.errors import edge
@edge
def main():
    with processes.lock("delivery", "deploy to production"):
        try:
            Path("at-work").touch()
            time.sleep(60)
        finally:
            time.sleep(1)  # what it began is undone, and recorded
            Path(".mlflow/artifacts/1/one/artifacts/undone").touch()
sys.exit(main())
"""


def test_delivery_left_by_a_cancelled_step_is_stopped_before_the_save(machine):
    """GitHub ends the shell of a cancelled step, not the command in it: a save stops that, and saves what it wrote."""
    one, other = machine(), machine()
    one.restore()
    one.write("one")
    one.environment["GITHUB_ACTIONS"] = "true"
    left = subprocess.Popen(**one.command("-c", CANCELLED))
    while not (one.root / "at-work").exists():
        assert left.poll() is None
        time.sleep(0.05)
    assert "stopping the command that a cancelled step left" in one.save()
    assert left.wait(timeout=1) == 130
    other.restore()
    assert (other.home / "artifacts/1/one/artifacts/undone").exists()


def test_stop_frees_the_lease(machine, repository):
    """`make stop` stops the heartbeat and frees the lease; unsaved changes are reported."""
    one = machine()
    one.restore()
    heartbeat = one.heartbeat()
    one.write("unsaved")
    one.run("-c", "from scripts import stop; stop.targets.TARGETS = (); stop.main([])")
    _gone(heartbeat)
    assert tag(repository, "lease")["annotations"]["slipway.holder"] == ""
    assert "was let go of" in one.save(status=1)


def test_lease_wait_names_the_holder(machine):
    """When its patience is over, the waiting job names the holder, and exits with 1 and nothing changed."""
    holder, waiting = machine(), machine()
    holder.restore()
    said = waiting.restore(status=1, timing=QUICK.replace("patience=60", "patience=1"))
    assert "still holds the MLflow" in said and "next: " in said
    assert not waiting.home.exists()
    assert "nothing was saved" in waiting.save()


def test_local_data_is_not_overwritten(machine):
    """A local MLflow with data that the registry lacks is not overwritten; equal data, or none, is no obstacle."""
    one, other = machine(), machine()
    one.restore()
    one.write("one")
    one.save()
    other.write("own work")
    assert "would be overwritten" in other.restore(status=1)
    assert "would be overwritten" in other.run("-m", "scripts.ci.restore_mlflow", "--read-only", status=1)
    assert other.names() == ["own work"]
    one.restore()
    one.write("unsaved")
    assert "would be overwritten" in one.restore(status=1)
    one.save()
    (one.home / "carried.json").unlink()
    one.restore()
    assert one.names() == ["one", "unsaved"]


def test_damaged_database_is_not_saved(machine, repository):
    """A database that fails SQLite's own check is never saved: the state stays, and the lease is freed."""
    one = machine()
    one.restore()
    one.write("one")
    one.save()
    before = tag(repository, "state")
    one.restore()
    database = one.home / "mlflow.db"
    content = bytearray(database.read_bytes())
    content[4096:4200] = b"\xff" * 104
    database.write_bytes(content)
    assert "is damaged" in one.save(status=1)
    assert tag(repository, "state") == before
    assert tag(repository, "lease")["annotations"]["slipway.holder"] == ""


def test_read_only_restore_holds_nothing(machine, repository):
    """READ_ONLY=yes fetches while another job holds the lease, and a save after it saves nothing."""
    holder, reader = machine(), machine()
    holder.restore()
    holder.write("one")
    holder.save()
    holder.restore()
    before = tag(repository, "lease")["annotations"]["slipway.holder"]
    assert "MLflow was fetched from" in reader.run("-m", "scripts.ci.restore_mlflow", "--read-only")
    reader.write("mine")
    assert "nothing was saved" in reader.save()
    assert tag(repository, "lease")["annotations"]["slipway.holder"] == before


@pytest.mark.needs("docker-registry")
def test_refusing_registry(machine, tmp_path):
    """Read-only, a refusal is a warning, an empty MLflow and a mark; with the lease it is an error; with a login both work."""
    with closing(OwnRegistry(tmp_path, login=True)) as own:
        own.start()
        one = machine(f"{own.address}/closed")
        assert "warning: " in one.run("-m", "scripts.ci.restore_mlflow", "--read-only")
        assert "refuses" in (one.home / "unknown").read_text()
        said = one.restore(status=1)
        assert "refuses" in said and "IMAGE_REPOSITORY_PASSWORD" in said
        one.environment |= {"IMAGE_REPOSITORY_USERNAME": "tester", "IMAGE_REPOSITORY_PASSWORD": "right horse"}
        one.restore()
        assert not (one.home / "unknown").exists()
        one.write("one")
        one.save()
        one.environment["IMAGE_REPOSITORY_PASSWORD"] = "wrong"
        said = one.restore(status=1)
        assert "refuses" in said and "wrong" not in said


def test_registry_with_tokens(machine, repository, proxy):
    """A hosted registry issues tokens for reading or for writing: each request has the right one."""
    proxy.tokens = lambda login, scope: login == "octo:secret"
    one = machine(repository.replace(proxy.behind, proxy.address))
    assert "refuses" in one.restore(status=1)
    one.environment |= {"IMAGE_REPOSITORY_USERNAME": "octo", "IMAGE_REPOSITORY_PASSWORD": "secret"}
    one.restore()
    one.write("one")
    assert "MLflow is saved" in one.save()
    proxy.tokens = lambda login, scope: login == "octo:secret" and "push" not in scope
    assert "MLflow was fetched from" in one.run("-m", "scripts.ci.restore_mlflow", "--read-only")
    assert "refuses" in one.restore(status=1)


def test_registry_that_denies_reading_a_new_repository(machine, repository, proxy):
    """Some registries say "denied" for a repository that does not exist: with write access it is created all the same."""

    def fault(method, path):
        begun = ("PUT", f"/v2{repository.partition('/')[2].join('//')}mlflow/manifests/opened") in proxy.asked[:-1]
        return None if begun or method not in ("GET", "HEAD") else 403

    proxy.fault = fault
    one = machine(repository.replace(proxy.behind, proxy.address))
    assert "holds no MLflow yet" in one.restore()


def test_interrupted_push_leaves_the_old_state(machine, repository, proxy):
    """When the registry fails during a push, the old state and the lease are kept; saving again completes it."""
    one = machine(repository.replace(proxy.behind, proxy.address))
    one.restore()
    one.write("one")
    one.save()
    one.restore()
    one.write("two")
    before = tag(repository, "state")
    for fault in (
        lambda method, path: "reset" if method == "PUT" and "/blobs/" in path else None,
        lambda method, path: 500 if method == "PUT" and path.endswith("/state") else None,
    ):
        proxy.fault = fault
        said = one.save(status=1)
        assert "trying again" in said and "next: " in said
        assert tag(repository, "state") == before
    proxy.fault = lambda method, path: None
    assert "MLflow is saved" in one.save()
    one.restore()
    assert one.names() == ["one", "two"]


@pytest.mark.parametrize("fault", ["cut", "wrong", "reset"])
def test_damaged_blob_is_fetched_again_or_refused(machine, repository, proxy, fault):
    """A blob that is truncated, different or missing is fetched again; if it stays so, nothing is changed."""
    one = machine(repository.replace(proxy.behind, proxy.address))
    one.restore()
    one.write("one")
    one.save()
    spoiled = []

    def once(method, path):
        if method == "GET" and "/blobs/" in path and path not in spoiled:
            return spoiled.append(path) or fault
        return None

    other = machine(one.repository)
    proxy.fault = once
    assert "trying again" in other.restore()
    assert other.names() == ["one"]
    other.save()
    proxy.fault = lambda method, path: fault if method == "GET" and "/blobs/" in path else None
    third = machine(one.repository)
    assert "next: " in third.restore(status=1)
    assert not third.home.exists()
    assert tag(repository, "lease")["annotations"]["slipway.holder"] == ""


def test_registry_that_is_down(machine, repository, proxy):
    """A registry that does not respond, or only with errors, is reported by restore, with and without the lease."""
    one = machine(f"127.0.0.1:{free_port()}/nobody/home")
    for said in (one.restore(status=1), one.run("-m", "scripts.ci.restore_mlflow", "--read-only", status=1)):
        assert "was lost or does not answer" in said and "next: " in said
    proxy.fault = lambda method, path: 503
    one = machine(repository.replace(proxy.behind, proxy.address))
    assert "answers 503" in one.restore(status=1)


def test_foreign_state_is_refused(machine, repository):
    """Anything else under the tag, such as an image, is reported and changes nothing."""
    store = oci.Repository(f"{repository}/mlflow")
    store.prepare()
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}
    store.client.ask(
        f"http://{store.container.manifest_url('state')}",
        "PUT",
        headers={"Content-Type": index["mediaType"]},
        data=json.dumps(index).encode(),
    )
    one = machine()
    assert "next: " in one.restore(status=1)
    assert not one.home.exists()


def test_killed_restore_leaves_the_old_state(machine, repository, proxy):
    """Killed (-9) while it fetches, a restore leaves the previous MLflow; the next one succeeds, also on the same machine."""
    one, other = machine(), machine(repository.replace(proxy.behind, proxy.address))
    one.restore()
    one.write("one")
    one.save()
    other.restore()
    other.save()
    one.restore()
    one.write("two")
    one.save()
    proxy.fault = lambda method, path: 5.0 if method == "GET" and "/blobs/" in path else None
    process = other.start_restore()
    deadline = time.monotonic() + 30
    while not (other.root / ".slipway/mlflow.new").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    proxy.fault = lambda method, path: None
    assert other.names() == ["one"]
    other.restore()
    assert other.names() == ["one", "two"]
    other.save()
