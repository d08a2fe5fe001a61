"""The predictor: takes checked rows and returns answers, whatever the model's format."""

import os
from collections.abc import Sequence
from math import isfinite
from typing import Any, Protocol

import numpy as np

from serving.model.bundle import Bundle, BundleError
from serving.model.contract import Contract, Onnx, Trees
from serving.model.decision import decide, decide_one
from serving.model.rows import Row
from serving.model.rules import NONE, Decided, RuleError, Rules, RulesError, load_rules

Answer = dict[str, Any]
# Class positions and probabilities, or values. Where the model has rules: class positions (or values), the number of the rule that
# decided each row, and probabilities (or values).
Outputs = Sequence[np.ndarray]


class NoAnswer(Exception):
    """The model has no finite answer; `row` is the first row without one, or None when the model did not say.

    `rule` is the name of the rule that failed, where it was one.
    """

    def __init__(self, row: int | None = None, rule: str = ""):
        who = f"the rule {rule} has no answer" if rule else "the model has no finite answer"
        super().__init__(f"{who} for these values")
        self.row, self.rule = row, rule


class Model(Protocol):
    """A loaded model. It may raise any exception for odd values."""

    def run(self, rows: Sequence[Row]) -> np.ndarray:
        """Probabilities (n, k), or values (n,) or (n, 1), for many rows; thread-safe."""

    def run_one(self, row: Row) -> np.ndarray:
        """The same for one row; the next call overwrites the array. Not thread-safe."""


class Predictor:
    """Answers rows that passed the contract; `predict` is thread-safe."""

    def __init__(self, contract: Contract, model: Model):
        self.contract = contract
        self._model = model
        self._threshold = contract.decision

    def example(self) -> Outputs:
        """The outputs for the contract's example row; raises NoAnswer."""
        return self.predict([self.contract.example_row])

    def predict(self, rows: Sequence[Row]) -> Outputs:
        """The outputs for many rows, all of them finite; raises NoAnswer."""
        outputs = self.outputs(rows)
        _finite(outputs[-1])
        return outputs

    def outputs(self, rows: Sequence[Row]) -> Outputs:
        """The model's outputs for many rows, finite or not; raises NoAnswer when it returns none."""
        try:
            given = self._model.run(rows)
            if self.contract.task == "regression":
                return [given.reshape(len(rows))]
            return [decide(given, self._threshold), given]
        except Exception as error:  # a model may raise any exception for odd values
            raise NoAnswer from error

    def predict_one(self, row: Row) -> Answer:
        """One row's answer, {label, class_id, probabilities} or {value}; not thread-safe. Raises NoAnswer."""
        try:
            given = self._model.run_one(row)
        except Exception as error:
            raise NoAnswer from error
        if self.contract.task == "regression":
            value = given.item()
            if not isfinite(value):
                raise NoAnswer(0)
            return {"value": value}
        probabilities = given.tolist()[0]
        if not isfinite(sum(probabilities)):
            raise NoAnswer(0)
        # A call less for most models, whose threshold is None.
        threshold = self._threshold
        position = (
            probabilities.index(max(probabilities)) if threshold is None else decide_one(probabilities, threshold)
        )
        classes = self.contract.classes
        return {
            "label": classes[position],
            "class_id": position,
            "probabilities": dict(zip(classes, probabilities, strict=True)),
        }


