"""Environments of the servers: made once by uv, each with its own packages, and kept in .slipway/bench."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts import ROOT, STATE, write_text
from pipeline.errors import SlipwayError

CACHE = STATE / "bench"
LOCK = ROOT / "requirements" / "pipeline.txt"
SERVING = ROOT / "requirements" / "serving.txt"
# What each environment installs. Versions that this repository locks are taken from its lock, so that all servers run the
# same scikit-learn, numpy, FastAPI and uvicorn; BentoML and MLServer refuse some of the others.
PACKAGES: dict[str, tuple[str, ...]] = {
    "ours": (),
    "mlflow": ("mlflow", "scikit-learn"),
    "tutorial": ("fastapi", "uvicorn", "scikit-learn"),
    "tuned": ("fastapi", "uvicorn[standard]", "scikit-learn"),
    "fastapi_onnx": ("fastapi", "uvicorn[standard]", "onnxruntime"),
    "bentoml": ("bentoml==1.4.39", "scikit-learn"),
    "litserve": ("litserve==0.2.19", "scikit-learn"),
    "mlserver": ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "uvloop==0.21.0", "scikit-learn"),
}
ONLY_LEARNERS = ("bentoml", "mlserver")
SHOWN = (
    "mlflow",
    "bentoml",
    "litserve",
    "mlserver",
    "fastapi",
    "uvicorn",
    "uvloop",
    "scikit-learn",
    "numpy",
    "onnxruntime",
)


def environment(name: str) -> Path:
    """The Python of an environment, which is made unless it is there; raises SlipwayError with uv's own words."""
    folder = CACHE / name
    python = folder / "bin" / "python"
    wanted = "\n".join(
        [sys.version, *PACKAGES[name], (SERVING if name == "ours" else LOCK).read_text(encoding="utf-8")]
    )
    ready = folder / "ready"
    if ready.is_file() and ready.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _uv(["venv", "--quiet", "--python", sys.executable, str(folder)])
    # Compiled, so that no server pays for it in its first start.
    _uv(["pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *_requirements(name)])
    write_text(ready, wanted)
    return python


def _requirements(name: str) -> list[str]:
    if name == "ours":
        return ["--require-hashes", "--requirement", str(SERVING)]
    if name in ONLY_LEARNERS:
        pins = dict(re.findall(r"^([\w.-]+)==(\S+)", LOCK.read_text(encoding="utf-8"), re.M))
        packages = [package for package in PACKAGES[name] if package != "scikit-learn"]
        return [*packages, f"scikit-learn=={pins['scikit-learn']}"]
    return ["--constraint", str(LOCK), *PACKAGES[name]]


def _uv(arguments: Sequence[str]) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-m", "uv", *arguments], capture_output=True, text=True, env=environment)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise SlipwayError(f"uv {arguments[0]}: {' '.join(lines)[:300] or 'failed without a word'}")
    return done.stdout


def size_mb(python: Path) -> float:
    """Megabytes (10^6 bytes) of an environment's packages, compiled bytecode left out."""
    files = (
        file for file in python.parent.parent.joinpath("lib").rglob("*") if file.is_file() and not file.is_symlink()
    )
    return sum(file.stat().st_size for file in files if file.suffix != ".pyc") / 1e6


def versions(python: Path) -> dict[str, str]:
    """Versions of the packages that matter for the speed of a server."""
    listed = json.loads(_uv(["pip", "list", "--quiet", "--format", "json", "--python", str(python)]))
    return {package["name"]: package["version"] for package in listed if package["name"] in SHOWN}
