"""Declared fetches of a plan, and the check of the columns that their components return.

A component holds options and is asked with ids alone. What it may return is declared: columns by name, each of one
kind, one value an id. Whatever else comes is a failure of the whole call, as half of an answer would look like a full
one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np

from midstream.core.errors import ShapeMismatch
from midstream.core.protocols import Fetch

FetchScope: TypeAlias = Literal["user", "item"]
ColumnKind: TypeAlias = Literal["number", "boolean", "category"]
FetchedValue: TypeAlias = str | float | bool
FetchedRow: TypeAlias = Mapping[str, FetchedValue]
"""The known columns of one user or item. Those of an item are numbers, a truth among them 1 or 0."""

IDS_MAX = 1_000
"""Items in one call: as many as a caller may give to be ranked, and twice as many as are scored."""
COLUMNS_MAX = 8
"""Of one fetch: 500 items of one column take 6 kB of the 8 that a served record has for them."""
TEXT_BYTES_MAX = 64
"""Of a category, UTF-8: 100,000 cached rows of 8 such columns are 160 MB at worst."""


@dataclass(frozen=True, slots=True)
class DeclaredFetch:
    """What a plan asks of one outside system."""

    name: str
    """Stable name in answers, served records and metrics."""
    of: FetchScope
    columns: Mapping[str, ColumnKind]
    component: Fetch
    age_ms_max: int
    """How old a value may be that is not asked again; 0 = it is asked each time."""
    timeout_s: float
    key: str
    """Names all that decides what an id's columns are: rows of equal keys are those of one fetch."""


def rows_of(fetch: DeclaredFetch, ids: Sequence[str], came: object) -> dict[str, FetchedRow]:
    """Return what is known of each id, or raise for an answer that is not what was declared.

    Args:
        fetch: Declares the columns.
        ids: Those that were asked for.
        came: What the component returned.

    Returns:
        A row for each id; one of which nothing is known is empty. Cost: about 1 µs an id.

    Raises:
        ShapeMismatch: Columns are missing or not declared, longer or shorter, or hold a value of another kind.
    """
    if not isinstance(came, Mapping):
        message = f"{type(came).__name__} came where columns by name are right"
        raise ShapeMismatch(message)
    columns: Mapping[str, object] = came
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


def _values(name: str, kind: ColumnKind, column: object, count: int, *, is_item: bool) -> list[FetchedValue | None]:
    """Return the values of one column, None = unknown."""
    if not isinstance(column, list | tuple | np.ndarray) or isinstance(column, np.ma.MaskedArray):
        message = f"{name}: {type(column).__name__} came where a list or an array is right"
        raise ShapeMismatch(message)
    told: list[object] = column.tolist() if isinstance(column, np.ndarray) else list(column)
    if len(told) != count or (isinstance(column, np.ndarray) and column.ndim != 1):
        message = f"{name}: {len(told)} values came where {count} are right"
        raise ShapeMismatch(message)
    read = _READS[kind]
    found = [None if each is None else read(name, each) for each in told]
    return [float(each) if isinstance(each, bool) else each for each in found] if is_item else found


def _number(name: str, value: object) -> float | None:
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        raise _other(name, value, "a number")
    number = float(plain)
    if math.isinf(number):
        raise _other(name, value, "a finite number")
    return None if math.isnan(number) else number


def _boolean(name: str, value: object) -> bool | None:
    plain = value.item() if isinstance(value, np.generic) else value
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
