"""Overlays, components and their documentation agree."""

import re
from statistics import NormalDist

import pytest
import yaml
from manifest_trees import COMPONENTS, ENVIRONMENTS, ROOT

from pipeline.settings import Canary, load_settings

OVERLAYS = {name: ROOT / "k8s" / "overlays" / name for name in ENVIRONMENTS}
PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
OFFERED = re.compile(r"^  (?:# )?- \.\./\.\./components/(\S+)$", re.M)


def overlay(name: str) -> str:
    return (OVERLAYS[name] / "kustomization.yaml").read_text(encoding="utf-8")


def addresses(name: str) -> dict[str, str]:
    return yaml.safe_load((OVERLAYS[name] / "addresses.yaml").read_text(encoding="utf-8"))["data"]


def test_known_components_are_those_in_the_folder():
    """The tests combine all that exist."""
    assert {path.name for path in (ROOT / "k8s" / "components").iterdir()} == set(COMPONENTS)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_overlay_s_options_work_when_uncommented(name):
    """Each line behind a "#" names an existing component, and is valid without the "#"."""
    offered = OFFERED.findall(overlay(name))
    assert set(offered) <= set(COMPONENTS)
    switched = yaml.safe_load(overlay(name).replace("  # - ../../components/", "  - ../../components/"))
    assert (switched["components"] or []) == [f"../../components/{component}" for component in offered]


def test_documentation_lists_every_component():
    """The table of docs/kubernetes.md has a row for each, and no other."""
    table = PAGE.split("## Components")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\| `([a-z-]+)`", table, re.M)) == COMPONENTS


def test_documentation_lists_every_file_of_the_base():
    """And no other."""
    table = PAGE.split("## What is applied")[1].split("\n## ")[0]
    named = re.findall(r"^\| `([a-z-]+\.yaml)`", table, re.M)
    base = ROOT / "k8s" / "base"
    assert sorted(named) == sorted(path.name for path in base.iterdir() if path.name != "kustomization.yaml")
    assert {path.name for path in base.iterdir()} - {"kustomization.yaml"} == set(
        yaml.safe_load((base / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    )


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_addresses_are_those_of_the_components(name):
    """addresses.yaml has exactly the values that the components read."""
    kustomizations = (ROOT / "k8s" / "components").glob("*/kustomization.yaml")
    text = "".join(path.read_text(encoding="utf-8") for path in kustomizations)
    assert set(re.findall(r"fieldPath: data\.([a-z-]+)", text)) == set(addresses(name))


def test_manifests_start_with_their_purpose():
    """The first line of each file in k8s/ is a sentence."""
    files = sorted((ROOT / "k8s").rglob("*.yaml"))
    assert files and [path for path in files if not path.read_text(encoding="utf-8").startswith("# ")] == []


def test_no_file_contains_a_digest():
    """The deploy step alone sets a release's image; the files have one placeholder. MLflow, relay and monitor are no releases."""
    files = [
        path for path in (ROOT / "k8s").rglob("*.yaml") if not {"mlflow", "webhook-relay", "monitor"} & set(path.parts)
    ]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    assert [path.name for path, text in texts.items() if re.search(r"^\s*-? ?image: ", text, re.M)] == [
        "deployment.yaml"
    ]
    assert not any("sha256:" in text for path, text in texts.items() if path.name != "addresses.yaml")


def canary_settings() -> Canary:
    """The canary settings to compare the analysis with: this repository's if Argo does its canary, else the shipped ones."""
    on = any("argo-rollouts" in str(yaml.safe_load(overlay(name)).get("components")) for name in ENVIRONMENTS)
    return load_settings(ROOT / "pipeline.toml" if on else ROOT / "tests" / "example" / "pipeline.toml").canary


def argo(file: str) -> dict:
    path = ROOT / "k8s" / "components" / "argo-rollouts" / file
    return yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]


def test_argo_has_the_settings_thresholds():
    """Thresholds and confidence of the AnalysisTemplate are those of [canary] in pipeline.toml."""
    canary = canary_settings()
    given = {each["name"]: float(each["value"]) for each in argo("analysis.yaml")["args"] if "value" in each}
    assert given == {
        "max-error-ratio": canary.max_error_ratio,
        "max-latency-ratio": canary.max_latency_ratio,
        "min-requests": canary.min_requests,
        "confidence-z": pytest.approx(NormalDist().inv_cdf(canary.confidence), abs=5e-4),
    }


def test_argo_has_the_settings_steps():
    """Each step is followed by an analysis."""
    steps = argo("rollout.yaml")["strategy"]["canary"]["steps"]
    assert [step["setWeight"] for step in steps if "setWeight" in step] == canary_settings().steps
    assert ["analysis" in step for step in steps] == [False, True] * (len(steps) // 2)


def test_argo_waits_for_hold_seconds():
    """Measurements and their window both cover hold_seconds, and the analysis is inconclusive only if all measurements are."""
    for metric in argo("analysis.yaml")["metrics"]:
        seconds = metric["count"] * int(metric["interval"].removesuffix("s"))
        assert seconds == canary_settings().hold_seconds
        windows = set(re.findall(r"\[(\d+)m\]", metric["provider"]["prometheus"]["query"]))
        assert windows == {str(seconds // 60)}
        assert (metric["failureLimit"], metric["inconclusiveLimit"]) == (0, metric["count"] - 1)


def test_analysis_reads_existing_metrics():
    """Each series in its queries is one of the service's, and each argument is passed."""
    made = "".join(
        (ROOT / f"serving/telemetry/{name}.py").read_text(encoding="utf-8") for name in ("metrics", "prometheus")
    )
    spec = argo("analysis.yaml")
    queries = " ".join(metric["provider"]["prometheus"]["query"] for metric in spec["metrics"])
    for series in set(re.findall(r"slipway_[a-z_]+", queries)):
        assert f'"{re.sub("_(total|sum|count)$", "", series)}"' in made
    asked = set(re.findall(r"\{\{args\.([a-z-]+)\}\}", str(spec["metrics"])))
    assert asked == {each["name"] for each in spec["args"]}
    steps = argo("rollout.yaml")["strategy"]["canary"]["steps"]
    handed = {each["name"] for step in steps if "analysis" in step for each in step["analysis"]["args"]}
    assert handed == {each["name"] for each in spec["args"] if "value" not in each}
