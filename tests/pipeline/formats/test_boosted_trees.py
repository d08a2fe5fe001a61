"""Bare models of XGBoost, LightGBM and CatBoost: trained on empty cells and text, served by what answers alike."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import PortabilityError, ProjectError
from pipeline.formats import boosted_trees, choose, family
from serving import batch
from tests.pipeline.formats.boosted import LIBRARIES, chosen, data, model

FILE = {"xgboost": "model.ubj", "lightgbm": "model.txt", "catboost": "model.cbm"}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_text_is_served_by_the_library_itself(library, task):
    """With a column of text the library serves, and answers every trial exactly as trained: nulls, unseen text, values beside thresholds."""
    found = chosen(model(library, task), data(task))
    assert found.served.form["format"] == library and list(found.served.files) == [FILE[library]]
    assert found.served.form["format_reason"].endswith("ONNX has no counterpart for its splits on categories")
    assert {choose.NULLS, choose.TEXT, choose.JUMPS} <= {one.where for one in found.tried}
    assert max(one.difference for one in found.served.parity) == 0


@pytest.mark.parametrize("loss", ["Poisson", "Tweedie:variance_power=1.5"])
def test_losses_of_catboost_that_add_up_logarithms_are_served_as_values(loss):
    """CatBoost answers with the exponential of what its trees add up to; loaded from its file it does so only if told."""
    dataset = data("regression", rows=300)
    dataset = replace(dataset, target=np.abs(dataset.target))
    found = chosen(model("catboost", "regression", loss_function=loss, iterations=5), dataset)
    assert found.served.form["format"] == "catboost"
    assert max(one.difference for one in found.served.parity) == 0


@pytest.mark.parametrize("library", ["xgboost", "catboost"])
def test_numbers_with_empty_cells_become_onnx(library):
    """XGBoost and CatBoost compare 32-bit numbers, as ONNX does: models of numbers, empty cells among them, become ONNX."""
    pytest.importorskip("onnxmltools")
    assert chosen(model(library, "binary"), data(text=False)).served.form["format"] == "onnx"


def test_lightgbm_is_not_onnx_because_of_its_thresholds():
    """LightGBM compares 64-bit numbers; the reason says where ONNX differs."""
    pytest.importorskip("onnxmltools")
    found = chosen(model("lightgbm", "binary"), data(text=False))
    assert found.served.form["format"] == "lightgbm"
    assert "ONNX differs by" in found.served.form["format_reason"]
    assert found.served.form["format_reason"].endswith("on values beside a threshold")


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_same_seed_gives_the_same_bytes(library):
    """Two fits give the same file, another seed gives another."""
    dataset = data(rows=300)
    options = {"bagging_fraction": 0.5, "bagging_freq": 1} if library == "lightgbm" else {"subsample": 0.5}
    options |= {"bootstrap_type": "Bernoulli"} if library == "catboost" else {}
    once, again, other = (_file(library, dataset, random_state=seed, **options) for seed in (1, 1, 2))
    assert once == again != other


def _file(library, dataset, **options):
    fitted = family.fit(model(library, "binary", **options), dataset, np.flatnonzero(~dataset.holdout))
    *_, own = family.family_of(fitted).formats(fitted, dataset)
    (form,) = own
    return form.files[FILE[library]]


@pytest.mark.parametrize("library", LIBRARIES)
def test_early_stopping_keeps_the_trees_up_to_the_best(library):
    """With early_stopping_rounds the rows that are set aside stop the training long before all trees are grown."""
    dataset = data(rows=400)
    trees = {"iterations" if library == "catboost" else "n_estimators": 500}
    short, full = (len(_file(library, dataset, **trees, **stop)) for stop in ({"early_stopping_rounds": 3}, {}))
    assert short < full / 4


@pytest.mark.parametrize("library", LIBRARIES)
def test_weights_count(library):
    """A fit in which one class weighs a hundred times as much is surer of it."""
    dataset = data(rows=300)
    rows = np.flatnonzero(~dataset.holdout)
    plain = family.fit(model(library, "binary"), dataset, rows)
    training = family.training_on(dataset, rows)
    weights = np.where(dataset.y[rows] == 1, 100.0, 1.0)
    heavy = family.family_of(plain).fit(
        model(library, "binary"), dataset, family.Training(rows, training.seed, training.stop_on, weights)
    )
    given = [family.answer(one, dataset, dataset.features)[:, 1].mean() for one in (plain, heavy)]
    assert given[1] > given[0] + 0.05


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_text_that_training_did_not_see_is_missing(library):
    """An unseen text is answered like an empty one."""
    dataset = data()
    fitted = family.fit(model(library, "binary"), dataset, np.flatnonzero(~dataset.holdout))
    unseen, empty = (dataset.features.head(20).assign(town=text) for text in ("Oslo", ""))
    assert (family.answer(fitted, dataset, unseen) == family.answer(fitted, dataset, empty)).all()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_model_of_the_other_task_is_refused_before_the_fit(library):
    """A regressor for classes ends with the name of the class that is needed."""
    dataset = data()
    with pytest.raises(ProjectError, match=r"the task of pipeline\.toml is binary, which needs \w+Classifier"):
        family.fit(model(library, "regression"), dataset, np.arange(100))


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_it_stopped_by_is_kept_for_each_tree(library):
    """With early stopping there is a curve of one figure for each tree that was grown; without, none."""
    dataset = data()
    rows = np.flatnonzero(~dataset.holdout)
    for given, curves in (({"early_stopping_rounds": 2}, 1), ({}, 0)):
        fitted = family.fit(model(library, "binary", **given), dataset, rows)
        history = family.family_of(fitted).history(fitted)
        assert len(history) == curves
        assert all(name.endswith("_stopping") and len(values) > 1 for name, values in history.items())


@pytest.mark.parametrize(
    "library, ranker",
    zip(("xgboost", "lightgbm", "catboost"), ("XGBRanker", "LGBMRanker", "CatBoostRanker"), strict=True),
)
def test_a_ranker_is_refused_before_the_fit(library, ranker):
    """No task ranks, so what needs queries is refused with what to return instead."""
    made = getattr(pytest.importorskip(library), ranker)()
    assert f"{ranker} orders rows within queries" in family.family_of(made).unfit(made, data("regression"))


def test_a_text_of_its_own_in_each_row_is_no_category(monkeypatch):
    """A column with more different texts than can be categories is refused by name."""
    monkeypatch.setattr(boosted_trees, "CATEGORIES", 3)
    with pytest.raises(ProjectError, match="column 'town' has 4 different texts"):
        family.fit(model("xgboost", "binary"), data(), np.arange(100))


def test_a_model_beyond_the_bundles_limit_is_refused_before_it_is_tried():
    """The message has the size of each form and the setting that limits it."""
    gate = {"metric": "x", "margin": 0.0, "max_bundle_mb": 0.001}
    with pytest.raises(
        PortabilityError, match=r"XGBoost itself would be 0\.0\d+ MB, more than max_bundle_mb = 0\.001"
    ) as caught:
        chosen(model("xgboost", "binary"), data(gate=gate))
    assert "raise max_bundle_mb" in caught.value.then


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_service_answers_from_several_threads_alike(library, tmp_path):
    """Rows that several threads ask at once get the answers that they get alone."""
    from concurrent.futures import ThreadPoolExecutor

    from pipeline.formats import bundle

    found = chosen(model(library, "binary"), data())
    predictor = batch.load_predictor(
        batch.open_bundle(bundle.try_out(found.served.files, found.contract, tmp_path / "bundle"))
    )
    rows = found.tried[0].rows.to_numpy(dtype=object).tolist()
    alone = np.concatenate([predictor.predict([row])[-1] for row in rows])
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda _: predictor.predict(rows)[-1], range(20)))
    assert all((one == alone).all() for one in together)


def test_what_is_no_model_is_told_what_may_be_returned():
    """build() that returns a number ends with the families that there are."""
    with pytest.raises(ProjectError, match="returned int, which is no model") as caught:
        family.family_of(3)
    assert all(name in caught.value.then for name in ("XGBoost", "LightGBM", "CatBoost", "scikit-learn"))
