"""The snapshot of MLflow and its packing; and the lease, with a dictionary behind real HTTP as its registry."""

import io
import sqlite3
import tarfile
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.errors import RegistryError
from pipeline.registry import mlflow_server
from pipeline.registry.embedded import lease, oci, snapshot, sync
from pipeline.registry.embedded.lease import Claimant, Timing
from pipeline.settings import load_settings
from scripts.ci import restore_mlflow, save_mlflow
from tests.conftest import ROOT

NAME = "artifacts/1/models/m-1/artifacts/model.bin"


@pytest.fixture
def home(tmp_path):
    """A folder of MLflow with one run, one model and one file that belongs to neither."""
    folder = tmp_path / "home"
    for name in ("artifacts/1/run/artifacts/a.json", "artifacts/1/run/artifacts/plots/b.png", NAME, "artifacts/c"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "server.log").write_text("not carried")
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        connection.execute("CREATE TABLE runs (name TEXT)")
    return folder


@pytest.fixture
def tags():
    """A registry of tags alone, on loopback: its address, the content of each tag, and a hook before each response."""
    held: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        before = staticmethod(lambda method, tag: None)

        def log_message(self, *_):
            pass

        def do_GET(self):
            tag = self.path.rsplit("/", 1)[1]
            if Handler.before("GET", tag) == "down":
                return self.say(503, b"")
            self.say(200 if tag in held else 404, held.get(tag, b"{}"))

        def do_PUT(self):
            content = self.rfile.read(int(self.headers["Content-Length"]))
            tag = self.path.rsplit("/", 1)[1].partition("?")[0]
            Handler.before("PUT", tag)
            held[tag] = content
            self.say(201, b"")

        def do_POST(self):
            self.say(202, b"", ("Location", "/v2/a/b/blobs/uploads/upload"))

        def say(self, status, content, *headers):
            self.send_response(status)
            for key, value in (("Content-Length", str(len(content))), *headers):
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}/a/b", held, Handler
    server.shutdown()
    server.server_close()


def test_each_run_and_model_is_a_part(home, tmp_path):
    """The database, each run's and each model's folder are separate parts; the server's logs and records are not included."""
    parts = snapshot.snapshot(home, tmp_path)
    assert set(parts) == {"mlflow.db", "artifacts", "artifacts/1/run", "artifacts/1/models/m-1"}
    assert set(parts["artifacts/1/run"]) == {
        "artifacts/1/run/artifacts/a.json",
        "artifacts/1/run/artifacts/plots/b.png",
    }
    assert snapshot.snapshot(tmp_path / "nothing", tmp_path) == {}


def test_same_files_give_the_same_bytes(home, tmp_path):
    """A part's archive depends on names and bytes alone, not on times or modes; other bytes have another digest."""
    parts = snapshot.snapshot(home, tmp_path)
    first = snapshot.pack("part", parts["artifacts/1/models/m-1"], tmp_path / "first")
    (home / NAME).touch()
    (home / NAME).chmod(0o600)
    assert snapshot.pack("part", parts["artifacts/1/models/m-1"], tmp_path / "second") == first
    (home / NAME).write_text("other")
    other = snapshot.pack("part", parts["artifacts/1/models/m-1"], tmp_path / "third")
    assert other["annotations"][snapshot.CONTENT] != first["annotations"][snapshot.CONTENT]


def test_database_copies_are_reproducible(home, tmp_path):
    """A state that was restored and not changed has the digest with which it was saved."""
    first = snapshot.snapshot(home, tmp_path)["mlflow.db"]["mlflow.db"]
    (tmp_path / "again").mkdir()
    again = snapshot.snapshot(tmp_path, tmp_path / "again")["mlflow.db"]["mlflow.db"]
    assert again.read_bytes() == first.read_bytes()


