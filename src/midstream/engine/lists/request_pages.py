"""List of served slates, the newest first, from the log. Slates of erased users are left out."""

from typing import Final

import msgspec
import numpy as np

from midstream.core.answers.lists import ListedRequest, RequestPage
from midstream.core.errors import Fault, RequestInvalid
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.lists.list_cursor import PAGE, read_cursor
from midstream.engine.lists.log_users import LogUsers, of_kinds
from midstream.engine.lists.log_walk import PIECE_EVENTS, position_after, walk_back
from midstream.engine.lists.place import begin_of, cursor_at, cursor_behind
from midstream.engine.live import LiveState
from midstream.events.schema import text_column
from midstream.experiments.names import arm_of
from midstream.ranking.record.served import decode_served

_TURN_EVENTS: Final = PIECE_EVENTS // 8
"""Some 30 µs a record that is decoded whole."""
_NONE_YET: Final = 1 << 62


class RequestListing(msgspec.Struct, frozen=True):
    """Request for a page of served slates, without its cursor and its limit."""

    user_id: str | None = None
    placement: str | None = None
    """That requests named: slates of its experiments' variants among them."""
    since_ms: int = 0
    """Oldest log time."""
    until_ms: int | None = None
    """Newest log time."""


class _Beginning(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """First fields of a served record: enough to pass by those of other placements."""

    version: int
    log_position: int
    request_id: str
    placement: str


_beginning = msgspec.msgpack.Decoder(_Beginning)


async def request_page(live: LiveState, asked: RequestListing, cursor: str | None, limit: int) -> RequestPage:
    """Return served slates from a place in the log back.

    Raises:
        RequestInvalid: The cursor cannot be used, or the times are the wrong way round.
        LogDamaged: A checksum of the log does not match.
    """
    ids, newest_ms = live.host.request_ids, _NONE_YET if asked.until_ms is None else asked.until_ms
    if newest_ms < asked.since_ms:
        raise RequestInvalid((Fault("until", "It lies before since.", "A time after since.", PAGE),))
    at = None if cursor is None else read_cursor(cursor, "requests", asked, ids)
    begin = begin_of(live, at)
    if at is None and newest_ms < live.log.last_log_time_ms:
        begin = await position_after(live.log, newest_ms, begin)
    found, users, before = list[ListedRequest](), LogUsers(), begin
    async for first, batch in walk_back(live.log, begin, _TURN_EVENTS):
        for row, text in _rows(live, users, asked.user_id, first, batch):
            if int(batch.rows["log_time_ms"][row]) < asked.since_ms:
                continue
            if (listed := _listed(text, asked.placement)) is None:
                continue
            found.append(listed)
            if len(found) == limit:
                return RequestPage(found, begin - first - row, cursor_at(live, "requests", asked, first + row))
        before = int(first)
        if int(batch.rows["log_time_ms"][0]) < asked.since_ms:
            return RequestPage(found, begin - before)
    return RequestPage(found, begin - before, cursor_behind(live, "requests", asked, (begin, before)))


def _rows(
    live: LiveState, users: LogUsers, user_id: str | None, first: LogPosition, batch: EventBatch
) -> list[tuple[int, bytes]]:
    """Return row and body of the served records of a piece, the newest first: all, or those of one user."""
    served, fold = of_kinds(batch, (int(Kind.SERVED),)), live.fold
    named = {row: user_hash for row, _, user_hash in users.named(fold, first, batch, served)}
    has_user = batch.rows["user_id_length"] > 0
    if user_id is None:
        kept = [row for row in np.flatnonzero(served).tolist() if row in named or not has_user[row]]
    else:
        wanted = fold.vocabulary.user_hash_of(user_id)
        kept = [row for row, user_hash in named.items() if user_hash == wanted]
    rows = np.array(sorted(kept, reverse=True), dtype=np.intp)
    return list(zip(rows.tolist(), text_column(batch, "body", rows), strict=True))


def _listed(body: bytes, placement: str | None) -> ListedRequest | None:
    """Return a record as a list has it, None = it is of another placement, or of an erased user."""
    beginning = _beginning.decode(body)
    if not beginning.request_id:
        return None
    if placement is not None and arm_of(beginning.placement).placement != placement:
        return None
    record = decode_served(body)
    query = record.query
    return ListedRequest(
        query.request_id,
        arm_of(query.placement).placement,
        query.now_ms,
        record.tier,
        tuple(item.id for item in record.items),
        query.user_id,
        query.session_id,
        record.took_us,
    )
