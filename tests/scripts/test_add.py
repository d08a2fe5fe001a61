"""`make add` puts a package into its group of pyproject.toml and locks it, with a folder of small wheels in the place of an index."""

from pathlib import Path

import pytest

from pipeline.errors import SlipwayError
from pipeline.packages import addition, groups
from tests.scripts.test_lock import FOLDER, versions, wheel

PROJECT = """\
[project]
name = "ours"
version = "1"
requires-python = ">=3.11"

[dependency-groups]
serving = [  # ONNX
    "slipway-one",
]
serving-sklearn = [
    "slipway-one",  # why it is here
]
serving-lightgbm = [  # its own library
    "lightgbm>=4.7,<5",
    "slipway-one",
]
pipeline = [
    { include-group = "serving" },
    { include-group = "serving-sklearn" },
    "slipway-two>=1,<3",  # a comment
]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with groups for the training and for images, locked before newer versions came out."""
    monkeypatch.chdir(tmp_path)
    for key, value in {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(tmp_path / FOLDER), "UV_OFFLINE": "1", "UV_NO_CACHE": "1"}.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    for module in (groups, addition):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(groups, "ADDS_TO", {})
    Path("requirements").mkdir()
    for name, version in (("slipway-one", "1.0"), ("slipway-two", "1.0"), ("lightgbm", "4.8"), ("onnxmltools", "1.16")):
        wheel(name, version)
    Path("pyproject.toml").write_text(PROJECT, encoding="utf-8")
    groups.lock_all([])
    for name in ("slipway-one", "slipway-two"):
        wheel(name, "2.0")
    for version in ("2.5", "3.1"):
        wheel("slipway-new", version)
    return tmp_path


def text() -> str:
    """pyproject.toml as it is now."""
    return Path("pyproject.toml").read_text(encoding="utf-8")


def test_a_package_goes_to_the_training_and_no_other_moves(project):
    """It is locked at its newest version and bounded by the next major one; comments and all other versions stay."""
    said = addition.add("slipway-new", serving=False)
    assert text() == PROJECT.replace('    "slipway-two>=', '    "slipway-new>=3.1,<4",\n    "slipway-two>=')
    assert versions("pipeline") == {"slipway-one": "1.0", "slipway-two": "1.0", "slipway-new": "3.1"}
    assert said == ['pyproject.toml, group pipeline: "slipway-new>=3.1,<4"', "locked: slipway-new 3.1"]


def test_what_cannot_be_had_changes_nothing(project):
    """A package that no index has ends with words, and all files are as they were."""
    files = {path: path.read_bytes() for path in (project / "pyproject.toml", *(project / "requirements").iterdir())}
    with pytest.raises(SlipwayError, match="nothing was added: the group pipeline"):
        addition.add("slipway-nowhere", serving=False)
    assert {path: path.read_bytes() for path in files} == files


@pytest.fixture
def unlocked(tmp_path, monkeypatch):
    """A project of which nothing is locked anew, because only pyproject.toml is looked at."""
    for module in (groups, addition):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(groups, "lock_all", lambda newer: None)
    monkeypatch.chdir(tmp_path)
    Path("requirements").mkdir()
    for group in ("serving", "serving-sklearn", "serving-lightgbm", "pipeline"):
        Path(f"requirements/{group}.txt").write_text("slipway-one==1.0 \\\n", encoding="utf-8")
    Path("pyproject.toml").write_text(PROJECT, encoding="utf-8")


def test_versions_in_the_word_are_kept(unlocked):
    """A version that is asked for stands in pyproject.toml as it was written."""
    addition.add("slipway-new >=2, <3", serving=False)
    assert '    "slipway-new>=2,<3",\n    "slipway-two>=1,<3",  # a comment' in text()


def test_serving_puts_it_into_the_images_of_scikit_learn(unlocked):
    """SERVING=yes adds it to the group of the image, which the training includes."""
    addition.add("slipway-new", serving=True)
    assert text() == PROJECT.replace('    "slipway-one",  # why', '    "slipway-new",\n    "slipway-one",  # why')


def test_a_library_of_boosted_trees_comes_with_its_group_and_converters(unlocked):
    """The training includes the group of the library's image, so that both have one version."""
    addition.add("lightgbm>=4.8", serving=False)
    assert '    { include-group = "serving-lightgbm" },\n    { include-group = "serving-sklearn" },' in text()
    assert '"onnxmltools>=1.16,<2",' in text() and '"lightgbm>=4.8",' in text()


def test_twice_is_once(unlocked):
    """Added again, nothing changes."""
    addition.add("lightgbm", serving=False)
    before = text()
    assert addition.add("LightGBM", serving=False) == ["LightGBM is in pyproject.toml already"]
    assert text() == before


@pytest.mark.parametrize("word", ["torch", "Skorch>=1"])
def test_networks_have_a_group_of_their_own(unlocked, word):
    """PyTorch is installed where project/ imports it, and no image has it: nothing is added."""
    Path("pyproject.toml").write_text(
        f'{PROJECT}torch = [\n    "skorch>=1.4,<2",\n    "torch==2.13.0",\n]\n', encoding="utf-8"
    )
    before = text()
    assert "is in the group torch of pyproject.toml" in addition.add(word, serving=False)[0]
    assert addition.size_of_image(word, serving=False) == "image: 0 MB more, a network is served as ONNX"
    assert text() == before


@pytest.mark.parametrize("word", ["; rm -rf", "", "=3", "https://example.com/a.whl"])
def test_what_is_no_package_is_told(unlocked, word):
    """A word that names no package changes nothing."""
    with pytest.raises(SlipwayError, match="is no package"):
        addition.add(word, serving=False)
    assert text() == PROJECT
