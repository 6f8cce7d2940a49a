"""The scorer that cannot fail: a weighted sum over the sources' ranks.

Ranks, not scores, because the scores of two sources have nothing in common. With 60 in the denominator the first and
the tenth place of one source are worth about the same, so an item that two sources propose comes before one that only
a single source puts first.

Reference: G. V. Cormack, C. L. A. Clarke, S. Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual
rank learning methods", SIGIR 2009.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from midstream.core.types import FeatureFrame, Models, Query, Score

RANK_OFFSET = 60.0
DEFAULT_WEIGHTS = {
    "session_knn": 1.0,
    "covisitation": 0.5,
    "trending": 0.05,
    "recent_items": 0.05,
    "popular": 0.02,
    "editorial": 0.02,
    "catalogue": 0.001,
}
"""A session's own neighbours come first: the 200th of them is worth 1 / 259, more than the first of trending with
0.05 / 60 = 1 / 1,200; trending's 50th, 0.05 / 109, comes before popular's first, 0.02 / 60, and popular's 1,000th,
0.02 / 1,059, before what only fills up, 0.001 / 60. Two neighbouring places of session_knn differ by 1 / 3,600 only, so
0.2 for trending would lift its items over ten places and more: covisitation, trending and popular were chosen on
validation parts (docs/quality.md), the others follow them; what is new stands beside what is trending."""
OTHER_WEIGHT = 1.0
_RANK = "rank."


class Blend(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="blend"):
    """Sum over the sources of weight / (offset + rank), rank 0 = the source's best."""

    name: str = "blend"
    weights: dict[str, float] = {}
    """By the source's name; over ``DEFAULT_WEIGHTS``, and 1.0 for any other."""
    rank_offset: float = RANK_OFFSET
    """What is added to a place; the smaller, the more the first places of each source count against its others."""

    def weight(self, source: str) -> float:
        """Return the weight of a source."""
        return self.weights.get(source, DEFAULT_WEIGHTS.get(source, OTHER_WEIGHT))

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        """Return a number a row; never NaN, because each candidate was proposed by one source at least."""
        ranks = [column for column, name in enumerate(features.names) if name.startswith(_RANK)]
        names = [features.names[column].removeprefix(_RANK) for column in ranks]
        return self.sum_of(names, features.values.T[ranks])

    def sum_of(self, names: Sequence[str], rank: Score) -> Score:
        """Return the sum for each candidate, shape (n,).

        Args:
            names: Of the sources.
            rank: Their places for each candidate, 0 = the source's best, NaN = not proposed; shape (sources, n).
        """
        weights = np.array([self.weight(name) for name in names], dtype=np.float64)
        part = weights[:, None] / (self.rank_offset + rank.astype(np.float64))
        part[part != part] = 0.0  # noqa: PLR0124  NaN: not proposed by this source
        total = np.zeros(rank.shape[1], dtype=np.float64)
        np.add.reduce(part, axis=0, out=total)  # row after row, in the order of the sources
        return total.astype(np.float32)
