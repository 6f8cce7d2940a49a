"""A file of somebody else's to events, some rows at a time.

CSV and TSV (also with ``;`` or ``|``), NDJSON and Parquet, each also as ``.gz`` where it is text. A row that cannot be
an event is named with its line.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec

from midstream.app.import_columns import PAGE, CellRefused, ColumnOptions, Record, converter
from midstream.core.errors import Fault, Invalid

CHUNK_ROWS = 5_000
"""Rows read at once: 1 MB at 200 B."""
LINE_CHARS_MAX = 1 << 20
"""Longest line of NDJSON and longest cell of a CSV; an event has at most 256 KiB."""
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".parquet": "parquet",
}
_DELIMITERS = "\t;,|"


@dataclass(frozen=True, slots=True)
class RowRefused:
    """A row that is no event, and why."""

    line: int
    fault: Fault
    raw: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a file, in order."""

    lines: tuple[int, ...]
    """Of each event: the line in a text file, from 1 with the header; the row in Parquet, from 1."""
    events: tuple[dict[str, object], ...]
    refused: tuple[RowRefused, ...]
    bytes_read: int
    """Of the file so far, about, as it lies on disk."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """A file as records: header, if it has one, and pairs of line and record, or of line and fault."""

    header: tuple[str, ...] | None
    records: Iterator[tuple[int, Record | RowRefused]]
    bytes_read: Callable[[], int]


def format_of(path: Path) -> str:
    """Return ``csv``, ``ndjson`` or ``parquet`` by a file's name.

    Raises:
        Invalid: The name says none of them.
    """
    suffixes = [each.lower() for each in path.suffixes if each.lower() != ".gz"]
    found = _SUFFIXES.get(suffixes[-1] if suffixes else "")
    if found is None:
        right = f"One of {', '.join(_SUFFIXES)}; text also with .gz behind it."
        raise Invalid((Fault(path.name, "The name does not say what the file is.", right, PAGE),))
    return found


def read_chunks(path: Path, options: ColumnOptions, attribute_kinds: Mapping[str, str]) -> Iterator[Chunk]:
    """Yield all rows of a file as events, about ``CHUNK_ROWS`` at a time.

    Args:
        path: The file.
        options: How its columns become fields.
        attribute_kinds: Declared item attributes, which decide what the text of a cell means.

    Raises:
        Invalid: The options name a column that is not there, or a field that no event has; nothing was read.
    """
    with _rows_of(path) as rows:
        convert = converter(options, rows.header, attribute_kinds)
        lines: list[int] = []
        events: list[dict[str, object]] = []
        refused: list[RowRefused] = []
        for line, record in rows.records:
            if isinstance(record, RowRefused):
                refused.append(record)
            else:
                try:
                    events.append(convert(record))
                    lines.append(line)
                except CellRefused as error:
                    refused.append(_refusal(line, record, error))
            if len(lines) + len(refused) >= CHUNK_ROWS:
                yield Chunk(tuple(lines), tuple(events), tuple(refused), rows.bytes_read())
                lines, events, refused = [], [], []
        yield Chunk(tuple(lines), tuple(events), tuple(refused), rows.bytes_read())


def header_of(path: Path) -> tuple[str, ...]:
    """Return the columns of a file, none where each record has its own."""
    with _rows_of(path) as rows:
        return rows.header or ()


@contextmanager
def _rows_of(path: Path) -> Generator[_Rows]:
    """Open a file, and close it at the end of the block."""
    kind = format_of(path)
    with ExitStack() as stack:
        opened = stack.enter_context(path.open("rb"))
        if kind == "parquet":
            yield _parquet_rows(opened)
            return
        packed = stack.enter_context(gzip.GzipFile(fileobj=opened)) if path.suffix.lower() == ".gz" else opened
        text = io.TextIOWrapper(cast("io.BufferedReader", packed), "utf-8-sig", "surrogateescape", newline="")
        stack.enter_context(text)
        stack.enter_context(_unpacking(path.name))
        yield (
            _csv_rows(text, path.name, opened.tell)
            if kind == "csv"
            else _Rows(None, _ndjson_records(text), opened.tell)
        )


@contextmanager
def _unpacking(name: str) -> Generator[None]:
    """Say which file cannot be unpacked, and that it is the packing."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        came = f"It cannot be unpacked: {error}."
        raise Invalid((Fault(name, came, "A whole file as gzip makes it.", PAGE),)) from error


def _csv_rows(text: io.TextIOWrapper, name: str, bytes_read: Callable[[], int]) -> _Rows:
    csv.field_size_limit(LINE_CHARS_MAX)
    first = text.readline(LINE_CHARS_MAX)
    counts = {mark: first.count(mark) for mark in _DELIMITERS}
    delimiter = max(counts, key=lambda mark: counts[mark]) if any(counts.values()) else ","
    header = tuple(each.strip() for each in next(csv.reader([first], delimiter=delimiter), list[str]()))
    if not header or len(set(header)) < len(header):
        came = f"The header has {len(header)} columns, {len(set(header))} of them distinct."
        raise Invalid((Fault(f"{name} line 1", came, "A header line with a name of its own for each column.", PAGE),))
    return _Rows(header, _csv_records(text, header, delimiter), bytes_read)


def _csv_records(
    text: io.TextIOWrapper, header: tuple[str, ...], delimiter: str
) -> Iterator[tuple[int, Record | RowRefused]]:
    reader = csv.reader(text, delimiter=delimiter)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line = reader.line_num + 1
            yield line, RowRefused(line, Fault(f"line {line}", f"{error}.", "A line of CSV.", PAGE), b"")
            continue
        line = reader.line_num + 1
        if len(cells) == len(header):
            yield line, dict(zip(header, cells, strict=True))
        elif cells:
            raw = delimiter.join(cells).encode("utf-8", "surrogateescape")
            came, right = f"{len(cells)} cells.", f"{len(header)} cells, as in the header."
            yield line, RowRefused(line, Fault(f"line {line}", came, right, PAGE), raw)


def _ndjson_records(text: io.TextIOWrapper) -> Iterator[tuple[int, Record | RowRefused]]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    line = 0
    while content := text.readline(LINE_CHARS_MAX):
        line += 1
        if not content.strip():
            continue
        raw = content.encode("utf-8", "surrogateescape").strip()
        try:
            yield line, decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            came = "It is longer than 1 MiB." if len(content) == LINE_CHARS_MAX else f"{error}."
            yield line, RowRefused(line, Fault(f"line {line}", came, "One JSON object in UTF-8.", PAGE), raw)


def _parquet_rows(opened: io.BufferedReader) -> _Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(opened)
    except pa.ArrowInvalid as error:
        came = f"It is no Parquet file: {str(error).rstrip('.')}."
        raise Invalid((Fault(Path(opened.name).name, came, "A Parquet file.", PAGE),)) from error

    def records() -> Iterator[tuple[int, Record]]:
        line = 0
        for batch in file.iter_batches(CHUNK_ROWS):  # pyright: ignore[reportUnknownMemberType]
            for record in batch.to_pylist():
                line += 1
                yield line, record

    return _Rows(tuple(file.schema_arrow.names), records(), opened.tell)


def _refusal(line: int, record: Record, error: CellRefused) -> RowRefused:
    raw = json.dumps(record, default=str).encode()
    return RowRefused(line, Fault(f"line {line}: {error.name}", error.came, error.right, PAGE), raw)
