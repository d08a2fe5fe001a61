"""The contract, contract.json: the model's inputs and outputs as frozen values, and the check of one input value."""

import json
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec

# The largest finite value; anything beyond would silently become infinity inside the model.
LARGEST = {"float32": 3.4028234663852886e38, "float64": 1.7976931348623157e308}


class Part(msgspec.Struct, frozen=True, dict=True):
    """A part of the contract: frozen; unknown keys, from a newer pipeline, are ignored."""


class Observed(Part, frozen=True):
    """What training saw: for documentation and warnings only, never enforced."""

    minimum: float | None = None
    maximum: float | None = None
    values: list[str] | None = None  # the categories, if there are few enough


class Onnx(Part, frozen=True):
    """The layout of the ONNX graph's inputs, and the names of its outputs."""

    layout: Literal["matrix", "columns"]
    dtype: Literal["float32", "float64"]
    label: str  # the values of a regression; a classifier's own labels are not used
    probabilities: str | None = None


class Skops(Part, frozen=True):
    """The layout of a skops model's inputs, and the types that it may contain beyond the library's own."""

    layout: Literal["matrix", "frame"]
    trusted: list[str] = []
    scikit_learn: str = ""


class Input(Part, frozen=True, kw_only=True):
    """One feature: its type, its allowed values, and an example."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    type: Literal["number", "integer", "boolean", "text"]
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None  # the value must be greater, and less than exclusive_maximum
    exclusive_maximum: float | None = None
    values: list[Any] | None = None
    observed: Observed | None = None
    example: Any

    @cached_property
    def allowed(self) -> str:
        """The allowed values in words."""
        if self.values is not None:
            words = f"one of {listed(self.values)}"
        elif self.type == "boolean":
            words = "true or false"
        elif self.type == "text":
            words = "a text"
        else:
            words = ("a whole number" if self.type == "integer" else "a number") + self._range
        return words + (" or null" if self.nullable else "")

    def bounds(self, largest: float) -> dict[str, float]:
        """The lower and the upper bound under their JSON Schema names; of two bounds on one side, the tighter."""
        low = -largest if self.minimum is None else max(self.minimum, -largest)
        high = largest if self.maximum is None else min(self.maximum, largest)
        above, below = self.exclusive_minimum, self.exclusive_maximum
        return {
            **({"minimum": low} if above is None or above < low else {"exclusiveMinimum": above}),
            **({"maximum": high} if below is None or below > high else {"exclusiveMaximum": below}),
        }

    @property
    def _range(self) -> str:
        bounds = self.bounds(math.inf)
        low, high = bounds.get("minimum", -math.inf), bounds.get("maximum", math.inf)
        if -math.inf < low and high < math.inf:
            return f" from {low:.12g} to {high:.12g}"
        words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
        said = " and ".join(f"{words[name]} {bound:.12g}" for name, bound in bounds.items() if math.isfinite(bound))
        return (" of " if said.startswith("at ") else " ") + said if said else ""

    def read(self, value: Any, largest: float) -> float | str:
        """Convert a value for the model (null: NaN or ""); raises ValueError saying what was given and what is allowed."""
        if value is None and self.nullable:
            return "" if self.type == "text" else math.nan
        if not self._fits(value, largest):
            beyond = is_number(value) and not -largest <= value <= largest
            limit = f", finite and at most {largest:.3g} in size" if beyond else ""
            raise ValueError(f"{shown(value)} was given, allowed is {self.allowed}{limit}")
        return value if self.type == "text" else float(value)

    def _fits(self, value: Any, largest: float) -> bool:
        if self.type == "text":
            # An empty cell of the training data reaches the model as "", so "" means null.
            if value == "" and self.nullable:
                return True
            if not isinstance(value, str) or not _is_unicode(value):
                return False
        elif self.type == "boolean":
            if not isinstance(value, bool) and not (is_number(value) and value in (0, 1)):
                return False
        elif not self._is_in_range(value, largest):
            return False
        return self.values is None or value in self.values

    def _is_in_range(self, value: Any, largest: float) -> bool:
        if not is_number(value):
            return False
        try:
            value = float(value)  # JSON numbers are doubles here, however many digits they have
        except OverflowError:
            return False
        # NaN fails every comparison, infinity the first one.
        if not -largest <= value <= largest:
            return False
        if self.type == "integer" and value != math.floor(value):
            return False
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.exclusive_minimum is None or value > self.exclusive_minimum)
            and (self.exclusive_maximum is None or value < self.exclusive_maximum)
        )


class Contract(Part, frozen=True, kw_only=True):
    """The whole of contract.json."""

    schema_version: Literal[1] = msgspec.field(name="schema")
    name: str
    task: Literal["binary", "multiclass", "regression"]
    format: Literal["onnx", "skops"]
    inputs: Annotated[list[Input], msgspec.Meta(min_length=1)]
    named: list[str] | None = msgspec.field(name="classes", default=None)  # null for a regression
    positive: str | None = None
    # How a label is chosen from the probabilities. A service refuses a rule that it does not know, so more can be
    # added.
    labels: Literal["most_probable"] = "most_probable"
    target: str
    onnx: Onnx | None = None
    skops: Skops | None = None

    def __post_init__(self) -> None:
        """Raise ValueError unless the parts are consistent."""
        if len(self.names) != len(self.inputs):
            raise ValueError("two inputs have the same name")
        for name in self.names:
            if fault := name_fault(name):
                raise ValueError(f"no input can be called {name!r}: {fault}")
        form = self.form
        if form.layout == "matrix" and any(column.type == "text" for column in self.inputs):
            raise ValueError(f'a text input needs the layout "{"columns" if isinstance(form, Onnx) else "frame"}"')
        unnamed = isinstance(form, Onnx) and form.probabilities is None
        if self.task != "regression" and (len(self.classes) < 2 or unnamed):
            raise ValueError("a classifier needs two or more classes and an output of probabilities")
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
    def largest(self) -> float:
        """The largest number that the model can take."""
        return LARGEST[self.form.dtype if isinstance(self.form, Onnx) else "float64"]

    @property
    def form(self) -> Onnx | Skops:
        """The model's input layout, from the part named like the format."""
        form = getattr(self, self.format)
        if form is None:
            raise ValueError(f"the format {self.format!r} needs a part of that name")
        return form

    @property
    def file(self) -> str:
        """The name of the model file in the bundle."""
        return f"model.{self.format}"

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
    if not _is_unicode(name):
        return "it holds half of a character, as text does that was read with the wrong encoding"
    odd = sorted({sign for sign in name if sign in '"\\' or sign < " "})
    return f"it holds {', '.join(map(repr, odd))}" if odd else ""


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """A JSON value, shortened for messages; never fails, whatever the client sent."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    text = json.dumps(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:59] + "…"


def listed(values: Sequence[Any]) -> str:
    """Values for a message: the first 20, and how many more there are."""
    words = ", ".join(shown(value) for value in values[:20])
    return words + (f" and {len(values) - 20} more" if len(values) > 20 else "")


def _is_unicode(text: str) -> bool:
    """Whether the text can be encoded; JSON can contain half a surrogate pair, which UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
