"""A model watched in a notebook: `ModelMonitor("build/bundle")`, or `ModelMonitor(reference)`.

The figures are those of `make monitor`; the verb judges production day by day within a budget of false alarms, this class judges
what it is given, when it is asked.
"""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pandas as pd

from pipeline.data.dataset import Kind
from pipeline.errors import DataError
from pipeline.monitor import performance
from pipeline.monitor.findings import Limit, Measured, TTest
from pipeline.monitor.plan import Trained, counted
from pipeline.notebook.drift_detector import LEVEL, Drift, DriftDetector, between, compare, statistics
from pipeline.notebook.frames import Before, Data, before_of, frame_of, like, read
from serving.counts.day import OutcomeCounter
from serving.counts.records import Bins, Outcomes, Version
from serving.model.contract import Contract

LEAST = 100  # outcomes from which metrics are shown
NEED_PROBABILITIES = ("log_loss", "roc_auc")
FOREVER = float("inf")


@dataclass(frozen=True)
class Alert:
    """One thing that a check found; `feature` is None for what is about all rows, `time` is in UTC."""

    type: Literal["data_drift", "prediction_drift", "concept_drift", "performance"]
    feature: str | None
    p_value: float | None
    time: datetime
    words: str


@dataclass(frozen=True)
class Performance:
    """Metrics over the outcomes so far, or none while there are fewer than LEAST of them; `limits` are those that were asked for."""

    rows: int
    metrics: tuple[Measured, ...]
    limits: tuple[Limit, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """The metrics, (metrics, figures), each with its value between `low` and `high` (95 %), and the hold-out's at release."""
        names = ["name", "value", "low", "high", "holdout", "rows", "higher_is_better"]
        found = pd.DataFrame([msgspec.to_builtins(one) for one in self.metrics], columns=names).set_index("name")
        return found.astype(dict.fromkeys(("value", "low", "high", "holdout"), float))

    def __getitem__(self, metric: str) -> float:
        """The value of one metric; raises KeyError."""
        return {one.name: one.value for one in self.metrics}[metric]

    @property
    def words(self) -> str:
        """How many outcomes there are, and which limits are broken."""
        short = "" if self.metrics else f"; metrics are shown from {LEAST} on"
        broken = [
            f"{one.metric} {one.value:.4g} is beyond its limit {one.limit:g}" for one in self.limits if one.broken
        ]
        return "; ".join([f"{self.rows} outcomes{short}", *broken])

    def __repr__(self) -> str:
        """Words and table, for a terminal."""
        return f"{self.words}\n{self.table.to_string(float_format=_short)}" if self.metrics else self.words

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.words)}</p>" + (self.table.to_html(float_format=_short) if self.metrics else "")


