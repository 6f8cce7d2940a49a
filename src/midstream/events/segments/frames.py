"""Frames: the byte format of the log, a frame a commit, and the opening of a segment file.

A frame is a head, a body (the batch's rows, then its text) and zeros up to a multiple of 8, so rows are aligned
wherever they are read into memory. Its checksum covers all that is written, and names the checksum before it, so frames
cannot change places. The head has a check of its own: a reader may then trust its lengths and hop over the body. Both
are seeded by the log's random id: bytes from another log, or sent by a client who wants to look like a frame, are not
one.

The body of a commit of several events is packed where that saves an eighth. Rows of one event with many items repeat
its ids and its context, and lie close together: LZ4 finds what repeats within 64 KiB, so such a commit stays within
twice what a client sent. Where nearly all repeats, Zstandard takes its place. Only this module packs and unpacks.

A segment opens with the name, size and last checksum of the segment before it, so a file that is missing or was cut
short is noticed without reading it. Opening and first frame are written together.

Reference: xxHash, Y. Collet, XXH3 64 and 128 bit; LZ4 block format; RFC 8878, Zstandard.
"""

import struct
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash

from midstream.core.types import EventBatch
from midstream.events.disk import Bytes
from midstream.events.schema import ROW, SCHEMA_VERSION

if TYPE_CHECKING:
    import pyarrow as pa

FRAME_BYTES_MAX = 1 << 30
"""A commit holds at most 1,000 events of 256 KiB (250 MiB) by the limits of decoding; four times that is a bug. No
packed body becomes more."""
PACKED_EVENTS_MIN = 3
"""Fewer cannot repeat each other much: two rows of one event are at most twice what came."""
PACKED_BODY_BYTES_MIN = 512
"""Nine rows with short ids. Below, what packing could save is less than ``REQUEST_BYTES``, and a commit of one event
takes as long as it always did."""
REQUEST_BYTES = 330
"""Beyond twice what came, a request's commit may take this: its head (80) and 250. The 250 are what a body too small to
be packed has more than twice of what made it (nine rows of 56 from nine items of 15 bytes in JSON: 234), and zeros."""
_SAVED_MIN = 8
"""Packed bodies that save less than an eighth are written as they are: reading those costs nothing."""
_LZ4_RATIO_MAX = 16
"""Where LZ4 makes a sixteenth or less of a body, Zstandard packs it: LZ4 takes a byte for each 255 that repeat, so a
hundred items with a context of 4 KiB would be 2.03 times what came, and such bodies pack at 7 GB/s in either."""
_LZ4_RATIO_MIN = 5
"""Where LZ4 leaves a fifth or more, which may be more than twice what came, Zstandard is tried as well: LZ4 passes by
repeats whose first bytes collide in its table, so 55 rows of an event with long ids of few letters were 2.4 times what
came; Zstandard makes a fifth of that."""
_BESIDE_ID_BYTES = 4
_AS_IT_IS, _LZ4, _ZSTD = 0, 1, 2
_ZSTD_LEVEL = 1
JOINED_BYTES_MAX = 65_536
"""Bodies up to so many bytes are hashed and written in one piece: copying them takes less than a call for each part."""
OPENING_BYTES = 80
HEAD_BYTES = 80
"""56 of fields, 8 of check, 16 of checksum. With a row of 56 a commit of one event costs 136 bytes and its texts. A
generation has 32 bits: a rewrite each second for 136 years."""

_MAGIC = b"msf1"
_OPENING_MAGIC = b"msg1"
_HEAD = struct.Struct("<4sHHIIIIQq16s")
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
    packing: int
    packed_bytes: int
    """Of the body as it is written, 0 = not packed."""
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


class FrameBody(NamedTuple):
    """A batch as the body of a frame."""

    parts: tuple[Bytes, ...]
    """Rows and text, or one packed whole."""
    packing: int
    packed_bytes: int
    """0 = not packed."""
    event_count: int
    text_bytes: int
    log_time_ms: int
    """Of its last event."""
    length: int
    """Bytes of its frame in the file, all told."""


class Encoded(NamedTuple):
    """A frame ready to be written."""

    parts: tuple[Bytes, ...]
    checksum: bytes


def body_of(batch: EventBatch) -> FrameBody:
    """Return a batch of at least one event as a body; packed, or its rows and text not copied.

    Cost: where it is packed about 0.1 µs an event.

    Raises:
        ValueError: It is larger than any the engine makes.
    """
    rows, count, text_bytes = np.ascontiguousarray(batch.rows).view(np.uint8).data, len(batch.rows), len(batch.text)
    size = rows.nbytes + text_bytes
    if size > FRAME_BYTES_MAX:
        message = f"a commit of {size} bytes where {FRAME_BYTES_MAX} is the most"
        raise ValueError(message)
    parts: tuple[Bytes, ...] = (rows, batch.text)
    packing, packed = _AS_IT_IS, b""
    if count >= PACKED_EVENTS_MIN and size >= PACKED_BODY_BYTES_MIN:
        packing, packed = _packed(b"".join(parts), batch)
    if packing != _AS_IT_IS:
        parts = (packed,)
    packed_bytes = len(packed)
    log_time_ms = batch.rows["log_time_ms"].item(-1)
    return FrameBody(parts, packing, packed_bytes, count, text_bytes, log_time_ms, _length(packed_bytes or size))


