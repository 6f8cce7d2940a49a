"""Decoding of the messages of an input as it is configured: its format, and the mapping of ``midstream import``.

Messages of the fields on the wire are decoded as bodies over HTTP are; foreign ones become events as rows of a file
do, by the same code. An input is no import, though: a time in the future is taken, as it is over HTTP, and what only
the engine writes is refused.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from midstream.app.config.broker_inputs import AnyInput, PostgresqlInput, TopicInput
from midstream.app.mapping.batches import RowBatch, RowReader, RowTerms, row_reader
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.mapping.pieces import LinePiece, TablePiece
from midstream.core.errors import Fault, Invalid, RequestInvalid
from midstream.core.types import TimestampMs
from midstream.engine.inputs.message_decoding import (
    DecodedMessages,
    DecodeMessages,
    decode_json,
    decode_message_lines,
    decode_ndjson,
    decoded_lines,
    joined,
    nothing,
    replaced_limits,
)
from midstream.events.json.decode import Decoded, Rejected, SingleEvent
from midstream.events.loose_arrow import Batch
from midstream.events.wire import TIME_MS_END, Accept
from midstream.integrations.postgresql.refused_rows import REFUSED, RIGHT

PAGE = "/docs/inputs.md"
_REFUSED = f'{{"{REFUSED}"'.encode()
SCHEMAS_MAX = 64
"""Headers whose mapping is kept: a topic with more has tables that nobody designed."""


def decoder_of(options: AnyInput, accept: Callable[[], Accept]) -> DecodeMessages:
    """Return what decodes the messages of an input.

    Args:
        options: As configured.
        accept: Returns the terms on which events are taken now.
    """
    if isinstance(options, PostgresqlInput):
        return _MappedMessages(options.columns, accept).rows
    if options.columns.is_plain:
        return _plain(options, accept)
    mapped = _MappedMessages(options.columns, accept)
    if options.format == "arrow":
        return mapped.tables
    return mapped.lines if options.format == "ndjson" else mapped.documents


def _plain(options: TopicInput, accept: Callable[[], Accept]) -> DecodeMessages:
    """Return what decodes events of the fields on the wire."""
    if options.format == "json":
        return lambda values: decode_json(values, accept())
    if options.format == "ndjson":
        return lambda values: decode_ndjson(values, accept())
    from midstream.engine.inputs.arrow_decoding import decode_arrow_messages  # Arrow takes 40 MB where it is used

    return lambda values: decode_arrow_messages(values, accept())


class _MappedMessages:
    """Makes events of messages with fields of their own."""

    def __init__(self, columns: ColumnOptions, accept: Callable[[], Accept]) -> None:
        self._columns = columns
        self._accept = accept
        self._readers: dict[tuple[str, ...], RowReader] = {}
        self._of: Accept | None = None
        """The terms that the readers were made for."""

    def documents(self, values: Sequence[bytes | None]) -> DecodedMessages:
        """Return the events of messages that are one JSON object or a list of some each."""
        return self.lines([_as_lines(value) for value in values])

    def lines(self, values: Sequence[bytes | None]) -> DecodedMessages:
        """Return the events of messages of which each line is a JSON object."""
        terms = self._terms()
        reader = row_reader(terms, None, has_types=True)
        return decode_message_lines(values, lambda lines: _decoded_lines(reader, lines))

    def rows(self, values: Sequence[bytes | None]) -> DecodedMessages:
        """Return the events of messages that are one row of a table each, or say why there is none."""
        reader = row_reader(self._terms(), None, has_types=True)
        lines = [(number, value) for number, value in enumerate(values) if value and not value.startswith(_REFUSED)]
        parts = [_refused(number, value) for number, value in enumerate(values) if value and value.startswith(_REFUSED)]
        if lines:
            message = np.array([number for number, _ in lines], dtype=np.int32)
            row = np.full(len(lines), -1, dtype=np.int32)
            told = [value for _, value in lines]
            parts.append(decoded_lines(told, message, row, lambda some: _decoded_lines(reader, some)))
        return joined(parts)

    def tables(self, values: Sequence[bytes | None]) -> DecodedMessages:
        """Return the events of messages that are Arrow IPC streams."""
        from midstream.engine.inputs.arrow_decoding import DecodedTable, decode_tables

        terms = self._terms()

        def decode_table(table: Batch) -> DecodedTable:
            reader = self._reader(tuple(table.schema.names), terms)
            found = reader.part(TablePiece(table, np.arange(len(table), dtype=np.int64)))
            decoded = _numbered(found, len(table))

            def part(row: int) -> SingleEvent:
                return SingleEvent("", _row_text(table, row), None)

            return DecodedTable(decoded, part)

        return decode_tables(values, None, decode_table)

    def _terms(self) -> RowTerms:
        accept = replaced_limits(self._accept())
        return RowTerms(self._columns, accept, TimestampMs(TIME_MS_END))  # no time is too late

    def _reader(self, header: tuple[str, ...], terms: RowTerms) -> RowReader:
        """Return what maps tables of one header.

        Raises:
            RequestInvalid: The mapping names a column that is not there.
        """
        if terms.accept != self._of or len(self._readers) >= SCHEMAS_MAX:
            self._readers, self._of = {}, terms.accept
        if header not in self._readers:
            try:
                self._readers[header] = row_reader(terms, header, has_types=True)
            except Invalid as error:
                raise RequestInvalid(error.faults) from error
        return self._readers[header]


def _refused(number: int, value: bytes) -> DecodedMessages:
    """Return a message that holds no row, and says why."""
    told = msgspec.json.decode(value, type=dict[str, str])
    return nothing(number, value, Fault("row", told[REFUSED], told[RIGHT], PAGE))


def _as_lines(value: bytes | None) -> bytes | None:
    """Return a JSON document as lines: of a list each element, of anything else the whole."""
    if not value:
        return value
    flat = value.replace(b"\n", b" ")  # a line break is no part of a text in JSON
    if flat.lstrip()[:1] != b"[":
        return flat
    try:
        return b"\n".join(bytes(each) for each in msgspec.json.decode(flat, type=list[msgspec.Raw]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return flat


def _decoded_lines(reader: RowReader, lines: Sequence[bytes]) -> Decoded:
    """Return lines as events, numbered from 0."""
    found = reader.part(LinePiece(b"\n".join(lines), 0))
    return _numbered(found._replace(lines=found.lines - 1), len(lines), first=1)


def _numbered(found: RowBatch, count: int, first: int = 0) -> Decoded:
    """Return the rows of a piece whose rows are numbered from 0; lines of refused ones begin at ``first``."""
    rejected = tuple(Rejected(each.line - first, each.fault, each.raw) for each in found.refused)
    return Decoded(found.batch, found.lines.astype(np.int32), rejected, count)


def _row_text(table: Batch, row: int) -> bytes:
    """Return a row of a table as JSON, for a dead letter."""
    return msgspec.json.encode(table.slice(row, 1).to_pylist()[0], enc_hook=str)
