"""An image's name and content, and the messages when an engine or registry fails; tests/e2e uses a real engine."""

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from delivery.images import build, docker_engine, image_registry, recipe
from pipeline import artifacts, container_registry, processes
from pipeline.errors import ImageError, RegistryError, StageError
from pipeline.registry.model_version import ModelVersion
from pipeline.settings import load_settings
from scripts import build_image
from serving.experiment.experiment import CHALLENGER
from serving.model.bundle import EXPERIMENT
from tests import tools
from tests.delivery.images.fake_engine import CUT, fake_engine
from tests.serving.bundles import change, make_bundle, read, seal

ROOT = Path(__file__).resolve().parents[3]
DIGEST = "sha256:" + "b" * 64
# Recorded from an engine whose disk was full, during a build and outside one.
FULL = "\x1b[91mERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
FULL_ENGINE = "Error processing tar file(exit status 1): write /opt/venv/lib.so: no space left on device"
# The same from buildx, which repeats the command.
LONG = f"ERROR: executor failed running [/bin/sh -c {'cd /opt && ' * 60}true]: could not find bridge docker0\n"


class Tags:
    """Stands in for MLflow: stores the tags of a version."""

    def __init__(self):
        self.set = {}

    def set_model_version_tag(self, name, version, key, value):
        self.set[name, version, key] = value


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Isolated from this machine's engine, registries and logins, with its own locks."""
    for name in ("IMAGE_REPOSITORY", "IMAGE_REPOSITORY_USERNAME", "IMAGE_REPOSITORY_PASSWORD", "PYTHON_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    monkeypatch.setattr(image_registry, "WAITS", (0.01, 0.02))
    monkeypatch.setattr(docker_engine, "has_buildx", lambda: False)
    monkeypatch.setattr(processes, "STATE", tmp_path / "state")


@pytest.fixture
def bundle(tmp_path):
    """A small bundle."""
    return make_bundle("binary", tmp_path / "bundle")


@pytest.fixture
def skops_bundle(tmp_path):
    """A small bundle with a scikit-learn model and code of the project."""
    folder = make_bundle("skops", tmp_path / "skops")
    (folder / "code/project").mkdir(parents=True)
    (folder / "code/project/model.py").write_text("x = 1\n")
    return seal(folder)


@pytest.fixture
def version(bundle):
    """The bundle's version in MLflow."""
    return version_of(bundle)


@pytest.fixture
def settings(version):
    """The shipped settings, for that model."""
    return load_settings(ROOT / "tests/example/pipeline.toml").model_copy(update={"name": version.name})


def version_of(bundle, **tags):
    """A bundle's version in MLflow."""
    release = read(bundle, "release.json")
    tags = {"digest": release["digest"], "commit": release["commit"], "data_hash": "d" * 64, **tags}
    return ModelVersion(release["name"], release["version"], release["run_id"], created=1_760_000_000, **tags)


@pytest.mark.parametrize("name", ["ghcr.io/team/model", "127.0.0.1:5050/a", "localhost/a/b-c_d.e", "team/model", "host:5000/a"])  # fmt: skip
def test_valid_repository_is_used_unchanged(monkeypatch, name):
    """A valid IMAGE_REPOSITORY is used unchanged, and images are pushed to it."""
    monkeypatch.setenv("IMAGE_REPOSITORY", name)
    assert container_registry.repository("any") == (name, True)


def test_repository_is_lower_cased(monkeypatch):
    """Owners and repositories on GitHub may have capitals, image names may not."""
    monkeypatch.setenv("IMAGE_REPOSITORY", "ghcr.io/Octo-Team/Template")
    assert container_registry.repository("any") == ("ghcr.io/octo-team/template", True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("https://ghcr.io/team/model", "begins with https://"),
        ("ghcr.io/team/model:v1", 'includes the tag "v1"'),
        (f"ghcr.io/team/model@{DIGEST}", "includes a digest"),
        ("ghcr.io/team//model", "only a-z"),
        ("ghcr.io/team/model/", "only a-z"),
        ("team/my model", "only a-z"),
        ("-team/model", "only a-z"),
        ("a" * 201, "only a-z"),
    ],
)
def test_malformed_repository_is_refused(monkeypatch, name, words):
    """Each kind of misspelt IMAGE_REPOSITORY is refused with the reason, before anything starts."""
    monkeypatch.setenv("IMAGE_REPOSITORY", name)
    with pytest.raises(ImageError, match=words.replace("?", r"\?")):
        container_registry.repository("any")


