"""The columns of an Arrow table of events: which there may be, of which types, and their values as NumPy arrays.

A null is a field that was not sent. Texts are found where they lie, also behind a dictionary, and nothing is copied.
Columns of views are gone before (``arrow_views``).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import Fault, RequestInvalid
from midstream.core.types import Mask
from midstream.events.faults import nearest
from midstream.events.loose_arrow import Array, Batch, DataType, Schema, pa, pt
from midstream.events.wire import EVENT_FIELDS, PAGE, TRUSTED_FIELDS, VECTOR_LENGTH_MAX, Accept

TEXT_FIELDS = ("type", "event_id", "user_id", "session_id", "item_id", "request_id", "operation", "content_base64")
NUMBER_FIELDS = ("value", "quantity")
WHOLE_FIELDS = ("position", "log_time")
OBJECT_FIELDS = ("context", "attributes", "content")
PARTS_OF = ("context", "attributes")
"""Objects whose members may be columns of their own: ``context.page``."""
COLUMNS_MAX = 1_000
"""Of a table, the fields within its structs, lists and maps counted too: a context of 4 KiB has no room for as many."""
_TICKS_PER_MS = {"ms": 1, "us": 1_000, "ns": 1_000_000}
_SECONDS_MAX = 1 << 52
"""Beyond any year that is taken; in milliseconds it still fits 64 bits."""
_LEVELS_MAX = 8
_FAULTS_MAX = 20
_NONE = np.empty(0, dtype=np.uint8)
_RIGHT = {
    "text": "A column of text: string, large_string, binary, or a dictionary of those.",
    "time": "A column of timestamps, of whole milliseconds since 1970, or of ISO 8601 text.",
    "number": "A column of numbers: integers, floats or decimals.",
    "whole": "A column of whole numbers.",
    "object": "A column of structs, of maps from text, or of JSON as text.",
    "items": "A column of lists of structs with item_id, value, quantity, position; or of JSON as text.",
    "member": "A column of text, numbers or truth values.",
}


class TextView(NamedTuple):
    """Where the texts of a column lie."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    """Bytes of each; -1 = null."""


def check_schema(schema: Schema, accept: Accept, defaults: Mapping[str, str]) -> None:
    """Refuse a table that is none of events.

    Args:
        schema: Names and types of its columns.
        accept: The terms on which events are taken.
        defaults: Values of fields for which the table has no column.

    Raises:
        RequestInvalid: A column is no field, comes twice, or has a type that its field cannot have.
    """
    names: list[str] = schema.names
    count = field_count(schema)
    if count > COLUMNS_MAX:
        # Nothing else is said of so many: to look for the nearest name of each takes seconds.
        right = f"At most {COLUMNS_MAX}, fields within columns counted too."
        raise RequestInvalid((Fault("schema", f"{count} columns and fields.", right, PAGE),))
    times = Counter(names)
    foreign = [name for name in times if not _is_field(name, accept)]
    faults = [_name_fault(name, accept) for name in foreign[:_FAULTS_MAX]]
    faults += [
        Fault(f"column {name}", "It comes more than once.", "A name of its own for each column.", PAGE)
        for name, count in times.items()
        if count > 1
    ]
    faults += [
        Fault(f"column {name}", f"{str(schema.field(at).type)[:60]} came.", _RIGHT[_family(name)], PAGE)
        for at, name in enumerate(names)
        if _is_field(name, accept) and not _may_be(_family(name), schema.field(at).type)
    ]
    if "type" not in names and "type" not in defaults:
        faults.append(Fault("column type", "There is none.", "A column with the type of each event.", PAGE))
    if faults:
        raise RequestInvalid(tuple(faults[:_FAULTS_MAX]))


def field_count(schema: Schema) -> int:
    """Return the number of columns of a table and of all fields within them, those deeper than is taken left out.

    Cost: linear; it ends soon after ``COLUMNS_MAX``.
    """
    count = 0
    left: list[tuple[DataType, int]] = [(each.type, 0) for each in schema]
    while left and count <= COLUMNS_MAX + len(schema):
        kind, level = left.pop()
        count += 1
        if level <= _LEVELS_MAX and pt.is_nested(kind):
            left += [(kind.field(at).type, level + 1) for at in range(kind.num_fields)]
    return max(count, len(schema))


def may_hold(name: str, kind: DataType) -> bool:
    """Say whether a column of this type can hold a field, or a member of one."""
    return _may_be(_family(name), kind)


def _is_field(name: str, accept: Accept) -> bool:
    top, dot, rest = name.partition(".")
    if dot:
        return top in PARTS_OF and bool(rest)
    return name in EVENT_FIELDS and (accept.trusted or name not in TRUSTED_FIELDS)


def _name_fault(name: str, accept: Accept) -> Fault:
    offered = [each for each in EVENT_FIELDS if accept.trusted or each not in TRUSTED_FIELDS]
    came = f"It is not a field here.{nearest(name, offered)}"
    right = f"Fields: {', '.join(offered)}, context.NAME, attributes.NAME."
    return Fault(f"column {name[:60]}", came, right, PAGE)


def _family(name: str) -> str:
    if "." in name:
        return "member"
    if name in TEXT_FIELDS:
        return "text"
    if name in NUMBER_FIELDS:
        return "number"
    if name in WHOLE_FIELDS:
        return "whole"
    return name if name in ("time", "items") else "object"


def _may_be(family: str, kind: DataType) -> bool:
    """Say whether a column of this type can hold a field."""
    is_number = pt.is_integer(kind) or pt.is_floating(kind)
    match family:
        case "text":
            fits = is_text(kind)
        case "number":
            fits = is_number or pt.is_decimal(kind)
        case "whole":
            fits = is_number
        case "time":
            fits = pt.is_timestamp(kind) or is_number or is_text(kind)
        case "member":
            fits = is_text(kind) or _is_plain(kind, _LEVELS_MAX)
        case "items":
            is_list = pt.is_list(kind) or pt.is_large_list(kind)
            is_structs = is_list and pt.is_struct(kind.value_type)
            fits = is_text(kind) or (is_structs and _is_plain(kind, _LEVELS_MAX))
        case _:
            fits = is_text(kind) or ((pt.is_struct(kind) or pt.is_map(kind)) and _is_plain(kind, _LEVELS_MAX))
    return bool(fits or pt.is_null(kind))


def is_text(kind: DataType) -> bool:
    """Say whether a column of this type holds texts, perhaps through a dictionary."""
    inner: DataType = kind.value_type if pt.is_dictionary(kind) else kind
    return _is_bare_text(inner) or (kind is inner and bool(pt.is_string_view(kind)))


def _is_bare_text(kind: DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_binary(kind) or pt.is_large_binary(kind))


def _is_plain(kind: DataType, levels: int) -> bool:
    """Say whether a type has a form in JSON, and no part that can be larger than its bytes."""
    if levels < 0:
        return False
    is_scalar = pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind) or pt.is_null(kind)
    if is_scalar or _is_bare_text(kind):
        return True
    if pt.is_struct(kind):
        fields = [kind.field(at) for at in range(kind.num_fields)]
        names = [each.name for each in fields]
        return len(set(names)) == len(names) and all(_is_plain(each.type, levels - 1) for each in fields)
    if pt.is_list(kind) or pt.is_large_list(kind):
        return _is_plain(kind.value_type, levels - 1)
    if pt.is_map(kind):
        inner = kind
        return _is_bare_text(inner.key_type) and _is_plain(inner.item_type, levels - 1)
    return _is_vector(kind)


def _is_vector(kind: DataType) -> bool:
    """Say whether a type is of lists of as many numbers each; of entries without bytes there could be any number."""
    if not pt.is_fixed_size_list(kind) or kind.list_size > VECTOR_LENGTH_MAX:
        return False
    return bool(pt.is_integer(kind.value_type) or pt.is_floating(kind.value_type))


def text_view(column: Array) -> TextView:
    """Return where the texts of a column of text lie, or nowhere where all are null."""
    kind = column.type
    count = len(column)
    if pt.is_null(kind):
        return TextView(_NONE, np.zeros(count, dtype=np.int64), np.full(count, -1, dtype=np.int64))
    if pt.is_dictionary(kind):
        inner = text_view(column.dictionary)
        index = np.asarray(column.indices.fill_null(0).to_numpy(zero_copy_only=False)).astype(np.int64)
        if not len(inner.starts):
            return TextView(_NONE, np.zeros(count, dtype=np.int64), np.full(count, -1, dtype=np.int64))
        view = TextView(inner.data, inner.starts[index], inner.lengths[index])
    else:
        view = _offsets_view(column)
    if column.null_count:
        view.lengths[~valid(column)] = -1
    return view


def _offsets_view(column: Array) -> TextView:
    buffers = column.buffers()
    count = len(column)
    if not count:
        return TextView(_NONE, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    is_large = pt.is_large_string(column.type) or pt.is_large_binary(column.type)
    stop = column.offset + count + 1
    # A buffer may be longer than it has to be, and end anywhere.
    held: NDArray[np.integer] = np.frombuffer(buffers[1], np.int64 if is_large else np.int32, stop)
    offsets: NDArray[np.int64] = held[column.offset :].astype(np.int64)
    data = _NONE if buffers[2] is None else np.frombuffer(buffers[2], dtype=np.uint8)
    return TextView(data, offsets[:-1], np.diff(offsets))


def valid(column: Array) -> Mask:
    """Return which values are not null, shape (n,)."""
    if not column.null_count:
        return np.ones(len(column), dtype=np.bool_)
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)


def view_bytes(column: Array) -> int:
    """Return the bytes of text that a column of text stands for, more than it takes where texts are shared."""
    return int(np.maximum(text_view(column).lengths, 0).sum())


def numbers(column: Array) -> NDArray[np.float64]:
    """Return a column of numbers as float64, NaN where it is null; ``valid`` tells that from a NaN that came."""
    if pt.is_null(column.type):
        return np.full(len(column), np.nan)
    if pt.is_decimal(column.type):
        return np.array([np.nan if each is None else float(each) for each in column.to_pylist()], dtype=np.float64)
    filled = np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False)).astype(np.float64)
    filled[~valid(column)] = np.nan
    return filled


def times_ms(column: Array) -> tuple[NDArray[np.int64], Mask]:
    """Return a column of times that are no text as milliseconds, and which of them are whole; null: 0, True."""
    whole = np.ones(len(column), dtype=np.bool_)
    if pt.is_timestamp(column.type):
        ticks = np.asarray(column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False))
        unit = column.type.unit
        if unit == "s":
            return np.clip(ticks, -_SECONDS_MAX, _SECONDS_MAX) * 1_000, whole
        return ticks // _TICKS_PER_MS[unit], whole
    found, whole = whole_numbers(column)
    return found, whole


def whole_numbers(column: Array) -> tuple[NDArray[np.int64], Mask]:
    """Return a column of whole numbers as int64, 0 where it is null, and which of them are whole and fit."""
    if pt.is_null(column.type):
        return np.zeros(len(column), dtype=np.int64), np.ones(len(column), dtype=np.bool_)
    filled = np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False))
    if pt.is_floating(column.type):
        filled = filled.astype(np.float64)
        whole: Mask = np.isfinite(filled) & (np.abs(filled) < 2.0**62) & (np.floor(filled) == filled)
        return np.where(whole, filled, 0).astype(np.int64), whole
    fits: Mask = filled <= np.iinfo(np.int64).max
    return filled.astype(np.int64), fits


def objects(batch: Batch, name: str) -> tuple[list[object | None], NDArray[np.int64]] | None:
    """Return the distinct values of an object field and the number of each row's value; None where it has no column.

    Values are loose JSON; None = not sent. A member that is null is not there.
    """
    columns = [(each, batch.column(at)) for at, each in enumerate(batch.schema.names) if each.partition(".")[0] == name]
    if not columns:
        return None
    if len(columns) == 1 and columns[0][0] == name and is_text(columns[0][1].type):
        return _distinct_texts(columns[0][1])
    codes = np.zeros(len(batch), dtype=np.int64)
    for column in _leaves(columns):
        if column is None:  # what is nested deeper is looked at row by row
            return [loose_object(batch, name, at) for at in range(len(batch))], np.arange(len(batch))
        coded = column.dictionary_encode(null_encoding="encode") if not pt.is_dictionary(column.type) else column
        index = np.asarray(coded.indices.fill_null(len(coded.dictionary)).to_numpy(zero_copy_only=False))
        _, codes = np.unique(codes * (len(coded.dictionary) + 1) + index, return_inverse=True)
    _, first, codes = np.unique(codes, return_index=True, return_inverse=True)
    return [loose_object(batch, name, at) for at in first.tolist()], codes.astype(np.int64)


def _distinct_texts(column: Array) -> tuple[list[object | None], NDArray[np.int64]]:
    dense = column.dictionary_decode() if pt.is_dictionary(column.type) else column
    coded = dense.dictionary_encode()
    values = [json_of(text_of(each)) for each in coded.dictionary.to_pylist()]
    index = np.asarray(coded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)).astype(np.int64)
    return [*values, None], index


def _leaves(columns: Sequence[tuple[str, Array]]) -> Iterator[Array | None]:
    """Yield the columns of scalars that make up an object, None for each that is nested deeper or a JSON text."""
    for name, column in columns:
        kind = column.type
        if pt.is_struct(kind) and "." not in name:
            yield column.is_valid()
            for inner in column.flatten():
                yield None if pt.is_nested(inner.type) or pt.is_null(inner.type) else inner
        else:
            yield None if pt.is_nested(kind) or pt.is_null(kind) or "." not in name else column


def loose_object(batch: Batch, name: str, row: int) -> object | None:
    """Return an object field of one row as loose JSON, None = not sent; a column of a member wins over the object's."""
    found: object | None = None
    names: list[str] = batch.schema.names
    for at, column in sorted(enumerate(names), key=lambda each: "." in each[1]):
        top, dot, member = column.partition(".")
        if top != name:
            continue
        value = loose_value(batch.column(at), row)
        if not dot and value is not None:
            found = json_of(value) if isinstance(value, str) else value
        elif value is not None:
            known = cast("dict[str, object]", found) if isinstance(found, dict) else {}
            found = {**known, member: value}
    return found


