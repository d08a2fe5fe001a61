"""What dashboards and alerts ask of an experiment, beside what a service that carries one shows."""

import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.experiment.experiment import open_experiment
from serving.http.endpoints import PATHS
from serving.model.bundle import open_bundle
from serving.telemetry.metrics import Metrics
from serving.telemetry.prometheus import exposition
from tests.monitoring.rules import ROOT, alerts
from tests.serving.experiment.carried import make_experiment

SELECTOR = re.compile(r"(slipway_(?:experiment|shadow)_\w+)(?:\{([^}]*)\})?")


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> dict[str, list[dict[str, str]]]:
    """The labels of each metric of an experiment, of a service with an A/B test and of one with a shadow together."""
    found: dict[str, list[dict[str, str]]] = {}
    for mode in ("ab", "shadow"):
        folder = make_experiment(tmp_path_factory.mktemp(mode) / "bundle", mode)
        bundle = open_bundle(folder)
        text = exposition(Metrics(bundle, PATHS, 1, open_experiment(folder, bundle))).decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample.labels)
    return found


def queries() -> list[tuple[str, str]]:
    """Query and legend of the panels, and the queries of the alerts."""
    panels = json.loads((ROOT / "monitoring/grafana/dashboards/model.json").read_text(encoding="utf-8"))["panels"]
    asked = [(one["expr"], one["legendFormat"]) for panel in panels for one in panel.get("targets", [])]
    asked += [(rule["expr"], "") for rule in alerts().values()]
    return [(query, legend) for query, legend in asked if SELECTOR.search(query)]


@pytest.mark.parametrize(("query", "legend"), queries())
def test_what_is_asked_is_shown(shown, query, legend):
    """Each metric exists with the labels that are asked for, and the labels by which it is summed and named."""
    named = set(re.findall(r"\{\{(\w+)\}\}", legend))
    kept = {label for labels in re.findall(r"by \(([\w, ]+)\)", query) for label in labels.split(", ")}
    assert named <= kept
    for name, selected in SELECTOR.findall(query):
        wanted = dict(re.findall(r'(\w+)="([^"]*)"', selected))
        wanted = {key: value for key, value in wanted.items() if key not in ("job", "environment")}
        series = [labels for labels in shown.get(name, []) if wanted.items() <= labels.items()]
        assert series, name
        assert all(kept - {"environment"} <= set(labels) for labels in series), name
