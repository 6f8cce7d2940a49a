"""Decoding of a client's body to a batch of events; invalid events are rejected one by one.

Plain events, which nearly all are, become rows in a kernel; a body of others is decoded typed, in one call. If anything
is wrong, the body is split into its events, each is decoded alone, and the fault is described: an invalid event never
rejects its neighbours. Only a body that cannot be split (no JSON, too large, too many, too deep) is refused as a whole.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import msgspec
import numpy as np

from midstream.core.errors import Fault, RequestInvalid, TooLarge
from midstream.core.types import EventBatch, Index
from midstream.events.faults import fault_of, find_refusal, nearest, shown
from midstream.events.json.plain import PLAIN_BYTES_MIN, OddLine, in_order, plain_lines, plain_list
from midstream.events.rows import Rows
from midstream.events.values import nests_within
from midstream.events.wire import PAGE, Accept, Refused, WireEnvelope, WireEvent

_BODY_NESTING_MAX = 64
"""Levels that the splitting parser, which is recursive, is given: 8 for an event, 2 around it, and ample room."""
_FAILURES = (msgspec.MsgspecError, UnicodeError, RecursionError, Refused)
"""All that judging one event may raise."""
_RIGHT_FORBIDDEN = "Events of acts; or a key with the scope catalogue."
_RIGHT_BODY = 'One event, a list of events, {"events": [...]}, or one event a line (NDJSON), in UTF-8.'
_BOM = b"\xef\xbb\xbf"
_ENVELOPE = re.compile(rb'\s*\{\s*"events"\s*:')
_LIST = re.compile(rb'[ \t\r\n]*(\{[ \t\r\n]*"events"[ \t\r\n]*:[ \t\r\n]*)?\[')
_NEXT_LINE = re.compile(rb"\}[ \t\r]*\n\s*\{")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_SPACE = re.compile(r"[ \t\n\r]*")
_CAME_CHARS_MAX = 200
_KEPT = (bytes, bytearray, memoryview)
"""Python types that are refused as they are: msgspec would make base64 of them."""
_LOOSE_DIGITS_MAX = 300
"""Longer whole numbers are read as infinite where only words are made of them: Python refuses those of 4,300 digits."""

_decode_event = msgspec.json.Decoder(WireEvent).decode
_decode_lines = msgspec.json.Decoder(WireEvent).decode_lines
_decode_list = msgspec.json.Decoder(list[WireEvent]).decode
_decode_envelope = msgspec.json.Decoder(WireEnvelope).decode


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event that was not taken."""

    index: int
    """Its number among the events of the request, from 0."""
    fault: Fault
    raw: bytes
    """The event as it was sent."""
    item: int = -1
    """Place in its ``items`` of the one that was not taken, the others being judged apart; -1 = the event."""
    is_kept: bool = True
    """Whether it becomes a dead letter, where those are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A request's events: valid and rejected ones."""

    batch: EventBatch
    event_index: Index
    """For each row of the batch the number of its event in the request, ascending, shape (rows,)."""
    rejected: tuple[Rejected, ...]
    """In the order of the request."""
    event_count: int
    """Events in the request: each has rows or is rejected."""


@dataclass(frozen=True, slots=True)
class SingleEvent:
    """One event of a request by itself, to be judged or named alone."""

    prefix: str
    """Place of the event in the body."""
    raw: bytes
    loose: object
    """The event as untyped JSON, for the value in a message."""
    refused: Refused | None = None
    """Why it could not even be read."""


