"""Diversity: lowers items that are similar to the items above, by maximal marginal relevance or by a determinant.

Both subtract from the worth of candidate i, with scores brought to one range,

    worth_i − weight · (max worth − min worth) · cost_i

with 1 for the range where all have the same worth, so that similarity still decides (``range_of``).

``mmr``: cost_i = max over the items j above of S_ij.

``dpp``: cost_i = log d_i² / log ε, where d_i² is the factor by which i increases the determinant of the items above:
det S_{Y ∪ i} = det S_Y · d_i². Taking the best candidate position by position is the greedy search for the most
probable slate of a determinantal point process whose kernel weighs quality against diversity, θ Σ r + (1 − θ) log det
S. Unlike mmr it penalizes an item that combines two of the items above. With S = V Vᵀ for the items above, c_i solves V
c_i = S_{Y,i} and d_i² = S_ii − |c_i|²; when j is added, e_i = (S_ji − ⟨c_j, c_i⟩) / d_j is appended to c_i, and d_i²
loses e_i²: n · k multiplications a position.

S_ij is the share of common values of all values that two items have (Jaccard, which is positive semidefinite), or the
cosine of their vectors: unchanged for ``dpp``, and where it is above 0 for ``mmr``. ``dpp`` takes (1 − ε) S + ε I, so
that d_i² is never below ε, a duplicate of an item above costs nearly 1, and more duplicates never cost more than 1.

An item without a value is similar to no other.

Reference: J. Carbonell and J. Goldstein, "The use of MMR, diversity-based reranking for reordering documents and
    producing summaries", SIGIR 1998. L. Chen, G. Zhang, H. Zhou, "Fast Greedy MAP Inference for Determinantal Point
    Process to Improve Recommendation Diversity", NeurIPS 2018: section 3, equations 1 to 6, and its updates of c and d;
    the trade-off by θ of its section on recommendation. M. Bouchard, A.-L. Jousselme, P.-E. Doré, "A proof for the
    positive definiteness of the Jaccard index matrix", International Journal of Approximate Reasoning 54, 2013.
"""

from collections.abc import Callable
from typing import Annotated, Final, Literal, TypeAlias, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Score

Real: TypeAlias = NDArray[np.float64]
RULE: Final = "diversity"
"""Name of it in traces and metrics."""
_EPSILON: Final = 0.01
_FULL: Final = float(np.log(_EPSILON))


class Diversity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Similarity penalty: how much similarity to the items above lowers an item."""

    method: Literal["mmr", "dpp"] = "mmr"
    """``mmr`` looks at the likest item above, ``dpp`` at all of them together."""
    attribute: str
    """Of kind ``category``, ``tags`` or ``vector:n``."""
    weight: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.3
    """Near 0 = the score alone, 1 = a double of an item above is worth less than the worst candidate."""


def range_of(worth: Real, ranked: NDArray[np.intp]) -> float:
    """Return maximum less minimum worth of some candidates, 1 where they are equal.

    Args:
        worth: Of each candidate.
        ranked: Candidates that count, in descending order.
    """
    return float(worth[ranked[0]] - worth[ranked[-1]]) or 1.0 if len(ranked) else 1.0


class Likest:
    """Penalty by the most similar item above: ``mmr``."""

    def __init__(self, values: Index | Score) -> None:
        """Begin an empty slate of candidates with value codes (n, w), or vectors of length 1 or 0, (n, d)."""
        self._like = alike(values)
        self._is_one = is_of_one_value(values)
        self.cost: Real = np.zeros(len(values))
        """In ranges of the worth, 0 to 1, (n,)."""

    def take(self, at: int) -> bool:
        """Put a candidate on the slate; return whether anything costs more now."""
        if self._is_one and self.cost[at] == 1:  # and so is all that has its value
            return False
        np.maximum(self.cost, np.minimum(self._like(at), 1.0), out=self.cost)
        return True


class Volume:
    """Penalty by the determinant of the items above: ``dpp``."""

    def __init__(self, values: Index | Score, size: int) -> None:
        """Begin an empty slate of at most ``size`` places."""
        self._like = alike(values)
        self._factor: Real = np.empty((size, len(values)))
        self._left: Real = np.ones(len(values))
        self._taken = 0
        self.cost: Real = np.zeros(len(values))
        """In ranges of the worth, 0 to 1, (n,)."""

    def take(self, at: int) -> bool:
        """Put a candidate on the slate: one more row of the factor; return True, as it costs more now."""
        above = self._factor[: self._taken]
        like = (1 - _EPSILON) * self._like(at)
        like[at] = 1.0
        added = self._factor[self._taken]
        np.divide(like - above[:, at] @ above, np.sqrt(self._left[at]), out=added)
        self._taken += 1
        np.maximum(self._left - added * added, _EPSILON, out=self._left)
        np.divide(np.log(self._left), _FULL, out=self.cost)
        return True


def unlike(diversity: Diversity, values: Index | Score, size: int) -> Likest | Volume:
    """Return the penalty counter for one slate."""
    return Volume(values, size) if diversity.method == "dpp" else Likest(values)


def is_of_one_value(values: Index | Score) -> bool:
    """Return whether candidates have one value at most, so that two are alike or are not."""
    return values.dtype != np.float32 and values.shape[1] == 1


def alike(values: Index | Score) -> Callable[[int], Real]:
    """Return a function for the similarity of each row to one row, (n,): 0 to 1 by codes, -1 to 1 by vectors."""
    if values.dtype == np.float32:
        vectors = cast("Score", values)
        return lambda at: np.asarray(vectors @ vectors[at], dtype=np.float64)
    codes = np.ascontiguousarray(values.T)  # one pass over all rows a value
    if len(codes) == 1:
        return lambda at: ((codes[0] == codes[0, at]) & (codes[0] >= 0)).astype(np.float64)
    counts = (codes >= 0).sum(axis=0)

    def jaccard(at: int) -> Real:
        own = [value for value in codes[:, at].tolist() if value >= 0]
        common = np.zeros(len(counts))
        for value in own:
            common += (codes == value).any(axis=0)
        every = counts + len(own) - common
        np.divide(common, every, out=common, where=every > 0)
        return common

    return jaccard