class PredictorWithRules(Predictor):
    """The same for a model that has rules, which may answer in its place or correct it."""

    def __init__(self, contract: Contract, model: Model, rules: Rules):
        super().__init__(contract, model)
        self._rules = rules

    def outputs(self, rows: Sequence[Row]) -> Outputs:
        """The outputs for many rows, finite or not, with the number of the rule that decided each; raises NoAnswer."""
        named = [self._rules.named(row) for row in rows]
        decided = [self._before(one, number) for number, one in enumerate(named)]
        asked = [number for number, one in enumerate(decided) if one is None]
        width = len(self.contract.classes)
        values = np.empty((len(rows), width) if width else len(rows))
        if asked:
            try:
                values[asked] = super().outputs([rows[number] for number in asked])[-1]
            except NoAnswer as error:
                raise NoAnswer(None if error.row is None else asked[error.row]) from error.__cause__
        for number in asked:
            if np.isfinite(values[number]).all():
                decided[number] = self._after(named[number], values[number], number)
        for number, one in enumerate(decided):
            if one is not None:
                values[number] = one.answer
        rules = np.array([NONE if one is None else one.rule for one in decided])
        return [decide(values, self._threshold) if width else values, rules, values]

    def predict_one(self, row: Row) -> Answer:
        """One row's answer as above, with `rule` where one decided; not thread-safe. Raises NoAnswer."""
        named = self._rules.named(row)
        decided = self._before(named)
        if decided is None:
            try:
                given = np.asarray(self._model.run_one(row)).reshape(-1)
            except Exception as error:
                raise NoAnswer from error
            if not np.isfinite(given).all():
                raise NoAnswer(0)
            given = given if self.contract.classes else given[0]
            decided = self._after(named, given)
        numbers = (given if decided is None else decided.answer).tolist()
        classes = self.contract.classes
        if classes:
            position = decide_one(numbers, self._threshold)
            probabilities = dict(zip(classes, numbers, strict=True))
            answer = {"label": classes[position], "class_id": position, "probabilities": probabilities}
        else:
            answer = {"value": numbers}
        return answer if decided is None else answer | {"rule": self._rules.names[decided.rule]}

    def _before(self, named: dict[str, Any], number: int = 0) -> Decided | None:
        try:
            return self._rules.before(named)
        except RuleError as error:
            raise NoAnswer(number, error.rule) from error

    def _after(self, named: dict[str, Any], given: np.ndarray, number: int = 0) -> Decided | None:
        try:
            return self._rules.after(named, given)
        except RuleError as error:
            raise NoAnswer(number, error.rule) from error


def load_predictor(bundle: Bundle) -> Predictor:
    """Load a bundle's model and test it on the example row; raises BundleError when model and contract differ.

    Imports only what the format needs: ONNX Runtime, scikit-learn or a library of boosted trees.
    """
    rules = _rules(bundle)
    predictor = (
        PredictorWithRules(bundle.contract, _model(bundle), rules)
        if rules
        else Predictor(bundle.contract, _model(bundle))
    )
    try:
        predictor.example()
        predictor.predict_one(
            bundle.contract.example_row
        )  # the first call is the slowest: no client should wait for it
    except Exception as error:
        cause = error.__cause__ or error
        raise BundleError(
            f"{bundle.contract.file} does not answer the contract's example row: {_first_line(cause)}"
        ) from error
    return predictor


def _rules(bundle: Bundle) -> Rules | None:
    """The rules that the contract names; raises BundleError where the code has others, or none that can be imported."""
    named = bundle.contract.rules
    if named is None:
        return None
    try:
        contract = bundle.contract
        kinds = {column.name: column.type for column in contract.inputs}
        rules = load_rules(bundle.code, kinds, contract.classes, contract.positive)
    except RulesError as error:
        raise BundleError(str(error)) from error
    if rules.names != bundle.contract.rule_names:
        raise BundleError(
            f"contract.json names the rules {', '.join(bundle.contract.rule_names)}, the code has {', '.join(rules.names)}"
        )
    return rules


def _model(bundle: Bundle) -> Model:
    form = bundle.contract.form
    if isinstance(form, Onnx):
        from serving.model.onnx_model import OnnxModel

        return OnnxModel(bundle, form)
    # OpenMP reads this when a library loads it. One row is too little work for several threads, and a process forked
    # after OpenMP started threads would hang.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if isinstance(form, Trees):
        from serving.model import boosted_trees

        try:
            return boosted_trees.MODELS[bundle.contract.format](bundle, form)
        except ModuleNotFoundError as error:
            raise BundleError(
                f"{bundle.contract.file} needs the package {error.name}, which is not installed"
            ) from error
    from serving.model.sklearn_model import SklearnModel

    return SklearnModel(bundle, form)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _finite(values: np.ndarray) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        raise NoAnswer(int(finite.reshape(len(values), -1).all(axis=1).argmin()))