def decode(body: bytes, accept: Accept, content_type: str = "", lines_before: int = 0) -> Decoded:
    """Decode the body of a request: one event, a list, ``{"events": [...]}`` or NDJSON.

    Args:
        body: The bytes. Their content decides which of the four forms it is.
        accept: Settings of decoding.
        content_type: Of the request; one that names NDJSON (or JSON lines) decides the form, others are ignored.
        lines_before: Lines of NDJSON before this part: faults name the line in the whole.

    Raises:
        TooLarge: More bytes, events, rows or text in them than one request may have.
        RequestInvalid: The body is not JSON, not UTF-8 outside of its texts, or nests too deeply to be split.

    Cost: about 2 µs an event; a rejected event, or one in a body with a rejected one, about 20 µs more.
    """
    if len(body) > accept.limits.body_bytes_max:
        raise TooLarge((_fault("body", f"{len(body)} bytes.", f"At most {accept.limits.body_bytes_max} a request."),))
    body = body.removeprefix(_BOM)
    as_lines = is_ndjson(content_type)
    if (
        len(body) >= PLAIN_BYTES_MIN
        and (plain := _decode_plain(body, accept, lines_before, as_lines=as_lines)) is not None
    ):
        return plain
    try:
        events = _decode_typed(body, as_lines=as_lines)
        rows = Rows(accept)
        if len(events) == 1:
            rows.add(events[0], 0)
            return Decoded(rows.batch(), rows.event_index(), (), 1)
        _check_count(len(events), accept)
        for index, event in enumerate(events):
            rows.add(event, index)
        return Decoded(rows.batch(), rows.event_index(), (), len(events))
    except _FAILURES:
        parts = _split(body, accept, lines_before, as_lines=as_lines)
        return _judge(parts, lambda part: _decode_event(part.raw), accept)


def parts_of(body: bytes, accept: Accept, content_type: str = "", lines_before: int = 0) -> Sequence[SingleEvent]:
    """Return the events of a body that ``decode`` could split, one by one: to name one that is refused later.

    Args:
        body: As ``decode`` was given it, and so are the others.
        accept: The terms on which events are taken.
        content_type: Of the request.
        lines_before: Lines of NDJSON that came before.

    Cost: about 20 µs an event.
    """
    return _split(body.removeprefix(_BOM), accept, lines_before, as_lines=is_ndjson(content_type))


def is_ndjson(content_type: str) -> bool:
    """Return whether a content type means one JSON document a line; its parameters mean nothing."""
    essence = content_type.partition(";")[0]
    return "ndjson" in essence or "jsonl" in essence


def decode_objects(objects: Sequence[Mapping[str, object]], accept: Accept) -> Decoded:
    """Decode events that are Python objects: dicts of the same fields as on the wire.

    Datetimes with a zone, NumPy numbers and tuples are converted to their JSON meaning.

    Args:
        objects: The events. ``Rejected.raw`` of a rejected one is its JSON, as far as it has one.
        accept: Settings of decoding.

    Raises:
        TooLarge: More events, rows or text in them than one request may have.
    """
    _check_count(len(objects), accept)
    parts = parts_of_objects(objects)
    return _judge(parts, read_loose, accept)


def parts_of_objects(objects: Sequence[Mapping[str, object]]) -> Sequence[SingleEvent]:
    """Return events that are Python objects one by one: to name one that is refused later. Cost: 20 µs an event."""
    return [_part_of_object(number, each) for number, each in enumerate(objects)]


def _decode_plain(body: bytes, accept: Accept, lines_before: int, *, as_lines: bool) -> Decoded | None:
    """Return what ``decode`` is to return, when most of the body's events are plain; None = decode it the other way."""
    if not as_lines:
        begins = _LIST.match(body)
        if begins is not None:
            batch = plain_list(body, begins.end() - 1, b"}" if begins[1] else b"", accept)
            if batch is None or not _fits(batch, accept) or len(batch) > accept.limits.events_max:
                return None
            return Decoded(batch, np.arange(len(batch), dtype=np.int32), (), len(batch))
        if not _NEXT_LINE.search(body):
            return None
    lines = plain_lines(body, accept)
    if lines is None:
        return None
    _check_count(lines.event_count, accept)
    rows, rejected = _judge_odd(lines.odd, accept, lines_before)
    if rejected and not as_lines:
        return None  # perhaps it is no NDJSON at all
    batch, event_index = in_order(lines.batch, lines.event_index, rows.batch(), rows.event_index())
    # What is too much as a whole is named by the way that counts event by event.
    return Decoded(batch, event_index, tuple(rejected), lines.event_count) if _fits(batch, accept) else None