class ModelMonitor:
    """Watches one model: the data that it is asked about, what it answers, and how that turns out.

    Each check adds what it finds to `alerts`. Repeated every day, checks of p-values raise many false alarms; for days one
    after the other see `DriftDetector.update` and `make monitor`.
    """

    def __init__(self, bundle_or_reference: str | Path | Data, threshold: float = LEVEL):
        """A bundle's folder (`build/bundle` or `build/model`, with contract.json and reference.json), or training data.

        Training data are as for DriftDetector. A bundle holds percentiles instead of rows: its KS statistics are those at the
        percentiles, lower bounds of the exact ones. `threshold`: of adjusted p-values. Raises DataError.
        """
        self.threshold = between(threshold)
        self._trained: Trained | None = None
        self._skipped: Mapping[str, str] = {}
        if isinstance(bundle_or_reference, str | Path):
            self._trained = _bundle(Path(bundle_or_reference))
            self._contract: Contract | None = counted(self._trained, []).contract
            self._before = _features(self._contract, self._trained.reference)
        else:
            detector = DriftDetector(bundle_or_reference, threshold)
            self._contract, self._before, self._skipped = None, detector.before, detector.skipped
        self.statistics = statistics(self._before)  # of each feature of the reference, as DriftDetector's
        self._waiting: dict[Any, Any] = {}  # predictions without an outcome, by key
        self._number = 0
        self._actual: list[Any] = []
        self._predicted: list[Any] = []
        self._alerts: list[Alert] = []

    # --- drift ---

    def check_data_drift(self, new: Data, threshold: float | None = None) -> Drift:
        """How far each feature of `new`, (m, k), is from the reference; see DriftDetector.detect, also for what is raised."""
        level = self.threshold if threshold is None else between(threshold)
        found = compare(self._before, new, level, self._skipped)
        self._add("data_drift", found)
        return found

    def check_prediction_drift(
        self, reference_predictions: Data | None, new_predictions: Data | None = None, threshold: float | None = None
    ) -> Drift:
        """How far predictions are from those of then, with the same figures as features.

        Give (then, now). Of a bundle, `check_prediction_drift(now)` is enough: it knows those of the hold-out. Predictions are
        values or labels (n,), probabilities (n, classes) in the contract's order or a DataFrame with a column per class, or of two
        classes the probability of the positive one, (n,). Raises DataError for anything else, for no rows, and for infinite values.
        """
        level = self.threshold if threshold is None else between(threshold)
        then, now = (
            (reference_predictions, new_predictions) if new_predictions is not None else (None, reference_predictions)
        )
        if now is None:
            raise DataError("no new predictions are given")
        frame = self._prediction_frame(now, "the new predictions")
        if then is not None:
            old = self._prediction_frame(then, "the reference predictions")
            before = {str(name): before_of(*read(old[name], "the reference predictions")) for name in old}
        else:
            before = self._predictions_of_the_bundle(frame)
        found = compare(before, frame, level, {})
        self._add("prediction_drift", found)
        return found

    def _prediction_frame(self, predictions: Data, what: str) -> pd.DataFrame:
        classes = self._contract.classes if self._contract else []
        if isinstance(predictions, pd.DataFrame):
            return frame_of(predictions, what)
        if not _wide(predictions):
            return frame_of(np.ravel(np.asarray(predictions)), what, ["prediction"])
        return frame_of(predictions, what, classes or None).rename(
            columns=lambda name: name.replace("feature_", "class_")
        )

    def _predictions_of_the_bundle(self, frame: pd.DataFrame) -> dict[str, Before]:
        if self._trained is None or self._contract is None:
            raise DataError("there are no predictions to compare with: give those of then, and those of now")
        reference, contract = self._trained.reference, self._contract
        rows = reference.get("prediction_rows", reference["rows"])
        known = {name: Before(one, rows, "number") for name, one in reference["prediction"].items()}
        if list(frame) != ["prediction"] or "prediction" in known:
            return known
        name = contract.positive or (contract.target if not contract.classes else None)
        if name is None or read(frame["prediction"], "the new predictions")[0] == "text":
            raise DataError(
                "the bundle knows how probabilities were distributed: give (n, classes) in the order "
                + ", ".join(map(repr, contract.classes))
            )
        return {"prediction": known[name]}

    # --- outcomes ---

    def add_prediction(self, prediction: Any, key: Any = None) -> None:
        """Keep predictions until their outcomes come: one label or value, or many (n,), or probabilities (n, classes).

        `key` (one, or n) is what `add_actual` will name; without keys outcomes belong to predictions in their order.
        Probabilities need a bundle, or a DataFrame with a column per class. Raises DataError for a key that already waits.
        """
        rows = self._rows(prediction)
        names = self._keys(key, len(rows))
        if twice := [name for name in names if name in self._waiting]:
            raise DataError(f"the prediction {twice[0]!r} is there already, and has no outcome yet")
        self._waiting.update(zip(names, rows, strict=True))

    def add_actual(self, actual: Any, prediction: Any = None, key: Any = None) -> None:
        """Tell how predictions turned out: one outcome, or many (n,).

        They belong to `prediction` (as for add_prediction) where that is given, else to the predictions of `key`, else to those
        that have waited longest. Raises DataError for an outcome that is empty, infinite or of no class of the bundle, for another
        number of predictions, and for a prediction that is not there; nothing is added then.
        """
        outcomes = self._outcomes(actual)
        names: list[Any] = []
        if prediction is None:
            names = list(self._waiting)[: len(outcomes)] if key is None else self._keys(key, len(outcomes))
            lost = [name for name in names if name not in self._waiting]
            if lost or len(names) < len(outcomes):
                which = f"of the key {lost[0]!r}" if lost else f"for {len(outcomes) - len(names)} of the outcomes"
                raise DataError(f"no prediction waits {which}: call add_prediction first, or give prediction=")
        rows = [self._waiting[name] for name in names] if prediction is None else self._rows(prediction)
        if len(rows) != len(outcomes):
            raise DataError(f"{len(outcomes)} outcomes were given for {len(rows)} predictions")
        if self._contract is None:
            _classes(
                [*outcomes, *self._actual[:1]], [*rows, *self._predicted[:1]]
            )  # refuses what does not belong together
        for name in names:
            del self._waiting[name]
        self._actual += outcomes
        self._predicted += rows

    def performance(self, limits: Mapping[str, float] | None = None) -> Performance:
        """Metrics over all outcomes so far, each with a 95 % interval, from 100 outcomes on.

        Classes: accuracy, precision, recall and F1 of the positive class (of several: balanced accuracy and the mean F1) and
        weighted by class; with probabilities also log loss and area under the ROC curve. Values: mean absolute error, root mean
        squared error, R². `limits` such as {"accuracy": 0.8} become alerts where they are broken.
        """
        if len(self._actual) < LEAST:
            return Performance(len(self._actual), ())
        version, outcomes, probable = self._counted(*self._told())
        holdout = self._trained.reference.get("metrics", {}) if self._trained else {}
        found = performance.measured(version, outcomes, holdout)
        if version.contract.classes:
            found = [one for one in found if probable or one.name not in NEED_PROBABILITIES] + performance.weighted(
                outcomes
            )
        asked = performance.limits(limits or {}, found, outcomes.rows, LEAST)
        unknown = [one.metric for one in asked if one.value is None]
        if unknown:
            raise DataError(f"there is no metric {unknown[0]!r}; there are {', '.join(one.name for one in found)}")
        result = Performance(outcomes.rows, tuple(found), tuple(asked))
        for one in asked:
            if one.broken:
                words = f"{one.metric} {one.value:.4g} is beyond its limit {one.limit:g} ({one.rows} outcomes)"
                self._alerts.append(Alert("performance", None, None, datetime.now(UTC), words))
        return result

    def detect_concept_drift(self, historical: Data | None = None, recent: Data | None = None) -> TTest | None:
        """Welch's t-test of the last 1,000 losses against those of then; `drifted` is p < 0.01. None with fewer than 100 on either side.

        Without arguments: the losses of the outcomes that were added (-log of the true class's probability, wrong or right for
        labels, the absolute error for values) against the hold-out's of the bundle; without a bundle, against the outcomes before
        the last 1,000. Or give any numbers of your own, (n,) and (m,): losses, or predictions, of which the newest come last.
        Raises DataError for what are no finite numbers.
        """
        if (historical is None) != (recent is None):
            raise DataError("give both historical and recent, or neither")
        if historical is not None and recent is not None:
            before, now = _numbers(historical, "historical"), _numbers(recent, "recent")
            reference = _loss_reference(before)
        else:
            now, reference = self._losses()
        last = now[-performance.LAST :]
        sums = Outcomes(rows=len(last), loss_sum=float(last.sum()), loss_squares=float(np.square(last).sum()))
        few = reference.get("prediction_rows", 0) < performance.LEAST
        found = None if few else performance.t_test([sums], reference)
        if found and found.drifted:
            words = f"mean loss {found.mean_before:.4g} before, {found.mean_now:.4g} in the last {found.rows} rows"
            self._alerts.append(Alert("concept_drift", None, found.p_value, datetime.now(UTC), words))
        return found

    @property
    def alerts(self) -> pd.DataFrame:
        """What the checks found so far, (alerts, [type, feature, p_value, time, words]), oldest first."""
        return pd.DataFrame([vars(one) for one in self._alerts], columns=list(Alert.__dataclass_fields__))

    def get_alerts(self) -> list[dict[str, Any]]:
        """The same as a list of dictionaries."""
        return [dict(vars(one)) for one in self._alerts]

    # --- inside ---

    def _add(self, kind: Literal["data_drift", "prediction_drift"], found: Drift) -> None:
        for name in found.drifted.index:
            one = found[name]
            p = min(value for value in (one.p_adjusted, one.p_missing) if value is not None)
            words = f"KS {one.ks:.3g}" if one.ks is not None else f"PSI {one.psi:.3g}" if one.psi is not None else ""
            words += (
                f", empty {one.missing_before:.1%} before, {one.missing_now:.1%} now"
                if one.p_missing is not None
                else ""
            )
            self._alerts.append(Alert(kind, name, p, datetime.now(UTC), words.removeprefix(", ")))

    def _keys(self, key: Any, rows: int) -> list[Any]:
        if key is None:
            start, self._number = self._number, self._number + rows
            return [("in order", number) for number in range(start, self._number)]
        keys = [key] if isinstance(key, str) or not np.iterable(key) else list(key)
        if len(keys) != rows:
            raise DataError(f"{len(keys)} keys were given for {rows} rows")
        if len(set(keys)) != rows:
            raise DataError("a key was given twice")
        return keys

    def _rows(self, prediction: Any) -> list[Any]:
        """One item per row: a label, a value, or a dictionary of probabilities."""
        classes = self._contract.classes if self._contract else []
        if isinstance(prediction, pd.DataFrame):
            frame = prediction.set_axis(prediction.columns.map(str), axis=1)
            if classes and set(frame) != set(classes):
                raise DataError(f"the columns are {_quoted(frame)}, the classes are {_quoted(classes)}")
            return _probabilities(frame[classes] if classes else frame)
        if _wide(prediction):
            if len(classes) != np.shape(prediction)[1]:
                know = f"the bundle has {len(classes)} classes" if classes else "no bundle names the classes"
                raise DataError(f"probabilities of {np.shape(prediction)[1]} classes were given, but {know}")
            return _probabilities(pd.DataFrame(np.asarray(prediction), columns=classes))
        rows = _scalars(prediction, "prediction")
        if classes:
            return [self._answer(one) for one in rows]
        return [_finite(one, "prediction") for one in rows] if self._contract else rows

    def _answer(self, one: Any) -> Any:
        """A label of the contract, or from a probability of the positive class those of both."""
        contract = self._contract
        assert contract is not None
        if _label(one) in contract.classes:
            return _label(one)
        if contract.positive is not None and isinstance(one, float) and 0 <= one <= 1:
            return {name: one if name == contract.positive else 1 - one for name in contract.classes}
        raise DataError(f"the prediction {one!r} is no class; the classes are {_quoted(contract.classes)}")

    def _outcomes(self, actual: Any) -> list[Any]:
        rows = _scalars(actual, "outcome")
        if self._contract is None:
            return rows
        if not self._contract.classes:
            return [_finite(one, "outcome") for one in rows]
        found = [_label(one) for one in rows]
        for one in found:
            if one not in self._contract.classes:
                raise DataError(f"the outcome {one!r} is no class; the classes are {_quoted(self._contract.classes)}")
        return found

    def _told(self) -> tuple[list[Any], list[Any]]:
        """All outcomes and their predictions; where no bundle names the classes, true is 1 if there are numbers too."""
        whole = self._contract is None and any(type(one) is int for one in [*self._actual, *self._predicted])
        both = [self._actual, self._predicted]
        actual, predicted = [[int(one) if whole and isinstance(one, bool) else one for one in told] for told in both]
        return actual, predicted

    def _counted(self, actual: Sequence[Any], predicted: Sequence[Any]) -> tuple[Version, Outcomes, bool]:
        """The outcomes as the log's counter counts them, and whether all predictions are probabilities."""
        classes = self._contract.classes if self._contract else _classes(actual, predicted)
        probable = bool(classes) and all(isinstance(one, dict) for one in predicted)
        version = counted(self._trained, []) if self._trained else _version(classes, actual)
        counter = OutcomeCounter(version, FOREVER)
        counter.count(*_arrays(classes, actual, predicted))
        return version, counter.result(), probable

    def _losses(self) -> tuple[np.ndarray, dict[str, Any]]:
        """The losses of the outcomes in their order, and of what is to be compared as reference.json has it."""
        if not self._actual:
            return np.empty(0), {}
        actual, predicted = self._told()
        version, _, probable = self._counted(actual, predicted)
        classes = version.contract.classes
        counter = OutcomeCounter(version, FOREVER)
        wrong, loss = counter.count(*_arrays(classes, actual, predicted))
        losses = loss if probable or not classes else wrong.astype(float)
        if self._trained is None:
            return losses, _loss_reference(losses[: -performance.LAST])
        reference = self._trained.reference
        if probable or not classes:
            return losses, reference
        share = 1 - reference.get("metrics", {}).get("accuracy", np.nan)
        if not np.isfinite(share):
            return losses, {}
        spread = {"mean": share, "deviation": float(np.sqrt(share * (1 - share)))}
        return losses, {"loss": spread, "prediction_rows": reference.get("prediction_rows", 0)}


