"""Search of one request among the vectors of items: by a scan, or among what a graph names, and past a condition.

The nearest are looked at first, ``LOOKED_TIMES`` as many as are wanted. Where too few of them pass the condition, it is
asked of every item that is near enough, and the nearest of those that pass are the answer: the same as if all had been
asked first. Where there are more items than may be asked about, so many of the nearest are, in their order and until
enough have passed. The nearest are asked about first, so what an end by time leaves out is what is far. No item is
asked about twice, also where a scan follows what a graph has named.
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
        while True:
            told = index.named(self.towards, count, breadth)
            if told is None:
                return None
            kept, changed = map(self._proposable, told)
            rows = np.concatenate((kept, changed))
            score = self.directions.cosines(self.towards, rows)
            is_near = score >= self.score_min
            # One that changed may be anywhere; of the others none is near behind one that is too far.
            is_all = index.size <= count or not is_near[: len(kept)].all()
            rows, score = self.directions.in_order(rows[is_near], score[is_near], len(rows))
            cut = ""
            if self.asked is not None:
                passes, is_whole = self.asked.passes(rows, self.limit)
                rows, score = rows[passes], score[passes]
                is_end = len(rows) >= self.limit or is_all
                cut = "" if is_whole and (is_end or not self.asked.is_over) else self.asked.reason(self._count())
            if len(rows) >= self.limit or is_all or cut:
                return NearestFound(rows[: self.limit], score[: self.limit], cut)
            if count >= BREADTH_MAX:
                return None
            count = min(LOOKED_TIMES * count, BREADTH_MAX)

    def scanned(self) -> NearestFound:
        """Return the nearest of all that pass. Cost: linear in the vectors, and that of the condition."""
        if self.asked is None:
            return NearestFound(*self.directions.nearest(self.towards, self.eligible, self.limit))
        rows, score = self._near()
        first, first_score = self._best(rows, score, LOOKED_TIMES * self.limit)
        passes, is_whole = self.asked.passes(first, self.limit)
        found = NearestFound(first[passes][: self.limit], first_score[passes][: self.limit])
        if is_whole and (len(found.rows) == self.limit or len(first) == len(rows)):
            return found
        if self.asked.is_over or not is_whole:
            return replace(found, cut=self.asked.reason(self._count()))
        if np.count_nonzero(~self.asked.is_known(rows)) > self.asked.left:
            return self._of_nearest(self.asked, rows, score)
        return self._of_all(self.asked, rows, score)

    def _of_nearest(self, asked: AskedItems, rows: Index, score: Score) -> NearestFound:
        """Return the nearest that pass of as many of some rows as may be asked about, which are not all."""
        rows, score = self._best(rows, score, asked.asked_max)
        passes, is_whole = asked.passes(rows, self.limit)
        is_cut = not is_whole or np.count_nonzero(passes) < self.limit
        cut = asked.reason(self._count()) if is_cut else ""
        return NearestFound(rows[passes][: self.limit], score[passes][: self.limit], cut)

    def _of_all(self, asked: AskedItems, rows: Index, score: Score) -> NearestFound:
        """Return the nearest that pass of all of some rows."""
        order = np.argsort(-score)  # of equal ones in any order: all are asked about
        rows, score = rows[order], score[order]
        passes, is_whole = asked.passes(rows)
        found = self.directions.in_order(rows[passes], score[passes], self.limit)
        return NearestFound(*found, "" if is_whole else asked.reason(self._count()))

    def _near(self) -> tuple[Index, Score]:
        """Return all that may be proposed and are near enough, without order."""
        rows = np.flatnonzero(self._is_directed()).astype(np.int32)
        score = self.directions.cosines(self.towards, rows)
        is_near = score >= self.score_min
        return rows[is_near], score[is_near]

    def _best(self, rows: Index, score: Score, count: int) -> tuple[Index, Score]:
        """Return so many of the nearest of some rows, best first, equal ones by id hash."""
        if count < len(rows):
            is_in = score >= -np.partition(-score, count - 1)[count - 1]
            rows, score = rows[is_in], score[is_in]
        return self.directions.in_order(rows, score, count)

    def _proposable(self, rows: Index) -> Index:
        """Return those of some rows that may be proposed and have a vector."""
        rows = rows[rows < len(self.eligible)]
        return rows[self.eligible[rows] & (self.directions.scale[rows] > 0.0)]

    def _is_directed(self) -> Mask:
        """Return which of the eligible items have a vector."""
        return self.eligible & (self.directions.scale[: len(self.eligible)] > 0.0)

    def _count(self) -> int:
        return int(np.count_nonzero(self._is_directed()))
