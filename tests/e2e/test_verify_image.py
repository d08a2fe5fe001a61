"""The verification of an image before it is deployed: a real engine and registry, and a fake `gh`."""

import hashlib
import io
import json
import os
import tarfile
import uuid
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from delivery.images import attestation, docker_engine, image_registry, recipe
from pipeline import container_registry
from pipeline.errors import ImageError
from pipeline.registry.model_version import ModelVersion
from scripts.ci import verify_image
from tests.e2e.registries import OwnRegistry

RUN = f"run-{uuid.uuid4().hex[:12]}"
SETTINGS = SimpleNamespace(name="cars")
GH = """#!/bin/sh
printf '%s\\n' "$@" > "{folder}/asked"
printf '%s' "$GH_HOST" > "{folder}/host"
[ -z "$DOCKER_CONFIG" ] || cat "$DOCKER_CONFIG/config.json" > "{folder}/login"
{then}
"""


def a_version(**tags):
    """A version in MLflow that no other test uses."""
    digest = hashlib.sha256(uuid.uuid4().bytes).hexdigest()
    return ModelVersion("cars", "3", RUN, **{"digest": digest, "commit": "c" * 40, **tags})


def push(engine, repository, auth=None, **labels):
    """Push a small image with these labels; returns its name by digest. The engine forgets it, so that it must be pulled."""
    tag = uuid.uuid4().hex[:12]
    dockerfile = "FROM scratch\nCOPY Dockerfile /\n" + "".join(
        f"LABEL {key}={value}\n" for key, value in labels.items()
    )
    archive = _archive(dockerfile)
    image, _ = engine.images.build(fileobj=archive, custom_context=True, tag=f"{repository}:{tag}", rm=True)
    name = f"{repository}@{image_registry.push(engine, repository, tag, auth)}"
    engine.images.remove(image.id, force=True)
    return name


def _archive(dockerfile):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile)
        tar.addfile(entry, io.BytesIO(dockerfile.encode()))
    archive.seek(0)
    return archive


@pytest.fixture(autouse=True)
def job(monkeypatch, registry, engine):
    """A job of a repository with images in a registry; images of this run are removed at the end."""
    for name in [name for name in os.environ if name.startswith(("SLIPWAY_", "IMAGE_REPOSITORY", "GITHUB_", "DOCKER_CONFIG"))]:  # fmt: skip
        monkeypatch.delenv(name)
    monkeypatch.setenv("IMAGE_REPOSITORY", f"{registry}/slipway-test/{RUN}")
    monkeypatch.setenv("GITHUB_REPOSITORY", "octo/model")
    monkeypatch.setattr(image_registry, "WAITS", (0.01, 0.02))
    yield
    for image in engine.images.list(filters={"label": f"slipway.run={RUN}"}):
        engine.images.remove(image.id, force=True)


@pytest.fixture
def gh(monkeypatch, tmp_path):
    """Put a `gh` first on PATH that records its arguments, and does `then`."""

    def put(then: str = "exit 0"):
        program = tmp_path / "bin" / "gh"
        program.parent.mkdir()
        program.write_text(GH.format(folder=tmp_path, then=then))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        monkeypatch.setenv("SLIPWAY_ATTESTED", "true")
        return tmp_path

    return put


def the_repository():
    return container_registry.repository("cars")[0]


def pushed_version(engine, auth=None, **other):
    """A version whose image is in the registry; `other` labels replace the right ones."""
    version = a_version()
    labels = recipe.identity(version) | {f"slipway.{key}": value for key, value in other.items()}
    return replace(version, image=push(engine, the_repository(), auth, **labels))


def refused(version) -> str:
    """Verify an image that must be refused; returns the message."""
    with pytest.raises(ImageError) as error:
        attestation.verify(SETTINGS, version)
    return f"{error.value.what} | {error.value.then}"


def test_right_image_is_pulled_and_verified(engine, capsys):
    """It passes and is in the engine afterwards; a message says that attestations were not checked."""
    version = pushed_version(engine)
    assert docker_engine.get(engine, version.image) is None
    assert attestation.verify(SETTINGS, version) == version.image
    assert docker_engine.get(engine, version.image) is not None
    assert "attestation is not verified" in capsys.readouterr().out


@pytest.mark.parametrize("label", ["name", "version", "run", "digest"])
def test_image_of_another_version_is_refused(engine, label):
    """Each label that names a version must be MLflow's, so a substituted image is found."""
    said = refused(pushed_version(engine, **{label: "other"}))
    assert f"its label slipway.{label} is other, MLflow says" in said