def encode(body: FrameBody, first: int, generation: int, chain: bytes, seed: int) -> Encoded:
    """Return the frame of a body whose first event is at log position ``first``."""
    fields = _HEAD.pack(
        _MAGIC,
        SCHEMA_VERSION,
        body.packing,
        body.event_count,
        body.text_bytes,
        generation,
        body.packed_bytes,
        first,
        body.log_time_ms,
        chain,
    )
    head = fields + _CHECK.pack(xxhash.xxh3_64_intdigest(fields, seed))
    size = body.packed_bytes or body.event_count * ROW.itemsize + body.text_bytes
    zeros = _ZEROS[-size % _ALIGNMENT]
    if size <= JOINED_BYTES_MAX:
        rest = b"".join((*body.parts, zeros))
        checksum = xxhash.xxh3_128_digest(head + rest, seed)
        return Encoded((head + checksum + rest,), checksum)
    summed = xxhash.xxh3_128(head, seed)
    for part in body.parts:
        summed.update(part)
    summed.update(zeros)
    checksum = summed.digest()
    return Encoded((head + checksum, *body.parts, zeros), checksum)


def head_at(data: Bytes, start: int, seed: int) -> Frame | None:
    """Return the head at ``start``, or None when no head of this log stands there. The body is not looked at."""
    if start + HEAD_BYTES > len(data) or data[start : start + 4] != _MAGIC:
        return None
    (check,) = _CHECK.unpack_from(data, start + _CHECKED)
    if xxhash.xxh3_64_intdigest(data[start : start + _CHECKED], seed) != check:
        return None
    fields = _HEAD.unpack_from(data, start)
    _, schema_version, packing, count, text_bytes, generation, packed_bytes, first, log_time_ms, chain = fields
    size = count * ROW.itemsize + text_bytes
    if size > FRAME_BYTES_MAX:
        return None
    checksum = bytes(data[start + _SUMMED : start + HEAD_BYTES])
    length = _length(packed_bytes or size)
    sizes = (count, text_bytes, generation, packing, packed_bytes)
    return Frame(schema_version, *sizes, first, log_time_ms, chain, checksum, length)


def is_sound(data: Bytes, start: int, frame: Frame, seed: int) -> bool:
    """Return True when all of the frame at ``start`` is there and matches its checksum."""
    view = memoryview(data)[start : start + frame.length]
    if len(view) < frame.length:
        return False
    summed = xxhash.xxh3_128(view[:_SUMMED], seed)
    summed.update(view[HEAD_BYTES:])
    return summed.digest() == frame.checksum


def batch_at(data: bytes, start: int, frame: Frame) -> EventBatch | None:
    """Return the events of a sound frame, None where its body cannot be unpacked.

    The rows are a view, of ``data`` where they are written as they are; the text is a copy.
    """
    begin = start + HEAD_BYTES
    if frame.packing != _AS_IT_IS:
        unpacked = _unpacked(data[begin : begin + frame.packed_bytes], frame)
        if unpacked is None:
            return None
        data, begin = unpacked, 0
    rows = np.frombuffer(data, dtype=ROW, count=frame.event_count, offset=begin)
    text = begin + rows.nbytes
    return EventBatch(rows, data[text : text + frame.text_bytes])


def _enough(batch: EventBatch) -> int:
    """Return the size up to which LZ4 alone will do: twice the least that a client sent; 0 = it is not known.

    Where each event has an id, and none is an item of an event with several (their ids end in ``#`` and a number), the
    client sent at least all of the ids and four bytes beside each, as an offset of Arrow has.
    """
    lengths = batch.rows["event_id_length"]
    if b"#" in batch.text or not lengths.all():
        return 0
    return 2 * (int(lengths.sum()) + _BESIDE_ID_BYTES * len(lengths))


def _packed(body: bytes, batch: EventBatch) -> tuple[int, bytes]:
    """Return the body of a batch packed and how; ``_AS_IT_IS`` where that saves less than an eighth."""
    found: bytes = _codec(_LZ4).compress(body, asbytes=True)
    packing, ratio = _LZ4, len(body) / len(found)
    if ratio >= _LZ4_RATIO_MAX or (ratio <= _LZ4_RATIO_MIN and len(found) > _enough(batch)):
        other: bytes = _codec(_ZSTD).compress(body, asbytes=True)
        if len(other) < len(found):
            packing, found = _ZSTD, other
    return (packing, found) if len(found) <= len(body) - len(body) // _SAVED_MIN else (_AS_IT_IS, b"")


def _unpacked(packed: bytes, frame: Frame) -> bytes | None:
    """Return rows and text of a packed body. Their size is that of the head, at most ``FRAME_BYTES_MAX``."""
    size = frame.event_count * ROW.itemsize + frame.text_bytes
    if frame.packing not in (_LZ4, _ZSTD):
        return None
    try:
        found: bytes = _codec(frame.packing).decompress(packed, decompressed_size=size, asbytes=True)
    except OSError:
        return None
    return found


@cache
def _codec(packing: int) -> "pa.Codec":
    import pyarrow as pa  # 0.1 s and 25 MB where a commit of several events is written or read

    return pa.Codec("lz4_raw") if packing == _LZ4 else pa.Codec("zstd", _ZSTD_LEVEL)


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
