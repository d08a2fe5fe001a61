"""The service is a world of its own."""

import ast
import os
import subprocess
import sys

import pytest

from tests.serving.service import ROOT

# starlette is what FastAPI is made of and re-exports; the rest is in the serving group of pyproject.toml.
ALLOWED = {
    "serving",
    "fastapi",
    "starlette",
    "uvloop",
    "pydantic",
    "numpy",
    "onnxruntime",
    "prometheus_client",
    "psycopg",
    "uvicorn",
    "msgspec",
}
FOREIGN = {
    "pipeline",
    "scripts",
    "project",
    "mlflow",
    "sklearn",
    "pandas",
    "skl2onnx",
    "onnx",
    "scipy",
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
    assert set(_imports(path)) <= ALLOWED | set(sys.stdlib_module_names)


def test_nothing_of_the_pipeline_is_loaded(bundle):
    """A service with a bundle has none of the pipeline's modules in memory, directly or through others."""
    code = (
        "import sys, pathlib; from serving.app import create_app; import serving.__main__, serving.workers, serving.server;"
        "from serving.config import read_config; create_app(pathlib.Path(sys.argv[1]), read_config({})).load_rest(); print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(bundle)]
    loaded = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    names = set(loaded.stdout.split())
    assert "onnxruntime" in names
    assert not names & FOREIGN


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