def test_packing_and_unpacking_round_trip(home, tmp_path):
    """All parts together restore all files of the snapshot."""
    for index, (part, files) in enumerate(snapshot.snapshot(home, tmp_path).items()):
        snapshot.pack(part, files, tmp_path / str(index))
        snapshot.unpack(tmp_path / str(index), tmp_path / "new")
    names = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()} - {"server.log"}
    assert {
        path.relative_to(tmp_path / "new").as_posix() for path in (tmp_path / "new").rglob("*") if path.is_file()
    } == names
    assert (tmp_path / "new" / NAME).read_text() == NAME


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "../outside"},
        {"name": "/tmp/outside"},
        {"name": "artifacts/../../outside"},
        {"name": "artifacts/link", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"name": "artifacts/link", "type": tarfile.LNKTYPE, "linkname": "mlflow.db"},
        {"name": "artifacts/pipe", "type": tarfile.FIFOTYPE},
        {"name": "carried.json"},
        {"name": "server.json"},
    ],
)
def test_malicious_archive_is_refused(tmp_path, entry):
    """No absolute path, parent path, link or device, and nothing but a database and artifacts is unpacked."""
    archive = tmp_path / "archive"
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo(entry["name"])
        info.type, info.linkname = entry.get("type", tarfile.REGTYPE), entry.get("linkname", "")
        tar.addfile(info, io.BytesIO())
    with pytest.raises(RegistryError, match="not as it was saved"):
        snapshot.unpack(archive, tmp_path / "new")
    assert not list(tmp_path.rglob("outside")) and not list(tmp_path.rglob("link"))


@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b"no archive"])
def test_damaged_archive_is_refused(home, tmp_path, spoil):
    """A truncated archive, or none, is one of our errors."""
    snapshot.pack("part", {NAME: home / NAME}, tmp_path / "archive")
    (tmp_path / "archive").write_bytes(spoil((tmp_path / "archive").read_bytes()))
    with pytest.raises(RegistryError, match="cannot be unpacked"):
        snapshot.unpack(tmp_path / "archive", tmp_path / "new")


def test_killed_swap_is_undone(tmp_path, monkeypatch):
    """If the old MLflow was moved away and the new one is not in place, the old one is moved back."""
    monkeypatch.setattr(mlflow_server, "HOME", tmp_path / "home")
    monkeypatch.setattr(sync, "STATE", tmp_path)
    (tmp_path / "mlflow.old").mkdir()
    (tmp_path / "mlflow.old/mlflow.db").write_text("old")
    sync.recover()
    assert (tmp_path / "home/mlflow.db").read_text() == "old"
    (tmp_path / "mlflow.old").mkdir()
    sync.recover()
    assert (tmp_path / "home/mlflow.db").read_text() == "old"


@pytest.mark.parametrize(
    ("images", "where"),
    [
        ("ghcr.io/team/model", "ghcr.io/team/model/mlflow"),
        ("127.0.0.1:5050/a", "127.0.0.1:5050/a/mlflow"),
        ("localhost/a", "localhost/a/mlflow"),
        ("team/model", "registry-1.docker.io/team/model-mlflow"),
        ("docker.io/team/model", "registry-1.docker.io/team/model-mlflow"),
    ],
)
def test_snapshot_s_repository(images, where):
    """Within the repository of the images, or beside it for registries without nested ones."""
    assert oci.beside(images, "mlflow") == where


def test_plain_http_is_limited_to_this_machine():
    """A login is never sent without TLS to any other address."""
    assert oci.Repository("127.0.0.1:5050/a").client.prefix == "http"
    assert oci.Repository("localhost:5050/a").client.prefix == "http"
    assert oci.Repository("ghcr.io/team/a").client.prefix == "https"
    assert oci.Repository("localhost.example.com/a").client.prefix == "https"


