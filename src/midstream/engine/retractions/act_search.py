"""Search of acts in the log: by event id, or the newest one of a user with an item.

The state bounds each search. It knows in which second of log time each remembered event id came, so that only the
events of that second are read; and between which log times a user acted.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Final, NamedTuple

import msgspec
import numpy as np

from midstream.core.errors import ActUnknown, Fault, RequestInvalid
from midstream.core.kinds import IMPRESSION, Kind
from midstream.core.nearest import nearest
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.lists.log_users import ACTS, LogUsers, of_kinds
from midstream.engine.lists.log_walk import piece_before, position_after
from midstream.engine.live import LiveState
from midstream.events.schema import Event, event_at, text_column
from midstream.state.ids.retraction_event import folded_time_ms

PAGE: Final = "/docs/http.md"
SEARCHED_MAX: Final = 200_000
"""Events of a search whose place the state does not know: 100 pieces of 1 to 2 ms."""
PIECE_EVENTS: Final = 2_000
_SECOND_MS: Final = 1_000
_SHOWN: Final = 60


class FoundAct(NamedTuple):
    """An act or an impression, and where it stands."""

    position: LogPosition
    event: Event


class ActQuestion(msgspec.Struct, frozen=True):
    """Question for the newest act of a user with an item."""

    user_id: str
    type: str
    """Name of an interaction, or ``impression``."""
    item_id: str
    time_ms: int | None = None
    """Event time of the act, as the fold took it; None = any."""


async def acts_of_id(live: LiveState, event_id: str, user_id: str | None = None) -> list[FoundAct]:
    """Return the act with an event id; of an event with several items all of its rows, in their order.

    Args:
        live: Log and state.
        event_id: As it was sent; ``e1#2`` is the third item of the event ``e1``.
        user_id: User whose act it has to be, under any of its ids; None = anybody's, also of a session alone.

    Raises:
        ActUnknown: There is no such act, it is another user's, or its user was erased.
        LogDamaged: A checksum of the log does not match.
    """
    wanted = event_id.encode()
    ids = live.fold.event_ids
    second = next((at for each in (event_id, f"{event_id}#0") if (at := ids.second_of(each)) is not None), None)
    pieces = _back(live, user_id) if second is None else _second(live, second)
    found: dict[bytes, FoundAct] = {}
    async for first, batch in pieces:
        for row, text in _with_id(batch, wanted):
            position = LogPosition(first + row)
            event = event_at(batch, row)
            if text not in found and _is_of(live, position, event, user_id):
                found[text] = FoundAct(position, event)
        if wanted in found or (second is None and wanted + b"#0" in found):
            break  # going back, the first row of an event with several items is the last to come
    if wanted in found:
        return [found[wanted]]
    if not found:
        of_user = "" if user_id is None else f' of user "{user_id[:_SHOWN]}"'
        came = f'"{event_id[:_SHOWN]}" is the id of no act{of_user} that was found.'
        right = (
            "The event_id of an act or impression: of any in the last 24 h, of an older one that is among the newest "
            f"{SEARCHED_MAX:,} events. Any act of a user is found by item and type (DELETE /v1/users/USER/events)."
        )
        raise ActUnknown((Fault("event_id", came, right, PAGE),))
    return sorted(found.values())


async def newest_act(live: LiveState, asked: ActQuestion) -> FoundAct:
    """Return the newest act of a user with an item, whether or not it was taken back: of several the last in the log.

    Raises:
        ActUnknown: There is none, or none among the newest ``SEARCHED_MAX`` events up to the user's last visit.
        RequestInvalid: The type is not configured.
        LogDamaged: A checksum of the log does not match.
    """
    names = (*live.fold.settings.action_names(), IMPRESSION)
    if asked.type not in names:
        came = f'"{asked.type[:_SHOWN]}" is not a type here.{nearest(asked.type, names)}'
        raise RequestInvalid((Fault("type", came, f"Types: {', '.join(names)}.", PAGE),))
    user_hash = live.fold.vocabulary.user_hash_of(asked.user_id)
    users = LogUsers()
    kind = Kind.IMPRESSION if asked.type == IMPRESSION else Kind.INTERACTION
    texts = {"item_id": asked.item_id.encode()} | ({"action": asked.type.encode()} if kind is Kind.INTERACTION else {})
    async for first, batch in _back(live, asked.user_id):
        wanted = of_kinds(batch, (int(kind),))
        for name, text in texts.items():
            rows = np.flatnonzero(wanted & (batch.rows[f"{name}_length"] == len(text)))
            wanted[:] = False
            wanted[rows] = [each == text for each in text_column(batch, name, rows)]
        for row, _, each in users.named(live.fold, first, batch, wanted):
            event = event_at(batch, row)
            if each == user_hash and asked.time_ms in (None, folded_time_ms(event)):
                return FoundAct(LogPosition(first + row), event)
    at = "" if asked.time_ms is None else f" at {asked.time_ms}"
    came = f'No {asked.type} of user "{asked.user_id[:_SHOWN]}" with item "{asked.item_id[:_SHOWN]}"{at} was found.'
    right = f"An act that is among the newest {SEARCHED_MAX:,} events up to the last act of the user."
    raise ActUnknown((Fault("item_id", came, right, PAGE),))


def _with_id(batch: EventBatch, wanted: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield row and id of each act of a batch that has an event id, or is a row of the event that has it."""
    lengths = batch.rows["event_id_length"]
    rows = np.flatnonzero(of_kinds(batch, ACTS) & (lengths >= len(wanted)))
    for row, text in zip(rows.tolist(), text_column(batch, "event_id", rows), strict=True):
        number = text[len(wanted) + 1 :]
        if text == wanted or (text.startswith(wanted + b"#") and number.isdigit()):
            yield row, text


