"""Copies of k8s/ in separate folders, with components enabled."""

import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from delivery.targets.kubernetes import manifests

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENTS = ("staging", "production")
COMPONENTS = (
    "ingress",
    "gateway",
    "header-route",
    "header-route-target",
    "argo-rollouts",
    "service-monitor",
    "postgres-url",
    "api-keys",
    "monitor",
)
IMAGE = f"registry.example.com:5000/team/model@sha256:{'ab' * 32}"
ABOUT = {"name": "breast-cancer", "version": "12", "digest": "cd" * 32, "since": "2026-11-21T10:00:00Z"}

needs_kubectl = pytest.mark.needs("kubectl")  # renders the manifests


def copy_of_k8s(root: Path) -> Path:
    """A root folder with only k8s/ in it."""
    shutil.copytree(ROOT / "k8s", root / "k8s")
    return root


def switch_on(overlay: Path, components: tuple[str, ...]) -> None:
    """Make an overlay list exactly these components, and fill in their addresses."""
    path = overlay / "kustomization.yaml"
    listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    listed["components"] = [f"../../components/{component}" for component in components]
    path.write_text(yaml.safe_dump(listed), encoding="utf-8")
    addresses = overlay / "addresses.yaml"
    text = addresses.read_text(encoding="utf-8").replace("monitor-image: set-me", f"monitor-image: {IMAGE}")
    addresses.write_text(text.replace("set-me", "filled-in"), encoding="utf-8")


def rendered(root: Path, *components: str, environment: str = "production") -> list[dict]:
    """The objects of an environment with these components, as the deploy step would apply them."""
    switch_on(copy_of_k8s(root) / "k8s" / "overlays" / environment, components)
    return manifests.render(environment, "breast-cancer", IMAGE, ABOUT, root)


def variant(root: Path, environment: str, components: tuple[str, ...], number: int) -> str:
    """Add an overlay that is a copy of another one except for its components; returns the namespace of its objects."""
    name = f"{environment}-{number}"
    overlay = root / "k8s" / "overlays" / name
    shutil.copytree(root / "k8s" / "overlays" / environment, overlay)
    switch_on(overlay, components)
    manifests.prepare(name, "m", IMAGE, ABOUT, root)
    return f"m-{name}"


def rendered_together(root: Path) -> dict[str, list[dict]]:
    """Every prepared overlay by namespace, in one run of kubectl: separate runs would take ten times as long."""
    prepared = sorted(path.parent.name for path in (root / "build" / "k8s").glob("*/kustomization.yaml"))
    folder = root / "build" / "together"
    folder.mkdir()
    text = yaml.safe_dump({"resources": [f"../k8s/{name}" for name in prepared]})
    (folder / "kustomization.yaml").write_text(text, encoding="utf-8")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    found = defaultdict(list)
    for item in yaml.load_all(done.stdout, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        found[item["metadata"].get("namespace", "")].append(item)
    return found
