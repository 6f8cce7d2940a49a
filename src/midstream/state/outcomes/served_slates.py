"""Slates of the served events of a batch: one walk of each record, for every table that reads them."""

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import ServedSlates
from midstream.state.outcomes.served_parser import BINS, COUNT, SPANS, find_slates, hash_ids
from midstream.state.structures.hashing import IdKey

SLATE_ITEMS_MAX = 1_000
"""Positions of a slate: ten times what a placement may serve; one with more is not read."""
Numbers = NDArray[np.int64]


def read_slates(
    rows: NDArray[np.void], text: NDArray[np.uint8], served: Numbers, key: IdKey
) -> tuple[Numbers, ServedSlates]:
    """Return the spans of what served events say, and their slates.

    Args:
        rows: Of the batch.
        text: Of the batch.
        served: Places of the served events, rising, (m,).
        key: Of ids.

    Returns:
        As ``find_slates`` finds them, (m, ``SPANS``), without a slate where there are too many items; and the slates.
    """
    spans = np.zeros((len(served), SPANS), dtype=np.int64)
    starts = np.zeros(len(served) + 1, dtype=np.int64)
    if len(served):
        find_slates(rows, text, served, spans)
        spans[spans[:, COUNT] > SLATE_ITEMS_MAX, COUNT] = -1
        np.cumsum(np.maximum(spans[:, COUNT], 0), out=starts[1:])
    items = np.empty(starts[-1], dtype=np.uint64)
    if len(served):  # also when all of them are empty, as that of the warm-up is
        hash_ids(text, spans, starts, key, items)
    return spans, ServedSlates(served, starts, items, spans[:, BINS].copy())
