"""What is still the shipped example's in a project whose data is another."""

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.settings import Settings

# The columns of the example, by which its data is known; half of them make it the example.
COLUMNS = frozenset({"worst_area", "worst_concave_points", "worst_texture", "mean_radius", "mean_area", "diagnosis"})
NAME = "breast-cancer"
WORDS = {
    "purpose": "Shows how a model goes to production, with public teaching data: benign or malignant, by measurements of cell nuclei.",
    "not_for": "Diagnosis, or any decision about a patient: it is no medical device, and 569 rows stand for no other hospital.",
}
LIMITS = {"log_loss": 0.25, "roc_auc": 0.95}
# Of project/checks.py, read as text: as it is shipped, and as `make adopt EXAMPLE=remove` leaves it.
CHECKS_SHA256 = (
    "454d67afb5f4fdafb0ac9c6532e3131ca3b459436a38ae73a289ff442d4242c3",
    "aa1ec4abce075cb673da9e055361d500b14267d2f6779e6a214fa18939d2c733",
)


def is_example(columns: Any) -> bool:
    """Whether these are the columns of the shipped data, or mostly."""
    return len(COLUMNS & set(columns)) >= len(COLUMNS) / 2


def is_shipped(file: Path) -> bool:
    """Whether a file is project/checks.py as it is shipped, or the empty form of it."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return hashlib.sha256(text.encode()).hexdigest() in CHECKS_SHA256


def found(frame: pd.DataFrame, settings: Settings, checks_file: Path) -> list[tuple[str, str]]:
    """Each leftover: where it stands (file and key), and what it is and what to do; none while the data is the example's."""
    if is_example(frame):
        return []
    own = [name for name in frame if name not in settings.data.roles.values()]
    left = []
    if settings.name == NAME:
        left.append(
            ("pipeline.toml name", f"is {NAME!r}, as in the example; a name of your own starts a history of its own")
        )
    for key, words in WORDS.items():
        if getattr(settings.model, key) == words:
            left.append(
                (
                    f"pipeline.toml [model] {key}",
                    "has the words of the example; they stand on each version's card in MLflow",
                )
            )
    for column in settings.gate.slices:
        if column not in own:
            left.append(
                (
                    "pipeline.toml [gate] slices",
                    f"names {column!r}, which is no feature; name one, or write slices = []",
                )
            )
    if settings.gate.limits == LIMITS:
        left.append(("pipeline.toml [gate.limits]", "has the limits of the example; set what your model must reach"))
    if is_shipped(checks_file):
        left.append(
            ("project/checks.py", "is about the example's columns; `make checks` writes a first one from your data")
        )
    return left
