"""Loader of ``[[tables]]``: each file as a whole, once for each new plan, with the hash of its bytes."""

import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.nearest import nearest
from midstream.core.types import Mask
from midstream.events.loose_arrow import UNREADABLE, Array, pa, pt, said
from midstream.events.wire import MICROSECONDS_BEGIN
from midstream.features.readers.external import EVERYBODY, PAGE, External, ExternalTable, Table, Tables, missing_columns
from midstream.features.versions import versions_of
from midstream.state.structures.hashing import IdKey, hashes_of

pc: Any = pyarrow.compute
csv: Any = pyarrow.csv
parquet: Any = pyarrow.parquet
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_SECONDS_BELOW = 100_000_000_000
"""Milliseconds since 1970 in March 1973: times of today that are smaller are in seconds."""
_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_TIME_MAX = 2**63 - 1
_ROWS_AT_ONCE = 1 << 16
"""Of a Parquet file: 8 MB of ids of 128 characters."""
_Part: TypeAlias = tuple[NDArray[np.uint64], NDArray[np.int64], Mask, NDArray[np.float64]]
_MISSING_ID = np.uint64(0)


def read_tables(tables: Sequence[Table], features: Sequence[object], folder: Path, key: IdKey) -> Tables:
    """Return the content of all tables, by name.

    Args:
        tables: Of the configuration; ``table_faults`` found nothing.
        features: Declared; the columns that they read must be there.
        folder: Of the configuration file: relative paths begin there.
        key: Of ids in the state.

    Raises:
        ConfigInvalid: A file is not there, too large, or not as it was declared; all faults are named.

    Cost: about 1 s a million rows.
    """
    found: dict[str, ExternalTable] = {}
    faults: list[Fault] = []
    for number, table in enumerate(tables):
        try:
            found[table.name] = read_table(table, folder, f"$.tables[{number}]", key)
        except ConfigInvalid as error:
            faults.extend(error.faults)
    for number, feature in enumerate(features):
        if isinstance(feature, External) and feature.table in found:
            faults.extend(missing_columns(f"$.features[{number}]", feature, found[feature.table].columns))
    if faults:
        raise ConfigInvalid(tuple(faults))
    return found


def read_table(table: Table, folder: Path, where: str, key: IdKey) -> ExternalTable:
    """Return the content of one table.

    Raises:
        ConfigInvalid: As ``read_tables``; pointers begin with ``where``.
    """
    content = _content(table, folder / table.path, where)
    try:
        columns, pieces = _parsed(table, content, where)
        parts = [_part(table, columns, piece, where, key) for piece in pieces]
    except UNREADABLE as error:
        came = f"{table.path} cannot be read: {said(error)}."
        raise _invalid(f"{where}.path", came, "A Parquet, CSV or TSV file that is whole.") from error
    hashes, times, is_timed, values = _joined(parts)
    newest = int(times[is_timed].max(initial=0))
    if is_timed.any() and not _SECONDS_BELOW <= newest < MICROSECONDS_BEGIN:
        unit = "seconds" if newest < _SECONDS_BELOW else "microseconds or nanoseconds"
        came = f"{newest}, the newest time, looks like {unit}."
        raise _invalid(f"{where}.time", came, "Milliseconds since 1970.")
    whole: Mask = is_timed & (hashes != _MISSING_ID)
    return ExternalTable(
        name=table.name,
        entity=table.entity,
        columns=columns,
        ttl_ms=table.ttl.ms if table.ttl is not None else 0,
        versions=versions_of(hashes[whole], times[whole], values[whole]),
        sha256=sha256(content).hexdigest(),
        bytes_max=table.bytes_max,
        rows=int(whole.sum()),
        incomplete_rows=int((~whole).sum()),
        newest_ms=int(times[whole].max(initial=-1)),
    )


