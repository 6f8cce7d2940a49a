"""An Arrow IPC stream, message by message, none of which may be larger than a bound once it is unpacked.

What a stream says of its own sizes is read here and checked before Arrow allocates for it: the length of each
message, the rows of a batch, and of compressed buffers the bytes that they become. What Arrow then makes of it is
validated in full, text as UTF-8 included, before anything looks at it.

Reference: Apache Arrow columnar format, encapsulated messages; FlatBuffers binary format.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import pyarrow as pa
from pyarrow import ipc

from midstream.core.errors import Fault, Invalid, RequestInvalid, TooLarge
from midstream.events.arrow.columns import check_schema, field_count
from midstream.events.arrow.views import without_views
from midstream.events.wire import PAGE, Accept

METADATA_BYTES_MAX = 1 << 20
"""1,000 columns with their names, types and buffers take about 200 kB."""
GROUP_BYTES = 1 << 20
"""Small messages are unpacked together until they have so many bytes: opening a stream takes 40 µs."""
MESSAGES_MAX = 100_000
"""Of a stream. Each takes 50 µs or more whatever is in it; in 16 GiB it is one for 170 kB."""
AGAIN_RATIO_MAX = 32
AGAIN_FREE_BYTES = 64 << 20
"""Schema and dictionaries are read again with each group of batches: in all at most so many bytes, and so many for each
that came. A stream whose batches are a thirtieth of its dictionaries is read; alternating a byte of each is not."""
CELLS_FREE = 1 << 20
CELLS_PER_BYTE = 8
"""Rows times columns: a truth value takes a bit. A column of nulls takes nothing, and is looked at all the same."""
_CONTINUES = b"\xff\xff\xff\xff"
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_BUFFER = struct.Struct("<qq")
_ENDS = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_RIGHT = "An Arrow IPC stream (not a file) of record batches."


class ByteSource(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        ...


class MessageBounds(NamedTuple):
    """The most that one message may hold."""

    message_bytes_max: int = 16 << 20
    """16 MiB, packed and unpacked: 100,000 events of 160 bytes. Dictionaries that are kept have as much together, and
    so have the texts of all columns of views."""
    rows_max: int = 1_000_000
    """A row of a dictionary-encoded column takes a byte, so bytes alone would let 16 M pass."""


class _Message(NamedTuple):
    kind: int
    raw: bytes
    """As it came, ready to be put into another stream."""
    rows: int
    unpacked: int
    """Bytes of its body once it is unpacked."""
    dictionary: int
    """Number of the dictionary; -1 = it is none."""
    is_delta: bool


def read_batches(
    source: ByteSource, accept: Accept, bounds: MessageBounds, defaults: Mapping[str, str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of a stream, validated, as they arrive.

    Args:
        source: Of the stream; it is asked for as much as the stream says of itself, never for more than the bounds.
        accept: The terms on which events are taken: they decide which columns there may be.
        bounds: Of each message.
        defaults: Values of fields for which there is no column.

    Raises:
        RequestInvalid: It is no such stream, or none of events; or it ends in the middle of a message.
        TooLarge: A message is larger than the bounds.
    """
    messages = _messages(source, bounds)
    schema = next(messages, None)
    if schema is None or schema.kind != _SCHEMA:
        raise _broken(1, "It is no schema." if schema else "Nothing was sent.")
    try:
        columns = _schema_of(schema)
        check_schema(columns, accept, defaults or {})
    except UnicodeDecodeError as error:
        raise _broken(1, f"A name in it is no UTF-8: {error.reason}.") from error
    fields = field_count(columns)
    dictionaries = _Dictionaries(bounds)
    group: list[_Message] = []
    grouped = 0
    number = 1
    broken: Invalid | None = None
    while broken is None:
        number += 1
        try:
            message = next(messages, None)
            if message is not None and message.kind == _SCHEMA:
                raise _broken(number, "A second schema.")
            if message is not None and message.kind == _BATCH:
                _check_cells(message, fields, number)
            if message is not None and message.kind == _BATCH and grouped < GROUP_BYTES:
                group.append(message)
                grouped += len(message.raw)
                continue
        except Invalid as failure:
            message, broken = None, failure  # what came whole before it is read all the same
        if group:
            before = dictionaries.again(schema, group, number - 1)
            yield from _unpacked((schema, *before, *group), number - 1, bounds)
        group, grouped = [], 0
        if message is None:
            break
        if message.kind == _DICTIONARY:
            dictionaries.keep(message, number)
        else:
            group, grouped = [message], len(message.raw)
    if broken is not None:
        raise broken


