"""`make adopt`, in copies of what is committed or would be."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid"]


def make(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """Run make in a copy, with the Python of these tests."""
    return subprocess.run(["make", *words, f"PYTHON={sys.executable}"], cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """The repository's files in one commit, as "Use this template" makes it."""
    folder = tmp_path_factory.mktemp("adopt") / "template"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "Initial commit"]):
        subprocess.run([*GIT, *command], cwd=folder, check=True)
    return folder


@pytest.fixture
def copy(template, tmp_path) -> Path:
    """A copy for one test."""
    return Path(shutil.copytree(template, tmp_path / "our model"))


@pytest.fixture(scope="module")
def adopted(template, tmp_path_factory) -> Path:
    """A copy that was adopted as churn, and kept the example."""
    folder = Path(shutil.copytree(template, tmp_path_factory.mktemp("adopt") / "our model"))
    done = make(folder, "adopt", "NAME=churn")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def files(folder: Path) -> set[str]:
    """Every file of a copy."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {".git"}


def test_what_only_the_template_needs_is_gone(adopted):
    """No benchmark, no test and no workflow of the template itself is left, nor what installs for them."""
    for path in ("dev", ".ci", ".github/workflows/template.yml", "requirements/dev.txt", "docs/decisions"):
        assert not (adopted / path).exists(), path
    rooms = {path.name for path in (adopted / "tests").iterdir()}
    assert rooms == {"project", "integration", "repository"}
    groups = tomllib.loads((adopted / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    assert not {"dev", "streams"} & groups.keys() and {"pipeline", "test", "serving"} <= groups.keys()
    assert "coverage" not in make(adopted, "help-all").stdout
    assert "requirements: dev" not in (adopted / ".github/workflows/checks.yml").read_text(encoding="utf-8")


def test_what_a_project_runs_stays(adopted, template):
    """The pipeline, delivery, service, verbs, manifests and the example are what they were, byte for byte."""
    for room in (
        "pipeline",
        "delivery",
        "serving",
        "scripts",
        "k8s",
        "monitoring",
        "project",
        "data",
        "tests/integration",
    ):
        for path in (
            path for path in (template / room).rglob("*") if path.suffix in (".py", ".yaml", ".yml", ".csv", ".json")
        ):
            assert (adopted / path.relative_to(template)).read_bytes() == path.read_bytes(), path


def test_the_project_has_its_own_name(adopted):
    """README, pipeline.toml and pyproject.toml carry it; CHANGELOG begins anew."""
    assert load_settings(adopted / "pipeline.toml").name == "churn"
    assert tomllib.loads((adopted / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"] == "churn"
    assert (adopted / "README.md").read_text(encoding="utf-8").startswith("# churn\n")
    assert "0.1.0" not in (adopted / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_state_of_the_template_is_kept(adopted, template):
    """.github/template-version has the version and the tree that the template's history knows."""
    text = (adopted / ".github/template-version").read_text(encoding="utf-8")
    tree = subprocess.run(["git", "rev-parse", "HEAD^{tree}"], cwd=template, capture_output=True, text=True).stdout
    assert f"tree: {tree}" in text and re.search(r"^version: \d+\.\d+\.\d+$", text, re.M)


