"""Addresses within MLflow's pages."""

import re

from pipeline import mlflow_pages
from pipeline.artifacts import ROOT


def test_every_page_opens_on_the_side_of_machine_learning():
    """Without the parameter a browser that was never at this MLflow is shown traces, and no model registry in the menu."""
    assert mlflow_pages.experiment("7") == "#/experiments/7/runs?workflowType=machine_learning"
    assert mlflow_pages.run("7", "ab") == "#/experiments/7/runs/ab?workflowType=machine_learning"
    assert mlflow_pages.model("iris") == "#/models/iris?workflowType=machine_learning"


def test_no_other_file_makes_addresses_of_mlflows_pages():
    """All of them come from one place, so none is without the parameter."""
    files = [
        *ROOT.glob("*.py"),
        *(path for room in ("pipeline", "delivery", "scripts") for path in (ROOT / room).rglob("*.py")),
    ]
    made = {path.name for path in files if re.search(r"#/(experiments|models)/", path.read_text(encoding="utf-8"))}
    assert made == {"mlflow_pages.py"}
