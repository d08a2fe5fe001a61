"""Your model: one function that returns it unfitted."""

from lightgbm import LGBMClassifier


def build(parameters: dict, seed: int) -> LGBMClassifier:
    """Return unfitted boosted trees.

    There is no preprocessing: text columns reach LightGBM as categories, and empty cells as empty, whose side it learns at each
    question. Small trees (num_leaves) of many customers each (min_child_samples) suit a few thousand rows. One thread: a fit of this
    size takes a second, and gives the same model everywhere.
    """
    return LGBMClassifier(
        **parameters, random_state=seed, deterministic=True, force_row_wise=True, n_jobs=1, verbose=-1
    )
