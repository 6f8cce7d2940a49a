"""Histories: the training and query form of item models, users' acts on items in order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Mask
from midstream.models.descriptions import Description
from midstream.models.vocabulary import ItemVocabulary

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True, slots=True, eq=False)
class Histories:
    """The acts of some users, or of some sessions, one after another, each oldest first.

    The same type is a data set, of everybody, and a question, of one.
    """

    row: Index
    """Row of the item of each act in the vocabulary, (acts,). Unknown items are left out before."""
    weight: NDArray[np.float32]
    """What the act weighs, as its action is weighted; more than 0, (acts,)."""
    start: NDArray[np.int64]
    """Where each history begins, and the number of acts, (histories + 1,)."""
    time_ms: NDArray[np.int64] | None = None
    """When each act was, (acts,); None where the order is all that is known."""

    def __len__(self) -> int:
        """Return the number of histories."""
        return len(self.start) - 1

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]]) -> "Histories":
        """Return histories of acts that all weigh 1."""
        each = [np.asarray(row, dtype=np.int32) for row in rows]
        start = np.concatenate([[0], np.cumsum([len(row) for row in each], dtype=np.int64)]).astype(np.int64)
        flat = np.concatenate([np.empty(0, np.int32), *each]).astype(np.int32)
        return cls(flat, np.ones(len(flat), dtype=np.float32), start)

    def matrix(self, item_count: int) -> "csr_matrix":
        """Return users × items, the weights of repeated acts added up, float32 in canonical form."""
        from scipy.sparse import csr_matrix

        found = csr_matrix((self.weight.copy(), self.row.copy(), self.start.copy()), shape=(len(self), item_count))
        found.sum_duplicates()
        return found

    def part(self, begin: int, end: int) -> "Histories":
        """Return the histories from one to before another, as views."""
        first, last = int(self.start[begin]), int(self.start[end])
        times = None if self.time_ms is None else self.time_ms[first:last]
        return Histories(self.row[first:last], self.weight[first:last], self.start[begin : end + 1] - first, times)

    def where(self, kept: Mask) -> "Histories":
        """Return the acts that are marked, (acts,), each in its history."""
        start = np.concatenate([[0], np.cumsum(kept)])[self.start].astype(np.int64)
        times = None if self.time_ms is None else self.time_ms[kept]
        return Histories(self.row[kept], self.weight[kept], start, times)

    def take(self, numbers: NDArray[np.intp]) -> "Histories":
        """Return some histories, by number, rising."""
        counts = np.diff(self.start)
        found = self.where(np.isin(np.repeat(np.arange(len(self)), counts), numbers))
        start = np.concatenate([[0], np.cumsum(counts[numbers])]).astype(np.int64)
        return replace(found, start=start)

    @classmethod
    def joined(cls, parts: Sequence["Histories"]) -> "Histories":
        """Return histories one after another, without times."""
        start = np.cumsum([0, *(size for each in parts for size in np.diff(each.start).tolist())], dtype=np.int64)
        row = np.concatenate([np.empty(0, np.int32), *(each.row for each in parts)])
        return cls(row, np.concatenate([np.empty(0, np.float32), *(each.weight for each in parts)]), start)


@dataclass(frozen=True, slots=True, eq=False)
class Interactions:
    """What an item model is fitted on."""

    vocabulary: ItemVocabulary
    histories: Histories
    """Of users; a model that reads sessions is given those of sessions."""
    described: Sequence[Description] = ()
    """What each item is, by row; empty = nobody said, and a model that goes by acts alone reads none."""
