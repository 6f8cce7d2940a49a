"""Columns of views (``string_view``, as Polars writes text, and ``binary_view``) become plain ones, each view checked.

Arrow validates such a column and may still read outside of its buffers when it converts one that lies about itself,
so nothing of Arrow's own is called on them.

Reference: Apache Arrow columnar format, variable-size binary view layout.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import Fault, RequestInvalid, TooLarge
from midstream.core.types import Mask
from midstream.events.arrow.columns import valid
from midstream.events.loose_arrow import Array, Batch, DataType, pa, pt
from midstream.events.text_kernels import copy_spans
from midstream.events.wire import PAGE

_VIEW_BYTES = 16
_INLINE_BYTES_MAX = 12
_VIEW = np.dtype([("length", "<i4"), ("start", "<u4"), ("buffer", "<i4"), ("offset", "<i4")])


def without_views(batch: Batch, text_bytes_max: int) -> Batch:
    """Return a table without columns of views.

    Args:
        batch: Any.
        text_bytes_max: Of all columns of views together: they may share their bytes, so there can be more of them than
            came.

    Raises:
        RequestInvalid: A view points outside of its buffers, or what it points at is no UTF-8.
        TooLarge: The views of the table stand for more text. Nothing of the column with which they do was copied.
    """
    if not any(_is_view(each.type) for each in batch.schema):
        return batch
    converter = _Converter(text_bytes_max)
    names = batch.schema.names
    columns = [
        converter.plain(column, name) if _is_view(column.type) else column
        for name, column in zip(names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=names)


def without_inner_views(batch: Batch, text_bytes_max: int) -> Batch:
    """Return a table without views within dictionaries, structs and lists, as categories and objects of Polars have.

    Each dictionary is converted whole, so it is for tables that are at hand and not for those of a stream, in which a
    batch of a row may name a dictionary of any size.

    Args:
        batch: Validated in full.
        text_bytes_max: Of all such parts together.

    Raises:
        RequestInvalid: As of ``without_views``.
        TooLarge: As of ``without_views``.
    """
    if not any(_has_views(each.type) and not _is_view(each.type) for each in batch.schema):
        return batch
    converter = _Converter(text_bytes_max)
    names = batch.schema.names
    columns = [
        column if _is_view(column.type) else converter.within(column, name)
        for name, column in zip(names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=names)


def _is_view(kind: DataType) -> bool:
    return bool(pt.is_string_view(kind) or pt.is_binary_view(kind))


def _has_views(kind: DataType) -> bool:
    if pt.is_dictionary(kind) or pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        return _has_views(kind.value_type)
    if pt.is_struct(kind):
        return any(_has_views(kind.field(at).type) for at in range(kind.num_fields))
    return _is_view(kind)


class _Converter:
    """Makes plain texts of views, so many bytes of them."""

    def __init__(self, text_bytes_max: int) -> None:
        self._max = self._left = text_bytes_max

    def plain(self, column: Array, name: str) -> Array:
        """Return a column of views as one of texts or bytes."""
        kind = pa.large_string() if pt.is_string_view(column.type) else pa.large_binary()
        views = _views_of(column, name)
        self._left -= 0 if views is None else int(views.lengths.sum())
        if self._left < 0:
            right = f"At most {self._max} bytes of text in the columns of views of a record batch."
            raise TooLarge((Fault(f"column {name}", f"{self._max - self._left} bytes with it.", right, PAGE),))
        return pa.nulls(len(column), kind) if views is None else _plain(views, name, kind)

    def within(self, column: Array, name: str) -> Array:
        """Return a column with texts in the place of all views in it, however deep."""
        kind = column.type
        if not _has_views(kind):
            return column
        if pt.is_dictionary(kind):
            return pa.DictionaryArray.from_arrays(column.indices, self.within(column.dictionary, name))
        if pt.is_struct(kind):
            members = [self.within(each, name) for each in column.flatten()]
            names = [kind.field(at).name for at in range(kind.num_fields)]
            return pa.StructArray.from_arrays(members, names=names, mask=column.is_null())
        if _is_view(kind):
            return self.plain(column, name)
        if pt.is_fixed_size_list(kind):
            size = kind.list_size
            values = self.within(column.values.slice(column.offset * size, len(column) * size), name)
            return pa.FixedSizeListArray.from_arrays(values, size, mask=column.is_null())
        # A list without an offset is null.
        is_missing = np.append(~valid(column), np.False_)
        offsets = pa.array(np.asarray(column.offsets), mask=is_missing)
        lists = pa.ListArray if pt.is_list(kind) else pa.LargeListArray
        return lists.from_arrays(offsets, self.within(column.values, name))


class _Views(NamedTuple):
    """A column of views, each within its buffer."""

    present: Mask
    """Which rows have a text, shape (n,)."""
    buffer: NDArray[np.int64]
    """Which of ``pieces`` holds each text, shape (n,)."""
    starts: NDArray[np.int64]
    """Where in it, shape (n,)."""
    lengths: NDArray[np.int64]
    """0 of a row without a text, shape (n,)."""
    pieces: list[NDArray[np.uint8]]
    """The views themselves, in which short texts lie, then their buffers."""


def _views_of(column: Array, name: str) -> _Views | None:
    """Return what a column's views point at, None = no row has a text."""
    present = valid(column)
    buffers = column.buffers()
    first, count = column.offset, len(column)
    if not present.any():
        return None
    if buffers[1] is None or buffers[1].size < (first + count) * _VIEW_BYTES:
        raise _outside(name)
    views = np.frombuffer(buffers[1], _VIEW, first + count)[first:]
    lengths = np.where(present, views["length"].astype(np.int64), 0)
    if lengths.min() < 0:
        raise _outside(name)
    pieces = [np.frombuffer(each, np.uint8) if each is not None and each.size else _EMPTY for each in buffers[1:]]
    is_inline = lengths <= _INLINE_BYTES_MAX
    buffer = np.where(is_inline, 0, views["buffer"].astype(np.int64) + 1)
    if buffer.min() < 0 or buffer.max() >= len(pieces):
        raise _outside(name)
    starts = np.where(is_inline, (first + np.arange(count)) * _VIEW_BYTES + 4, views["offset"].astype(np.int64))
    sizes = np.array([len(piece) for piece in pieces], dtype=np.int64)
    if starts.min() < 0 or bool(np.any(starts + lengths > sizes[buffer])):
        raise _outside(name)
    return _Views(present, buffer, starts, lengths, pieces)


