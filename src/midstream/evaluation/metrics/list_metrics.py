"""Metrics of ranked lists with any number of relevant items: recall, NDCG, reciprocal rank, coverage, variety.

Accuracy metrics read a matrix of hits, computed once for all metrics and all k. A list is a row of items, best first,
padded with -1. A column has a number a list; NaN = it has no relevant item, so the metric is undefined.

Reference: K. Järvelin, J. Kekäläinen, "Cumulated Gain-Based Evaluation of IR Techniques", TOIS 2002 (NDCG, with the
discount 1 / log2(place + 2)); S. Vargas, P. Castells, "Rank and Relevance in Novelty and Diversity Metrics", RecSys
2011 (self-information, distance inside a list); H. Abdollahpouri et al., "Managing Popularity Bias in Recommender
Systems with Personalized Re-ranking", FLAIRS 2019 (average popularity).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from midstream.core.types import Index
from midstream.evaluation.metrics.metrics import Values

Hits = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class RelevantItems:
    """Relevant items of each list, one list after another, each once."""

    item: Index
    """-1 = an item outside of the vocabulary: it cannot be found, and counts as relevant."""
    start: NDArray[np.int64]
    """Index of the first item of each list, and their number in all, (n + 1,)."""

    def __len__(self) -> int:
        """Return the number of lists."""
        return len(self.start) - 1

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "RelevantItems":
        """Return the relevant items of each list; a repeated one counts once."""
        # Each unknown item is one of its own.
        each = [{~at if item < 0 else item: item for at, item in enumerate(row)}.values() for row in rows]
        start = np.cumsum([0, *(len(row) for row in each)], dtype=np.int64)
        return cls(np.array([item for row in each for item in row], dtype=np.int32), start)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of relevant items of each list, (n,)."""
        return np.diff(self.start)

    @property
    def list_number(self) -> NDArray[np.intp]:
        """The list of each relevant item, (items,)."""
        return np.repeat(np.arange(len(self)), self.counts)

    def only(self, kept: NDArray[np.bool_]) -> "RelevantItems":
        """Return the items marked True alone, (items,)."""
        counts = np.bincount(self.list_number[kept], minlength=len(self))
        return RelevantItems(self.item[kept], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def hits_of(lists: Index, wanted: RelevantItems) -> Hits:
    """Return which places hold a right item, (n, k).

    Cost: a sort of the right items and a search a place.
    """
    size = int(max(lists.max(initial=-1), wanted.item.max(initial=-1))) + 1
    is_known = wanted.item >= 0
    right = np.sort(wanted.list_number[is_known] * size + wanted.item[is_known])
    if len(right) == 0:
        return np.zeros(lists.shape, dtype=np.bool_)
    asked = np.arange(len(lists))[:, None] * size + lists
    place = np.minimum(np.searchsorted(right, asked), len(right) - 1)
    return np.asarray((right[place] == asked) & (lists >= 0), dtype=np.bool_)


def _known(values: Values, right: NDArray[np.int64]) -> Values:
    """Return the values where something is right, else NaN."""
    return np.where(right > 0, values, np.nan)


def hit_rate(hits: Hits, right: NDArray[np.int64], k: int) -> Values:
    """Return 1 where a relevant item is among the first k, else 0: HR@k.

    Args:
        hits: True at positions with a relevant item, (n, at least k).
        right: Number of relevant items of each list, (n,).
        k: Positions that count.
    """
    return _known(np.asarray(hits[:, :k].any(axis=1), dtype=np.float64), right)


def recall(hits: Hits, right: NDArray[np.int64], k: int) -> Values:
    """Return the share of the right items that are among the first k: Recall@k. Arguments as ``hit_rate``."""
    found: Values = hits[:, :k].sum(axis=1, dtype=np.float64)
    return _known(found / np.maximum(right, 1), right)


def precision(hits: Hits, right: NDArray[np.int64], k: int) -> Values:
    """Return the share of k places that hold a right item, however long the list. Arguments as ``hit_rate``."""
    return _known(hits[:, :k].sum(axis=1) / k, right)


def ndcg(hits: Hits, right: NDArray[np.int64], k: int) -> Values:
    """Return the discounted gain of the first k places over that of min(right, k) first places. As ``hit_rate``."""
    discount = 1.0 / np.log2(np.arange(k) + 2.0)
    found = hits[:, :k]
    gain: Values = np.where(found, discount[: found.shape[1]], 0.0).sum(axis=1)
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(right, k)]
    return _known(gain / np.where(right > 0, ideal, 1.0), right)


