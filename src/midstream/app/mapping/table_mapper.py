"""Mapping of foreign arrays to columns of events, a column at a time.

The values equal those of ``import_columns`` for a record. Where a cell is not plainly of its field's type, its row is
passed to that module as odd. So a file of plain rows never becomes objects, and errors have one source.
"""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

import msgspec
import numpy as np
import pyarrow.compute
from numpy.typing import NDArray

from midstream.app.mapping.columns import (
    CellRefused,
    ColumnOptions,
    attribute_of,
    columns_of,
    place_names,
    time_reader,
    type_of,
)
from midstream.app.mapping.readers import values_of
from midstream.core.types import Mask
from midstream.events.arrow.columns import is_text, may_hold, valid
from midstream.events.loose_arrow import Array, Batch, pa, pt
from midstream.events.wire import EVENT_FIELDS

pc: Any = pyarrow.compute
_IDS = ("event_id", "user_id", "session_id", "item_id", "request_id")
_WHOLE = r"^[+-]?[0-9]{1,18}(\.0*)?$"
_DECIMAL = r"^[+-]?[0-9]{1,15}(\.[0-9]{1,15})?$"
"""Read the same by Arrow and by Python: nothing is rounded twice."""
_ISO_SHAPES = {
    "iso": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3}|\.[0-9]{6})?$",
    "%Y-%m-%dT%H:%M:%S": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}$",
    "%Y-%m-%d %H:%M:%S": r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$",
}
"""Time formats of which these texts, with a T and a Z put in, are ISO 8601 of the same moment."""
_UNITS = {"s", "ms", "us", "ns"}


class TableMapper:
    """Makes tables of events from tables of a file with one header."""

    def __init__(self, options: ColumnOptions, header: tuple[str, ...], *, has_types: bool) -> None:
        """Map by ``options``, which ``converter`` has found to make sense for ``header``; types are as it has them."""
        self._options = options
        self._has_types = has_types
        self._columns = columns_of(options, header)

    @property
    def needed(self) -> tuple[str, ...]:
        """Arrays of the file that are read."""
        return tuple(dict.fromkeys(name for column in self._columns.values() for name in place_names(column)))

    def map(self, batch: Batch) -> tuple[Batch, Mask]:
        """Return a table of events, a row for a row, and which rows are odd."""
        odd = np.zeros(len(batch), dtype=np.bool_)
        made: dict[str, Array | None] = {}
        for name, value in self._options.constants.items():
            if "." not in name:
                made[name] = self._field(name, _repeated(value, len(batch)), odd)
        for name, column in self._columns.items():
            if "." not in name and name in EVENT_FIELDS:
                found = self._field(name, _source(batch, column, odd), odd)
                if name in made and found is not None:
                    odd |= ~valid(found)  # there the constant holds
                made[name] = found
        context = self._context(batch, odd)
        if context is not None:
            if made.get("context") is not None:
                odd |= valid(made["context"])
            made["context"] = context
        if any(name.startswith("attributes.") for name in (*self._columns, *self._options.constants)):
            odd[:] = True
        right = {name: column for name, column in made.items() if column is not None}
        return pa.RecordBatch.from_arrays(list(right.values()), names=list(right)), odd

    def _field(self, name: str, column: Array, odd: Mask) -> Array | None:
        """Return a column as its field needs it, None when no value of it can be; rows that need more are odd."""
        column = _without_missing(column)
        made = _maker(name, self._options)(column, odd)
        if made is not None and may_hold(name, made.type):
            return made
        odd |= valid(column)
        return None

    def _context(self, batch: Batch, odd: Mask) -> Array | None:
        """Return the context that columns and constants make together, as JSON; each different one is made once."""
        names = [name for name in (*self._options.constants, *self._columns) if name.startswith("context.")]
        if not names:
            return None
        code = np.zeros(len(batch), dtype=np.int64)
        members: list[tuple[str, list[object], NDArray[np.int64]]] = []
        for name in dict.fromkeys(names):
            constant = self._options.constants.get(name)
            column = (
                _source(batch, self._columns[name], odd)
                if name in self._columns
                else _repeated(constant or "", len(batch))
            )
            has_types = self._has_types and name in self._columns
            coded = _coded(_without_missing(column))
            values = [
                None if each is None else attribute_of(name, each, None, has_types=has_types) for each in coded[0]
            ]
            is_wrong = [isinstance(each, float) and not isfinite(each) for each in values]
            odd |= np.array([*is_wrong, False])[coded[1]]
            members.append((name.partition(".")[2], [*values, None], coded[1]))
            _, code = np.unique(code * (len(values) + 1) + coded[1], return_inverse=True)
        _, first, code = np.unique(code, return_index=True, return_inverse=True)
        texts = [_json_of({name: values[index[at]] for name, values, index in members}) for at in first.tolist()]
        return pa.DictionaryArray.from_arrays(pa.array(code.astype(np.int32)), pa.array(texts, pa.string()))


