"""Your model: one function that returns it unfitted."""

from typing import Any


def build(parameters: dict, seed: int) -> Any:
    """Return an unfitted scikit-learn estimator made from pipeline.toml's [train.parameters]; take all randomness from `seed`."""
    raise NotImplementedError(
        "write build() in project/model.py: return a model, for example LogisticRegression(**parameters, random_state=seed)"
    )
