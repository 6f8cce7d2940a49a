"""Arrow tables of events become a batch, by columns: the same rules, rows and refusals as of events in JSON.

An interaction or impression of one item becomes a row without a Python object of its own; documents, orders and rows
with something wrong go the way of events in JSON, one by one. Bodies that repeat, as contexts do, are put into their
one form once.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import Fault, TooLarge
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, Index, Mask
from midstream.events.arrow.columns import (
    OBJECT_FIELDS,
    TextView,
    is_text,
    loose_object,
    loose_value,
    numbers,
    objects,
    text_of,
    text_view,
    times_ms,
    valid,
    view_bytes,
    whole_numbers,
)
from midstream.events.arrow.kernels import assemble, iso_times
from midstream.events.json.decode import Decoded, SingleEvent, judge_part, read_loose
from midstream.events.json.plain import in_order
from midstream.events.loose_arrow import Array, Batch, pa, pt
from midstream.events.rows import Rows
from midstream.events.schema import ROW
from midstream.events.values import context_body
from midstream.events.wire import LOG_TIME_MS_END, PAGE, POSITION_MAX, TIME_MS_END, TIME_MS_MIN, Accept, Refused

_TEXT_ORDER = ("event_id", "", "user_id", "item_id", "session_id", "request_id", "")
"""Columns of the texts of a row; an action comes from the type, a body from the context."""
_BELOW_0 = float(np.nextafter(0.0, -1.0))
_ONLY_ODD = ("items", "operation", "attributes", "content", "content_base64")
_FLOAT32_END = (2 - 2**-24) * 2.0**127
_CONTEXT = dict[str, str | int | float | bool]
Numbers: TypeAlias = NDArray[np.float64]
Wholes: TypeAlias = NDArray[np.int64]


def decode_arrow(
    batch: Batch, accept: Accept, first_row: int = 0, defaults: Mapping[str, str] | None = None
) -> Decoded:
    """Decode a table of events.

    Args:
        batch: Validated in full, of a schema that ``check_schema`` let pass, without columns of views. Each row is an
            event.
        accept: The terms on which events are taken.
        first_row: Number of rows that came before: faults say ``row 1`` of the first of all.
        defaults: Values of fields for which there is no column: ``type`` and ``operation``.

    Raises:
        TooLarge: More events, rows or text in them than ``accept`` says.

    Cost: about 0.3 µs an event where rows are plain.
    """
    _check_size(batch, accept)
    table = _Table(batch, accept, first_row, defaults or {})
    plain, plain_index = table.plain_rows()
    rows = Rows(accept)
    odd: list[int] = np.flatnonzero(table.odd).tolist()
    judged = [judge_part(rows, number, table.part(number), read_loose, accept) for number in odd]
    rejected = [each for each in judged if each is not None]
    found, event_index = in_order(plain, plain_index, rows.batch(), rows.event_index())
    if len(found) > accept.limits.rows_max or len(found.text) > accept.limits.text_bytes_max:
        raise _too_large(f"{len(found)} rows of {len(found.text)} bytes of text.", accept)
    return Decoded(found, event_index, tuple(rejected), len(batch))


def plain_rows(batch: Batch, accept: Accept, odd: Mask) -> tuple[EventBatch, Index, Mask]:
    """Return the plain rows of a table, the number of each among all, and which rows are odd.

    Args:
        batch: As for ``decode_arrow``.
        accept: The terms on which events are taken.
        odd: Rows to be passed by, (n,).
    """
    table = _Table(batch, accept, 0, {})
    table.odd |= odd
    rows, index = table.plain_rows()
    return rows, index, table.odd


def parts_of_rows(
    batch: Batch, accept: Accept, first_row: int = 0, defaults: Mapping[str, str] | None = None
) -> Callable[[int], SingleEvent]:
    """Return what names each row of a table as ``decode_arrow`` does. Cost: about 10 µs a row that is named."""
    return _Table(batch, accept, first_row, defaults or {}).part


def _check_size(batch: Batch, accept: Accept) -> None:
    """Refuse a table whose texts are too many: those of a dictionary count as often as they are named."""
    columns = [batch.column(at) for at in range(batch.num_columns)]
    size = sum(view_bytes(column) for column in columns if is_text(column.type))
    if len(batch) > accept.limits.events_max or size > accept.limits.text_bytes_max:
        raise _too_large(f"{len(batch)} events, {size} bytes of text.", accept)


def _too_large(came: str, accept: Accept) -> TooLarge:
    limits = accept.limits
    right = f"At most {limits.events_max} events, {limits.rows_max} rows and {limits.text_bytes_max} bytes at once."
    return TooLarge((Fault("body", came, right, PAGE),))


class _Table:
    """One table on its way to rows."""

    def __init__(self, batch: Batch, accept: Accept, first_row: int, defaults: Mapping[str, str]) -> None:
        self._batch = batch
        self._accept = accept
        self._first_row = first_row
        self._defaults = defaults
        self._columns = {name: batch.column(at) for at, name in enumerate(batch.schema.names)}
        self._count = len(batch)
        self.odd: Mask = np.zeros(self._count, dtype=np.bool_)
        """Rows that become events one by one; complete after ``plain_rows``."""

    def plain_rows(self) -> tuple[EventBatch, Index]:
        """Return the rows that are plain, and the number of each among all."""
        kinds, action = self._types()
        if "type" in self._defaults and "type" not in self._columns:
            self.odd[:] = True  # a table of items or users: documents are never plain
        for name in _ONLY_ODD:
            for column in self._columns_of(name):
                self.odd |= valid(column)
        if "operation" in self._defaults:
            self.odd[:] = True
        time_ms, time_sent = self._times()
        log_time_ms = self._log_times()
        value, quantity = self._number("value", -np.inf, np.inf), self._number("quantity", _BELOW_0, _FLOAT32_END)
        position = self._positions()
        views = [self._text(name) for name in _TEXT_ORDER]
        views[1], views[6] = action, self._bodies()
        size = sum(int(np.maximum(each.lengths, 0).sum()) for each in views)
        if size > self._accept.limits.text_bytes_max:
            raise _too_large(f"{self._count} events, {size} bytes of text.", self._accept)
        rows = np.empty(self._count, dtype=ROW)
        arena = np.empty(size, dtype=np.uint8)
        index = np.empty(self._count, dtype=np.int32)
        taken, used = assemble(
            tuple(_readonly(each.data) for each in views),
            np.stack([each.starts for each in views]),
            np.stack([each.lengths for each in views]),
            (kinds, time_sent),
            (time_ms, log_time_ms, position),
            (value, quantity),
            self._accept.limits.id_chars_max,
            self.odd,
            rows,
            arena,
            index,
        )
        return EventBatch(rows[:taken], arena[:used].tobytes()), index[:taken]

    def part(self, row: int) -> SingleEvent:
        """Return a row as the object that it is in JSON."""
        loose: dict[str, object] = dict(self._defaults)
        for name, column in self._columns.items():
            top = name.partition(".")[0]
            if top in OBJECT_FIELDS or top == "items":
                value = loose_object(self._batch, top, row)
            else:
                value = loose_value(column, row)
                if isinstance(value, float) and top in ("position", "log_time", "time") and value.is_integer():
                    value = int(value)
            if value is not None:
                loose[top] = value
        return SingleEvent(f"row {self._first_row + row + 1}: ", msgspec.json.encode(_encodable(loose)), loose)

    def _columns_of(self, name: str) -> list[Array]:
        return [column for each, column in self._columns.items() if each.partition(".")[0] == name]

    def _text(self, name: str) -> TextView:
        column = self._columns.get(name)
        return text_view(pa.nulls(self._count) if column is None else column)

    def _types(self) -> tuple[NDArray[np.uint8], TextView]:
        """Return the kind of each row and where its action's name lies; rows of other types are odd."""
        accept = self._accept
        column = self._columns.get("type", pa.nulls(self._count))
        view = text_view(column)
        distinct, code = _distinct(column)
        kinds = np.zeros(len(distinct) + 1, dtype=np.uint8)
        for number, name in enumerate(distinct):
            if name in accept.actions:
                kinds[number] = Kind.INTERACTION
            elif name == "impression" and name in accept.open_types:
                kinds[number] = Kind.IMPRESSION
        found = kinds[code]
        self.odd |= found == 0
        lengths = np.where(found == Kind.INTERACTION, view.lengths, -1)
        return found, TextView(view.data, view.starts, lengths)

    def _times(self) -> tuple[Wholes, NDArray[np.uint8]]:
        column = self._columns.get("time")
        if column is None:
            return np.zeros(self._count, dtype=np.int64), np.zeros(self._count, dtype=np.uint8)
        sent = valid(column)
        if is_text(column.type):
            view = text_view(column)
            found = np.empty(self._count, dtype=np.int64)
            iso_times(_readonly(view.data), view.starts, view.lengths, found)
            is_right: Mask = sent
        else:
            found, is_right = times_ms(column)
        self.odd |= sent & ~(is_right & (found >= TIME_MS_MIN) & (found < TIME_MS_END))
        return np.where(sent, found, 0), sent.astype(np.uint8)

    def _log_times(self) -> Wholes:
        column = self._columns.get("log_time")
        if column is None:
            return np.zeros(self._count, dtype=np.int64)
        found, is_whole = whole_numbers(column)
        self.odd |= valid(column) & ~(is_whole & (found >= 0) & (found < LOG_TIME_MS_END) & self._accept.trusted)
        return found

    def _number(self, name: str, begin: float, end: float) -> Numbers:
        """Return a column of numbers, NaN = not sent; rows that are not between two bounds are odd."""
        column = self._columns.get(name)
        if column is None:
            return np.full(self._count, np.nan)
        found = numbers(column)
        self.odd |= valid(column) & ~((begin < found) & (found < end))
        return found

    def _positions(self) -> Wholes:
        column = self._columns.get("position")
        if column is None:
            return np.full(self._count, -1, dtype=np.int64)
        found, is_whole = whole_numbers(column)
        sent = valid(column)
        self.odd |= sent & ~(is_whole & (found >= 0) & (found <= POSITION_MAX))
        return np.where(sent, found, -1)

    def _bodies(self) -> TextView:
        """Return where each row's body lies; rows whose context cannot be taken are odd."""
        found = objects(self._batch, "context")
        if found is None:
            return text_view(pa.nulls(self._count))
        values, code = found
        bodies: list[bytes] = []
        is_odd = np.zeros(len(values), dtype=np.bool_)
        for number, value in enumerate(values):
            try:
                context = {} if value is None else msgspec.convert(value, _CONTEXT)
                bodies.append(context_body(context, self._accept).encode())
            except (msgspec.MsgspecError, UnicodeError, RecursionError, Refused):
                bodies.append(b"")
                is_odd[number] = True
        self.odd |= is_odd[code]
        lengths = np.array([len(body) for body in bodies], dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        lengths[lengths == 0] = -1
        return TextView(np.frombuffer(b"".join(bodies) + b"\0", dtype=np.uint8), starts[code], lengths[code])


def _distinct(column: Array) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct texts of a column and the number of each row's text, a null's behind the last."""
    if pt.is_null(column.type):
        return [], np.zeros(len(column), dtype=np.int64)
    dense = column.dictionary_decode() if pt.is_dictionary(column.type) else column
    coded = dense.dictionary_encode()
    names = [text_of(each) for each in cast("list[str | bytes]", coded.dictionary.to_pylist())]
    return names, np.asarray(coded.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)).astype(np.int64)


def _readonly(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the bytes as the kernel takes them: read-only, with an address."""
    view = data.view() if len(data) else np.zeros(1, dtype=np.uint8)
    view.flags.writeable = False
    return view


def _encodable(loose: dict[str, object]) -> object:
    """Return an object whose texts can be written: bytes that are no UTF-8 as escapes."""
    try:
        msgspec.json.encode(loose)
    except UnicodeEncodeError:
        return _escaped(loose)
    return loose


def _escaped(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {str(_escaped(name)): _escaped(each) for name, each in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_escaped(each) for each in cast("list[object]", value)]
    return value
