"""A model that ONNX would not reproduce is served by scikit-learn itself, from training to production."""

import json
from pathlib import Path

import numpy as np
import pytest
import requests

# Trees that compare 64-bit numbers, behind a custom step of the project that needs named columns.
OWN_STEP = '''"""Our model."""
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline

from project.ratios import {name}


class Ratios(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.columns_ = list(X.columns)
        return self

    def transform(self, X):
        return X[self.columns_].assign(ratio={name}(X["worst_area"], X["mean_area"]))


def build(parameters, seed):
    return make_pipeline(Ratios(), HistGradientBoostingClassifier(max_iter=30, random_state=seed))
'''
CHECKS = '''"""Our checks."""


def expectations():
    from great_expectations import ExpectationSuite
    from great_expectations import expectations as expect

    return ExpectationSuite("own", [expect.ExpectColumnValuesToBeUnique(column="id", severity="critical")])
'''
RATIOS = '"""Our arithmetic."""\n\n\ndef ratio(one, other):\n    return one / (other + 1)\n'
TREES = '''"""Our model."""
from sklearn.ensemble import HistGradientBoostingClassifier


def build(parameters, seed):
    return HistGradientBoostingClassifier(max_iter=30, random_state=seed)
'''
PREDICTOR = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
ASK = """
import json, sys
import numpy as np
from pipeline.data.dataset import load_dataset
from pipeline.settings import load_settings
from train import fit
settings = load_settings()
dataset = load_dataset(settings)
model = fit(settings, dataset)
rows = dataset.features[dataset.holdout]
print(json.dumps([rows.to_numpy().tolist(), model.predict_proba(rows).tolist()]))
"""


def with_model(fork, model: str, *types: str) -> None:
    """Put a model into the fork, and its trusted types into the settings."""
    fork.write("project/model.py", model)
    fork.write("project/checks.py", CHECKS)
    fork.edit("pipeline.toml", "trusted_types = [] ", f"trusted_types = {json.dumps(types)} ")


def production(fork) -> tuple[str, Path]:
    """Production's URL and bundle."""
    record = fork.json(".slipway/production.json")
    return record["url"], Path(record["bundle"])


def answers_like_the_trained_model(fork) -> None:
    """Assert that every row of the hold-out, over HTTP, gets exactly the answer of a newly fitted model."""
    rows, trained = json.loads(fork.ok("-c", ASK))
    given = requests.post(f"{production(fork)[0]}/predict/batch", json={"features": rows}, timeout=30).json()
    probabilities = [list(one["probabilities"].values()) for one in given["predictions"]]
    assert np.array_equal(probabilities, trained)


def test_trees_with_64_bit_thresholds_are_served_by_scikit_learn(new_fork):
    """Histogram gradient boosting ships as skops, with the reason, and production answers exactly like the trained model; so does its next version."""
    fork = new_fork()
    with_model(fork, TREES)
    said = fork.ok("-m", "scripts.ship")
    contract = json.loads((production(fork)[1] / "contract.json").read_text(encoding="utf-8"))
    assert contract["format"] == "skops" and contract["skops"]["trusted"] == [PREDICTOR]
    assert contract["format_reason"].startswith("HistGradientBoostingClassifier: ")
    assert fork.json("build/evaluation.json")["format"]["format_reason"] == contract["format_reason"], said
    assert "served by scikit-learn itself" in (fork.root / "build/report.md").read_text(encoding="utf-8")
    assert not list(production(fork)[1].rglob("*.py"))
    answers_like_the_trained_model(fork)
    before = fork.json("build/run.json")["model_digest"]
    fork.ok("train.py")
    assert fork.json("build/run.json")["model_digest"] == before
    fork.ok("evaluate.py")
    assert fork.json("build/evaluation.json")["verdict"] == "keep"


def test_custom_step_is_in_the_bundle(new_fork):
    """A transformer of project/ is served from the bundle with the modules that it imports, whatever the repository contains later."""
    fork = new_fork()
    fork.write("project/ratios.py", RATIOS)
    with_model(fork, OWN_STEP.format(name="ratio"), "project.model.Ratios")
    fork.ok("-m", "scripts.ship")
    answers_like_the_trained_model(fork)
    bundle = production(fork)[1]
    code = {path.relative_to(bundle / "code").as_posix() for path in bundle.rglob("*.py")}
    assert code == {"project/__init__.py", "project/model.py", "project/ratios.py"}

    # Another model with a module of the same name must not be confused with production's.
    fork.write("project/ratios.py", RATIOS.replace("ratio", "share").replace("one /", "3 * one /"))
    fork.write("project/model.py", OWN_STEP.format(name="share"))
    fork.edit("pipeline.toml", 'policy = "better" ', 'policy = "not_worse" ')
    before = fork.json("build/evaluation.json")["candidate"]["metrics"]["log_loss"]
    for command in (["train.py"], ["evaluate.py"]):
        fork.ok(*command)
    assert fork.json("build/evaluation.json")["comparison"]["production"] == pytest.approx(before, abs=1e-9)


def test_module_missing_in_the_image_is_refused_by_name(new_fork):
    """Code that imports a package which no image has ends training with the package's name, and without a run file."""
    fork = new_fork()
    fork.write("project/ratios.py", "import requests\n" + RATIOS)
    with_model(fork, OWN_STEP.format(name="ratio"), "project.model.Ratios")
    fork.ok("-m", "scripts.validate_data")
    said = fork.refused("train.py")
    assert "No module named 'requests'" in said and "serving-sklearn" in said
    assert not (fork.root / "build/run.json").exists() and not (fork.root / "build/model").exists()


def test_untrusted_types_are_refused(new_fork):
    """A type of the project that the settings do not trust ends training, whatever the format."""
    fork = new_fork()
    fork.write("project/ratios.py", RATIOS)
    with_model(fork, OWN_STEP.format(name="ratio"))
    fork.ok("-m", "scripts.validate_data")
    said = fork.refused("train.py")
    assert "not trusted: project.model.Ratios" in said and 'trusted_types = ["project.model.Ratios"]' in said
