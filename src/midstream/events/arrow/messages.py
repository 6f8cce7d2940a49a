"""Arrow IPC streams within bounds: Arrow's own reader over a source that refuses what a hostile message claims.

Arrow asks the source for as many bytes as a message claims, and is refused before it allocates more than the bounds. It
verifies the metadata of each message. Then its reader of streams takes the message and keeps the dictionaries. Buffers
that are compressed within a message are refused, since Arrow allocates what they claim to become: a body is compressed
as a whole (``content-encoding``). Each record batch is validated in full, text as UTF-8 included, before anything looks
at its values.

Reference: Apache Arrow columnar format, encapsulated messages; FlatBuffers binary format.
"""

import struct
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from pyarrow import ipc

from midstream.core.errors import Fault, RequestInvalid, TooLarge
from midstream.events.arrow.columns import check_schema, field_count
from midstream.events.arrow.views import without_views
from midstream.events.loose_arrow import Array, Batch, pa, pt
from midstream.events.wire import PAGE, Accept

METADATA_BYTES_MAX = 1 << 20
"""1,000 columns with their names, types and buffers take about 200 kB."""
MESSAGES_MAX = 100_000
"""Of a stream. Each takes 50 µs or more whatever is in it; in 16 GiB it is one for 170 kB."""
DICTIONARY_RATIO_MAX = 256
DICTIONARY_FREE_BYTES = 256 << 20
"""Dictionaries are validated again with each record batch: in all at most so many bytes, and so many for each received
byte. Batches of 2,000 rows with dictionaries of 16 MiB are read; a row at a time with them is not."""
CELLS_FREE = 1 << 20
CELLS_PER_BYTE = 8
"""Rows times columns: a truth value takes a bit. A column of nulls takes nothing, and is looked at all the same."""
_CONTINUES = b"\xff\xff\xff\xff"
_HEADER, _DICTIONARY_DATA, _COMPRESSION = 2, 1, 3
"""Numbers of fields: of ``Message``, of ``DictionaryBatch`` and of ``RecordBatch``."""
_RIGHT = "An Arrow IPC stream (not a file) of record batches."
_RIGHT_COMPRESSION = (
    "Buffers as they are, IpcWriteOptions(compression=None); the whole body may have content-encoding zstd or gzip."
)


