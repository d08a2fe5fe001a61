"""What a feature may be, declared once.

An `Input` provides the words of a refusal (`allowed`), the check of one value (`read`), and the type (`kind`) with which msgspec
reads requests and writes their schema.
"""

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

# The largest finite value; anything beyond would silently become infinity inside the model.
LARGEST = {"float32": 3.4028234663852886e38, "float64": 1.7976931348623157e308}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}  # msgspec's names, in words
# The key of a type's schema that lists its values. msgspec would sort those of a Literal, and has no type for 0.5 or for true alone.
VALUES = "x-values"
NEVER = Literal["\0 never"]  # a type that accepts nothing that a client sends
JSON_TYPES = {"text": ["string"], "boolean": ["boolean", "integer"], "number": ["number"], "integer": ["integer"]}


class Part(msgspec.Struct, frozen=True, dict=True):
    """A part of the contract: frozen; unknown keys, from a newer pipeline, are ignored."""


class Observed(Part, frozen=True):
    """What training saw: for documentation and warnings only, never enforced."""

    minimum: float | None = None
    maximum: float | None = None
    values: list[str] | None = None  # the categories, if there are few enough


class Input(Part, frozen=True, kw_only=True):
    """One feature: its type, its allowed values, and an example."""

    name: Annotated[str, Meta(min_length=1)]
    type: Literal["number", "integer", "boolean", "text"]
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None  # the value must be greater, and less than exclusive_maximum
    exclusive_maximum: float | None = None
    values: list[Any] | None = None
    observed: Observed | None = None
    example: Any

    @property  # not kept: with a dictionary of its own an input's methods are found more slowly
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

    @property
    def description(self) -> str:
        """The allowed values for the document, with other accepted spellings and what training saw."""
        words = [f"Allowed is {self.allowed}."]
        if self.type == "boolean":
            words.append("0 and 1 are read as false and true.")
        if self.type == "text" and self.nullable:
            words.append('"" is null, too.')
        seen = self.observed
        if seen and seen.minimum is not None and seen.maximum is not None:
            words.append(f"In training it went from {seen.minimum:.12g} to {seen.maximum:.12g}.")
        if seen and seen.values:
            words.append(f"In training it was one of {listed(seen.values)}.")
        return " ".join(words)

    def bounds(self, largest: float) -> dict[str, float]:
        """The lower and the upper bound under their names in BOUNDS; of two bounds on one side, the tighter."""
        low = -largest if self.minimum is None else max(self.minimum, -largest)
        high = largest if self.maximum is None else min(self.maximum, largest)
        above, below = self.exclusive_minimum, self.exclusive_maximum
        return {
            **({"ge": low} if above is None or above < low else {"gt": above}),
            **({"le": high} if below is None or below > high else {"lt": below}),
        }

    def choices(self, largest: float) -> list[Any] | None:
        """The list of allowed values, or None if it is not finite."""
        if self.values is None and self.type != "boolean":
            return None
        given = [False, True, 0, 1] if self.type == "boolean" else self.values or []
        choices = [value for value in given if value is not None and self._fits(value, largest)]
        if not self.nullable:
            return choices
        return [*choices, None, *([""] if self.type == "text" and "" not in choices else [])]

    def kind(self, largest: float) -> Any:
        """The msgspec type of the values, with their schema, for a model whose largest number is `largest`.

        It never accepts what `read` refuses. It refuses a few values that `read` accepts, because msgspec has no type for
        them: 1.0 for true or for a listed 1, and listed numbers that are not whole.
        """
        choices, types = self.choices(largest), [*JSON_TYPES[self.type], *(["null"] if self.nullable else [])]
        if choices is not None:
            kind: Any = _one_of(choices)
        elif self.type == "text":
            kind = str
        else:
            bounds: dict[str, Any] = {**self.bounds(largest), "multiple_of": 1.0 if self.type == "integer" else None}
            kind = Annotated[float, Meta(**bounds)]
        schema = None if choices is None else {"type": types if len(types) > 1 else types[0], VALUES: choices}
        about = Meta(description=self.description, examples=[self.example], extra_json_schema=schema)
        return Annotated[kind | None if self.nullable else kind, about]

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
            if not isinstance(value, str) or not is_unicode(value):
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

    @property
    def _range(self) -> str:
        bounds = self.bounds(math.inf)
        low, high = bounds.get("ge", -math.inf), bounds.get("le", math.inf)
        if -math.inf < low and high < math.inf:
            return f" from {low:.12g} to {high:.12g}"
        said = " and ".join(f"{BOUNDS[name]} {bound:.12g}" for name, bound in bounds.items() if math.isfinite(bound))
        return (" of " if said.startswith("at ") else " ") + said if said else ""


def _one_of(choices: list[Any]) -> Any:
    """A type of exactly these values, without null. There is none for numbers that are not whole, or for true alone."""
    values = [value for value in choices if value is not None]
    types = {type(value) for value in values}
    if types == {str} or types == {int}:
        return Literal[tuple(values)]
    return bool | Literal[0, 1] if values == [False, True, 0, 1] and types == {bool, int} else NEVER


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_unicode(text: str) -> bool:
    """Whether the text can be encoded; JSON can contain half a surrogate pair, which UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
