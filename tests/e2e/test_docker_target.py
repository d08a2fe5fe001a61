"""Staging and production as containers of a real engine: built once, switched under load, undone, repaired."""

import io
import json
import re
import socket
import subprocess
import time
import uuid

import pytest
import requests

from pipeline.processes import free_port
from tests.serving.load import constant_load
from tests.tools import NETWORK

RELEASE = """
from pathlib import Path
from pipeline.errors import edge
from delivery.release import Release
from pipeline.settings import load_settings
from delivery.targets import docker
import json, sys
@edge
def main():
    bundle = Path({bundle!r})
    says = json.loads((bundle / "release.json").read_text())
    docker.release("staging", Release(says["name"], says["version"], says["digest"], bundle, {image!r}), load_settings())
sys.exit(main())
"""


class Containers:
    """A fork that ships to containers, and the engine's view of them."""

    def __init__(self, fork, engine, registry):
        self.fork, self.engine = fork, engine
        self.repository = f"{registry}/slipway-test/{uuid.uuid4().hex}"
        self.environment = {"IMAGE_REPOSITORY": self.repository}

    def ok(self, *arguments):
        """Run a command that must succeed."""
        return self.fork.ok(*arguments, **self.environment)

    def refused(self, *arguments):
        """Run a command that must be refused with a message."""
        return self.fork.refused(*arguments, **self.environment)

    def status(self):
        """The status by environment, from `make status`."""
        return {
            row["environment"]: row for row in json.loads(self.ok("-m", "scripts.status", "--json"))["environments"]
        }

    def container(self, environment, role="live"):
        """The container in a role, or None."""
        found = self.engine.containers.list(
            all=True,
            ignore_removed=True,  # a container removed meanwhile is ignored
            filters={"label": [f"slipway.checkout={self.fork.root}", f"slipway.environment={environment}"]},
        )
        return next((container for container in found if f"-{environment}-{role}" in container.name), None)

    def release(self, image, bundle):
        """Release any image to staging by the target's function; it must be refused; returns the message."""
        return self.refused("-c", RELEASE.format(bundle=str(bundle), image=image))


@pytest.fixture(scope="module")
def two(fork, engine, registry):
    """A fork on containers in which version 2 has replaced version 1."""
    fork.edit("pipeline.toml", 'target = "process" ', 'target = "docker" ')
    fork.edit("pipeline.toml", 'policy = "better" ', 'policy = "not_worse" ')
    fork.edit("pipeline.toml", "\nmargin = 0.01 ", "\nmargin = 0.5 ")
    made = Containers(fork, engine, registry)
    made.ok("-m", "scripts.ship")
    made.first = made.container("production").labels["slipway.release.image"]
    fork.edit("pipeline.toml", "C = 0.5 ", "C = 0.6 ")
    url = made.status()["production"]["url"]
    example = [field["example"] for field in fork.json("build/bundle/contract.json")["inputs"]]
    made.example = example
    with constant_load(url, example) as made.load:
        made.shipped = made.ok("-m", "scripts.ship")
    yield made
    made.ok("-m", "scripts.stop")
    for image in engine.images.list(made.repository):
        engine.images.remove(image.id, force=True)


def test_no_request_is_lost_while_the_second_version_ships(two):
    """Production had constant requests while version 2 was built, tested and switched to: every request was answered."""
    assert two.load.failures == []
    assert min(two.load.answers["1"], two.load.answers["2"]) > 20


def test_staging_and_production_run_the_same_digest(two):
    """Both containers run the image that was pushed once, by its digest, and MLflow has it."""
    images = {two.container(environment).labels["slipway.release.image"] for environment in ("staging", "production")}
    assert images == {two.fork.json("build/image.json")["image"]}
    assert re.fullmatch(r".+@sha256:[0-9a-f]{64}", images.pop())
    version = two.fork.mlflow().get_model_version("breast-cancer", "2")
    assert version.tags["image"] == two.fork.json("build/image.json")["image"]
    assert len({two.container(environment).image.id for environment in ("staging", "production")}) == 1


def test_printed_curl_command_works(two):
    """The curl line at the end of `make ship` gets an answer from the container."""
    line = next(line for line in two.shipped.splitlines() if line.startswith("try it:")).split(":", 1)[1]
    answer = json.loads(subprocess.run(line, shell=True, capture_output=True, text=True, timeout=30).stdout)
    assert answer["model_version"] == "2" and answer["label"] in ("benign", "malignant")


def test_containers_are_hardened(two):
    """Service and proxy run read-only, without capabilities, as an unnamed user, with limits, on loopback only."""
    for role in ("live", "proxy"):
        container = two.container("production", role)
        host = container.attrs["HostConfig"]
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and "no-new-privileges" in host["SecurityOpt"]
        assert host["Memory"] and host["PidsLimit"] and host["RestartPolicy"]["Name"] == "unless-stopped"
        assert container.exec_run("id -u").output.strip() == b"10001"
        published = [place["HostIp"] for places in container.ports.values() for place in places or []]
        assert set(published) == {"127.0.0.1"}


