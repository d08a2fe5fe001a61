"""Categories unseen in training: the model answers them anyway, and the client gets a warning."""

from collections.abc import Sequence
from typing import Any

from serving.model.contract import Contract
from serving.model.features import shown
from serving.model.rows import MANY, Row


class Unseen:
    """Finds texts outside the categories that training saw, for the features whose categories the contract lists."""

    def __init__(self, contract: Contract):
        self.columns = [
            (position, column.name, frozenset([*column.observed.values, *([""] if column.nullable else [])]))
            for position, column in enumerate(contract.inputs)
            if column.type == "text" and column.observed is not None and column.observed.values is not None
        ]

    def one(self, row: Row) -> list[int]:
        """The indexes into `columns` that have an unseen text in this row."""
        return [number for number, (position, _, seen) in enumerate(self.columns) if row[position] not in seen]

    def many(self, rows: Sequence[Row]) -> tuple[list[int], list[dict[str, Any]]]:
        """For each of `columns` the number of rows with an unseen text, and warnings for the first of them, by row."""
        counts, found = [], []
        for number, (position, _, seen) in enumerate(self.columns):
            values = [row[position] for row in rows]
            odd = set(values) - seen
            places = [place for place, value in enumerate(values) if value in odd] if odd else []
            counts.append(len(places))
            found += [(place, number) for place in places[:MANY]]
        return counts, [self.warning(number, rows[row], row) for row, number in sorted(found)[:MANY]]

    def warning(self, number: int, row: Row, place: int | None = None) -> dict[str, Any]:
        """The warning to the client about an unseen text in one of `columns`."""
        position, name, _ = self.columns[number]
        where = {} if place is None else {"row": place}
        return {"feature": name, **where, "detail": f"{shown(row[position])} was not seen in training"}
