"""The recipes in examples/: complete, small, made again by their own script, and in step with the template's settings."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from dev import recipes
from pipeline.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = (ROOT / "pipeline.toml").read_text(encoding="utf-8")
EACH = ("README.md", "pipeline.toml", "project/data.py", "project/model.py", "project/checks.py")
EACH += ("data/README.md", "data/make_data.py", "tests/project/test_project.py")


def own(name: str) -> str:
    """What a recipe sets."""
    return (recipes.EXAMPLES / name / "pipeline.toml").read_text(encoding="utf-8")


def flat(table: dict, before: str = "") -> dict:
    """Settings by their whole name."""
    found: dict = {}
    for key, value in table.items():
        found |= flat(value, f"{before}{key}.") if isinstance(value, dict) else {before + key: value}
    return found


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_has_the_files_that_a_project_writes(name):
    """Nothing is missing, nothing else is there, and the data are small."""
    folder = recipes.EXAMPLES / name
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    files = {file for file in files if "__pycache__" not in file}
    data = {file for file in files if re.fullmatch(rf"data/{name}\.(csv|parquet)", file)}
    assert files - data - {"packages.txt", "project/rules.py", "project/steps.py"} == set(EACH) and len(data) == 1
    assert (folder / data.pop()).stat().st_size < 400_000
    assert len((folder / "README.md").read_text(encoding="utf-8").splitlines()) <= 25


@pytest.mark.parametrize("name", recipes.names())
def test_the_data_of_a_recipe_are_made_by_its_script(name):
    """data/make_data.py gives the committed table again, row by row."""
    folder = recipes.EXAMPLES / name / "data"
    spec = importlib.util.spec_from_file_location(f"make_{name}", folder / "make_data.py")
    assert spec and spec.loader
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    file = next(path for path in folder.iterdir() if path.stem == name)
    made, kept = module.make(), pd.read_csv(file) if file.suffix == ".csv" else pd.read_parquet(file)
    kept = kept.fillna(dict.fromkeys(made.select_dtypes(exclude="number"), ""))
    pd.testing.assert_frame_equal(made, kept, check_dtype=False, rtol=1e-9)


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_sets_what_it_says_and_leaves_the_rest(name, tmp_path):
    """In pipeline.toml each setting of the recipe has its value, and every other one the template's, with its comment."""
    text = recipes.with_settings(TEMPLATE, own(name))
    made, said, before = (flat(tomllib.loads(one)) for one in (text, own(name), TEMPLATE))
    assert {key: made[key] for key in said} == said
    open_ = tuple(f"{table}." for table in recipes.OPEN)
    kept = {key: value for key, value in before.items() if key not in said and not key.startswith(open_)}
    assert {key: made.get(key) for key in kept} == kept | (
        {"data.positive": None} if made["data.task"] != "binary" else {}
    )
    for line in text.splitlines():
        if recipes.SETTING.match(line) and line.split(" = ")[0] not in (
            "log_loss",
            "roc_auc",
            "r2",
            "recall",
            "f1_macro",
        ):
            assert "  # " in line, line
    (tmp_path / "pipeline.toml").write_text(text, encoding="utf-8")
    settings = load_settings(tmp_path / "pipeline.toml")
    assert settings.name == name and settings.model.purpose.endswith("made.") and settings.gate.limits


def test_a_setting_that_the_template_has_not_is_an_error():
    """A recipe that sets what is no setting any more is found here, not in somebody's project."""
    for own_ in ("[gate]\nmargins = 1\n", "[gates]\nmargin = 1\n", "colour = 1\n"):
        with pytest.raises(ValueError, match=r"pipeline\.toml has no"):
            recipes.with_settings(TEMPLATE, own_)


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_is_documented(name):
    """docs/examples.md has a row for it; its pages link only what is there."""
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| \[{name}\]\(\.\./examples/{name}/README\.md\) \|", page, re.M)
    readme = recipes.EXAMPLES / name / "README.md"
    text = readme.read_text(encoding="utf-8")
    assert f"make try EXAMPLE={name}" in text and f"EXAMPLE={name} " in text
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert (readme.parent / target).exists(), target
