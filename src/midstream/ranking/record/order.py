"""Continuation order of a slate: the slates that follow it, chosen by the same rules on the same state.

Requests that continue a slate read this order, so they neither repeat an item nor miss one while state moves. Each
slate after the first is chosen among the remaining rows, with random numbers of its own from the seed.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from midstream.core.types import Mask, Order, Query, Selection

ORDER_MAX: Final = 200
"""Rows of an order, those of the slate among them: ten pages of twenty; 5 kB of a served record."""
TURNS_MAX: Final = 50
"""Slates after the first: of one item each fewer than ``ORDER_MAX``, as each costs a choice, 30 to 200 µs."""
_SEEDS = (1 << 63) - 1


def order_after(
    selection: Selection, query: Query, row_count: int, further: Callable[[Query, Mask], Selection]
) -> Order:
    """Return the rows that come after a slate.

    Args:
        selection: The slate.
        query: Its size is that of each slate after it; ``order_max`` rows are put in order at most.
        row_count: Number of the candidates.
        further: Chooses a slate for a query among the rows where a mask is true; its rows are numbered anew.

    Cost: that of a choice for each slate.
    """
    left = np.ones(row_count, dtype=np.bool_)
    left[selection.chosen] = False
    rows, propensities = [np.empty(0, dtype=np.intp)], [np.empty(0, dtype=np.float32)]
    lengths: list[int] = []
    wanted = query.order_max - len(selection.chosen)
    while wanted > 0 and len(lengths) < TURNS_MAX and left.any():
        seed = (query.seed + len(lengths) + 1) & _SEEDS
        found = further(replace(query, seed=seed, slate_size=min(query.slate_size, wanted)), left)
        if not len(found.chosen):
            break
        rows.append(np.flatnonzero(left)[found.chosen])
        propensities.append(found.propensity)
        lengths.append(len(found.chosen))
        left[rows[-1]] = False
        wanted -= lengths[-1]
    return Order(np.concatenate(rows), np.concatenate(propensities), tuple(lengths))
