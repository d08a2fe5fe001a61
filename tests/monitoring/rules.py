"""Prometheus' rules as shipped, and series to test them with."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "monitoring" / "prometheus"
FILES = sorted((FOLDER / "rules").glob("*.yml"))


def rules() -> list[dict]:
    """Every rule of every file."""
    groups = [group for file in FILES for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict]:
    """The alerts by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded() -> dict[str, dict]:
    """The recording rules by name."""
    return {rule["record"]: rule for rule in rules() if "record" in rule}


def exposed() -> set[str]:
    """The metrics that the service has, as its source names them."""
    files = ("telemetry/metrics", "telemetry/prometheus", "counts/gauges")
    source = "".join((ROOT / "serving" / f"{name}.py").read_text(encoding="utf-8") for name in files)
    return set(re.findall(r'"(slipway_\w+|model_accuracy|data_drift_score)"', source))


def grows(*phases: tuple[float, int], start: float = 0) -> str:
    """A counter by phases of (increase per minute, minutes)."""
    parts = []
    for step, minutes in phases:
        parts.append(f"{start:.12g}+{step:.12g}x{minutes - 1}")
        start += step * minutes
    return " ".join(parts)


def stays(*phases: tuple[float, int]) -> str:
    """A gauge by phases of (value, minutes)."""
    return " ".join(f"{value:.12g}+0x{minutes - 1}" for value, minutes in phases)


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    """A series in the format of `promtool test rules`, of production unless the labels say otherwise."""
    environment = labels.get("environment", "production")
    where = {"job": "slipway", "environment": environment, "instance": f"{environment}:8000"} | labels
    return {"series": name + "{" + ",".join(f'{key}="{value}"' for key, value in where.items()) + "}", "values": values}
