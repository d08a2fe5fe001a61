"""`make lock`, with a folder of small wheels in the place of an index."""

import re
import zipfile
from pathlib import Path

import pytest

from pipeline.packages import groups
from scripts import lock

PROJECT = """
[project]
name = "ours"
version = "1"
requires-python = ">=3.11"
[dependency-groups]
dev = [{dev}]
serving = ["slipway-one"]
"""
FOLDER = Path("wheels")


def wheel(name: str, version: str) -> None:
    """A package that holds nothing."""
    module, about = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    FOLDER.mkdir(exist_ok=True)
    with zipfile.ZipFile(FOLDER / f"{module}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")


def need(*packages: str) -> None:
    """Have the group dev ask for these."""
    listed = ", ".join(f'"{one}"' for one in packages)
    Path("pyproject.toml").write_text(PROJECT.format(dev=listed), encoding="utf-8")


def versions(group: str) -> dict[str, str]:
    """What a group has locked, in its file and in the one that it names."""
    text = Path(f"requirements/{group}.txt").read_text(encoding="utf-8")
    assert text.count("--hash=sha256:") == len(re.findall("==", text)), text
    assert str(FOLDER) not in text and "http" not in text and "index" not in text, text
    named = [versions(other) for other in re.findall(r"^-r (.+)\.txt$", text, re.M)]
    return dict(re.findall(r"^([\w-]+)==(\S+)", text, re.M)) | {name: one[name] for one in named for name in one}


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A project whose packages were locked before newer versions came out."""
    monkeypatch.chdir(tmp_path)
    for key, value in {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(tmp_path / FOLDER), "UV_OFFLINE": "1", "UV_NO_CACHE": "1"}.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(groups, "ROOT", tmp_path)
    monkeypatch.setattr(groups, "ADDS_TO", {"dev": "serving"})
    Path("requirements").mkdir()
    for name in ("slipway-one", "slipway-two"):
        wheel(name, "1.0")
    need("slipway-one", "slipway-two")
    assert lock.main([]) == 0
    for name in ("slipway-one", "slipway-two"):
        wheel(name, "2.0")
    wheel("slipway-three", "2.0")


def test_a_package_that_is_added_moves_no_other(locked):
    """What pyproject.toml newly asks for is locked; every version that was locked stays, in each file."""
    need("slipway-one", "slipway-two", "slipway-three")
    assert lock.main([]) == 0
    assert versions("dev") == {"slipway-one": "1.0", "slipway-two": "1.0", "slipway-three": "2.0"}
    assert versions("serving") == {"slipway-one": "1.0"}


def test_a_larger_file_names_the_smaller_and_holds_what_it_adds(locked):
    """A package stands in one of the two files, so that a change of its version is one change."""
    text = Path("requirements/dev.txt").read_text(encoding="utf-8")
    assert "-r serving.txt" in text.splitlines() and re.findall(r"^([\w-]+)==", text, re.M) == ["slipway-two"]


def test_one_package_is_upgraded_by_its_name(locked):
    """The named package gets its newest version in every file that has it, the others stay."""
    assert lock.main(["--upgrade", "Slipway_One"]) == 0
    assert versions("dev") == {"slipway-one": "2.0", "slipway-two": "1.0"}
    assert versions("serving") == {"slipway-one": "2.0"}


def test_all_packages_are_upgraded_by_the_word_all(locked):
    """UPGRADE=all brings the newest of everything."""
    assert lock.main(["--upgrade", "all"]) == 0
    assert versions("dev") == {"slipway-one": "2.0", "slipway-two": "2.0"}


def test_a_package_that_is_locked_nowhere_is_told(locked, capsys):
    """A misspelt name changes nothing, and is told with what to do."""
    before = versions("dev")
    assert lock.main(["--upgrade", "slipway-on"]) == 1
    said = capsys.readouterr().err
    assert "slipway-on is in none of requirements/*.txt" in said and "pyproject.toml" in said
    assert versions("dev") == before


def test_a_group_apart_has_versions_of_its_own(locked, monkeypatch):
    """What is installed beside nothing else is not held to the versions of the others."""
    monkeypatch.setattr(groups, "APART", {"report": []})
    text = Path("pyproject.toml").read_text(encoding="utf-8")
    Path("pyproject.toml").write_text(f'{text}report = ["slipway-one>=2"]\n', encoding="utf-8")
    assert lock.main([]) == 0
    assert versions("report") == {"slipway-one": "2.0"} and versions("serving") == {"slipway-one": "1.0"}


def test_the_lock_of_pytorch_is_parted(tmp_path, monkeypatch):
    """torch.txt has neither what the pipeline has at the same version nor what only graphics cards need; that is torch-gpu.txt."""
    monkeypatch.setattr(groups, "ROOT", tmp_path)
    folder = tmp_path / "requirements"
    folder.mkdir()
    head, numpy, torch = "# made\n", "numpy==2 \\\n    --hash=sha256:aa\n", "torch==2.13.0 \\\n    --hash=sha256:bb\n"
    gpu = "cuda-bindings==13 ; sys_platform == 'linux'\nnvidia-cublas==13\ntriton==3.7\n"
    (folder / "pipeline.txt").write_text(head + numpy, encoding="utf-8")
    (folder / "torch.txt").write_text(f"{head}fsspec==1\n{gpu}{numpy}{torch}", encoding="utf-8")
    groups.part_torch()
    assert (folder / "torch.txt").read_text(encoding="utf-8") == f"{head}fsspec==1\n{torch}"
    assert (folder / "torch-gpu.txt").read_text(encoding="utf-8") == head + gpu


def test_the_small_build_of_pytorch_is_of_the_locked_version():
    """torch-cpu.txt is kept by hand: another version would be installed and then replaced by the large build."""
    assert groups.versions("torch-cpu")["torch"].split("+")[0] == groups.versions("torch")["torch"]