def _fits(batch: EventBatch, accept: Accept) -> bool:
    return len(batch) <= accept.limits.rows_max and len(batch.text) <= accept.limits.text_bytes_max


def _judge_odd(odd: Sequence[OddLine], accept: Accept, lines_before: int) -> tuple[Rows, list[Rejected]]:
    """Take or refuse the lines that are not plain; only what is refused is read a second time, for its reason."""
    rows = Rows(accept)
    rejected: list[Rejected] = []
    for event, line, raw in odd:
        try:
            rows.add(_decode_event(raw), event)
        except _FAILURES as failure:
            part = _part_of_line(lines_before + line, raw.strip(b" \t\r"), accept)
            rejected.append(_rejected(event, part, failure, accept))
    return rows, rejected


def _decode_typed(body: bytes, *, as_lines: bool) -> list[WireEvent]:
    """Return all events of a body in one of its four forms; whatever is wrong raises."""
    if as_lines:
        return _decode_lines_typed(body)
    if body[:64].lstrip()[:1] == b"[":
        return _decode_list(body)
    if _ENVELOPE.match(body):
        return _decode_envelope(body).events
    # An object that ends a line and one that begins the next cannot be within one JSON document.
    if _NEXT_LINE.search(body):
        return _decode_lines_typed(body)
    return [_decode_event(body)]


def _decode_lines_typed(body: bytes) -> list[WireEvent]:
    """Return the events of NDJSON. msgspec would take several in a line, or one that spans lines; this does not."""
    events = _decode_lines(body)
    if len(events) != sum(1 for line in body.split(b"\n") if line.strip()):
        raise Refused((), "One event a line.")
    return events


def _judge(parts: Sequence[SingleEvent], read: Callable[[SingleEvent], WireEvent], accept: Accept) -> Decoded:
    """Take or refuse each event for itself."""
    rows = Rows(accept)
    judged = [judge_part(rows, index, part, read, accept) for index, part in enumerate(parts)]
    rejected = [each for each in judged if each is not None]
    return Decoded(rows.batch(), rows.event_index(), tuple(rejected), len(parts))


def judge_part(
    rows: Rows, index: int, part: SingleEvent, read: Callable[[SingleEvent], WireEvent], accept: Accept
) -> Rejected | None:
    """Add the rows of an event, the request's number ``index``, or return why it cannot be taken.

    Raises:
        TooLarge: With this event the request has more rows, or more text in them, than one may hold.
    """
    try:
        if part.refused is not None:
            raise part.refused
        rows.add(read(part), index)
    except _FAILURES as failure:
        return _rejected(index, part, failure, accept)
    return None


def read_loose(part: SingleEvent) -> WireEvent:
    """Return an event that is an object of the values that JSON has, or raise what msgspec raises."""
    return msgspec.convert(part.loose, WireEvent)


def _rejected(index: int, part: SingleEvent, failure: Exception, accept: Accept) -> Rejected:
    """Return an event that was not taken, with what is wrong in words."""
    if accept.forbidden and (forbidden := _forbidden_type(part.loose, accept)):
        fault = Fault(f"{part.prefix}/type", f'The key may not send "{forbidden}".', _RIGHT_FORBIDDEN, PAGE)
        return Rejected(index, fault, part.raw, is_kept=False)
    refused = part.refused or (failure if isinstance(failure, Refused) else None)
    refused = refused or find_refusal(part.loose, failure, accept)
    return Rejected(index, fault_of(refused, part.prefix, part.loose), part.raw)


def _forbidden_type(loose: object, accept: Accept) -> str:
    """Return the type of an event that its sender may not send; empty = it may."""
    name = cast("dict[str, object]", loose).get("type") if isinstance(loose, dict) else None
    return name if isinstance(name, str) and name in accept.forbidden else ""


