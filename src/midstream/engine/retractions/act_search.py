"""Search of acts in the log: by event id, or the newest one of a user with an item.

The state bounds each search. It knows in which second of log time each remembered event id came, so that only the
events of that second are read; and between which log times a user acted.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Final

import msgspec
import numpy as np

from midstream.core.errors import ActUnknown, Fault, RequestInvalid
from midstream.core.kinds import IMPRESSION, Kind
from midstream.core.nearest import nearest
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.lists.log_users import ACTS, LogUsers, of_kinds
from midstream.engine.lists.log_walk import position_after
from midstream.engine.live import LiveState
from midstream.engine.retractions.first_copies import (
    PIECE_EVENTS,
    SEARCHED_MAX,
    SECOND_MS,
    FoundAct,
    back,
    in_second,
    was_folded,
)
from midstream.events.schema import Event, event_at, text_column
from midstream.state.ids.retraction_event import folded_time_ms

PAGE: Final = "/docs/http.md"
_SHOWN: Final = 60


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

    Of copies it is the first: the fold applied no other.

    Args:
        live: Log and state.
        event_id: As it was sent; ``e1#2`` is the third item of the event ``e1``.
        user_id: User whose act it has to be, under any of its ids; None = anybody's, also of a session alone.

    Raises:
        ActUnknown: There is no such act, it is another user's, or its user was erased.
        LogDamaged: A checksum of the log does not match.
    """
    ids, row_id = live.fold.event_ids, f"{event_id}#0"
    remembered = next(((each, at) for each in (event_id, row_id) if (at := ids.second_of(each)) is not None), None)
    if remembered is None:
        pieces, wanted = _back(live, user_id), {event_id.encode(), row_id.encode()}
    else:
        end = min(int(live.log.end), int(live.fold.log_position))
        pieces, wanted = in_second(live, remembered[1], end), {remembered[0].encode()}
    async for first, batch in pieces:
        rows = _with_id(batch, wanted)
        for row in rows if remembered else reversed(rows):
            act = FoundAct(LogPosition(first + row), event_at(batch, row))
            if _is_of(live, act, user_id) and await was_folded(live, act):
                return [act] if act.event.event_id == event_id else await _rows_of(live, act, event_id)
            if remembered:
                raise _unknown_id(event_id, user_id)  # what has the id behind it are copies of it
    raise _unknown_id(event_id, user_id)


def _unknown_id(event_id: str, user_id: str | None) -> ActUnknown:
    """Return the error of an event id that no act has."""
    of_user = "" if user_id is None else f' of user "{user_id[:_SHOWN]}"'
    came = f'"{event_id[:_SHOWN]}" is the id of no act{of_user} that was found.'
    right = (
        "The event_id of an act or impression: of any in the last 24 h, of an older one that is among the newest "
        f"{SEARCHED_MAX:,} events. An act that came within 24 h of its time is found by user, item and type "
        "(DELETE /v1/users/USER/events)."
    )
    return ActUnknown((Fault("event_id", came, right, PAGE),))


async def newest_act(live: LiveState, asked: ActQuestion) -> FoundAct:
    """Return the newest act of a user with an item, whether or not it was taken back: of several the last in the log.

    Of copies that is the first, and what the fold did not apply is none.

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
            if each != user_hash:
                continue
            act = FoundAct(LogPosition(first + row), event_at(batch, row))
            if asked.time_ms in (None, folded_time_ms(act.event)) and await was_folded(live, act):
                return act
    at = "" if asked.time_ms is None else f" at {asked.time_ms}"
    came = f'No {asked.type} of user "{asked.user_id[:_SHOWN]}" with item "{asked.item_id[:_SHOWN]}"{at} was found.'
    right = (
        f"An act that came within 24 h of its time, and is among the newest {SEARCHED_MAX:,} events up to the last act "
        "of the user."
    )
    raise ActUnknown((Fault("item_id", came, right, PAGE),))


def _with_id(batch: EventBatch, wanted: Collection[bytes]) -> list[int]:
    """Return the rows of the acts of a batch that have one of some event ids."""
    has_length = np.isin(batch.rows["event_id_length"], [len(each) for each in wanted])
    rows = np.flatnonzero(of_kinds(batch, ACTS) & has_length)
    texts = text_column(batch, "event_id", rows)
    return [row for row, text in zip(rows.tolist(), texts, strict=True) if text in wanted]


async def _rows_of(live: LiveState, act: FoundAct, event_id: str) -> list[FoundAct]:
    """Return the rows of an event with several items, of which one is the first: they follow it in the log.

    Other events may have ids of that form as well: a row is of the same user, session, type and log time.
    """
    found, number = [act], 1
    second = act.event.log_time_ms // SECOND_MS
    end = min(int(live.log.end), int(live.fold.log_position))
    while act.position + number < end:
        for first, batch in live.log.read(LogPosition(act.position + number), PIECE_EVENTS):
            for row in range(min(len(batch), end - first)):
                event = event_at(batch, row)
                is_row = event.event_id == f"{event_id}#{number}" and _told(event) == _told(act.event)
                if not is_row:
                    return found
                if live.fold.event_ids.second_of(event.event_id) in {None, second}:
                    found.append(FoundAct(LogPosition(first + row), event))
                number += 1
        await asyncio.sleep(0)
    return found


def _told(event: Event) -> tuple[object, ...]:
    """Return what the rows of an event with several items have in common."""
    return event.kind, event.action, event.user_id, event.session_id, event.log_time_ms


def _is_of(live: LiveState, act: FoundAct, user_id: str | None) -> bool:
    """Return whether an act is of a user, None = anybody, and nobody who was erased after it."""
    vocabulary = live.fold.vocabulary
    sent = vocabulary.id_hash_of(act.event.user_id)
    if sent and vocabulary.erasures.hides(sent, act.position):
        return False
    return user_id is None or (bool(sent) and vocabulary.aliases.resolve(sent) == vocabulary.user_hash_of(user_id))


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
    async for piece in back(live, before):
        yield piece
        if int(piece[1].rows["log_time_ms"][0]) < oldest_ms:
            return
