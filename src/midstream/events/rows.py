"""Conversion of one wire event to rows: allowed combinations of fields, bounds, and the packed row.

Rows are packed directly into their bytes and the texts of an event are joined once, so that an event of ASCII text
costs about 2 µs. An event is accepted as a whole or not at all: an order with an invalid last line leaves no row.
"""

import struct
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import TypeAlias

import numpy as np

from midstream.core.errors import Fault, TooLarge
from midstream.core.kinds import RESERVED_TYPES, Kind, Operation
from midstream.core.types import EventBatch, Index
from midstream.events.faults import listed, nearest, shown
from midstream.events.schema import ROW, TIME_SENT
from midstream.events.values import NOT_IN_IDS, Path, attributes_body, content_body, context_body, merge_body
from midstream.events.wire import (
    EVENT_FIELDS,
    ID_FIELDS,
    LOG_TIME_MS_END,
    OPEN_TYPES,
    PAGE,
    TIME_MS_END,
    TIME_MS_MIN,
    TIME_SECONDS_END,
    TRUSTED_FIELDS,
    Accept,
    Refused,
    WireEvent,
    WireItem,
    right_of,
)

_CODES = {"|u1": "B", "<i2": "h", "<u2": "H", "<u4": "I", "<i8": "q", "<f8": "d", "<f4": "f"}
_pack_row = struct.Struct("<" + "".join(_CODES[field[1]] for field in ROW.descr)).pack
_NAN = float("nan")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_ISO_CHARS_MAX = 40
"""``2026-01-31T12:00:00.123456+05:30`` has 32; the rest is room for what a wrong one shows."""
_FLOAT32_END = (2 - 2**-24) * 2.0**127
"""Halfway between the largest float32 and the next power of two: from here on rounding gives an infinity."""
MORE_TYPES = "Further ones go into [events.types] of midstream.toml."
_RESERVED = {name: int(Kind[name.upper()]) for name in RESERVED_TYPES}
_TRUSTED = {name: kind for name, kind in _RESERVED.items() if kind != Kind.RETRACTION}
"""Of a trusted caller. A retraction names a log position of its own log, and an export has neither it nor its act."""
_OPERATIONS = {name: int(Operation[name.upper()]) for name in ("put", "patch", "delete", "merge")}
_INTERACTION = int(Kind.INTERACTION)
_IMPRESSION = int(Kind.IMPRESSION)
_ITEM = int(Kind.ITEM)
_USER = int(Kind.USER)
_ERASE = int(Kind.ERASE)

_ALWAYS = ("type", "time", "event_id", "log_time")
_WHO_AND_WHAT = ("user_id", "session_id", "item_id", "request_id", "value", "quantity", "position")
_ACT_FIELDS = frozenset((*_ALWAYS, *_WHO_AND_WHAT, "items", "context"))
_DOCUMENT_FIELDS = {
    _ITEM: frozenset((*_ALWAYS, "item_id", "operation", "attributes")),
    _USER: frozenset((*_ALWAYS, "user_id", "operation", "attributes")),
}
_CONTENT_FIELDS = frozenset((*_ALWAYS, *_WHO_AND_WHAT, "content", "content_base64"))
_REQUIRED = {
    _ITEM: "item_id",
    _USER: "user_id",
    int(Kind.SERVED): "request_id",
    _ERASE: "user_id",
}
_Fixed: TypeAlias = tuple[int, int, int | None, int, str, str]
"""Of all rows of an event: kind, operation, event time, log time, action, body."""


