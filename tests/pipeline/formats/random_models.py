"""Random data, estimators and pipelines, and a judge of what serves them, apart from the trials that chose how."""

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from sklearn import compose, impute, preprocessing
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.utils import all_estimators

from pipeline.data.dataset import Dataset, take_apart
from pipeline.errors import PortabilityError, ProjectError
from pipeline.formats import bundle, choose, family, trials
from pipeline.settings import Settings
from serving import batch
from serving.model.contract import Contract
from serving.model.rows import RowError, read_row

TOLERANCE = 1e-5
ASKED = 150  # rows that the service and the trained model are asked
# Those that need another estimator, several targets, or more time than a test has.
LEFT_OUT = {
    "ClassifierChain", "FixedThresholdClassifier", "GaussianProcessClassifier", "GaussianProcessRegressor", "IsotonicRegression",
    "MultiOutputClassifier", "MultiOutputRegressor", "OneVsOneClassifier", "OneVsRestClassifier", "OutputCodeClassifier",
    "RegressorChain", "SelfTrainingClassifier", "StackingClassifier", "StackingRegressor", "TunedThresholdClassifierCV",
    "VotingClassifier", "VotingRegressor", "FrozenEstimator",
}  # fmt: skip
SMALLER = {"n_estimators": 5, "max_iter": 60, "n_init": 1, "cv": 2, "n_jobs": None, "hidden_layer_sizes": (4,)}
WORDS = ["red", "Green", "blue sky", "3", "été", "x-1", "none", "RED", "dark  red", "o'k"]
UNSEEN = ["", " ", "unseen", "Red", "red ", "3.0", "nan", "żółć", "日本 語", "a\tb", "x" * 90, "blue", "sky", "\0", "🙂 red", "ﬁne", "green BLUE", "x_1 y2"]  # fmt: skip


ONNX_ALONE = ("PyTorch", "skorch")  # no image holds their libraries, so they may be refused after the fit, too
Draw = Callable[[np.random.Generator, Dataset], Any]


@dataclass(frozen=True)
class Result:
    """How a combination ended: "same", "refused" with a reason, or "unfit"."""

    ended: str
    said: str


def data(rng: np.random.Generator) -> tuple[Dataset, dict[str, Any]]:
    """A small data set, and what the data checks declare of it."""
    rows = int(rng.integers(40, 201))
    task = str(rng.choice(["binary", "multiclass", "regression"]))
    frame, score = pd.DataFrame({"id": range(rows)}), np.zeros(rows)
    ranges: dict[str, Any] = {}
    values: dict[str, list] = {}
    nulls = rng.random() < 0.5
    for place in range(int(rng.integers(1, 6))):
        name = f"c {place}" if place % 2 else f"c.{place}"
        kind = str(
            rng.choice(["float64", "float32", "int", "large", "bool", "text"], p=[0.25, 0.15, 0.2, 0.1, 0.1, 0.2])
        )
        column, effect = _column(kind, rows, rng)
        score += effect
        if nulls and rng.random() < 0.6:
            column = column.astype(object).where(rng.random(rows) > rng.choice([0.05, 0.3]), None)
            column = column if kind in ("text", "bool") else column.astype(float)
        elif kind in ("float64", "float32", "int") and rng.random() < 0.2:
            span = float(column.max() - column.min()) or 1.0
            ranges[name] = {"minimum": math.floor(float(column.min()) - span), "maximum": None}
        if kind == "text" and rng.random() < 0.3:
            values[name] = sorted(set(column.dropna()))
        frame[name] = column
    score = score + rng.normal(scale=0.5, size=rows)
    frame["target"] = {
        "binary": np.where(score > np.median(score), "yes", "no"),
        "multiclass": np.array(["low", "mid", "top"])[np.digitize(score, np.quantile(score, [0.3, 0.7]))],
        "regression": np.abs(score) + 0.01,
    }[task]
    about = {"task": task, "id": "id", "target": "target"} | ({"positive": "yes"} if task == "binary" else {})
    gate = {"metric": "x", "margin": 0.0, "parity": TOLERANCE}
    settings = {"name": "m", "data": about, "split": {"holdout": 0.3, "salt": "x"}, "train": {"seed": 1}, "gate": gate}
    return take_apart(frame, Settings.model_validate(settings)), {"ranges": ranges, "values": values}


