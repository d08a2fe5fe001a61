"""The service depends on nothing else of this repository."""

import ast
import os
import subprocess
import sys

import pytest

from tests.serving.bundles import make_bundle
from tests.serving.service import ROOT

# starlette is part of FastAPI; the rest is in the serving group of pyproject.toml.
ALLOWED = {
    "serving",
    "fastapi",
    "starlette",
    "uvloop",
    "pydantic",
    "numpy",
    "prometheus_client",
    "psycopg",
    "uvicorn",
    "httptools",
    "msgspec",
    "backports",  # backports.zstd: the standard library's compression.zstd before Python 3.14
    "compression",
}
# Packages that only one kind of image has, with the one file that may import each.
OF_ITS_OWN = {
    "boosted_trees.py": {"xgboost", "lightgbm", "catboost"},
    "onnx_model.py": {"onnxruntime"},
    "sklearn_model.py": {"pandas", "skops"},
}
FOREIGN = {
    "pipeline",
    "delivery",
    "scripts",
    "dev",
    "project",
    "mlflow",
    "skl2onnx",
    "onnx",
    "requests",
    "fastapi_standalone_docs",  # only its static files are used
}


def _imports(path):
    """Top-level names of all modules that a file imports, including imports inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", sorted((ROOT / "serving").glob("**/*.py")), ids=lambda path: path.name)
def test_files_import_only_packages_of_the_image(path):
    """Every import is the standard library or one of the few packages of the image."""
    assert set(_imports(path)) <= ALLOWED | OF_ITS_OWN.get(path.name, set()) | set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("kind", "loaded", "of_the_other_kind"),
    [
        ("binary", {"onnxruntime"}, {"sklearn", "scipy", "pandas", "skops"}),
        ("columns", {"onnxruntime"}, {"sklearn", "scipy", "pandas", "skops"}),
        ("skops", {"sklearn", "skops"}, {"onnxruntime"}),
        ("skops_frame", {"sklearn", "skops", "pandas"}, {"onnxruntime"}),
    ],
)
def test_only_the_format_s_packages_are_loaded(tmp_path, kind, loaded, of_the_other_kind):
    """A service loads what its model's format needs, and nothing of the pipeline or the other format, not even indirectly."""
    names = _modules_with(make_bundle(kind, tmp_path / "bundle"))
    assert loaded <= names
    assert not names & (FOREIGN | of_the_other_kind)


def _modules_with(bundle):
    """The top-level names of all modules in a service that has opened a bundle."""
    code = (
        "import sys, pathlib; from serving.app import create_app; import serving.__main__, serving.runtime.workers, serving.http.server;"
        "from serving.config import read_config; create_app(pathlib.Path(sys.argv[1]), read_config({})).load_framework(); print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(bundle)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_has_no_side_effects(tmp_path):
    """Importing every module of the service opens no bundle, creates no file and prints nothing."""
    code = "import serving.app, serving.__main__"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "COVERAGE_PROCESS_CONFIG": "",
    }
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert done.stdout == done.stderr == b""
    assert list(tmp_path.iterdir()) == []
