"""Which candidates are among given items."""

from typing import cast

import numpy as np

from midstream.core.types import Index, Mask

_ONE_BY_ONE_MAX = 8
"""Up to here one pass for each, 1 µs, is faster than a table of all pairs."""
_PAIRS_MAX = 40_000
"""Up to here comparing each with each (one byte a pair, about 10 µs) is faster than sorting."""


def among(item_index: Index, given: Index) -> Mask:
    """Return True for each of ``item_index``, shape (n,), that is in ``given``; -1 in ``given`` is no item."""
    if len(given) == 0:
        return np.zeros(len(item_index), dtype=np.bool_)
    if len(given) <= _ONE_BY_ONE_MAX:
        found = cast("Mask", item_index == given[0])
        for each in given[1:]:
            found |= item_index == each
        return found
    if len(given) * len(item_index) <= _PAIRS_MAX:
        return cast("Mask", (item_index[:, None] == given[None, :]).any(axis=1))
    return np.isin(item_index, given, kind="sort")
