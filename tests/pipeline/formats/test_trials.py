"""What serves answers like what was judged, over everything that the contract admits."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from pipeline.formats import bundle, choose, trials
from tests.pipeline.formats.test_choose import trusting
from tests.pipeline.formats.test_onnx_model import fitted, made

NOTHING = {"ranges": {}, "values": {}}


def tried(model, dataset, checks=NOTHING):
    """The fitted model, what it is tried on, and a function that makes its contract."""

    def contract(form):
        return bundle.contract(dataset, form, checks, "c0ffee", 1e-5)

    model, trained = fitted(model, dataset)
    held = dataset.features[dataset.holdout]
    return model, choose.prepare(model, dataset, held, trained, contract({})["inputs"]), contract


def with_nulls(dataset, column):
    """The data set, in which forty training rows have no value in this column."""
    rows = np.flatnonzero(~dataset.holdout)[:40]
    dataset.features.iloc[rows, list(dataset.features).index(column)] = np.nan
    dataset.nullable[column] = True
    return dataset


def by_town(**options):
    """A linear model that encodes the text column."""
    columns = make_column_transformer(
        (StandardScaler(), ["a b", "a-b"]), (OneHotEncoder(sparse_output=False, **options), ["town"])
    )
    return make_pipeline(columns, LogisticRegression())


@pytest.mark.parametrize(
    "model", [DecisionTreeClassifier(max_depth=3, random_state=1), RandomForestClassifier(5, random_state=1)]
)
def test_trees_that_met_nulls_only_in_training_answer_them_as_trained(model):
    """Where no hold-out row is empty and the contract admits null, the format still answers null like the trained model."""
    dataset = with_nulls(made("binary"), "a b")
    assert not dataset.features[dataset.holdout].isna().to_numpy().any()
    model, cases, contract = tried(model, dataset)
    chosen = choose.choose(model, dataset, cases, contract)
    rows = dataset.features[dataset.holdout].assign(**{"a b": np.nan})
    given, _ = choose.predict(chosen.files, contract(chosen.form), rows)
    assert np.allclose(given, model.predict_proba(rows), rtol=0, atol=1e-5)
    assert choose.NULLS in {one.where for one in cases}


def test_text_that_a_model_refuses_is_refused_by_what_serves():
    """An encoder that raises at an unseen category gives the caller no answer in its converted form either."""
    dataset = trusting(made("binary", text=True), "numpy.dtype")
    model, cases, contract = tried(by_town(), dataset)
    unseen = next(one for one in cases if one.where == choose.TEXT)
    refused = np.isnan(unseen.trained).any(axis=1)
    assert refused.any() and not refused.all()
    chosen = choose.choose(model, dataset, cases, contract)
    (given,), _ = choose.ask(chosen.files, contract(chosen.form), [unseen.rows], each=True)
    assert (np.isnan(given).any(axis=1) == refused).all()


def test_unseen_text_that_a_model_ignores_becomes_onnx():
    """An encoder that ignores an unseen category answers alike as ONNX for every text that was tried."""
    dataset = made("binary", text=True)
    model, cases, contract = tried(by_town(handle_unknown="ignore"), dataset)
    assert choose.choose(model, dataset, cases, contract).form["format"] == "onnx"
    texts = set(next(one for one in cases if one.where == choose.TEXT).rows["town"])
    assert {"", "unseen", "KÖLN", "nul\0"} <= texts


def test_each_word_of_a_text_is_tried_alone():
    """A model that counts words may answer a single word in a way that none of the whole texts shows."""
    rng = np.random.default_rng(1)
    inputs = [{"name": "town", "type": "text", "values": None, "nullable": False}]
    rows = pd.DataFrame({"town": ["New York", "São Paulo", "Paris", ""]})
    texts = set(trials.with_other_text(inputs, rows, rows, rng)["town"])
    assert {"New", "York", "São", "Paulo"} <= texts


def test_words_that_the_converter_splits_in_another_way_go_to_scikit_learn():
    """A model of words answers text that no row of the data resembles like the trained model, whichever format that takes."""
    dataset = trusting(made("binary", text=True), "numpy.dtype", "sklearn.feature_extraction._stop_words")
    columns = make_column_transformer((CountVectorizer(), "town"), (StandardScaler(), ["a b"]))
    model, cases, contract = tried(make_pipeline(columns, LogisticRegression()), dataset)
    chosen = choose.choose(model, dataset, cases, contract)
    texts = ["Köln Paris", "paris!", "KÖLN", "e\u0301t\u00e9 paris", "x-paris", "paris\nköln", "東京"]
    rows = dataset.features.head(len(texts)).assign(town=texts)
    given, _ = choose.predict(chosen.files, contract(chosen.form), rows)
    assert np.allclose(given, model.predict_proba(rows), rtol=0, atol=1e-5)


def test_what_is_tried_is_admitted():
    """Every row of the trials keeps the ranges, the value lists and the whole numbers of the contract."""
    dataset = with_nulls(made("binary", text=True), "d")
    dataset.kinds["c"] = "integer"
    dataset.features["c"] = dataset.features["c"].round()
    checks = {
        "ranges": {
            "a b": {"minimum": -3, "maximum": 4.5},
            "d": {"minimum": None, "maximum": None, "exclusive_maximum": 1},
        },
        "values": {"town": ["Köln", "Paris", ""], "a-b": [1, 2.5]},
    }
    inputs = bundle.contract(dataset, {}, checks, "", 1e-5)["inputs"]
    rng = np.random.default_rng(1)
    start = dataset.features.assign(**{"a-b": 1.0, "a b": dataset.features["a b"].clip(-3, 4.5)})
    made_rows = {
        "nulls": trials.with_nulls(inputs, start, rng),
        "text": trials.with_other_text(inputs, start, start, rng),
        "beyond": trials.beyond_seen(inputs, start, start, rng),
        "large": trials.very_large(inputs, start, rng),
    }
    for name, rows in made_rows.items():
        assert 0 < len(rows) <= 2500, name
        assert rows["a b"].between(-3, 4.5).all() and rows["a-b"].isin([1, 2.5]).all()
        assert (rows["c"] % 1 == 0).all() and rows["town"].isin(["Köln", "Paris", ""]).all()
        assert not (rows["d"] >= 1).any()
        assert not rows.drop(columns=["d", "town"]).isna().to_numpy().any()


def test_each_nullable_column_is_empty_alone_and_all_are_together():
    """Rows have null in one nullable column only, in each of them, and in all of them."""
    dataset = with_nulls(with_nulls(made("regression"), "d"), "c")
    inputs = bundle.contract(dataset, {}, NOTHING, "", 1e-5)["inputs"]
    rows = trials.with_nulls(inputs, dataset.features, np.random.default_rng(1))
    empty = {tuple(rows.columns[row]) for row in rows.isna().to_numpy()}
    assert empty >= {("c",), ("d",), ("c", "d")}


def test_a_number_beside_a_category_of_training_is_unknown_where_it_serves():
    """Numbers that are categories are told from their neighbours, also those that the hold-out does not have."""
    dataset = made("regression")
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    model = make_pipeline(make_column_transformer((encoder, list(dataset.features))), LinearRegression())
    model, cases, contract = tried(model, dataset)
    chosen = choose.choose(model, dataset, cases, contract)
    rows = dataset.features[~dataset.holdout].head(20)
    beside = rows.apply(lambda column: np.nextafter(column, np.inf))
    for some in (rows, beside):
        given, _ = choose.predict(chosen.files, contract(chosen.form), some)
        assert np.allclose(given, model.predict(some), rtol=1e-5)


def test_a_scale_near_zero_is_taken_for_zero_where_the_trained_model_does():
    """scikit-learn does not divide by a norm below ten rounding errors; a form that does is not served."""
    dataset = made("regression")
    dataset.features["a b"] = dataset.features["a b"].abs() + 0.1  # no value of the data is near the place
    with_nulls(dataset, "a b")
    scale = make_pipeline(SimpleImputer(strategy="constant", fill_value=-1), Normalizer())
    model = make_pipeline(make_column_transformer((scale, ["a b"])), LinearRegression())
    model, cases, contract = tried(model, dataset)
    chosen = choose.choose(model, dataset, cases, contract)
    rows = dataset.features.head(7).assign(**{"a b": [1e-9, 1e-14, 1e-16, 1e-18, 1e-20, 1e-30, 1e-40]})
    given, _ = choose.predict(chosen.files, contract(chosen.form), rows)
    assert np.allclose(given, model.predict(rows), rtol=1e-5)


# --- labels ----------------------------------------------------------------------------------------------------------


def test_labels_that_are_not_the_most_probable_are_told_by_the_estimators_name():
    """A threshold of one's own is found wherever it stands, with the numbers of rows; a model without one passes."""
    dataset = made("binary")
    model, cases, _ = tried(
        make_pipeline(StandardScaler(), FixedThresholdClassifier(LogisticRegression(), threshold=0.9)), dataset
    )
    said = choose.not_most_probable(model, dataset, cases)
    assert said.startswith("predict() of FixedThresholdClassifier, the pipeline's last step, names another class than ")
    assert "0 of" not in said
    model, cases, _ = tried(make_pipeline(StandardScaler(), LogisticRegression()), dataset)
    assert choose.not_most_probable(model, dataset, cases) == ""


