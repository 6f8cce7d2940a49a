"""The bytes of the log: a frame a commit, and the opening of a segment file.

A frame is a head, the batch's rows, the batch's text and zeros up to a multiple of 8, so rows are aligned wherever
they are read into memory. Its checksum covers all of it, and names the checksum before it, so frames cannot change
places. The head has a check of its own: a reader may then trust its length and hop over the body. Both are seeded by
the log's random id: bytes from another log, or sent by a client who wants to look like a frame, are not one.

A segment opens with the name, size and last checksum of the segment before it, so a file that is missing or was cut
short is noticed without reading it. Opening and first frame are written together.

Reference: xxHash, Y. Collet, XXH3 64 and 128 bit.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xxhash

from midstream.core.types import EventBatch
from midstream.events.disk import Bytes
from midstream.events.schema import ROW, SCHEMA_VERSION

FRAME_BYTES_MAX = 1 << 30
"""A commit holds at most 1,000 events of 256 KiB (250 MiB) by the limits of decoding; four times that is a bug."""
OPENING_BYTES = 80
HEAD_BYTES = 80
"""56 of fields, 8 of check, 16 of checksum. With a row of 56 a commit of one event costs 136 bytes and its texts."""

_MAGIC = b"msf1"
_OPENING_MAGIC = b"msg1"
_HEAD = struct.Struct("<4sHHIIQQq16s")
_CHECKED = _HEAD.size
_CHECK = struct.Struct("<Q")
_SUMMED = _CHECKED + _CHECK.size
_OPENING = struct.Struct("<4sHHqqq16s16s")
_ALIGNMENT = 8
_ZEROS = tuple(bytes(count) for count in range(_ALIGNMENT))


class Opening(NamedTuple):
    """First bytes of a segment file."""

    first: int
    """Log position at which the segment begins; also its name."""
    before: int
    """Log position at which the segment before it begins, -1 = it is the first of the log."""
    before_bytes: int
    """Size of the segment before it."""
    log_id: bytes
    chain: bytes
    """Checksum of the last frame before it; the log id where there is none."""
    checksum: bytes
    """Of this opening: what the segment's first frame names as the checksum before it."""


class Frame(NamedTuple):
    """Head of one commit."""

    schema_version: int
    event_count: int
    text_bytes: int
    generation: int
    first: int
    """Log position of its first event."""
    log_time_ms: int
    """Of its last event."""
    chain: bytes
    """Checksum of what stands before it: a frame, or the segment's opening."""
    checksum: bytes
    length: int
    """Bytes in the file, all told."""

    @property
    def end(self) -> int:
        """Log position after its last event."""
        return self.first + self.event_count


class Encoded(NamedTuple):
    """A frame ready to be written."""

    parts: tuple[Bytes, ...]
    checksum: bytes


def frame_bytes(batch: EventBatch) -> int:
    """Return the size of the batch's frame."""
    return _length(batch.rows.nbytes + len(batch.text))


def encode(batch: EventBatch, first: int, generation: int, chain: bytes, seed: int) -> Encoded:
    """Return the frame of a batch of at least one event, its rows and text not copied."""
    rows = np.ascontiguousarray(batch.rows).data
    fields = _HEAD.pack(
        _MAGIC,
        SCHEMA_VERSION,
        0,
        len(batch),
        len(batch.text),
        generation,
        first,
        int(batch.rows["log_time_ms"][-1]),
        chain,
    )
    head = fields + _CHECK.pack(xxhash.xxh3_64_intdigest(fields, seed))
    zeros = _ZEROS[-(rows.nbytes + len(batch.text)) % _ALIGNMENT]
    summed = xxhash.xxh3_128(head, seed)
    summed.update(rows)
    summed.update(batch.text)
    summed.update(zeros)
    checksum = summed.digest()
    return Encoded((head + checksum, rows, batch.text, zeros), checksum)


