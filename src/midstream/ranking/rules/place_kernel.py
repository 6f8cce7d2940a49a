"""The kernel that fills a whole slate by worth, caps and ``mmr`` where every candidate has one value of each attribute.

The choice of ``place_best``, position by position, of a slate without pins. How often a value was placed is counted
among the items above: there are no more than a slate has.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.state.structures.kernel import kernel

_FREE: Final = 0
_ALIKE: Final = 1
"""It has a value of an item above, and may still come."""
_GONE: Final = 2


class PlacingColumns(NamedTuple):
    """Columns of the candidates of one slate, best first, and what is written of them."""

    codes: Index
    """Value code of each cap's attribute, (caps, n), -1 = none."""
    maxima: NDArray[np.int64]
    """Of the caps, (caps,)."""
    values: Index
    """Code of the value that makes two alike, (n,), -1 = none."""
    worth: NDArray[np.float64]
    """Falling, each a number, (n,)."""
    chosen: NDArray[np.int64]
    """Candidates of the slate, (size,)."""
    state: NDArray[np.uint8]
    """Working room, (n,)."""
    full: NDArray[np.int64]
    """Number of the first cap that is full for a candidate, (n,), -1 = none."""
    passed_over: NDArray[np.bool_]
    """Who was the best by worth alone at a place, and did not come there, (n,)."""


@kernel
def is_like_above(placing: PlacingColumns, at: int, placed: int) -> bool:
    """Return whether an item above has the value of a candidate."""
    value = placing.values[at]
    if value < 0:
        return False
    found = False
    for place in range(placed):
        found = found or bool(placing.values[placing.chosen[place]] == value)
    return found


@kernel
def close_full(placing: PlacingColumns, placed: int) -> None:
    """Take out whoever has a value of which the last placed candidate was the last one that a cap allows."""
    last = placing.chosen[placed - 1]
    for cap in range(len(placing.maxima)):
        codes = placing.codes[cap]
        value = codes[last]
        if value < 0:
            continue
        count = 0
        for place in range(placed):
            count += codes[placing.chosen[place]] == value
        if count != placing.maxima[cap]:
            continue
        for at in range(len(placing.worth)):
            if codes[at] == value:
                placing.state[at] = _GONE
                if placing.full[at] < 0 or placing.full[at] > cap:
                    placing.full[at] = cap


@kernel
def place_all(placing: PlacingColumns, whole: float) -> int:
    """Choose the slate; return how many were placed: fewer than there are places where caps keep the others out.

    Args:
        placing: The candidates; ``chosen``, ``full`` and ``passed_over`` are written.
        whole: Worth that a likeness subtracts.
    """
    count, state, worth = len(placing.worth), placing.state, placing.worth
    for at in range(count):
        state[at] = _FREE
        placing.full[at] = -1
        placing.passed_over[at] = False
    ahead = 0  # the first that is like none above, once found
    behind = 0  # the first that is like one above, once found: those before ``ahead`` are alike or gone
    placed = 0
    while placed < len(placing.chosen):
        while ahead < count and (state[ahead] != _FREE or is_like_above(placing, ahead, placed)):
            if state[ahead] == _FREE:
                state[ahead] = _ALIKE
            ahead += 1
        while behind < ahead and state[behind] != _ALIKE:
            behind += 1
        at = ahead
        if behind < ahead:
            # Of equals the first in order, which is the one that is like one above.
            if ahead == count or worth[behind] - whole >= worth[ahead]:
                at = behind
            else:
                placing.passed_over[behind] = True
        if at == count:
            break
        state[at] = _GONE
        placing.chosen[placed] = at
        placed += 1
        close_full(placing, placed)
    return placed
