"""What the libraries of boosted trees have in common: texts as categories, early stopping, one thread, the bundle's part."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset, Kind
from pipeline.formats.family import Candidate, Training, classes_of

CATEGORIES = 1000  # of a column of text; with more it names its rows rather than groups them


@dataclass(frozen=True)
class Trees:
    """A fitted estimator, and for each column of text the categories that training saw, sorted; a category's place is its code."""

    model: Any
    categories: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """Rows to fit on or to stop by: features, targets and weights, one value for each row."""

    features: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None


def is_of(model: Any, kinds: Iterable[str]) -> bool:
    """Whether a model, fitted or not, is of one of these classes or inherits from it; full names."""
    inner = model.model if isinstance(model, Trees) else model
    return bool(set(kinds) & set(classes_of(inner)))


def title(model: Any) -> str:
    """The name of its class, fitted or not."""
    return type(model.model if isinstance(model, Trees) else model).__name__


def unfit(model: Any, dataset: Dataset) -> str:
    """Why it cannot be trained on this data: it ranks, it is of the other task, or a column of text has too many values."""
    if "Ranker" in title(model):
        return f"{title(model)} orders rows within queries, and no task of pipeline.toml does: return a regressor of the relevance"
    classifies = "Classifier" in title(model)
    if classifies != bool(dataset.classes):
        wanted = title(model).replace(
            "Classifier" if classifies else "Regressor", "Regressor" if classifies else "Classifier"
        )
        return f"the task of pipeline.toml is {dataset.settings.data.task}, which needs {wanted}"
    for name in texts(dataset.kinds):
        count = len(set(dataset.features[name]))
        if count > CATEGORIES:
            return (
                f"column {name!r} has {count} different texts, and each would be a category (at most {CATEGORIES}): drop it in load() of "
                "project/data.py, or encode it in a pipeline of scikit-learn (TargetEncoder, TfidfVectorizer) before the trees"
            )
    return ""


def history(found: Mapping[str, Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """The figures of the rows to stop by, after each tree, as the libraries give them: by set, then by metric."""
    return {f"{metric}_stopping": list(values) for figures in found.values() for metric, values in figures.items()}


def texts(kinds: Mapping[str, Kind]) -> list[str]:
    """The names of the columns of text, in order."""
    return [name for name, kind in kinds.items() if kind == "text"]


def categories(dataset: Dataset) -> dict[str, list[str]]:
    """The texts of each column of text on the training side, sorted, without the empty one."""
    training = dataset.features[~dataset.holdout]
    return {name: sorted(set(training[name]) - {""}) for name in texts(dataset.kinds)}


def encoded(rows: pd.DataFrame, kinds: Mapping[str, Kind], known: Mapping[str, list[str]]) -> np.ndarray:
    """Feature rows as float64 (n, columns): a text is its category's code; an empty one, and one that training did not see, is NaN."""
    columns = []
    for name in kinds:
        if name in known:
            codes = {text: float(code) for code, text in enumerate(known[name])}
            columns.append(np.array([codes.get(text, np.nan) for text in rows[name]], dtype=np.float64))
        else:
            columns.append(rows[name].to_numpy(dtype=np.float64))
    return np.stack(columns, axis=1)


def parts(features: np.ndarray, dataset: Dataset, training: Training, stops: bool) -> tuple[Part, Part | None]:
    """The rows to fit on, and where early stopping is asked for (and there are any) those to stop by.

    `features` has the training's rows in their order.
    """
    y = dataset.y[training.rows]

    def part(mask: np.ndarray) -> Part:
        return Part(features[mask], y[mask], None if training.weights is None else training.weights[mask])

    if stops and training.stop_on.any():
        return part(~training.stop_on), part(training.stop_on)
    return part(np.ones(len(y), dtype=bool)), None


def defaults(model: Any, wanted: Mapping[str, Any], aliases: Mapping[str, Iterable[str]] | None = None) -> None:
    """Set the parameters that build() left open: seed and threads decide the bytes of the model, so nothing of the machine may."""
    given = model.get_params()
    for name, value in wanted.items():
        names = (name, *(aliases or {}).get(name, ()))
        if all(given.get(one) is None for one in names):
            model.set_params(**{name: value})


def own_format(
    name: str, file: str, content: bytes, known: Mapping[str, list[str]], version: str, what: str
) -> Candidate:
    """The form in which a library runs its own model; its part of the contract is called like the library."""
    return Candidate(
        f"{what} itself", {file: content}, {"format": name, name: {"categories": dict(known), "version": version}}
    )
