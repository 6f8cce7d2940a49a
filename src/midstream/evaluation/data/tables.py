"""Readers of interaction files: CSV, TSV (plain or .gz) and Parquet, with the columns named by the caller."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from midstream.core.errors import Fault, Invalid, NotFound
from midstream.core.nearest import nearest
from midstream.evaluation.data.interactions import InteractionTable, Text
from midstream.events.loose_arrow import UNREADABLE, Array, pt, said
from midstream.events.loose_arrow import pa as loose

TimeUnit = Literal["s", "ms", "iso"]
PAGE = "/docs/quality.md"


@dataclass(frozen=True, slots=True)
class FileColumns:
    """Names of a file's columns."""

    item: str = "item_id"
    time: str = "time"
    session: str | None = "session_id"
    """None = the file has none: sessions are cut by user and silence."""
    user: str | None = None
    action: str | None = None
    """None = every row is a ``default_action``."""
    time_unit: TimeUnit = "ms"
    """Seconds (with or without a fraction) or milliseconds since 1970 UTC, or text that ISO 8601 knows. A Parquet
    column of type timestamp needs none."""
    default_action: str = "click"
    delimiter: str | None = None
    """Of a text file; None = tab for .tsv and .tsv.gz, comma for all others."""

    def used(self) -> tuple[str, ...]:
        """Return the names of the columns that are read."""
        return tuple(name for name in (self.item, self.time, self.session, self.user, self.action) if name)


def read_table(path: Path, columns: FileColumns) -> InteractionTable:
    """Return the rows of a file in its order; rows without item, time or owner are dropped and counted.

    Ids stay the text that the file has, so ``007`` is not 7. Cost: about 2 µs a row.

    Raises:
        NotFound: There is no such file.
        Invalid: A column is missing, or a time cannot be read; every missing column is named.
    """
    if not path.is_file():
        raise NotFound(str(path))
    try:
        table = _read(path, columns)
    except UNREADABLE as error:
        right = "A Parquet, CSV or TSV file that is whole."
        raise Invalid((Fault(path.name, f"It cannot be read: {said(error)}.", right, PAGE),)) from error
    return interactions_of_table(table, columns, path.name)


def interactions_of_table(table: pa.Table, columns: FileColumns, where: str) -> InteractionTable:
    """Return the rows of a table in its order; rows without item, time or owner are dropped and counted.

    Args:
        table: Has the columns.
        columns: Their names.
        where: Name of the table for faults.

    Raises:
        Invalid: A column is missing, or a time cannot be read; every missing column is named.
    """
    known = list(table.column_names)
    if missing := [name for name in columns.used() if name not in known]:
        right = "one of " + ", ".join(known)
        raise Invalid(
            tuple(Fault(where, f'has no column "{name}".{nearest(name, known)}', right, PAGE) for name in missing)
        )
    cells: dict[str, Sequence[object]] = {name: _cells(table.column(name)) for name in columns.used()}
    return _interactions(cells, columns, where)


def _cells(column: Array) -> Sequence[object]:
    """Return the cells of a column as Python has them, the same with pandas beside it and without.

    A time of nanoseconds is cut to microseconds: Python has no type for more, and milliseconds are read of it.
    """
    if pt.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(loose.timestamp("us", column.type.tz), safe=False)
    cells: Sequence[object] = column.to_pylist()
    return cells


def _read(path: Path, columns: FileColumns) -> pa.Table:
    """Return a file's table; of a text file every column that is used comes as text."""
    if path.suffix == ".parquet":
        return whole_table(path)
    is_tab = columns.delimiter is None and ".tsv" in path.suffixes
    delimiter = "\t" if is_tab else (columns.delimiter or ",")
    return pa_csv.read_csv(
        path,
        parse_options=pa_csv.ParseOptions(delimiter=delimiter),
        convert_options=pa_csv.ConvertOptions(column_types={name: pa.string() for name in columns.used()}),
    )


def whole_table(path: Path) -> pa.Table:
    """Return all of a Parquet file."""
    with pq.ParquetFile(path) as file:
        return file.read()  # pyright: ignore[reportUnknownMemberType]  its stub leaves a list's type open


def _interactions(cells: Mapping[str, Sequence[object]], columns: FileColumns, where: str) -> InteractionTable:
    """Return the cells as interactions, less the rows that cannot be used."""
    count = len(cells[columns.item])
    item_id = _texts(cells[columns.item])
    session_id = _texts(cells[columns.session] if columns.session else [None] * count)
    user_id = _texts(cells[columns.user] if columns.user else [None] * count)
    action = _texts(cells[columns.action] if columns.action else [columns.default_action] * count)
    times = [_time_ms(cell, columns, f"{where}, row {row}") for row, cell in enumerate(cells[columns.time], 1)]
    time_ms = np.array([-1 if each is None else each for each in times], dtype=np.int64)
    is_timed = np.array([each is not None for each in times], dtype=np.bool_)
    reasons = {
        "no item": item_id == "",
        "no time": ~is_timed,
        "no session or user": (session_id == "") & (user_id == ""),
    }
    rows = InteractionTable(user_id, session_id, item_id, action, time_ms)
    left = np.ones(count, dtype=np.bool_)
    for reason, is_bad in reasons.items():
        rows = rows.without(reason, is_bad[left])
        left &= ~is_bad
    return rows


def _texts(cells: Sequence[object]) -> Text:
    """Return cells as text, empty where there is none."""
    return np.array(["" if _is_missing(cell) else str(cell) for cell in cells], dtype=np.str_)


def _is_missing(cell: object) -> bool:
    """Return whether a cell has nothing: null, or NaN, as frames have it in a column of numbers."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _time_ms(cell: object, columns: FileColumns, where: str) -> int | None:
    """Return a cell's time, or None when it is empty.

    Raises:
        Invalid: It is no time of the unit that the columns state.
    """
    if _is_missing(cell) or cell == "":
        return None
    try:
        if isinstance(cell, datetime):
            return _of_datetime(cell)
        if columns.time_unit == "iso":
            return _of_datetime(datetime.fromisoformat(str(cell)))
        number = float(str(cell))
        return round(number * 1000) if columns.time_unit == "s" else round(number)
    except (ValueError, OverflowError):
        right = {"s": "seconds since 1970", "ms": "milliseconds since 1970", "iso": "a time as ISO 8601 writes it"}
        came = f'column "{columns.time}" holds {str(cell)[:40]!r}'
        raise Invalid((Fault(where, came, right[columns.time_unit], PAGE),)) from None


def _of_datetime(moment: datetime) -> int:
    """Return the milliseconds of a time; one without a zone is taken for UTC."""
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(zoned.timestamp() * 1000)
