"""The queries of Argo's analysis, evaluated by Prometheus itself for canaries of every kind."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ANALYSIS = Path(__file__).resolve().parents[3] / "k8s" / "components" / "argo-rollouts" / "analysis.yaml"
HANDED = {"namespace": "team", "canary": "new", "stable": "old"}
STABLE = ("model-old-1", "model-old-2")

pytestmark = pytest.mark.needs("promtool")


def metrics() -> dict[str, tuple[str, float]]:
    """Query and threshold of each metric, with the arguments filled in as by Argo."""
    spec = yaml.safe_load(ANALYSIS.read_text(encoding="utf-8"))["spec"]
    values = {each["name"]: each["value"] for each in spec["args"] if "value" in each} | HANDED
    filled = re.sub(r"\{\{args\.([a-z-]+)\}\}", lambda found: values[found[1]], yaml.safe_dump(spec["metrics"]))
    return {
        each["name"]: (each["provider"]["prometheus"]["query"], float(each["failureCondition"].split("> ")[-1]))
        for each in yaml.safe_load(filled)
    }


def series(pod: str, requests: float, errors: float = 0, latency: float = 0.01, **labels: str) -> list[dict[str, str]]:
    """Ten minutes of a pod's counters, from its requests, error share and mean latency."""
    labels = {"namespace": "team", "pod": pod, "path": "/predict"} | labels
    grown = {
        ("slipway_requests_total", "200"): requests * (1 - errors),
        ("slipway_requests_total", "500"): requests * errors,
        ("slipway_request_seconds_count", ""): requests,
        ("slipway_request_seconds_sum", ""): requests * latency,
    }
    return [
        {"series": name + str_of(labels | ({"status": status} if status else {})), "values": f"0+{amount / 40}x40"}
        for (name, status), amount in grown.items()
    ]


def str_of(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def answer(tmp_path: Path, query: str, given: list[dict[str, str]]) -> float | None:
    """Prometheus' result after ten minutes of these series; None for no result."""
    asked = {"expr": query, "eval_time": "10m", "exp_samples": [{"labels": "{}", "value": -999}]}
    tests = {"tests": [{"interval": "15s", "input_series": given, "promql_expr_test": [asked]}]}
    (tmp_path / "asked.yaml").write_text(yaml.safe_dump(tests), encoding="utf-8")
    done = subprocess.run(["promtool", "test", "rules", "asked.yaml"], cwd=tmp_path, capture_output=True, text=True)
    found = re.search(r"got:\s*(nil|\{\} (\S+))", done.stdout + done.stderr)
    assert found, done.stdout + done.stderr
    return None if found[1] == "nil" else float(found[2])


def stable(**kind: float) -> list[dict[str, str]]:
    return [each for pod in STABLE for each in series(pod, 2000, **kind)]


CANARIES = {
    "as good": (series("model-new-1", 1000), stable(), "go", "go"),
    "5 % errors": (series("model-new-1", 1000, errors=0.05), stable(), "abort", "go"),
    "a single error": (series("model-new-1", 1000, errors=0.001), stable(), "go", "go"),
    "errors as the stable pods": (series("model-new-1", 1000, errors=0.05), stable(errors=0.05), "go", "go"),
    "twice their errors": (series("model-new-1", 1000, errors=0.1), stable(errors=0.05), "abort", "go"),
    "1.1 times the latency": (series("model-new-1", 1000, latency=0.011), stable(), "go", "go"),
    "1.3 times the latency": (series("model-new-1", 1000, latency=0.013), stable(), "go", "abort"),
    "too few requests": (series("model-new-1", 150, errors=0.5, latency=1), stable(), "hold", "hold"),
    "no pods yet": ([], stable(), "hold", "hold"),
    "other namespace": (series("model-new-1", 1000, errors=1, namespace="other"), stable(), "hold", "hold"),
    "probes alone": (series("model-new-1", 1000, errors=1, path="/readyz"), stable(), "hold", "hold"),
}


@pytest.mark.parametrize("kind", CANARIES)
def test_prometheus_judges_a_canary(tmp_path, kind):
    """Bad canaries exceed the threshold, good ones do not, and too little traffic gives no result."""
    canary, beside, *wanted = CANARIES[kind]
    verdicts = []
    for name in ("errors", "latency"):
        query, threshold = metrics()[name]
        value = answer(tmp_path, query, canary + beside)
        verdicts.append("hold" if value is None else "abort" if value > threshold else "go")
    assert verdicts == wanted
