"""Backward walk over the log: bounded pieces, the newest first, and the log position of a time.

A piece is read between two turns of the event loop. Where retention cut the log, the walk ends at its oldest event.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from midstream.core.errors import EventsGone
from midstream.core.protocols import EventLog
from midstream.core.types import EventBatch, LogPosition
from midstream.events.schema import concat, cut

SCANNED_MAX: Final = 50_000
"""Events of a page: 100 pieces of 1 to 2 ms."""
PIECE_EVENTS: Final = 500
"""Half of what a turn of the fold applies."""


async def walk_back(
    log: EventLog, before: int, piece_events: int = PIECE_EVENTS
) -> AsyncIterator[tuple[LogPosition, EventBatch]]:
    """Yield pieces of the events before a log position, each with its first position, the newest piece first.

    Other requests have their turn behind each piece. The walk ends after ``SCANNED_MAX`` events.

    Raises:
        LogDamaged: A checksum does not match.
    """
    stop = max(0, before - SCANNED_MAX)
    while before > stop:
        piece = piece_before(log, before, min(piece_events, before - stop))
        if piece is None:
            return
        before = int(piece[0])
        yield piece
        await asyncio.sleep(0)


def continues(begin: int, before: int) -> bool:
    """Return whether a walk that began at ``begin`` ended at its maximum, and not where the log begins."""
    return 0 < before <= begin - SCANNED_MAX


def piece_before(log: EventLog, before: int, count: int) -> tuple[LogPosition, EventBatch] | None:
    """Return at most ``count`` events before a log position, None where none is kept.

    Where the log begins within them, a half of them is tried, and so on: at most ten reads.
    """
    while count > 0:
        first = LogPosition(max(0, before - count))
        try:
            found = log.read(first, before - first)
        except EventsGone:
            count //= 2
            continue
        return first, cut(concat([batch for _, batch in found]), 0, before - first)
    return None


async def position_after(log: EventLog, time_ms: int, end: int) -> int:
    """Return the log position before the first event, of those before ``end``, with a later log time than this.

    Bisection: log time never goes back. Cost: 24 reads of a commit for 10 million events, each in a turn of its own.
    """
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        try:
            ((_, batch), *_) = log.read(LogPosition(middle), 1)
        except EventsGone:
            low = middle + 1
            continue
        if int(batch.rows["log_time_ms"][0]) > time_ms:
            high = middle
        else:
            low = middle + 1
        await asyncio.sleep(0)
    return low