def test_the_remaining_tests_and_checks_pass(adopted):
    """Links, verbs, workflows and the project's tests are green, and so are lint and format."""
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(pytest_, cwd=adopted, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    for check in (["check", "--no-cache", "."], ["format", "--no-cache", "--check", "."]):
        done = subprocess.run([sys.executable, "-m", "ruff", *check], cwd=adopted, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_no_page_names_what_is_gone(adopted):
    """No page is left with a mark of the template, or with a test, tool or page that is gone."""
    for page in [*adopted.glob("*.md"), *(adopted / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        gone = re.findall(
            r"<!-- /?template -->|tests/(?:e2e|monitoring|serving|pipeline)\b|`dev/|(?<!pipeline/)decisions/|benchmarks\.md",
            text,
        )
        assert not gone, page


def test_a_second_run_changes_nothing(adopted):
    """It ends green and says that there is nothing to do."""
    before = {name: (adopted / name).stat().st_mtime_ns for name in files(adopted) if not name.startswith(".git/")}
    done = make(adopted, "adopt", "NAME=other")
    assert done.returncode == 0 and "nothing to do" in done.stdout
    assert {name: (adopted / name).stat().st_mtime_ns for name in before} == before


@pytest.mark.parametrize(
    "name", ["", "Churn", "churn model", "churn.v2", "-churn", "churn-", "a___b", "größe", "a" * 101, "a/b"]
)
def test_a_name_that_others_refuse_is_refused(template, name):
    """What MLflow or an image registry would not take changes nothing, and the rule is told."""
    done = make(template, "adopt", f"NAME={name}")
    assert done.returncode == 2 and "a-z, 0-9" in done.stderr and "Traceback" not in done.stderr
    assert (template / "dev").is_dir()


def test_uncommitted_work_is_refused(copy):
    """A file that git could not bring back keeps everything as it is, and is named."""
    (copy / "project" / "mine.py").write_text("x = 1\n", encoding="utf-8")
    done = make(copy, "adopt", "NAME=churn")
    assert done.returncode == 2 and "project/mine.py" in done.stderr
    assert (copy / "dev").is_dir() and not (copy / ".github/template-version").exists()


@pytest.fixture(scope="module")
def empty(template, tmp_path_factory) -> Path:
    """A copy that was adopted without the example."""
    folder = Path(shutil.copytree(template, tmp_path_factory.mktemp("adopt") / "our model"))
    done = make(folder, "adopt", "NAME=churn", "EXAMPLE=remove")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_without_the_example_nothing_of_it_is_left(empty):
    """Neither data nor texts, columns, limits and parameters of the example; the settings are valid."""
    settings = load_settings(empty / "pipeline.toml")
    assert not list((empty / "data").glob("*.csv")) and not settings.gate.slices and not settings.gate.limits
    assert not settings.model.purpose and not settings.train.parameters
    texts = [
        path.read_text(encoding="utf-8")
        for room in ("project", "data", "tests")
        for path in (empty / room).rglob("*.*")
    ]
    assert not [text for text in [*texts, (empty / "pipeline.toml").read_text(encoding="utf-8")] if "breast" in text]


def test_without_the_example_a_verb_says_what_to_write(empty):
    """`make validate` names the function and its file."""
    done = subprocess.run([sys.executable, "-m", "scripts.validate_data"], cwd=empty, capture_output=True, text=True)
    assert done.returncode == 1 and "write load() in project/data.py" in done.stderr and "Traceback" not in done.stderr


def test_checks_are_drafted_once_there_is_data(empty):
    """With load() written, `make checks` replaces the empty checks, and the data is valid."""
    rows = "\n".join(f"c{row},{row % 80},{'yes' if row % 3 else 'no'}" for row in range(400))
    (empty / "data" / "churn.csv").write_text(f"id,age,target\n{rows}\n", encoding="utf-8")
    text = "import pandas as pd\n\n\ndef load():\n    return pd.read_csv('data/churn.csv')\n"
    (empty / "project" / "data.py").write_text(text, encoding="utf-8")
    for verb in ("draft_checks", "validate_data"):
        done = subprocess.run([sys.executable, "-m", f"scripts.{verb}"], cwd=empty, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((empty / "build" / "data.json").read_text(encoding="utf-8"))


def test_a_recipe_takes_the_place_of_the_example(copy):
    """Its files, its settings under the project's own name, and nothing of the example or of other recipes; its tests pass."""
    done = make(copy, "adopt", "NAME=flats", "EXAMPLE=prices")
    assert done.returncode == 0, done.stdout + done.stderr
    settings = load_settings(copy / "pipeline.toml")
    assert (settings.name, settings.data.target, settings.gate.metric) == ("flats", "price", "relative_error")
    assert not (copy / "examples").exists() and not (copy / "data" / "breast_cancer.csv").exists()
    assert (copy / "project" / "steps.py").exists() and "# The data" in (copy / "data" / "README.md").read_text("utf-8")
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/project", "tests/repository"]
    done = subprocess.run(pytest_, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_an_example_that_there_is_not_is_refused(template):
    """The recipes that there are stand in the message, and nothing was changed."""
    done = make(template, "adopt", "NAME=churn", "EXAMPLE=frauds")
    assert done.returncode == 2 and "EXAMPLE=frauds is no recipe" in done.stderr and "prices, text" in done.stderr
    assert (template / "dev").is_dir()