def _messages(source: ByteSource, bounds: MessageBounds) -> Iterator[_Message]:
    """Yield the messages of a stream, each whole and within the bounds."""
    number = 0
    while True:
        number += 1
        head = _read(source, 8, number, may_end=True)
        if not head or head == _ENDS:
            return
        if number > MESSAGES_MAX:
            right = f"At most {MESSAGES_MAX} messages a stream: write larger record batches."
            raise _too_large(number, "One more.", right)
        if head[:4] != _CONTINUES:
            raise _broken(number, f"It begins with {head[:6]!r}.")
        size = int.from_bytes(head[4:], "little", signed=True)
        if not 0 < size <= METADATA_BYTES_MAX:
            raise _too_large(number, f"{size} bytes of metadata.", f"At most {METADATA_BYTES_MAX}.")
        metadata = _read(source, size, number)
        try:
            kind, length = _kind_and_length(metadata)
        except (struct.error, IndexError):
            raise _broken(number, "Its metadata cannot be read.") from None
        right = f"At most {bounds.message_bytes_max} bytes a message: write smaller record batches."
        if not 0 <= length <= bounds.message_bytes_max:
            raise _too_large(number, f"{length} bytes.", right)
        body = _read(source, length, number)
        try:
            rows, unpacked, dictionary, is_delta = _sizes(metadata, body, kind)
        except (struct.error, IndexError):
            raise _broken(number, "Its metadata cannot be read.") from None
        if not 0 <= rows <= bounds.rows_max:
            raise _too_large(number, f"{rows} rows.", f"At most {bounds.rows_max} a message.")
        if unpacked > bounds.message_bytes_max:
            raise _too_large(number, f"{unpacked} bytes when unpacked.", right)
        yield _Message(kind, head + metadata + body, rows, unpacked, dictionary, is_delta)


def _read(source: ByteSource, size: int, number: int, *, may_end: bool = False) -> bytes:
    """Return exactly so many bytes; none at all where the stream may end and does."""
    pieces: list[bytes] = []
    missing = size
    while missing > 0:
        piece = source.read(missing)
        if not piece:
            if may_end and missing == size:
                return b""
            raise _broken(number, f"The stream ends {missing} bytes before it does.")
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def _table(metadata: bytes, at: int) -> tuple[int, list[int]]:
    """Return the place of the flatbuffers table that an offset at ``at`` leads to, and the offsets of its fields."""
    place = at + _u32(metadata, at)
    fields = place - int(struct.unpack_from("<i", metadata, place)[0])
    if fields < 0:
        raise IndexError
    size = int(struct.unpack_from("<H", metadata, fields)[0])
    return place, [int(struct.unpack_from("<H", metadata, fields + step)[0]) for step in range(4, size, 2)]