def _json_of(members: Mapping[str, object]) -> str | None:
    sent = {name: value for name, value in members.items() if value is not None}
    return msgspec.json.encode(sent).decode() if sent else None


def _source(batch: Batch, column: str, odd: Mask) -> Array:
    """Return the column of the file that a field comes from, or the texts that a template makes of several."""
    names = place_names(column)
    if names == (column,):
        return batch.column(batch.schema.get_field_index(column))
    parts = [_as_text(batch.column(batch.schema.get_field_index(name)), odd) for name in names]
    pieces: list[Any] = []
    rest = column
    for name, part in zip(names, parts, strict=True):
        before, _, rest = rest.partition(f"{{{name}}}")
        pieces += [pa.scalar(before, pa.string()), part]
    return pc.binary_join_element_wise(*pieces, pa.scalar(rest, pa.string()), "")


def _as_text(column: Array, odd: Mask) -> Array:
    """Return a column of a template as text; what is neither text nor whole numbers is odd."""
    if is_text(column.type):
        return _without_missing(column).cast(pa.string())
    if pt.is_integer(column.type):
        return column.cast(pa.string())
    odd |= valid(column)
    return pa.nulls(len(column), pa.string())


def _repeated(value: str, count: int) -> Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int8)), pa.array([value]))


def _without_missing(column: Array) -> Array:
    """Return a column with null in the place of each empty text and NaN: such a cell is missing."""
    dense = _dense(column)
    if is_text(dense.type):
        missing = pc.equal(pc.binary_length(dense), 0)
    elif pt.is_floating(dense.type):
        missing = pc.is_nan(dense)
    else:
        return column
    return pc.if_else(missing, pa.scalar(None, dense.type), dense) if pc.any(missing).as_py() else dense


def _dense(column: Array) -> Array:
    return column.dictionary_decode() if pt.is_dictionary(column.type) else column


