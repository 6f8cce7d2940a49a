r"""CSV as tables of texts, parsed by pyarrow's streaming reader; each row with the line at which it begins.

Arrow gives rows without their lines: a row takes one line and one more for each line end in its cells. ``\n``,
``\r\n`` and a lone ``\r`` each end a line, so ``\r\r\n`` ends one and leaves one empty. Arrow reads valid UTF-8
alone and closes a quote that is open at the end of the file. So bytes that are no UTF-8 are written as escapes, and
behind the last row stands one more: both are known by characters that no text may hold, and neither is handed on.

Reference: RFC 4180, Common Format and MIME Type for CSV Files.
"""

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow.compute
import pyarrow.csv
from numpy.typing import NDArray

from midstream.app.mapping.columns import PAGE
from midstream.app.mapping.csv_cells import unescaped
from midstream.app.mapping.pieces import CHUNK_ROWS, RowRefused, TablePiece
from midstream.core.errors import Fault, Invalid
from midstream.core.types import Mask
from midstream.events.arrow.columns import text_view
from midstream.events.arrow.to_arrow import SCHEMA
from midstream.events.loose_arrow import Batch, pa, said

pc: Any = pyarrow.compute
BLOCK_BYTES = 1 << 20
"""Of text, parsed at once. A row of up to so many bytes is read, wherever it begins; an event has at most 256 KiB."""
_DELIMITERS = "\t;,|"
_BYTE, _END = "\ufdd0", "\ufdd1"
"""Before the two hexadecimal digits of a byte that is no UTF-8; in each cell of the row behind the last one.
Noncharacters: Unicode keeps them out of texts that are exchanged."""
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_LINE_END = "\r\n|\r|\n"
_UTF8 = "Text in UTF-8. A file in another encoding is converted before, such as by iconv -t utf-8."
_CLOSED = "A quote that closes each one that opens; a quote within a cell is doubled."
_LF, _CR = 10, 13
_EXPORTED = tuple(SCHEMA.names)
Lines: TypeAlias = NDArray[np.int64]


