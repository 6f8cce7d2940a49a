"""The kernel that says how much of what an item has others have too: of categories, and of tags.

The share of pairs of one of an item's values and one of the others that has it: of a category, the share of the others
with the same one. So one count of each value is enough, and an item costs its own values, not those of all the others:
500 items with 16 tags beside 50 others take 10 µs; compared pair by pair it would be milliseconds.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.state.structures.kernel import kernel, signed


def shared_values(codes: Index, others: Index, asked: Index, *, is_among: bool) -> NDArray[np.float64]:
    """Return for each asked item the mean over its values of the share of the others that have it, (n,).

    Others without any value do not count. NaN = the item has no value, or none of the others has one.

    Args:
        codes: Value codes of all items, (items,) or (items, w), distinct in a row, -1 = none.
        others: Indices of items, (m,), -1 = one that has no value.
        asked: The same, (n,).
        is_among: The asked items are the others, one for one: each is compared with all but itself.
    """
    found = np.empty(len(asked), dtype=np.float64)
    _shared(codes if codes.ndim > 1 else codes[:, None], others, asked, is_among, found)
    return found


@kernel
def _shared(codes: Index, others: Index, asked: Index, is_among: bool, found: NDArray[np.float64]) -> None:  # noqa: FBT001  # a kernel
    """Count each value of the others once, in a table at most half full, then look those of the asked up."""
    size, width = 2, codes.shape[1]
    while size < 2 * len(others) * width:
        size *= 2
    mask, known = size - 1, 0
    held, counts = np.full(size, -1, dtype=np.int32), np.zeros(size, dtype=np.int32)
    for item in others:
        has_any = False
        for column in range(width if item >= 0 else 0):
            value = codes[item, column]
            if value >= 0:
                has_any = True
                at = signed(value) & mask
                while held[at] >= 0 and held[at] != value:
                    at = (at + 1) & mask
                held[at] = value
                counts[at] += 1
        known += has_any
    own = 1 if is_among else 0
    for k in range(len(asked)):
        values = shared = 0
        for column in range(width if asked[k] >= 0 else 0):
            value = codes[asked[k], column]
            if value >= 0:
                values += 1
                at = signed(value) & mask
                while held[at] >= 0 and held[at] != value:
                    at = (at + 1) & mask
                shared += counts[at] - own if held[at] >= 0 else 0
        found[k] = shared / (values * (known - own)) if values > 0 and known > own else np.nan
