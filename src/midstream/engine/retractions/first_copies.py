"""Events that the log has more than once: whether one is the first of its copies, which alone the fold applied.

A crash behind the write of an event, before its answer, leaves a copy when the client sends it again. A rebuild passes
by the log position that a retraction names: with the first of the copies gone, the next ones stay copies of it, while
a retraction of one of those would change nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import numpy as np

from midstream.core.types import EventBatch, LogPosition
from midstream.engine.lists.log_walk import piece_before, position_after
from midstream.engine.live import LiveState
from midstream.events.schema import Event, build
from midstream.state.ids.event_ids import SPAN_S

SEARCHED_MAX: Final = 200_000
"""Events of a search whose place the state does not know: 100 pieces of 1 to 2 ms."""
PIECE_EVENTS: Final = 2_000
SECOND_MS: Final = 1_000
_REMEMBERED_MS: Final = (SPAN_S + 1) * SECOND_MS


class FoundAct(NamedTuple):
    """An act or an impression, and where it stands."""

    position: LogPosition
    event: Event


async def was_folded(live: LiveState, act: FoundAct) -> bool:
    """Return whether the fold applied an act, as it was no copy, had no other event's id and no erased user.

    Where the state remembers its id, or its content and time, the second is read in which that came first; else the
    day of log time before the act, up to ``SEARCHED_MAX`` events.
    """
    batch = build((act.event,))
    vocabulary = live.fold.vocabulary
    sent = np.array([vocabulary.id_hash_of(act.event.user_id)], dtype=np.uint64)
    refused = vocabulary.erasures.refused(batch.rows, sent)
    if refused is not None and bool(refused[0]):
        return False
    prints = live.fold.event_ids.fingerprints(batch)
    id_hash, check = int(prints.id_hash[0]), int(prints.check[0])
    if not id_hash:
        return True  # nothing tells its copies
    second = live.fold.event_ids.second_of_print(id_hash, check)
    log_time_ms = act.event.log_time_ms
    if second is not None and second * SECOND_MS <= log_time_ms:
        pieces, since_ms = in_second(live, second, int(act.position)), 0
    else:
        pieces, since_ms = back(live, int(act.position)), log_time_ms - _REMEMBERED_MS
    async for first, each in pieces:
        if first >= act.position:
            break
        told = live.fold.event_ids.fingerprints(each)
        same = (told.id_hash == id_hash) & (told.check == check) & (each.rows["log_time_ms"] >= since_ms)
        if same[: act.position - first].any():
            return False
        if int(each.rows["log_time_ms"][0]) < since_ms:
            break
    return True


async def in_second(live: LiveState, second: int, end: int) -> AsyncIterator[tuple[LogPosition, EventBatch]]:
    """Yield the events of one second of log time before a log position, in order, and a few behind them."""
    position = await position_after(live.log, second * SECOND_MS - 1, end)
    while position < end:
        for first, batch in live.log.read(LogPosition(position), PIECE_EVENTS):
            if int(batch.rows["log_time_ms"][0]) >= (second + 1) * SECOND_MS:
                return
            yield first, batch
            position = first + len(batch)
        await asyncio.sleep(0)


async def back(live: LiveState, before: int) -> AsyncIterator[tuple[LogPosition, EventBatch]]:
    """Yield pieces of the log before a log position, the newest first, up to ``SEARCHED_MAX`` events."""
    stop = max(0, before - SEARCHED_MAX)
    while before > stop:
        piece = piece_before(live.log, before, min(PIECE_EVENTS, before - stop))
        if piece is None:
            return
        before = int(piece[0])
        yield piece
        await asyncio.sleep(0)
