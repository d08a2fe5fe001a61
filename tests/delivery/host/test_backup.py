"""Backups without an engine: which ones count, how many are kept, and the messages about damaged ones."""

import json

import pytest

from delivery.host import backups, restoring
from pipeline.artifacts import sha256
from pipeline.errors import SlipwayError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with one backup."""
    monkeypatch.setenv("SLIPWAY_BACKUPS", str(tmp_path))
    one(tmp_path, "2026-01-31T134500Z")
    return tmp_path


def one(folder, name: str):
    """A valid backup, whose files match its manifest."""
    made = folder / name
    made.mkdir()
    files = {}
    for file in (backups.DUMP, backups.ARTIFACTS):
        (made / file).write_bytes(f"{name} {file}".encode())
        files[file] = {"bytes": (made / file).stat().st_size, "sha256": sha256(made / file)}
    manifest = {"artifacts": "/artifacts", "webhook_key": "0", "files": files}
    (made / backups.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return made


def test_newest_backup_comes_first_and_incomplete_ones_are_ignored(folder):
    """Folders are ordered by date; unfinished ones and those without a manifest do not count."""
    newer = one(folder, "2026-02-01T000000Z")
    one(folder, ".making-2026-03-01T000000Z")
    (folder / "2026-04-01T000000Z").mkdir()
    assert [path.name for path in backups.complete(folder)] == ["2026-02-01T000000Z", "2026-01-31T134500Z"]
    assert restoring.choose(None) == newer
    assert restoring.choose("2026-01-31T134500Z").name == "2026-01-31T134500Z"


@pytest.mark.parametrize("name", ["never", "..", ".making-x"])
def test_unknown_backup_is_refused_with_the_existing_names(folder, name):
    """A name that does not exist, or leads elsewhere, is refused with a list of the backups."""
    with pytest.raises(SlipwayError, match="there is no backup") as caught:
        restoring.choose(name)
    assert "2026-01-31T134500Z" in caught.value.then


def test_intact_backup_is_accepted(folder):
    """Unchanged files pass the check."""
    assert backups.checked(folder / "2026-01-31T134500Z")["artifacts"] == "/artifacts"


@pytest.mark.parametrize(
    "manifest",
    ["", "{", "[]", "null", "{}", '{"files": []}', '{"artifacts": "", "webhook_key": "", "files": {"../x": {"bytes": 1, "sha256": ""}}}',
     '{"artifacts": "", "webhook_key": "", "files": {}}', '{"files": {"mlflow.dump": {}}}', "\xff"],
)  # fmt: skip
def test_malformed_manifest_is_reported_as_damage(folder, manifest):
    """Whatever is in backup.json, it is reported and never followed."""
    (folder / "2026-01-31T134500Z" / backups.MANIFEST).write_text(manifest, encoding="latin-1")
    with pytest.raises(SlipwayError, match="is damaged"):
        backups.checked(folder / "2026-01-31T134500Z")


@pytest.mark.parametrize(
    "spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"x" * 100)]
)
@pytest.mark.parametrize("name", [backups.DUMP, backups.ARTIFACTS])
def test_changed_file_is_reported_as_damage(folder, name, spoil):
    """A missing, empty or different file is named."""
    spoil(folder / "2026-01-31T134500Z" / name)
    with pytest.raises(SlipwayError, match=f"{name} differs from its checksum"):
        backups.checked(folder / "2026-01-31T134500Z")


def test_archives_are_read_to_their_end(tmp_path):
    """One missing or changed byte is found by reading, because checksums cover only what was readable."""
    import tarfile

    (tmp_path / "weights").write_bytes(bytes(range(256)) * 1000)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "weights", "weights")
    assert backups.read_artifacts(tmp_path / "a.tar.gz") == 1
    whole = (tmp_path / "a.tar.gz").read_bytes()
    for damaged in (whole[:-1], whole[:-6] + b"\0" + whole[-5:], b"", whole[: len(whole) // 2]):
        (tmp_path / "a.tar.gz").write_bytes(damaged)
        with pytest.raises(SlipwayError, match="cannot be read back"):
            backups.read_artifacts(tmp_path / "a.tar.gz")


@pytest.mark.parametrize("number", ["0", "-1", "seven", "1.5", "²"])
def test_keeping_no_backup_is_refused(monkeypatch, number):
    """At least one backup is kept, otherwise the new one would be deleted."""
    monkeypatch.setenv("SLIPWAY_BACKUPS_KEPT", number)
    with pytest.raises(SlipwayError, match="SLIPWAY_BACKUPS_KEPT"):
        backups.number_kept()
