"""Inputs of the query as columns: a reader is a frozen value that fills all of its columns for all candidates.

Equal readers are one, so a reader that several features declare runs once a request. A reader reads and never writes
state, and leaves missing values NaN.
"""

from typing import Protocol

import numpy as np

from midstream.core.types import Candidates, Index, Moment
from midstream.state.expressions.program import Columns, Expression, Input, column
from midstream.state.items.items import Items


class Reader(Protocol):
    """Fills columns. Hashable: two with the same options are equal."""

    @property
    def rows(self) -> int:
        """Number of columns."""
        ...

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Write the values of the candidates into ``found`` (rows, n), which is all NaN."""
        ...


def columns_from(reader: Reader) -> tuple[Expression, ...]:
    """Return the columns that a reader fills."""
    rows = reader.rows
    return tuple(column(Input(reader, row, rows)) for row in range(rows))


def at_items(items: Items, attribute: str, item_index: Index) -> Columns:
    """Return a number or boolean (1, 0) attribute of items, (n,); NaN = missing, or the index is -1."""
    if items.kind(attribute) == "boolean":
        found = items.boolean(attribute).take(item_index).astype(np.float64)
        found[found < 0] = np.nan
    else:
        found = items.number(attribute).take(item_index)
    if len(item_index) and item_index.min() < 0:
        found[item_index < 0] = np.nan
    return found


def looked_up(items: Index, values: Columns, item_index: Index) -> Columns:
    """Return the value of each of ``item_index`` (n,) from those of distinct items; NaN = not among them."""
    if not len(items):
        return np.full(len(item_index), np.nan)
    order = np.argsort(items, kind="stable")
    at = np.minimum(np.searchsorted(items[order], item_index), len(items) - 1)
    place = order[at]
    return np.where(items[place] == item_index, values[place], np.nan)