class ByteSource(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        ...


class MessageBounds(NamedTuple):
    """The most that one message may hold."""

    message_bytes_max: int = 16 << 20
    """16 MiB: 100,000 events of 160 bytes. Dictionaries that are kept have as much together, and so have the texts of
    all columns of views."""
    rows_max: int = 1_000_000
    """A row of a dictionary-encoded column takes a byte, so bytes alone would let 16 M pass."""


def read_batches(
    source: ByteSource, accept: Accept | None, bounds: MessageBounds, defaults: Mapping[str, str] | None = None
) -> Iterator[Batch]:
    """Yield the record batches of a stream, validated, as they arrive.

    Args:
        source: Of the stream; it is asked for as much as the stream says of itself, never for more than the bounds.
        accept: The terms on which events are taken: they decide which columns there may be. None = any, as the columns
            of a table that is mapped.
        bounds: Of each message.
        defaults: Values of fields for which there is no column.

    Raises:
        RequestInvalid: It is no such stream, or none of events; its buffers are compressed; or it ends in the middle of
            a message.
        TooLarge: A message is larger than the bounds.
    """
    messages = _Messages(source, bounds)
    try:
        reader = ipc.open_stream(pa.PythonFile(messages, mode="r"))
        if accept is not None:
            check_schema(reader.schema, accept, defaults or {})
        fields = field_count(reader.schema)
        for batch in reader:
            batch.validate()  # lengths below 0 and buffers too small for them; no value is looked at
            messages.check(batch, fields)
            batch.validate(full=True)
            yield without_views(batch, bounds.message_bytes_max)
    except UnicodeDecodeError as error:
        raise messages.broken(f"A name in it is no UTF-8: {error.reason}.") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise messages.broken(f"{str(error)[:200]}.") from error


class _Source:
    """Bytes of a stream for Arrow's reader of messages, which asks for as many as a message claims."""

    closed = False

    def __init__(self, source: ByteSource, bytes_max: int) -> None:
        self._source = source
        self._max = bytes_max
        self.message = 0
        """Number of the message that is read, from 1."""
        self.came = 0
        """Bytes so far."""
        self._head = b""

    def begin(self) -> None:
        """Refuse what cannot be a stream: Arrow would take its first bytes for the size of a message."""
        self.message = 1
        self._head = self._exactly(8)
        if not self._head:
            raise _broken(1, "Nothing was sent.")
        if not self._head.startswith(_CONTINUES):
            raise _broken(1, f"It begins with {self._head[:6]!r}.")

    def read(self, size: int) -> bytes:
        """Return so many bytes, none where the stream ends."""
        if size > self._max:
            right = f"At most {self._max} bytes a message: write smaller record batches."
            raise _too_large(self.message, f"{size} bytes.", right)
        head, self._head = self._head[:size], self._head[size:]
        return head + self._exactly(size - len(head)) if len(head) < size else head

    def _exactly(self, size: int) -> bytes:
        pieces: list[bytes] = []
        missing = size
        while missing > 0:
            piece = self._source.read(missing)
            if not piece and missing == size:
                return b""  # Arrow knows whether the stream may end here
            if not piece:
                raise _broken(self.message, f"The stream ends {missing} bytes before it does.")
            pieces.append(piece)
            missing -= len(piece)
            self.came += len(piece)
        return b"".join(pieces)


class _Messages:
    """Messages of a stream, each compared with the bounds, as a stream for Arrow's reader of record batches."""

    closed = False

    def __init__(self, source: ByteSource, bounds: MessageBounds) -> None:
        self._bounds = bounds
        self._source = _Source(source, bounds.message_bytes_max)
        self._messages: Any = None
        self._pieces: deque[memoryview] = deque()
        self._dictionaries = 0
        """Bytes of the dictionaries since the last record batch."""
        self._read_again = 0
        """Bytes of the dictionaries of all record batches."""

    def read(self, size: int) -> memoryview | bytes:
        """Return up to ``size`` bytes of one message, none at the end."""
        while size and not self._pieces:
            message = self._next()
            if message is None:
                return b""
            head = _CONTINUES + struct.pack("<i", message.metadata.size)
            self._pieces.extend(memoryview(each) for each in (head, message.metadata, message.body) if each)
        if not size:
            return b""
        piece = self._pieces.popleft()
        if len(piece) > size:
            self._pieces.appendleft(piece[size:])
        return piece[:size]

    def check(self, batch: Batch, fields: int) -> None:
        """Compare a record batch with the bounds, before anything is made of its rows.

        Args:
            batch: As Arrow read it; its lengths are validated.
            fields: Number of its columns and of the fields within them.

        Raises:
            TooLarge: It has too many rows, its buffers lie over each other and are too large one by one, it has many
                values in few bytes, or its dictionaries are too large.
        """
        columns = batch.columns
        size = sum(map(_buffer_bytes, columns))
        dictionaries = [each.dictionary for each in columns if pt.is_dictionary(each.type)]
        held = sum(map(_buffer_bytes, dictionaries))
        self._dictionaries, self._read_again = 0, self._read_again + held
        rows = max(batch.num_rows, *map(len, dictionaries), 0)
        bounds = self._bounds
        if rows > bounds.rows_max or batch.num_rows < 0:
            raise self._too_large(f"{rows} rows.", f"At most {bounds.rows_max} a message.")
        if size > bounds.message_bytes_max:
            right = f"At most {bounds.message_bytes_max} bytes: buffers of their own, smaller record batches."
            raise self._too_large(f"{size} bytes in all buffers.", right)
        self._check_dictionaries(held)
        most = CELLS_FREE + CELLS_PER_BYTE * size
        if batch.num_rows * fields > most:
            right = f"At most {most} values in {size} bytes: leave out columns of nulls."
            raise self._too_large(f"{batch.num_rows} rows of {fields} columns and fields.", right)
        most = DICTIONARY_FREE_BYTES + DICTIONARY_RATIO_MAX * self._source.came
        if self._read_again > most:
            came = f"Dictionaries were read again, {self._read_again} bytes in all, for {self._source.came} that came."
            raise self._too_large(came, "Larger record batches, or columns of text instead of large dictionaries.")

    def broken(self, came: str) -> RequestInvalid:
        """Return the error of a message that cannot be read."""
        return _broken(self._source.message, came)

    def _too_large(self, came: str, right: str) -> TooLarge:
        return _too_large(self._source.message, came, right)

    def _next(self) -> Any | None:  # noqa: ANN401  ipc.Message
        """Return the next message, None at the end."""
        if self._messages is None:
            self._source.begin()
            self._messages = ipc.MessageReader.open_stream(pa.PythonFile(self._source, mode="r"))
        else:
            self._source.message += 1
        message = next(self._messages, None)
        if message is None:
            return None
        if self._source.message > MESSAGES_MAX:
            right = f"At most {MESSAGES_MAX} messages a stream: write larger record batches."
            raise self._too_large("One more.", right)
        if message.metadata.size > METADATA_BYTES_MAX:
            raise self._too_large(f"{message.metadata.size} bytes of metadata.", f"At most {METADATA_BYTES_MAX}.")
        if _is_compressed(message):
            raise RequestInvalid(
                (Fault(f"message {self._source.message}", "Its buffers are compressed.", _RIGHT_COMPRESSION, PAGE),)
            )
        if message.type == "dictionary":
            self._dictionaries += message.body.size
            self._check_dictionaries(self._dictionaries)
        return message

    def _check_dictionaries(self, size: int) -> None:
        if size > self._bounds.message_bytes_max:
            right = f"At most {self._bounds.message_bytes_max} bytes of dictionaries."
            raise self._too_large(f"{size} bytes of dictionaries.", right)


def _buffer_bytes(column: Array) -> int:
    """Return the bytes of all buffers of a column, each by itself; nothing of it needs to be right."""
    return sum(each.size for each in column.buffers() if each is not None)


def _is_compressed(message: Any) -> bool:  # noqa: ANN401  ipc.Message
    """Say whether the buffers of a message, whose metadata Arrow verified, are compressed."""
    if message.type not in ("record batch", "dictionary"):
        return False
    metadata = memoryview(message.metadata)
    table = _follow(metadata, 0)
    for number in (_HEADER, _DICTIONARY_DATA) if message.type == "dictionary" else (_HEADER,):
        place = _field(metadata, table, number)
        if not place:
            return False  # Arrow refuses a message without its parts
        table = _follow(metadata, place)
    return _field(metadata, table, _COMPRESSION) > 0


def _follow(metadata: memoryview, at: int) -> int:
    """Return the place to which an offset of FlatBuffers leads."""
    return at + int(struct.unpack_from("<I", metadata, at)[0])


def _field(metadata: memoryview, table: int, number: int) -> int:
    """Return the place of a field of a FlatBuffers table, 0 = the field was left out."""
    fields = table - int(struct.unpack_from("<i", metadata, table)[0])
    slot = 4 + 2 * number
    if slot >= int(struct.unpack_from("<H", metadata, fields)[0]):
        return 0
    offset = int(struct.unpack_from("<H", metadata, fields + slot)[0])
    return table + offset if offset else 0


def _broken(number: int, came: str) -> RequestInvalid:
    return RequestInvalid((Fault(f"message {number}", came, _RIGHT, PAGE),))


def _too_large(number: int, came: str, right: str) -> TooLarge:
    return TooLarge((Fault(f"message {number}", came, right, PAGE),))
