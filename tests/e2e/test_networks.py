"""The releases' network on a real engine, created by several commands at once: one is left, and all use it."""

import threading
import uuid

import docker
import pytest

from delivery import networks
from delivery.host import services
from pipeline.errors import DeployError


@pytest.fixture
def name(engine):
    """A unique network name; networks of that name are removed at the end."""
    name = f"slipway-test-{uuid.uuid4().hex[:8]}"
    yield name
    for network in networks.named(engine, name):
        network.remove()


def two(engine, name):
    """Two networks of one name, as after a race; the older first."""
    for _ in range(2):
        engine.networks.create(name, driver="bridge")
    return networks.named(engine, name)


@pytest.fixture
def container(engine, name):
    """A container that is created on this network and not started."""
    images = [image.id for image in engine.images.list() if any("python" in tag for tag in image.tags)]
    if not images:
        pytest.skip("the engine has no base image")
    network = networks.ensure(engine, name)
    made = engine.containers.create(images[0], ["sleep", "60"], name=name, network=network.id)
    yield made
    made.remove(force=True)


def test_concurrent_commands_get_one_network(name):
    """Four that start at the same moment, several times: one id for all, and one network is left."""
    for _ in range(3):
        begin, got = threading.Barrier(4), []

        def make(begin=begin, got=got):
            engine = docker.from_env()
            begin.wait()
            got.append(networks.ensure(engine, name).id)
            engine.close()

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        engine = docker.from_env()
        (left,) = networks.named(engine, name)
        assert got == [left.id] * 4
        left.remove()
        engine.close()


def test_duplicate_network_is_removed(engine, name):
    """Of two existing ones the older is kept, by a deployment as by `make up`; a second time changes nothing."""
    for repair in (lambda: networks.ensure(engine, name), lambda: services.make_network(name)):
        older, _ = two(engine, name)
        repair()
        repair()
        assert [network.id for network in networks.named(engine, name)] == [older.id]
        older.remove()


def test_container_starts_despite_a_new_duplicate(engine, name, container):
    """The engine refuses to start it while there are two; the newer one is removed, and the container runs on the older."""
    (mine,) = networks.named(engine, name)
    engine.networks.create(name, driver="bridge")
    networks.start(engine, container, name)
    container.reload()
    assert container.status == "running" and networks.holds(container, mine)
    assert [network.id for network in networks.named(engine, name)] == [mine.id]


def test_duplicate_network_in_use_is_named(engine, name, container):
    """A container on the newer network is not disconnected: the message has the command that removes the network."""
    container.start()
    newer = engine.networks.create(name, driver="bridge")
    other = engine.containers.create(container.image.id, ["sleep", "60"], name=f"{name}-other")
    try:
        other.start()
        newer.connect(other)
        with pytest.raises(DeployError, match=f"two networks {name}, and the newer one is in use") as refused:
            networks.ensure(engine, name)
        assert f"docker network rm {newer.id[:12]}" in refused.value.then
    finally:
        other.remove(force=True)
        newer.remove()


def test_networks_are_ordered_by_nanosecond():
    """An engine omits a fraction's trailing zeros, which is handled; of equal age, the lower id comes first."""

    class Network:
        def __init__(self, created, id):
            self.attrs, self.id = {"Created": created}, id

    made = [
        Network("2026-01-31T10:00:00.123456789Z", "b"),
        Network("2026-01-31T10:00:00.12Z", "d"),
        Network("2026-01-31T10:00:00Z", "c"),
        Network("2026-01-31T10:00:00Z", "a"),
    ]
    assert [network.id for network in sorted(made, key=networks._age)] == ["a", "c", "d", "b"]