def head_at(data: Bytes, start: int, seed: int) -> Frame | None:
    """Return the head at ``start``, or None when no head of this log stands there. The body is not looked at."""
    if start + HEAD_BYTES > len(data) or data[start : start + 4] != _MAGIC:
        return None
    (check,) = _CHECK.unpack_from(data, start + _CHECKED)
    if xxhash.xxh3_64_intdigest(data[start : start + _CHECKED], seed) != check:
        return None
    fields = _HEAD.unpack_from(data, start)
    _, schema_version, _, count, text_bytes, generation, first, log_time_ms, chain = fields
    checksum = bytes(data[start + _SUMMED : start + HEAD_BYTES])
    length = _length(count * ROW.itemsize + text_bytes)
    return Frame(schema_version, count, text_bytes, generation, first, log_time_ms, chain, checksum, length)


def is_sound(data: Bytes, start: int, frame: Frame, seed: int) -> bool:
    """Return True when all of the frame at ``start`` is there and matches its checksum."""
    view = memoryview(data)[start : start + frame.length]
    if len(view) < frame.length:
        return False
    summed = xxhash.xxh3_128(view[:_SUMMED], seed)
    summed.update(view[HEAD_BYTES:])
    return summed.digest() == frame.checksum


def batch_at(data: bytes, start: int, frame: Frame) -> EventBatch:
    """Return the events of a sound frame. The rows are a view of ``data``, the text is a copy."""
    rows = np.frombuffer(data, dtype=ROW, count=frame.event_count, offset=start + HEAD_BYTES)
    text = start + HEAD_BYTES + rows.nbytes
    return EventBatch(rows, data[text : text + frame.text_bytes])


def later_head(data: Bytes, start: int, position: int, seed: int) -> Frame | None:
    """Return the first head at or after byte ``start`` of a commit at or after log position ``position``.

    A commit is only begun when the one before it is durable. So such a head proves that what stands before it was
    once whole, and is damaged; without one it may be the rest of a commit that a crash cut short. Heads of earlier
    positions are old blocks in a wrong place and prove nothing.
    """
    whole = bytes(data)
    found = whole.find(_MAGIC, start)
    while found >= 0:
        frame = head_at(whole, found, seed) if found % _ALIGNMENT == 0 else None
        if frame is not None and frame.first >= position:
            return frame
        found = whole.find(_MAGIC, found + 1)
    return None


def encode_opening(first: int, before: int, before_bytes: int, log_id: bytes, chain: bytes) -> Opening:
    """Return the opening of a segment, with its checksum."""
    checksum = xxhash.xxh3_128_digest(_opening_fields(first, before, before_bytes, log_id, chain))
    return Opening(first, before, before_bytes, log_id, chain, checksum)


def opening_bytes(opening: Opening) -> bytes:
    """Return the bytes of an opening. The inverse of ``opening_at``."""
    return _opening_fields(*opening[:5]) + opening.checksum


def opening_at(data: Bytes) -> Opening | None:
    """Return the opening at the start of ``data``, or None when it is cut short or does not match its checksum."""
    if len(data) < OPENING_BYTES or data[:4] != _OPENING_MAGIC:
        return None
    checksum = bytes(data[_OPENING.size : OPENING_BYTES])
    if xxhash.xxh3_128_digest(data[: _OPENING.size]) != checksum:
        return None
    _, _, _, first, before, before_bytes, log_id, chain = _OPENING.unpack_from(data)
    return Opening(first, before, before_bytes, log_id, chain, checksum)


def seed_of(log_id: bytes) -> int:
    """Return the seed of a log's checksums, 64 bit."""
    return int.from_bytes(log_id[:8], "little")


def bytes_of(parts: Sequence[Bytes]) -> int:
    """Return the size of all parts together."""
    return sum(memoryview(part).nbytes for part in parts)


def _opening_fields(first: int, before: int, before_bytes: int, log_id: bytes, chain: bytes) -> bytes:
    return _OPENING.pack(_OPENING_MAGIC, SCHEMA_VERSION, 0, first, before, before_bytes, log_id, chain)


def _length(body_bytes: int) -> int:
    return HEAD_BYTES + body_bytes + -body_bytes % _ALIGNMENT