def _column(kind: str, rows: int, rng: np.random.Generator) -> tuple[pd.Series, np.ndarray]:
    """A column of a kind, and what it adds to the target."""
    normal = rng.normal(size=rows)
    match kind:
        case "float64":
            return pd.Series(normal * 10.0 ** rng.integers(-3, 5) + rng.choice([0.0, 5.0])), normal
        case "float32":
            return pd.Series(np.abs(normal).astype(np.float32)), normal**2
        case "int":
            whole = rng.integers(0, rng.choice([3, 20]), rows)
            return pd.Series(whole), (whole % 3).astype(float)
        case "large":
            return pd.Series(2 ** int(rng.choice([24, 40])) + rng.integers(0, 50, rows)), normal * 0
        case "bool":
            yes = rng.random(rows) < 0.4
            return pd.Series(yes), yes.astype(float)
    places = rng.integers(0, rng.integers(2, len(WORDS)), rows)
    return pd.Series(np.array(WORDS, dtype=object)[places]), (places % 2) * 2.0


@cache
def _estimators(kind: str) -> list[Any]:
    found = [one for name, one in all_estimators(kind) if name not in LEFT_OUT]
    if kind == "classifier":
        found = [one for one in found if hasattr(one, "predict_proba")]
    named = {"classifier": ("XGBClassifier", "LGBMClassifier"), "regressor": ("XGBRegressor", "LGBMRegressor")}
    for library, name in zip(("xgboost", "lightgbm"), named[kind], strict=True):
        try:
            found += [getattr(__import__(library), name)] * 4
        except ImportError:
            continue
    return found


def estimator(rng: np.random.Generator, dataset: Dataset) -> Any:
    """A random estimator for the task, small."""
    known = _estimators("classifier" if dataset.classes else "regressor")
    model = known[int(rng.integers(len(known)))]()
    given = model.get_params()
    chosen = {name: value for name, value in SMALLER.items() if name in given}
    chosen |= {"random_state": 1} if "random_state" in given else {}
    chosen |= (
        {"verbose": -1, "min_child_samples": 3}
        if "min_child_samples" in given and "LGBM" in type(model).__name__
        else {}
    )
    chosen |= {"probability": True} if "probability" in given and type(model).__name__ in ("SVC", "NuSVC") else {}
    choices = {
        "max_depth": [None, 2, 4], "weights": ["uniform", "distance"], "n_neighbors": [3, 5], "learning_rate": [0.1, 0.5],
        "class_weight": [None, "balanced"], "algorithm": ["auto", "brute"], "criterion": None,
    }  # fmt: skip
    for name, options in choices.items():
        if name in given and options and rng.random() < 0.4 and (name != "algorithm" or "n_neighbors" in given):
            chosen[name] = options[int(rng.integers(len(options)))]
    if "warm_start" in given and name == "learning_rate":
        chosen.pop("learning_rate", None)
    try:
        return model.set_params(**chosen)
    except ValueError:
        return model


def pipeline(rng: np.random.Generator, dataset: Dataset) -> Any:
    """A random estimator behind random steps, or alone where there is no text."""
    numbers = [name for name, kind in dataset.kinds.items() if kind != "text"]
    texts = [name for name in dataset.kinds if name not in numbers]
    last = estimator(rng, dataset)
    if not texts and rng.random() < 0.4:
        return last
    steps: list[tuple[Any, Any]] = []
    if numbers:
        steps.append((_numeric(rng), numbers))
    for name in texts:
        words = rng.random() < 0.35
        steps.append((_words(rng), name) if words else (_encoder(rng), [name]))
    return make_pipeline(compose.make_column_transformer(*steps), last)


