"""Feature columns as the one matrix that a network takes, in Python and as the front of an ONNX graph.

A column of numbers is one column of the matrix, with NaN where it is empty. A column of text is one column of zeros and ones for each
text that training saw; any other text is all zeros.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

MOST = 200  # texts of one column: beyond, they are names or sentences and no categories


@dataclass(frozen=True)
class Columns:
    """The columns in order: None for numbers, else the texts that have a column each."""

    categories: dict[str, tuple[str, ...] | None]

    @property
    def width(self) -> int:
        """The columns of the matrix."""
        return sum(1 if texts is None else len(texts) for texts in self.categories.values())

    @property
    def of_numbers(self) -> np.ndarray:
        """Which columns of the matrix hold numbers, shape (width,)."""
        parts = [[True] if texts is None else [False] * len(texts) for texts in self.categories.values()]
        return np.array([one for part in parts for one in part], dtype=bool)

    @property
    def has_text(self) -> bool:
        """Whether any column is text."""
        return any(texts is not None for texts in self.categories.values())

    def matrix(self, rows: pd.DataFrame) -> np.ndarray:
        """Feature rows as float64 (n, width); raises KeyError for a missing column, ValueError for text among numbers."""
        return np.concatenate([_of(rows[name], texts) for name, texts in self.categories.items()], axis=1)


def learn(kinds: Mapping[str, str], rows: pd.DataFrame) -> Columns:
    """The columns with the texts that these rows have."""
    return Columns({name: tuple(sorted(set(rows[name]))) if kind == "text" else None for name, kind in kinds.items()})


def too_many(columns: Columns) -> str:
    """The first column with too many texts for a column each, in words, or ""."""
    for name, texts in columns.categories.items():
        if texts is not None and len(texts) > MOST:
            return f"the column {name!r} has {len(texts)} different texts, and a network takes at most {MOST}"
    return ""


def _of(column: pd.Series, texts: tuple[str, ...] | None) -> np.ndarray:
    if texts is None:
        return column.to_numpy(dtype=np.float64)[:, None]
    return (column.to_numpy(dtype=object)[:, None] == np.array(texts, dtype=object)).astype(np.float64)


def put_in_front(graph: Any, columns: Columns) -> None:
    """Give an ONNX model that takes `features` (n, width) in float64 the inputs f0, f1, … (n, 1), one for each column, instead."""
    from onnx import TensorProto, helper

    nodes, parts, given = [], [], []
    for place, texts in enumerate(columns.categories.values()):
        name = f"f{place}"
        kind = TensorProto.DOUBLE if texts is None else TensorProto.STRING
        given.append(helper.make_tensor_value_info(name, kind, ["rows", 1]))
        if texts is None:
            parts.append(name)
            continue
        encode = helper.make_node(
            "OneHotEncoder",
            [name],
            [f"{name}_encoded"],
            f"{name}_encode",
            domain="ai.onnx.ml",
            cats_strings=texts,
            zeros=1,
        )
        shape = helper.make_tensor(f"{name}_shape", TensorProto.INT64, [2], [-1, len(texts)])
        flatten = helper.make_node("Reshape", [f"{name}_encoded", shape.name], [f"{name}_flat"], f"{name}_flatten")
        cast = helper.make_node("Cast", [f"{name}_flat"], [f"{name}_numbers"], f"{name}_cast", to=TensorProto.DOUBLE)
        graph.graph.initializer.append(shape)
        nodes += [encode, flatten, cast]
        parts.append(f"{name}_numbers")
    nodes.append(helper.make_node("Concat", parts, ["features"], "features_together", axis=1))
    rest = list(graph.graph.node)
    del graph.graph.node[:], graph.graph.input[:]
    graph.graph.node.extend([*nodes, *rest])
    graph.graph.input.extend(given)
    if columns.has_text:
        graph.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
