"""The image, built, pushed, pulled and run by a real engine; and an engine or registry that fails meanwhile."""

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import uuid
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from docker.errors import ImageNotFound
from packaging.markers import Marker

from delivery.images import build, docker_engine, image_registry, recipe
from delivery.smoke import smoke_test
from pipeline.errors import ImageError
from pipeline.registry.model_version import ModelVersion
from pipeline.settings import load_settings
from serving.http import pages
from tests.e2e.registries import OwnRegistry
from tests.serving.bundles import change, make_bundle, read

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 200e6  # bytes that the image may add to its base
RUN = f"run-{uuid.uuid4().hex[:12]}"  # tags the images of this test run, which are removed at its end


class Tags:
    """Stands in for MLflow: stores the tags of a version."""

    def __init__(self):
        self.set = {}

    def set_model_version_tag(self, name, version, key, value):
        self.set[key] = value


def a_bundle(folder, version="3", kind="binary", **release):
    """A bundle with a unique run, digest and commit, so that no other test's image contains it."""
    own = hashlib.sha256(f"{RUN} {folder} {version}".encode()).hexdigest()
    release = {"run_id": RUN, "digest": own, "commit": own[:40], **release}
    return change(make_bundle(kind, folder, version), "release.json", **release)


def version_of(bundle, **tags):
    """A bundle's version in MLflow."""
    release = read(bundle, "release.json")
    tags = {"digest": release["digest"], "commit": release["commit"], "data_hash": "d" * 64, **tags}
    return ModelVersion(release["name"], release["version"], release["run_id"], created=1_760_000_000, **tags)


def make(bundle, client=None, name="cars", **tags):
    """Build (and push) a bundle's image, like the command."""
    settings = load_settings(ROOT / "tests/example/pipeline.toml").model_copy(update={"name": name})
    return build.build(client or Tags(), settings, version_of(bundle, **tags), bundle)


@pytest.fixture(scope="module", autouse=True)
def tidy(engine):
    """Remove this run's images at the end."""
    yield
    for image in engine.images.list(filters={"label": f"slipway.run={RUN}"}):
        engine.images.remove(image.id, force=True)