_EMPTY = np.empty(0, dtype=np.uint8)


def _plain(views: _Views, name: str, kind: DataType) -> Array:
    """Return a column of views as one of plain texts or bytes."""
    count = len(views.lengths)
    offsets = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(views.lengths, out=offsets[1:])
    text = _text(views, offsets)
    mask = pa.py_buffer(np.packbits(views.present, bitorder="little").data)
    plain = pa.Array.from_buffers(kind, count, [mask, pa.py_buffer(offsets.data), pa.py_buffer(text.data)])
    try:
        plain.validate(full=True)
    except pa.ArrowInvalid as error:
        raise RequestInvalid((Fault(f"column {name}", f"{error}.", "Text in UTF-8.", PAGE),)) from error
    return plain


def _text(views: _Views, offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return all texts end to end, row after row.

    Buffers may be shared, may lie over each other, and may be those of a table of which this is a slice. So they are
    never put together: texts are copied buffer by buffer, then into the order of rows. Memory is twice the texts.
    """
    text = np.empty(int(offsets[-1]), dtype=np.uint8)
    # Of numbers of 16 bits or less the sort is linear.
    order = np.argsort(views.buffer.astype(np.min_scalar_type(len(views.pieces))), kind="stable")
    counts = np.bincount(views.buffer, minlength=len(views.pieces))
    used = np.flatnonzero(counts)
    if len(used) == 1:
        copy_spans(views.pieces[int(used[0])], views.starts, views.lengths, text)
        return text
    starts, lengths = views.starts[order], views.lengths[order]
    stops = np.cumsum(lengths)
    by_buffer = np.empty(len(text), dtype=np.uint8)
    ends = np.cumsum(counts)[used]
    for piece, first, end in zip(used.tolist(), (ends - counts[used]).tolist(), ends.tolist(), strict=True):
        begin, stop = int(stops[first] - lengths[first]), int(stops[end - 1])
        copy_spans(views.pieces[piece], starts[first:end], lengths[first:end], by_buffer[begin:stop])
    moved = np.empty(len(order), dtype=np.int64)
    moved[order] = stops - lengths
    by_buffer.flags.writeable = False  # as the buffers are: one form of the kernel is compiled
    copy_spans(by_buffer, moved, views.lengths, text)
    return text


def _outside(name: str) -> RequestInvalid:
    right = "Views that point into their own buffers."
    return RequestInvalid((Fault(f"column {name}", "A view points outside of its buffers.", right, PAGE),))