def _u32(metadata: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", metadata, at)[0])


def _i64(metadata: bytes, place: int, fields: list[int], number: int) -> int:
    """Return a field of 64 bits, 0 where it was left out."""
    if number >= len(fields) or not fields[number]:
        return 0
    return int(struct.unpack_from("<q", metadata, place + fields[number])[0])


def _kind_and_length(metadata: bytes) -> tuple[int, int]:
    """Return what a message holds and the bytes of its body. Fields: version, header type, header, body length."""
    place, fields = _table(metadata, 0)
    kind = metadata[place + fields[1]] if len(fields) > 1 and fields[1] else 0
    return kind, _i64(metadata, place, fields, 3)


def _sizes(metadata: bytes, body: bytes, kind: int) -> tuple[int, int, int, bool]:
    """Return rows, bytes when unpacked, number of the dictionary and whether it adds to one; 0, 0, -1 of a schema."""
    if kind == _SCHEMA:
        return 0, 0, -1, False
    if kind not in (_DICTIONARY, _BATCH):
        raise IndexError
    place, fields = _table(metadata, 0)
    at = place + fields[2]
    dictionary, is_delta = -1, False
    if kind == _DICTIONARY:
        # Fields: id, data (a record batch), whether it is a delta.
        place, fields = _table(metadata, at)
        dictionary = _i64(metadata, place, fields, 0)
        is_delta = len(fields) > 2 and bool(fields[2]) and bool(metadata[place + fields[2]])  # noqa: PLR2004  the third
        at = place + fields[1]
    # Fields: length, nodes, buffers, compression.
    place, fields = _table(metadata, at)
    rows = _i64(metadata, place, fields, 0)
    is_packed = len(fields) > 3 and bool(fields[3])  # noqa: PLR2004  the fourth
    has_buffers = len(fields) > 2 and bool(fields[2])  # noqa: PLR2004  the third
    unpacked = _unpacked_bytes(metadata, body, place + fields[2], is_packed=is_packed) if has_buffers else 0
    return rows, unpacked if is_packed else max(unpacked, len(body)), dictionary, is_delta


def _unpacked_bytes(metadata: bytes, body: bytes, at: int, *, is_packed: bool) -> int:
    """Return the bytes of all buffers, each by itself: nothing says that they do not lie over each other.

    A packed one begins with how many bytes it becomes, -1 = it is not packed.
    """
    start = at + _u32(metadata, at)
    total = 0
    for number in range(_u32(metadata, start)):
        offset, length = _BUFFER.unpack_from(metadata, start + 4 + number * _BUFFER.size)
        if length == 0:
            continue  # it may say to lie anywhere
        if offset < 0 or length < 0 or offset + length > len(body):
            raise IndexError
        if not is_packed:
            total += length
        elif length >= 8:  # noqa: PLR2004  the bytes that say so
            size = int(struct.unpack_from("<q", body, offset)[0])
            total += length if size == -1 else max(size, 0)
    return total


def _schema_of(message: _Message) -> pa.Schema:
    try:
        return ipc.read_schema(pa.py_buffer(message.raw))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _broken(1, f"{str(error)[:200]}.") from error


def _unpacked(messages: Sequence[_Message], number: int, bounds: MessageBounds) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of some messages, the first of which are the schema and the dictionaries that hold."""
    stream = b"".join([*(each.raw for each in messages), _ENDS])
    try:
        with ipc.open_stream(pa.py_buffer(stream)) as reader:
            for batch in reader:
                batch.validate(full=True)
                yield without_views(batch, bounds.message_bytes_max)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _broken(number, f"{str(error)[:200]}.") from error


class _Dictionaries:
    """The dictionaries that hold, each by its number: the message that began it and those that added to it."""

    def __init__(self, bounds: MessageBounds) -> None:
        self._bounds = bounds
        self._messages: dict[int, list[_Message]] = {}
        self._unpacked: dict[int, int] = {}
        """Bytes of each."""
        self._raw: dict[int, int] = {}
        self._size = 0
        self._came = 0
        self._again = 0
        """Bytes that were read again so far."""

    def keep(self, message: _Message, number: int) -> None:
        """Remember a dictionary: in the place of the one of its number, or behind it where it adds to that."""
        place = message.dictionary
        if not message.is_delta or place not in self._messages:
            self._size -= self._unpacked.get(place, 0)
            self._messages[place], self._unpacked[place], self._raw[place] = [], 0, 0
        self._messages[place].append(message)
        self._unpacked[place] += message.unpacked
        self._raw[place] += len(message.raw)
        self._size += message.unpacked
        self._came += len(message.raw)
        if self._size > self._bounds.message_bytes_max:
            right = f"At most {self._bounds.message_bytes_max} bytes of dictionaries."
            raise _too_large(number, f"{self._size} bytes of dictionaries.", right)

    def again(self, schema: _Message, group: Sequence[_Message], number: int) -> list[_Message]:
        """Return the dictionaries, to be read before a group of batches.

        Raises:
            TooLarge: They and the schema were read again too often for what came.
        """
        self._came += sum(len(each.raw) for each in group)
        self._again += len(schema.raw) + sum(self._raw.values())
        if self._again > AGAIN_RATIO_MAX * self._came + AGAIN_FREE_BYTES:
            came = f"Schema and dictionaries were read again, {self._again} bytes in all, for {self._came} that came."
            raise _too_large(number, came, "Larger record batches between dictionaries that change.")
        return [each for pieces in self._messages.values() for each in pieces]


def _check_cells(message: _Message, fields: int, number: int) -> None:
    """Refuse a batch of many rows whose columns take no bytes."""
    most = CELLS_FREE + CELLS_PER_BYTE * message.unpacked
    if message.rows * fields > most:
        right = f"At most {most} values in {message.unpacked} bytes: leave out columns of nulls."
        raise _too_large(number, f"{message.rows} rows of {fields} columns and fields.", right)


def _broken(number: int, came: str) -> RequestInvalid:
    return RequestInvalid((Fault(f"message {number}", came, _RIGHT, PAGE),))


def _too_large(number: int, came: str, right: str) -> TooLarge:
    return TooLarge((Fault(f"message {number}", came, right, PAGE),))