@pytest.fixture(autouse=True)
def no_registry_of_ours(monkeypatch):
    """Ignore this machine's own configuration."""
    for name in ("IMAGE_REPOSITORY", "IMAGE_REPOSITORY_USERNAME", "IMAGE_REPOSITORY_PASSWORD", "PYTHON_IMAGE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def local(engine, tmp_path_factory):
    """An image that is only in the engine, and its bundle."""
    bundle = a_bundle(tmp_path_factory.mktemp("local") / "bundle")
    image = make(bundle)
    return SimpleNamespace(**image, folder=bundle, there=engine.images.get(image["image"]))


@pytest.fixture(scope="module")
def files(engine, local):
    """The files that the image adds to its base, by path."""
    return added(engine, local.image)


@pytest.fixture
def own_registry(tmp_path):
    """A separate registry that the test may kill."""
    registry = OwnRegistry(tmp_path)
    registry.start()
    yield registry
    registry.close()


SERVE = ["--bundle", "/app/bundle", "--host", "0.0.0.0", "--port", "8000", "--open"]


def run(engine, image, command=SERVE, **options):
    """A container of the image, hardened as in a deployment, with a port on this machine and no keys."""
    return engine.containers.run(
        image,
        command,
        detach=True,
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        ports={"8000/tcp": ("127.0.0.1", None)},
        labels={"slipway.test": RUN},
        **options,
    )


def ready(container, seconds=30) -> str:
    """The URL of a container once it is ready."""
    for _ in range(seconds * 20):
        container.reload()
        ports = container.ports.get("8000/tcp")
        try:
            url = f"http://127.0.0.1:{ports[0]['HostPort']}"
            if requests.get(f"{url}/readyz", timeout=2).ok:
                return url
        except (requests.RequestException, TypeError):
            assert container.status != "exited", container.logs().decode()
        time.sleep(0.05)
    raise AssertionError(container.logs().decode())


def ask(engine, image, code: str):
    """The JSON output of a piece of Python inside the image."""
    said = engine.containers.run(image, ["-c", code], entrypoint="python", remove=True, read_only=True)
    return json.loads(said)


def layers(engine, image) -> list[str]:
    """The digests of an image's layers."""
    return engine.images.get(image).attrs["RootFS"]["Layers"]


def added(engine, image) -> dict[str, tarfile.TarInfo]:
    """What the image adds to its base, by path."""
    base = len(layers(engine, recipe.base()))
    saved = io.BytesIO(b"".join(engine.images.get(image).save()))
    found = {}
    with tarfile.open(fileobj=saved) as archive:
        for layer in json.load(archive.extractfile("manifest.json"))[0]["Layers"][base:]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as tar:
                found |= {member.name: member for member in tar}
    return found


def test_build_push_pull_run_predict_stop(engine, registry, monkeypatch, tmp_path):
    """A pushed image is pulled by its digest, runs read-only without capabilities, gives the golden answers, and exits on SIGTERM."""
    monkeypatch.setenv("IMAGE_REPOSITORY", f"{registry}/slipway-test/{RUN}")
    bundle, tags = a_bundle(tmp_path / "bundle", commit=uuid.uuid4().hex), Tags()
    image = make(bundle, tags)
    assert image["pushed"] and tags.set == {"image": image["image"]}
    engine.images.remove(engine.images.get(image["image"]).id, force=True)
    assert not engine.images.list(image["repository"])

    engine.images.pull(image["image"])
    container = run(engine, image["image"])
    try:
        url = ready(container)
        assert smoke_test(url, bundle, "3").rows == len(read(bundle, "golden.json")["inputs"])
        assert all(requests.get(url + path, timeout=5).ok for path in (*pages.OURS, *pages.THEIRS))
        check = container.attrs["Config"]["Healthcheck"]["Test"]
        assert check[0] == "CMD" and container.exec_run(check[1:]).exit_code == 0
        assert container.exec_run(["python", "-c", "open('/tmp/x', 'w')"]).exit_code != 0
        status = container.exec_run(["cat", "/proc/1/status"]).output.decode()
        assert re.search(r"CapEff:\s0+$", status, re.M) and re.search(r"Uid:\s10001\s10001", status)
        started = time.monotonic()
        container.kill(signal.SIGTERM)
        assert container.wait(timeout=20)["StatusCode"] == 0
        assert time.monotonic() - started < 5
        assert "Traceback" not in container.logs().decode()
    finally:
        container.remove(force=True)


def test_health_check_detects_a_silent_service(engine, local):
    """When nothing listens on the service's port, the engine reports the container as unhealthy."""
    container = run(engine, local.image, command=["--bundle", "/app/bundle", "--port", "9000"])
    try:
        check = container.attrs["Config"]["Healthcheck"]["Test"]
        assert container.exec_run(check[1:]).exit_code == 1
    finally:
        container.remove(force=True)


def test_image_of_a_scikit_learn_model_works(engine, tmp_path):
    """It has scikit-learn's locked packages, no ONNX Runtime, and gives the golden answers."""
    bundle = a_bundle(tmp_path / "bundle", kind="skops_frame")
    image = make(bundle, name="visitors")["image"]
    container = run(engine, image, command=["--bundle", "/app/bundle", "--host", "0.0.0.0", "--open"])
    try:
        url, golden = ready(container, 60), read(bundle, "golden.json")
        answers = requests.post(f"{url}/predict/batch", json={"features": golden["inputs"]}, timeout=20).json()
        for answer, expected in zip(answers["predictions"], golden["expected"], strict=True):
            assert answer["probabilities"]["stayed"] == pytest.approx(expected["probabilities"][1], abs=1e-9)
    finally:
        container.remove(force=True)
    code = "import importlib.util as u, json; print(json.dumps([n for n in ('sklearn', 'onnxruntime', 'pip') if u.find_spec(n)]))"
    assert ask(engine, image, code) == ["sklearn"]
    library = "import ctypes, sklearn.tree, json; ctypes.CDLL('libgomp.so.1'); print(json.dumps([line.split()[-1] for line in open('/proc/self/maps') if 'libgomp' in line]))"  # fmt: skip
    assert len(set(ask(engine, image, library))) == 1, "LightGBM finds OpenMP, the one that scikit-learn has loaded"


def test_image_has_exactly_the_locked_packages(engine, local):
    """Its packages are those of requirements/serving.txt at their versions: no pip, no mlflow, no scikit-learn."""
    code = "import importlib.metadata as m, json; print(json.dumps({d.name.lower().replace('_', '-').replace('.', '-'): d.version for d in m.distributions()}))"  # fmt: skip
    packages = ask(engine, local.image, code)
    text = (ROOT / "requirements/serving.txt").read_text(encoding="utf-8")
    lines = re.findall(r"^([\w.-]+)==([^\s;]+)(?: ; ([^\\\n]+))?", text, re.M)
    locked = {(name, version) for name, version, marker in lines if not marker or Marker(marker).evaluate()}
    assert {name for name, _ in locked} == set(packages)
    assert set(packages.items()) <= locked
    assert not {"pip", "setuptools", "mlflow", "scikit-learn", "pandas", "onnx"} & set(packages)


def test_image_adds_no_tools_and_no_caches(local, files):
    """It has its pages, no compiler, no pip, no cache and no packages' tests, and outside its own folders nothing but bytecode."""
    outside = [n for n in files if files[n].isfile() and not n.startswith(("opt/venv/", "app/serving/", "app/bundle/"))]
    assert not [name for name in outside if not name.endswith(".pyc")]
    forbidden = re.compile(r"(^|/)(pip|gcc|cc|\.cache|tests|uv|include)(/|$)|\.(pyi|h|a|whl|tar\.gz)$")
    assert not [name for name in files if forbidden.search(name)]
    assert files["opt/venv/bin/python"].issym()
    static = {f"app/serving/http/static/{path.name}" for path in (ROOT / "serving/http/static").iterdir()}
    assert static == {name for name in files if name.startswith("app/serving/http/static/") and files[name].isfile()}
    assert {path.name for path in local.folder.iterdir()} == {n.split("/")[-1] for n in files if n.startswith("app/bundle/")}  # fmt: skip


def test_image_is_read_only_for_its_user(files):
    """Everything it adds is root's, readable by all and writable by root alone, except the empty folder of the log."""
    data = files["data"]
    assert (data.isdir(), data.uid, data.gid, data.mode & 0o7777) == (True, 10001, 10001, 0o700)
    assert not [name for name in files if name.startswith("data/")]
    for name, member in ((name, files[name]) for name in files.keys() - {"data"}):
        assert (member.uid, member.gid) == (0, 0), name
        assert member.issym() or (member.mode & 0o7022 == 0 and member.mode & 0o444 == 0o444), name


def test_image_adds_at_most_200_mb(engine, local):
    """Compared with its base."""
    size = local.there.attrs["Size"] - engine.images.get(recipe.base()).attrs["Size"]
    assert 50e6 < size <= LIMIT


def test_image_has_the_expected_configuration(engine, local):
    """Labels, user, port and command are those that deployments rely on."""
    config = local.there.attrs["Config"]
    assert config["User"] == "10001:10001" and set(config["ExposedPorts"]) == {"8000/tcp"} and not config.get("Volumes")
    assert config["Entrypoint"] == ["python", "-m", "serving"]
    assert config["Cmd"] == ["--bundle", "/app/bundle", "--host", "0.0.0.0", "--port", "8000"]
    labels, commit = config["Labels"], read(local.folder, "release.json")["commit"]
    assert labels["org.opencontainers.image.title"] == labels["slipway.name"] == "cars"
    assert labels["org.opencontainers.image.version"] == labels["slipway.version"] == "3"
    assert (labels["slipway.run"], labels["slipway.commit"], labels["slipway.data"]) == (RUN, commit, "d" * 64)
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|none-dirty", labels["org.opencontainers.image.revision"])
    assert labels["slipway.digest"] == read(local.folder, "release.json")["digest"]


def test_secrets_beside_the_code_are_not_in_the_image(engine, monkeypatch, tmp_path):
    """A repository full of secrets and data gives the same layers as one without, by the command and by hand."""
    root = tmp_path / "repo"
    for folder in ("serving", "requirements"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    clean = make(a_bundle(root / "build/bundle"))
    for secret in (".env", "serving/.env", "serving/key.pem", "requirements/pip.conf", "build/token", "id_rsa"):
        (root / secret).write_text("secret")
    monkeypatch.setattr(build, "ROOT", root)
    made = make(change(root / "build/bundle", "release.json", note="built again", digest="f" * 64))
    assert layers(engine, made["image"])[:-1] == layers(engine, clean["image"])[:-1]
    assert not [n for n in added(engine, made["image"]) if re.search(r"/(\.env|key\.pem|pip\.conf|token|id_rsa)$", n)]
    if docker_engine.has_buildx():
        command = ["docker", "buildx", "build", "--load", "-q", "-f", "serving/Dockerfile", "--label", f"slipway.run={RUN}"]  # fmt: skip
        by_hand = subprocess.run([*command, "."], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
        assert layers(engine, by_hand) == layers(engine, made["image"])


def test_same_files_give_the_same_layers(engine, local):
    """Rebuilt from scratch, later and by the engine's older builder, every layer has the same digest."""
    context = io.BytesIO(recipe.context(ROOT, local.folder))
    stream = engine.api.build(fileobj=context, custom_context=True, nocache=True, rm=True, decode=True)
    said = "".join(event.get("stream", "") for event in stream)
    steps = re.findall(r"---> ([0-9a-f]{12})$", said, re.M)
    try:
        assert layers(engine, steps[-1]) == layers(engine, local.image)
    finally:
        base = engine.images.get(recipe.base()).id.removeprefix("sha256:")
        for step in reversed(steps):  # the builder keeps every step as an unnamed image
            if not base.startswith(step):
                with suppress(ImageNotFound):  # removed with the step after it
                    engine.images.remove(step)


def test_new_version_adds_one_small_layer(engine, local, tmp_path):
    """The image of another version shares every layer except the last, which has only the bundle."""
    other = make(a_bundle(tmp_path / "bundle", "4"))
    mine, its = layers(engine, local.image), layers(engine, other["image"])
    assert mine[:-1] == its[:-1] and mine[-1] != its[-1]
    assert engine.images.get(other["image"]).history()[0]["Size"] < 1e6


def test_base_without_bytecode_gets_it(engine, monkeypatch, tmp_path):
    """If the base has no bytecode for Python itself, the image adds it, because a read-only service cannot store any."""
    find = f"FROM {recipe.base()}\nLABEL slipway.run={RUN}\nRUN find / -xdev -name '*.pyc' -delete\n"
    bare, _ = engine.images.build(fileobj=io.BytesIO(find.encode()), tag=f"slipway-test/bare:{RUN}", rm=True)
    monkeypatch.setenv("PYTHON_IMAGE", f"slipway-test/bare:{RUN}")
    made = make(a_bundle(tmp_path / "bundle"))
    code = "import asyncio, email, json, pathlib; print(json.dumps([pathlib.Path(m.__cached__).exists() for m in (asyncio, email, json)]))"  # fmt: skip
    assert ask(engine, bare.id, code) == [False, False, False]
    assert ask(engine, made["image"], code) == [True, True, True]
    assert engine.images.get(made["image"]).attrs["Size"] - bare.attrs["Size"] <= LIMIT


def test_existing_image_is_reused(engine, local, monkeypatch, capsys):
    """For a version whose image is in the engine, nothing is built, with either builder."""
    for buildx in (True, False):
        monkeypatch.setattr(docker_engine, "has_buildx", lambda buildx=buildx: buildx)
        assert make(local.folder)["image"] == local.image
    assert "building" not in capsys.readouterr().out


def test_older_builder_works(engine, local, monkeypatch, tmp_path, capsys):
    """Without buildx the engine's older builder makes a working image, and prints its steps."""
    monkeypatch.setattr(docker_engine, "has_buildx", lambda: False)
    bundle = a_bundle(tmp_path / "bundle", "5")
    made = make(bundle)
    container = run(engine, made["image"])
    try:
        smoke_test(ready(container), bundle, "5")
    finally:
        container.remove(force=True)
    assert "Step 2/" in capsys.readouterr().out
    assert layers(engine, made["image"])[:-1] == layers(engine, local.image)[:-1]


def test_image_deleted_in_the_registry_is_pushed_again(own_registry, monkeypatch, tmp_path, capsys):
    """An image that the registry still has is not."""
    repository = f"{own_registry.address}/team/cars"
    monkeypatch.setenv("IMAGE_REPOSITORY", repository)
    bundle = a_bundle(tmp_path / "bundle")
    image = make(bundle)
    capsys.readouterr()
    assert make(bundle, image=image["image"]) == image
    assert "pushing" not in capsys.readouterr().out
    own_registry.forget("team/cars", image["image"].partition("@")[2])
    assert make(bundle, image=image["image"]) == image
    said = capsys.readouterr().out
    assert "no longer has" in said and "pushing" in said and "building" not in said


def test_push_survives_a_restart_of_the_registry(engine, own_registry, monkeypatch, tmp_path):
    """When the registry dies during a push and is back seconds later, the push continues, and the image is complete."""
    monkeypatch.setenv("IMAGE_REPOSITORY", f"{own_registry.address}/team/cars")
    bundle, tags = a_bundle(tmp_path / "bundle"), Tags()
    own_registry.kill_at(5_000_000, back_after=3)
    image = make(bundle, tags)
    assert own_registry.process and tags.set == {"image": image["image"]}
    assert image_registry.has(engine, image["image"], None)


def test_push_to_a_dead_registry_fails(engine, own_registry, monkeypatch, tmp_path, capsys):
    """When the registry does not come back it is named, the version gets no tag, and the next run only has to push."""
    monkeypatch.setenv("IMAGE_REPOSITORY", f"{own_registry.address}/team/cars")
    monkeypatch.setattr(image_registry, "WAITS", (0.5, 0.5))
    bundle, tags = a_bundle(tmp_path / "bundle", "6"), Tags()
    own_registry.kill_at(5_000_000, back_after=None)
    with pytest.raises(ImageError, match=f"{own_registry.address} was lost or does not answer") as lost:
        make(bundle, tags)
    assert not tags.set and "run this again" in lost.value.then
    assert capsys.readouterr().out.count("trying again") == 2
    own_registry.start()
    assert make(bundle, tags)["image"] == tags.set["image"]
    assert "building" not in capsys.readouterr().out


@pytest.mark.needs("docker-registry")
def test_registry_login(tmp_path, monkeypatch, capsys):
    """The right login from the environment works, a wrong or missing one is refused, and neither is shown."""
    registry = OwnRegistry(tmp_path, login=True)
    registry.start()
    bundle = a_bundle(tmp_path / "bundle")
    monkeypatch.setenv("IMAGE_REPOSITORY", f"{registry.address}/team/cars")
    try:
        with pytest.raises(ImageError, match="refuses the log-in") as absent:
            make(bundle)
        monkeypatch.setenv("IMAGE_REPOSITORY_USERNAME", "tester")
        monkeypatch.setenv("IMAGE_REPOSITORY_PASSWORD", "wrong horse")
        with pytest.raises(ImageError, match="refuses the log-in") as wrong:
            make(bundle)
        monkeypatch.setenv("IMAGE_REPOSITORY_PASSWORD", "right horse")
        image = make(bundle)
        assert make(bundle, image=image["image"]) == image
    finally:
        registry.close()
    said = str(capsys.readouterr()) + str(absent.value) + str(wrong.value) + wrong.value.then
    assert "trying again" not in said and "horse" not in said


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("127.0.0.1:9/none:1", "connection refused"),
        ("{registry}/none:1", "manifest unknown"),
        ("Not:An:Image", "cannot be had"),
    ],
)
def test_unavailable_base_is_named(registry, monkeypatch, tmp_path, base, words):
    """A base image whose registry is down, that does not exist, or has an invalid name, is named with the reason."""
    monkeypatch.setenv("PYTHON_IMAGE", base.format(registry=registry))
    with pytest.raises(ImageError, match=words) as refused:
        make(a_bundle(tmp_path / "bundle"))
    assert "PYTHON_IMAGE" in refused.value.then and "cannot be had" in refused.value.what


def label_containers(root: Path) -> str:
    """Give the older builder's containers for a copy of `serving/` this label, to tell them from others' builds."""
    label, path = f"slipway.test={uuid.uuid4().hex}", root / "serving/Dockerfile"
    text = path.read_text(encoding="utf-8")
    assert " AS build\n" in text
    path.write_text(text.replace(" AS build\n", f" AS build\nLABEL {label}\n"), encoding="utf-8")
    return label


@pytest.mark.parametrize("buildx", [pytest.param(True, marks=pytest.mark.needs("buildx")), False])
def test_package_with_another_hash_is_refused(engine, monkeypatch, tmp_path, buildx):
    """A package that is not the locked one stops the build, whose end of log is shown; no image and no container remains."""
    monkeypatch.setattr(docker_engine, "has_buildx", lambda: buildx)
    shutil.copytree(ROOT / "serving", tmp_path / "serving")
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    path = tmp_path / "requirements/serving.txt"
    path.write_text(f"h11==0.16.0 --hash=sha256:{'0' * 64}\n# {RUN}\n")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    label = label_containers(tmp_path)
    with pytest.raises(ImageError, match=r"a package of requirements/serving\.txt cannot be installed") as refused:
        make(a_bundle(tmp_path / "bundle"))
    assert "h11" in refused.value.what and "0" * 64 in refused.value.what
    assert not engine.containers.list(all=True, ignore_removed=True, filters={"label": label})


@pytest.mark.parametrize("buildx", [pytest.param(True, marks=pytest.mark.needs("buildx")), False])
def test_interrupted_build_leaves_nothing(engine, tmp_path, buildx):
    """Ctrl-C during the installation of packages ends the command within seconds with status 130, without an image or container."""
    shutil.copytree(ROOT / "serving", tmp_path / "serving")
    (tmp_path / "requirements").mkdir()
    text = (ROOT / "requirements/serving.txt").read_text(encoding="utf-8")
    (tmp_path / "requirements/serving.txt").write_text(f"# {uuid.uuid4()}\n{text}")
    a_bundle(tmp_path / "bundle")
    label = label_containers(tmp_path)
    code = (
        "import sys; from pathlib import Path; from delivery.images import docker_engine; from pipeline.errors import edge;"
        "from delivery.images import build; from tests.e2e import test_image;"
        f"build.ROOT = Path({str(tmp_path)!r}); docker_engine.has_buildx = lambda: {buildx};"
        f"sys.exit(edge(lambda: test_image.make(Path({str(tmp_path / 'bundle')!r})))())"
    )
    command = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "pip --python" in line:
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=15)
    assert process.returncode == 130 and "stopped by the keyboard" in said and "Traceback" not in said
    run_id = read(tmp_path / "bundle", "release.json")["run_id"]
    for _ in range(100):
        left = engine.containers.list(ignore_removed=True, filters={"label": label})
        if not left:
            break
        time.sleep(0.1)
    assert not left
    made_of = recipe.inputs(recipe.context(tmp_path, tmp_path / "bundle"))
    assert not engine.images.list(filters={"label": [f"slipway.run={run_id}", f"slipway.inputs={made_of}"]})


