"""Audit of changes from the log, the newest first: who changed what, when and from where.

A record of a change is a control event that no table folds. It names the route and not the user whom a change was
about: a log keeps control events when it is rewritten without erased users.
"""

from typing import Final

import msgspec
import numpy as np

from midstream.core.answers.lists import AuditPage, AuditRow
from midstream.core.errors import Fault, RequestInvalid
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch
from midstream.engine.lists.list_cursor import PAGE, read_cursor
from midstream.engine.lists.log_users import of_kinds
from midstream.engine.lists.log_walk import position_after, walk_back
from midstream.engine.lists.place import begin_of, cursor_at, cursor_behind
from midstream.engine.live import LiveState
from midstream.events.schema import Event, build, text_column

CHANGE: Final = "audit"
"""What the body of such a control event says of itself."""


class AuditRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of a control event: one request that changed something."""

    id: str
    """Random, so that two equal changes are two."""
    who: str
    address: str
    """Where the request came from."""
    method: str
    route: str
    """Template of its path."""
    target: str = ""
    """Name in the path; empty = it has none, or it is a user's."""
    status: int = 200
    change: str = CHANGE


class AuditListing(msgspec.Struct, frozen=True):
    """Request for a page of the audit, without its cursor and its limit."""

    who: str | None = None
    route: str | None = None
    since_ms: int = 0
    """Oldest log time."""
    until_ms: int | None = None
    """Newest log time."""


_decode = msgspec.json.Decoder(AuditRecord).decode


def audit_event(record: AuditRecord) -> EventBatch:
    """Return a record as it goes into the log."""
    return build((Event(Kind.CONTROL, body=msgspec.json.encode(record)),))


async def audit_page(live: LiveState, asked: AuditListing, cursor: str | None, limit: int) -> AuditPage:
    """Return records of changes from a place in the log back.

    Raises:
        RequestInvalid: The cursor cannot be used, or the times are the wrong way round.
        LogDamaged: A checksum of the log does not match.
    """
    if asked.until_ms is not None and asked.until_ms < asked.since_ms:
        raise RequestInvalid((Fault("until", "It lies before since.", "A time after since.", PAGE),))
    at = None if cursor is None else read_cursor(cursor, "audit", asked, live.host.request_ids)
    begin = begin_of(live, at)
    if at is None and asked.until_ms is not None and asked.until_ms < live.log.last_log_time_ms:
        begin = await position_after(live.log, asked.until_ms, begin)
    found, before = list[AuditRow](), begin
    async for first, batch in walk_back(live.log, begin):
        for row, listed in _rows(batch, asked):
            found.append(listed)
            if len(found) == limit:
                return AuditPage(found, begin - first - row, cursor_at(live, "audit", asked, first + row))
        before = int(first)
        if int(batch.rows["log_time_ms"][0]) < asked.since_ms:
            return AuditPage(found, begin - before)
    return AuditPage(found, begin - before, cursor_behind(live, "audit", asked, (begin, before)))


def _rows(batch: EventBatch, asked: AuditListing) -> list[tuple[int, AuditRow]]:
    """Return row and record of the wanted changes of a piece, the newest first."""
    rows = np.flatnonzero(of_kinds(batch, (int(Kind.CONTROL),)))[::-1]
    found: list[tuple[int, AuditRow]] = []
    for row, body in zip(rows.tolist(), text_column(batch, "body", rows), strict=True):
        time_ms, record = int(batch.rows["log_time_ms"][row]), audit_record_of(body)
        if record is None or time_ms < asked.since_ms:
            continue
        if asked.who not in {None, record.who} or asked.route not in {None, record.route}:
            continue
        shown = AuditRow(time_ms, record.who, record.address, record.method, record.route, record.target, record.status)
        found.append((row, shown))
    return found


def audit_record_of(body: bytes) -> AuditRecord | None:
    """Return the record of a control event; None = it is another's."""
    try:
        found = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return found if found.change == CHANGE else None
