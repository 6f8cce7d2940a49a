"""Blend of sources: a weighted reciprocal rank fusion, the scorer that cannot fail.

It uses ranks instead of scores, because the scores of two sources are not comparable. The offset decides how much the
first ranks of a list count against the others: with the 60 of the reference, made to fuse whole retrieval runs, the
first and the tenth rank are worth about the same; with 1 a rank is worth its reciprocal, as in the metrics of a slate.

Reference: G. V. Cormack, C. L. A. Clarke, S. Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual
    rank learning methods", SIGIR 2009.
"""

from collections.abc import Sequence
from typing import ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.traits import BOUNDED, Traits
from midstream.core.types import FeatureFrame, Models, Query, Score

RANK_OFFSET = 1.0
DEFAULT_WEIGHTS = {
    "session_knn": 1.0,
    "covisitation": 0.6,
    "trending": 0.05,
    "recent_items": 0.05,
    "popular": 0.04,
    "editorial": 0.04,
    "catalogue": 0.00001,
    "given": 0.0,
}
"""Offset and weights of session_knn, covisitation, trending and popular were chosen on validation parts
(docs/quality.md); the weight of recent_items follows that of trending. The first of trending, 0.05, ranks where the
20th of session_knn does, 1 / 20, the first of popular, 0.04, after the 24th. Popular's 1,000th, 0.04 / 1,000, still
ranks before items that only fill up, 0.00001. The caller's order of items to rank has weight 0 by default: it
decides between items of equal scores alone, so that an item's score does not depend on the others."""
OTHER_WEIGHT = 1.0
_RANK = "rank."


class Blend(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="blend"):
    """Sum over the sources of weight / (offset + rank), rank 0 = the source's best."""

    traits: ClassVar[Traits] = BOUNDED
    name: str = "blend"
    weights: dict[str, float] = {}
    """By the source's name; over ``DEFAULT_WEIGHTS``, and 1.0 for any other."""
    rank_offset: float = RANK_OFFSET
    """Number added to a rank; the smaller, the more the first ranks of each source count against its others."""

    def weight(self, source: str) -> float:
        """Return the weight of a source."""
        return self.weights.get(source, DEFAULT_WEIGHTS.get(source, OTHER_WEIGHT))

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        """Return a number a row; never NaN, because each candidate was proposed by one source at least."""
        ranks = [column for column, name in enumerate(features.names) if name.startswith(_RANK)]
        names = [features.names[column].removeprefix(_RANK) for column in ranks]
        return self.sum_of(names, features.values.T[ranks])

    def terms_of(self, names: Sequence[str], rank: Score) -> NDArray[np.float64]:
        """Return the term of each source for each candidate, (sources, n): 0 where it did not propose it."""
        weights = np.array([self.weight(name) for name in names], dtype=np.float64)
        place = np.fmin(rank, np.float32(np.inf)).astype(np.float64)  # what was not proposed is infinitely far down
        return weights[:, None] / (self.rank_offset + place)

    def sum_of(self, names: Sequence[str], rank: Score) -> Score:
        """Return the sum for each candidate, shape (n,).

        Args:
            names: Of the sources.
            rank: Ranks of each candidate, 0 = the source's best, NaN = not proposed; shape (sources, n).
        """
        part = self.terms_of(names, rank)
        total = np.zeros(rank.shape[1], dtype=np.float64)
        np.add.reduce(part, axis=0, out=total)  # row after row, in the order of the sources
        return total.astype(np.float32)
