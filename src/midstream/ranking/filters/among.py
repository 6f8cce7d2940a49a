"""Filter that keeps the given items alone."""

from typing import cast

import numpy as np

from midstream.core.types import Index, Mask

_PAIRS_MAX = 40_000
"""Maximum of pairwise comparisons (one byte a pair, 1 µs a thousand); beyond it sorting is faster."""


def among(item_index: Index, given: Index) -> Mask:
    """Return True for each of ``item_index``, shape (n,), that is in ``given``; -1 in ``given`` is no item."""
    if len(given) == 0:
        return np.zeros(len(item_index), dtype=np.bool_)
    if len(given) == 1:
        return cast("Mask", item_index == given[0])
    if len(given) * len(item_index) <= _PAIRS_MAX:
        # A row for each of the given: many items at a time are compared and put together, not a few given ones.
        return cast("Mask", np.logical_or.reduce(item_index == given[:, None], axis=0))
    return np.isin(item_index, given, kind="sort")