def loose_value(column: Array, row: int) -> object | None:
    """Return one value as loose JSON: bytes as text, times as milliseconds, members that are null left out."""
    if pt.is_timestamp(column.type):
        return int(times_ms(column.slice(row, 1))[0][0]) if column[row].is_valid else None
    scalar = column[row]
    if pt.is_string(column.type) or pt.is_large_string(column.type):
        return cast("str | None", scalar.as_py())
    return plain_of(scalar.as_py(), is_map=pt.is_map(column.type))


def plain_of(value: object, *, is_map: bool = False) -> object | None:
    """Return a value that Arrow gave as what it is in JSON."""
    if isinstance(value, bytes):
        return text_of(value)
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return {name: plain_of(each) for name, each in members.items() if each is not None}
    if isinstance(value, list):
        if is_map:
            pairs = cast("list[tuple[str | bytes, object]]", value)
            return {text_of(name): plain_of(each) for name, each in pairs if each is not None}
        return [plain_of(each) for each in cast("list[object]", value)]
    return float(value) if isinstance(value, Decimal) else value


def text_of(value: str | bytes) -> str:
    """Return text; bytes that are no UTF-8 become halves of surrogate pairs, which no event may hold."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def json_of(text: str) -> object:
    """Return what JSON text says; text that is no JSON stays text, which is then refused where an object belongs."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return text