class Rows:
    """Collects the rows of the events that are taken, in order."""

    __slots__ = ("_accept", "_indices", "_rows", "_start", "_texts")

    def __init__(self, accept: Accept) -> None:
        """Begin with no row."""
        self._accept = accept
        self._rows: list[bytes] = []
        self._texts: list[str] = []
        self._indices: list[int] = []
        self._start = 0

    def batch(self) -> EventBatch:
        """Return the rows so far, in the order in which they were added."""
        return EventBatch(
            np.frombuffer(b"".join(self._rows), dtype=ROW), "".join(self._texts).encode("utf-8", "surrogateescape")
        )

    def event_index(self) -> Index:
        """Return for each row the number of its event, shape (n,)."""
        return np.array(self._indices, dtype=np.int32)

    def add(self, event: WireEvent, index: int) -> None:
        """Take an event as the request's number ``index``.

        Raises:
            Refused: The event breaks a rule. No row of it was kept.
            TooLarge: With this event the request has more rows, or more text in them, than one may hold.
        """
        accept = self._accept
        name = event.type
        operation = 0
        if name in accept.actions:
            kind, action = _INTERACTION, name
        else:
            kind, action = _reserved_kind(name, accept), ""
        if kind <= _IMPRESSION:
            body = _act_body(event, accept)
        elif kind <= _USER:
            operation, body = _document(event, kind, accept)
        else:
            body = _content(event, kind, accept)
        time = event.time
        if time is not None and not (type(time) is int and TIME_MS_MIN <= time < TIME_MS_END):
            time = time_of(time, accept)
        if event.log_time is not None:
            _check_log_time(event.log_time, accept)
        fixed = (kind, operation, time, event.log_time or 0, action, body)
        if event.items is None:
            self._put(fixed, event, event, event.event_id or "", ())
            self._indices.append(index)
        else:
            self._put_all(fixed, event, event.items)
            self._indices.extend([index] * len(event.items))
        limits = accept.limits
        if len(self._rows) > limits.rows_max or self._start > limits.text_bytes_max:
            self._refuse_size(index)

    def _refuse_size(self, index: int) -> None:
        limits = self._accept.limits
        count, bytes_count = len(self._rows), self._start
        came = f"{count} rows of {bytes_count} bytes of text from its events up to number {index}."
        right = (
            f"At most {limits.rows_max} rows and {limits.text_bytes_max} bytes of text a request; an event with items "
            "has a row for each, with its ids and its context. Send fewer events at once."
        )
        raise TooLarge((Fault("body", came, right, PAGE),))

    def _put_all(self, fixed: _Fixed, event: WireEvent, items: list[WireItem]) -> None:
        """Add a row for each item, or none."""
        _check_order(event, items, self._accept)
        kept, start = len(self._rows), self._start
        try:
            for number, item in enumerate(items):
                event_id = f"{event.event_id}#{number}" if event.event_id else ""
                self._put(fixed, event, item, event_id, ("items", number))
        except Refused:
            del self._rows[kept:]
            del self._texts[kept:]
            self._start = start
            raise

    def _put(self, fixed: _Fixed, event: WireEvent, item: WireEvent | WireItem, event_id: str, path: Path) -> None:
        """Add one row; ``item`` is the event itself, or one of its items, which lies at ``path``."""
        kind, operation, time, log_time, action, body = fixed
        texts = (
            event_id,
            action,
            event.user_id or "",
            item.item_id or "",
            event.session_id or "",
            event.request_id or "",
            body,
        )
        text = "".join(texts)
        lengths = [*map(len, texts)]
        bytes_count = len(text)
        if max(lengths) > self._accept.limits.id_chars_max or not text.isprintable():
            _check_ids(event, item, path, self._accept)
        if not text.isascii():
            lengths = [len(each.encode("utf-8", "surrogateescape")) for each in texts]
            bytes_count = sum(lengths)
        value, quantity, position = item.value, item.quantity, item.position
        if value is not None and not isfinite(value):
            raise Refused((*path, "value"), right_of("value", self._accept))
        # Written so that NaN, which compares with nothing, is refused too. Less than none would count as bought.
        if quantity is not None and not 0.0 <= quantity < _FLOAT32_END:
            raise Refused((*path, "quantity"), right_of("quantity", self._accept))
        event_id_bytes, action_bytes, user_bytes, item_bytes, session_bytes, request_bytes, body_bytes = lengths
        self._rows.append(
            _pack_row(
                kind,
                operation,
                0 if time is None else TIME_SENT,
                action_bytes,
                -1 if position is None else position,
                event_id_bytes,
                user_bytes,
                item_bytes,
                session_bytes,
                request_bytes,
                self._start,
                body_bytes,
                time or 0,
                log_time,
                _NAN if value is None else value,
                _NAN if quantity is None else quantity,
                0,
            )
        )
        self._texts.append(text)
        self._start += bytes_count


