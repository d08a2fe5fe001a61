"""The service is a world of its own."""

import ast
import os
import subprocess
import sys

import pytest

from tests.serving.bundles import make_bundle
from tests.serving.service import ROOT

# starlette is what FastAPI is made of and re-exports; the rest is in the serving group of pyproject.toml.
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
}
# What only one kind of image has, by the one file that may import it.
OF_ITS_OWN = {"onnx_model.py": {"onnxruntime"}, "sklearn_model.py": {"pandas", "skops"}}
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
    "fastapi_standalone_docs",  # its files are used, its code is not
}


def _imports(path):
    """Top-level names of all modules that a file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", sorted((ROOT / "serving").glob("**/*.py")), ids=lambda path: path.name)
def test_a_file_imports_only_what_the_service_needs(path):
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
def test_nothing_else_is_loaded(tmp_path, kind, loaded, of_the_other_kind):
    """A service has what its model's format needs in memory, and nothing of the pipeline or of the other format, directly or not."""
    names = _modules_with(make_bundle(kind, tmp_path / "bundle"))
    assert loaded <= names
    assert not names & (FOREIGN | of_the_other_kind)


def _modules_with(bundle):
    """The top-level names of all modules of a service that has opened a bundle."""
    code = (
        "import sys, pathlib; from serving.app import create_app; import serving.__main__, serving.runtime.workers, serving.http.server;"
        "from serving.config import read_config; create_app(pathlib.Path(sys.argv[1]), read_config({})).load_framework(); print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(bundle)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_does_nothing(tmp_path):
    """Importing every module of the service opens no bundle, makes no file and prints nothing."""
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