@pytest.mark.parametrize(
    ("name", "repository"),
    [("breast-cancer", "breast-cancer"), ("a__b", "a_b"), ("a-_b", "a_b"), ("ends-", "ends"), ("ends_", "ends")],
)
def test_every_model_name_gives_a_repository(name, repository):
    """Without IMAGE_REPOSITORY the image is named after the model, adjusted if necessary, and is not pushed."""
    assert container_registry.repository(name) == (f"slipway/{repository}", False)
    assert container_registry.PATTERN.fullmatch(f"slipway/{repository}")


def test_incomplete_login_is_refused_without_showing_it(monkeypatch):
    """A password without a user name, or the reverse, is refused by the name of the missing variable; both together are a login."""
    monkeypatch.setenv("IMAGE_REPOSITORY_PASSWORD", "pssst")
    with pytest.raises(ImageError, match="PASSWORD is set, but IMAGE_REPOSITORY_USERNAME is not") as refused:
        container_registry.login()
    assert "pssst" not in str(refused.value) + refused.value.then
    monkeypatch.setenv("IMAGE_REPOSITORY_USERNAME", "me")
    assert container_registry.login() == {"username": "me", "password": "pssst"}
    monkeypatch.delenv("IMAGE_REPOSITORY_PASSWORD")
    with pytest.raises(ImageError, match="USERNAME is set, but IMAGE_REPOSITORY_PASSWORD is not"):
        container_registry.login()


def test_tag_has_version_and_commit(version):
    """An image's tag is the number of the version and the first twelve characters of its commit."""
    assert recipe.tag(replace(version, commit="0123456789abcdef0123-dirty")) == "v3-0123456789ab"


def test_labels_describe_model_and_origin(monkeypatch, version):
    """The labels name model, version, run, data, digest, both commits, and in a workflow the repository."""
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://forge.example")
    monkeypatch.setenv("GITHUB_REPOSITORY", "team/repo")
    labels = recipe.labels(version, "abc", "made")
    assert labels["org.opencontainers.image.created"] == "2025-10-09T08:53:20Z"
    assert labels["org.opencontainers.image.revision"] == "abc"
    assert labels["org.opencontainers.image.source"] == "https://forge.example/team/repo"
    ours = {key.removeprefix("slipway."): value for key, value in labels.items() if key.startswith("slipway.")}
    expected = {"name": version.name, "version": "3", "run": "run-3", "data": "d" * 64, "inputs": "made"}
    assert ours == {**expected, "digest": version.digest, "commit": "c0ffee"}


def test_context_has_only_code_requirements_and_bundle(tmp_path, bundle):
    """Secrets and data beside these files, even inside serving/, do not reach the builder."""
    shutil.copytree(ROOT / "serving", tmp_path / "repo/serving", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "requirements", tmp_path / "repo/requirements")
    for secret in (
        ".env",
        "data.csv",
        "serving/.env",
        "serving/key.pem",
        "serving/http/static/.env",
        "requirements/pip.conf",
    ):
        (tmp_path / "repo" / secret).write_text("secret")
    with tarfile.open(fileobj=io.BytesIO(recipe.context(tmp_path / "repo", bundle))) as tar:
        members = tar.getmembers()
    names = {member.name for member in members}
    there = [path for path in (ROOT / "serving").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    code = {path.relative_to(ROOT).as_posix() for path in there if not path.name.startswith("Dockerfile")}
    model = {f"build/bundle/{path.name}" for path in bundle.iterdir()}
    assert names == code | model | {"Dockerfile", "requirements/serving.txt"}
    assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}


def test_manual_build_gets_the_same_files():
    """The ignore file includes exactly the files of serving/ that `make image` sends."""
    lines = (ROOT / "serving/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "serving/" in line and "requirements" not in line] == [
        f"!serving/{pattern}" for pattern in recipe.CODE
    ]


def test_model_format_determines_the_packages(bundle, skops_bundle):
    """The context of a scikit-learn model has its locked packages instead of those for ONNX, and its code."""
    with tarfile.open(fileobj=io.BytesIO(recipe.context(ROOT, skops_bundle))) as tar:
        names = set(tar.getnames())
    assert {name for name in names if name.startswith("requirements/")} == {"requirements/serving-sklearn.txt"}
    assert {"build/bundle/model.skops", "build/bundle/code/project/model.py"} <= names
    assert recipe.requirements(bundle) == "requirements/serving.txt"


