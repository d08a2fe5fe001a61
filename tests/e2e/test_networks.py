"""The network of releases on a real engine, raced for by several commands: one is left, and everybody uses it."""

import threading
import uuid

import docker
import pytest

from delivery import networks
from delivery.host import services
from pipeline.errors import DeployError


@pytest.fixture
def name(engine):
    """A network's name of this test's own; whatever has it afterwards is removed."""
    name = f"slipway-test-{uuid.uuid4().hex[:8]}"
    yield name
    for network in networks.named(engine, name):
        network.remove()


def two(engine, name):
    """Two networks of one name, as a race leaves them; the older first."""
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


def test_of_several_commands_at_once_all_get_one_network(name):
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


def test_an_engine_with_two_is_put_right(engine, name):
    """Of two that are there already the older is left, by a deployment as by `make up`; a second time changes nothing."""
    for repair in (lambda: networks.ensure(engine, name), lambda: services.make_network(name)):
        older, _ = two(engine, name)
        repair()
        repair()
        assert [network.id for network in networks.named(engine, name)] == [older.id]
        older.remove()


def test_a_container_starts_although_a_second_network_was_made_just_then(engine, name, container):
    """The engine refuses the start while there are two; the newer one goes, and the container runs on the older."""
    (mine,) = networks.named(engine, name)
    engine.networks.create(name, driver="bridge")
    networks.start(engine, container, name)
    container.reload()
    assert container.status == "running" and networks.holds(container, mine)
    assert [network.id for network in networks.named(engine, name)] == [mine.id]


def test_a_second_network_that_is_in_use_is_named(engine, name, container):
    """What somebody connected to the newer network is not cut off: the words hold the command that removes it."""
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


def test_networks_are_ordered_to_the_nanosecond():
    """An engine leaves zeros at the end of a fraction out: those count all the same, and of one age the lower id is first."""

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
