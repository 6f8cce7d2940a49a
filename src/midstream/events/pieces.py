"""Pieces of an event stream of any length: decoded, recorded and answered one at a time.

Memory is that of one piece. A piece has its place in the stream, so faults name lines and rows of the whole.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from midstream.core.errors import Fault, RequestInvalid, TooLarge
from midstream.events.arrow.arrow import decode_arrow, parts_of_rows
from midstream.events.arrow.messages import ByteSource, MessageBounds, read_batches
from midstream.events.json.decode import Decoded, SingleEvent, decode, parts_of
from midstream.events.loose_arrow import Batch, pa
from midstream.events.segments.frames import body_of
from midstream.events.wire import PAGE, Accept, Limits

PIECE_EVENTS = 10_000
"""As many as one frame of the log takes."""
PIECE_BYTES = 1 << 20
"""Of NDJSON: 6,000 events of 170 bytes."""
LINE_BYTES_MAX = 262_144
"""As much as a request of one event may have."""
PIECE_LIMITS = Limits(
    body_bytes_max=4 * PIECE_BYTES,
    events_max=PIECE_EVENTS,
    rows_max=50_000,
    text_bytes_max=32 << 20,
)
"""Rows: half of what may wait for the log, so that a piece of orders finds room beside others. Text: the same. Bytes:
a piece and a line, and what a route puts around each line."""
NDJSON = "application/x-ndjson"
LOG_RATIO_MAX = 16
LOG_FREE_BYTES = 1 << 20
"""Of an Arrow stream: bytes of log for each that came, and these. A number of a dictionary's text takes a byte and
stands for 128 characters; a row of such numbers, 13 bytes, takes some 50 in the log, packed."""
_RIGHT_LINE = f"A line of at most {LINE_BYTES_MAX} bytes."


class Piece(NamedTuple):
    """Some events of a stream, decoded."""

    decoded: Decoded
    """Its events are numbered from 0."""
    first: int
    """Number of its first event in the stream."""
    part: Callable[[int], SingleEvent]
    """Names one of its events."""


def line_pieces(source: ByteSource, accept: Accept, rewrite: Callable[[bytes], bytes] | None = None) -> Iterator[Piece]:
    """Yield the events of NDJSON as they arrive.

    Args:
        source: Of the stream.
        accept: Settings of decoding; the maximum of one piece is ``PIECE_LIMITS``.
        rewrite: Applied to each piece before it is decoded; keeps the number of lines.

    Raises:
        TooLarge: A line, or the rows of a piece, exceed the maximum.
    """
    accept = msgspec.structs.replace(accept, limits=PIECE_LIMITS)
    first = lines = 0
    for body in _cut_lines(source):
        content = rewrite(body) if rewrite is not None else body
        decoded = decode(content, accept, NDJSON, lines)
        if decoded.event_count:
            yield Piece(decoded, first, _LineParts(content, accept, lines))
        first += decoded.event_count
        lines += body.count(b"\n")


class _LineParts:
    """Splits a piece of NDJSON when somebody has to name one of its events."""

    def __init__(self, body: bytes, accept: Accept, lines: int) -> None:
        self._body, self._accept, self._lines = body, accept, lines
        self._parts: Sequence[SingleEvent] | None = None

    def __call__(self, number: int) -> SingleEvent:
        if self._parts is None:
            self._parts = parts_of(self._body, self._accept, NDJSON, self._lines)
        return self._parts[number]


def _cut_lines(source: ByteSource) -> Iterator[bytes]:
    """Yield whole lines, at most ``PIECE_EVENTS`` and about ``PIECE_BYTES`` of them at a time."""
    rest = b""
    lines = 0
    while block := source.read(PIECE_BYTES):
        rest += block
        ends = np.flatnonzero(np.frombuffer(rest, dtype=np.uint8) == ord("\n")) + 1
        start = 0
        for at in range(0, len(ends), PIECE_EVENTS):
            stop = int(ends[min(at + PIECE_EVENTS, len(ends)) - 1])
            yield _checked(rest[start:stop], lines + at)
            start = stop
        rest = rest[start:]
        lines += len(ends)
        if len(rest) > LINE_BYTES_MAX:
            raise _long_line(lines + 1, len(rest))
    if rest:
        yield _checked(rest, lines)


def _checked(body: bytes, lines: int) -> bytes:
    """Return the lines when none of them is too long."""
    start = 0
    # Of lines that are short enough together none is too long by itself.
    while len(body) - start > LINE_BYTES_MAX:
        end = body.rfind(b"\n", start, start + LINE_BYTES_MAX + 1)
        if end < 0:
            raise _long_line(lines + body.count(b"\n", 0, start) + 1, LINE_BYTES_MAX + 1)
        start = end + 1
    return body


def _long_line(line: int, size: int) -> TooLarge:
    return TooLarge((Fault(f"line {line}", f"{size} bytes or more.", _RIGHT_LINE, PAGE),))


def arrow_pieces(
    source: ByteSource, accept: Accept, bounds: MessageBounds, defaults: Mapping[str, str] | None = None
) -> Iterator[Piece]:
    """Yield the events of an Arrow IPC stream as its messages arrive.

    Args:
        source: Of the stream.
        accept: The terms on which events are taken.
        bounds: Of each message.
        defaults: Values of fields for which there is no column.

    Raises:
        RequestInvalid: It is no such stream, not one of events, or it ends in the middle.
        TooLarge: A message, or what a piece becomes, is larger than may be; or the stream would take more than
            ``LOG_RATIO_MAX`` times its bytes in the log. What came before is taken.
    """
    accept = msgspec.structs.replace(accept, limits=PIECE_LIMITS)
    counted = _Counted(source)
    first = 0
    for batch in read_batches(counted, accept, bounds, defaults):
        for start in range(0, len(batch), PIECE_EVENTS):
            piece = table_piece(batch.slice(start, PIECE_EVENTS), accept, first + start, defaults)
            counted.check(piece)
            yield piece
        first += len(batch)


class _Counted:
    """A stream of bytes, counted, and what its events take in the log."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._came = 0
        self._events_bytes = 0
        """Of rows and text."""
        self._log_bytes = 0

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        found = self._source.read(size)
        self._came += len(found)
        return found

    def check(self, piece: Piece) -> None:
        """Count a piece; only of a stream that stands for more than twice its bytes it is packed to see what it takes.

        Raises:
            TooLarge: With it the stream takes more in the log than it may.
        """
        batch = piece.decoded.batch
        size = batch.rows.nbytes + len(batch.text)
        self._events_bytes += size
        is_more = len(batch) > 0 and self._events_bytes > 2 * self._came
        self._log_bytes += body_of(batch).length if is_more else size
        most = LOG_RATIO_MAX * self._came + LOG_FREE_BYTES
        if is_more and self._log_bytes > most:
            came = (
                f"With the next {piece.decoded.event_count} rows {self._came} bytes take {self._log_bytes} in the log."
            )
            right = f"At most {most}: repeat shorter texts, or send those of dictionaries as they are."
            raise TooLarge((Fault(f"row {piece.first + 1}", came, right, PAGE),))


def table_piece(batch: Batch, accept: Accept, first: int, defaults: Mapping[str, str] | None = None) -> Piece:
    """Return a table of at most ``PIECE_EVENTS`` rows, the first of them number ``first``, decoded."""
    try:
        decoded = decode_arrow(batch, accept, first, defaults)
    except (pa.ArrowException, ValueError, ArithmeticError) as error:
        # What was validated in full may hold what Python cannot read all the same, such as decimals out of their range.
        came = f"{str(error)[:200]}."
        raise RequestInvalid((Fault(f"row {first + 1}", came, "Columns of text and numbers.", PAGE),)) from error
    return Piece(decoded, first, parts_of_rows(batch, accept, first, defaults))
