"""Target `docker` by itself: a container's API keys, and the prediction log that persists."""

import hashlib
import json
import time
import uuid

import pytest
import requests

from delivery.images import docker_engine as builder
from delivery.images import recipe
from delivery.release import CurrentRelease, Release
from delivery.targets import docker
from pipeline.artifacts import ROOT
from pipeline.errors import DeployError
from pipeline.processes import free_port
from pipeline.settings import load_settings
from serving.access.keys import make_key
from tests.serving.bundles import make_bundle, read

SET = ("SLIPWAY_API_KEYS", "SLIPWAY_API_KEYS_FILE", "SLIPWAY_KEY", "SLIPWAY_DATABASE_URL", "SLIPWAY_SERVICE_ADDRESS")


@pytest.fixture(scope="module")
def releases(engine, tmp_path_factory):
    """Two versions of a model as images of this engine, which are removed at the end."""
    made, client = {}, builder.connect()
    builder.get_base(client, recipe.base())
    for version in ("1", "2"):
        folder = tmp_path_factory.mktemp("bundles") / f"bundle-{version}"
        make_bundle("binary", folder, version)
        about = read(folder, "release.json")
        name = f"slipway-test-keys:{uuid.uuid4().hex[:12]}"
        builder.build(client, recipe.context(ROOT, folder), name, {}, 0, recipe.requirements(folder))
        made[version] = Release(about["name"], version, about["digest"], folder, name)
    yield made
    for release in made.values():
        engine.images.remove(release.image, force=True)


@pytest.fixture(scope="module")
def settings():
    """The shipped settings with a free port."""
    found = load_settings("tests/example/pipeline.toml")
    return found.model_copy(update={"deploy": found.deploy.model_copy(update={"staging_port": free_port()})})


@pytest.fixture
def released(engine, releases, settings, monkeypatch, tmp_path):
    """Release a version to staging, with a separate checkout and network; returns it as it serves. Everything is removed at the end."""
    for name in SET:
        monkeypatch.delenv(name, raising=False)
    network = f"slipway-test-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("SLIPWAY_NETWORK", network)
    monkeypatch.setattr(docker, "ROOT", tmp_path)
    monkeypatch.setattr(docker, "STATE", tmp_path / ".slipway")
    monkeypatch.setattr(docker, "USED", tmp_path / ".slipway" / "docker")
    yield lambda version: docker.release("staging", releases[version], settings)
    docker.stop("staging")
    for made in engine.networks.list(names=[network]):
        made.remove()


def ask(served: CurrentRelease, key: str = "", path: str = "/predict") -> requests.Response:
    """One prediction."""
    golden = json.loads((served.bundle / "golden.json").read_text(encoding="utf-8"))
    body, headers = {"features": golden["inputs"][0]}, {"X-API-Key": key} if key else {}
    return requests.post(served.url + path, json=body | {"subject": "customer-17"}, headers=headers, timeout=10)


def logged(engine) -> list[str]:
    """The model versions in the prediction log, as seen by the running container."""
    (live,) = [
        one for one in engine.containers.list(ignore_removed=True) if one.name == docker._name("staging", "live")
    ]
    code = (
        "import sqlite3; print([v for v, in sqlite3.connect('/data/predictions.db')"
        ".execute('SELECT DISTINCT model_version FROM prediction_blocks ORDER BY 1')])"
    )
    return json.loads(live.exec_run(["python", "-c", code]).output.decode().replace("'", '"'))


def test_default_container_is_open_on_loopback_and_its_log_persists(released, engine, settings):
    """Without settings it needs no key and is published on loopback alone; a second version adds to the database, and `stop` keeps it."""
    released("1")
    record = released("2")
    assert ask(record).status_code == 200
    assert docker.key("staging", settings) == "" and docker.key_in_shell("staging", settings) == ""
    docker.stop("staging")
    record = released("2")
    assert logged(engine) == ["1", "2"]
    forget = ["serving.log.store", "delete-subject", "--subject=customer-17"]
    assert docker.on_log("staging", settings, forget) == b"1 predictions deleted\n"


def test_published_container_requires_keys(released, settings, monkeypatch):
    """On another address than loopback, delivery creates its own private key, and clients without one get 401."""
    monkeypatch.setenv("SLIPWAY_SERVICE_ADDRESS", "0.0.0.0")
    record = released("1")
    key, file = docker.key("staging", settings), docker._key_file("staging")
    assert ask(record).status_code == 401 and ask(record, key).status_code == 200
    assert file.stat().st_mode & 0o077 == 0 and str(file) in docker.key_in_shell("staging", settings)
    assert released("2").version == "2"
    assert docker.key("staging", settings) == key


def test_generated_key_is_not_in_the_engine(released, settings, engine, monkeypatch):
    """The engine knows the hash only: neither the container's description nor its log has the key."""
    monkeypatch.setenv("SLIPWAY_SERVICE_ADDRESS", "0.0.0.0")
    released("1")
    key = docker.key("staging", settings)
    (live,) = [
        one for one in engine.containers.list(ignore_removed=True) if one.name == docker._name("staging", "live")
    ]
    assert hashlib.sha256(key.encode()).hexdigest() in json.dumps(live.attrs)
    assert key not in json.dumps(live.attrs) and key.encode() not in live.logs()


def test_keys_file_may_change(released, monkeypatch, tmp_path):
    """With SLIPWAY_API_KEYS_FILE the keys are those of the file, also one added while the container runs."""
    (key, line), (other, more) = make_key("pipeline", "predict,metrics"), make_key("billing", "predict")
    file = tmp_path / "callers" / "keys"
    file.parent.mkdir()
    file.write_text(f"{line}\n", encoding="utf-8")
    monkeypatch.setenv("SLIPWAY_API_KEYS_FILE", str(file))
    monkeypatch.setenv("SLIPWAY_KEY", key)
    record = released("1")
    assert [ask(record, shown).status_code for shown in ("", key, other)] == [401, 200, 401]
    new = file.with_name("keys.new")
    new.write_text(f"{line}\n{more}\n", encoding="utf-8")
    new.replace(file)
    deadline = time.monotonic() + 30
    while ask(record, other).status_code != 200:
        assert time.monotonic() < deadline, "the key that was added is not known"
        time.sleep(0.1)


def test_change_of_the_published_address_needs_a_stop(released, settings, monkeypatch):
    """Until `make stop` the environment keeps its address, and is open to nobody else."""
    released("1")
    monkeypatch.setenv("SLIPWAY_SERVICE_ADDRESS", "0.0.0.0")
    with pytest.raises(DeployError, match=r"the proxy of staging is published on 127\.0\.0\.1, not on 0\.0\.0\.0"):
        released("2")
    assert docker.serving("staging", settings).version == "1"


def test_invalid_address_is_refused_before_anything_starts(released, monkeypatch):
    """A host name, or a port with it, is not an address."""
    monkeypatch.setenv("SLIPWAY_SERVICE_ADDRESS", "localhost:80")
    with pytest.raises(DeployError, match="SLIPWAY_SERVICE_ADDRESS is 'localhost:80', which is no IPv4 address"):
        released("1")
