"""Your model: one function that returns it unfitted."""

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def build(parameters: dict, seed: int) -> Pipeline:
    """Return an unfitted scikit-learn estimator made from pipeline.toml's [train.parameters]; take all randomness from `seed`."""
    return make_pipeline(
        StandardScaler(),
        LogisticRegression(**parameters, max_iter=1000, random_state=seed),
    )
