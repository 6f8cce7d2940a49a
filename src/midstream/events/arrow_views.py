"""Columns of text by views (``string_view``, as Polars writes it) become plain ones, each view checked here.

Arrow validates such a column and may still read outside of its buffers when it converts one that lies about itself,
so nothing of Arrow's own is called on them.

Reference: Apache Arrow columnar format, variable-size binary view layout.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import Fault, RequestInvalid, TooLarge
from midstream.events.arrow_columns import valid
from midstream.events.loose_arrow import Array, Batch, pa, pt
from midstream.events.text_kernels import copy_spans
from midstream.events.wire import PAGE

_VIEW_BYTES = 16
_INLINE_BYTES_MAX = 12
_VIEW = np.dtype([("length", "<i4"), ("start", "<u4"), ("buffer", "<i4"), ("offset", "<i4")])


def without_views(batch: Batch, text_bytes_max: int) -> Batch:
    """Return a table without columns of views.

    Args:
        batch: Any.
        text_bytes_max: Of one column: views may share their bytes, so there can be more of them than came.

    Raises:
        RequestInvalid: A view points outside of its buffers, or what it points at is no UTF-8.
        TooLarge: The views of a column stand for more text.
    """
    names = batch.schema.names
    if not any(pt.is_string_view(each.type) for each in batch.schema):
        return batch
    columns = [
        _plain(column, name, text_bytes_max) if pt.is_string_view(column.type) else column
        for name, column in zip(names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=names)


def _plain(column: Array, name: str, text_bytes_max: int) -> Array:
    present = valid(column)
    buffers = column.buffers()
    count = len(column)
    if not present.any():
        return pa.nulls(count, pa.large_string())
    if buffers[1] is None or buffers[1].size < (column.offset + count) * _VIEW_BYTES:
        raise _outside(name)
    views = np.frombuffer(buffers[1], _VIEW, column.offset + count)[column.offset :]
    lengths = np.where(present, views["length"].astype(np.int64), 0)
    if lengths.min() < 0:
        raise _outside(name)
    if int(lengths.sum()) > text_bytes_max:
        right = f"At most {text_bytes_max} bytes of text in a column at once."
        raise TooLarge((Fault(f"column {name}", f"{int(lengths.sum())} bytes.", right, PAGE),))
    pieces = [np.frombuffer(each, np.uint8) if each is not None and each.size else _EMPTY for each in buffers[1:]]
    starts = _starts(views, lengths, pieces, column.offset, name)
    offsets = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    text = np.empty(int(offsets[-1]), dtype=np.uint8)
    copy_spans(np.concatenate(pieces), starts, lengths, text)
    mask = pa.py_buffer(np.packbits(present, bitorder="little").data)
    plain = pa.Array.from_buffers(pa.large_string(), count, [mask, pa.py_buffer(offsets.data), pa.py_buffer(text.data)])
    try:
        plain.validate(full=True)
    except pa.ArrowInvalid as error:
        raise RequestInvalid((Fault(f"column {name}", f"{error}.", "Text in UTF-8.", PAGE),)) from error
    return plain


_EMPTY = np.empty(0, dtype=np.uint8)


def _starts(
    views: NDArray[np.void], lengths: NDArray[np.int64], pieces: list[NDArray[np.uint8]], first: int, name: str
) -> NDArray[np.int64]:
    """Return where each text begins in all pieces end to end: the views themselves, then their buffers."""
    begins = np.cumsum([0, *(len(piece) for piece in pieces)]).astype(np.int64)
    is_inline = lengths <= _INLINE_BYTES_MAX
    inline = (first + np.arange(len(views))) * _VIEW_BYTES + 4
    buffer = np.where(is_inline, 0, views["buffer"].astype(np.int64) + 1)
    if buffer.min() < 0 or buffer.max() >= len(pieces):
        raise _outside(name)
    offset = np.where(is_inline, inline, views["offset"].astype(np.int64))
    sizes = np.array([len(piece) for piece in pieces], dtype=np.int64)
    if offset.min() < 0 or bool(np.any(offset + lengths > sizes[buffer])):
        raise _outside(name)
    return begins[buffer] + offset


def _outside(name: str) -> RequestInvalid:
    right = "Views that point into their own buffers."
    return RequestInvalid((Fault(f"column {name}", "A view points outside of its buffers.", right, PAGE),))
