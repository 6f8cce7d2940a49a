"""A file of somebody else's in pieces: tables where it has columns, whole lines where each is a JSON document.

CSV and TSV (also with ``;`` or ``|``), NDJSON, Parquet and Arrow, each also as ``.gz`` where it is text. A CSV without
quotes is a table, line for line; from the first quote on its rows are records, since a cell may then hold line ends.
Every row knows its line.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from midstream.app.csv_cells import unescaped, unescaped_text
from midstream.app.import_columns import PAGE, Record
from midstream.core.errors import Fault, Invalid
from midstream.events.arrow_views import without_views
from midstream.events.loose_arrow import UNREADABLE, Batch, pa, said
from midstream.events.to_arrow import SCHEMA

CHUNK_ROWS = 10_000
"""Rows read at once: 2 MB at 200 B."""
TABLE_TEXT_BYTES_MAX = 1 << 30
"""Of a column of those rows: 100 kB each."""
BLOCK_BYTES = 1 << 20
"""Of text, read at once."""
PACKED_RATIO_MAX = 200
PACKED_FREE_BYTES = 8 << 20
"""As over HTTP: events of the same user and item pack 50 to 1 at the most, gzip alone could do 1,000. The first 8 MiB
take a second at the worst."""
EMPTY_LINES = 100_000
"""So many without a cell, and what was read so far is handed on: a bar moves, and Ctrl-C is heard."""
LINE_BYTES_MAX = 1 << 20
"""Longest line of NDJSON and longest cell of a CSV; an event has at most 256 KiB."""
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
}
_DELIMITERS = "\t;,|"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class RowRefused:
    """A row that is no event, and why."""

    line: int
    fault: Fault
    raw: bytes


@dataclass(frozen=True, slots=True, eq=False)
class TablePiece:
    """Some rows as columns."""

    table: Batch
    lines: NDArray[np.int64]
    """Of each row: the line in a text file, from 1 with the header; else the row, from 1."""


@dataclass(frozen=True, slots=True)
class LinePiece:
    """Some lines of NDJSON."""

    body: bytes
    lines_before: int


@dataclass(frozen=True, slots=True)
class RecordPiece:
    """Some rows one by one, or why one is none."""

    records: tuple[tuple[int, Record | RowRefused], ...]
    """Each with its line."""


Piece: TypeAlias = TablePiece | LinePiece | RecordPiece


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file."""

    header: tuple[str, ...] | None
    """Its columns; None = each record has its own."""
    pieces: Iterator[Piece]
    bytes_read: Callable[[], int]
    """Of the file so far, about, as it lies on disk."""


def format_of(path: Path) -> str:
    """Return ``csv``, ``ndjson``, ``parquet`` or ``arrow`` by a file's name.

    Raises:
        Invalid: The name says none of them.
    """
    suffixes = [each.lower() for each in path.suffixes if each.lower() != ".gz"]
    found = _SUFFIXES.get(suffixes[-1] if suffixes else "")
    if found is None:
        right = f"One of {', '.join(_SUFFIXES)}; text also with .gz behind it."
        raise Invalid((Fault(path.name, "The name does not say what the file is.", right, PAGE),))
    return found


def header_of(path: Path) -> tuple[str, ...]:
    """Return the columns of a file, none where each record has its own."""
    with open_rows(path) as opened:
        return opened.header or ()


@contextmanager
def open_rows(path: Path) -> Generator[Opened]:
    """Open a file, and close it at the end of the block.

    Raises:
        Invalid: It is not what its name says, or its packing is damaged.
    """
    kind = format_of(path)
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        if kind in ("parquet", "arrow"):
            with _reading(path.name, kind):
                opened = _parquet(file) if kind == "parquet" else _arrow(file)
        else:
            is_packed = path.suffix.lower() == ".gz"
            text: BinaryIO = file
            if is_packed:
                unpacked = cast("BinaryIO", stack.enter_context(gzip.GzipFile(fileobj=file)))
                text = cast("BinaryIO", _Unpacked(unpacked, file, path.name))
            with _reading(path.name, kind):
                opened = _csv(text, path.name, file.tell) if kind == "csv" else Opened(None, _lines(text), file.tell)
        yield replace(opened, pieces=_read_well(opened.pieces, path.name, kind))


