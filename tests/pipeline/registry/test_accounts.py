"""Accounts of MLflow: what a permission covers."""

import re

from pipeline.artifacts import ROOT
from pipeline.registry import accounts


def test_a_permission_covers_every_experiment_that_the_pipeline_makes():
    """`make mlflow-user` grants it on each experiment NAME-… whose name is in the code."""
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "pipeline").rglob("*.py"))
    made = set(re.findall(r'experiment\(client, f"\{[\w.]+\}-(\w+)"\)', code))
    assert len(made) >= 4 and made <= set(accounts.EXPERIMENTS)