def _numeric(rng: np.random.Generator) -> Any:
    pick = partial(_pick, rng)
    scale = pick(
        "passthrough", preprocessing.StandardScaler(), preprocessing.MinMaxScaler(clip=bool(rng.random() < 0.5)),
        preprocessing.RobustScaler(), preprocessing.MaxAbsScaler(), preprocessing.PolynomialFeatures(2), preprocessing.Normalizer(),
        preprocessing.KBinsDiscretizer(3, encode=str(rng.choice(["ordinal", "onehot-dense"])), quantile_method="averaged_inverted_cdf"),
        preprocessing.QuantileTransformer(n_quantiles=10), preprocessing.PowerTransformer(), preprocessing.SplineTransformer(),
        preprocessing.Binarizer(threshold=0.1), preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False),
        preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    )  # fmt: skip
    fill = pick(
        None, impute.SimpleImputer(), impute.SimpleImputer(strategy="median", add_indicator=True),
        impute.SimpleImputer(strategy="constant", fill_value=-1), impute.SimpleImputer(strategy="most_frequent"), impute.KNNImputer(n_neighbors=2),
    )  # fmt: skip
    if fill is None:
        return scale
    return fill if scale == "passthrough" else make_pipeline(fill, scale)


def _encoder(rng: np.random.Generator) -> Any:
    return _pick(
        rng,
        preprocessing.OneHotEncoder(sparse_output=False),
        preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=bool(rng.random() < 0.3)),
        preprocessing.OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.2, sparse_output=False),
        preprocessing.OneHotEncoder(handle_unknown="ignore", drop="first", sparse_output=False),
        preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        preprocessing.OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=-2
        ),
        preprocessing.TargetEncoder(random_state=1, cv=2),
    )


def _words(rng: np.random.Generator) -> Any:
    return _pick(
        rng,
        CountVectorizer(),
        CountVectorizer(analyzer="char", ngram_range=(1, 2)),
        CountVectorizer(lowercase=False, token_pattern=r"\S+", ngram_range=(1, 2)),
        CountVectorizer(strip_accents="unicode", binary=True),
        TfidfVectorizer(),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3)),
        TfidfVectorizer(sublinear_tf=True, stop_words=["red"]),
        HashingVectorizer(n_features=16),
    )


