"""Rows of a file as events: plain ones by columns or by a kernel, the others one by one."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.app.mapping.columns import PAGE, CellRefused, ColumnOptions, Record, converter
from midstream.app.mapping.pieces import LinePiece, OpenFile, Piece, RowRefused, TablePiece
from midstream.app.mapping.readers import open_rows, records_of, rows_of
from midstream.app.mapping.table_mapper import TableMapper
from midstream.core.errors import Fault
from midstream.core.types import EventBatch, TimestampMs
from midstream.events.arrow.arrow import plain_rows
from midstream.events.json.decode import Decoded, decode, decode_objects
from midstream.events.json.plain import in_order, plain_lines
from midstream.events.loose_arrow import Batch, pa
from midstream.events.schema import TIME_SENT, pick
from midstream.events.wire import Accept

AHEAD_MS_MAX = 300_000
"""As in the fold: clocks differ by less. A later time would move log time ahead of every live event for good."""
Lines = NDArray[np.int64]


class RowBatch(NamedTuple):
    """Some rows of a file as events, in order, and the invalid ones."""

    batch: EventBatch
    refused: list[RowRefused]
    """In the order of their lines."""
    lines: Lines
    """Of each row of the batch; the rows of an order have one."""


@dataclass(frozen=True, slots=True)
class RowTerms:
    """Settings of the conversion."""

    columns: ColumnOptions
    accept: Accept
    now_ms: TimestampMs


def own_time_ms(batch: EventBatch) -> NDArray[np.int64]:
    """Return the log time that each row brings, else the time that was sent, else 0."""
    rows = batch.rows
    sent = np.where((rows["flags"] & TIME_SENT) > 0, rows["event_time_ms"], 0)
    found: NDArray[np.int64] = np.where(rows["log_time_ms"] > 0, rows["log_time_ms"], sent)
    return found


def read_parts(opened: OpenFile, terms: RowTerms) -> Iterator[RowBatch]:
    """Yield all rows of a file as events, some at a time.

    Raises:
        Invalid: The options name a column that is not there, or a field that no event has; nothing was read.
    """
    reader = row_reader(terms, opened.header, has_types=opened.has_types)
    for piece in opened.read(reader.needed):
        yield reader.part(piece)


def row_reader(terms: RowTerms, header: tuple[str, ...] | None, *, has_types: bool) -> "RowReader":
    """Return what makes events of the rows of one header; None = each record has its own.

    Raises:
        Invalid: The options name a column that is not there, or a field that no event has.
    """
    convert = converter(terms.columns, header, terms.accept.attributes, has_types=has_types)
    mapper = None if header is None else TableMapper(terms.columns, header, has_types=has_types)
    return RowReader(terms, convert, mapper)


def read_events(path: Path, columns: ColumnOptions, attribute_kinds: Mapping[str, str]) -> Iterator[dict[str, object]]:
    """Yield each row of a file as an event of the fields on the wire; cells that are none are passed by with their row.

    Whether it can be taken is not judged.
    """
    with open_rows(path) as opened:
        convert = converter(columns, opened.header, attribute_kinds, has_types=opened.has_types)
        for piece in opened.read(None):
            for _, record in records_in(piece):
                if not isinstance(record, RowRefused):
                    with suppress(CellRefused):
                        yield convert(record)


def records_in(piece: Piece) -> list[tuple[int, Record | RowRefused]]:
    """Return the rows of a piece one by one, each with its line, in the order of their lines."""
    found: list[tuple[int, Record | RowRefused]] = [(each.line, each) for each in piece.refused]
    if isinstance(piece, LinePiece):
        found += [_record_of(line, raw) for line, raw in _all_lines(piece)]
    else:
        rows = np.arange(len(piece.lines))
        found += zip(piece.lines.tolist(), records_of(piece.table, rows), strict=True)
    return sorted(found, key=lambda each: each[0])


class RowReader:
    """Makes events of the rows of one header, in pieces."""

    def __init__(
        self, terms: RowTerms, convert: Callable[[Record], dict[str, object]], mapper: TableMapper | None
    ) -> None:
        """Convert rows by ``convert``, and those of tables by ``mapper``; None = there are no tables."""
        self._terms = terms
        self._convert = convert
        self._mapper = mapper

    @property
    def needed(self) -> tuple[str, ...] | None:
        """Columns that are read; None = all."""
        return None if self._mapper is None else self._mapper.needed

    def part(self, piece: Piece) -> RowBatch:
        """Return the rows of a piece."""
        if isinstance(piece, TablePiece) and self._mapper is not None:
            return self._table(piece, self._mapper)
        if isinstance(piece, LinePiece) and self._terms.columns.is_plain:
            found = self._lines(piece)
            if found is not None:
                return found
        return self._one_by_one(records_in(piece))

    def _table(self, piece: TablePiece, mapper: TableMapper) -> RowBatch:
        try:
            table, odd = mapper.map(piece.table)
            plain, index, odd = plain_rows(table, self._terms.accept, odd)
        except (pa.ArrowException, UnicodeError):
            # Something that Arrow cannot turn into text or numbers: each row shall say so for itself.
            odd = np.ones(len(piece.lines), dtype=np.bool_)
            plain, index, odd = plain_rows(_nothing(len(odd)), self._terms.accept, odd)
        plain, index, ahead = self._not_ahead(plain, index)
        odd[ahead] = True
        rows = np.flatnonzero(odd)
        odd_piece = TablePiece(rows_of(piece.table, rows), piece.lines[rows], piece.refused)
        return self._joined(plain, piece.lines[index], records_in(odd_piece))

    def _lines(self, piece: LinePiece) -> RowBatch | None:
        """Return the rows of lines that a kernel reads, None where it reads none."""
        found = plain_lines(piece.body, self._terms.accept)
        if found is None:
            return None
        lines = _line_numbers(piece)
        plain, index, ahead = self._not_ahead(found.batch, found.event_index)
        odd = [(piece.lines_before + each.line, each.raw) for each in found.odd]
        if len(ahead):
            texts = piece.body.split(b"\n")
            odd += [(int(lines[at]), texts[int(lines[at]) - piece.lines_before - 1]) for at in ahead.tolist()]
            odd.sort()
        records: list[tuple[int, Record | RowRefused]] = [(each.line, each) for each in piece.refused]
        return self._joined(plain, lines[index], records + [_record_of(line, raw) for line, raw in odd])

    def _not_ahead(self, batch: EventBatch, index: NDArray[Any]) -> tuple[EventBatch, NDArray[Any], NDArray[Any]]:
        """Return the rows that are not in the future, the number of each, and the numbers of those that are."""
        is_ahead = own_time_ms(batch) > self._terms.now_ms + AHEAD_MS_MAX
        if not is_ahead.any():
            return batch, index, index[:0]
        return pick(batch, np.flatnonzero(~is_ahead)), index[~is_ahead], index[is_ahead]

    def _joined(self, plain: EventBatch, lines: Lines, records: Sequence[tuple[int, Record | RowRefused]]) -> RowBatch:
        """Return plain rows and records together, in the order of their lines."""
        if not records:
            return RowBatch(plain, [], lines)
        odd = self._one_by_one(records)
        batch, order = in_order(plain, lines.astype(np.int32), odd.batch, odd.lines.astype(np.int32))
        return RowBatch(batch, odd.refused, order.astype(np.int64))

    def _one_by_one(self, records: Sequence[tuple[int, Record | RowRefused]]) -> RowBatch:
        """Return the events of records, and what is refused."""
        lines: list[int] = []
        events: list[dict[str, object]] = []
        refused: list[RowRefused] = []
        for line, record in records:
            if isinstance(record, RowRefused):
                refused.append(record)
                continue
            try:
                events.append(self._convert(record))
                lines.append(line)
            except CellRefused as error:
                refused.append(_refusal(line, record, error))
        decoded = self._decoded(events)
        refused += [_at_line(lines[each.index], each.fault, each.raw) for each in decoded.rejected]
        is_ahead = own_time_ms(decoded.batch) > self._terms.now_ms + AHEAD_MS_MAX
        ahead: list[int] = np.unique(decoded.event_index[is_ahead]).tolist()
        refused += [_too_late(lines[at], events[at]) for at in ahead]
        keep = np.flatnonzero(~np.isin(decoded.event_index, ahead))
        batch = decoded.batch if not ahead else pick(decoded.batch, keep)
        row_lines = np.array(lines, dtype=np.int64)[decoded.event_index[keep]]
        return RowBatch(batch, sorted(refused, key=lambda each: each.line), row_lines)

    def _decoded(self, events: list[dict[str, object]]) -> Decoded:
        """Return the rows of events; text that is no UTF-8 is judged event by event."""
        try:
            body = msgspec.json.encode(events)
        except UnicodeEncodeError:
            return decode_objects(events, self._terms.accept)
        return decode(body, self._terms.accept)


def _nothing(count: int) -> Batch:
    """Return a table of so many rows that says nothing of them."""
    return pa.RecordBatch.from_arrays([pa.nulls(count)], names=["user_id"])


def _line_numbers(piece: LinePiece) -> Lines:
    """Return the line of each event: of each line that is not empty."""
    texts = piece.body.split(b"\n")
    return np.array([at for at, text in enumerate(texts, piece.lines_before + 1) if text.strip(b" \t\r")], np.int64)


def _all_lines(piece: LinePiece) -> list[tuple[int, bytes]]:
    texts = piece.body.split(b"\n")
    return [(at, text) for at, text in enumerate(texts, piece.lines_before + 1) if text.strip()]


def _record_of(line: int, raw: bytes) -> tuple[int, Record | RowRefused]:
    """Return a line of NDJSON as a record, or why it is none."""
    try:
        return line, msgspec.json.decode(raw.strip(), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return line, RowRefused(line, Fault(f"line {line}", f"{error}.", "One JSON object in UTF-8.", PAGE), raw)


def _refusal(line: int, record: Record, error: CellRefused) -> RowRefused:
    raw = json.dumps(record, default=str).encode()
    return RowRefused(line, Fault(f"line {line}: {error.name}", error.came, error.right, PAGE), raw)


def _at_line(line: int, fault: Fault, raw: bytes) -> RowRefused:
    field_path = fault.where.lstrip("/").partition("/")[2]
    where = f"line {line}: {field_path}" if field_path else f"line {line}"
    return RowRefused(line, replace(fault, where=where), raw)


def _too_late(line: int, event: dict[str, object]) -> RowRefused:
    came = f"{event.get('time')} is later than now."
    fault = Fault(f"line {line}: time", came, "A time in the past; is --time-format right?", PAGE)
    return RowRefused(line, fault, msgspec.json.encode(event))
