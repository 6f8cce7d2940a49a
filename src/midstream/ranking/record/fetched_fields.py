"""Fetched columns in the served record: packed by column, and reduced to the slate's items where they exceed a maximum.

A rerun needs the columns of each candidate, since every score decides the slate; training needs those of the slate.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from midstream.core.types import NOTHING_FETCHED, Fetched
from midstream.events.served_body import ServedBody

FETCHED_BYTES_MAX = 8_192
"""Bytes of fetched columns in one record: 500 items with ids of 10 bytes and one column of float32, 350 with two."""
_PAIR_BYTES = 2
"""Of MessagePack, before a text or a run of bytes of this size, about."""


@dataclass(frozen=True, slots=True)
class PackedFields:
    """Fields of a served body for the fetched columns of items."""

    columns: dict[str, bytes]
    ids: tuple[str, ...]
    is_whole: bool
    """Every fetched item is kept, so the request can be rerun."""


_NOTHING = PackedFields({}, (), is_whole=True)


def pack_fetched(fetched: Fetched, slate: Sequence[str]) -> PackedFields:
    """Return the fetched columns of items as they are kept.

    Args:
        fetched: The fetched part of the query.
        slate: Ids of the items of the slate and of what comes after it, which are kept in any case.
    """
    fields = fetched.item_fields
    if not fields and not fetched.context:
        return _NOTHING
    packed = _packed(fields)
    context = sum(
        _size(name) + _size(value if isinstance(value, str) else "") + 9 for name, value in fetched.context.items()
    )
    items = sum(map(_size, packed.ids)) + sum(_size(name) + len(column) + 3 for name, column in packed.columns.items())
    if context + items <= FETCHED_BYTES_MAX:
        return packed
    kept = _packed({item: fields[item] for item in slate if item in fields})
    return PackedFields(kept.columns, kept.ids, is_whole=False)


def unpack_fetched(told: ServedBody) -> Fetched:
    """Return the fetched part of a record's query."""
    if not told.fetched and not told.fetched_context:
        return NOTHING_FETCHED
    columns = {name: _numbers(column, len(told.fetched_ids)) for name, column in told.fetched.items()}
    rows = zip(*columns.values(), strict=True)
    items = {
        item: {name: value for name, value in zip(columns, row, strict=True) if not math.isnan(value)}
        for item, row in zip(told.fetched_ids, rows, strict=bool(columns))
    }
    return Fetched({name: told.context[name] for name in told.fetched_context if name in told.context}, items)


def own_fields(item_fields: Mapping[str, Mapping[str, float]], fetched: Fetched) -> dict[str, dict[str, float]]:
    """Return the fields of items that the caller itself sent."""
    outside = fetched.item_fields
    if not outside:
        return {item: dict(fields) for item, fields in item_fields.items()}
    own = {
        item: {name: value for name, value in fields.items() if name not in outside.get(item, {})}
        for item, fields in item_fields.items()
    }
    return {item: fields for item, fields in own.items() if fields}


def with_fetched(own: Mapping[str, Mapping[str, float]], fetched: Fetched) -> Mapping[str, Mapping[str, float]]:
    """Return the fields of items of a query: those that the caller sent, and the fetched ones."""
    outside = fetched.item_fields
    return (
        {**outside, **{item: {**outside.get(item, {}), **fields} for item, fields in own.items()}} if outside else own
    )


def _packed(fields: Mapping[str, Mapping[str, float]]) -> PackedFields:
    names = sorted({name for row in fields.values() for name in row})
    columns = {name: _bytes(np.array([row.get(name, np.nan) for row in fields.values()])) for name in names}
    return PackedFields(columns, tuple(fields), is_whole=True)


def _bytes(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> bytes:
    """Return numbers in four bytes each where these hold each of them exactly, else in eight."""
    with np.errstate(over="ignore"):
        short = values.astype("<f4")
    same = np.array_equal(short.astype(np.float64), values, equal_nan=True)
    return short.tobytes() if same else values.astype("<f8").tobytes()


def _numbers(column: bytes, count: int) -> list[float]:
    kind = "<f4" if len(column) == 4 * count else "<f8"
    found: list[float] = np.frombuffer(column, dtype=kind).astype(np.float64).tolist()
    return found


def _size(text: str) -> int:
    return len(text.encode()) + _PAIR_BYTES