def test_labels_on_the_very_edge_are_no_difference():
    """Two classes of the same probability may be named either way."""

    class Last(DummyClassifier):
        def predict(self, rows):
            return np.ones(len(rows))

        def predict_proba(self, rows):
            return np.full((len(rows), 2), 0.5)

    model, cases, _ = tried(Last(), made("binary"))
    assert choose.not_most_probable(model, made("binary"), cases) == ""


# --- models that contradict themselves -------------------------------------------------------------------------------


def test_nearest_neighbours_are_served_by_scikit_learn():
    """A model whose answers depend on the rows beside it is compared in the same batches, and passes as itself."""
    dataset = trusting(
        made("binary"), "sklearn.metrics._dist_metrics.EuclideanDistance64", "sklearn.neighbors._kd_tree.KDTree"
    )
    dataset.features.iloc[:, :] = dataset.features.round(0)  # many rows are equally far away
    model, cases, contract = tried(make_pipeline(StandardScaler(), KNeighborsClassifier(9, algorithm="brute")), dataset)
    chosen = choose.choose(model, dataset, cases, contract)
    assert all(one.holds(1e-5) for one in chosen.parity)


def test_model_that_answers_by_chance_is_counted():
    """Each row that gets another answer alone than among others is counted, with the largest difference."""

    class Chance(DummyClassifier):
        def predict_proba(self, rows):
            first = np.random.default_rng(len(rows)).random(len(rows))
            return np.stack([first, 1 - first], axis=1)

    model, cases, _ = tried(Chance(), made("binary"))
    found = choose.contradiction(model, made("binary"), cases[0].rows)
    assert found.rows == 100 and found.differ > 90 and 0.3 < found.difference <= 1
    assert str(found).startswith(f"{found.differ} of 100 rows get another answer alone than among others")


