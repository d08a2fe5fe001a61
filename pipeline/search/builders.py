"""The functions that make models, by name: build() of the project, its MODELS, and simple models for any table to stand beside them."""

from collections.abc import Mapping
from typing import Any

from pipeline.data.dataset import Dataset, Kind
from pipeline.errors import ProjectError, in_project
from pipeline.search.scoring import Builder

BUILD = "build()"
DUMMY = "dummy"


def known(dataset: Dataset) -> dict[str, Builder]:
    """Every builder: build(), and what it is compared with. Raises ProjectError where project/model.py cannot be imported."""
    with in_project("importing project/model.py"):
        from project.model import build

    return {BUILD: build, **beside(dataset)}


def beside(dataset: Dataset) -> dict[str, Builder]:
    """What build() is compared with: MODELS in project/model.py, or else simple models for this task; and a dummy."""
    own = of_project()
    return {DUMMY: _Simple(DUMMY, dataset).build} | (
        own if own is not None else {name: _Simple(name, dataset).build for name in SIMPLE}
    )


def of_project() -> dict[str, Builder] | None:
    """MODELS of project/model.py by name, or None; raises ProjectError where it is no such thing."""
    with in_project("importing project/model.py"):
        import project.model

    own = getattr(project.model, "MODELS", None)
    if own is None:
        return None
    then = 'write MODELS = {"forest": forest} with functions like build(parameters, seed)'
    if not isinstance(own, Mapping) or not own:
        raise ProjectError(f"MODELS in project/model.py is {type(own).__name__}, not a dict of functions", then)
    for name, builder in own.items():
        if not isinstance(name, str) or name in (BUILD, DUMMY) or not callable(builder):
            raise ProjectError(f"MODELS in project/model.py: {name!r} is no name of a function there", then)
    return dict(own)


SIMPLE = ("linear", "random forest", "gradient boosting")


class _Simple:
    """A simple model of scikit-learn for the columns of a data set; its parameters are the library's defaults."""

    def __init__(self, name: str, dataset: Dataset):
        self.name, self.kinds, self.classes = name, dict(dataset.kinds), bool(dataset.classes)

    def build(self, _: dict[str, Any], seed: int) -> Any:
        """Return it unfitted."""
        from sklearn import dummy, ensemble, linear_model
        from sklearn.pipeline import make_pipeline

        match self.name, self.classes:
            case "dummy", True:
                return dummy.DummyClassifier(strategy="prior")
            case "dummy", False:
                return dummy.DummyRegressor()
            case "linear", True:
                return make_pipeline(_columns(self.kinds), linear_model.LogisticRegression(max_iter=2000))
            case "linear", False:
                return make_pipeline(_columns(self.kinds), linear_model.Ridge())
            case "random forest", True:
                return make_pipeline(_columns(self.kinds), ensemble.RandomForestClassifier(random_state=seed))
            case "random forest", False:
                return make_pipeline(_columns(self.kinds), ensemble.RandomForestRegressor(random_state=seed))
            case _, True:
                return make_pipeline(_columns(self.kinds), ensemble.HistGradientBoostingClassifier(random_state=seed))
            case _:
                return make_pipeline(_columns(self.kinds), ensemble.HistGradientBoostingRegressor(random_state=seed))


def _columns(kinds: Mapping[str, Kind]) -> Any:
    """Numbers with empty cells filled and scaled, texts as columns of zeros and ones."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = [name for name, kind in kinds.items() if kind != "text"]
    texts = [name for name, kind in kinds.items() if kind == "text"]
    scaled = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    coded = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=30, sparse_output=False)
    return make_column_transformer((scaled, numbers), (coded, texts))