def _reserved_kind(name: str, accept: Accept) -> int:
    """Return the kind of a type that is not a configured interaction, or raise ``Refused``."""
    if name in accept.open_types or (accept.trusted and name in _TRUSTED):
        return _RESERVED[name]
    types = (*sorted(accept.actions), *sorted(_TRUSTED if accept.trusted else accept.open_types))
    right = f"Types: {listed(types)}."
    if name in _RESERVED and name not in OPEN_TYPES:
        raise Refused(("type",), right, f'"{name}" is reserved: the engine itself writes such events.')
    offered = [each for each in types if each not in accept.against]
    if accept.actions:
        right = f"{right} {MORE_TYPES}"
    raise Refused(("type",), right, f"{shown(name)} is not a type here.{nearest(name, offered)}")


def _act_body(event: WireEvent, accept: Accept) -> str:
    """Return the body of an interaction or impression, or raise ``Refused`` for fields that do not go together."""
    if event.attributes is not None or event.operation is not None:
        _refuse_foreign(event, _ACT_FIELDS)
    if event.content is not None or event.content_base64 is not None:
        _refuse_foreign(event, _ACT_FIELDS)
    if event.item_id is None and event.items is None:
        raise Refused(("item_id",), "An item: item_id, or items for several.", "Nothing was sent.")
    # Of an erased user the log keeps what was done and with which item, and so does an export, which has log times.
    is_export = accept.trusted and event.log_time is not None
    if event.user_id is None and event.session_id is None and not is_export:
        raise Refused(("user_id",), "A user, a session, or both: user_id, session_id.", "Nothing was sent.")
    return "" if event.context is None else context_body(event.context, accept)


def _document(event: WireEvent, kind: int, accept: Accept) -> tuple[int, str]:
    """Return operation and body of an item or user event, or raise ``Refused``."""
    _refuse_foreign(event, _DOCUMENT_FIELDS[kind])
    _require(event, kind)
    operation = _OPERATIONS[event.operation or "patch"]
    if operation == Operation.MERGE:
        if kind != _USER:
            raise Refused(("operation",), "put, patch or delete: only users are merged.")
        return operation, merge_body(event.attributes or {}, accept)
    if operation == Operation.DELETE:
        if event.attributes:
            raise Refused(("attributes",), "Nothing: a delete takes all attributes away.")
        return operation, ""
    return operation, attributes_body(event.attributes or {}, operation, of_item=kind == _ITEM, accept=accept)


def _content(event: WireEvent, kind: int, accept: Accept) -> str:
    """Return the body of an event that the engine wrote, or raise ``Refused``; bytes that are no UTF-8 as escapes."""
    _refuse_foreign(event, _CONTENT_FIELDS)
    _require(event, kind)
    if event.content_base64 is None:
        return "" if event.content is None else content_body(event.content, accept)
    if event.content is not None:
        raise Refused(("content_base64",), "Either content or content_base64.")
    try:
        return b64decode(event.content_base64, validate=True).decode("utf-8", "surrogateescape")
    except ValueError:
        raise Refused(("content_base64",), right_of("content_base64", accept)) from None


