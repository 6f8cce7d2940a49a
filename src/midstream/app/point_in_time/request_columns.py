"""Columns of a table of questions: checked, with times and ids normalized."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from math import isinf, isnan
from typing import Any

import msgspec
import numpy as np
import pyarrow.compute

from midstream.app.mapping.columns import attribute_of
from midstream.app.point_in_time.spill import Rows
from midstream.core.errors import Fault, Invalid
from midstream.core.nearest import nearest
from midstream.events.loose_arrow import Array, Batch, pa, pt
from midstream.events.wire import LOG_TIME_MS_END, MICROSECONDS_BEGIN, TIME_SECONDS_END
from midstream.features.as_of import NO_TIME

pc: Any = pyarrow.compute
PAGE = "/docs/features.md"
CARRIED = "kept."
"""Before the name of a column that goes along to the answers."""
ITEMS_MAX = 10_000
"""Of one question: with 40 columns its answer takes 1.6 MB."""
_CONTEXT, _FIELDS = "context.", "item_fields."
_OWN = ("log_position", "time", "user_id", "session_id", "items", "item_id", "basket", "placement", "seed", "context")
"""Columns that mean something; others go along."""
_ALSO_KEPT = ("user_id", "session_id", "placement")
_LISTS = (pt.is_list, pt.is_large_list, pt.is_fixed_size_list)
_BETWEEN = "|"


@dataclass(frozen=True, slots=True)
class RequestColumns:
    """What the columns of one table are."""

    name: str
    """Of the table, for messages."""
    names: tuple[str, ...]
    key: str
    """The column that decides the order of the log: ``log_position``, or ``time`` where rows have none."""
    has_types: bool
    """Whether a text is one: a cell of CSV may also stand for a number or a truth value."""

    def normal(self, batch: Batch, first_row: int) -> Batch:
        """Return rows with the columns that are asked with, and ``kept.`` before those that go along.

        Raises:
            Invalid: A row cannot be asked; the first one of each column is named.
        """
        where = _Where(self.name, first_row)
        count = len(batch)
        items = _items(batch, self.names, where)
        found: dict[str, Array] = {
            "row": pa.array(np.arange(first_row, first_row + count, dtype=np.int64)),
            "log_position": pa.array(self._positions(batch, where)),
            "time": pa.array(self._times(batch, where)),
            "user_id": _ids(_column(batch, "user_id", pa.string()), "user_id", where),
            "session_id": _ids(_column(batch, "session_id", pa.string()), "session_id", where),
            "items": items,
            "basket": _lists(batch, "basket", where),
            "placement": _ids(_column(batch, "placement", pa.string()), "placement", where).fill_null(""),
            "seed": _seeds(batch, first_row, where),
            "context": pa.array(_contexts(batch, self, where), pa.string()),
            "item_fields": pa.array(_item_fields(batch, self.names, items, where), pa.string()),
        }
        for name in self.names:
            if name in _ALSO_KEPT or not _is_own(name):
                found[CARRIED + name] = found[name] if name in _ALSO_KEPT else batch.column(name)
        return pa.RecordBatch.from_arrays(list(found.values()), names=list(found))

    def _positions(self, batch: Batch, where: "_Where") -> Rows:
        found = _whole(_column(batch, "log_position", pa.int64()), "log_position", where)
        is_bad = found < 0 if self.key == "log_position" else found >= 0
        where.refuse(
            "log_position", is_bad, "A log position, 0 or more, in each row, or in none.", "Some rows have one."
        )
        return found

    def _times(self, batch: Batch, where: "_Where") -> Rows:
        if "time" not in self.names:
            return np.full(len(batch), NO_TIME, dtype=np.int64)
        found = times_of(batch.column("time"), where)
        if self.key == "time":
            where.refuse("time", found < 0, "A time in each row.")
        return found


def columns_of(batch: Batch, name: str, *, has_types: bool) -> RequestColumns:
    """Return what the columns of a table are, by its first rows.

    Raises:
        Invalid: One that is needed is missing, or there is one too many.
    """
    names: tuple[str, ...] = tuple(batch.schema.names)
    faults: list[Fault] = []
    if "log_position" not in names and "time" not in names:
        came = f"There is no column log_position or time.{nearest('log_position', names)}"
        faults.append(Fault(name, came, f"One of the two. Columns: {', '.join(names)}.", PAGE))
    if ("items" in names) == ("item_id" in names):
        came = "There are both." if "items" in names else f"There is neither.{nearest('item_id', names)}"
        faults.append(Fault(name, f"Columns items and item_id: {came}", "One of them.", PAGE))
    if len(set(names)) < len(names):
        faults.append(Fault(name, "Two columns have one name.", "A name of its own for each.", PAGE))
    if faults:
        raise Invalid(tuple(faults))
    placed = "log_position" in names and batch.column("log_position").null_count < len(batch)
    return RequestColumns(name, names, "log_position" if placed else "time", has_types)


def _is_own(name: str) -> bool:
    return name in _OWN or name == "item_fields" or name.startswith((_CONTEXT, _FIELDS))


@dataclass(frozen=True, slots=True)
class _Where:
    """Which rows of which table are looked at."""

    name: str
    first_row: int

    def refuse(self, column: str, is_bad: Any, right: str, came: str = "Nothing, or no such value.") -> None:  # noqa: ANN401  a mask
        """Raise ``Invalid`` for the first row that is bad, if one is."""
        bad = np.flatnonzero(np.asarray(is_bad))
        if len(bad):
            raise self.fault(column, int(bad[0]), came, right)

    def fault(self, column: str, row: int, came: str, right: str) -> Invalid:
        """Return what is wrong with one row."""
        return Invalid((Fault(f"{self.name} row {self.first_row + row + 1}, {column}", came, right, PAGE),))


def _column(batch: Batch, name: str, kind: Any) -> Array:  # noqa: ANN401  a type
    index = batch.schema.get_field_index(name)
    return batch.column(index) if index >= 0 else pa.nulls(len(batch), kind)


def _dense(column: Array) -> Array:
    return column.dictionary_decode() if pt.is_dictionary(column.type) else column


def _ids(column: Array, name: str, where: _Where) -> Array:
    """Return ids as text, null where there is none: a number is its digits, an empty text is none.

    Args:
        column: Texts or whole numbers; also as pandas has whole numbers of which one is missing, that one as NaN.
        name: Of the column, for messages.
        where: For messages.
    """
    dense = _dense(column)
    try:
        if pt.is_floating(dense.type):
            dense = pc.if_else(pc.is_nan(dense), pa.scalar(None, dense.type), dense).cast(pa.int64())
        text = dense.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise Invalid((Fault(f"{where.name}, {name}", f"{error}", "Texts or whole numbers.", PAGE),)) from error
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _whole(column: Array, name: str, where: _Where) -> Rows:
    """Return whole numbers, -1 where there is none."""
    dense = _dense(column)
    try:
        if pt.is_string(dense.type) or pt.is_large_string(dense.type):
            dense = pc.if_else(pc.equal(dense, ""), pa.scalar(None, dense.type), dense)
        found: Rows = np.asarray(dense.cast(pa.int64()).fill_null(-1)).astype(np.int64)
    except pa.ArrowInvalid as error:
        raise Invalid((Fault(f"{where.name}, {name}", f"{error}", "Whole numbers.", PAGE),)) from error
    return found


def _seeds(batch: Batch, first_row: int, where: _Where) -> Array:
    """Return the seed of each row: what it says, else its number, so that rows draw differently and always alike."""
    own = np.arange(first_row, first_row + len(batch), dtype=np.int64)
    told = _whole(_column(batch, "seed", pa.int64()), "seed", where)
    return pa.array(np.where(told >= 0, told, own))


def _items(batch: Batch, names: Sequence[str], where: _Where) -> Array:
    """Return the items of each row, at least one."""
    if "item_id" in names:
        one = _ids(batch.column("item_id"), "item_id", where)
        where.refuse("item_id", one.is_null(), "An item.")
        return pa.ListArray.from_arrays(pa.array(np.arange(len(one) + 1, dtype=np.int32)), one)
    found = _lists(batch, "items", where)
    lengths = np.asarray(pc.list_value_length(found))
    where.refuse("items", (lengths == 0) | (lengths > ITEMS_MAX), f"1 to {ITEMS_MAX:,} items.")
    return found


def _lists(batch: Batch, name: str, where: _Where) -> Array:
    """Return lists of ids; text is a JSON array, or ids with ``|`` between them."""
    column = _dense(_column(batch, name, pa.list_(pa.string())))
    if not any(each(column.type) for each in _LISTS):
        texts: list[str | None] = column.cast(pa.string()).to_pylist()
        return pa.array([_listed(text, name, row, where) for row, text in enumerate(texts)], pa.list_(pa.string()))
    lengths = np.asarray(pc.list_value_length(column).fill_null(0)).astype(np.int64)
    ids = _ids(column.flatten(), name, where)
    empty = np.flatnonzero(np.asarray(ids.is_null()))
    if len(empty):
        row = next(row for row, stop in enumerate(np.cumsum(lengths).tolist()) if stop > empty[0])
        raise where.fault(name, row, "An item of the list is missing.", "An id each.")
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), ids)


def _listed(text: str | None, name: str, row: int, where: _Where) -> list[str]:
    if not text:
        return []
    if not text.startswith("["):
        return [each.strip() for each in text.split(_BETWEEN) if each.strip()]
    try:
        return [str(each) for each in msgspec.json.decode(text, type=list[str | int])]
    except msgspec.MsgspecError as error:
        raise where.fault(name, row, f"{text[:60]!r}: {error}", 'Such as ["a", "b"], or a|b.') from error


def _contexts(batch: Batch, columns: RequestColumns, where: _Where) -> Iterator[str | None]:
    """Yield what the columns ``context`` and ``context.x`` say together, as JSON; the latter win."""
    names = [name for name in columns.names if name.startswith(_CONTEXT)]
    parts: dict[str, list[Any]] = {name: batch.column(name).to_pylist() for name in names}
    whole: list[Any] = batch.column("context").to_pylist() if "context" in columns.names else [None] * len(batch)
    for row, told in enumerate(whole):
        members = _object(told, "context", row, where)
        found = {name: _member(each, f"context, {name}", row, where) for name, each in members.items()}
        for name, values in parts.items():
            if values[row] != "":
                value = attribute_of(name, values[row], None, has_types=columns.has_types)
                found[name.removeprefix(_CONTEXT)] = _member(value, name, row, where)
        kept = {name: value for name, value in found.items() if value is not None}
        yield msgspec.json.encode(kept, enc_hook=str).decode() if kept else None


def _member(value: object, name: str, row: int, where: _Where) -> object:
    """Return a value as JSON has it; None where it is NaN, as frames have what is missing."""
    found = float(value) if isinstance(value, Decimal) else value
    if isinstance(found, float) and isinf(found):
        raise where.fault(name, row, f"{found}.", "A finite number.")
    return None if isinstance(found, float) and isnan(found) else found


def _object(told: object, name: str, row: int, where: _Where) -> dict[str, Any]:
    """Return a JSON object, whether it came as text, as a struct or as a map."""
    if told is None or told == "":
        return {}
    try:
        if isinstance(told, str):
            return msgspec.json.decode(told, type=dict[str, Any])
        return dict(told)  # type: ignore[call-overload,no-any-return]  # checked by what it raises
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise where.fault(name, row, f"{told!r:.60}: {error}", "A JSON object.") from error


def _item_fields(batch: Batch, names: Sequence[str], items: Array, where: _Where) -> Iterator[str | None]:
    """Yield what is said of items, as JSON: to each field a list with a number or null for each item.

    ``item_fields.x`` is such a list; ``item_fields`` is an object as in a request, an item's fields by its id.
    """
    parts = {name.removeprefix(_FIELDS): batch.column(name).to_pylist() for name in names if name.startswith(_FIELDS)}
    whole: list[Any] = batch.column("item_fields").to_pylist() if "item_fields" in names else [None] * len(batch)
    if not parts and not any(whole):
        yield from [None] * len(batch)
        return
    listed: list[list[str]] = items.to_pylist()
    for row, told in enumerate(whole):
        by_item = {
            item: _object(each, "item_fields", row, where)
            for item, each in _object(told, "item_fields", row, where).items()
        }
        own = listed[row]
        found: dict[str, Any] = {
            name: [by_item.get(item, {}).get(name) for item in own]
            for name in dict.fromkeys(name for each in by_item.values() for name in each)
        }
        found |= {name: values[row] for name, values in parts.items() if values[row] not in (None, "")}
        fields = {name: _numbers(value, len(own), name, row, where) for name, value in found.items()}
        yield msgspec.json.encode(fields).decode() if fields else None


def _numbers(value: object, length: int, name: str, row: int, where: _Where) -> list[float | None]:
    """Return a number for each item, None where there is none."""
    right = f"{length} numbers, one for each item."
    try:
        told: Any = msgspec.json.decode(value) if isinstance(value, str) else value
        listed: list[Any] = told if isinstance(told, list) else [told]  # pyright: ignore[reportUnknownVariableType]
        found = [None if each is None else float(each) for each in listed]
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise where.fault(_FIELDS + name, row, f"{value!r:.60}: {error}", right) from error
    if len(found) != length:
        raise where.fault(_FIELDS + name, row, f"{len(found)} came.", right)
    return [None if each is None or np.isnan(each) else each for each in found]


def times_of(column: Array, where: _Where) -> Rows:
    """Return milliseconds since 1970, -1 where there is none; a time without a zone is UTC."""
    dense = _dense(column)
    if pt.is_date(dense.type):
        dense = dense.cast(pa.timestamp("ms"))
    if pt.is_timestamp(dense.type):
        exact = dense.cast(pa.timestamp("ms", dense.type.tz), safe=False)
        return np.asarray(exact.cast(pa.int64()).fill_null(-1)).astype(np.int64)
    if pt.is_string(dense.type) or pt.is_large_string(dense.type):
        texts: list[str | None] = dense.to_pylist()
        found = np.array([_time_ms(text, row, where) for row, text in enumerate(texts)], dtype=np.int64)
    else:
        found = _whole(dense, "time", where)
    where.refuse(
        "time", (found >= 0) & (found < TIME_SECONDS_END), "Milliseconds since 1970.", "It looks like seconds."
    )
    where.refuse("time", found >= LOG_TIME_MS_END, "Milliseconds since 1970.", "It is later than any time.")
    came = "It looks like microseconds or nanoseconds."
    where.refuse("time", found >= MICROSECONDS_BEGIN, "Milliseconds since 1970.", came)
    return found


def _time_ms(text: str | None, row: int, where: _Where) -> int:
    if not text:
        return int(NO_TIME)
    try:
        if text.isdecimal():
            return min(int(text), LOG_TIME_MS_END)
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        right = "Milliseconds since 1970, or ISO 8601 such as 2026-01-31T12:00:00Z."
        raise where.fault("time", row, f"{text[:60]!r}", right) from error
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(zoned.timestamp() * 1_000)
