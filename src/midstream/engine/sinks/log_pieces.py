"""Sequential passes over a log from its beginning, the base of cut history included, on a thread beside the loop."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import EventBatch, LogPosition
from midstream.engine.log_readers import FolderLog
from midstream.engine.snapshots.base_state import everything
from midstream.events.schema import concat, cut
from midstream.state.structures.hashing import IdKey

Piece: TypeAlias = tuple[LogPosition, EventBatch]
Picked: TypeAlias = tuple[NDArray[np.int64], EventBatch]
EVENTS_MAX = 5_000
"""Of one piece: so many rows are at most read and written before the position is kept."""


class LogPieces:
    """Reads a log in order, piece by piece. One call at a time."""

    def __init__(self, open_log: Callable[[], FolderLog]) -> None:
        """Read the log that ``open_log`` opens."""
        self._open_log = open_log
        self._ahead: Iterator[Piece] = iter(())
        self._next, self._upto = LogPosition(-1), LogPosition(-1)

    async def next(self, after: LogPosition, upto: LogPosition) -> Piece | None:
        """Return the next events from a position on and before another, None = there are none.

        The first piece may begin after ``after``: what retention cut is gone, and its base is less.

        Raises:
            LogDamaged: The log or its base cannot be read.
            LogRewritten: Another writing took its place; the next call reads that one.
        """
        return await asyncio.to_thread(self._read, after, upto)

    async def events_at(self, positions: Sequence[int], upto: LogPosition) -> Picked:
        """Return single events before a log position, and the log position of each; those that are cut are left out.

        Args:
            positions: Ascending.
            upto: Before which the log is durable.

        Cost: that of a commit, for each that has one of them.

        Raises:
            LogDamaged: A checksum does not match.
            LogRewritten: Another writing took its place.
        """
        return await asyncio.to_thread(_events_at, self._open_log, positions, upto)

    def forget(self) -> None:
        """Have the next call open the log anew."""
        self._next = LogPosition(-1)

    def _read(self, after: LogPosition, upto: LogPosition) -> Piece | None:
        if (after, upto) != (self._next, self._upto):
            self._ahead, self._upto = self._pieces(after, upto), upto
        self._next = LogPosition(-1)
        found = next(self._ahead, None)
        if found is not None:
            self._next = LogPosition(found[0] + len(found[1]))
        return found

    def _pieces(self, after: LogPosition, upto: LogPosition) -> Iterator[Piece]:
        for first, batch in events_from(self._open_log(), after, upto):
            for start in range(0, len(batch), EVENTS_MAX):
                yield LogPosition(first + start), cut(batch, start, min(start + EVENTS_MAX, len(batch)))


def _events_at(open_log: Callable[[], FolderLog], positions: Sequence[int], upto: LogPosition) -> Picked:
    reader, found = open_log(), list[tuple[int, EventBatch]]()
    ahead: Sequence[Piece] = ()
    for position in positions:
        if not reader.begin <= position < upto:
            continue
        if not ahead or position >= ahead[0][0] + len(ahead[0][1]):
            ahead = reader.read(LogPosition(position), 1, upto)
        first, batch = ahead[0]
        found.append((position, cut(batch, position - first, position - first + 1)))
    return np.array([each for each, _ in found], dtype=np.int64), concat([each for _, each in found])


def events_from(reader: FolderLog, after: LogPosition, upto: LogPosition) -> Iterator[Piece]:
    """Yield the events of base and log from one position to before another."""
    for first, batch in everything(reader, upto, after):
        start = max(0, after - first)
        if start < len(batch):
            yield LogPosition(first + start), cut(batch, start, len(batch))


def known_texts(
    reader: FolderLog, upto: LogPosition, read: Callable[[EventBatch, IdKey], Iterator[tuple[int, str]]], key: IdKey
) -> dict[int, str]:
    """Return what ``read`` finds in all events before a position. Cost: one pass, about 0.1 µs an event."""
    return {row_hash: text for _, batch in everything(reader, upto) for row_hash, text in read(batch, key)}
