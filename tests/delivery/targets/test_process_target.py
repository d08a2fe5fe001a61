"""Target `process` by itself: releases of a small bundle, their API keys, and their prediction log."""

import json
import math
from contextlib import closing

import psutil
import pytest
import requests

from delivery.release import CurrentRelease, Release
from delivery.targets import process
from pipeline import state
from pipeline.errors import DeployError
from pipeline.processes import free_port
from pipeline.settings import load_settings
from serving.access.keys import make_key
from serving.log.reader import read_blocks
from serving.log.store import Store
from tests.serving.bundles import make_bundle, read


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """A separate state folder without any settings; started processes are stopped with the test."""
    for name in ("SLIPWAY_API_KEYS", "SLIPWAY_API_KEYS_FILE", "SLIPWAY_KEY", "SLIPWAY_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(process, "STATE", tmp_path / "state with a space")
    yield
    process.stop("staging")


@pytest.fixture
def settings():
    """The shipped settings with a free port."""
    shipped = load_settings("tests/example/pipeline.toml")
    return shipped.model_copy(update={"deploy": shipped.deploy.model_copy(update={"staging_port": free_port()})})


@pytest.fixture
def released(settings, tmp_path):
    """Release a version to staging; returns it as it serves."""

    def release(version: str) -> CurrentRelease:
        folder = process.STATE / "staging" / f"version-{version}"
        make_bundle("binary", folder, version)
        about = read(folder, "release.json")
        return process.release("staging", Release(about["name"], version, about["digest"], folder), settings)

    return release


def row(served: CurrentRelease) -> dict:
    """A request for one prediction."""
    golden = json.loads((served.bundle / "golden.json").read_text(encoding="utf-8"))
    return {"features": golden["inputs"][0], "subject": "customer-17"}


def recorded() -> psutil.Process:
    """The process that serves in staging, as this machine remembers it."""
    return psutil.Process(process.recorded("staging")["pid"])


def versions() -> list[str]:
    """The model version of each request in the prediction log, after everything was written."""
    process.stop("staging")
    with closing(Store(f"sqlite:///{process.STATE / 'predictions-staging.db'}")) as store:
        return [block.source.model_version for block in read_blocks(store, 0, math.inf) for _ in block.request_ids]


def test_default_release_is_open_and_its_log_is_kept(released):
    """Without settings, two releases in a row write into one database, which no other user may read."""
    for version in ("1", "2"):
        served = released(version)
        assert requests.post(f"{served.url}/predict", json=row(served), timeout=5).status_code == 200
    found = versions()
    assert {"1", "2"} == set(found) and found == sorted(found)
    assert (process.STATE / "predictions-staging.db").stat().st_mode & 0o077 == 0


def test_configured_keys_are_required(released, monkeypatch):
    """With SLIPWAY_API_KEYS and SLIPWAY_KEY the release is tested with that key, and clients without one get 401."""
    key, line = make_key("pipeline", "predict,metrics")
    monkeypatch.setenv("SLIPWAY_API_KEYS", line)
    monkeypatch.setenv("SLIPWAY_KEY", key)
    served = released("1")
    url = f"{served.url}/predict"
    assert requests.post(url, json=row(served), timeout=5).status_code == 401
    assert requests.post(url, json=row(served), headers={"X-API-Key": key}, timeout=5).status_code == 200


def test_delivery_key_is_not_leaked(released, monkeypatch):
    """The key is in no command line, environment or log of the service."""
    key, line = make_key("pipeline", "predict,metrics")
    monkeypatch.setenv("SLIPWAY_API_KEYS", line)
    monkeypatch.setenv("SLIPWAY_KEY", key)
    released("1")
    parent = recorded()
    for one in (parent, *parent.children(recursive=True)):
        assert not any(key in part for part in one.cmdline()) and key not in one.environ().values()
    written = [path for path in process.STATE.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert written == []


def test_only_the_supervisor_is_stopped(released):
    """Workers and the log's writer have its command line, and do not count as services."""
    released("1")
    parent = recorded()
    children = parent.children()
    assert len(children) == 2  # a worker and the writer
    assert [one.pid for one in process._services("staging")] == [parent.pid]
    process.stop("staging")
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


def test_orphans_of_a_killed_service_are_stopped(released):
    """After kill -9 of the supervisor, `stop` ends the processes that are left."""
    released("1")
    parent = recorded()
    children = parent.children()
    for child in children:
        child.suspend()
    parent.kill()
    parent.wait(10)
    assert {one.pid for one in process._services("staging")} == {child.pid for child in children}
    for child in children:
        child.resume()
    process.stop("staging")
    assert process._services("staging") == []


def test_subject_is_deleted_from_the_log(released, settings):
    """A command on the log deletes the predictions about a subject and nothing else, whether the service runs or not."""
    forget = ["serving.log.store", "delete-subject", "--subject=customer-17"]
    served = released("1")
    for subject in ("customer-17", "customer-17", "customer-18"):
        body = row(served) | {"subject": subject}
        assert requests.post(f"{served.url}/predict", json=body, timeout=5).status_code == 200
    before = len(versions())
    assert process.on_log("staging", settings, forget) == b"2 predictions deleted\n"
    assert len(versions()) == before - 2
    assert process.on_log("staging", settings, forget) == b"0 predictions deleted\n"


def test_damaged_record_stops_no_service_early(released, monkeypatch, settings, capsys):
    """The present service stays while a release fails; the next good one replaces it, and is then the only one."""
    state._told.clear()
    released("1")
    first = recorded()
    process.record_file("staging").write_text("[]", encoding="utf-8")
    with monkeypatch.context() as patch, pytest.raises(DeployError):
        patch.setattr(process, "smoke_test", lambda *_: (_ for _ in ()).throw(DeployError("it answers otherwise")))
        released("2")
    assert first.is_running() and first.status() != psutil.STATUS_ZOMBIE
    assert "staging.json is damaged" in capsys.readouterr().err
    third = released("3")
    assert process.serving("staging", settings) == third
    assert [one.pid for one in process._services("staging")] == [recorded().pid]
