"""Backups without an engine: which count, how many are kept, and what is said of damaged ones."""

import json

import pytest

from delivery.host import backups, restoring
from pipeline.artifacts import sha256
from pipeline.errors import SlipwayError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of backups of our own, with one in it."""
    monkeypatch.setenv("SLIPWAY_BACKUPS", str(tmp_path))
    one(tmp_path, "2026-01-31T134500Z")
    return tmp_path


def one(folder, name: str):
    """A backup whose files are as its manifest says."""
    made = folder / name
    made.mkdir()
    files = {}
    for file in (backups.DUMP, backups.ARTIFACTS):
        (made / file).write_bytes(f"{name} {file}".encode())
        files[file] = {"bytes": (made / file).stat().st_size, "sha256": sha256(made / file)}
    manifest = {"artifacts": "/artifacts", "webhook_key": "0", "files": files}
    (made / backups.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return made


def test_the_newest_comes_first_and_what_is_not_whole_is_none(folder):
    """Folders are ordered by date; one that was being made, and one without a manifest, do not count."""
    newer = one(folder, "2026-02-01T000000Z")
    one(folder, ".making-2026-03-01T000000Z")
    (folder / "2026-04-01T000000Z").mkdir()
    assert [path.name for path in backups.complete(folder)] == ["2026-02-01T000000Z", "2026-01-31T134500Z"]
    assert restoring.choose(None) == newer
    assert restoring.choose("2026-01-31T134500Z").name == "2026-01-31T134500Z"


@pytest.mark.parametrize("name", ["never", "..", ".making-x"])
def test_a_backup_that_is_not_there_is_told_with_those_that_are(folder, name):
    """A name that leads nowhere, or elsewhere, is refused with the names there are."""
    with pytest.raises(SlipwayError, match="there is no backup") as caught:
        restoring.choose(name)
    assert "2026-01-31T134500Z" in caught.value.then


def test_a_whole_backup_is_taken(folder):
    """What is as it was written passes."""
    assert backups.checked(folder / "2026-01-31T134500Z")["artifacts"] == "/artifacts"


@pytest.mark.parametrize(
    "manifest",
    ["", "{", "[]", "null", "{}", '{"files": []}', '{"artifacts": "", "webhook_key": "", "files": {"../x": {"bytes": 1, "sha256": ""}}}',
     '{"artifacts": "", "webhook_key": "", "files": {}}', '{"files": {"mlflow.dump": {}}}', "\xff"],
)  # fmt: skip
def test_a_manifest_that_makes_no_sense_is_damage(folder, manifest):
    """Whatever stands in backup.json, it is told in words and never followed."""
    (folder / "2026-01-31T134500Z" / backups.MANIFEST).write_text(manifest, encoding="latin-1")
    with pytest.raises(SlipwayError, match="is damaged"):
        backups.checked(folder / "2026-01-31T134500Z")


@pytest.mark.parametrize(
    "spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"x" * 100)]
)
@pytest.mark.parametrize("name", [backups.DUMP, backups.ARTIFACTS])
def test_a_file_that_is_not_what_was_written_is_damage(folder, name, spoil):
    """A file that is gone, empty or another is named."""
    spoil(folder / "2026-01-31T134500Z" / name)
    with pytest.raises(SlipwayError, match=f"{name} is not what was written"):
        backups.checked(folder / "2026-01-31T134500Z")


def test_an_archive_is_read_to_its_end(tmp_path):
    """One byte too few, or another one, is found by reading: sums are made only of what could be read."""
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
def test_a_number_that_keeps_none_is_refused(monkeypatch, number):
    """At least one backup is kept: anything else would remove the one that was just made."""
    monkeypatch.setenv("SLIPWAY_BACKUPS_KEPT", number)
    with pytest.raises(SlipwayError, match="SLIPWAY_BACKUPS_KEPT"):
        backups.number_kept()
