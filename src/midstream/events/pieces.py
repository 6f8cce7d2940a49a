"""A stream of events in pieces: as many as are decoded, recorded and answered for at a time, whatever its length.

Memory is that of one piece. A piece knows where in the stream it is, so faults name lines and rows of the whole.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from midstream.core.errors import Fault, RequestInvalid, TooLarge
from midstream.events.arrow import decode_arrow, parts_of_rows
from midstream.events.arrow_messages import Bounds, Source, read_batches
from midstream.events.decode import Decoded, Part, decode, parts_of
from midstream.events.loose_arrow import Batch, pa
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
_RIGHT_LINE = f"A line of at most {LINE_BYTES_MAX} bytes."


class Piece(NamedTuple):
    """Some events of a stream, decoded."""

    decoded: Decoded
    """Its events are numbered from 0."""
    first: int
    """Number of its first event in the stream."""
    part: Callable[[int], Part]
    """Names one of its events."""


def line_pieces(source: Source, accept: Accept, rewrite: Callable[[bytes], bytes] | None = None) -> Iterator[Piece]:
    """Yield the events of NDJSON as they arrive.

    Args:
        source: Of the stream.
        accept: The terms on which events are taken; what one piece may hold is ``PIECE_LIMITS``.
        rewrite: Applied to each piece before it is decoded; keeps the number of lines.

    Raises:
        TooLarge: A line, or what a piece becomes, is larger than may be.
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
        self._parts: Sequence[Part] | None = None

    def __call__(self, number: int) -> Part:
        if self._parts is None:
            self._parts = parts_of(self._body, self._accept, NDJSON, self._lines)
        return self._parts[number]


def _cut_lines(source: Source) -> Iterator[bytes]:
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
    source: Source, accept: Accept, bounds: Bounds, defaults: Mapping[str, str] | None = None
) -> Iterator[Piece]:
    """Yield the events of an Arrow IPC stream as its messages arrive.

    Args:
        source: Of the stream.
        accept: The terms on which events are taken.
        bounds: Of each message.
        defaults: Values of fields for which there is no column.

    Raises:
        RequestInvalid: It is no such stream, not one of events, or it ends in the middle.
        TooLarge: A message, or what a piece becomes, is larger than may be.
    """
    accept = msgspec.structs.replace(accept, limits=PIECE_LIMITS)
    first = 0
    for batch in read_batches(source, accept, bounds, defaults):
        for start in range(0, len(batch), PIECE_EVENTS):
            yield table_piece(batch.slice(start, PIECE_EVENTS), accept, first + start, defaults)
        first += len(batch)


def table_piece(batch: Batch, accept: Accept, first: int, defaults: Mapping[str, str] | None = None) -> Piece:
    """Return a table of at most ``PIECE_EVENTS`` rows, the first of them number ``first``, decoded."""
    try:
        decoded = decode_arrow(batch, accept, first, defaults)
    except (pa.ArrowException, ValueError, ArithmeticError) as error:
        # What was validated in full may hold what Python cannot read all the same, such as decimals out of their range.
        came = f"{str(error)[:200]}."
        raise RequestInvalid((Fault(f"row {first + 1}", came, "Columns of text and numbers.", PAGE),)) from error
    return Piece(decoded, first, parts_of_rows(batch, accept, first, defaults))
