"""The format in which a model is served, why, and what is stored of it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, StandardScaler

from pipeline.errors import PortabilityError, ProjectError
from pipeline.formats import bare_service, bundle, choose, sklearn_model
from pipeline.formats import thresholds as ties
from pipeline.formats.family import family_of
from serving import batch
from tests.pipeline.formats.test_onnx_model import fitted, made


def trusting(dataset, *types):
    """The data set of a team that trusts these types."""
    train = dataset.settings.train.model_copy(update={"trusted_types": list(types)})
    object.__setattr__(dataset, "settings", dataset.settings.model_copy(update={"train": train}))
    return dataset


def chosen(model, dataset):
    """The format of a model fitted on the data set, and what it was tried on."""
    model, trained = fitted(model, dataset)
    held = dataset.features[dataset.holdout].reset_index(drop=True)

    def contract(form):
        return bundle.contract(dataset, form, {"ranges": {}, "values": {}}, "c0ffee", 1e-5)

    tried = choose.prepare(model, dataset, held, trained, contract({})["inputs"])
    found = choose.choose(model, dataset, tried, contract)
    return found, tried, contract(found.form)


@pytest.mark.parametrize("model", [LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression()), RandomForestClassifier(20, random_state=1)])  # fmt: skip
def test_what_onnx_answers_alike_is_served_as_onnx(model):
    """Linear models, and forests beside their own thresholds too, become ONNX, and no reason is given."""
    found, _, contract = chosen(model, made("binary"))
    assert (contract["format"], contract["format_reason"]) == ("onnx", "")
    assert list(found.files) == ["model.onnx"] and "skops" not in contract


def test_what_onnx_answers_otherwise_beside_thresholds_is_served_by_scikit_learn():
    """Bins that no hold-out row comes near to are found: the model is stored, answers alike, and the reason is in words."""
    dataset = trusting(made("binary"), "sklearn.tree._tree.Tree", "numpy.dtype")
    bins = KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf")
    found, tried, contract = chosen(make_pipeline(bins, LogisticRegression()), dataset)
    assert contract["format"] == "skops" and contract["skops"]["layout"] == "matrix"
    assert contract["format_reason"].startswith("LogisticRegression: ONNX differs by ")
    assert contract["format_reason"].endswith("on values beside a threshold")
    assert max(one.difference for one in found.parity) < 1e-14
    answers, milliseconds = choose.predict(found.files, contract, tried[1].rows, calls=3)
    assert np.allclose(answers, tried[1].trained, rtol=0, atol=1e-14) and 0 < milliseconds < 10_000


def test_the_label_is_the_most_probable_class_whatever_the_converter_says(tmp_path):
    """ONNX Runtime names the less probable class where all leaves of boosted trees are positive and the odds are nearly even."""
    xgboost = pytest.importorskip("xgboost")
    dataset = made("binary")
    dataset = replace(dataset, target=np.where(np.arange(len(dataset.target)) % 9 < 5, "yes", "no"))
    found, _, contract = chosen(
        make_pipeline(xgboost.XGBClassifier(n_estimators=2, base_score=0.5, gamma=1e9)), dataset
    )
    predictor = batch.load_predictor(batch.open_bundle(bundle.try_out(found.files, contract, tmp_path / "bundle")))
    assert contract["format"] == "onnx"
    answer = predictor.predict_one(predictor.contract.example_row)
    assert answer["label"] == "yes" and 0.5 < answer["probabilities"]["yes"] < 0.6


def test_what_neither_format_carries_is_refused_with_both_reasons():
    """Where the settings do not trust what the stored model holds, the message says why it is not ONNX, which types, and the line to add."""
    model = make_pipeline(FunctionTransformer(np.nan_to_num), LogisticRegression())
    with pytest.raises(PortabilityError) as caught:
        chosen(model, trusting(made("binary"), "own.Type"))
    assert "LogisticRegression: it cannot become ONNX: FunctionTransformer is not supported" in caught.value.what
    assert "not trusted: numpy.nan_to_num" in caught.value.what
    assert caught.value.then.endswith('trusted_types = ["own.Type", "numpy.nan_to_num"]')


def test_stored_model_that_never_answers_is_ended(monkeypatch):
    """The trial of a stored model ends after its limit, and says so."""
    monkeypatch.setattr(bare_service, "SECONDS", 0.01)
    monkeypatch.setattr(bare_service, "SECONDS_PER_ROW", 0.0)
    dataset = trusting(made("binary"), "numpy.dtype")
    with pytest.raises(PortabilityError, match=r"the service did not answer \d+ rows with the stored model within 0 s"):
        chosen(make_pipeline(FunctionTransformer(np.cbrt), LogisticRegression()), dataset)


def test_the_same_model_is_stored_in_the_same_bytes():
    """Two fits of one model are stored alike, whenever and wherever in memory; another model is not."""
    models = [RandomForestClassifier(3, random_state=seed) for seed in (1, 1, 2)]
    once, again, other = (sklearn_model.dumps(fitted(model, made("binary"))[0]) for model in models)
    assert once == again != other


def test_what_cannot_be_stored_is_said_in_words():
    """A model that holds a generator ends with the reason, not with skops' own exception."""
    model = LogisticRegression()
    model.rows_ = (row for row in range(3))
    with pytest.raises(ProjectError, match="cannot be stored without pickle"):
        sklearn_model.dumps(model)


