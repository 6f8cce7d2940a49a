"""Metrics of next-item lists, one number a question.

A rank is 0 for the first position and -1 where the right item is not in the list. A list is a row of item indices, best
first, padded with -1. All metrics here are of lists ranked over everything that may be recommended, never over a sample
of it.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index

Values = NDArray[np.float64]
Ranks = NDArray[np.int32]


def rank_of(lists: Index, wanted: Index) -> Ranks:
    """Return the rank of each right item in its list, shape (n,).

    Args:
        lists: Item indices, shape (n, k), padded with -1.
        wanted: The right item of each list, shape (n,); -1 = an unknown item, never found.
    """
    found = (lists == wanted[:, None]) & (wanted >= 0)[:, None]
    place = found.argmax(axis=1).astype(np.int32) if lists.shape[1] else np.zeros(len(lists), np.int32)
    return np.where(found.any(axis=1), place, np.int32(-1)).astype(np.int32)


def hit(rank: Ranks, k: int) -> Values:
    """Return 1 where the wanted item is among the first k, else 0: HR@k, and Recall@k with one wanted item."""
    return ((rank >= 0) & (rank < k)).astype(np.float64)


def reciprocal_rank(rank: Ranks, k: int) -> Values:
    """Return 1 for the first place, 1/2 for the second, 0 beyond k: MRR@k."""
    return hit(rank, k) / (np.maximum(rank, 0) + 1.0)


def discounted_gain(rank: Ranks, k: int) -> Values:
    """Return 1 / log2(rank + 2), 0 beyond k: NDCG@k with one relevant item, whose ideal gain is 1."""
    return hit(rank, k) / np.log2(np.maximum(rank, 0) + 2.0)


def coverage(lists: Index, item_count: int) -> float:
    """Return the share of ``item_count`` items that are in one list at least; NaN when there are no items."""
    if item_count == 0:
        return float("nan")
    return len(np.unique(lists[lists >= 0])) / item_count
