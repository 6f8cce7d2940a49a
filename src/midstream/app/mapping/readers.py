"""Readers of event files in pieces: CSV, TSV (also with ``;`` or ``|``), NDJSON, Parquet and Arrow, also ``.gz``.

pyarrow reads files with columns. Every row has its line.
"""

import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from decimal import Decimal
from math import isnan
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from midstream.app.mapping.columns import PAGE, Record
from midstream.app.mapping.csv_reader import csv_tables
from midstream.app.mapping.pieces import CHUNK_ROWS, LinePiece, OpenFile, Piece, RowRefused, TablePiece
from midstream.core.errors import Fault, Invalid
from midstream.events.arrow.columns import plain_of
from midstream.events.arrow.views import without_inner_views, without_views
from midstream.events.loose_arrow import UNREADABLE, Batch, pa, pt, said

TABLE_TEXT_BYTES_MAX = 1 << 30
"""Of a column of ``CHUNK_ROWS`` rows: 100 kB each."""
BLOCK_BYTES = 1 << 20
"""Of NDJSON, read at once."""
PACKED_RATIO_MAX = 200
PACKED_FREE_BYTES = 8 << 20
"""As over HTTP: events of the same user and item pack 50 to 1 at the most, gzip alone could do 1,000. The first 8 MiB
take a second at the worst."""
LINE_BYTES_MAX = 1 << 20
"""Longest line of NDJSON; an event has at most 256 KiB."""
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
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
"""Of UTF-16 and UTF-32."""
_RIGHT_LINE = "One JSON object a line, in UTF-8, each line ended by \\n."
_NAMES_SHOWN = 5


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
def open_rows(path: Path) -> Generator[OpenFile]:
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
            text: BinaryIO = file
            if path.suffix.lower() == ".gz":
                unpacked = cast("BinaryIO", stack.enter_context(gzip.GzipFile(fileobj=file)))
                text = cast("BinaryIO", _Unpacked(unpacked, file, path.name))
            with _reading(path.name, kind):
                opened = (_csv if kind == "csv" else _ndjson)(text, path.name, file.tell)
        _require_names(opened.header or (), path.name)

        def read(columns: Sequence[str] | None) -> Iterator[Piece]:
            return _read_well(opened.read(columns), path.name, kind)

        yield replace(opened, read=read)


def _require_names(header: Sequence[str], name: str) -> None:
    """Refuse columns of one name: which of them is meant cannot be known."""
    twice = [each for each, count in Counter(header).items() if count > 1]
    if twice:
        came = f"More than one column is named {', '.join(map(repr, twice[:_NAMES_SHOWN]))}."
        raise Invalid((Fault(name, came, "A name of its own for each column.", PAGE),))


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


def _parquet(file: BinaryIO) -> OpenFile:
    parquet = pq.ParquetFile(file)
    header = tuple(parquet.schema_arrow.names)

    def read(columns: Sequence[str] | None) -> Iterator[Piece]:
        chosen = _chosen(header, columns)
        return _tables(parquet.iter_batches(CHUNK_ROWS, columns=chosen))  # pyright: ignore[reportUnknownMemberType]

    return OpenFile(header, read, file.tell)


def _arrow(file: BinaryIO) -> OpenFile:
    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    opens = pa.ipc.open_file if is_file else pa.ipc.open_stream
    header = tuple(opens(file).schema.names)

    def read(columns: Sequence[str] | None) -> Iterator[Piece]:
        chosen = _chosen(header, columns)
        file.seek(0)
        opened = opens(file, options=pa.ipc.IpcReadOptions(included_fields=[header.index(name) for name in chosen]))
        if not is_file:
            return _tables(iter(opened))
        return _tables(opened.get_batch(at) for at in range(opened.num_record_batches))

    return OpenFile(header, read, file.tell)


