"""Search of one request among the vectors of items: by a scan, or among what a graph names, and past a condition.

The nearest are looked at first, ``LOOKED_TIMES`` as many as are wanted. Where too few of them pass the condition, it is
asked of every item that has a vector, and the nearest of those that pass are the answer: the same as if all had been
asked first, and an item that does not pass costs no product. Where there are more items than may be asked about, so
many of the nearest are, in their order and until enough have passed.
"""

from dataclasses import dataclass, replace

import numpy as np

from midstream.core.types import Index, Mask, Score
from midstream.models.kernels.cosine import Directions
from midstream.models.vector_index import VectorIndex
from midstream.retrieval.cut_search import AskedItems

LOOKED_TIMES = 4
SPARE = 64
"""Items that a graph is asked for beyond the limit, in place of some that may not be proposed."""
BREADTH_MAX = 4_096
"""Items that a graph is asked for at most: beyond that a scan of all is not much slower."""


@dataclass(frozen=True, slots=True, eq=False)
class NearestFound:
    """The nearest items, best first, equal ones by id hash."""

    rows: Index
    score: Score
    cut: str = ""
    """Why there may be more that pass; empty = there are none, or as many as are wanted."""


@dataclass(frozen=True, slots=True, eq=False)
class VectorSearch:
    """What is looked for at a moment."""

    directions: Directions
    towards: Score
    """Direction of the request, (d,)."""
    eligible: Mask
    """Which items may be proposed, as far as no condition decides it, (n,)."""
    limit: int
    score_min: np.float32
    """Items with a lower cosine are not wanted."""
    asked: AskedItems | None
    """The condition; None = there is none."""

    def named(self, index: VectorIndex, breadth: int) -> NearestFound | None:
        """Return the nearest of those that the graph names; None = a scan has to answer.

        It is asked for more where too few of them may be proposed, up to ``BREADTH_MAX``.
        """
        count = self.limit + SPARE
        seen = passed = np.empty(0, dtype=np.int32)
        while True:
            rows = index.named(self.towards, count, breadth)
            if rows is None:
                return None
            is_all = index.size <= count
            rows = rows[rows < len(self.eligible)]
            rows = rows[self.eligible[rows] & (self.directions.scale[rows] > 0.0)]
            cut = ""
            if self.asked is not None:
                new = np.setdiff1d(rows, seen)
                passes, is_whole = self.asked.passes(new)
                seen = np.concatenate((seen, new))
                rows = passed = np.concatenate((passed, new[passes]))
                is_end = len(rows) >= self.limit or is_all
                cut = "" if is_whole and (is_end or not self.asked.is_over) else self.asked.reason(self._count())
            if len(rows) >= self.limit or is_all or cut:
                best = self.directions.in_order(rows, self.directions.cosines(self.towards, rows), self.limit)
                return NearestFound(*best, cut)
            if count >= BREADTH_MAX:
                return None
            count = min(LOOKED_TIMES * count, BREADTH_MAX)

    def scanned(self) -> NearestFound:
        """Return the nearest of all that pass. Cost: linear in the vectors, and that of the condition."""
        if self.asked is None:
            return NearestFound(*self._nearest(self.eligible, self.limit))
        looked = LOOKED_TIMES * self.limit
        rows, score = self._nearest(self.eligible, looked)
        passes, is_whole = self.asked.passes(rows, self.limit)
        found = NearestFound(rows[passes][: self.limit], score[passes][: self.limit])
        is_all = len(rows) < looked or score[-1] < self.score_min
        if len(found.rows) == self.limit or (is_all and is_whole):
            return found
        count = self._count()
        if self.asked.is_over or not is_whole:
            return replace(found, cut=self.asked.reason(count))
        if count - looked > self.asked.left:
            return self._of_near(self.asked, found, looked, count)
        return self._of_all(self.asked, rows, passes)

    def _of_near(self, asked: AskedItems, found: NearestFound, looked: int, count: int) -> NearestFound:
        """Return the nearest that pass of as many as may be asked about, which are not all.

        Args:
            asked: The condition.
            found: What passed of those that were looked at first.
            looked: How many these were.
            count: Items that have a vector.
        """
        rows, score = self._nearest(self.eligible, looked + asked.left)
        is_near = score[looked:] >= self.score_min
        rows, score = rows[looked:][is_near], score[looked:][is_near]
        wanted = self.limit - len(found.rows)
        passes, is_whole = asked.passes(rows, wanted)
        is_cut = np.count_nonzero(passes) < wanted and not (is_whole and len(rows) < len(is_near))
        return NearestFound(
            np.concatenate((found.rows, rows[passes][:wanted])),
            np.concatenate((found.score, score[passes][:wanted])),
            asked.reason(count) if is_cut else "",
        )

    def _of_all(self, asked: AskedItems, rows: Index, passes: Mask) -> NearestFound:
        """Return the nearest that pass of all.

        Args:
            asked: The condition.
            rows: Those that were looked at first.
            passes: Which of them pass.
        """
        every = np.flatnonzero(self._is_directed())
        others = every[~np.isin(every, rows, assume_unique=True)].astype(np.int32)
        eligible = np.zeros(len(self.eligible), dtype=np.bool_)
        eligible[others], is_whole = asked.passes(others)
        eligible[rows] = passes
        return NearestFound(*self._nearest(eligible, self.limit), "" if is_whole else asked.reason(len(every)))

    def _nearest(self, eligible: Mask, count: int) -> tuple[Index, Score]:
        return self.directions.nearest(self.towards, eligible, count)

    def _is_directed(self) -> Mask:
        """Return which of the eligible items have a vector."""
        return self.eligible & (self.directions.scale[: len(self.eligible)] > 0.0)

    def _count(self) -> int:
        return int(np.count_nonzero(self._is_directed()))
