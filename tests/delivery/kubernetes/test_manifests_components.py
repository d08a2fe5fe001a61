"""Overlays, components and what is written about them agree."""

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


def test_the_components_are_those_in_the_folder():
    """What the tests combine is all that there is."""
    assert {path.name for path in (ROOT / "k8s" / "components").iterdir()} == set(COMPONENTS)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_an_overlay_offers_is_switched_on_by_deleting_a_character(name):
    """Each line behind a "#" names a component that exists, and is right once the "#" is gone."""
    offered = OFFERED.findall(overlay(name))
    assert set(offered) <= set(COMPONENTS)
    switched = yaml.safe_load(overlay(name).replace("  # - ../../components/", "  - ../../components/"))
    assert (switched["components"] or []) == [f"../../components/{component}" for component in offered]


def test_the_page_names_every_component_and_no_other():
    """The table of docs/kubernetes.md has a row for each."""
    table = PAGE.split("## Components")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\| `([a-z-]+)`", table, re.M)) == COMPONENTS


def test_the_page_names_every_file_of_the_base():
    """And nothing that is not there."""
    table = PAGE.split("## What is applied")[1].split("\n## ")[0]
    named = re.findall(r"^\| `([a-z-]+\.yaml)`", table, re.M)
    base = ROOT / "k8s" / "base"
    assert sorted(named) == sorted(path.name for path in base.iterdir() if path.name != "kustomization.yaml")
    assert {path.name for path in base.iterdir()} - {"kustomization.yaml"} == set(
        yaml.safe_load((base / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    )


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_address_is_asked_for_by_a_component(name):
    """addresses.yaml has what the components read from it, no less and no more."""
    kustomizations = (ROOT / "k8s" / "components").glob("*/kustomization.yaml")
    text = "".join(path.read_text(encoding="utf-8") for path in kustomizations)
    assert set(re.findall(r"fieldPath: data\.([a-z-]+)", text)) == set(addresses(name))


def test_each_manifest_opens_by_saying_what_it_is_for():
    """The first line of each file in k8s/ is a sentence."""
    files = sorted((ROOT / "k8s").rglob("*.yaml"))
    assert files and [path for path in files if not path.read_text(encoding="utf-8").startswith("# ")] == []


def test_the_digest_is_in_none_of_the_files():
    """The image of a release is put in by the deploy step alone; the files name a placeholder, once. MLflow and relay are no releases."""
    files = [path for path in (ROOT / "k8s").rglob("*.yaml") if not {"mlflow", "webhook-relay"} & set(path.parts)]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    assert [path.name for path, text in texts.items() if re.search(r"^\s*-? ?image: ", text, re.M)] == [
        "deployment.yaml"
    ]
    assert not any("sha256:" in text for text in texts.values())


def canary_settings() -> Canary:
    """Those that the analysis is compared with: this repository's where Argo does its canary, else the shipped ones."""
    on = any("argo-rollouts" in str(yaml.safe_load(overlay(name)).get("components")) for name in ENVIRONMENTS)
    return load_settings(ROOT / "pipeline.toml" if on else ROOT / "tests" / "example" / "pipeline.toml").canary


def argo(file: str) -> dict:
    path = ROOT / "k8s" / "components" / "argo-rollouts" / file
    return yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]


def test_argo_judges_by_the_numbers_of_the_settings():
    """Thresholds and confidence of the AnalysisTemplate are those of [canary] in pipeline.toml."""
    canary = canary_settings()
    given = {each["name"]: float(each["value"]) for each in argo("analysis.yaml")["args"] if "value" in each}
    assert given == {
        "max-error-ratio": canary.max_error_ratio,
        "max-latency-ratio": canary.max_latency_ratio,
        "min-requests": canary.min_requests,
        "confidence-z": pytest.approx(NormalDist().inv_cdf(canary.confidence), abs=5e-4),
    }


def test_argo_takes_the_steps_of_the_settings():
    """Each step is followed by an analysis."""
    steps = argo("rollout.yaml")["strategy"]["canary"]["steps"]
    assert [step["setWeight"] for step in steps if "setWeight" in step] == canary_settings().steps
    assert ["analysis" in step for step in steps] == [False, True] * (len(steps) // 2)


def test_argo_waits_as_long_as_the_settings_say():
    """Measurements and their window both cover hold_seconds, and only if none could tell does the analysis stay open."""
    for metric in argo("analysis.yaml")["metrics"]:
        seconds = metric["count"] * int(metric["interval"].removesuffix("s"))
        assert seconds == canary_settings().hold_seconds
        windows = set(re.findall(r"\[(\d+)m\]", metric["provider"]["prometheus"]["query"]))
        assert windows == {str(seconds // 60)}
        assert (metric["failureLimit"], metric["inconclusiveLimit"]) == (0, metric["count"] - 1)


def test_the_analysis_reads_what_the_service_counts():
    """Each series in its queries is one that the service counts, and each argument is handed over."""
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
