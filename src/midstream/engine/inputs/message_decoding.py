"""Decoding of broker messages: each message of a poll becomes events or dead letters, and no message stops the others.

All messages of a poll are decoded in few calls, whatever their partitions are: those of one line each, and all lines of
NDJSON, in one. A message of a list or of ``{"events": [...]}`` is decoded alone. Events are numbered over the poll; of
each it is known which message it stands in, and in which row of that. An event without an id gets one from the topic
and its identity, the partition and the position of its message, so that it is the same event whichever way the message
comes again.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import msgspec
import numpy as np

from midstream.core.errors import Fault, RequestInvalid, TooLarge
from midstream.core.types import EventBatch, Index, Mask
from midstream.engine.ingest.admitted_batch import PartOf
from midstream.engine.inputs.polled_messages import PolledMessages
from midstream.events.content_ids import with_texts_as_ids
from midstream.events.json.decode import Decoded, Rejected, SingleEvent, decode, parts_of
from midstream.events.schema import concat, pick
from midstream.events.wire import PAGE, Accept

NDJSON = "application/x-ndjson"
LINE_BYTES_MAX = 262_144
"""Of one event, as over HTTP."""
MESSAGE_ROWS_MAX = 50_000
"""Rows that one message may become: they are recorded in one frame, and half of what may wait for the log."""
DECODED_BYTES_MAX = 32 << 20
"""Of one call of decoding, as it came and as text of rows: twice what a consumer keeps in its queue. More messages are
decoded in halves."""
ENVELOPE = (b'{"events"', b'{ "events"')
"""Begins most of the messages that have several events; another one is named as one event that has the field."""
_EMPTY = np.empty(0, dtype=np.int32)
_LINE = re.compile(r"^(?:line|row) \d+(?:: )?")


@dataclass(frozen=True, slots=True, eq=False)
class DecodedMessages:
    """Events of the messages of a poll: those that can be appended, and those that cannot."""

    decoded: Decoded
    """Its events are numbered over all messages; a message that holds none counts as one, which is rejected."""
    message: Index
    """Number of each event's message, ascending, (events,)."""
    row: Index
    """Place of each event in its message, -1 = it is all of the message, (events,)."""
    part: PartOf
    """Names one of the events."""


DecodeMessages: TypeAlias = Callable[[Sequence[bytes | None]], DecodedMessages]
"""Decodes the contents of messages; it never raises for what a message holds."""
DecodeLines: TypeAlias = Callable[[Sequence[bytes]], Decoded]
"""Decodes events, one a line.

Raises ``TooLarge`` or ``RequestInvalid`` where all of them together are too much for a call.
"""


def decode_json(values: Sequence[bytes | None], accept: Accept) -> DecodedMessages:
    """Return the events of messages that hold one event, a list, ``{"events": [...]}`` or NDJSON each.

    Cost: about 0.5 µs a plain message of one event; 20 µs one that is decoded alone.
    """
    accept = replaced_limits(accept)
    lines: list[tuple[int, bytes]] = []
    parts: list[DecodedMessages] = []
    for number, value in enumerate(values):
        if value and value[:1] == b"{" and b"\n" not in value and not value.startswith(ENVELOPE):
            lines.append((number, value))
        else:
            parts.append(_alone(number, value, accept))
    if lines:
        message = np.array([number for number, _ in lines], dtype=np.int32)
        row = np.full(len(lines), -1, dtype=np.int32)
        parts.append(decoded_lines([value for _, value in lines], message, row, line_decoder(accept)))
    return joined(parts)


def decode_ndjson(values: Sequence[bytes | None], accept: Accept) -> DecodedMessages:
    """Return the events of messages of which each line is an event. Cost: about 1 µs an event."""
    return decode_message_lines(values, line_decoder(replaced_limits(accept)))


def decode_message_lines(values: Sequence[bytes | None], decode_them: DecodeLines) -> DecodedMessages:
    """Return the events of messages of which each line is an event, decoded by ``decode_them`` in few calls."""
    lines: list[bytes] = []
    counts: list[int] = []
    parts: list[DecodedMessages] = []
    for number, value in enumerate(values):
        own = [each for each in (value or b"").split(b"\n") if each.strip(b" \t\r")]
        if not own:
            parts.append(nothing(number, value or b"", EMPTY_MESSAGE))
        elif len(own) > MESSAGE_ROWS_MAX:
            parts.append(nothing(number, value or b"", too_many(len(own))))
            own = []
        lines += own
        counts.append(len(own))
    message = np.repeat(np.arange(len(values), dtype=np.int32), counts)
    if lines:
        parts.append(decoded_lines(lines, message, places_of(message), decode_them))
    return joined(parts)


def replaced_limits(accept: Accept) -> Accept:
    """Return the terms with the limits of a call of decoding; those of one event stay."""
    limits = msgspec.structs.replace(
        accept.limits,
        body_bytes_max=DECODED_BYTES_MAX,
        events_max=MESSAGE_ROWS_MAX,
        rows_max=MESSAGE_ROWS_MAX,
        text_bytes_max=DECODED_BYTES_MAX,
    )
    return msgspec.structs.replace(accept, limits=limits)


def places_of(group: Index) -> Index:
    """Return the place of each row in its group, from 0; ``group`` is ascending."""
    return (np.arange(len(group)) - np.searchsorted(group, group)).astype(np.int32)


def places_of_several(group: Index) -> Index:
    """Return the place of each row in its group, -1 where it is alone there; ``group`` is ascending."""
    is_same = group[1:] == group[:-1]
    is_several = np.concatenate((is_same, [False])) | np.concatenate(([False], is_same))
    return np.where(is_several, places_of(group), -1).astype(np.int32)


