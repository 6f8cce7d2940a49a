"""A table of another library as record batches: whatever speaks Arrow's C stream, as pyarrow, pandas and Polars do."""

from collections.abc import Iterator
from typing import Any, cast

from midstream.core.errors import Fault, RequestInvalid
from midstream.events.arrow.c_stream import DataFrameLike
from midstream.events.arrow.columns import check_schema
from midstream.events.arrow.views import without_inner_views, without_views
from midstream.events.loose_arrow import Batch, pa
from midstream.events.pieces import PIECE_EVENTS, PIECE_LIMITS
from midstream.events.wire import PAGE, Accept

_INDEX = "__index_level_"
"""Begins the names under which pandas hands over an index that is not just counted; it is no field of an event."""


def batches_of(frame: DataFrameLike, accept: Accept) -> Iterator[tuple[int, Batch]]:
    """Yield a table in parts of ``PIECE_EVENTS`` rows, each after the number of rows before it.

    Raises:
        RequestInvalid: Its columns are none of events, or it does not hold what it says.
    """
    try:
        table: Any = pa.table(cast("Any", frame))
        table = table.drop_columns([name for name in table.column_names if name.startswith(_INDEX)])
        table.validate(full=True)
        plain = [without_inner_views(each, PIECE_LIMITS.text_bytes_max) for each in table.to_batches()]
        table = pa.Table.from_batches(plain) if plain else table
    except (pa.ArrowException, UnicodeDecodeError) as error:
        came = f"{str(error)[:200]}."
        raise RequestInvalid((Fault("events", came, "A table of events.", PAGE),)) from error
    check_schema(table.schema, accept, {})
    first = 0
    for batch in table.to_batches(max_chunksize=PIECE_EVENTS):
        yield first, without_views(batch, PIECE_LIMITS.text_bytes_max)
        first += len(batch)