def test_environments_are_found_by_name_on_the_network(two):
    """On the network of SLIPWAY_NETWORK the proxies are staging:8000 and production:8000."""
    proxy = two.container("staging", "proxy")
    ask = "import urllib.request; print(urllib.request.urlopen('http://production:8000/health').read().decode())"
    assert json.loads(proxy.exec_run(["python", "-c", ask]).output)["version"] == "2"


def test_rollback_restores_the_first_image_without_losing_a_request(two):
    """`make rollback` under load: version 1 serves from its own image, alias and container agree, and back again."""
    url = two.status()["production"]["url"]
    with constant_load(url, two.example) as load:
        said = two.ok("-m", "scripts.rollback")
        assert two.container("production").labels["slipway.release.image"] == two.first
        assert two.status()["production"]["agree"] and two.status()["production"]["version"] == "1"
        two.ok("-m", "scripts.rollback", "--version", "2")
    assert "building" not in said and "pushing" not in said
    assert load.failures == [] and min(load.answers["1"], load.answers["2"]) > 20
    assert two.status()["production"]["version"] == "2"


def test_rehearsal_on_containers(two):
    """The rehearsal shows a broken release undone, with staging's container unchanged."""
    before = two.container("staging").id
    assert "undone: a broken release does no harm" in two.ok("-m", "scripts.rehearse")
    assert two.container("staging").id == before


def variant(engine, image, lines):
    """A variant of an image with some lines changed; returns its id."""
    text = f"FROM {image}\n{lines}\n".encode()
    return engine.images.build(fileobj=io.BytesIO(text), rm=True, forcerm=True)[0].id


def test_image_that_exits_is_undone(two):
    """An image whose service exits at once is refused with the end of its log, and removed; staging is unchanged."""
    bad = variant(two.engine, two.first, 'CMD ["--bundle", "/nowhere"]')
    before = two.container("staging").id
    said = two.release(bad, two.fork.root / "build/bundle")
    assert "the service for staging ended" in said and "/nowhere" in said
    assert two.container("staging").id == before and two.container("staging", "next") is None
    assert two.status()["staging"]["version"] == "2"
    two.engine.images.remove(bad, force=True)


def test_image_that_never_becomes_ready_is_undone(two):
    """An image that hangs is given up after ready_seconds and removed; staging is unchanged."""
    bad = variant(two.engine, two.first, 'ENTRYPOINT ["sh", "-c", "sleep 600"]\nCMD []')
    two.fork.edit("pipeline.toml", "ready_seconds = 30", "ready_seconds = 3")
    said = two.release(bad, two.fork.root / "build/bundle")
    two.fork.edit("pipeline.toml", "ready_seconds = 3", "ready_seconds = 30")
    assert "was not ready within 3 s" in said
    assert two.container("staging", "next") is None and two.status()["staging"]["version"] == "2"
    two.engine.images.remove(bad, force=True)


def test_image_with_wrong_answers_is_undone(two):
    """An image with another version's model is refused by the golden predictions of the right one."""
    said = two.release(two.first, two.fork.root / "build/bundle")
    assert "smoke test of" in said
    assert two.status()["staging"]["version"] == "2"


def test_missing_digest_is_named(two):
    """A digest that exists nowhere is named, with advice; staging is unchanged."""
    image = f"{two.environment['IMAGE_REPOSITORY']}@sha256:{'0' * 64}"
    said = two.release(image, two.fork.root / "build/bundle")
    assert f"image {image} is not in its registry" in said and "make image" in said
    assert two.status()["staging"]["version"] == "2"


def test_missing_image_is_pulled_by_digest(two):
    """After the engine lost the image, a deployment pulls it by its digest."""
    container = two.container("staging")
    two.ok("-m", "scripts.stop")
    for image in {container.image.id}:
        two.engine.images.remove(image, force=True)
    said = two.ok("-m", "scripts.deploy", "--environment", "staging", "--version", "2")
    assert "pulling" in said and "building" not in said
    two.ok("-m", "scripts.deploy", "--environment", "production", "--version", "2")