class _Utf8Stream:
    """Bytes of a file as UTF-8 without faults, for Arrow, with one more row at the end."""

    closed = False

    def __init__(self, text: BinaryIO) -> None:
        self._text = text
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._rest = b""
        self._is_over = False
        self.last_row = ""
        """Put behind all others; empty = none."""
        self.has_escapes = False

    def head(self) -> str:
        """Return the begin of the text."""
        return self._encoded(self._decode(self._text.read(BLOCK_BYTES))).decode()

    def put_back(self, text: str) -> None:
        """Let what was read be read again."""
        self._rest = text.encode()

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, fewer at the end alone: Arrow takes a row that two blocks hold, and none of three."""
        while len(self._rest) < size and not self._is_over:
            block = self._text.read(size)
            self._is_over = not block
            self._rest += self._encoded(self._decode(block, self._is_over))
            if self._is_over and self.last_row:
                self._rest += f"\n{self.last_row}".encode()
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def _encoded(self, text: str) -> bytes:
        try:
            return text.encode()
        except UnicodeEncodeError:
            self.has_escapes = True
            return _NOT_UTF8.sub(lambda found: f"{_BYTE}{ord(found[0]) & 0xFF:02x}", text).encode()


class _Wrong(NamedTuple):
    """A row with too few or too many cells."""

    row: int
    """Its number as Arrow counts, from 1 behind the header."""
    cell_count: int
    text: str


def csv_tables(text: BinaryIO, name: str) -> tuple[tuple[str, ...], Iterator[TablePiece]]:
    """Return the header of a CSV, and its rows as tables of texts.

    A row without anything in its cells, as an empty line is, is passed by. An export of ours, which is known by its
    header, comes as it was before its cells were escaped.

    Args:
        text: Unpacked.
        name: Of the file, for messages.

    Raises:
        Invalid: The header is none, the text is no UTF-8 or ends within quotes, or a row is too long.
    """
    stream = _Utf8Stream(text)
    head = stream.head()
    delimiter = _delimiter_of(head)
    header, line_count, rest = _header_of(head, delimiter, name)
    stream.put_back(rest)
    # A cell too many: Arrow hands it over as a wrong row, and never as one of the table.
    stream.last_row = delimiter.join([_END] * (len(header) + 1))
    tables = _Tables(stream, name, header, delimiter, line_count)
    return header, tables.pieces()


def _delimiter_of(head: str) -> str:
    first = re.split("[\r\n]", head, maxsplit=1)[0]
    counts = {mark: first.count(mark) for mark in _DELIMITERS}
    return max(counts, key=lambda mark: counts[mark]) if any(counts.values()) else ","


def _header_of(head: str, delimiter: str, name: str) -> tuple[tuple[str, ...], int, str]:
    """Return the names of columns, the number of lines that they take, and the text behind them."""
    where = f"{name} line 1"
    reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter, strict=True)
    try:
        header = tuple(each.strip() for each in next(reader, list[str]()))
    except csv.Error as error:
        is_open = said(error).startswith("unexpected end")
        came = "In the header that begins here a quote opens that nothing closes." if is_open else f"{said(error)}."
        right = _CLOSED if is_open else "A header line of CSV."
        raise Invalid((Fault(where, came, right, PAGE),)) from error
    if any(mark in each for each in header for mark in (_BYTE, "\0")):
        raise Invalid((Fault(where, "The header is no UTF-8.", _UTF8, PAGE),))
    if not header or len(set(header)) < len(header):
        came = f"The header has {len(header)} columns, {len(set(header))} of them distinct."
        raise Invalid((Fault(where, came, "A header line with a name of its own for each column.", PAGE),))
    ends = [found.end() for found in islice(re.finditer(_LINE_END, head), reader.line_num)]
    return header, reader.line_num, head[ends[-1] :] if len(ends) == reader.line_num else ""


class _Tables:
    """The rows of one CSV on their way to pieces."""

    def __init__(
        self, stream: _Utf8Stream, name: str, header: tuple[str, ...], delimiter: str, header_lines: int
    ) -> None:
        self._stream = stream
        self._name = name
        self._header = header
        self._delimiter = delimiter
        self._line, self._row = header_lines + 1, 1
        """Of the next row."""
        self._wrong: deque[_Wrong] = deque()
        """Found by Arrow, perhaps ahead of its batches."""

    def pieces(self) -> Iterator[TablePiece]:
        """Yield all rows, some at a time."""
        with self._opened() as reader:
            while (batch := self._next(reader)) is not None:
                yield from self._numbered(batch)
        nothing = [pa.array([], pa.string())] * len(self._header)
        yield from self._numbered(pa.RecordBatch.from_arrays(nothing, names=self._header))

    def _opened(self) -> Any:  # noqa: ANN401  pyarrow.csv.CSVStreamingReader
        reads = pyarrow.csv.ReadOptions(
            use_threads=False,  # so that wrong rows come with their number
            block_size=BLOCK_BYTES,
            column_names=list(self._header),
        )
        parses = pyarrow.csv.ParseOptions(
            delimiter=self._delimiter,
            newlines_in_values=True,
            ignore_empty_lines=False,
            invalid_row_handler=self._on_wrong_row,
        )
        converts = pyarrow.csv.ConvertOptions(
            check_utf8=False,  # the stream has no other
            column_types=dict.fromkeys(self._header, pa.string()),
            null_values=[],
            strings_can_be_null=False,
        )
        return pa.csv.open_csv(self._stream, reads, parses, converts)

    def _on_wrong_row(self, row: pyarrow.csv.InvalidRow) -> Literal["skip"]:
        # With one thread every row has its number.
        self._wrong.append(_Wrong(row.number or 0, row.actual_columns, row.text))
        return "skip"

    def _next(self, reader: Any) -> Batch | None:  # noqa: ANN401  as _opened
        try:
            return reader.read_next_batch()
        except StopIteration:
            return None
        except pa.ArrowInvalid as error:
            came = f"The row that begins here has more than {BLOCK_BYTES:,} bytes, or a quote that nothing closes."
            raise self._fault(self._line, came) from error

    def _fault(self, line: int, came: str) -> Invalid:
        return Invalid((Fault(f"{self._name} line {line}", came, _CLOSED, PAGE),))

    def _numbered(self, batch: Batch) -> Iterator[TablePiece]:
        """Yield the rows of a batch, with their lines and the wrong rows between them."""
        wrong: list[_Wrong] = []
        while self._wrong and self._wrong[0].row <= self._row + len(batch) + len(wrong):
            wrong.append(self._wrong.popleft())
        if wrong and wrong[-1].text == self._stream.last_row:
            wrong.pop()
        is_wrong = np.zeros(len(batch) + len(wrong), dtype=np.bool_)
        is_wrong[[each.row - self._row for each in wrong]] = True
        taken = np.ones(len(is_wrong), dtype=np.int64)
        taken[~is_wrong] += _line_ends(batch)
        taken[is_wrong] = [1 + len(re.findall(_LINE_END, each.text)) for each in wrong]
        lines = self._line + np.cumsum(taken) - taken
        if _is_open(batch, wrong):
            raise self._fault(int(lines[-1]), "In the row that begins here a quote opens that nothing closes.")
        self._row += len(is_wrong)
        self._line += int(taken.sum())
        refused = [self._refusal(int(line), each) for line, each in zip(lines[is_wrong], wrong, strict=True)]
        yield from self._pieces_of(batch, lines[~is_wrong], refused)

    def _refusal(self, line: int, wrong: _Wrong) -> RowRefused:
        more = len(re.findall(_LINE_END, wrong.text))
        came = f"{wrong.cell_count} cells in {more + 1} lines." if more else f"{wrong.cell_count} cells."
        right = f"{len(self._header)} cells, as in the header.{f' {_CLOSED}' if more else ''}"
        return RowRefused(line, Fault(f"line {line}", came, right, PAGE), _raw(wrong.text))

    def _pieces_of(self, batch: Batch, lines: Lines, refused: list[RowRefused]) -> Iterator[TablePiece]:
        """Yield rows with something in them, ``CHUNK_ROWS`` at a time; those that are no UTF-8 are refused."""
        is_left_out = _is_empty(batch)
        if self._stream.has_escapes:
            is_escaped = _has_escapes(batch)
            rows = np.flatnonzero(is_escaped).tolist()
            refused += [self._not_utf8(int(lines[row]), [each[row].as_py() for each in batch.columns]) for row in rows]
            refused.sort(key=lambda each: each.line)
            is_left_out |= is_escaped
        if is_left_out.any():
            batch, lines = batch.filter(pa.array(~is_left_out)), lines[~is_left_out]
        if self._header == _EXPORTED:
            batch = unescaped(batch)
        for start in range(0, max(len(lines), 1), CHUNK_ROWS):
            stop = start + CHUNK_ROWS
            is_last = stop >= len(lines)
            own = [each for each in refused if is_last or each.line < lines[stop]]
            refused = refused[len(own) :]
            yield TablePiece(batch.slice(start, CHUNK_ROWS), lines[start:stop], tuple(own))

    def _not_utf8(self, line: int, cells: list[str]) -> RowRefused:
        at = next(at for at, cell in enumerate(cells) if _BYTE in cell)
        came = f"'{cells[at].replace(_BYTE, chr(92) + 'x'):.60}' is no UTF-8."
        return RowRefused(
            line, Fault(f"line {line}: {self._header[at]}", came, _UTF8, PAGE), _raw(self._delimiter.join(cells))
        )


def _line_ends(batch: Batch) -> Lines:
    """Return the number of line ends in the cells of each row."""
    found = np.zeros(len(batch), dtype=np.int64)
    for column in batch.columns:
        text = text_view(column).data
        if ((text == _LF) | (text == _CR)).any():
            found += np.asarray(pc.count_substring_regex(column, _LINE_END))
    return found


def _is_open(batch: Batch, wrong: Sequence[_Wrong]) -> bool:
    """Say whether the row behind the last one stands within a cell."""
    last: str = batch.column(-1)[-1].as_py() if len(batch) else ""
    return _END in last or bool(wrong and _END in wrong[-1].text)


def _is_empty(batch: Batch) -> Mask:
    """Return which rows have nothing in their cells: a space is something."""
    found = np.ones(len(batch), dtype=np.bool_)
    for column in batch.columns:
        found &= text_view(column).lengths == 0
        if not found.any():
            break
    return found


def _has_escapes(batch: Batch) -> Mask:
    found = np.zeros(len(batch), dtype=np.bool_)
    for column in batch.columns:
        found |= np.asarray(pc.match_substring(column, _BYTE).to_numpy(zero_copy_only=False), dtype=np.bool_)
    return found


def _raw(text: str) -> bytes:
    """Return the bytes of the file that a text was made of."""
    return re.sub(f"{_BYTE}(..)".encode(), lambda found: bytes.fromhex(found[1].decode()), text.encode())
