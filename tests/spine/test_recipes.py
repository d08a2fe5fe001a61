"""Each recipe of examples/, shipped as a project that began with it: its verdict, its format, its answers, and what it is there to show."""

import json
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import requests

from dev import recipes
from tests.conftest import Fork, forked

# How each is served, and what the reason for another format than ONNX begins with.
FORMATS = {
    "churn": ("lightgbm", "LGBMClassifier: "),
    "fraud": ("xgboost", "XGBClassifier: "),
    "network": ("onnx", ""),
    "prices": ("skops", "TransformedTargetRegressor: "),
    "text": ("onnx", ""),
    "time": ("onnx", ""),
}


@dataclass
class Recipe:
    """A recipe in a fork of its own, and what `make ship` printed."""

    name: str
    fork: Fork
    said: str

    @cached_property
    def production(self) -> dict:
        """The record of what serves."""
        return self.fork.json(".slipway/production.json")

    @property
    def bundle(self) -> Path:
        """What it serves."""
        return Path(self.production["bundle"])

    @property
    def contract(self) -> dict:
        """How it is served."""
        return json.loads((self.bundle / "contract.json").read_text(encoding="utf-8"))

    def ask(self, rows: list) -> list[dict]:
        """Production's answers, each in full."""
        answer = requests.post(f"{self.production['url']}/predict/batch", json={"features": rows}, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"]


@pytest.fixture(scope="module")
def recipe(request, tmp_path_factory):
    """The recipe of that name, shipped once for all tests about it."""
    with forked(tmp_path_factory.mktemp("recipe"), request.param) as fork:
        yield Recipe(request.param, fork, fork.ok("-m", "scripts.ship"))


def of(*names: str):
    """These recipes, one after the other."""
    return pytest.mark.parametrize("recipe", names, indirect=True, scope="module")


@of(*recipes.names())
def test_a_recipe_is_accepted_and_served_in_its_format(recipe):
    """The first `make ship` ends with a version in production, in the format that its documentation says, with the reason in the report."""
    evaluation = recipe.fork.json("build/evaluation.json")
    assert evaluation["verdict"] == "accept", recipe.said
    assert all(check["success"] for check in evaluation["checks"])
    kind, reason = FORMATS[recipe.name]
    assert recipe.contract["format"] == kind, recipe.contract["format_reason"]
    assert recipe.contract["format_reason"].startswith(reason) and bool(reason) == bool(
        recipe.contract["format_reason"]
    )
    assert evaluation["format"]["format_reason"] == recipe.contract["format_reason"]
    report = (recipe.fork.root / "build" / "report.md").read_text(encoding="utf-8")
    assert ("not as ONNX" in report) == bool(reason)


def flat(answer: dict) -> list[float]:
    """The numbers of an answer: probabilities in the order of the classes, or a value."""
    numbers = answer.get("probabilities", answer.get("value"))
    return list(numbers.values()) if isinstance(numbers, dict) else numbers if isinstance(numbers, list) else [numbers]


@of(*recipes.names())
def test_a_recipe_answers_as_it_was_judged(recipe):
    """Over HTTP, every golden row gets the answer that the trained model gave."""
    golden = json.loads((recipe.bundle / "golden.json").read_text(encoding="utf-8"))
    given = recipe.ask(golden["inputs"])
    for one, expected in zip(given, golden["expected"], strict=True):
        assert flat(one) == pytest.approx(flat(expected), rel=0, abs=golden["tolerance"])
        assert one.get("label") == expected.get("label")


MEASURED = {
    "binary": {"accuracy", "roc_auc", "pr_auc", "log_loss"},
    "multiclass": {"accuracy", "balanced_accuracy", "f1_macro", "roc_auc_ovr"},
    "regression": {"mae", "rmse", "r2"},
}


@of(*recipes.names())
def test_nothing_but_what_a_team_writes_is_needed(recipe):
    """Every task ships with the team's own files alone: no other file is changed, and the metrics are those of the task."""
    status = ["git", "status", "--porcelain", "-uall"]
    changed = subprocess.run(status, cwd=recipe.fork.root, capture_output=True, text=True, check=True).stdout
    assert not changed
    assert MEASURED[recipe.contract["task"]] <= set(recipe.fork.json("build/evaluation.json")["candidate"]["metrics"])


@of(*recipes.names())
def test_the_tests_of_a_recipe_pass(recipe):
    """What a recipe says of its data, rules and model is so."""
    recipe.fork.ok("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/project")


def row_of(recipe: Recipe, **values) -> list:
    """The row that the contract shows as an example, with other values of these columns."""
    return [values.get(one["name"], one["example"]) for one in recipe.contract["inputs"]]


@of("churn")
def test_empty_cells_of_churn_are_answered(recipe):
    """Who has no internet has no data volume: a row with empty cells gets an answer of its own, and so does a region that training never saw."""
    full, empty, new = recipe.ask(
        [row_of(recipe, satisfaction=1), row_of(recipe, satisfaction=None, data_gb=None), row_of(recipe, region="moon")]
    )
    assert full["probabilities"]["yes"] > empty["probabilities"]["yes"]
    assert new["label"] in ("no", "yes")
    wrong = {"features": row_of(recipe, contract=7)}
    refused = requests.post(f"{recipe.production['url']}/predict", json=wrong, timeout=60)
    assert refused.status_code == 422 and "contract" in refused.text


@of("fraud")
def test_costs_decide_what_is_fraud(recipe):
    """The threshold is in the contract, far below a half, and a payment above it is fraud in production."""
    contract = recipe.contract
    assert contract["labels"] == "threshold" and 0 < contract["threshold"] < 0.5
    golden = json.loads((recipe.bundle / "golden.json").read_text(encoding="utf-8"))
    for one in recipe.ask(golden["inputs"]):
        assert (one["label"] == "yes") == (one["probabilities"]["yes"] >= contract["threshold"])


@of("fraud")
def test_rules_decide_beside_the_model_of_fraud(recipe):
    """A stolen card is fraud whatever is bought, and the answer names the rule; a usual payment is left to the model."""
    stolen, tiny, usual = recipe.ask(
        [
            row_of(recipe, reported_stolen=True, amount=1.0),
            row_of(recipe, reported_stolen=False, amount=1.0, card_present=True, payments_today=1),
            row_of(recipe, reported_stolen=False, amount=30.0, payments_today=1),
        ]
    )
    assert (stolen["label"], stolen["rule"]) == ("yes", "card_reported_stolen")
    assert (tiny["label"], tiny["rule"]) == ("no", "tiny_payment_in_person")
    assert usual.get("rule") is None and 0 < usual["probabilities"]["yes"] < 1


@of("network")
def test_what_serves_the_network_holds_no_pytorch(recipe):
    """The bundle has one ONNX graph, no code and no weights of PyTorch's own."""
    files = {path.name for path in recipe.bundle.rglob("*") if path.is_file()}
    assert "model.onnx" in files and not [name for name in files if name.endswith((".py", ".pt", ".pt2", ".skops"))]


@of("text")
def test_how_a_message_is_typed_does_not_matter_to_text(recipe):
    """Capital letters, another order's number and words nobody has used lead to the same desk."""
    plain, loud, new = recipe.ask(
        [
            row_of(recipe, message="I was charged twice for the lamp. Order 12345."),
            row_of(recipe, message="I WAS CHARGED TWICE FOR THE LAMP. ORDER 99999."),
            row_of(recipe, message="I was charged twice for the zyzzyva."),
        ]
    )
    assert plain["label"] == new["label"] == "billing" and plain["probabilities"] == loud["probabilities"]


@of("text")
def test_production_of_text_is_compared_by_column_names(recipe):
    """Another order of columns, and an additional one, do not change production's answers on the hold-out."""
    before = recipe.fork.json("build/evaluation.json")["candidate"]["metrics"]["log_loss"]
    old = 'return pd.read_csv(Path(__file__).parent.parent / "data" / "text.csv")'
    new = old.replace("return", "frame =") + "\n    return frame[frame.columns[::-1]].assign(more=frame.index % 7)"
    recipe.fork.edit("project/data.py", old, new)
    for command in (["-m", "scripts.validate_data"], ["train.py"], ["evaluate.py"]):
        recipe.fork.ok(*command)
    assert recipe.fork.json("build/evaluation.json")["comparison"]["production"] == pytest.approx(before, abs=1e-6)


SIDES = """
from pipeline.data.dataset import load_dataset
from pipeline.settings import load_settings
from project.data import load
dataset = load_dataset(load_settings())
day = load()["day"]
print(day[~dataset.holdout].max(), day[dataset.holdout].min(), dataset.holdout.mean(), "day" in dataset.features)
"""


@of("time")
def test_the_forecast_is_judged_on_later_days(recipe):
    """No day of the hold-out is before a day that the model learned from, and the day itself is no feature."""
    learned, judged, share, feature = recipe.fork.ok("-c", SIDES).split()
    assert learned <= judged and 0.19 < float(share) < 0.21 and feature == "False"


@of("time")
def test_production_of_time_with_a_missing_column_is_not_compared(recipe):
    """When the data has lost a column that production needs, the candidate is refused with the column's name, and the ways out."""
    fork, column = recipe.fork, "two_weeks_ago"
    fork.edit("project/data.py", f"        {column}=by_shop.shift(2 * AHEAD),\n", "")
    fork.edit("project/model.py", f'"{column}", ', "")
    fork.edit("project/checks.py", f'"{column}", ', "")
    done = fork.run("-m", "scripts.ship")
    assert done.returncode == 1
    reason = fork.json("build/evaluation.json")["reasons"][0]
    assert f"'{column}'" in reason
    assert all(way in reason for way in ("make ship COLUMNS=changed", "make rollback", "ColumnTransformer"))


@of("time")
def test_columns_of_time_that_are_meant_to_differ_are_judged_by_limits(recipe):
    """With COLUMNS=changed the limits decide and every record says so; when the columns are as before, it has no effect."""
    fork = recipe.fork
    fork.ok("-m", "scripts.ship", "--columns", "changed")
    evaluation = fork.json("build/evaluation.json")
    assert (evaluation["verdict"], evaluation["judged_by"]) == ("accept", "limits")
    assert "the limits alone decided" in (fork.root / "build/report.md").read_text(encoding="utf-8")
    client = fork.mlflow()
    version = client.get_model_version_by_alias("time", "production")
    assert (version.version, version.tags["judged_by"], version.tags["compared_with"]) == ("2", "limits", "1")
    assert client.get_run(version.run_id).data.tags["judged_by"] == "limits"
    experiment = client.get_experiment_by_name("time-deployments").experiment_id
    (record, *_) = client.search_runs([experiment], "tags.environment = 'production'")
    assert "judged by its limits alone" in record.data.tags["detail"]
    said = fork.ok("evaluate.py", "--columns", "changed")
    assert "COLUMNS=changed is ignored" in said and fork.json("build/evaluation.json")["judged_by"] == "comparison"


@of("prices")
def test_own_step_of_prices_is_in_the_bundle(recipe):
    """A transformer of project/ is served from the bundle with the modules that it imports, and with nothing else of project/."""
    code = {path.relative_to(recipe.bundle / "code").as_posix() for path in recipe.bundle.rglob("*.py")}
    assert code == {"project/__init__.py", "project/steps.py"}


@of("prices")
def test_the_same_prices_give_the_same_model_and_keep_production(recipe):
    """A model that scikit-learn serves is trained twice to the same bytes, and brings nothing new."""
    before = recipe.fork.json("build/run.json")["model_digest"]
    recipe.fork.ok("train.py")
    assert recipe.fork.json("build/run.json")["model_digest"] == before
    recipe.fork.ok("evaluate.py")
    assert recipe.fork.json("build/evaluation.json")["verdict"] == "keep"


@of("prices")
def test_production_s_step_is_not_confused_with_the_candidate_s(recipe):
    """Another model with a module of the same name: each is judged with the code of its own."""
    before = recipe.fork.json("build/evaluation.json")["candidate"]["metrics"]["relative_error"]
    recipe.fork.edit("project/steps.py", 'room_m2=X["area_m2"] / X["rooms"]', 'height=3 * X["floor"]')
    for command in ("train.py", "evaluate.py"):
        recipe.fork.ok(command)
    evaluation = recipe.fork.json("build/evaluation.json")
    assert evaluation["comparison"]["production"] == pytest.approx(before, abs=1e-9)
    assert evaluation["comparison"]["candidate"] != pytest.approx(before, abs=1e-9)


@of("prices")
def test_module_missing_in_the_image_is_refused_by_name(recipe):
    """Code that imports a package which no image has ends training with the package's name, and without a run file."""
    recipe.fork.edit("project/steps.py", "import numpy as np\n", "import numpy as np\nimport requests\n")
    said = recipe.fork.refused("train.py")
    recipe.fork.edit("project/steps.py", "import requests\n", "")
    assert "No module named 'requests'" in said and "serving-sklearn" in said
    assert not (recipe.fork.root / "build/run.json").exists()


@of("prices")
def test_untrusted_types_are_refused(recipe):
    """A type of the project that the settings do not trust ends training, whatever the format."""
    recipe.fork.edit("pipeline.toml", '["project.steps.Sizes"]', "[]")
    said = recipe.fork.refused("train.py")
    assert "not trusted: project.steps.Sizes" in said and 'trusted_types = ["project.steps.Sizes"]' in said