def test_torch_in_a_wrapper_is_told_what_is_supported():
    """A model that holds a PyTorch module ends with what can be served, not with an exception of skops."""
    module = type("Linear", (), {"__module__": "torch.nn.modules.linear"})()
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.steps[1][1].net_ = module
    with pytest.raises(
        ProjectError, match=r"holds torch\.nn\.modules\.linear\.Linear: a PyTorch module inside another model"
    ) as caught:
        sklearn_model.dumps(model)
    assert "return the module itself in build()" in caught.value.then


def test_code_for_a_model_is_what_its_types_import(tmp_path, monkeypatch):
    """The modules of the types, those that they import, near or far, and the packages above them; nothing else of project/."""
    monkeypatch.setattr(sklearn_model, "ROOT", tmp_path)
    texts = {
        "project/__init__.py": "",
        "project/model.py": "from project import steps\nimport project.data\nimport sklearn",
        "project/data.py": "def load():\n    from project.deep.down import x",
        "project/steps.py": "from .deep import up\nfrom .model import build",
        "project/deep/__init__.py": "from . import side",
        "project/deep/down.py": "",
        "project/deep/side.py": "",
        "project/checks.py": "",
        "project/deep/unused.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = sklearn_model.code_for(["project.model.Clip.inner", "sklearn.tree._tree.Tree"])
    assert set(found) == {f"code/{name}" for name in texts} - {"code/project/checks.py", "code/project/deep/unused.py"}
    assert sklearn_model.code_for(["sklearn.tree._tree.Tree", "projector.Thing"]) == {}


def test_packages_are_those_of_the_image():
    """What the stored model may import is what is locked for its image, by the names of modules."""
    names = bare_service.packages("skops")
    assert {"sklearn", "numpy", "pandas", "skops", "scipy", "msgspec"} <= set(names)
    assert not {"onnxruntime", "mlflow", "requests", "skl2onnx", "matplotlib"} & set(names)


# --- ties ------------------------------------------------------------------------------------------------------------


def steps(thresholds):
    """A model that counts, over the columns, the thresholds that a value lies above, in 64 bits."""
    return lambda rows: sum((rows[name].to_numpy() > edge).astype(float) for name, edge in thresholds.items())


def test_jumps_are_found_to_the_last_bit():
    """Rows lie on the threshold, one float beside it on both sides, and nowhere else."""
    dataset = made("regression")
    thresholds = {"a b": 0.1234567890123456, "c": -12.5}
    found = ties.beside_jumps(steps(thresholds), dataset, dataset.features, 1e-5, seed=1)
    assert len(found)
    for name, edge in thresholds.items():
        near = np.unique(found[name][np.abs(found[name] - edge) < 1e-9])
        beside = [np.nextafter(edge, -np.inf), edge, np.nextafter(edge, np.inf)]
        assert set(beside) <= set(near) <= {*beside, np.nextafter(beside[0], -np.inf), np.nextafter(beside[2], np.inf)}


def test_whole_numbers_stay_whole():
    """In a column of whole numbers a jump lies between two of them."""
    dataset = made("regression")
    dataset.kinds["c"] = "integer"
    rows = dataset.features.assign(c=np.arange(len(dataset.features)) * 2e5)
    found = ties.beside_jumps(steps({"c": 20240101.5}), dataset, rows, 1e-5, seed=1)
    assert {20240101.0, 20240102.0} <= set(found["c"]) and (found["c"] % 1 == 0).all()


def test_models_without_jumps_have_no_rows_beside_them():
    """A smooth model, and data without a number, give no rows."""
    dataset = made("regression")
    assert not len(ties.beside_jumps(lambda rows: rows["c"].to_numpy() / 7, dataset, dataset.features, 1e-5, seed=1))
    dataset.kinds.update(dict.fromkeys(dataset.kinds, "text"))
    assert not len(ties.beside_jumps(steps({"c": 0.0}), dataset, dataset.features, 1e-5, seed=1))


def test_empty_cells_are_left_alone():
    """Only cells that hold a number are moved, and no answer is asked for a new empty one."""
    dataset = made("regression")
    rows = dataset.features.copy()
    rows.loc[rows.index[::2], "c"] = np.nan
    asked = []

    def answer(some: pd.DataFrame):
        asked.append(some["c"].isna().mean())
        return np.nan_to_num(steps({"a b": 0.0})(some))

    assert len(ties.beside_jumps(answer, dataset, rows, 1e-5, seed=1)) and max(asked) < 0.75


def test_forests_are_served_as_onnx_only_where_labels_agree():
    """Where the trained model is clear about its label, the portable one's is the same."""
    found, tried, contract = chosen(RandomForestClassifier(20, random_state=1), made("binary"))
    given, _ = choose.ask(found.files, contract, [trial.rows for trial in tried], each=True)
    assert all(parity.holds(1e-5) for parity in choose.compare(tried, given, contract, 1e-5))


def test_a_class_in_the_place_of_a_model_is_told_apart():
    """It has a fit() too, and would fail later in words of the library."""
    with pytest.raises(ProjectError, match=r"returned the class LogisticRegression, not a model of it"):
        family_of(LogisticRegression)


@pytest.mark.parametrize(
    ("task", "model", "said"),
    [
        ("binary", LinearRegression(), "it predicts values"),
        ("regression", LogisticRegression(), "it predicts classes"),
    ],
)
def test_a_model_of_the_other_task_is_refused_before_the_fit(task, model, said):
    """A regressor where classes are asked for, a classifier where values are; at the end of a pipeline too."""
    for one in (model, make_pipeline(StandardScaler(), model)):
        assert said in family_of(one).unfit(one, made(task))
