"""List of the events of one user, the newest first, from the log.

The state bounds the walk: no act of a user lies after its last visit or before its first one. So a page for a user who
came yesterday does not begin with what others did today.
"""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.answers.lists import EventPage
from midstream.core.errors import Fault, NotFound, RequestInvalid
from midstream.core.kinds import IMPRESSION, Kind
from midstream.core.nearest import nearest
from midstream.core.types import EventBatch
from midstream.engine.lists.list_cursor import PAGE, read_cursor
from midstream.engine.lists.log_users import LogUsers
from midstream.engine.lists.log_walk import position_after, walk_back
from midstream.engine.lists.place import begin_of, cursor_at, cursor_behind
from midstream.engine.live import LiveState
from midstream.events.json.encode import to_object
from midstream.events.schema import event_at, text_column

PROFILE: Final = "user"
_NONE_YET: Final = 1 << 62


class EventListing(msgspec.Struct, frozen=True):
    """Request for a page of a user's events, without its cursor and its limit."""

    user_id: str
    types: tuple[str, ...] = ()
    """Of events; none = all interactions and impressions."""
    since_ms: int = 0
    """Oldest log time."""
    until_ms: int | None = None
    """Newest log time."""


async def event_page(live: LiveState, asked: EventListing, cursor: str | None, limit: int) -> EventPage:
    """Return events of a user, under any of its ids, from a place in the log back.

    Raises:
        NotFound: The state holds nothing of the user.
        RequestInvalid: A type is not configured, or the cursor cannot be used.
        LogDamaged: A checksum of the log does not match.
    """
    ids, fold = live.host.request_ids, live.fold
    user_hash = fold.vocabulary.user_hash_of(asked.user_id)
    slot = fold.vocabulary.user_slot(user_hash)
    if slot < 0 or fold.users.is_forgotten(slot):
        raise NotFound(f'Nothing is known of user "{asked.user_id[:128]}".')
    wanted = _Wanted(live, asked)
    at = None if cursor is None else read_cursor(cursor, "events", asked, ids)
    oldest_ms, newest_ms = asked.since_ms, _NONE_YET if asked.until_ms is None else asked.until_ms
    if PROFILE not in asked.types:
        oldest_ms = max(oldest_ms, fold.users.first_seen_ms(slot))
        newest_ms = min(newest_ms, fold.users.last_seen_ms(slot))
    begin = begin_of(live, at)
    if at is None and newest_ms < live.log.last_log_time_ms:
        begin = await position_after(live.log, newest_ms, begin)
    found, users, before = list[dict[str, object]](), LogUsers(), begin
    async for first, batch in walk_back(live.log, begin):
        for row, _, each in users.named(live.fold, first, batch, wanted.among(batch)):
            if each != user_hash or not oldest_ms <= int(batch.rows["log_time_ms"][row]) <= newest_ms:
                continue
            listed = to_object(event_at(batch, row), log_time=True)
            found.append(listed | ({"retracted": True} if live.fold.is_taken_back(first + row) else {}))
            if len(found) == limit:
                return EventPage(found, begin - first - row, cursor_at(live, "events", asked, first + row))
        before = int(first)
        if int(batch.rows["log_time_ms"][0]) < oldest_ms:
            return EventPage(found, begin - before)
    return EventPage(found, begin - before, cursor_behind(live, "events", asked, (begin, before)))


class _Wanted:
    """Types of events that a page lists."""

    def __init__(self, live: LiveState, asked: EventListing) -> None:
        names = live.fold.settings.action_names()
        known = (*names, IMPRESSION, PROFILE)
        for name in asked.types:
            if name not in known:
                came = f'"{name[:60]}" is not a type here.{nearest(name, known)}'
                raise RequestInvalid((Fault("type", came, f"Types: {', '.join(known)}.", PAGE),))
        types = asked.types or (*names, IMPRESSION)
        self._actions = frozenset(name.encode() for name in types if name in names)
        self._all_actions = len(self._actions) == len(names)
        kinds = {IMPRESSION: Kind.IMPRESSION, PROFILE: Kind.USER}
        self._kinds = tuple(int(kind) for name, kind in kinds.items() if name in types)

    def among(self, batch: EventBatch) -> NDArray[np.bool_]:
        """Return which events are of these types, (n,)."""
        kind = batch.rows["kind"]
        acted = kind == int(Kind.INTERACTION)
        found: NDArray[np.bool_] = np.isin(kind, self._kinds)
        if self._all_actions:
            every: NDArray[np.bool_] = found | acted
            return every
        rows = np.flatnonzero(acted)
        texts = text_column(batch, "action", rows)
        found[rows] = np.array([text in self._actions for text in texts], dtype=np.bool_)
        return found
