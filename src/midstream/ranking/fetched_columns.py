"""Declared fetches of a plan, and validation of the columns that their components return.

A component holds options, and ids are its only argument. Its result is declared: columns by name, each of one kind, one
value an id. Any other result is a failure of the whole call, since a part of a result would look like all of it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from midstream.core.errors import ShapeMismatch
from midstream.core.protocols import Fetch

FetchScope: TypeAlias = Literal["user", "item"]
ColumnKind: TypeAlias = Literal["number", "boolean", "category"]
FetchedValue: TypeAlias = str | float | bool
FetchedRow: TypeAlias = Mapping[str, FetchedValue]
"""The known columns of one user or item. Those of an item are numbers, a truth among them 1 or 0."""

IDS_MAX = 1_000
"""Items in one call: as many as a caller may send to be ranked, and twice as many as are scored."""
COLUMNS_MAX = 8
"""Columns of one fetch: 500 items of one column take 8 kB, which is all that a served record has for them."""
TEXT_BYTES_MAX = 64
"""Of a category, UTF-8: 100,000 cached rows of 8 such columns are 160 MB at worst."""


@dataclass(frozen=True, slots=True)
class DeclaredFetch:
    """One outside system of a plan: its component, its columns, and bounds of age and time."""

    name: str
    """Stable name in answers, served records and metrics."""
    of: FetchScope
    columns: Mapping[str, ColumnKind]
    component: Fetch
    age_ms_max: int
    """Age up to which a cached value is used; 0 = the component is called each time."""
    timeout_s: float
    key: str
    """Hash of everything that decides the columns of an id: fetches with equal keys share calls and cached rows."""


def rows_of(fetch: DeclaredFetch, ids: Sequence[str], came: object) -> dict[str, FetchedRow]:
    """Return the known columns of each id, or raise for a result that is not as declared.

    Args:
        fetch: Declares the columns.
        ids: The argument of the call.
        came: The result of the component.

    Returns:
        A row for each id; that of an unknown id is empty. Cost: about 1 µs an id.

    Raises:
        ShapeMismatch: Columns are missing or not declared, longer or shorter, or hold a value of another kind.
    """
    if not isinstance(came, Mapping):
        message = f"{type(came).__name__} came where columns by name are right"
        raise ShapeMismatch(message)
    columns = cast("Mapping[str, object]", came)
    if columns.keys() != fetch.columns.keys():
        came_names, right = (", ".join(sorted(map(str, each))) for each in (columns, fetch.columns))
        message = f"columns {came_names or 'none'} came where {right} are right"
        raise ShapeMismatch(message)
    is_item = fetch.of == "item"
    values = [_values(name, kind, columns[name], len(ids), is_item=is_item) for name, kind in fetch.columns.items()]
    names = tuple(fetch.columns)
    return {
        each: MappingProxyType({name: value for name, value in zip(names, row, strict=True) if value is not None})
        for each, row in zip(ids, zip(*values, strict=True), strict=True)
    }


_COLUMN_TYPES = (list, tuple, np.ndarray)


def _values(name: str, kind: ColumnKind, column: object, count: int, *, is_item: bool) -> list[FetchedValue | None]:
    """Return the values of one column, None = unknown."""
    if type(column) not in _COLUMN_TYPES:  # a masked array has other values below its mask
        message = f"{name}: {type(column).__name__} came where a list or an array is right"
        raise ShapeMismatch(message)
    array: Any = column
    shape = array.shape if isinstance(column, np.ndarray) else (len(array),)
    if shape != (count,):
        message = f"{name}: values of shape {shape} came where ({count},) is right"
        raise ShapeMismatch(message)
    told: Sequence[object] = array.tolist() if isinstance(column, np.ndarray) else array
    read = _READS[kind]
    found = [None if each is None else read(name, each) for each in told]
    return [float(each) if isinstance(each, bool) else each for each in found] if is_item else found


def _plain(value: object) -> object:
    """Return the Python value of a NumPy scalar."""
    scalar: Any = value
    return scalar.item() if isinstance(value, np.generic) else value


def _number(name: str, value: object) -> float | None:
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        raise _other(name, value, "a number")
    number = float(plain)
    if math.isinf(number):
        raise _other(name, value, "a finite number")
    return None if math.isnan(number) else number


def _boolean(name: str, value: object) -> bool | None:
    plain = _plain(value)
    if isinstance(plain, float) and math.isnan(plain):
        return None
    if not isinstance(plain, bool):
        raise _other(name, value, "true, false or None")
    return plain


def _category(name: str, value: object) -> str | None:
    if isinstance(value, float) and math.isnan(value):
        return None
    if not isinstance(value, str):
        raise _other(name, value, "a text")
    if len(value.encode()) > TEXT_BYTES_MAX:
        message = f"{name}: a text of {len(value.encode()):,} bytes came where at most {TEXT_BYTES_MAX} are right"
        raise ShapeMismatch(message)
    return str(value)


_READS: Mapping[ColumnKind, Callable[[str, object], FetchedValue | None]] = {
    "number": _number,
    "boolean": _boolean,
    "category": _category,
}


def _other(name: str, value: object, right: str) -> ShapeMismatch:
    return ShapeMismatch(f"{name}: {type(value).__name__} {str(value)[:32]!r} came where {right} is right")
