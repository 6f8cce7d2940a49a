"""Messages of a shared topic: batches of events as the frames of the log hold them, and the founding of the topic.

A message of events is a frame of ``events.segments.frames``: schema version, rows, texts, packed where that saves, and
a checksum seeded by the log's id. Fields that say where a frame lies in a log have another use here: the first log
position is the number of the message at its node, the chain names the node's process, the generation holds flags. So a
node knows its own messages when they come back, and bytes of another log are no message. A message that counts under a
condition has a line of JSON before the frame, which the frame's checksum covers too.

The first message founds the topic: JSON with the fingerprint of the log's id, in the clear, so that a node with another
key is told so and does not take every message for rubbish. It holds no event.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import msgspec
import numpy as np

from midstream.core.errors import Fault
from midstream.core.types import EventBatch
from midstream.engine.ingest.input_guard import InputGuard
from midstream.engine.replication.shared_topic import MESSAGE_BYTES_MAX, TopicRefused
from midstream.engine.replication.topic_position import PAGE
from midstream.events.schema import ROW, SCHEMA_VERSION, cut, text_lengths
from midstream.events.segments.frames import HEAD_BYTES, batch_at, body_of, encode, head_at, is_sound, seed_of
from midstream.events.segments.log_identity import LOG_ID_BYTES

PROCESS_BYTES = 16
"""Random bytes that name a process which appends."""
_OWN_TIMES = 1
"""Flag: events bring their own log times, as in an import."""
_GUARD_BYTES_MAX = 4_096
"""Of a condition: an input's name of 512 bytes, each escaped to six, and a number."""
_RAW_BYTES_MAX = MESSAGE_BYTES_MAX - HEAD_BYTES - 8 - _GUARD_BYTES_MAX
_FOUNDING = b'{"midstream":'
_GUARD = b'{"guard":'


class Founding(msgspec.Struct, frozen=True):
    """Content of the message that founds a topic."""

    midstream: int
    """Version of this form."""
    key: str
    """Fingerprint of the log's id."""


class _Guarded(msgspec.Struct, frozen=True):
    """Line before the frame of a message that counts under a condition."""

    guard: InputGuard


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """A message of events."""

    batch: EventBatch
    process: bytes
    number: int
    """Of the message, among those of that process."""
    keeps_event_time: bool
    guard: InputGuard | None = None
    """Condition under which it counts; None = always."""


def shared_log_id(key: bytes, topic_id: str) -> bytes:
    """Return the id of the log that a topic holds: equal on all nodes with one key, another for another topic."""
    return blake2b(topic_id.encode(), digest_size=LOG_ID_BYTES, key=key, person=b"midstream shared").digest()


def fingerprint_of(log_id: bytes) -> str:
    """Return what may be said of a log's id in the clear."""
    return blake2b(log_id, digest_size=16, person=b"midstream shop").hexdigest()


def encode_founding(key: str) -> bytes:
    """Return the message that founds a topic."""
    return msgspec.json.encode(Founding(1, key))


def founding_of(value: bytes) -> Founding | None:
    """Return the founding in a message; None = it is another message."""
    if not value.startswith(_FOUNDING):
        return None
    try:
        return msgspec.json.decode(value, type=Founding)
    except msgspec.MsgspecError:
        return None


def encode_events(events: Events, log_id: bytes) -> bytes:
    """Return a batch of at least one event as a message."""
    flags = _OWN_TIMES if events.keeps_event_time else 0
    condition = b"" if events.guard is None else msgspec.json.encode(_Guarded(events.guard)) + b"\n"
    frame = encode(body_of(events.batch), events.number, flags, events.process, _seed_of(log_id, condition))
    return b"".join((condition, *frame.parts))


def decode_events(value: bytes, log_id: bytes, topic: str, offset: int) -> Events | None:
    """Return the events of a message; None = it holds none: a founding, or rubbish, the same on every node.

    Raises:
        TopicRefused: It was written by a version of the program whose events this version does not read.
    """
    condition, value = _parted(value)
    seed = _seed_of(log_id, condition)
    frame = head_at(value, 0, seed)
    if frame is None:
        return None
    # The head has a check of its own; the size of a body of another version is not known here.
    if frame.schema_version != SCHEMA_VERSION:
        came = f"Its message at offset {offset} has schema version {frame.schema_version} of events."
        right = (
            f"This version of midstream reads {SCHEMA_VERSION}: upgrade this node, or keep the others on its version."
        )
        raise TopicRefused((Fault(topic, came, right, PAGE),))
    if frame.length != len(value) or not is_sound(value, 0, frame, seed):
        return None
    batch = batch_at(value, 0, frame)
    if batch is None or not len(batch):
        return None
    guard = msgspec.json.decode(condition, type=_Guarded).guard if condition else None
    return Events(batch, frame.chain, frame.first, bool(frame.generation & _OWN_TIMES), guard)


def _parted(value: bytes) -> tuple[bytes, bytes]:
    """Return the condition of a message, empty = it has none, and its frame."""
    if not value.startswith(_GUARD):
        return b"", value
    end = value.find(b"\n", 0, _GUARD_BYTES_MAX) + 1
    return value[:end], value[end:]


def _seed_of(log_id: bytes, condition: bytes) -> int:
    """Return the seed of a message's checksum: another condition, and the frame is not sound."""
    if not condition:
        return seed_of(log_id)
    return seed_of(blake2b(condition, digest_size=LOG_ID_BYTES, key=log_id, person=b"midstream guard").digest())


def pieces(batch: EventBatch) -> Iterator[EventBatch]:
    """Yield a batch in parts that fit into a message each, in order; one that fits comes as it is.

    An event that is larger by itself comes alone; packed it may fit.
    """
    if ROW.itemsize * len(batch) + len(batch.text) <= _RAW_BYTES_MAX:
        yield batch
        return
    ends = np.cumsum(text_lengths(batch).sum(axis=1) + ROW.itemsize)
    start, before = 0, 0
    while start < len(batch):
        stop = max(start + 1, int(np.searchsorted(ends, before + _RAW_BYTES_MAX, side="right")))
        yield cut(batch, start, stop)
        start, before = stop, int(ends[stop - 1])