# --- reading ---


def _bundle(folder: Path) -> Trained:
    papers = []
    for name in ("contract.json", "reference.json"):
        try:
            papers.append(json.loads((folder / name).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise DataError(f"{folder} has no {name}: name a bundle's folder; `make train` makes build/model") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{folder / name} cannot be read: {error}") from None
    try:
        trained = Trained(*papers)
        counted(trained, [])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder} is no bundle that can be watched: {error}") from None
    return trained


def _features(contract: Contract, reference: Mapping[str, Any]) -> dict[str, Before]:
    kinds: dict[str, Kind] = {column.name: column.type for column in contract.inputs}
    return {
        name: Before(one, reference["rows"], kinds[name])
        for name, one in reference["features"].items()
        if name in kinds
    }


def _version(classes: Sequence[str], actual: Sequence[Any]) -> Version:
    """How outcomes are counted where no bundle says it."""
    contract = {
        "schema": 1, "name": "model", "task": "multiclass" if classes else "regression", "format": "skops", "target": "target",
        "skops": {"layout": "frame"}, "inputs": [{"name": "feature", "type": "number", "example": 0}],
        "classes": list(classes) or None,
    }  # fmt: skip
    scale = (
        Bins(edges=[]) if classes else Bins(edges=[], center=float(np.mean(actual)), scale=float(np.std(actual)) or 1.0)
    )
    target = Bins(values=list(classes)) if classes else scale
    return Version(contract=msgspec.convert(contract, Contract), features={}, prediction={}, target=target)


def _classes(actual: Sequence[Any], predicted: Sequence[Any]) -> list[str]:
    """The classes in what was told, in order; none where it is numbers with a fraction, a regression's."""
    if any(isinstance(one, float) for one in [*actual, *predicted]):
        texts = [one for one in [*actual, *predicted] if isinstance(one, str)]
        if texts:
            raise DataError(f"outcomes and predictions mix numbers and text, such as {texts[0]!r}")
        if any(isinstance(one, dict) for one in predicted):
            raise DataError("outcomes are numbers, but predictions are probabilities of classes")
        return []
    given = {name for one in predicted if isinstance(one, dict) for name in one}
    if given and (strange := sorted({_label(one) for one in actual} - given)):
        raise DataError(
            f"the outcome {strange[0]!r} is no class; the classes of the probabilities are {_quoted(sorted(given))}"
        )
    found = {name for one in predicted for name in (one if isinstance(one, dict) else [_label(one)])}
    found |= {_label(one) for one in actual}
    return sorted(found) if len(found) > 1 else sorted({*found, "another class"})


def _arrays(classes: Sequence[str], actual: Sequence[Any], predicted: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Positions and probabilities, those of a label one and zero; or values."""
    if not classes:
        return np.array(actual, dtype=float), np.array(predicted, dtype=float)
    places = {name: place for place, name in enumerate(classes)}
    y_pred = np.zeros((len(predicted), len(classes)))
    for row, one in enumerate(predicted):
        for name, probability in (one if isinstance(one, dict) else {_label(one): 1.0}).items():
            y_pred[row, places[name]] = probability
    return np.array([places[_label(one)] for one in actual]), y_pred


def _probabilities(frame: pd.DataFrame) -> list[dict[str, float]]:
    try:
        values = frame.to_numpy(dtype=float)
    except (TypeError, ValueError):
        raise DataError("probabilities are not all numbers") from None
    if not len(values):
        raise DataError("no prediction is given")
    if not (np.isfinite(values).all() and (values >= 0).all() and (np.abs(values.sum(axis=1) - 1) < 0.001).all()):
        raise DataError("probabilities must be from 0 to 1, and add up to 1 in each row")
    return [dict(zip(frame, row, strict=True)) for row in values.tolist()]


def _scalars(given: Any, what: str) -> list[Any]:
    """One or many outcomes or labels as Python's own values; raises DataError for empty ones and other shapes."""
    if isinstance(given, str) or not np.iterable(given):
        given = [given]
    _wide(given)
    array = np.asarray(given, dtype=object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not len(array):
        raise DataError(f"the {what}s have the shape {array.shape}; give one, or (n,)")
    found = [one.item() if isinstance(one, np.generic) else one for one in array]
    for row, one in enumerate(found):
        if not isinstance(one, str | bool | int | float) or (isinstance(one, float) and not np.isfinite(one)):
            raise DataError(f"{what} {row + 1} is {one!r}; allowed are text, truth values and finite numbers")
    return found


def _wide(given: Any) -> bool:
    """Whether it has several columns; raises DataError for rows of different lengths."""
    try:
        return np.ndim(given) == 2 and np.shape(given)[1] > 1
    except ValueError:
        raise DataError("rows of different lengths were given") from None


def _finite(one: Any, what: str) -> float:
    if isinstance(one, str):
        raise DataError(f"the {what} {one!r} is text, but the model predicts numbers")
    return float(one)


def _label(one: Any) -> str:
    return str(one)


def _numbers(given: Data, what: str) -> np.ndarray:
    frame = frame_of(given, what)
    if frame.shape[1] != 1:
        raise DataError(f"{what} has {frame.shape[1]} columns; give (n,)")
    values = like(frame.iloc[:, 0], Before({}, 0, "number"), what)
    return values[~np.isnan(values)]


def _loss_reference(before: np.ndarray) -> dict[str, Any]:
    if len(before) < performance.LEAST:
        return {}
    return {"loss": {"mean": float(before.mean()), "deviation": float(before.std())}, "prediction_rows": len(before)}


def _quoted(names: Any) -> str:
    return ", ".join(repr(str(name)) for name in names)


def _short(value: float) -> str:
    return f"{value:.4g}"
