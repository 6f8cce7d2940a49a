"""The kernel that says how much of what an item has others have too: of categories, and of tags.

The share of pairs of one of an item's values and one of the others that has it: of a category, the share of the others
with the same one. So one count of each value is enough, and an item costs its own values, not those of all the others:
500 items with 16 tags beside 50 others take 10 µs; compared pair by pair it would be milliseconds.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.state.kernel import kernel


def shared_values(others: Index, asked: Index, *, is_among: bool) -> NDArray[np.float64]:
    """Return for each asked item the mean over its values of the share of the others that have it, (n,).

    Others without any value do not count. NaN = the item has no value, or none of the others has one.

    Args:
        others: Value codes (m, w), distinct in a row, -1 = none.
        asked: Value codes (n, w) of the items.
        is_among: The asked items are the others, row for row: each is compared with all but itself.
    """
    found = np.full(len(asked), np.nan)
    counts = np.zeros(int(others.max(initial=-1)) + 1, dtype=np.int32)
    _shared(others, asked, is_among, counts, found)
    return found


@kernel
def _shared(others: Index, asked: Index, is_among: bool, counts: Index, found: NDArray[np.float64]) -> None:  # noqa: FBT001  # a kernel
    known = 0
    for row in range(len(others)):
        has_any = False
        for value in others[row]:
            if value >= 0:
                has_any = True
                counts[value] += 1
        known += has_any
    own = 1 if is_among else 0
    for row in range(len(asked)):
        values = 0
        shared = 0
        for value in asked[row]:
            if value >= 0:
                values += 1
                if value < len(counts):
                    shared += counts[value] - own
        if values > 0 and known > own:
            found[row] = shared / (values * (known - own))