def test_version_without_image_is_refused():
    """If images are pushed, a version without one is not deployed."""
    assert "has no image in MLflow | `make image VERSION=3`" in refused(a_version())


@pytest.mark.parametrize("name", ["elsewhere.example/cars@sha256:" + "0" * 64, "{here}:v3", "{here}@sha256:12", "{here}x@sha256:" + "0" * 64])  # fmt: skip
def test_only_a_digest_of_this_repository_counts(name):
    """A tag can be moved, and another repository is not ours."""
    said = refused(a_version(image=name.format(here=the_repository())))
    assert "which is not a digest in" in said


@pytest.mark.needs("docker-registry")
def test_image_missing_in_the_registry_is_refused(engine, tmp_path, monkeypatch):
    """A copy in this engine does not count: the registry is asked."""
    own = OwnRegistry(tmp_path)
    own.start()
    try:
        monkeypatch.setenv("IMAGE_REPOSITORY", f"{own.address}/cars")
        version = pushed_version(engine)
        attestation.verify(SETTINGS, version)
        own.forget("cars", version.image.partition("@")[2])
        assert "`make image VERSION=n` builds and pushes a version again" in refused(version)
    finally:
        own.close()


def test_attestation_must_be_of_this_repository_s_workflow(engine, gh):
    """`gh` is called for this image by digest, this repository and its image workflow."""
    folder = gh()
    version = pushed_version(engine)
    attestation.verify(SETTINGS, version)
    asked = (folder / "asked").read_text().splitlines()
    assert asked == ["attestation", "verify", f"oci://{version.image}", "--repo", "octo/model",
                     "--signer-workflow", "octo/model/.github/workflows/image.yml"]  # fmt: skip
    assert (folder / "host").read_text() == "github.com" and not (folder / "login").exists()


def test_github_enterprise_host_is_used(engine, gh, monkeypatch):
    """On a GitHub with its own host name, the attestation is looked up there."""
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://team.ghe.com")
    folder = gh()
    attestation.verify(SETTINGS, pushed_version(engine))
    assert (folder / "host").read_text() == "team.ghe.com"
    assert "team.ghe.com/octo/model/.github/workflows/image.yml" in (folder / "asked").read_text()


@pytest.mark.parametrize("then, words", [
    ("echo 'no attestations found for subject' >&2; exit 1", "no attestations found for subject"),
    ("exit 4", "`gh` ended with 4"),
    ("sleep 30", "did not answer"),
])  # fmt: skip
def test_without_a_valid_attestation_nothing_is_deployed(engine, gh, monkeypatch, then, words):
    """Any failure of `gh` is a refusal with its message; so is a timeout."""
    monkeypatch.setattr(attestation, "GH_SECONDS", 1)
    gh(then)
    said = refused(pushed_version(engine))
    assert "is not attested to be made by .github/workflows/image.yml of octo/model" in said and words in said


def test_missing_gh_is_refused(engine, monkeypatch, tmp_path):
    """If the program is missing, the message says so, and the image is refused."""
    version = pushed_version(engine)
    monkeypatch.setenv("SLIPWAY_ATTESTED", "true")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "`gh` is not on this machine" in refused(version)


@pytest.mark.needs("docker-registry")
def test_gh_gets_the_registry_login(engine, gh, tmp_path_factory, monkeypatch):
    """The job's login is passed to `gh` for that registry alone, and is removed afterwards."""
    own = OwnRegistry(tmp_path_factory.mktemp("registry"), login=True)
    own.start()
    try:
        monkeypatch.setenv("IMAGE_REPOSITORY", f"{own.address}/cars")
        monkeypatch.setenv("IMAGE_REPOSITORY_USERNAME", "tester")
        monkeypatch.setenv("IMAGE_REPOSITORY_PASSWORD", "right horse")
        folder = gh(f'echo "$DOCKER_CONFIG" > "{tmp_path_factory.getbasetemp()}/where"')
        attestation.verify(SETTINGS, pushed_version(engine, container_registry.login()))
        login = json.loads((folder / "login").read_text())
        assert login == {"auths": {own.address: {"auth": "dGVzdGVyOnJpZ2h0IGhvcnNl"}}}
        where = (tmp_path_factory.getbasetemp() / "where").read_text().strip()
        assert where and not Path(where).exists()
    finally:
        own.close()


def test_without_a_registry_there_is_nothing_to_verify(monkeypatch, capsys):
    """Images that never leave this machine need no proof; MLflow gets no request."""
    monkeypatch.delenv("IMAGE_REPOSITORY")
    assert verify_image.main(["--version", "3"]) == 0
    assert "nothing to verify" in capsys.readouterr().out