def first_reciprocal(hits: Hits, right: NDArray[np.int64], k: int) -> Values:
    """Return 1 / number of the first place that holds a right item, 0 beyond k: MRR@k. Arguments as ``hit_rate``."""
    found = hits[:, :k]
    first = found.argmax(axis=1) + 1.0 if found.shape[1] else np.ones(len(found))
    return _known(np.where(found.any(axis=1), 1.0 / first, 0.0), right)


def average_precision(hits: Hits, right: NDArray[np.int64], k: int) -> Values:
    """Return the sum of the precisions at each hit over the number of relevant items: MAP@k. As ``hit_rate``.

    Divided by all relevant items, not by min(relevant, k), as in TREC: the maximum of a list of k can be below 1.
    """
    found = hits[:, :k]
    so_far: Values = np.asarray(found, dtype=np.float64).cumsum(axis=1)
    place: Values = np.arange(1, found.shape[1] + 1, dtype=np.float64)
    at_place: Values = np.divide(so_far, place)
    total: Values = np.where(found, at_place, 0.0).sum(axis=1)
    return _known(total / np.maximum(right, 1), right)


ListMetric = Callable[[Hits, NDArray[np.int64], int], Values]
ACCURACY: Mapping[str, ListMetric] = {
    "HR": hit_rate,
    "recall": recall,
    "precision": precision,
    "NDCG": ndcg,
    "MRR": first_reciprocal,
    "MAP": average_precision,
}
"""By the name that reports have for them."""


def novelty(lists: Index, acted: NDArray[np.int64], users: int) -> Values:
    """Return the mean self-information of each list's items, in bits: -log2 of the share of users who acted on it.

    Args:
        lists: Items, (n, k).
        acted: Number of users with each item in the train data, (items,); 0 counts as 1.
        users: Number of users.

    Returns:
        A number a list, NaN where it is empty.
    """
    return _mean_of(lists, -np.log2(np.maximum(acted, 1) / max(users, 1)))


def average_popularity(lists: Index, acted: NDArray[np.int64]) -> Values:
    """Return the mean number of users who acted on the items of each list: ARP. NaN where a list is empty."""
    return _mean_of(lists, acted.astype(np.float64))


def attribute_diversity(lists: Index, attributes: csr_matrix) -> Values:
    """Return 1 less the mean Jaccard index over all pairs of a list, by sets of attributes.

    Args:
        lists: Items, (n, k).
        attributes: Which item has which, (items, attributes); anything but 0 is one.

    Returns:
        A number a list; two items without any attribute are alike in nothing. NaN for fewer than two items.
    """
    has = attributes.astype(bool).astype(np.float64)
    size = np.asarray(has.sum(axis=1)).ravel()
    alike = np.zeros(len(lists))
    for first in range(lists.shape[1]):
        for second in range(first + 1, lists.shape[1]):
            both = np.flatnonzero((lists[:, first] >= 0) & (lists[:, second] >= 0))
            one, other = lists[both, first], lists[both, second]
            shared = np.asarray(has[one].multiply(has[other]).sum(axis=1)).ravel()
            alike[both] += shared / np.maximum(size[one] + size[other] - shared, 1)
    pairs = _pairs(lists)
    return np.where(pairs > 0, 1 - alike / np.maximum(pairs, 1), np.nan)


def _mean_of(lists: Index, worth: NDArray[np.float64]) -> Values:
    """Return the mean value of each list's items."""
    there = lists >= 0
    total = np.where(there, worth[np.maximum(lists, 0)], 0.0).sum(axis=1) if len(worth) else np.zeros(len(lists))
    count = there.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _pairs(lists: Index) -> Values:
    """Return the number of pairs of items of each list."""
    count: Values = (lists >= 0).sum(axis=1).astype(np.float64)
    return np.asarray(count * (count - 1) / 2, dtype=np.float64)