def test_context_depends_on_content_only(tmp_path, bundle):
    """Times, owners and modes of the files do not change the context; one byte of the bundle does, and so does the base."""
    first = recipe.context(ROOT, bundle)
    again = tmp_path / "again"
    shutil.copytree(bundle, again)
    for path in again.iterdir():
        path.chmod(0o600)
        os.utime(path, (0, 0))
    assert recipe.context(ROOT, again) == first
    made_of = recipe.inputs(first)
    change(again, "reference.json", other=1)
    assert recipe.inputs(recipe.context(ROOT, again)) != made_of


def test_base_and_processor_are_part_of_the_identity(monkeypatch):
    """Another base image or processor makes another image; an empty PYTHON_IMAGE counts as unset."""
    made_of = recipe.inputs(b"context")
    monkeypatch.setenv("PYTHON_IMAGE", "")
    assert recipe.base() == "python:3.11-slim-bookworm" and recipe.inputs(b"context") == made_of
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/arm64")
    other = recipe.inputs(b"context")
    monkeypatch.setenv("PYTHON_IMAGE", "our/python:3.11")
    assert len({made_of, other, recipe.inputs(b"context")}) == 3


def test_dockerfile_and_command_have_the_same_base():
    """The Dockerfile's default base image is the command's."""
    assert f"ARG PYTHON_IMAGE={recipe.BASE}\n" in (ROOT / "serving/Dockerfile").read_text(encoding="utf-8")