def test_command_in_a_fork(engine, registry, fork):
    """In a fork, the command writes build/image.json and the version's tag, and a second call, also by number, finds the image."""
    fork.ok("-m", "scripts.ship")
    repository = f"{registry}/slipway-test/{RUN}-fork"
    try:
        fork.ok("-m", "scripts.build_image", IMAGE_REPOSITORY=repository)
        image = fork.json("build/image.json")
        version = fork.mlflow().get_model_version("breast-cancer", "1")
        assert version.tags["image"] == image["image"] == f"{repository}@{image['image'].partition('@')[2]}"
        assert image["digest"] == version.tags["digest"] and image["tag"] == f"v1-{version.tags['commit'][:12]}"
        said = fork.ok("-m", "scripts.build_image", "--version", "1", IMAGE_REPOSITORY=repository)
        assert "building" not in said and "pushing" not in said and fork.json("build/image.json") == image
        container = run(engine, image["image"])
        try:
            smoke_test(ready(container), fork.root / "build/bundle", "1")
        finally:
            container.remove(force=True)
        assert "has no version 7" in fork.refused("-m", "scripts.build_image", "--version", "7")
        assert fork.json("build/image.json") == image
    finally:
        for found in engine.images.list(repository):
            engine.images.remove(found.id, force=True)