def _split(body: bytes, accept: Accept, lines_before: int, *, as_lines: bool) -> list[SingleEvent]:
    """Return the events of a body one by one, or raise ``RequestInvalid`` or ``TooLarge``."""
    if as_lines:
        return _split_lines(body, accept, lines_before)
    text = _text_of(body)
    levels = _nesting(body)
    try:
        if levels <= _BODY_NESTING_MAX:
            return _split_document(text, accept)
    except json.JSONDecodeError as failure:
        if not _begins_as_lines(body):
            raise RequestInvalid((_fault("body", _not_json(text, failure), _RIGHT_BODY),)) from None
    if _begins_as_lines(body):
        return _split_lines(body, accept, lines_before)
    right = f"At most {accept.limits.nesting_max} in one event."
    raise RequestInvalid((_fault("body", f"{levels} levels of objects and lists.", right),))


def _split_document(text: str, accept: Accept) -> list[SingleEvent]:
    """Return the events of one JSON document, or raise ``JSONDecodeError`` or ``RequestInvalid``."""
    start = _skip(text, 0)
    if start == len(text):
        raise RequestInvalid((_fault("body", "Nothing was sent.", _RIGHT_BODY),))
    value = _scan_whole(text)
    if isinstance(value, list):
        _check_count(len(cast("list[object]", value)), accept)
        return list(_split_list(text, start, ""))
    if not isinstance(value, dict):
        raise RequestInvalid((_fault("body", f"{shown(value)}.", _RIGHT_BODY),))
    fields = cast("dict[str, object]", value)
    if "events" not in fields:
        return [SingleEvent("", _bytes_of(text).strip(), fields)]
    for name in fields:
        if name != "events":
            came = f'{shown(name)} is not a field beside "events".{nearest(name, ["events"])}'
            raise RequestInvalid((_fault("body", came, _RIGHT_BODY),))
    events = fields["events"]
    if not isinstance(events, list):
        raise RequestInvalid((_fault("/events", f"{shown(events)}.", "A list of events."),))
    _check_count(len(cast("list[object]", events)), accept)
    return list(_split_list(text, _events_start(text, start), "/events"))


def _events_start(text: str, start: int) -> int:
    """Return where the list of a valid ``{"events": [...]}`` begins; of a name sent twice the last one counts."""
    found = position = start
    while text[position] != "}":
        _, position = _scan(text, _skip(text, position + 1))
        found = _skip(text, _skip(text, position) + 1)
        _, position = _scan(text, found)
        position = _skip(text, position)
    return found


def _split_list(text: str, start: int, prefix: str) -> Iterator[SingleEvent]:
    """Return the elements of the valid JSON list that begins at ``start``."""
    position = _skip(text, start + 1)
    number = 0
    while text[position] != "]":
        value, stop = _scan(text, position)
        yield SingleEvent(f"{prefix}/{number}", _bytes_of(text[position:stop]), value)
        number += 1
        position = _skip(text, stop)
        if text[position] == ",":
            position = _skip(text, position + 1)


def _split_lines(body: bytes, accept: Accept, lines_before: int) -> list[SingleEvent]:
    """Return the events of NDJSON; lines without anything are passed by, but counted in the line numbers."""
    lines = [(number, line.strip(b" \t\r")) for number, line in enumerate(body.split(b"\n"), start=lines_before + 1)]
    filled = [(number, line) for number, line in lines if line]
    _check_count(len(filled), accept)
    return [_part_of_line(number, line, accept) for number, line in filled]


def _part_of_line(number: int, raw: bytes, accept: Accept) -> SingleEvent:
    prefix = f"line {number}: "
    levels = _nesting(raw)
    if levels > _BODY_NESTING_MAX:
        right = f"At most {accept.limits.nesting_max} in one event."
        return SingleEvent(prefix, raw, None, Refused((), right, f"{levels} levels of objects and lists."))
    text = _text_of(raw)
    try:
        return SingleEvent(prefix, raw, _scan_whole(text))
    except json.JSONDecodeError as failure:
        return SingleEvent(prefix, raw, None, Refused((), "One event in JSON a line.", _not_json(text, failure)))