def line_decoder(accept: Accept) -> DecodeLines:
    """Return what decodes events of the fields on the wire."""
    return lambda lines: decode(b"\n".join(lines), accept, NDJSON)


def decoded_lines(lines: Sequence[bytes], message: Index, row: Index, decode_them: DecodeLines) -> DecodedMessages:
    """Return the events of lines; lines that are too many for a call are decoded in halves.

    Args:
        lines: Not empty, each one event and no more.
        message: Number of each line's message, ascending.
        row: Place of each line in its message.
        decode_them: Numbers the events by their lines.
    """
    longest = max(map(len, lines))
    if len(lines) <= MESSAGE_ROWS_MAX and longest <= LINE_BYTES_MAX:
        try:
            found = decode_them(lines)
        except (TooLarge, RequestInvalid) as error:
            if len(lines) == 1:
                return nothing(int(message[0]), lines[0], error.faults[0], int(row[0]))
        else:
            return DecodedMessages(relocated(found), message, row, lambda number: SingleEvent("", lines[number], None))
    elif len(lines) == 1:
        fault = Fault("message", f"An event of {longest} bytes.", f"At most {LINE_BYTES_MAX}.", PAGE)
        return nothing(int(message[0]), lines[0], fault, int(row[0]))
    half = len(lines) // 2
    return joined(
        [
            decoded_lines(lines[:half], message[:half], row[:half], decode_them),
            decoded_lines(lines[half:], message[half:], row[half:], decode_them),
        ]
    )


def relocated(found: Decoded) -> Decoded:
    """Return events whose faults say where in the event they are, without the line among those of other messages."""
    if not found.rejected:
        return found
    rejected = tuple(
        replace(each, fault=replace(each.fault, where=_LINE.sub("", each.fault.where) or "message"))
        for each in found.rejected
    )
    return replace(found, rejected=rejected)


EMPTY_MESSAGE = Fault("message", "A message without content.", "A message whose content is an event.", PAGE)


def too_many(count: int) -> Fault:
    """Return the fault of a message of more rows than fit into one frame."""
    came = f"A message of {count:,} events, the items of an order counted each."
    return Fault("message", came, f"At most {MESSAGE_ROWS_MAX:,}.", PAGE)


def _alone(number: int, value: bytes | None, accept: Accept) -> DecodedMessages:
    """Return the events of one message."""
    if not value:
        return nothing(number, b"", EMPTY_MESSAGE)
    try:
        found = decode(value, accept)
    except (TooLarge, RequestInvalid) as error:
        return nothing(number, value, error.faults[0])
    if not found.event_count:
        return nothing(number, value, EMPTY_MESSAGE)
    message = np.full(found.event_count, number, dtype=np.int32)
    return DecodedMessages(found, message, places_of_several(message), lambda event: parts_of(value, accept)[event])


def nothing(number: int, value: bytes, fault: Fault, row: int = -1) -> DecodedMessages:
    """Return a message, or a row of one, that holds no event."""
    decoded = Decoded(concat(()), _EMPTY, (Rejected(0, fault, value),), 1)
    place = np.array([number], dtype=np.int32), np.array([row], dtype=np.int32)
    return DecodedMessages(decoded, *place, lambda _: SingleEvent("", value, None))


def joined(parts: Sequence[DecodedMessages]) -> DecodedMessages:
    """Return the events of several parts in the order of their messages and rows."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return DecodedMessages(Decoded(concat(()), _EMPTY, (), 0), _EMPTY, _EMPTY, lambda _: SingleEvent("", b"", None))
    starts = np.cumsum([0, *(each.decoded.event_count for each in parts)]).astype(np.int32)
    message = np.concatenate([each.message for each in parts])
    row = np.concatenate([each.row for each in parts])
    order = np.lexsort((row, message))
    number = np.empty(len(order), dtype=np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    batch = concat([each.decoded.batch for each in parts])
    event = number[
        np.concatenate([each.decoded.event_index + start for each, start in zip(parts, starts[:-1], strict=True)])
    ]
    rows = np.argsort(event, kind="stable")
    is_in_order = bool((rows[1:] > rows[:-1]).all())
    rejected = [
        replace(each, index=int(number[each.index + start]))
        for part, start in zip(parts, starts.tolist(), strict=False)
        for each in part.decoded.rejected
    ]
    decoded = Decoded(
        batch if is_in_order else pick(batch, rows),
        event if is_in_order else event[rows],
        tuple(sorted(rejected, key=lambda each: (each.index, each.item))),
        len(order),
    )

    def part_of(wanted: int) -> SingleEvent:
        place = int(order[wanted])
        at = int(np.searchsorted(starts, place, side="right")) - 1
        return parts[at].part(place - int(starts[at]))

    return DecodedMessages(decoded, message[order], row[order], part_of)


def with_position_ids(found: DecodedMessages, polled: PolledMessages) -> EventBatch:
    """Return the batch in which an event without an id has the position of its message as one.

    A row of a message has its number behind it, and so has an item of an event. Cost: about 0.3 µs a row.
    """
    batch, event = found.decoded.batch, found.decoded.event_index
    needs: Mask = batch.rows["event_id_length"] == 0
    if not needs.any():
        return batch
    names = polled.ids()
    item = places_of_several(event)
    at = np.flatnonzero(needs)
    messages, rows, items = found.message[event[at]].tolist(), found.row[event[at]].tolist(), item[at].tolist()
    ids = [
        f"{names[message]}{'' if row < 0 else f'#{row}'}{'' if item < 0 else f'#{item}'}".encode()
        for message, row, item in zip(messages, rows, items, strict=True)
    ]
    return with_texts_as_ids(batch, needs, ids)