def _content(table: Table, path: Path, where: str) -> bytes:
    """Return the bytes of a file, read once: what is hashed is what is parsed."""
    right = "A file, from the folder of midstream.toml on."
    if path.suffix not in {".parquet", *_DELIMITERS}:
        raise _invalid(f"{where}.path", f"{table.path} came.", "A name that ends in .parquet, .csv or .tsv.")
    try:
        if path.stat().st_size > table.bytes_max:
            came = f"{table.path} has {path.stat().st_size:,} bytes."
            raise _invalid(f"{where}.path", came, f"At most bytes_max, {table.bytes_max:,}.")
        return path.read_bytes()
    except OSError as error:
        raise _invalid(f"{where}.path", f"{table.path} cannot be read: {error.strerror}.", right) from error


def _needed(table: Table) -> list[str]:
    """Return the columns that are no values."""
    return list(dict.fromkeys([table.time] if table.entity == "global" else [table.id, table.time]))


def _parsed(table: Table, content: bytes, where: str) -> tuple[tuple[str, ...], Iterator[Any]]:
    """Return the columns of values, and pieces of the file that have them, in order, one at least: ``pa.Table``s."""
    return (_of_parquet if table.path.endswith(".parquet") else _of_text)(table, content, where)


def _of_parquet(table: Table, content: bytes, where: str) -> tuple[tuple[str, ...], Iterator[Any]]:
    """Return as ``_parsed``; what the file's footer says is checked before any row is read.

    Rows are read a few at a time: a long text that comes again and again is once in the file, and in all rows of Arrow.
    """
    file = parquet.ParquetFile(pa.BufferReader(content))
    schema, footer = file.schema_arrow, file.metadata
    _require(table, _needed(table), schema.names, where)
    columns = _columns(table, schema, where)
    chosen = list(dict.fromkeys((*_needed(table), *columns)))
    _check_size(table, footer.num_rows, columns, where)
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    parts = [group.column(place) for group in groups for place in range(group.num_columns)]
    unpacked = sum(part.total_uncompressed_size for part in parts if part.path_in_schema in chosen)
    if unpacked > table.bytes_max:
        came = f"{table.path} has {unpacked:,} bytes when it is unpacked."
        raise _invalid(f"{where}.path", came, f"At most bytes_max, {table.bytes_max:,}; columns says what is read.")
    nothing = pa.schema([schema.field(name) for name in chosen]).empty_table()
    batches = file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=chosen)
    return columns, chain([nothing], (pa.Table.from_batches([batch]) for batch in batches))


def _of_text(table: Table, content: bytes, where: str) -> tuple[tuple[str, ...], Iterator[Any]]:
    """Return as ``_parsed``, in one piece: what a column is, its last row may say. Rows are counted before."""
    delimiter = _DELIMITERS[Path(table.path).suffix]
    needed = _needed(table)
    _require(table, needed, _header(content, delimiter), where)
    parse = csv.ParseOptions(delimiter=delimiter)
    texts = dict.fromkeys(needed, pa.string())
    counted = csv.ConvertOptions(include_columns=needed, column_types=texts)
    rows = 0
    with csv.open_csv(io.BytesIO(content), parse_options=parse, convert_options=counted) as batches:
        for batch in batches:
            rows += len(batch)
            if rows > table.rows_max:
                raise _too_many(table, f"more than {table.rows_max:,}", where)
    _check_size(table, rows, table.columns, where)
    chosen = list(dict.fromkeys((*needed, *table.columns))) if table.columns else []
    convert = csv.ConvertOptions(include_columns=chosen, column_types=texts)
    read: Any = csv.read_csv(io.BytesIO(content), parse_options=parse, convert_options=convert)
    # An id may be ``NA``, ``null`` or ``nan``, so texts are as they stand; none of these is a time.
    place = read.schema.get_field_index(table.time)
    is_missing = pc.is_in(read.column(place), value_set=pa.array(convert.null_values))
    times = pc.if_else(is_missing, pa.scalar(None, pa.string()), read.column(place))
    read = read.set_column(place, table.time, times)
    columns = _columns(table, read.schema, where)
    _check_size(table, rows, columns, where)
    return columns, iter([read])


