"""Conversion of columns of views (``string_view``, as Polars writes text, and ``binary_view``) to plain columns.

Arrow validates the views of values and not those of nulls, and reads both when it casts a column: a null with a
negative length ends the process. So views of nulls are set to zero before a column is validated and cast.

Reference: Apache Arrow columnar format, variable-size binary view layout.
"""

import numpy as np

from midstream.core.errors import Fault, RequestInvalid, TooLarge
from midstream.events.arrow.columns import valid
from midstream.events.loose_arrow import Array, Batch, DataType, pa, pt
from midstream.events.wire import PAGE

_WORDS = 4
"""Of a view, 32 bits each; the first is the length of its text."""


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
        present = valid(column)
        if not present.any():
            return pa.nulls(len(column), kind)
        _, views, *pieces = column.buffers()
        first = column.offset * _WORDS
        came = np.frombuffer(views, np.int32, first + len(column) * _WORDS)[first:].reshape(-1, _WORDS)
        cells = np.where(present[:, None], came, np.int32(0))
        self._left -= int(np.maximum(cells[:, 0], 0).sum(dtype=np.int64))
        if self._left < 0:
            right = f"At most {self._max} bytes of text in the columns of views of a record batch."
            raise TooLarge((Fault(f"column {name}", f"{self._max - self._left} bytes with it.", right, PAGE),))
        buffers = [pa.py_buffer(each.data) for each in (np.packbits(present, bitorder="little"), cells)]
        try:
            checked = pa.Array.from_buffers(column.type, len(column), [*buffers, *pieces])
            checked.validate(full=True)
        except pa.ArrowException as error:
            right = "Views that point into their own buffers, at text in UTF-8."
            raise RequestInvalid((Fault(f"column {name}", f"{str(error)[:200]}.", right, PAGE),)) from error
        return checked.cast(kind)

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
