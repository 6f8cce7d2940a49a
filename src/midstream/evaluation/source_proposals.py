"""Recorded proposals of several sources for many questions, so that any blend is evaluated without running them again.

Running a source takes a hundred times as long as weighting its proposals. So every source answers every question once,
and a blend is then one pass over the ranks: the sum of ``ranking.scorers.blend``, for all questions at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from midstream.core.protocols import Source
from midstream.core.types import Moment, Score
from midstream.evaluation.metrics.metrics import Ranks
from midstream.ranking.frame import merge
from midstream.ranking.scorers.blend import Blend
from midstream.state.ids.vocabulary import Vocabulary

Offsets = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Ballots:
    """Proposals for n questions, end to end: candidates of all questions as rows."""

    names: tuple[str, ...]
    """Of the sources."""
    rank: Score
    """Rank of each candidate in each source's list, 0 = its best, NaN = not proposed; shape (rows, sources)."""
    start: Offsets
    """First row of each question, followed by the number of rows; shape (n + 1,)."""
    wanted: Offsets
    """Row of the right item, -1 = no source proposed it; shape (n,)."""

    def __len__(self) -> int:
        """Return the number of questions."""
        return len(self.wanted)

    def places(self, blend: Blend) -> Ranks:
        """Return the rank of each right item in the blend's order, from 0; -1 = not among the candidates.

        Equal sums keep the order of the candidates, as in ``TopK``. Cost: about 10 ns a row and source.
        """
        return places_of(blend.sum_of(self.names, self.rank.T), self.start, self.wanted)

    def places_in(self, name: str) -> Ranks:
        """Return the rank of each right item in one source's own list, from 0; -1 = it did not propose it."""
        rank = self.rank[:, self.names.index(name)]
        question = np.repeat(np.arange(len(self)), np.diff(self.start))
        right = np.full(len(self), np.nan, dtype=np.float32)
        asked = self.wanted >= 0
        right[asked] = rank[self.wanted[asked]]
        # Counted, because the last act's item was taken out of the lists and left a gap.
        counts = np.bincount(question[rank < right[question]], minlength=len(self))
        return np.where(np.isnan(right), -1, counts).astype(np.int32)


def places_of(score: Score, start: Offsets, wanted: Offsets) -> Ranks:
    """Return the rank of each right item in the order of some scores, from 0; -1 = not among the candidates.

    Equal scores keep the order of the candidates, as in ``TopK``.

    Args:
        score: Of the candidates of all questions, end to end, (rows,); no NaN.
        start: First row of each question, followed by the number of rows, (n + 1,).
        wanted: Row of the right item, -1 = it is no candidate, (n,).
    """
    found = np.full(len(wanted), -1, dtype=np.int32)
    asked = np.flatnonzero(wanted >= 0)
    if not len(asked):
        return found
    question = np.repeat(np.arange(len(wanted)), np.diff(start))
    row = np.full(len(wanted), -1, dtype=np.int64)
    row[asked] = wanted[asked]
    right = np.full(len(wanted), np.inf, dtype=np.float32)
    right[asked] = score[wanted[asked]]
    before = score > right[question]
    before |= (score == right[question]) & (np.arange(len(score)) < row[question])
    counts = np.bincount(question[before], minlength=len(wanted))
    found[asked] = counts[asked]
    return found


@dataclass(slots=True, eq=False)
class BallotBox:
    """Recorder of the sources' proposals, question by question."""

    sources: Sequence[Source]
    repeat: bool = False
    """The item of the last act may be recommended again."""
    _ranks: list[Score] = field(default_factory=list[Score])
    _wanted: list[int] = field(default_factory=list[int])

    def __len__(self) -> int:
        """Return the number of questions that were put."""
        return len(self._wanted)

    def add(self, moment: Moment, wanted: int, last: int) -> None:
        """Put one question to all sources.

        Args:
            moment: State at rest and the query.
            wanted: Index of the right item, -1 = not known to the state.
            last: Index of the item acted on last, -1 = none; it is taken out of every list unless ``repeat``.
        """
        item_count = moment.table(Vocabulary).item_count
        candidates = merge({source.name: source.retrieve(moment) for source in self.sources}, item_count)
        keep = np.ones(len(candidates), np.bool_) if self.repeat else candidates.item_index != last
        rank = candidates.source_rank[keep].astype(np.float32)
        rank[rank < 0] = np.nan
        found = np.flatnonzero(candidates.item_index[keep] == wanted) if wanted >= 0 else np.empty(0, np.intp)
        self._ranks.append(rank)
        self._wanted.append(int(found[0]) if len(found) else -1)

    def counted(self) -> Ballots:
        """Return all of them."""
        start = np.cumsum([0, *(len(rank) for rank in self._ranks)], dtype=np.int64)
        wanted = np.array(self._wanted, dtype=np.int64)
        rank = np.concatenate([np.empty((0, len(self.sources)), np.float32), *self._ranks])
        names = tuple(source.name for source in self.sources)
        return Ballots(names, rank, start, np.where(wanted >= 0, wanted + start[:-1], -1))