def _pick(rng: np.random.Generator, *options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def compare(seed: int, number: int, work: Path, draw: Draw = pipeline) -> Result:
    """Fit the combination of this seed and number, choose how it is served, and compare what serves with what was trained.

    `draw` makes an unfitted model for the data. Raises AssertionError where the two differ, or the reason of a refusal is not true.
    """
    rng = np.random.default_rng([seed, number])
    dataset, checks = data(rng)
    model = draw(rng, dataset)
    try:
        return _compared(rng, dataset, checks, model, work)
    except AssertionError as error:
        rows = f"{len(dataset.features)} rows, {dataset.settings.data.task}, {dict(dataset.kinds)}"
        raise AssertionError(f"{error}\n  {rows}\n  {' '.join(repr(model).split())}") from error


def _compared(rng: np.random.Generator, dataset: Dataset, checks: dict[str, Any], model: Any, work: Path) -> Result:
    held = dataset.features[dataset.holdout].reset_index(drop=True)
    of_whom = family.family_of(model)
    try:
        if odd := of_whom.unfit(model, dataset):
            return Result("refused", odd)
        model = of_whom.fit(model, dataset, family.training_on(dataset, np.flatnonzero(~dataset.holdout)))
        trained = family.answer(model, dataset, held)
    except Exception as error:
        said = error.what if isinstance(error, ProjectError) else str(error)
        return Result("unfit", f"{type(error).__name__}: {said.splitlines()[0][:100] if said else ''}")
    expected = (len(held), len(dataset.classes)) if dataset.classes else (len(held),)
    if trained.shape != expected or not np.isfinite(trained).all():
        return Result("unfit", "its own answers are not finite, or are of another shape")
    try:
        trusted = of_whom.untrusted(model, [])
    except ProjectError as error:
        return Result("refused", error.what)
    train = dataset.settings.train.model_copy(update={"trusted_types": trusted})
    object.__setattr__(dataset, "settings", dataset.settings.model_copy(update={"train": train}))

    def contract_for(form: dict[str, Any]) -> dict[str, Any]:
        return bundle.contract(dataset, form, checks, "c0ffee", TOLERANCE)

    tried = choose.prepare(model, dataset, held, trained, contract_for({})["inputs"])
    if odd := choose.not_most_probable(model, dataset, tried):
        assert any(_labels_differ(model, one.rows, one.trained) for one in tried), f"refused without a reason: {odd}"
        return Result("refused", odd)
    contradiction = choose.contradiction(model, dataset, held)
    if contradiction.differ > choose.CONTRADICTED * contradiction.rows:
        return Result("refused", f"contradicts itself: {contradiction}")
    try:
        chosen = choose.choose(model, dataset, tried, contract_for)
    except PortabilityError as error:
        if of_whom.NAME in ONNX_ALONE:
            return Result("refused", error.what)
        raise AssertionError(f"no format: {error.what}; {error.then}") from error
    contract = contract_for(chosen.form)
    folder = bundle.try_out(chosen.files, contract, work / "bundle")
    _same(rng, dataset, model, contract, folder)
    reason = chosen.form["format_reason"]
    return Result("same", chosen.form["format"] + (f", {reason}" if reason else ""))


def _labels_differ(model: Any, rows: pd.DataFrame, trained: np.ndarray) -> bool:
    known = np.isfinite(trained).all(axis=1)
    try:
        return bool((model.predict(rows[known]) != trained[known].argmax(axis=1)).any())
    except Exception:
        return True


def _same(rng: np.random.Generator, dataset: Dataset, model: Any, contract: dict[str, Any], folder: Path) -> None:
    """Assert that the service answers random admitted rows, together and alone, like the trained model."""
    predictor = batch.load_predictor(batch.open_bundle(folder))
    accepted = msgspec.json.decode(json.dumps(contract), type=Contract)
    asked, rows = [], []
    for _ in range(ASKED):
        values = [_value(rng, given, dataset.features[given["name"]]) for given in contract["inputs"]]
        try:
            rows.append(read_row(accepted, json.loads(json.dumps(values))))
            asked.append(values)
        except RowError:
            continue  # beyond what this form takes: the caller is told
    assert len(rows) > ASKED / 2, "the contract refuses most rows that it seems to admit"
    texts = {name for name, kind in dataset.kinds.items() if kind == "text"}
    frame = pd.DataFrame(rows, columns=list(dataset.kinds))
    frame = frame.astype({name: object if name in texts else np.float64 for name in frame})
    given = batch.answer(predictor, rows, [len(rows)], each=True)
    trained = [_trained(model, dataset, frame.iloc[[place]]) for place in range(len(frame))]
    for place, expected in enumerate(trained):
        alone = _alone(predictor, rows[place]) if place < 20 else given[place]
        for answer in (given[place], alone):
            _agree(model, dataset, frame, place, asked[place], expected, answer)
    if dataset.classes:
        top = np.sort(given, axis=1)
        clear = (
            np.isfinite(given).all(axis=1)
            & np.isfinite(trained).all(axis=1)
            & (top[:, -1] - top[:, -2] > 4 * TOLERANCE)
        )
        predicts = hasattr(model, "predict")
        labels = trials.each_answered(model.predict, frame, 1).ravel() if predicts else np.argmax(trained, axis=1)
        for place in np.flatnonzero(clear):
            label = predictor.predict_one(rows[place])["class_id"]
            assert predicts or label == labels[place], f"label {label}, trained {labels[place]}, for {asked[place]}"
            if label != labels[place]:  # among others, a model may answer in another way
                wanted = int(model.predict(frame.iloc[[place]])[0])
                assert label == wanted, f"label {label}, trained {wanted}, for {asked[place]}"


def _alone(predictor: Any, row: Any) -> Any:
    try:
        return batch.answer(predictor, [row], [1])[0]
    except batch.REFUSED:
        return np.nan


def _agree(model, dataset: Dataset, frame: pd.DataFrame, place: int, asked: list, expected: Any, answer: Any) -> None:
    there, answered = np.isfinite(expected).all(), np.isfinite(answer).all()
    if there and answered:
        off = float(np.max(np.abs(expected - answer) / np.maximum(1, np.abs(expected))))
        if off <= 2 * TOLERANCE or _unsteady(model, dataset, frame, place, expected):
            return
        raise AssertionError(f"differs by {off:.3g} for {asked}: trained {expected}, served {answer}")
    if there == answered or (there and _extreme(asked)):
        return
    said = (
        "served answers what the trained model refuses" if answered else "served has no answer, the trained model has"
    )
    raise AssertionError(f"{said}, for {asked}: trained {expected}, served {answer}")


def _unsteady(model, dataset: Dataset, frame: pd.DataFrame, place: int, expected: Any) -> bool:
    """Whether the trained model itself answers this row in another way among others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for others in (frame, frame.iloc[::-1]):
            some = pd.concat([frame.iloc[[place]], others.iloc[:50]])
            try:
                if np.abs(family.answer(model, dataset, some)[0] - expected).max() > TOLERANCE:
                    return True
            except Exception:
                continue
    return False


def _trained(model: Any, dataset: Dataset, row: pd.DataFrame) -> np.ndarray:
    try:
        return np.asarray(family.answer(model, dataset, row), dtype=np.float64)[0]
    except Exception:
        return np.full(max(1, len(dataset.classes)), np.nan)


def _extreme(asked: list) -> bool:
    return any(isinstance(value, float | int) and value and not 1e-9 < abs(value) < 1e9 for value in asked)


def _value(rng: np.random.Generator, given: dict[str, Any], column: pd.Series) -> Any:
    """A value that the contract admits, as JSON has it: mostly like the data, sometimes far from it."""
    if given["nullable"] and rng.random() < 0.2:
        return None
    if given["values"] is not None:
        return given["values"][int(rng.integers(len(given["values"])))]
    seen = column[column != ""].dropna().to_numpy()
    chance = rng.random()
    if given["type"] == "text":
        return str(rng.choice(seen)) if len(seen) and chance < 0.5 else UNSEEN[int(rng.integers(len(UNSEEN)))]
    if given["type"] == "boolean":
        return bool(chance < 0.5)
    value = _number(rng, seen, chance)
    if given["type"] == "integer":
        value = float(np.round(value))
    low = -np.inf if given["minimum"] is None else given["minimum"]
    return float(max(low, value))


def _number(rng: np.random.Generator, seen: np.ndarray, chance: float) -> float:
    one, other = (float(rng.choice(seen)) if len(seen) else 0.0 for _ in range(2))
    if chance < 0.35:
        return one
    if chance < 0.45:
        return one / 2 + other / 2
    if chance < 0.55:
        return float(np.nextafter(one, other))
    if chance < 0.65:
        return float(np.nextafter(np.float64(np.float32(one / 2 + other / 2)), other))
    if chance < 0.8:
        return one + (one - other) * float(rng.exponential(2))
    if chance < 0.9:
        return float(rng.choice([0.0, -0.0, 1.0, -1.0, 0.5, 100.0]))
    return float(rng.choice([-1, 1]) * 10.0 ** rng.uniform(-50, 50 if chance < 0.95 else 300))
