"""Checks of the two sides of the split where rows have weights, groups or times: what the model learns from, and is judged on."""

import numpy as np

from pipeline.data.checks import DataCheck
from pipeline.data.dataset import Dataset
from pipeline.data.holdout import shown

GROUPS = 20  # held out, below which the gate compares nothing: pipeline/comparison/registered.py


def examine(dataset: Dataset) -> list[DataCheck]:
    """Every check that the columns of pipeline.toml [data] allow. Raises DataError where there is no time to split by."""
    found = []
    if dataset.cut is not None:
        found.append(_times(dataset))
    if dataset.groups is not None:
        found.append(_groups(dataset, dataset.groups))
    if dataset.weights is not None:
        found.append(_weights(dataset, dataset.weights))
    return found


def _times(dataset: Dataset) -> DataCheck:
    name, held = dataset.settings.data.time, dataset.holdout
    observed = f"{(~held).sum()} rows before {shown(dataset.cut)}, and {held.sum()} from then on, which are held out"
    return DataCheck(name, "the newest rows are held out", "critical", True, observed)


def _groups(dataset: Dataset, groups: np.ndarray) -> DataCheck:
    """Groups on both sides, and enough of them held out."""
    name, held = dataset.settings.data.group, dataset.holdout
    learned, judged = (set(groups[side]) for side in (~held, held))
    counted = f"{len(learned)} groups to learn from, {len(judged)} held out"
    if dataset.cut is not None:
        counted += f"; {len(learned & judged)} have rows before and after the cut"
    rule = "both sides of the split have several groups"
    for side, some in (("training", learned), ("hold-out", judged)):
        if len(some) < 2:
            largest = float(np.unique(groups, return_counts=True)[1].max()) / len(groups)
            observed = (
                f"the {side} side has {len(some)} of {len(learned | judged)} groups (the largest has {largest:.0%} of the rows): name "
                "another column in pipeline.toml [data] group, or draw again with [split] salt"
            )
            return DataCheck(name, rule, "critical", False, observed)
    if len(judged) < GROUPS:
        observed = (
            f"{counted}: rows of one group count as one, so bounds are wide, and below {GROUPS} the gate does not compare with "
            "production; raise [split] holdout or add data"
        )
        return DataCheck(name, f"{GROUPS} groups or more are held out", "warning", False, observed)
    return DataCheck(name, rule, "critical", True, counted)


def _weights(dataset: Dataset, weights: np.ndarray) -> DataCheck:
    """Rows that count on both sides, of each class."""
    name, rule = dataset.settings.data.weight, "both sides of the split have rows that count"
    for side, rows in (("training", ~dataset.holdout), ("hold-out", dataset.holdout)):
        counting = rows & (weights > 0)
        absent = sorted(set(dataset.classes) - set(dataset.target[counting])) if dataset.classes else []
        if absent or not counting.any():
            what = f"class {absent[0]!r} has" if absent else "there is"
            observed = f"{what} no row with a weight above 0 on the {side} side"
            return DataCheck(name, rule, "critical", False, observed)
    held = weights[dataset.holdout]
    worth = held.sum() ** 2 / (held**2).sum()
    observed = f"from {weights.min():g} to {weights.max():g}; the {len(held)} held-out rows are worth {worth:.0f} of equal weight"
    return DataCheck(name, rule, "critical", True, observed)