def _is_of(live: LiveState, position: LogPosition, event: Event, user_id: str | None) -> bool:
    """Return whether an act is of a user, None = anybody, and nobody who was erased after it."""
    vocabulary = live.fold.vocabulary
    sent = vocabulary.id_hash_of(event.user_id)
    if sent and vocabulary.erasures.hides(sent, position):
        return False
    return user_id is None or (bool(sent) and vocabulary.aliases.resolve(sent) == vocabulary.user_hash_of(user_id))


async def _second(live: LiveState, second: int) -> AsyncIterator[tuple[LogPosition, EventBatch]]:
    """Yield the events of one second of log time, in order."""
    end = min(int(live.log.end), int(live.fold.log_position))
    position = await position_after(live.log, second * _SECOND_MS - 1, end)
    while position < end:
        for first, batch in live.log.read(LogPosition(position), PIECE_EVENTS):
            if int(batch.rows["log_time_ms"][0]) >= (second + 1) * _SECOND_MS:
                return
            yield first, batch
            position = first + len(batch)
        await asyncio.sleep(0)


async def _back(live: LiveState, user_id: str | None) -> AsyncIterator[tuple[LogPosition, EventBatch]]:
    """Yield pieces of the log, the newest first; of a user only those between its first and its last visit."""
    fold = live.fold
    before, oldest_ms = min(int(live.log.end), int(fold.log_position)), 0
    if user_id is not None:
        slot = fold.vocabulary.user_index(user_id)
        if slot < 0 or not fold.users.last_seen_ms(slot):
            return
        oldest_ms = fold.users.first_seen_ms(slot)
        before = await position_after(live.log, fold.users.last_seen_ms(slot), before)
    stop = max(0, before - SEARCHED_MAX)
    while before > stop:
        piece = piece_before(live.log, before, min(PIECE_EVENTS, before - stop))
        if piece is None:
            return
        before = int(piece[0])
        yield piece
        if int(piece[1].rows["log_time_ms"][0]) < oldest_ms:
            return
        await asyncio.sleep(0)
