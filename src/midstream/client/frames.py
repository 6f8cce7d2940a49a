"""Tables of events as Arrow streams, and slates as tables."""

import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import msgspec

from midstream.core.answers.events import BulkAnswer, Rejection
from midstream.core.answers.slates import Slate

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_MAX = 50_000
"""Of one request: 5 MB at 100 bytes a row. A repetition sends no more than that again, and takes under a second."""
BATCH_ROWS = 10_000
"""Of one record batch, which the server records in one piece."""
REJECTIONS_MAX = 100
"""Kept of a whole table, as many as the server lists of a stream."""


class FrameParts:
    """Parts of a table, each a complete Arrow stream with the number of rows before it; each row has an event id."""

    content_type = "application/vnd.apache.arrow.stream"

    def __init__(self, frame: object, prefix: str) -> None:
        """Keep what is to be sent; ids that are made begin with ``prefix``."""
        self._frame = frame
        self._prefix = prefix

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yield the parts in the order of the rows."""
        table = arrow_table(self._frame)
        for first in range(0, max(table.num_rows, 1), ROWS_MAX):
            yield first, _stream_of(self._with_ids(table.slice(first, ROWS_MAX), first))

    def _with_ids(self, part: "pa.Table", first: int) -> "pa.Table":
        """Return a part with ids in the rows that have none: the prefix, and the row of the whole table behind it."""
        arrow: Any = import_module("pyarrow")
        compute: Any = import_module("pyarrow.compute")
        rows = range(first, first + part.num_rows)
        made: Any = arrow.array([f"{self._prefix}-{row}" for row in rows], arrow.string())
        if "event_id" not in part.column_names:
            return part.append_column("event_id", made)
        place = part.column_names.index("event_id")
        own: Any = part.column(place).cast(arrow.string())
        named = compute.if_else(compute.equal(own, ""), arrow.scalar(None, arrow.string()), own)
        return part.set_column(place, "event_id", compute.coalesce(named, made))


def arrow_table(frame: object) -> "pa.Table":
    """Return a frame of another library as an Arrow table, without the index that pandas hands over.

    Raises:
        TypeError: It is nothing that Arrow reads.
    """
    arrow: Any = import_module("pyarrow")
    table: Any
    polars: Any = sys.modules.get("polars")
    if polars is not None and isinstance(frame, polars.DataFrame):
        # Else categories have texts of a form that servers do not read in streams (dictionaries of views).
        table = cast("Any", frame).to_arrow(compat_level=polars.CompatLevel.oldest())
    elif hasattr(frame, "__arrow_c_stream__"):
        table = arrow.table(frame)
    elif hasattr(frame, "to_arrow"):
        table = cast("Any", frame).to_arrow()
    else:
        right = "pandas from 2.2 on, Polars and pyarrow have one"
        message = f"{type(frame).__name__} has neither __arrow_c_stream__ nor to_arrow; frames of {right}"
        raise TypeError(message)
    index = [name for name in table.column_names if name.startswith("__index_level_")]
    plain: pa.Table = table.drop_columns(index)
    return plain


def slate_table(slates: Slate | Sequence[Slate]) -> "pa.Table":
    """Return slates as a table, a row for each item in the order of the slates; ``.to_pandas()`` makes a frame of it.

    Args:
        slates: One, or several such as those of a page.

    Returns:
        ``request_id``, ``placement``, ``item_id``, ``reason`` string, ``position`` int32, ``score`` float64 (null where
        the scorer gave none), and a column ``field.NAME`` for each requested attribute (null where an item has none).
    """
    arrow: Any = import_module("pyarrow")
    listed = [slates] if isinstance(slates, Slate) else slates
    rows = [(slate, item) for slate in listed for item in slate.items]
    names = sorted({name for _, item in rows for name in item.fields or ()})
    columns: dict[str, Any] = {
        "request_id": arrow.array([slate.request_id for slate, _ in rows], arrow.string()),
        "placement": arrow.array([slate.placement for slate, _ in rows], arrow.string()),
        "item_id": arrow.array([item.id for _, item in rows], arrow.string()),
        "position": arrow.array([item.position for _, item in rows], arrow.int32()),
        "score": arrow.array([item.score for _, item in rows], arrow.float64()),
        "reason": arrow.array([item.reason for _, item in rows], arrow.string()),
    }
    for name in names:
        columns[f"field.{name}"] = arrow.array([(item.fields or {}).get(name) for _, item in rows])
    made: pa.Table = arrow.table(columns)
    return made


def list_table(rows: Sequence[msgspec.Struct]) -> "pa.Table":
    """Return rows of a list, such as ``list(client.items())``, as a table with a column for each field."""
    arrow: Any = import_module("pyarrow")
    made: pa.Table = arrow.Table.from_pylist(msgspec.to_builtins(list(rows)))
    return made


def sum_of(answers: Sequence[tuple[int, BulkAnswer]]) -> BulkAnswer:
    """Return the counts of several streams as those of one.

    Args:
        answers: Each after the number of rows before its stream.
    """
    moved = [_moved(each, first) for first, answer in answers for each in answer.rejections]
    positions = [answer.log_position for _, answer in answers if answer.log_position is not None]
    return BulkAnswer(
        recorded=sum(answer.recorded for _, answer in answers),
        duplicates=sum(answer.duplicates for _, answer in answers),
        rejected=sum(answer.rejected for _, answer in answers),
        rejections=tuple(moved[:REJECTIONS_MAX]),
        conflicts=sum(answer.conflicts for _, answer in answers),
        without_dedupe=sum(answer.without_dedupe for _, answer in answers),
        log_position=positions[-1] if positions else None,
        dry_run=any(answer.dry_run for _, answer in answers),
    )


def _moved(rejection: Rejection, first: int) -> Rejection:
    """Return a rejection with the row of the whole table: ``row 701: /item_id`` counts from 1."""
    row, colon, pointer = rejection.pointer.removeprefix("row ").partition(":")
    where = rejection.pointer
    if first and rejection.pointer.startswith("row ") and row.isdigit():
        where = f"row {int(row) + first}{colon}{pointer}"
    return msgspec.structs.replace(rejection, index=rejection.index + first, pointer=where)


def _stream_of(part: "pa.Table") -> bytes:
    arrow: Any = import_module("pyarrow")
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, part.schema) as writer:
        writer.write_table(part, max_chunksize=BATCH_ROWS)
    stream: bytes = sink.getvalue().to_pybytes()
    return stream