def _refuse_foreign(event: WireEvent, allowed: frozenset[str]) -> None:
    """Raise ``Refused`` for the first field that was sent and does not belong to this type of event."""
    for name in EVENT_FIELDS:
        if name not in allowed and getattr(event, name) is not None:
            fields = [each for each in EVENT_FIELDS if each in allowed - TRUSTED_FIELDS]
            came = f'"{name}" does not belong to an event of type {shown(event.type)}.'
            raise Refused((name,), f"Fields of such an event: {', '.join(fields)}.", came)


def _require(event: WireEvent, kind: int) -> None:
    name = _REQUIRED.get(kind)
    if kind == _ERASE and event.content is not None:
        return  # blanked: its content says who it was about, as hashes
    if name is not None and getattr(event, name) is None:
        raise Refused((name,), f"{name}: an event of type {event.type} needs it.", "Nothing was sent.")


def _check_order(event: WireEvent, items: list[WireItem], accept: Accept) -> None:
    """Raise ``Refused`` for an order without items or with too many, or with fields that belong to its items."""
    count_max = accept.limits.order_items_max
    if not 0 < len(items) <= count_max:
        raise Refused(("items",), right_of("items", accept))
    for name in ("item_id", "value", "quantity", "position"):
        if getattr(event, name) is not None:
            raise Refused((name,), f"{name} in each of the items: the event has several.")
    chars_max = accept.limits.id_chars_max - len(f"#{count_max - 1}")
    if event.event_id is not None and len(event.event_id) > chars_max:
        right = f"At most {chars_max} characters where there are items: each row adds #n to it."
        raise Refused(("event_id",), right)


def _check_log_time(log_time: int, accept: Accept) -> None:
    if not accept.trusted:
        raise Refused(("log_time",), "No log_time: the log stamps it. When it happened is time.")
    if not 0 <= log_time < LOG_TIME_MS_END:
        raise Refused(("log_time",), right_of("log_time", accept))


def _check_ids(event: WireEvent, item: WireEvent | WireItem, path: Path, accept: Accept) -> None:
    """Raise ``Refused`` for an id that is too long or holds a control character or half of a surrogate pair."""
    for name in ID_FIELDS:
        inner = name == "item_id"
        text: str | None = getattr(item if inner else event, name)
        if text and (len(text) > accept.limits.id_chars_max or NOT_IN_IDS.search(text)):
            raise Refused((*path, name) if inner else (name,), right_of(name, accept))


def time_of(time: float | str, accept: Accept) -> int:
    """Return the milliseconds since 1970 of a time as a client writes it.

    Args:
        time: Milliseconds, or ISO 8601 text with a zone; fractions of a millisecond of a text are cut off.
        accept: Used for messages.

    Raises:
        Refused: It is no time, has no zone, looks like another unit, or lies outside the years 2000 to 2100.
    """
    if isinstance(time, str):
        return _within_years(_parse_iso(time, accept), time, accept)
    if not isinstance(time, int) and not time.is_integer():
        raise Refused(("time",), right_of("time", accept))
    if time < TIME_SECONDS_END:
        raise Refused(("time",), right_of("time", accept), f"{shown(time)} looks like seconds.")
    return _within_years(int(time), time, accept)


def _parse_iso(text: str, accept: Accept) -> int:
    """Return the milliseconds since 1970 of ISO 8601 text, or raise ``Refused``."""
    if len(text) > _ISO_CHARS_MAX:
        raise Refused(("time",), right_of("time", accept))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(("time",), right_of("time", accept)) from None
    if moment.tzinfo is None:
        raise Refused(("time",), right_of("time", accept), f"{shown(text)} has no zone.")
    return (moment - _EPOCH) // _MILLISECOND


def _within_years(time_ms: int, sent: float | str, accept: Accept) -> int:
    if not TIME_MS_MIN <= time_ms < TIME_MS_END:
        raise Refused(("time",), right_of("time", accept), f"{shown(sent)} is outside the years 2000 to 2100.")
    return time_ms