def test_bundle_of_another_version_is_refused(settings, bundle, version):
    """A bundle of another version, or a damaged one, is never built into an image."""
    with pytest.raises(StageError, match="of version 3, not of 4"):
        build.build(Tags(), settings, replace(version, number="4"), bundle)
    with (bundle / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(StageError, match=r"model\.onnx is damaged"):
        build.build(Tags(), settings, version, bundle)
    with pytest.raises(RegistryError, match="not registered by this pipeline"):
        build.build(Tags(), settings, replace(version, digest=""), bundle)


def test_missing_engine_is_reported(settings, bundle, version, tmp_path):
    """When no engine responds, the message has its address and advice."""
    with pytest.raises(ImageError, match=f"no Docker engine answers at unix://{tmp_path}/docker.sock") as refused:
        build.build(Tags(), settings, version, bundle)
    assert "start Docker" in refused.value.then


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense", "ssh://"])
def test_invalid_engine_address_is_reported(monkeypatch, address):
    """Whatever is in DOCKER_HOST, the result is one message, not a traceback."""
    monkeypatch.setenv("DOCKER_HOST", address)
    with pytest.raises(ImageError, match=r"no Docker engine answers"):
        docker_engine.connect()


def test_engine_without_permission_is_reported(tmp_path):
    """A socket without permission has another message than a missing one."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "docker.sock"))
    server.listen()
    (tmp_path / "docker.sock").chmod(0)
    command = [sys.executable, "-c", "from delivery.images import docker_engine; docker_engine.connect()"]
    if os.geteuid() == 0:  # root may open anything, unless it drops the capability
        tools.require("setpriv")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    server.close()
    assert "this user may not use the Docker engine" in done.stderr


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([{"stream": FULL}, {"error": "The command '/bin/sh -c pip' returned a non-zero code: 1"}], "no space left"),
        ([{"stream": "Step 11/18 : COPY"}, {"error": FULL_ENGINE}], "no space left"),
        ([{"stream": "ERROR: No matching distribution found for numpy==9\n"}, {"error": "code: 1"}], "for numpy==9"),
        ([{"stream": "Step 7/18 : RUN find\n"}, {"error": "returned a non-zero code: 137"}], "code: 137"),
        ([{"stream": LONG}, {"error": "code: 1"}], "could not find bridge docker0\n"),
        ([{"stream": "Step 7/18 : RUN find\n"}, CUT], "the Docker engine failed"),
    ],
)
def test_failed_build_is_reported_with_its_cause(tmp_path, settings, bundle, version, events, words):
    """The engine's full disk, a package, the end of the log, or the engine's end."""
    tags = Tags()
    with fake_engine(tmp_path, build=[events]), pytest.raises(ImageError, match=words) as failed:
        build.build(tags, settings, version, bundle)
    assert failed.value.then and "\x1b" not in failed.value.what and not tags.set


def test_full_disk_differs_from_a_missing_base(tmp_path, settings, bundle, version):
    """A disk that fills while the base image is pulled is not reported as a missing base image."""
    with fake_engine(tmp_path, build=[[{"error": FULL_ENGINE}]]) as server:
        server.statuses["/images/python"] = (404, "No such image")
        with pytest.raises(ImageError, match="no space left"):
            build.build(Tags(), settings, version, bundle)


PUSHED = [{"status": "Pushed"}, {"aux": {"Digest": DIGEST, "Size": 1}}]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("unauthorized: authentication required", "refuses the log-in"),
        ("denied: requested access to the resource is denied", "refuses the log-in"),
        ("no basic auth credentials", "refuses the log-in"),
        ("name unknown: The repository with name 'a' does not exist", "has no such repository"),
        ("http: server gave HTTP response to HTTPS client", "speaks HTTP"),
        ("x509: certificate signed by unknown authority", "does not trust"),
        ("write /registry/blob: no space left on device", "no space left"),
    ],
)
def test_refusing_registry_is_not_retried(tmp_path, monkeypatch, settings, bundle, version, capsys, error, words):
    """A permanent refusal is reported at once: the version gets no tag, and the password is never shown."""
    for name, value in (("", "reg.example/a"), ("_USERNAME", "me"), ("_PASSWORD", "pssst")):
        monkeypatch.setenv(f"IMAGE_REPOSITORY{name}", value)
    tags = Tags()
    events = [{"status": "Preparing"}, {"error": error}]
    with fake_engine(tmp_path, push=[events]) as server, pytest.raises(ImageError, match=words) as refused:
        build.build(tags, settings, version, bundle)
    assert server.asked.count("push") == 1 and not tags.set
    assert refused.value.what.startswith("reg.example ")
    assert "pssst" not in f"{refused.value} {refused.value.then} {capsys.readouterr()}"


@pytest.mark.parametrize(
    "lost",
    [
        [{"error": 'Get "https://reg.example/v2/": dial tcp 10.0.0.1:443: connect: connection refused'}],
        [{"status": "Pushing"}, {"error": "received unexpected HTTP status: 503 Service Unavailable"}],
        [{"status": "Pushing"}, {"error": "write tcp 10.0.0.1:443: use of closed network connection"}],
        [{"status": "Pushing"}],
    ],
)
def test_unreachable_registry_is_tried_three_times(tmp_path, monkeypatch, settings, bundle, version, capsys, lost):
    """A registry that comes back within two retries gets the image; otherwise it is named, and no tag is written."""
    monkeypatch.setenv("IMAGE_REPOSITORY", "reg.example/a")
    tags = Tags()
    with fake_engine(tmp_path, push=[lost, lost, PUSHED]):
        image = build.build(tags, settings, version, bundle)
    assert image["image"] == f"reg.example/a@{DIGEST}" and image["pushed"]
    assert tags.set == {(version.name, "3", "image"): f"reg.example/a@{DIGEST}"}
    assert capsys.readouterr().out.count("trying again") == 2
    (tmp_path / "docker.sock").unlink()
    with fake_engine(tmp_path, push=[lost]) as server, pytest.raises(ImageError, match=r"^reg\.example was lost"):
        build.build(tags, settings, version, bundle)
    assert server.asked.count("push") == 3


def test_push_reports_its_progress(tmp_path, monkeypatch, settings, bundle, version, capsys):
    """A push prints sent and total bytes over all layers, and that it waits when the registry does not respond."""
    monkeypatch.setenv("IMAGE_REPOSITORY", "reg.example/a")
    monkeypatch.setattr(image_registry, "TELL", 0)
    parts = [("a", 20_000_000, 100_000_000), ("b", 5_000_000, 60_000_000), ("a", 90_000_000, 100_000_000)]
    sent = [{"id": i, "status": "Pushing", "progressDetail": {"current": c, "total": t}} for i, c, t in parts]
    with fake_engine(tmp_path, push=[[*sent, {"status": "Retrying in 5 seconds", "progressDetail": {}}, *PUSHED]]):
        build.build(Tags(), settings, version, bundle)
    said = capsys.readouterr().out
    assert "  25 of 160 MB\n  95 of 160 MB\n  the registry does not answer, retrying in 5 seconds\n" in said


def test_pushed_image_is_neither_built_nor_pushed_again(tmp_path, monkeypatch, settings, bundle, version):
    """A version is done when the registry still has the image of its tag."""
    monkeypatch.setenv("IMAGE_REPOSITORY", "reg.example/a")
    version = replace(version, image=f"reg.example/a@{DIGEST}")
    with fake_engine(tmp_path) as server:
        image = build.build(Tags(), settings, version, bundle)
    assert image["image"] == version.image and image["pushed"]
    assert not {"build", "push"} & set(server.asked)


@pytest.mark.parametrize(
    ("tagged", "status", "message"),
    [
        (f"reg.example/a@{DIGEST}", 404, "manifest unknown"),
        (f"reg.example/a@{DIGEST}", 403, "denied"),
        (f"other.example/a@{DIGEST}", 200, ""),
    ],
)
def test_missing_image_is_pushed_again(tmp_path, monkeypatch, settings, bundle, version, tagged, status, message):  # fmt: skip
    """A digest that was deleted in the registry, or is in another one, is built and pushed again."""
    monkeypatch.setenv("IMAGE_REPOSITORY", "reg.example/a")
    version = replace(version, image=tagged)
    tags = Tags()
    with fake_engine(tmp_path, push=[PUSHED]) as server:
        if message:
            server.statuses["/distribution/"] = (status, message)
        build.build(tags, settings, version, bundle)
    assert server.asked.count("push") == 1 and len(tags.set) == 1


def test_unreachable_registry_does_not_count_as_empty(tmp_path, monkeypatch, settings, bundle, version):
    """When the registry cannot be asked for the image, that is an error, and no other image is built."""
    monkeypatch.setenv("IMAGE_REPOSITORY", "reg.example/a")
    version = replace(version, image=f"reg.example/a@{DIGEST}")
    with fake_engine(tmp_path) as server:
        server.statuses["/distribution/"] = (500, "dial tcp: connect: connection refused")
        with pytest.raises(ImageError, match=r"reg\.example was lost or does not answer"):
            build.build(Tags(), settings, version, bundle)
    assert not {"build", "push"} & set(server.asked)


def test_machine_without_engine_deploys_a_pushed_image(monkeypatch, settings, bundle, version, capsys):
    """The image is found by its tag without an engine, and a message says that nobody checked it."""
    monkeypatch.setenv("IMAGE_REPOSITORY", "reg.example/a")
    version = replace(version, image=f"reg.example/a@{DIGEST}")
    image = build.build(Tags(), settings, version, bundle)
    assert image["image"] == version.image and image["size_mb"] is None
    assert "not looked up" in capsys.readouterr().out


def test_concurrent_builds_wait_for_each_other(monkeypatch, settings, bundle, version):
    """While one command builds, another one on this machine waits, and gives up with a message that names the first."""
    monkeypatch.setattr(build, "WAIT_SECONDS", 0)
    with processes.lock("image", "image of version 2"), pytest.raises(Exception, match="image of version 2"):
        build.build(Tags(), settings, version, bundle)


def test_missing_registration_names_the_verb(monkeypatch, tmp_path):
    """Without build/registered.json the message says which verb writes it."""
    monkeypatch.setattr(build, "BUILD", tmp_path)
    with pytest.raises(StageError, match=r"registered\.json is missing") as missing:
        build.chosen(None, None, None)
    assert "make register" in missing.value.then


def test_stale_registration_is_refused(monkeypatch, tmp_path, settings, version):
    """A build/registered.json whose version is another one in MLflow (emptied meanwhile) is refused."""
    monkeypatch.setattr(build, "BUILD", tmp_path)
    monkeypatch.setattr(build.versions, "by_number", lambda *_: version)
    artifacts.write_json(tmp_path / "registered.json", {"version": "3", "digest": version.digest})
    assert build.chosen(None, settings, None) is version
    artifacts.write_json(tmp_path / "registered.json", {"version": "3", "digest": "other"})
    with pytest.raises(StageError, match="another version 3"):
        build.chosen(None, settings, None)


def test_invalid_repository_is_refused_before_anything_starts(monkeypatch, capsys):
    """The command refuses it with two lines and status 1, before it starts MLflow."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("IMAGE_REPOSITORY", "ghcr.io/team/my model")
    monkeypatch.setattr(build.versions, "connect", lambda _: pytest.fail("MLflow was started"))
    assert build_image.main([]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: IMAGE_REPOSITORY=ghcr.io/team/my model") and "next: " in said


def test_two_formats_in_one_image_have_both_packages(tmp_path, bundle, skops_bundle):
    """An experiment whose challenger has another format gets the packages of both, each once."""
    both = tmp_path / "both"
    shutil.copytree(bundle, both)
    shutil.copytree(skops_bundle, both / EXPERIMENT / CHALLENGER)
    with tarfile.open(fileobj=io.BytesIO(recipe.context(ROOT, both))) as tar:
        text = tar.extractfile(recipe.requirements(both)).read().decode()
    packages = re.findall(r"^([\w.-]+==\S+ ?;?[^\\]*)", text, re.M)
    assert len(packages) == len(set(packages))
    assert {"onnxruntime", "skops", "fastapi"} <= {package.split("==")[0] for package in packages}