def _read_well(pieces: Iterator[Piece], name: str, kind: str) -> Iterator[Piece]:
    """Yield pieces; what goes wrong in reading one is said of the file, what goes wrong with it is not."""
    while True:
        with _reading(name, kind):
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece


@contextmanager
def _reading(name: str, kind: str) -> Generator[None]:
    """Say which file cannot be read, and as what."""
    noun = {"parquet": "Parquet", "arrow": "Arrow", "csv": "CSV"}.get(kind, "NDJSON")
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        came = f"It cannot be unpacked: {error}."
        raise Invalid((Fault(name, came, "A whole file as gzip makes it.", PAGE),)) from error
    except UnicodeError as error:
        came = f"It is no {noun} file: {said(error)}."
        raise Invalid((Fault(name, came, "Text in UTF-8.", PAGE),)) from error
    except UNREADABLE as error:
        came = f"It is no {noun} file, or a damaged one: {said(error)}."
        raise Invalid((Fault(name, came, f"A {noun} file that is whole.", PAGE),)) from error


class _Unpacked:
    """A packed text, which may become so many bytes for each of its own and no more."""

    def __init__(self, unpacked: BinaryIO, packed: BinaryIO, name: str) -> None:
        self._unpacked = unpacked
        self._packed = packed
        self._name = name
        self._size = 0
        self._lines = 0

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes.

        Raises:
            Invalid: It became too much for what of it was read.
        """
        found = self._unpacked.read(size)
        self._size += len(found)
        self._lines += found.count(b"\n")
        came = self._packed.tell()
        if self._size > PACKED_FREE_BYTES and self._size > PACKED_RATIO_MAX * came:
            told = f"{came} bytes of the file become {self._size}."
            right = f"At most {PACKED_RATIO_MAX} for each; a file that is right all the same can be unpacked before."
            raise Invalid((Fault(f"{self._name} line {self._lines + 1}", told, right, PAGE),))
        return found


def _parquet(file: BinaryIO) -> Opened:
    parquet = pq.ParquetFile(file)
    batches = parquet.iter_batches(CHUNK_ROWS)  # pyright: ignore[reportUnknownMemberType]
    return Opened(tuple(parquet.schema_arrow.names), _tables(batches), file.tell)


def _arrow(file: BinaryIO) -> Opened:
    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    if not is_file:
        stream = pa.ipc.open_stream(file)
        return Opened(tuple(stream.schema.names), _tables(iter(stream)), file.tell)
    opened = pa.ipc.open_file(file)
    batches = (opened.get_batch(at) for at in range(opened.num_record_batches))
    return Opened(tuple(opened.schema.names), _tables(batches), file.tell)


def _tables(batches: Iterator[Batch]) -> Iterator[Piece]:
    line = 1
    for batch in batches:
        batch.validate(full=True)
        for start in range(0, len(batch), CHUNK_ROWS):
            table = without_views(batch.slice(start, CHUNK_ROWS), TABLE_TEXT_BYTES_MAX)
            yield TablePiece(table, np.arange(line, line + len(table)))
            line += len(table)


def _lines(text: BinaryIO) -> Iterator[Piece]:
    """Yield NDJSON in blocks of whole lines; a line that is too long by itself is refused."""
    lines = 0
    rest = text.read(len(_BOM)).removeprefix(_BOM)
    while block := text.read(BLOCK_BYTES):
        rest += block
        end = rest.rfind(b"\n") + 1
        if end:
            body = rest[:end]
            yield RecordPiece(()) if body.isspace() else LinePiece(body, lines)
            lines += body.count(b"\n")
            rest = rest[end:]
        elif len(rest) > LINE_BYTES_MAX:
            lines += 1
            fault = Fault(f"line {lines}", "It is longer than 1 MiB.", "One JSON object in UTF-8.", PAGE)
            yield RecordPiece(((lines, RowRefused(lines, fault, rest)),))
            rest = _after_line(text)
    if rest:
        yield LinePiece(rest, lines)


def _after_line(text: BinaryIO) -> bytes:
    """Read on to the end of a line; return what was read behind it."""
    while block := text.read(BLOCK_BYTES):
        _, end, rest = block.partition(b"\n")
        if end:
            return rest
    return b""


def _csv(text: BinaryIO, name: str, bytes_read: Callable[[], int]) -> Opened:
    csv.field_size_limit(LINE_BYTES_MAX)
    first, rest = _header_line(text)
    decoded = first.decode("utf-8-sig", "surrogateescape")
    counts = {mark: decoded.count(mark) for mark in _DELIMITERS}
    delimiter = max(counts, key=lambda mark: counts[mark]) if any(counts.values()) else ","
    try:
        header = tuple(each.strip() for each in next(csv.reader([decoded], delimiter=delimiter), list[str]()))
        _ = decoded.encode()
    except (csv.Error, UnicodeError) as error:
        right = "A header line of CSV in UTF-8, and line ends that are \\n or \\r\\n."
        raise Invalid((Fault(f"{name} line 1", f"{said(error)}.", right, PAGE),)) from error
    if not header or len(set(header)) < len(header):
        came = f"The header has {len(header)} columns, {len(set(header))} of them distinct."
        raise Invalid((Fault(f"{name} line 1", came, "A header line with a name of its own for each column.", PAGE),))
    pieces = _csv_pieces(text, rest, header, delimiter)
    is_export = header == tuple(SCHEMA.names)
    return Opened(header, (_as_exported(each) for each in pieces) if is_export else pieces, bytes_read)


def _as_exported(piece: Piece) -> Piece:
    """Return rows of an export of ours, which is known by its header, as they were before it escaped their cells."""
    if isinstance(piece, TablePiece):
        return TablePiece(unescaped(piece.table), piece.lines)
    if isinstance(piece, RecordPiece):
        return RecordPiece(tuple((line, _record_as_exported(row)) for line, row in piece.records))
    return piece


def _record_as_exported(row: Record | RowRefused) -> Record | RowRefused:
    if isinstance(row, RowRefused):
        return row
    return {name: unescaped_text(cell) if isinstance(cell, str) else cell for name, cell in row.items()}


def _header_line(text: BinaryIO) -> tuple[bytes, bytes]:
    """Return the first line, and what was read behind it."""
    found = b""
    while (end := found.find(b"\n")) < 0 and len(found) <= LINE_BYTES_MAX and (block := text.read(BLOCK_BYTES)):
        found += block
    return (found, b"") if end < 0 else (found[: end + 1], found[end + 1 :])


def _csv_pieces(text: BinaryIO, rest: bytes, header: tuple[str, ...], delimiter: str) -> Iterator[Piece]:
    """Yield tables of whole lines, until the first quote; from there on records."""
    lines = 1
    while True:
        block = text.read(BLOCK_BYTES)
        whole = rest + block
        end = whole.rfind(b"\n") + 1 if block else len(whole)
        if b'"' in whole or len(whole) - end > LINE_BYTES_MAX:
            yield from _records(_quoted(text, whole), lines, header, delimiter)
            return
        if end:
            body = whole[:end]
            yield RecordPiece(()) if _is_empty(body) else _csv_table(body, lines, header, delimiter)
            lines += body.count(b"\n")
        rest = whole[end:]
        if not block:
            return


def _is_empty(lines: bytes) -> bool:
    """Say whether lines of a CSV have nothing in them: a space is a cell."""
    return not lines.strip(b"\r\n")


def _csv_table(block: bytes, lines: int, header: tuple[str, ...], delimiter: str) -> Piece:
    """Return lines without quotes as a table, or as records where one of them is not as it should be."""
    plain = block.replace(b"\r\n", b"\n")
    ends = plain.count(b"\n") + (not plain.endswith(b"\n"))
    if b"\n\n" not in plain and not plain.startswith(b"\n") and b"\r" not in plain:
        try:
            table = _parsed_csv(plain, header, delimiter)
        except (pa.ArrowInvalid, UnicodeError):
            table = None
        if table is not None and table.num_rows == ends:
            return TablePiece(table.combine_chunks().to_batches()[0], np.arange(lines + 1, lines + 1 + ends))
    found = _csv_records(io.StringIO(_text(block), newline=""), lines, header, delimiter)
    return RecordPiece(tuple((line, row) for line, row in found if row is not None))


def _parsed_csv(plain: bytes, header: tuple[str, ...], delimiter: str) -> Any:  # noqa: ANN401  a table
    kinds = dict.fromkeys(header, pa.string())
    reads = pyarrow.csv.ReadOptions(use_threads=False, block_size=len(plain) + 1, column_names=list(header))
    parses = pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char=False, ignore_empty_lines=False)
    converts = pyarrow.csv.ConvertOptions(column_types=kinds, strings_can_be_null=False, null_values=[])
    return pa.csv.read_csv(pa.py_buffer(plain), reads, parses, converts)


def _quoted(text: BinaryIO, begun: bytes) -> Iterator[str]:
    """Yield the rest of a CSV in lines, as Python's reader takes them."""
    raw = cast("io.BufferedReader", _Chained(chain([begun], iter(lambda: text.read(BLOCK_BYTES), b""))))
    return iter(io.TextIOWrapper(raw, "utf-8", "surrogateescape", newline=""))


