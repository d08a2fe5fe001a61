"""GitHub's expressions, as far as the workflows here use them; anything unknown is an error."""

import json
import re
from typing import Any

TOKEN = re.compile(
    r"\s*((?P<text>'[^']*')|(?P<sign>\|\||&&|==|!=|!(?=\w+\()|[(),])|(?P<call>\w+(?=\())|(?P<name>[a-z]+(\.\w+)*))\s*"
)
SIGNS = {"||": " or ", "&&": " and ", "!": " not "}
CLOSED = ("github", "needs", "steps", "jobs")  # in these contexts a missing name is an error, not an empty text


class Expressions:
    """Expressions over contexts such as `github` and `needs`, in a job that has succeeded or failed so far."""

    def __init__(self, contexts: dict[str, dict[str, Any]], fine: bool = True):
        self.contexts = contexts
        self.functions = {
            "always": lambda: True,
            "cancelled": lambda: False,
            "success": lambda: fine,
            "failure": lambda: not fine,
            "format": lambda text, *values: text.format(*values),
            "toJSON": json.dumps,
        }

    def evaluate(self, expression: str) -> Any:
        """The value of an expression; && and || return one of their operands, as in Python."""
        parts, place = [], 0
        while place < len(expression):
            found = TOKEN.match(expression, place)
            assert found, f"not understood: {expression[place:]!r} in {expression!r}"
            place, kind = found.end(), next(kind for kind in ("text", "sign", "call", "name") if found[kind])
            word = found[kind]
            parts.append(
                {"text": repr(word[1:-1]), "sign": SIGNS.get(word, word), "call": word}.get(kind, f"look({word!r})")
            )
        return eval("".join(parts), {"__builtins__": {}, "look": self.look, **self.functions})

    def look(self, path: str) -> Any:
        """The value of a name such as `needs.train.outputs.verdict`; "" where GitHub has nothing."""
        first, *rest = path.split(".")
        found: Any = self.contexts[first]
        for depth, key in enumerate(rest):
            known = isinstance(found, dict) and key in found
            assert known or depth or first not in CLOSED, f"{path} names nothing"
            found = found[key] if known else ""
        return found

    def fill(self, value: Any) -> str:
        """A workflow's text with its expressions evaluated."""
        return re.sub(r"\$\{\{(.*?)\}\}", lambda found: self._said(found[1]), str(value))

    def _said(self, expression: str) -> str:
        value = self.evaluate(expression)
        return str(value).lower() if isinstance(value, bool) else str(value)

    def hold(self, condition: str | None) -> bool:
        """Whether an `if:` is true; one without a status function also requires success so far."""
        condition = (condition or "success()").strip().removeprefix("${{").removesuffix("}}")
        asks = re.search(r"\b(always|cancelled|failure|success)\(", condition)
        return bool(self.evaluate(condition)) and (bool(asks) or self.functions["success"]())
