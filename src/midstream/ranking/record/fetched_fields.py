"""Fetched columns in the served record: compressed, and reduced to the slate's items where they exceed a maximum.

A rerun needs the columns of each examined item, since every score decides the slate; training needs those of the slate.
Ids and columns are compressed with a Huffman code alone: ids of chance have no repetitions to look for, and the search
takes ten times as long.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from midstream.core.types import NOTHING_FETCHED, Fetched, Index, Query
from midstream.events.served_body import ServedBody
from midstream.ranking.filters.among import among
from midstream.state.ids.vocabulary import Vocabulary

FETCHED_BYTES_MAX = 98_304
"""Bytes of fetched columns in one record. 1,000 ids of 36 random letters and digits take 28.7 kB, and 8 columns of
float64 that do not compress 8 kB each: 92.7 kB. Usual ids and one column of small numbers take 9 to 30 kB."""
IDS_BYTES_MAX = 1 << 20
"""Bytes of the ids before they are compressed: 1,500 ids of 128 characters of four bytes take 0.8 MB."""
_PAIR_BYTES = 5
"""Of MessagePack, before a text or a run of bytes, at most."""


@dataclass(frozen=True, slots=True)
class PackedFields:
    """Fields of a served body for the fetched columns of items."""

    columns: dict[str, bytes]
    ids: bytes
    is_whole: bool
    """Every fetched item is kept, so the request can be rerun."""

    @property
    def size(self) -> int:
        """Bytes in the body, at most."""
        return _PAIR_BYTES + len(self.ids) + sum(_size(name) + len(each) for name, each in self.columns.items())


_NOTHING = PackedFields({}, b"", is_whole=True)


def pack_fetched(fetched: Fetched, slate: Sequence[str]) -> PackedFields:
    """Return the fetched columns of items as they are kept.

    Args:
        fetched: The fetched part of the query.
        slate: Ids of the items of the slate and of what comes after it. Where not all are kept these are, or as many of
            the first as there is room for.
    """
    fields = fetched.item_fields
    if not fields and not fetched.context:
        return _NOTHING
    packed = _packed(fields)
    context = sum(
        _size(name) + _size(value if isinstance(value, str) else "") + 9 for name, value in fetched.context.items()
    )
    kept, items = len(fields), [item for item in dict.fromkeys(slate) if item in fields]
    while kept and context + packed.size > FETCHED_BYTES_MAX:
        kept = min(len(items), kept // 2)
        packed = _packed({item: fields[item] for item in items[:kept]})
    return replace(packed, is_whole=kept == len(fields))


def unpack_fetched(told: ServedBody) -> Fetched:
    """Return the fetched part of a record's query.

    Raises:
        ValueError: Its bytes are no columns.
    """
    if not told.fetched and not told.fetched_context:
        return NOTHING_FETCHED
    ids = unpack_ids(told.fetched_ids)
    columns = {name: _numbers(expanded(column, 8 * len(ids)), len(ids)) for name, column in told.fetched.items()}
    rows = zip(*columns.values(), strict=True)
    items = {
        item: {name: value for name, value in zip(columns, row, strict=True) if not math.isnan(value)}
        for item, row in zip(ids, rows, strict=bool(columns))
    }
    return Fetched({name: told.context[name] for name in told.fetched_context if name in told.context}, items)


def unpack_ids(packed: bytes) -> list[str]:
    """Return the ids of the items of a record's columns.

    Raises:
        ValueError: The bytes are no ids.
    """
    return msgspec.msgpack.decode(expanded(packed, IDS_BYTES_MAX), type=list[str]) if packed else []


def only_read(
    query: Query, fetched: Fetched, examined: Sequence[Index], vocabulary: Vocabulary
) -> tuple[Query, Fetched]:
    """Return a query and its fetched part without the rows of items that the answer did not examine.

    Args:
        query: Of the answer.
        fetched: Its fetched part.
        examined: Every item whose columns may have decided something.
        vocabulary: At the moment of the answer.
    """
    rows = fetched.item_fields
    read = among(vocabulary.item_indices(tuple(rows)), np.concatenate(examined)) if rows else None
    if read is None or read.all():
        return query, fetched
    kept = {item: row for (item, row), is_read in zip(rows.items(), read.tolist(), strict=True) if is_read}
    fields = {
        item: row if item in kept or item not in rows else {n: row[n] for n in row if n not in rows[item]}
        for item, row in query.item_fields.items()
    }
    fields = {item: row for item, row in fields.items() if row}
    return replace(query, item_fields=fields), replace(fetched, item_fields=kept)


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
    columns = {name: compressed(_bytes(np.array([row.get(name, np.nan) for row in fields.values()]))) for name in names}
    return PackedFields(columns, compressed(msgspec.msgpack.encode(list(fields))) if fields else b"", is_whole=True)


def compressed(content: bytes) -> bytes:
    """Return compressed bytes. Cost: 0.3 ms for 36 kB, of 1,000 ids."""
    packer = zlib.compressobj(level=1, strategy=zlib.Z_HUFFMAN_ONLY)
    return packer.compress(content) + packer.flush()


def expanded(packed: bytes, bytes_max: int) -> bytes:
    """Return what was compressed, at most ``bytes_max``; raise ``ValueError`` where it is more, cut off or followed."""
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(packed, bytes_max + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(content) > bytes_max or not unpacker.eof or unpacker.unused_data:
        message = f"{len(packed)} bytes are no compressed content of at most {bytes_max}"
        raise ValueError(message)
    return content


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
