"""Decoding of broker messages: each message of a poll becomes events or dead letters, and no message stops the others.

Most messages are one plain JSON object each: they are decoded as NDJSON in one call. A message of several lines, of a
list or of ``{"events": [...]}`` is decoded alone. An event without an id gets one from the topic, the partition and
the position of its message, so that it is the same event whichever way the message comes again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from midstream.core.errors import Fault, RequestInvalid, TooLarge
from midstream.core.types import EventBatch, Index, Mask
from midstream.engine.inputs.broker_consumer import PartitionMessages
from midstream.events.content_ids import with_texts_as_ids
from midstream.events.json.decode import Decoded, Rejected, decode
from midstream.events.schema import concat
from midstream.events.wire import PAGE, Accept

NDJSON = "application/x-ndjson"


@dataclass(frozen=True, slots=True, eq=False)
class DecodedMessages:
    """Events of messages: those that can be appended, and those that cannot."""

    batch: EventBatch
    message: Index
    """Place of each row's message in the poll of its partition, ascending, (rows,)."""
    rejected: tuple[Rejected, ...]
    """``index`` is the place of the message."""


def decode_json(messages: PartitionMessages, accept: Accept) -> DecodedMessages:
    """Return the events of messages that hold JSON or NDJSON.

    Cost: about 2 µs a message of one event; 20 µs one that is decoded alone.
    """
    parts: list[DecodedMessages] = []
    numbered = enumerate(messages.values)
    for is_line, run in groupby(numbered, key=lambda each: _is_one_line(each[1])):
        entries = list(run)
        if is_line:
            parts += _lines([(place, value) for place, value in entries if value is not None], accept)
        else:
            parts += [_alone(place, value, accept) for place, value in entries]
    return _joined(parts)


def with_position_ids(decoded: DecodedMessages, topic: str, messages: PartitionMessages) -> EventBatch:
    """Return the batch in which an event without an id has the position of its message as one.

    Several rows of one message have a number behind it, from 0.
    """
    batch, message = decoded.batch, decoded.message
    needs: Mask = batch.rows["event_id_length"] == 0
    if not needs.any():
        return batch
    first = np.searchsorted(message, message)
    is_several = np.bincount(message, minlength=len(messages))[message] > 1
    prefix = f"{topic}-{messages.partition}-"
    places, numbers = message.tolist(), (np.arange(len(message)) - first).tolist()
    ids = [
        f"{prefix}{messages.positions[places[row]]}{f'#{numbers[row]}' if is_several[row] else ''}".encode()
        for row in np.flatnonzero(needs).tolist()
    ]
    return with_texts_as_ids(batch, needs, ids)


def _is_one_line(value: bytes | None) -> bool:
    return value is not None and value[:1] == b"{" and b"\n" not in value and not value.startswith(_ENVELOPE)


_ENVELOPE = (b'{"events"', b'{ "events"')
"""Begins most of the messages that have several events; another one is named as one event that has the field."""


def _lines(entries: Sequence[tuple[int, bytes]], accept: Accept) -> list[DecodedMessages]:
    """Return the events of messages of one line each; a run that is too large as a whole is halved."""
    try:
        decoded = decode(b"\n".join(value for _, value in entries), accept, NDJSON)
    except (TooLarge, RequestInvalid) as error:
        if len(entries) == 1:
            return [_nothing(entries[0][0], entries[0][1], error.faults[0])]
        half = len(entries) // 2
        return _lines(entries[:half], accept) + _lines(entries[half:], accept)
    places = np.array([place for place, _ in entries], dtype=np.int32)
    return [_placed(decoded, places)]


def _alone(place: int, value: bytes | None, accept: Accept) -> DecodedMessages:
    """Return the events of one message."""
    if not value:
        right = "A message whose content is an event."
        return _nothing(place, b"", Fault("message", "A message without content.", right, PAGE))
    try:
        decoded = decode(value, accept)
    except (TooLarge, RequestInvalid) as error:
        return _nothing(place, value, error.faults[0])
    return _placed(decoded, np.full(decoded.event_count, place, dtype=np.int32))


def _placed(decoded: Decoded, places: Index) -> DecodedMessages:
    """Return events with the places of their messages; ``places`` has one for each event."""
    rejected = tuple(Rejected(int(places[each.index]), each.fault, each.raw, each.item) for each in decoded.rejected)
    return DecodedMessages(decoded.batch, places[decoded.event_index], rejected)


def _nothing(place: int, value: bytes, fault: Fault) -> DecodedMessages:
    return DecodedMessages(concat(()), np.empty(0, dtype=np.int32), (Rejected(place, fault, value),))


def _joined(parts: Sequence[DecodedMessages]) -> DecodedMessages:
    if len(parts) == 1:
        return parts[0]
    message = [each.message for each in parts]
    return DecodedMessages(
        concat([each.batch for each in parts]),
        np.concatenate(message) if message else np.empty(0, dtype=np.int32),
        tuple(rejected for each in parts for rejected in each.rejected),
    )


def origin_of(topic: str, messages: PartitionMessages, place: int) -> Mapping[str, str]:
    """Return where a message came from, for its dead letter: topic, partition, position and headers."""
    headers = messages.headers.get(place, {})
    origin = {"topic": topic, "partition": messages.partition, "position": messages.positions[place]}
    return origin | {f"header {name}": value for name, value in headers.items()}
