"""The contract, contract.json: the model's inputs and outputs as frozen values."""

from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec

from serving.model.decision import Threshold
from serving.model.features import LARGEST, Input, Part, is_unicode


class Onnx(Part, frozen=True):
    """The layout of the ONNX graph's inputs, and the names of its outputs."""

    layout: Literal["matrix", "columns"]
    dtype: Literal["float32", "float64"]
    label: str  # the values of a regression; a classifier's own labels are not used
    probabilities: str | None = None


class Skops(Part, frozen=True):
    """The layout of a skops model's inputs, and the types that it may contain beyond the library's own."""

    layout: Literal["matrix", "frame"]
    trusted: list[str] = msgspec.field(default_factory=list)
    scikit_learn: str = ""


class Trees(Part, frozen=True):
    """Boosted trees that their own library runs: for each text input the categories in the order of their codes, where it has codes."""

    categories: dict[str, list[str]] = msgspec.field(default_factory=dict)
    version: str = ""  # of the library that made them


Form = Onnx | Skops | Trees
FILES = {
    "onnx": "model.onnx",
    "skops": "model.skops",
    "xgboost": "model.ubj",
    "lightgbm": "model.txt",
    "catboost": "model.cbm",
}


class RuleNames(Part, frozen=True):
    """The names of the rules that answer before the model, and of those that correct it, in their order."""

    before: list[str] = msgspec.field(default_factory=list)
    after: list[str] = msgspec.field(default_factory=list)


class Contract(Part, frozen=True, kw_only=True):
    """The whole of contract.json."""

    schema_version: Literal[1] = msgspec.field(name="schema")
    name: str
    task: Literal["binary", "multiclass", "regression"]
    format: Literal["onnx", "skops", "xgboost", "lightgbm", "catboost"]
    inputs: Annotated[list[Input], msgspec.Meta(min_length=1)]
    named: list[str] | None = msgspec.field(name="classes", default=None)  # null for a regression
    positive: str | None = None
    # How a label is chosen from the probabilities. A service refuses a rule that it does not know, so more can be
    # added.
    labels: Literal["most_probable", "threshold"] = "most_probable"
    threshold: float | None = None  # the least probability with which a row is of the positive class
    rules: RuleNames | None = None
    target: str
    onnx: Onnx | None = None
    skops: Skops | None = None
    xgboost: Trees | None = None
    lightgbm: Trees | None = None
    catboost: Trees | None = None

    def __post_init__(self) -> None:
        """Raise ValueError unless the parts are consistent."""
        if len(self.names) != len(self.inputs):
            raise ValueError("two inputs have the same name")
        for name in self.names:
            if fault := name_fault(name):
                raise ValueError(f"no input can be called {name!r}: {fault}")
        form = self.form
        if (
            not isinstance(form, Trees)
            and form.layout == "matrix"
            and any(column.type == "text" for column in self.inputs)
        ):
            raise ValueError(f'a text input needs the layout "{"columns" if isinstance(form, Onnx) else "frame"}"')
        unnamed = isinstance(form, Onnx) and form.probabilities is None
        if self.task != "regression" and (len(self.classes) < 2 or unnamed):
            raise ValueError("a classifier needs two or more classes and an output of probabilities")
        if (self.labels == "threshold") != (self.threshold is not None):
            raise ValueError('a threshold and labels "threshold" need one another')
        if self.threshold is not None and (self.positive not in self.classes or not 0 < self.threshold < 1):
            raise ValueError("a threshold is between 0 and 1, and needs a positive class")
        for column in self.inputs:
            try:
                column.read(column.example, self.largest)
            except ValueError as error:
                raise ValueError(f"the example of {column.name!r} breaks the contract: {error}") from error

    @property
    def classes(self) -> list[str]:
        """The classes in the order of the model's probabilities; empty for a regression."""
        return self.named or []

    @cached_property
    def names(self) -> dict[str, int]:
        """The position of each input by its name."""
        return {column.name: position for position, column in enumerate(self.inputs)}

    @cached_property
    def decision(self) -> Threshold | None:
        """The threshold of the positive class; None where the most probable class is the answer."""
        if self.threshold is None:
            return None
        return Threshold(self.classes.index(str(self.positive)), self.threshold)

    @cached_property
    def rule_names(self) -> list[str]:
        """The names of all rules, in the order in which the answers number them."""
        return [*self.rules.before, *self.rules.after] if self.rules else []

    @cached_property
    def largest(self) -> float:
        """The largest number that the model can take."""
        narrow = self.format == "xgboost" or (isinstance(self.form, Onnx) and self.form.dtype == "float32")
        return LARGEST["float32" if narrow else "float64"]

    @property
    def form(self) -> Form:
        """The model's input layout, from the part named like the format."""
        form = getattr(self, self.format)
        if form is None:
            raise ValueError(f"the format {self.format!r} needs a part of that name")
        return form

    @property
    def file(self) -> str:
        """The name of the model file in the bundle."""
        return FILES[self.format]

    @property
    def example(self) -> list[Any]:
        """One valid row in contract order."""
        return [column.example for column in self.inputs]

    @property
    def example_row(self) -> list[float | str]:
        """The example row as the model takes it."""
        return [column.read(column.example, self.largest) for column in self.inputs]


def name_fault(name: str) -> str:
    """Why this cannot be a feature's name, or "" if it can: the decoder does not unescape names in JSON."""
    if not name:
        return "it is empty"
    if not is_unicode(name):
        return "it holds half of a character, as text does that was read with the wrong encoding"
    odd = sorted({sign for sign in name if sign in '"\\' or sign < " "})
    return f"it holds {', '.join(map(repr, odd))}" if odd else ""
