"""List of users, the one seen last first: the log has the ids, which the state keeps as hashes alone.

The walk goes back over the log. A user is listed at the newest of its acts, the one whose log time is the user's last
visit in the state. Acts of one log time may lie on both sides of a page's end: users who have such an act before it are
found again at the beginning of the next page, and are not listed twice. A user without an act is listed at a change of
its profile, once a page.
"""

import asyncio
from dataclasses import replace
from typing import Final

import msgspec

from midstream.core.answers.lists import ListedUser, UserPage
from midstream.core.kinds import Kind
from midstream.core.reserved_users import PROBE_TEXT, is_reserved
from midstream.core.types import LogPosition
from midstream.engine.lists.list_cursor import read_cursor
from midstream.engine.lists.list_filter import OF_USERS, compiled, moment_of
from midstream.engine.lists.log_users import ACTS, LogUsers, of_kinds
from midstream.engine.lists.log_walk import PIECE_EVENTS, walk_back
from midstream.engine.lists.place import begin_of, cursor_at, cursor_behind
from midstream.engine.live import LiveState
from midstream.features.language import Condition
from midstream.state.fold import Fold

_PROFILE = int(Kind.USER)
_SAME_TIME_MAX: Final = 20_000
"""Events of one log time that are looked through at the beginning of a page: two of the largest commits. Behind that a
user may be listed twice."""
_FILTERED_MAX: Final = 5_000
"""Users of a page whom a filter looks at; then the page ends."""
_TURN_EVENTS: Final = PIECE_EVENTS // 2
_TURN_FILTERED: Final = PIECE_EVENTS // 16
"""Some 50 µs a user whom a filter looks at."""


class UserListing(msgspec.Struct, frozen=True):
    """Request for a page of users, without its cursor and its limit."""

    filter: str | None = None
    fields: tuple[str, ...] | None = None
    """Attributes of each profile; None = all."""


async def user_page(live: LiveState, asked: UserListing, cursor: str | None, limit: int) -> UserPage:
    """Return users who pass a filter, from a place in the log back.

    Users who were erased, deleted or evicted are left out: the state holds nothing of them. So are those of freshness
    probes, who are nobody.

    Raises:
        RequestInvalid: The filter or the cursor cannot be used.
        LogDamaged: A checksum of the log does not match.
    """
    ids = live.host.request_ids
    at = None if cursor is None else read_cursor(cursor, "users", asked, ids)
    begin = begin_of(live, at)
    where, found = compiled(asked.filter, live.plans, OF_USERS), _Found(asked.fields)
    if at is not None:
        await found.look_ahead(live, begin)
    before = begin
    async for first, batch in walk_back(live.log, begin, _TURN_EVENTS if where is None else _TURN_FILTERED):
        for row, text, user_hash in found.users.named(live.fold, first, batch, of_kinds(batch, (*ACTS, _PROFILE))):
            is_act = batch.rows["kind"][row] != _PROFILE
            found.take(live, where, (text, user_hash), int(batch.rows["log_time_ms"][row]) if is_act else 0)
            if len(found.rows) == limit or found.filtered >= _FILTERED_MAX:
                return UserPage(found.rows, begin - first - row, cursor_at(live, "users", asked, first + row))
        before = int(first)
    return UserPage(found.rows, begin - before, cursor_behind(live, "users", asked, (begin, before)))


class _Found:
    """Users of a page, and those who were looked at."""

    def __init__(self, fields: tuple[str, ...] | None) -> None:
        self.users, self.rows = LogUsers(), list[ListedUser]()
        self._fields = fields
        self._seen = set[int]()
        self.filtered = 0
        """Users whom a filter looked at."""

    async def look_ahead(self, live: LiveState, begin: int) -> None:
        """Note the users who have an act behind a place, of the same log time as the one before it."""
        if begin == 0 or begin >= live.log.end:
            return
        ((_, batch), *_) = live.log.read(LogPosition(begin - 1), 1)
        time_ms, position = int(batch.rows["log_time_ms"][0]), begin
        while position < min(live.log.end, begin + _SAME_TIME_MAX):
            ((first, batch), *_) = live.log.read(LogPosition(position), 1)
            same = (batch.rows["log_time_ms"] == time_ms) & of_kinds(batch, ACTS)
            self._seen.update(user for _, _, user in self.users.named(live.fold, first, batch, same))
            if int(batch.rows["log_time_ms"][-1]) != time_ms:
                return
            position += len(batch)
            await asyncio.sleep(0)

    def take(self, live: LiveState, where: Condition | None, user: tuple[bytes, int], acted_ms: int) -> None:
        """Add a user who passes, at the newest act, 0 = at a change of the profile."""
        text, user_hash = user
        if user_hash in self._seen or (text.startswith(PROBE_TEXT) and is_reserved(text.decode())):
            return
        fold = live.fold
        slot = fold.vocabulary.user_slot(user_hash)
        if slot < 0 or fold.users.is_forgotten(slot) or fold.users.last_seen_ms(slot) != acted_ms:
            return
        if not acted_ms and not fold.users.exists(slot):
            return
        self._seen.add(user_hash)
        user_id = text.decode()
        if where is not None:
            self.filtered += 1
            anyone = moment_of(fold, live.clock())
            if not where.holds(replace(anyone, user_index=slot, user_hash=user_hash)):
                return
        self.rows.append(_row(fold, slot, user_id, self._fields))


def _row(fold: Fold, slot: int, user_id: str, fields: tuple[str, ...] | None) -> ListedUser:
    users, document = fold.users, fold.users.document(slot)
    if fields is not None:
        document = {name: document[name] for name in fields if name in document}
    seen = users.first_seen_ms(slot) or None, users.last_seen_ms(slot) or None
    return ListedUser(user_id, *seen, users.counts(slot), document)