def _part_of_object(number: int, event: Mapping[str, object]) -> SingleEvent:
    """Return an event that is a Python object in the values that JSON has, NaN included."""
    prefix = f"/{number}"
    try:
        loose = _plain(event)
        if nests_within(loose, _BODY_NESTING_MAX):
            return SingleEvent(prefix, _raw_of(loose), loose)
        failure: Exception = RecursionError(f"More than {_BODY_NESTING_MAX} levels")
    except (TypeError, ValueError, RecursionError, NotImplementedError) as raised:
        failure = raised
    right = "A dict of texts, numbers, booleans, lists and dicts."
    return SingleEvent(prefix, b"", None, Refused((), right, f"{failure}."[:_CAME_CHARS_MAX]))


def _plain(event: Mapping[str, object]) -> object:
    """Return an event in the values that JSON has, or raise what says why it has none."""
    loose: dict[object, object] = msgspec.to_builtins(dict(event), builtin_types=_KEPT, enc_hook=_builtin)
    for name in loose:
        if not isinstance(name, str):
            message = f"a name of type {type(name).__name__}"
            raise TypeError(message)
    return loose


def _builtin(value: object) -> object:
    """Return what JSON has in the place of a NumPy value or a mapping that is no dict."""
    if isinstance(value, np.generic):
        return cast("object", value.item())
    if isinstance(value, np.ndarray):
        return list(cast("Iterable[object]", value))
    if isinstance(value, Mapping):
        return dict(cast("Mapping[object, object]", value))
    message = f"a value of type {type(value).__name__}"
    raise NotImplementedError(message)


def _raw_of(loose: object) -> bytes:
    return json.dumps(loose, separators=(",", ":"), default=repr).encode()


def _begins_as_lines(body: bytes) -> bool:
    """Say whether a body that is not one document has a JSON object alone on one of its first two lines."""
    lines = [line for line in body.split(b"\n") if line.strip()]
    return len(lines) > 1 and body.lstrip()[:1] != b"[" and any(_is_object(line) for line in lines[:2])


def _is_object(raw: bytes) -> bool:
    try:
        return _nesting(raw) <= _BODY_NESTING_MAX and isinstance(_scan_whole(_text_of(raw)), dict)
    except json.JSONDecodeError:
        return False


def _nesting(raw: bytes) -> int:
    """Return the levels of objects and lists, exact for JSON; of anything else, those before its first mistake."""
    marks = np.frombuffer(_STRING.sub(b"", raw), dtype=np.uint8)
    opens = (marks == ord("[")) | (marks == ord("{"))
    closes = (marks == ord("]")) | (marks == ord("}"))
    return int(np.cumsum(opens.astype(np.int32) - closes).max(initial=0))


def _loose_int(digits: str) -> float:
    return int(digits) if len(digits) <= _LOOSE_DIGITS_MAX else float("inf")


_scan = json.JSONDecoder(strict=False, parse_int=_loose_int).raw_decode


def _skip(text: str, position: int) -> int:
    """Return the position of the next character that is not JSON's white space."""
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _scan_whole(text: str) -> object:
    """Return the one value that a text holds, or raise ``JSONDecodeError``."""
    value, stop = _scan(text, _skip(text, 0))
    if _skip(text, stop) != len(text):
        message = "More follows the end"
        raise json.JSONDecodeError(message, text, stop)
    return value


def _text_of(raw: bytes) -> str:
    """Return bytes as text; those that are no UTF-8 become halves of surrogate pairs, which no event may hold."""
    return raw.decode("utf-8", "surrogateescape")


def _bytes_of(text: str) -> bytes:
    """Return the bytes that a text was decoded from, those that are no UTF-8 included."""
    return text.encode("utf-8", "surrogateescape")


def _not_json(text: str, failure: json.JSONDecodeError) -> str:
    return f"Not JSON: {failure.msg} (byte {len(_bytes_of(text[: failure.pos]))})."


def _check_count(count: int, accept: Accept) -> None:
    """Raise ``TooLarge`` for more events than one request may hold."""
    if count > accept.limits.events_max:
        raise TooLarge((_fault("body", f"{count} events.", f"At most {accept.limits.events_max} a request."),))


def _fault(where: str, came: str, right: str) -> Fault:
    return Fault(where, came, right, PAGE)