def _check_size(table: Table, rows: int, columns: Sequence[str], where: str) -> None:
    """Refuse more rows than allowed, and more bytes in memory."""
    if rows > table.rows_max:
        raise _too_many(table, f"{rows:,}", where)
    needed = rows * (8 * len(columns) + 16)
    if needed > table.bytes_max:
        came = f"{table.path} takes {needed:,} bytes: {rows:,} rows of {len(columns)} columns."
        raise _invalid(f"{where}.path", came, f"At most bytes_max, {table.bytes_max:,}; columns says what is read.")


def _too_many(table: Table, rows: str, where: str) -> ConfigInvalid:
    return _invalid(f"{where}.path", f"{table.path} has {rows} rows.", f"At most rows_max, {table.rows_max:,}.")


def _part(
    table: Table,
    columns: Sequence[str],
    read: Any,  # noqa: ANN401  a pa.Table, untyped
    where: str,
    key: IdKey,
) -> _Part:
    """Return hash and time of each row of a piece, whether it has a time, and its values, (n, columns)."""
    hashes = _hashes(table, read, where, key)
    times, is_timed = _times(table, read, where)
    return hashes, times, is_timed, np.stack([_numbers(_column(read, each)) for each in columns], axis=1)


def _header(content: bytes, delimiter: str) -> list[str]:
    """Return the names of the columns of a text."""
    first = content.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0].rstrip(b"\r").decode()
    return [each.strip('"') for each in first.split(delimiter)]


def _joined(parts: Sequence[_Part]) -> _Part:
    """Return pieces as one."""
    hashes, times, is_timed, values = zip(*parts, strict=True)
    return np.concatenate(hashes), np.concatenate(times), np.concatenate(is_timed), np.concatenate(values)


def _require(table: Table, needed: Sequence[str], names: Sequence[str], where: str) -> None:
    """Refuse a file without the columns that were named."""
    fields: Mapping[str, str] = {table.time: "time"} | ({} if table.entity == "global" else {table.id: "id"})
    faults = [
        Fault(
            f"{where}.{fields.get(each, 'columns')}",
            f'{table.path} has no column "{each}".{nearest(each, names)}',
            f"Columns: {', '.join(names)}",
            PAGE,
        )
        for each in dict.fromkeys((*needed, *table.columns))
        if each not in names
    ]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    read = {*needed, *(table.columns or names)}
    faults += [
        Fault(f"{where}.path", f'{table.path} has the column "{each}" twice.', "Each column once.", PAGE)
        for each in twice
        if each in read
    ]
    if faults:
        raise ConfigInvalid(tuple(faults))


def _columns(table: Table, schema: Any, where: str) -> tuple[str, ...]:  # noqa: ANN401  a pa.Schema
    """Return the columns of values: those that were named, or all numbers and truth values."""
    types: Mapping[str, Any] = {name: schema.field(name).type for name in (table.columns or schema.names)}
    if not table.columns:
        apart = {table.time} if table.entity == "global" else {table.id, table.time}
        found = tuple(name for name, each in types.items() if name not in apart and _is_number(each))
        if not found:
            raise _invalid(f"{where}.columns", f"{table.path} has no column of numbers.", "One at least.")
        return found
    wrong = [name for name in table.columns if not _is_number(types[name])]
    if wrong:
        came = ", ".join(f"{name} is of type {types[name]}" for name in wrong)
        raise _invalid(f"{where}.columns", f"{came}.", "Numbers or truth values.")
    return table.columns


def _column(read: Any, name: str) -> Array:  # noqa: ANN401  as _parsed
    """Return a column as one array."""
    return read.column(name).combine_chunks()


