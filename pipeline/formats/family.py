"""Families of models: what build() in project/model.py may return, and how each is trained, asked, served and stored.

Each file of pipeline/formats/families/ is one family and has the functions of `Family`. Which one a model belongs to follows from
the names of its classes, so a library is imported only where the project uses it. The rest of the pipeline names no family.
"""

import sys
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.data.split import stop_rows
from pipeline.errors import PortabilityError, ProjectError, in_project
from pipeline.settings import Settings

# The first that takes a model has it; any estimator with fit() is scikit-learn's.
FAMILIES = ("xgboost_trees", "lightgbm_trees", "catboost_trees", "torch_network", "skorch_net", "scikit_learn")


@dataclass(frozen=True)
class Training:
    """What a fit may use. Each array but `rows` has one value for each of the rows, in their order.

    `rows` are places in the dataset. `stop_on` marks those that a family with early stopping keeps out of the fit and stops by; others
    fit on all rows.
    """

    rows: np.ndarray
    seed: int
    stop_on: np.ndarray
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class Candidate:
    """A form in which a model may be served: the model's files in the bundle, by path, and its part of the contract.

    `what` names it in messages; `form` holds `format` and the part that is called like it.
    """

    what: str
    files: Mapping[str, bytes]
    form: dict[str, Any]


Forms = Generator[Candidate | PortabilityError, None, None]


class Family(Protocol):
    """The functions of a family's file. `fitted` is what its fit() returned; the family takes that, too."""

    NAME: str  # what people call it: "XGBoost"

    def takes(self, model: Any) -> bool:
        """Whether a model, fitted or not, is of this family; looks at the names of its classes and imports nothing."""

    def title(self, model: Any) -> str:
        """What people call this model in a message: "RandomForestClassifier"."""

    def unfit(self, model: Any, dataset: Dataset) -> str:
        """Why it cannot be trained on this data, in words, before the fit; "" where nothing is known against it."""

    def fit(self, model: Any, dataset: Dataset, training: Training) -> Any:
        """The fitted model; classes are their positions 0 … k-1. Honours the seed and the weights."""

    def answer(self, fitted: Any, dataset: Dataset, rows: pd.DataFrame) -> np.ndarray:
        """Probabilities (n, k) in the order of the classes, or values (n,), in float64. Raises ProjectError where it cannot answer so."""

    def untrusted(self, fitted: Any, trusted: list[str]) -> list[str]:
        """The types in it that need the team's word and have none; raises ProjectError where it cannot be stored without pickle."""

    def formats(self, fitted: Any, dataset: Dataset) -> Iterator[Forms]:
        """The formats in which it may be served, the best first; each yields its forms, and in the place of one that cannot be made the reason."""

    def history(self, fitted: Any) -> Mapping[str, list[float]]:
        """How the training went, one value for each epoch or tree, by name; empty where nothing is known."""

    def log(self, fitted: Any, dataset: Dataset, model_id: str, signature: Any, sample: pd.DataFrame) -> Any:
        """Log it, without pickle, as MLflow's logged model of that id; return MLflow's ModelInfo."""


def family_of(model: Any) -> Family:
    """The family of a model, fitted or not; raises ProjectError for what is none."""
    if isinstance(model, type):  # it has a fit() as its models have, and fails later in words of the library
        raise ProjectError(
            f"build() in project/model.py returned the class {model.__name__}, not a model of it",
            f"call it: return {model.__name__}(…)",
        )
    for family in _families():
        if family.takes(model):
            return family
    names = " or ".join(family.NAME for family in _families())
    raise ProjectError(
        f"build() in project/model.py returned {type(model).__name__}, which is no model that can be trained here",
        f"return an unfitted model of {names}: docs/models.md has an example of each",
    )


def _families() -> list[Family]:
    return [cast(Family, import_module(f"pipeline.formats.families.{name}")) for name in FAMILIES]


def classes_of(model: Any) -> Iterator[str]:
    """The full names of a model's class and of those that it inherits from."""
    return (f"{kind.__module__}.{kind.__qualname__}" for kind in type(model).__mro__)


def build(settings: Settings, parameters: Mapping[str, Any] | None = None) -> Any:
    """The team's unfitted model, made from [train.parameters] or from these; raises ProjectError."""
    given = settings.train.parameters if parameters is None else parameters
    with in_project("build() in project/model.py"):
        from project.model import build

        if torch := sys.modules.get("torch"):
            torch.manual_seed(settings.train.seed)  # a network draws its first weights when it is made
        return build(dict(given), settings.train.seed)


def fit(model: Any, dataset: Dataset, rows: np.ndarray) -> Any:
    """A model, fitted on the rows at these places; raises ProjectError, before the fit where that is known."""
    family = family_of(model)
    if why := family.unfit(model, dataset):
        raise ProjectError(f"{family.title(model)} cannot be trained: {why}", "correct project/model.py or the data")
    with in_project("fitting the model that build() in project/model.py returned"):
        return family.fit(model, dataset, training_on(dataset, rows))


def answer(fitted: Any, dataset: Dataset, rows: pd.DataFrame) -> np.ndarray:
    """The trained model's own answers: probabilities (n, k) or values (n,) in float64."""
    return family_of(fitted).answer(fitted, dataset, rows)


def refitted(
    settings: Settings, dataset: Dataset, parameters: Mapping[str, Any], fit_on: np.ndarray, judge: np.ndarray
) -> np.ndarray:
    """The answers of the team's model, fitted anew on the rows at some places, to the rows at others; raises ProjectError."""
    model = fit(build(settings, parameters), dataset, fit_on)
    return answer(model, dataset, dataset.features.iloc[judge])


def training_on(dataset: Dataset, rows: np.ndarray) -> Training:
    """What a fit on the rows at these places may use."""
    weights, groups = (None if given is None else given[rows] for given in (dataset.weights, dataset.groups))
    return Training(rows, dataset.settings.train.seed, stop_rows(dataset, rows), weights, groups)
