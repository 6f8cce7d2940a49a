"""Hot lists: the heat of each item in several rows, and the items with the most of it in each, as events add to it.

A row is a half-life, or a segment. The lists are no state of their own (``state.structures.top_list``): they follow
from heat and from which items are eligible.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Mask
from midstream.state.structures.kernel import kernel
from midstream.state.structures.top_list import (
    COMPLETE,
    LENGTH,
    Hashes,
    State,
    Sums,
    build_list,
    drop_item,
    raise_item,
)


class HotColumns(NamedTuple):
    """Arrays in which kernels read which items may be served, and the lists of items with a clock of their heat."""

    available: Mask
    clock: NDArray[np.int64]
    values: Sums
    items: Index
    states: NDArray[np.int64]


class HotLists:
    """Heat and lists of all rows."""

    def __init__(self, rows: int, items_max: int, hot_items_max: int) -> None:
        """Reserve the maximum; pages are paid when touched.

        Args:
            rows: Of heat.
            items_max: Items.
            hot_items_max: Length of the longest answer. A list holds twice as many, so that it is built anew after as
                many removals at the earliest.
        """
        self._hot_items_max = hot_items_max
        self.heat = np.zeros((rows, items_max), dtype=np.float64)
        self.values = np.zeros((rows, 2 * hot_items_max), dtype=np.float64)
        self.items = np.zeros((rows, 2 * hot_items_max), dtype=np.int32)
        self.states = np.zeros((rows, 2), dtype=np.int64)
        self.states[:, COMPLETE] = 1
        self.columns = (self.heat, self.values, self.items, self.states)
        """As the kernels are given them."""

    @property
    def nbytes(self) -> int:
        """Memory of heat and lists when every page has been touched."""
        return self.heat.nbytes + self.values.nbytes + self.items.nbytes

    @property
    def list_bytes(self) -> int:
        """Memory of one list."""
        return (self.values.itemsize + self.items.itemsize) * self.values.shape[1]

    def build(self, eligible: Mask, count: int, item_hash: Hashes) -> None:
        """Build every list from the heat of the first ``count`` items."""
        for heat, values, items, state in zip(*self.columns, strict=True):
            build_list(values, items, state, heat, eligible, count, item_hash)

    def longest(self, limit: int) -> int:
        """Return how many of ``limit`` items an answer has at most."""
        return min(limit, self._hot_items_max)

    def hottest(self, row: int, limit: int) -> Index:
        """Return the eligible items with the most heat in a row, best first; equal ones by id hash.

        At most ``hot_items_max`` come back, and fewer when fewer have any heat there.
        """
        length = max(min(self.longest(limit), int(self.states[row, LENGTH])), 0)
        return self.items[row, :length].copy()


@kernel
def rescale_heat(
    factor: float,
    count: int,
    heat: Sums,
    eligible: Mask,
    values: Sums,
    items: Index,
    state: State,
    item_hash: Hashes,
) -> None:
    """Multiply the heat of the first ``count`` items in one row. Cost: about 1 ms for 200,000 items."""
    heat[:count] *= factor
    # Sums that were apart may now both be 0, so the order is found anew.
    build_list(values, items, state, heat, eligible, count, item_hash)


@kernel
def switch_item(
    item: int,
    rows: int,
    count: int,
    eligible: Mask,
    heat: Sums,
    values: Sums,
    items: Index,
    states: NDArray[np.int64],
    item_hash: Hashes,
) -> None:
    """Bring the first ``rows`` lists in line with what ``eligible`` of one item has just become."""
    for row in range(rows):
        value = heat[row, item]
        if value <= 0.0:
            continue
        if eligible[item]:
            raise_item(values[row], items[row], states[row], item, 0.0, value, item_hash)
        elif drop_item(values[row], items[row], states[row], item, value, item_hash):
            build_list(values[row], items[row], states[row], heat[row], eligible, count, item_hash)