def _is_number(kind: Any) -> bool:  # noqa: ANN401  a pa.DataType
    is_plain = pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind)
    return bool(is_plain or pt.is_decimal(kind) or pt.is_null(kind))


def _numbers(column: Array) -> NDArray[np.float64]:
    """Return a column as float64; NaN where it has nothing."""
    kind = column.type
    if pt.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif pt.is_decimal(kind):
        column = column.cast(pa.float64())
    found: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return found.astype(np.float64)


def _hashes(table: Table, read: Any, where: str, key: IdKey) -> NDArray[np.uint64]:  # noqa: ANN401  as _parsed
    """Return the hash of each row's id, 0 = it has none."""
    if table.entity == "global":
        return np.full(len(read), EVERYBODY, dtype=np.uint64)
    column = _column(read, table.id)
    if not (pt.is_string(column.type) or pt.is_large_string(column.type) or pt.is_integer(column.type)):
        raise _invalid(f"{where}.id", f"{table.id} is of type {column.type}.", "Texts, or whole numbers.")
    column = pc.fill_null(column.cast(pa.large_string()), "")
    buffers = column.buffers()
    starts = np.frombuffer(buffers[1], dtype=np.int64)[column.offset : column.offset + len(column) + 1]
    text = np.frombuffer(buffers[2] or b"\0", dtype=np.uint8)
    return hashes_of(text, np.ascontiguousarray(starts) if len(starts) else np.zeros(1, dtype=np.int64), key)


def _times(table: Table, read: Any, where: str) -> tuple[NDArray[np.int64], Mask]:  # noqa: ANN401  as _parsed
    """Return the time of each row in milliseconds, and whether it has one."""
    column, pointer = _column(read, table.time), f"{where}.time"
    micros = 1
    if pt.is_string(column.type) or pt.is_large_string(column.type):
        column = _of_texts(column, table.time, pointer)
    elif pt.is_timestamp(column.type) or pt.is_date(column.type):
        zone = column.type.tz if pt.is_timestamp(column.type) else None
        is_cut = pt.is_timestamp(column.type) and column.type.unit == "ns"
        column = column.cast(pa.timestamp("us", zone), safe=not is_cut).cast(pa.int64())
        micros = 1_000
    elif pt.is_integer(column.type):
        column = column.cast(pa.int64())
    else:
        right = "Whole milliseconds since 1970, ISO 8601 texts, or timestamps."
        raise _invalid(pointer, f"{table.time} is of type {column.type}.", right)
    is_timed: NDArray[Any] = pc.is_valid(column).to_numpy(zero_copy_only=False)
    # Down to the millisecond: a row of a question's own millisecond, or later, was not there.
    times: NDArray[Any] = pc.fill_null(column, 0).to_numpy(zero_copy_only=False).astype(np.int64) // micros
    return times, is_timed.astype(np.bool_)


def _of_texts(column: Array, name: str, pointer: str) -> Array:
    """Return texts as milliseconds: digits, or ISO 8601."""
    texts: list[str | None] = column.to_pylist()
    try:
        return pa.array([None if text is None else _milliseconds(text) for text in texts], pa.int64())
    except ValueError:
        bad = next(text for text in texts if text is not None and not _is_time(text))
        right = "Whole milliseconds since 1970, or ISO 8601."
        raise _invalid(pointer, f'"{bad[:60]}" stands in {name}.', right) from None


def _milliseconds(text: str) -> int:
    if text.isascii() and text.isdigit():
        found = int(text)
        if found > _TIME_MAX:
            raise ValueError(text)
        return found
    moment = datetime.fromisoformat(text)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MILLISECOND


def _is_time(text: str) -> bool:
    try:
        _milliseconds(text)
    except ValueError:
        return False
    return True


def _invalid(where: str, came: str, right: str) -> ConfigInvalid:
    return ConfigInvalid((Fault(where, came, right, PAGE),))