@pytest.mark.parametrize("command", [restore_mlflow, save_mlflow])
def test_without_a_snapshot_there_is_one_sentence(monkeypatch, capsys, command):
    """With a team's server, or without a registry: one sentence, status 0, and no request to any registry."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("IMAGE_REPOSITORY", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert command.main([]) == 0
    assert "IMAGE_REPOSITORY is not set" in capsys.readouterr().out
    monkeypatch.setenv("IMAGE_REPOSITORY", "127.0.0.1:1/nobody")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.com")
    assert command.main([]) == 0
    assert "that server keeps" in capsys.readouterr().out


def test_repository_is_lower_cased(monkeypatch):
    """As that of images."""
    monkeypatch.setenv("IMAGE_REPOSITORY", "ghcr.io/Octo/Template")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert sync.place(load_settings(ROOT / "tests/example/pipeline.toml")) == ("ghcr.io/octo/template/mlflow", "")


def test_free_lease_is_taken_and_freed(tags):
    """A lease is free when there is none and after its release; only its holder can free it or send a heartbeat."""
    address, held, _ = tags
    timing = Timing(settle=0.5, poll=0.01)
    one, other = (Claimant(address, name, timing=timing) for name in ("one", "other"))
    one.acquire()
    assert one.ours() and not other.ours()
    assert not other.release() and not other.beat()
    before = held["lease"]
    assert one.beat() and held["lease"] != before
    assert one.beat() and held["lease"] == before
    assert one.release() and held["lease"] == lease.content(*lease.FREE)
    other.acquire()
    assert other.ours()


def test_later_of_two_claims_wins(tags):
    """A job that finds another claim after `settle` does not hold the lease, though it found it free."""
    address, held, handler = tags
    one = Claimant(address, "one", timing=Timing(settle=1))

    def overwrite(method, tag):
        if method == "PUT":
            threading.Timer(0.02, lambda: held.update(lease=lease.content("other", "other", "tick"))).start()

    handler.before = staticmethod(overwrite)
    assert not one._try()


def test_slow_claim_is_given_up(tags):
    """A claim that reached the registry later than `settle` after the reading is not relied on, though it is there."""
    address, held, handler = tags
    one = Claimant(address, "one", timing=Timing(settle=0.1))
    handler.before = staticmethod(lambda method, tag: threading.Event().wait(0.2 if method == "PUT" else 0))
    assert not one._try()
    assert held["lease"] == lease.content(*lease.FREE), "and nobody needs to wait until it is dead"


def test_heartbeat_restarts_the_count_of_dead(tags):
    """A holder is dead only if it was observed unchanged for the whole time."""
    address, held, _ = tags
    held["lease"] = lease.content("other", "other", "tick")
    one = Claimant(address, "one", timing=Timing(settle=1, dead=100))
    assert not one._try()
    one.seen = (one.seen[0], one.seen[1] - 99)
    assert not one._try()
    held["lease"] = lease.content("other", "other", "tock")
    one.seen = (one.seen[0], one.seen[1] - 2)
    assert not one._try()
    one.seen = (one.seen[0], one.seen[1] - 101)
    assert one._try()


def test_unobserved_holder_is_not_dead(tags):
    """While the registry does not respond, no heartbeat can be observed: the count of `dead` restarts afterwards."""
    address, held, handler = tags
    held["lease"] = lease.content("other", "other", "tick")
    began = time.monotonic()
    handler.before = staticmethod(lambda *_: "down" if 0.5 < time.monotonic() - began < 2.5 else None)
    Claimant(address, "one", timing=Timing(settle=1.2, poll=0.1, dead=2)).acquire()
    assert time.monotonic() - began > 5.2


def test_layer_names_must_be_digests():
    """Any other name from the registry, such as a path, is ignored, because it would become a file name here."""
    layers = [{"annotations": {snapshot.CONTENT: name}} for name in ("../../evil", "/etc/passwd", "a" * 64)] + [{}]
    assert list(snapshot.contents(layers)) == ["a" * 64]


def test_unreadable_snapshot_stops_decisions(monkeypatch, tmp_path):
    """If the embedded MLflow could not be read, commands that depend on its content are refused."""
    monkeypatch.setattr(mlflow_server, "HOME", tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sync.refuse_unknown()
    (tmp_path / snapshot.UNKNOWN).write_text("the registry refuses\n", encoding="utf-8")
    with pytest.raises(RegistryError, match="not known: the registry refuses"):
        sync.refuse_unknown()