def test_port_in_use_is_named(two):
    """A port that another program holds is named, and nothing remains."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken, own = other.getsockname()[1], two.status()["staging"]["url"].rsplit(":", 1)[1]
        two.fork.edit("pipeline.toml", f"staging_port = {own}", f"staging_port = {taken}")
        said = two.refused("-m", "scripts.deploy", "--environment", "staging", "--version", "2")
        two.fork.edit("pipeline.toml", f"staging_port = {taken}", f"staging_port = {own}")
    assert f"port {taken} for staging is taken by another program" in said
    assert two.container("staging", "next") is None
    assert requests.get(f"http://127.0.0.1:{own}/readyz", timeout=5).status_code == 200
    two.ok("-m", "scripts.deploy", "--environment", "staging", "--version", "2")
    assert two.status()["staging"]["agree"]


def test_new_port_gets_a_new_proxy(two):
    """After the port was changed, the next deployment responds on the new one, and the old proxy is gone."""
    own, new = two.status()["staging"]["url"].rsplit(":", 1)[1], free_port()
    two.fork.edit("pipeline.toml", f"staging_port = {own}", f"staging_port = {new}")
    two.ok("-m", "scripts.deploy", "--environment", "staging", "--version", "2")
    assert two.status()["staging"]["url"].endswith(f":{new}") and two.status()["staging"]["agree"]
    assert requests.get(f"http://127.0.0.1:{new}/readyz", timeout=5).status_code == 200
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{own}/readyz", timeout=3)


def test_version_keeps_its_image_when_the_code_changes(two):
    """Also without a registry: deploying a version again after `serving/` was changed runs its original image."""
    del two.environment["IMAGE_REPOSITORY"]
    two.ok("-m", "scripts.deploy", "--environment", "staging", "--version", "2")
    before = two.container("staging").image.id
    two.fork.edit("serving/app.py", '"""The service: one', '"""A service: one')
    for command in (["-m", "scripts.deploy"], ["-m", "scripts.rollback"]):
        said = two.ok(*command, "--environment", "staging", "--version", "2")
        assert "building" not in said and two.container("staging").image.id == before
    two.fork.edit("serving/app.py", '"""A service: one', '"""The service: one')
    two.environment["IMAGE_REPOSITORY"] = two.repository


def test_deployment_killed_between_renames_is_repaired(two):
    """When no container has the live name, the next deployment gives it back and continues."""
    live = two.container("production")
    live.rename(live.name.removesuffix("live") + "before")
    status = two.status()["production"]
    assert status["version"] == "2" and requests.get(f"{status['url']}/readyz", timeout=10).status_code == 200
    two.ok("-m", "scripts.deploy", "--environment", "production", "--version", "2")
    assert two.status()["production"]["agree"] and two.container("production", "before") is None


def test_deployment_killed_during_its_test_is_repaired(two):
    """kill -9 while the new container starts: the current release is unchanged, and the next deployment removes the rest."""
    command = ["-m", "scripts.deploy", "--environment", "staging", "--version", "2"]
    process = two.fork.start(*command, **two.environment)
    deadline = time.monotonic() + 60
    while two.container("staging", "next") is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert two.status()["staging"]["version"] == "2"
    two.ok("-m", "scripts.deploy", "--environment", "staging", "--version", "2")
    assert two.container("staging", "next") is None and two.status()["staging"]["agree"]


def test_concurrent_deployments_run_one_after_the_other(two):
    """Both succeed, and one container serves."""
    command = ["-m", "scripts.deploy", "--environment", "staging", "--version"]
    both = [two.fork.start(*command, version, **two.environment) for version in ("1", "2")]
    assert [process.wait(600) for process in both] == [0, 0], [process.stdout.read() for process in both]
    assert two.container("staging", "next") is None and two.container("staging", "before") is None
    two.ok(*command, "2")


def test_another_network_is_refused_before_any_change(two):
    """With another SLIPWAY_NETWORK than the running proxy's, a deployment is refused, and the current release continues."""
    url, before = two.status()["staging"]["url"], two.container("staging").id
    other = f"{NETWORK}-other"
    two.environment["SLIPWAY_NETWORK"] = other
    said = two.refused("-m", "scripts.deploy", "--environment", "staging", "--version", "2")
    del two.environment["SLIPWAY_NETWORK"]
    two.engine.networks.get(other).remove()
    assert f"the proxy of staging is on the network {NETWORK}, not on {other}" in said
    assert two.container("staging").id == before and requests.get(f"{url}/readyz", timeout=5).status_code == 200


def test_doctor_recognises_its_own_proxy(two):
    """When the release behind a proxy was stopped by hand, doctor says so, and not that another program holds the port."""
    two.container("staging").kill()
    findings = {row["what"]: row for row in json.loads(two.ok("-m", "scripts.doctor", "--json"))}
    assert "its release does not run" in findings["staging"]["says"]
    two.ok("-m", "scripts.deploy", "--environment", "staging", "--version", "2")
    assert two.status()["staging"]["agree"]


def test_stop_without_the_engine_fails(two):
    """While the engine does not respond, `make stop` says that containers may continue, and exits red."""
    said = two.fork.refused("-m", "scripts.stop", DOCKER_HOST="unix:///nowhere/docker.sock")
    assert "containers of production may still run: no Docker engine answers" in said or "of staging may still" in said
    assert two.status()["production"]["version"] == "2"


def test_unreachable_engine_is_explained(two):
    """Without an engine, target docker is refused with a message, and doctor says so."""
    nowhere = {"DOCKER_HOST": f"tcp://127.0.0.1:{free_port()}"}
    said = two.fork.refused("-m", "scripts.deploy", "--environment", "staging", **nowhere)
    assert "target docker cannot be used here: no Docker engine answers" in said
    findings = json.loads(two.fork.run("-m", "scripts.doctor", "--json", **nowhere).stdout)
    assert next(row for row in findings if row["what"] == "target")["state"] == "fault"


def test_stop_removes_the_containers_of_this_checkout(two):
    """`make stop` ends both environments; nothing responds on their ports."""
    url = two.status()["production"]["url"]
    assert "production (docker)" in two.ok("-m", "scripts.stop")
    assert two.container("production") is None and two.container("production", "proxy") is None
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=3)
