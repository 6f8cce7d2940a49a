"""Files of ``[[tables]]`` into memory: each whole, once for each plan that is made, with the hash of what was read."""

import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.nearest import nearest
from midstream.core.types import Mask
from midstream.events.loose_arrow import Array, pa, pt
from midstream.features.external import EVERYBODY, PAGE, External, ExternalTable, Table, Tables, missing_columns
from midstream.state.versions import hashes_of, versions_of

pc: Any = pyarrow.compute
csv: Any = pyarrow.csv
parquet: Any = pyarrow.parquet
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_SECONDS_BELOW = 100_000_000_000
"""Milliseconds since 1970 in March 1973: times of today that are smaller are in seconds."""
_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_MISSING_ID = np.uint64(0)


def read_tables(tables: Sequence[Table], features: Sequence[object], folder: Path) -> Tables:
    """Return the content of all tables, by name.

    Args:
        tables: Of the configuration; ``table_faults`` found nothing.
        features: Declared; the columns that they read must be there.
        folder: Of the configuration file: relative paths begin there.

    Raises:
        ConfigInvalid: A file is not there, too large, or not as it was declared; all faults are named.

    Cost: about 1 s a million rows.
    """
    found: dict[str, ExternalTable] = {}
    faults: list[Fault] = []
    for number, table in enumerate(tables):
        try:
            found[table.name] = read_table(table, folder, f"$.tables[{number}]")
        except ConfigInvalid as error:
            faults.extend(error.faults)
    for number, feature in enumerate(features):
        if isinstance(feature, External) and feature.table in found:
            faults.extend(missing_columns(f"$.features[{number}]", feature, found[feature.table].columns))
    if faults:
        raise ConfigInvalid(tuple(faults))
    return found


def read_table(table: Table, folder: Path, where: str) -> ExternalTable:
    """Return the content of one table.

    Raises:
        ConfigInvalid: As ``read_tables``; pointers begin with ``where``.
    """
    content = _content(table, folder / table.path, where)
    try:
        read = _parsed(table, content, where)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        came = f"{table.path} cannot be read: {str(error).splitlines()[0][:200]}"
        raise _invalid(f"{where}.path", came, "A Parquet, CSV or TSV file that is whole.") from error
    columns = _columns(table, read, where)
    if len(read) > table.rows_max:
        raise _invalid(
            f"{where}.path", f"{table.path} has {len(read):,} rows.", f"At most rows_max, {table.rows_max:,}."
        )
    needed = len(read) * (8 * len(columns) + 16)
    if needed > table.bytes_max:
        came = f"{table.path} takes {needed:,} bytes: {len(read):,} rows of {len(columns)} columns."
        raise _invalid(f"{where}.path", came, f"At most bytes_max, {table.bytes_max:,}; columns says what is read.")
    hashes = _hashes(table, read, where)
    times, is_timed = _times(table, read, where)
    whole: Mask = is_timed & (hashes != _MISSING_ID)
    values = np.stack([_numbers(_column(read, each)) for each in columns], axis=1)
    return ExternalTable(
        name=table.name,
        entity=table.entity,
        columns=columns,
        ttl_ms=table.ttl.ms if table.ttl is not None else 0,
        versions=versions_of(hashes[whole], times[whole], values[whole]),
        sha256=sha256(content).hexdigest(),
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


def _parsed(table: Table, content: bytes, where: str) -> Any:  # noqa: ANN401  a pa.Table, which has no types here
    """Return the columns that are needed of a file, whole columns as one array each."""
    needed = [table.time] if table.entity == "global" else [table.id, table.time]
    if table.path.endswith(".parquet"):
        with parquet.ParquetFile(pa.BufferReader(content)) as file:
            names: list[str] = [*file.schema_arrow.names]
            _require(table, needed, names, where)
            read: Any = file.read(columns=[*needed, *table.columns] if table.columns else None)
    else:
        delimiter = _DELIMITERS[Path(table.path).suffix]
        names = _header(content, delimiter)
        _require(table, needed, names, where)
        chosen = [*needed, *table.columns] if table.columns else []
        read = csv.read_csv(
            io.BytesIO(content),
            parse_options=csv.ParseOptions(delimiter=delimiter),
            convert_options=csv.ConvertOptions(
                include_columns=list(dict.fromkeys(chosen)),
                column_types=dict.fromkeys(needed, pa.string()),
                strings_can_be_null=True,
            ),
        )
    return read


def _header(content: bytes, delimiter: str) -> list[str]:
    """Return the names of the columns of a text."""
    first = content.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0].rstrip(b"\r").decode()
    return [each.strip('"') for each in first.split(delimiter)]


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
    if faults:
        raise ConfigInvalid(tuple(faults))


def _columns(table: Table, read: Any, where: str) -> tuple[str, ...]:  # noqa: ANN401  as _parsed
    """Return the columns of values: those that were named, or all numbers and truth values."""
    types: Mapping[str, Any] = {name: read.schema.field(name).type for name in read.schema.names}
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


def _hashes(table: Table, read: Any, where: str) -> NDArray[np.uint64]:  # noqa: ANN401  as _parsed
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
    return hashes_of(text, np.ascontiguousarray(starts) if len(starts) else np.zeros(1, dtype=np.int64))


def _times(table: Table, read: Any, where: str) -> tuple[NDArray[np.int64], Mask]:  # noqa: ANN401  as _parsed
    """Return the time of each row in milliseconds, and whether it has one."""
    column, pointer = _column(read, table.time), f"{where}.time"
    micros = 1
    if pt.is_string(column.type) or pt.is_large_string(column.type):
        column = _of_texts(column, table.time, pointer)
    elif pt.is_timestamp(column.type) or pt.is_date(column.type):
        zone = column.type.tz if pt.is_timestamp(column.type) else None
        column = column.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
        micros = 1_000
    elif not pt.is_integer(column.type):
        right = "Whole milliseconds since 1970, ISO 8601 texts, or timestamps."
        raise _invalid(pointer, f"{table.time} is of type {column.type}.", right)
    is_timed: NDArray[Any] = pc.is_valid(column).to_numpy(zero_copy_only=False)
    # Down to the millisecond: a row of a question's own millisecond, or later, was not there.
    times: NDArray[Any] = pc.fill_null(column, 0).to_numpy(zero_copy_only=False).astype(np.int64) // micros
    newest = int(times[is_timed].max(initial=0))
    if is_timed.any() and newest < _SECONDS_BELOW:
        raise _invalid(pointer, f"{newest}, the newest time, looks like seconds.", "Milliseconds since 1970.")
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
        return int(text)
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
