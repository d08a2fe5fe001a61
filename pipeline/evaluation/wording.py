"""How figures and texts are written for people, on every page: numbers, names of metrics, marks of better and worse."""

import math
import unicodedata
from dataclasses import dataclass
from typing import TypeGuard

from pipeline.evaluation.record import Compared

WORDS = {
    "f1": "F1",
    "f1_macro": "macro F1",
    "roc_auc": "ROC AUC",
    "roc_auc_ovr": "ROC AUC, one against rest",
    "pr_auc": "PR AUC",
    "brier": "Brier score",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
}


def in_words(metric: str) -> str:
    """A metric's name as people write it."""
    return WORDS.get(metric, metric.replace("_", " "))


def places(*values: float | None, figures: int = 3) -> int:
    """Decimal places that show so many figures of the largest of the values; 4 where there is none but zero."""
    sizes = [abs(value) for value in values if known(value) and value]
    return min(max(figures - 1 - math.floor(math.log10(max(sizes))), 0), 8) if sizes else 4


def number(value: float | None, digits: int | None = None) -> str:
    """A number with so many decimals (by default four significant digits); a dash where it is not known."""
    if not known(value):
        return "–"
    digits = places(value, figures=4) if digits is None else digits
    text = f"{value:,.{digits}f}"
    if abs(value) >= 1e15 or (value and float(text.replace(",", "")) == 0):
        text = f"{value:.2e}"
    return text.replace("-", "−")


def signed(value: float | None, digits: int) -> str:
    """A difference with its sign; zero has none."""
    return f"+{number(value, digits)}" if known(value) and value > 0 else number(value, digits)


def setting(value: float | None) -> str:
    """A number as a person would write it in a settings file."""
    if not known(value):
        return "–"
    return (f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}").replace("-", "−")


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is such a number."""
    return value is not None and math.isfinite(value)


def clean(text: object, most: int = 1500) -> str:
    """Text on one line and not endless, without characters that control a terminal or turn the reading direction."""
    kept = (
        "�" if (kind := unicodedata.category(each)) == "Cs" else " " if kind[0] in "CZ" else each for each in str(text)
    )
    line = "".join(kept).strip()
    return line if len(line) <= most else f"{line[: most - 1]}…"


def gain(row: Compared, higher_is_better: bool) -> tuple[float, float | None, float | None]:
    """Difference and bounds of a row that has them as what the candidate gains: positive is better, for every metric."""
    difference, lower, upper = row.difference or 0.0, row.lower, row.upper
    if higher_is_better:
        return difference, lower, upper
    return 0 - difference, None if upper is None else 0 - upper, None if lower is None else 0 - lower


@dataclass(frozen=True)
class Mark:
    """A result as a sign and a word, with a tone that colours it: better, worse, warn or quiet."""

    sign: str
    word: str
    tone: str


def change(row: Compared, higher_is_better: bool) -> Mark:
    """Whether the candidate is better by a row of the evaluation, and whether its whole interval says so."""
    if not known(row.difference):
        return Mark("–", "not defined", "quiet")
    estimate, lower, upper = gain(row, higher_is_better)
    if known(lower) and lower > 0:
        return Mark("▲", "better", "better")
    if known(upper) and upper < 0:
        return Mark("▼", "worse", "worse")
    if estimate == 0:
        return Mark("=", "same", "quiet")
    return Mark("△", "perhaps better", "quiet") if estimate > 0 else Mark("▽", "perhaps worse", "quiet")
