"""Exact nearest neighbours by cosine among the eligible rows of a column of vectors that changes with every event.

There is nothing to build: a row that was written is found by the next scan, and one that is not eligible is not read.
Products are added up in the order of ``simd_dot``, so a score has the same bits on every CPU, wherever the row lies and
whatever else is asked. Rows of equal scores come by their hashes, also at the end of the answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Mask, Score
from midstream.models.kernels.cosine_kernels import scan_directions, score_rows
from midstream.models.kernels.top_k import answer_of
from midstream.models.kernels.top_k_kernels import frozen


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """A column of vectors by row, as it is at one moment."""

    vectors: Score
    """(m, d)."""
    scale: Score
    """Inverse length of each, (m,); 0 = no direction."""
    hashes: NDArray[np.uint64]
    """By which rows of equal scores are put in order, (m,)."""

    def nearest(self, direction: Score, eligible: Mask, k: int) -> tuple[Index, Score]:
        """Return the k eligible rows of the highest cosine with a direction (d,), best first, equal ones by hash.

        Args:
            direction: Of ``direction_of``.
            eligible: Of the first n rows.
            k: At most so many; less than 1 gives none.

        Cost: n × d at the rate of memory.
        """
        wanted = min(k, len(eligible))
        if wanted < 1:
            return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
        query, vectors, scale = frozen(direction[None, :]), frozen(self.vectors), frozen(self.scale)
        # One more than is wanted: where its score is the last one's, hashes decide among all of that score.
        more = min(wanted + 1, len(eligible))
        keys = np.empty(min(2 * more, len(eligible)), dtype=np.int64)
        filled = scan_directions(query, vectors, scale, frozen(eligible), more, keys)
        rows, _ = answer_of(keys[:filled], more)
        score = self.cosines(direction, rows)
        if len(rows) > wanted and score[wanted] == score[wanted - 1]:
            rows, score = self._decided(direction, eligible, score[wanted - 1], wanted)
        return self.in_order(rows, score, wanted)

    def _decided(self, direction: Score, eligible: Mask, last: np.float32, k: int) -> tuple[Index, Score]:
        """Return the k best where several rows have the last score: of those the ones of the lowest hashes."""
        rows = np.flatnonzero(eligible).astype(np.int32)
        score = self.cosines(direction, rows)
        above, equal = rows[score > last], rows[score == last]
        room = k - len(above)
        lowest = equal[np.argpartition(self.hashes[equal], room - 1)[:room]]
        chosen = np.concatenate((above, lowest)).astype(np.int32)
        return chosen, np.concatenate((score[score > last], np.full(room, last))).astype(np.float32)

    def cosines(self, direction: Score, rows: Index) -> Score:
        """Return the cosine of a direction (d,) and each of some rows, (r,); NaN where there is none."""
        found = np.empty(len(rows), dtype=np.float32)
        query = frozen(direction[None, :])
        score_rows(query, frozen(self.vectors), frozen(self.scale), np.array(rows, dtype=np.int32), found)
        return found

    def in_order(self, rows: Index, score: Score, k: int) -> tuple[Index, Score]:
        """Return the k best of some rows, best first, equal ones by hash."""
        order = np.lexsort((self.hashes[rows], -score))[:k]
        return rows[order], score[order]

    def mean(self, rows: Sequence[int], weights: Sequence[float]) -> Score | None:
        """Return the direction of the weighted sum of some rows' directions, (d,); None = it has none.

        The sum is in the order of the rows, in float64.
        """
        total = np.zeros(self.vectors.shape[1])
        for row, weight in zip(rows, weights, strict=True):
            total += self.vectors[row].astype(np.float64) * (weight * float(self.scale[row]))
        return direction_of(total)


def direction_of(vector: NDArray[np.float64]) -> Score | None:
    """Return a finite vector at length 1; None = it is zero, so it has no direction.

    It is multiplied by a power of two first, which changes no digit, so that no square is too small or too large.
    """
    largest = float(np.abs(vector).max(initial=0.0))
    if largest == 0.0:
        return None
    near_one = np.ldexp(vector, -math.frexp(largest)[1])
    return (near_one / math.sqrt(math.fsum(np.square(near_one).tolist()))).astype(np.float32)