# --- golden rows -----------------------------------------------------------------------------------------------------


def test_golden_rows_cover_what_the_contract_admits():
    """Rows with null and with unseen text follow the rows of the data, few, as a caller sends them, with the trained answers."""
    dataset = with_nulls(made("binary", text=True), "d")
    model, cases, _ = tried(make_pipeline(by_null_and_town(), LogisticRegression()), dataset)
    golden = bundle.golden(dataset, cases[0].trained, 1e-5, choose.firm(model, dataset, cases))
    json.dumps(golden, allow_nan=False)
    more = golden["inputs"][golden["seen"] :]
    assert 24 <= golden["seen"] <= 32 and 0 < len(more) <= 24 and len(golden["expected"]) == len(golden["inputs"])
    names = list(dataset.kinds)
    assert any(row[names.index("d")] is None for row in more)
    assert any(row[names.index("town")] not in ("Köln", "Paris", None) for row in more)
    frame = pd.DataFrame(golden["inputs"], columns=names).assign(town=lambda rows: rows["town"].fillna(""))
    expected = [answer["probabilities"] for answer in golden["expected"]]
    assert np.allclose(model.predict_proba(frame.astype({"d": float})), expected, atol=1e-9)


def by_null_and_town():
    """Numbers with their gaps filled, and the town."""
    from sklearn.impute import SimpleImputer

    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["a b", "a-b", "d"]),
        (OneHotEncoder(handle_unknown="ignore"), ["town"]),
    )