def _coded(column: Array) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the distinct values of a column, and the number of each row's value; a null's is behind the last."""
    coded = _dense(column).dictionary_encode()
    values = values_of(coded.dictionary)
    return values, np.asarray(coded.indices.fill_null(len(values))).astype(np.int64)


def _maker(name: str, options: ColumnOptions) -> Callable[[Array, Mask], Array | None]:
    """Return what makes the column of a field."""
    if name == "type":
        return lambda column, odd: _types(column, options, odd)
    if name == "time":
        return lambda column, odd: _times(column, options.time_format, odd)
    if name in _IDS:
        return _ids
    if name in ("value", "quantity"):
        return _numbers
    if name in ("position", "log_time"):
        return _wholes
    return lambda column, _odd: column


def _types(column: Array, options: ColumnOptions, odd: Mask) -> Array | None:
    if not is_text(column.type) and not pt.is_integer(column.type):
        return None
    values, code = _coded(column)
    names = [None if each is None else type_of(str(each), options.types) for each in values]
    index = pa.array(code.astype(np.int32), mask=code == len(values))
    del odd
    return pa.DictionaryArray.from_arrays(index, pa.array(names, pa.string()))


def _ids(column: Array, odd: Mask) -> Array | None:
    """Return ids as text: a number is its digits."""
    if is_text(column.type) or pt.is_null(column.type):
        return column
    if pt.is_integer(column.type):
        return column.cast(pa.string())
    if not pt.is_floating(column.type):
        return None
    values = np.asarray(column.fill_null(0)).astype(np.float64)
    whole = (np.floor(values) == values) & (np.abs(values) < 2.0**53)
    odd |= valid(column) & ~whole
    kept = pa.array(np.where(whole, values, 0).astype(np.int64), mask=~(whole & valid(column)))
    return kept.cast(pa.string())


def _numbers(column: Array, odd: Mask) -> Array | None:
    if not is_text(column.type):
        return column
    return _cast(column, _DECIMAL, pa.float64(), odd)


def _wholes(column: Array, odd: Mask) -> Array | None:
    if not is_text(column.type):
        return column
    return _cast(_cut_point(column), _WHOLE, pa.int64(), odd)


def _cut_point(column: Array) -> Array:
    return pc.replace_substring_regex(column.cast(pa.string()), r"\.0*$", "")


def _cast(column: Array, shape: str, kind: Any, odd: Mask) -> Array:  # noqa: ANN401  a type
    """Return texts of a shape as numbers; those of another are odd."""
    fits = pc.match_substring_regex(column, shape)
    odd |= _mask(pc.invert(fits))
    kept = pc.if_else(fits, column, pa.scalar(None, column.type))
    return pc.utf8_ltrim(kept.cast(pa.string()), characters="+").cast(kind)


def _mask(answers: Array) -> Mask:
    """Return which answers are yes; a null is none."""
    return np.asarray(pc.and_kleene(answers, answers.is_valid()).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _times(column: Array, time_format: str, odd: Mask) -> Array | None:
    if pt.is_timestamp(column.type):
        return column
    if time_format in _UNITS:
        return _since_1970(column, time_format, odd)
    if not is_text(column.type):
        return column if time_format == "auto" else None
    if time_format == "auto":
        return _auto_times(column, odd)
    if time_format in _ISO_SHAPES:
        fits = pc.match_substring_regex(column, _ISO_SHAPES[time_format])
        zoned = pc.binary_join_element_wise(pc.replace_substring(column, " ", "T"), "Z", "")
        # Others may be right all the same: with a zone, or without padding.
        odd |= _mask(pc.invert(fits))
        return pc.if_else(fits, zoned.cast(pa.string()), pa.scalar(None, pa.string()))
    return _read_times(column, time_reader(time_format), odd)


def _auto_times(column: Array, odd: Mask) -> Array:
    """Return a column of milliseconds where all are digits, else of texts."""
    whole = pc.match_substring_regex(column, _WHOLE)
    if pc.all(whole).as_py() is not False:
        return _wholes(column, odd)
    odd |= _mask(whole)
    return column


def _since_1970(column: Array, unit: str, odd: Mask) -> Array | None:
    if is_text(column.type):
        column = _wholes(column, odd)
    if not pt.is_integer(column.type):
        return None
    ticks = np.asarray(column.fill_null(0)).astype(np.int64)
    fits = np.abs(ticks) < 1 << 52
    milliseconds = ticks * 1_000 if unit == "s" else ticks // {"ms": 1, "us": 1_000, "ns": 1_000_000}[unit]
    if unit == "s":
        odd |= ~fits
    return pa.array(milliseconds, pa.int64(), mask=~valid(column))


def _read_times(column: Array, read: Callable[[Any], object], odd: Mask) -> Array:
    """Return times that only Python reads, each different one read once."""
    values, code = _coded(column)
    times = np.zeros(len(values) + 1, dtype=np.int64)
    wrong = np.zeros(len(values) + 1, dtype=np.bool_)
    for number, value in enumerate(values):
        try:
            found = read(value)
        except CellRefused:
            found = None
        wrong[number] = not isinstance(found, int)
        times[number] = found if isinstance(found, int) else 0
    odd |= wrong[code]
    return pa.array(times[code], pa.int64(), mask=(code == len(values)) | wrong[code])