def _chosen(header: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    """Return the columns that are read: one at least, which knows how many rows there are."""
    return list(header) if columns is None else [name for name in header if name in columns] or list(header[:1])


def _csv(text: BinaryIO, name: str, bytes_read: Callable[[], int]) -> OpenFile:
    header, tables = csv_tables(text, name)
    return OpenFile(header, lambda _: tables, bytes_read, has_types=False)


def _tables(batches: Iterator[Batch]) -> Iterator[Piece]:
    line = 1
    for batch in batches:
        batch.validate(full=True)
        whole = without_inner_views(batch, TABLE_TEXT_BYTES_MAX)
        for start in range(0, len(whole), CHUNK_ROWS):
            table = without_views(whole.slice(start, CHUNK_ROWS), TABLE_TEXT_BYTES_MAX)
            yield TablePiece(table, np.arange(line, line + len(table)))
            line += len(table)


def _ndjson(text: BinaryIO, name: str, bytes_read: Callable[[], int]) -> OpenFile:
    begin = text.read(BLOCK_BYTES)
    if begin.startswith(_WIDE_BOMS) or b"\0" in begin[:4]:
        raise Invalid((Fault(f"{name} line 1", "It is no UTF-8.", _RIGHT_LINE, PAGE),))
    begin = begin.removeprefix(_BOM)
    if Path(name.lower().removesuffix(".gz")).suffix == ".json" and begin.lstrip().startswith(b"["):
        raise Invalid((Fault(f"{name} line 1", "It begins with [, as one JSON list of all.", _RIGHT_LINE, PAGE),))
    lines = _lines(begin, text)
    return OpenFile(None, lambda _: lines, bytes_read)


def _lines(begin: bytes, text: BinaryIO) -> Iterator[Piece]:
    """Yield NDJSON in blocks of whole lines; a line that is too long by itself is refused."""
    lines = 0
    rest, block = b"", begin
    while block:
        rest += block
        end = rest.rfind(b"\n") + 1
        if end:
            body = rest[:end]
            yield LinePiece(b"" if body.isspace() else body, lines)
            lines += body.count(b"\n")
            rest = rest[end:]
        elif len(rest) > LINE_BYTES_MAX:
            fault = Fault(f"line {lines + 1}", "It is longer than 1 MiB.", _RIGHT_LINE, PAGE)
            yield LinePiece(b"", lines, (RowRefused(lines + 1, fault, rest),))
            lines += 1
            rest = _after_line(text)
        block = text.read(BLOCK_BYTES)
    if rest:
        yield LinePiece(rest, lines)


def _after_line(text: BinaryIO) -> bytes:
    """Read on to the end of a line; return what was read behind it."""
    while block := text.read(BLOCK_BYTES):
        _, end, rest = block.partition(b"\n")
        if end:
            return rest
    return b""


def records_of(table: Batch, rows: NDArray[np.intp]) -> list[Record]:
    """Return some rows of a table as records: bytes as text, times to the microsecond, NaN as nothing."""
    chosen = rows_of(table, rows)
    columns = {name: values_of(chosen.column(at)) for at, name in enumerate(table.schema.names)}
    return [{name: values[at] for name, values in columns.items()} for at in range(len(rows))]


def rows_of(table: Batch, rows: NDArray[np.intp]) -> Batch:
    """Return some rows of a table.

    Raises:
        Invalid: Arrow takes no rows of a column of such a type.
    """
    index = pa.array(rows)
    columns = [_taken(column, index, name) for name, column in zip(table.schema.names, table.columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=table.schema.names)


def _taken(column: Any, index: Any, name: str) -> Any:  # noqa: ANN401  arrays
    try:
        return column.take(index)
    except NotImplementedError as error:
        came = f"Its type is {column.type}, of which no single rows can be read."
        right = "A type such as string, int64, double, timestamp, list or struct; or map other columns."
        raise Invalid((Fault(f"column {name}", came, right, PAGE),)) from error


def values_of(column: Any) -> list[Any]:  # noqa: ANN401  an array
    """Return the values of a column: bytes as text, times to the microsecond, NaN as nothing.

    One that Python has no object for, such as the year 20000, is its text.
    """
    column = _to_microseconds(column)
    is_map = bool(pt.is_map(column.type))
    try:
        found: list[object] = column.to_pylist()
    except (pa.ArrowException, ValueError, ArithmeticError):
        found = [_value_of(each) for each in column]
    return [_plain(each, is_map=is_map) for each in found]


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


def _plain(value: object, *, is_map: bool) -> object:
    """Return a value as a record has it; members of an object without a value are not there."""
    if isinstance(value, float) and isnan(value):
        return None
    found = value if isinstance(value, Decimal) else plain_of(value, is_map=is_map)
    return _without_nan(cast("dict[str, object]", found)) if isinstance(found, dict) else found


def _without_nan(members: dict[str, object]) -> dict[str, object]:
    found = {name: _plain(each, is_map=False) for name, each in members.items()}
    return {name: each for name, each in found.items() if each is not None}
