"""Names of metrics and parameters as MLflow takes them, so that a wrong one is known before anything is trained.

MLflow's own rule is in mlflow.utils.validation, which takes seconds to import; a test holds the two equal.
"""

import posixpath
import re

LONGEST = 230  # characters; MLflow takes 250, and we put "train." or "metric_" in front
LONGEST_VALUE = 6000  # characters of a parameter's value; MLflow cuts off what is beyond
ALLOWED = "letters, digits, spaces and _ - . : /"


def fit(name: str) -> str:
    """A name as near to this one as MLflow takes: other characters become _, what is too long is cut."""
    kept = re.sub(r"[^\w.\- :]", "_", name)[:LONGEST]
    return f"_{kept[1:]}" if kept.startswith("..") or kept in ("", ".") else kept


def fault(name: object) -> str:
    """Why MLflow takes no metric or parameter of this name, with what is allowed; "" when it does."""
    if not isinstance(name, str):
        return f"it is {type(name).__name__}, not text"
    if not re.fullmatch(r"[/\w.\- :]+", name):
        odd = sorted(set(re.findall(r"[^/\w.\- :]", name)))
        return (f"it holds {', '.join(map(repr, odd))}" if odd else "it is empty") + f"; allowed are {ALLOWED}"
    if len(name) > LONGEST:
        return f"it has {len(name)} characters; at most {LONGEST} are allowed"
    normal = posixpath.normpath(name)
    if normal != name or normal.startswith(("..", "/")) or normal == ".":
        return "MLflow makes a path of it, which may not begin or end with /, nor hold // or a part . or .."
    return ""