class _Chained(io.RawIOBase):
    """Blocks of bytes as a file."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__()
        self._blocks = blocks
        self._rest = b""

    def readable(self) -> bool:
        """Say that it is."""
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401  a buffer
        """Fill a buffer with what there is; 0 at the end."""
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = block
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def read1(self, size: int = -1, /) -> bytes:
        """Return some bytes; a text wrapper asks for them like this."""
        return self.read(size if size > 0 else BLOCK_BYTES) or b""


def _records(text: Iterator[str], lines: int, header: tuple[str, ...], delimiter: str) -> Iterator[Piece]:
    """Yield the rows of a CSV with quotes, one by one."""
    rows: list[tuple[int, Record | RowRefused]] = []
    empty = 0
    for line, row in _csv_records(text, lines, header, delimiter):
        if row is None:
            empty += 1
        else:
            rows.append((line, row))
        if len(rows) == CHUNK_ROWS or empty == EMPTY_LINES:
            yield RecordPiece(tuple(rows))
            rows, empty = [], 0
    yield RecordPiece(tuple(rows))


def _csv_records(
    text: Iterator[str], lines: int, header: tuple[str, ...], delimiter: str
) -> Iterator[tuple[int, Record | RowRefused | None]]:
    """Yield each line, with its row or why it is none; None = it is empty."""
    reader = csv.reader(text, delimiter=delimiter)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line = reader.line_num + lines
            yield line, RowRefused(line, Fault(f"line {line}", f"{error}.", "A line of CSV.", PAGE), b"")
            continue
        line = reader.line_num + lines
        if not cells:
            yield line, None
        elif len(cells) == len(header):
            yield line, dict(zip(header, cells, strict=True))
        else:
            raw = delimiter.join(cells).encode("utf-8", "surrogateescape")
            came, right = f"{len(cells)} cells.", f"{len(header)} cells, as in the header."
            yield line, RowRefused(line, Fault(f"line {line}", came, right, PAGE), raw)


def _text(block: bytes) -> str:
    return block.decode("utf-8", "surrogateescape")


def records_of(table: Batch, rows: NDArray[np.intp]) -> list[Record]:
    """Return some rows of a table as records: bytes as text, times to the microsecond."""
    chosen = table.take(pa.array(rows))
    columns: Mapping[str, list[object]] = {
        name: [_plain(each) for each in _values_of(_to_microseconds(chosen.column(at)))]
        for at, name in enumerate(table.schema.names)
    }
    return [{name: values[at] for name, values in columns.items()} for at in range(len(rows))]


def _values_of(column: Any) -> list[object]:  # noqa: ANN401  an array
    """Return the values of a column; one that Python has no object for, such as the year 20000, as its text."""
    try:
        found: list[object] = column.to_pylist()
    except (pa.ArrowException, ValueError, ArithmeticError):
        return [_value_of(each) for each in column]
    return found


def _value_of(scalar: Any) -> object:  # noqa: ANN401  a scalar
    try:
        found: object = scalar.as_py()
    except (pa.ArrowException, ValueError, ArithmeticError) as error:
        return f"({scalar.type}: {said(error)})"
    return found


def _to_microseconds(column: Any) -> Any:  # noqa: ANN401  an array
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return column.cast(pa.timestamp("us", kind.tz), safe=False)
    return column


def _plain(value: object) -> object:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
