"""Rows of shop-wide tables by shard, merged by epoch: a join-semilattice, safe against order, repeats and gaps.

A shard owns its rows of every table: what its own users' events made of an item, a pair row, a session. At the end of
an epoch it publishes the rows that changed, each whole, under the key (table, shard, row). A replica keeps, of each
key, the row of the highest epoch. A compacted topic keeps the same, so who joins late reads each key once.

Joining is commutative, associative and idempotent. A delta that is lost is made up for by the next one of the same row,
and until then the row is as old as the one before; sums over shards never count an event twice.

Reference: M. Shapiro, N. Preguiça, C. Baquero, M. Zawirski, "Conflict-free Replicated Data Types", SSS 2011.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.int64]
"""Rows of 8-byte words; numbers with a fraction as their bits, so that equal rows are equal words."""
NEVER = -1


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """The rows of one table that one shard published at the end of one epoch."""

    shard: int
    epoch: int
    table: str
    row: Words
    """Numbers of the rows, ascending, (n,)."""
    values: Words
    """(n, words)."""

    @property
    def bytes(self) -> int:
        """Bytes on the wire, a key of 8 bytes with each row."""
        return self.row.nbytes + self.values.nbytes


@dataclass(slots=True, eq=False)
class HeldRows:
    """Rows of one table of one shard, each with the epoch that it is of."""

    values: Words
    epoch: Words
    """``NEVER`` where no delta had the row."""

    def join(self, delta: Delta) -> None:
        """Take the rows of a delta that are newer than what is held."""
        rows = int(delta.row[-1]) + 1 if len(delta.row) else 0
        if rows > len(self.epoch):
            self._grow(rows, delta.values.shape[1])
        newer = delta.epoch > self.epoch[delta.row]
        self.values[delta.row[newer]] = delta.values[newer]
        self.epoch[delta.row[newer]] = delta.epoch

    def _grow(self, rows: int, words: int) -> None:
        values = np.zeros((rows, words), dtype=np.int64)
        values[: len(self.values), : self.values.shape[1]] = self.values
        epoch = np.full(rows, NEVER, dtype=np.int64)
        epoch[: len(self.epoch)] = self.epoch
        self.values, self.epoch = values, epoch


@dataclass(slots=True, eq=False)
class Replica:
    """What one node holds of the rows of all shards."""

    held: dict[tuple[str, int], HeldRows] = field(default_factory=dict[tuple[str, int], HeldRows])

    def join(self, delta: Delta) -> None:
        """Take what is new in a delta; every order of the same deltas ends in the same rows."""
        key = delta.table, delta.shard
        if key not in self.held:
            self.held[key] = HeldRows(np.zeros((0, delta.values.shape[1]), np.int64), np.zeros(0, np.int64))
        self.held[key].join(delta)

    def join_all(self, deltas: Iterable[Delta]) -> None:
        """Take several."""
        for each in deltas:
            self.join(each)

    def rows(self, table: str) -> dict[int, Words]:
        """Return the rows of a table by shard."""
        return {shard: each.values for (name, shard), each in sorted(self.held.items()) if name == table}


@dataclass(slots=True, eq=False)
class Publisher:
    """One shard's side: what it has published, so that the next delta has only what changed."""

    shard: int
    published: dict[str, Words] = field(default_factory=dict[str, Words])

    def deltas(self, epoch: int, tables: Mapping[str, Words]) -> list[Delta]:
        """Return what changed since the last epoch; rows of zeros that were never published are no change."""
        return [self._delta(epoch, name, rows) for name, rows in tables.items()]

    def _delta(self, epoch: int, name: str, rows: Words) -> Delta:
        before = np.zeros_like(rows)
        if name in self.published:
            before[: len(self.published[name])] = self.published[name]
        changed = np.flatnonzero((rows != before).any(axis=1))
        self.published[name] = rows
        return Delta(self.shard, epoch, name, changed, rows[changed])


def disordered(deltas: list[Delta], rng: np.random.Generator, repeated: float) -> list[Delta]:
    """Return deltas in any order, a share of them twice: what a topic may do to who reads it after a failure."""
    twice = [each for each in deltas if rng.random() < repeated]
    found = [*deltas, *twice]
    return [found[place] for place in rng.permutation(len(found)).tolist()]
