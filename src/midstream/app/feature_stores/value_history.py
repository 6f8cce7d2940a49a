"""History of feature values as Parquet: a row for each key of a view and each moment at which it was read.

The moments are those of a file of questions, or those just behind each event: an event of the millisecond t is seen by
a question of the time t + 1 and by none of t, so that is the time of its rows. A row has what ``features as-of`` gives
for its ids and its time; all views are read in one pass over the log.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute
import pyarrow.parquet as pq

from midstream.app.export.events import Moment, open_selected
from midstream.app.feature_stores.entity_views import PAGE, TIMESTAMP, EntityView, features_of
from midstream.app.point_in_time.lookup import AsOfOptions, LookupRows, Past, answer
from midstream.app.point_in_time.requests import OrderedRequests, of_batches, of_file
from midstream.core.errors import Fault, Invalid
from midstream.engine.child_process import Notify, nobody
from midstream.events.loose_arrow import Batch, Schema, pa
from midstream.events.whole_file import OPEN_MODE, WholeFile
from midstream.integrations.feast.tags import NO_ITEM

pc: Any = pyarrow.compute
KINDS = ("interaction", "impression", "item", "user")
"""Events that name whose values may have changed."""
_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True, slots=True)
class HistoryRange:
    """The moments at which values are read."""

    questions: Path | None = None
    """File of questions, each with a time; None = behind each event."""
    since: Moment = None
    """Log time from which on, of events."""
    until: Moment = None
    """Log time before which."""


def write_history(
    folder: Path, past: Past, views: Sequence[EntityView], wanted: HistoryRange, target: Path, notify: Notify = nobody
) -> Mapping[str, int]:
    """Write ``<view>.parquet`` for each view into a folder; return the number of rows of each.

    Args:
        folder: Holds the log.
        past: Its log and configuration.
        views: Of the same configuration.
        wanted: At which moments.
        target: Folder where the files appear when they are complete.
        notify: Receives the progress of the fold.

    Raises:
        Invalid: Questions are not as they should be, or there is no event.
        FeatureFailed: A feature cannot be read.
    """
    with ExitStack() as stack:
        asked = _asked(folder, wanted, stack, target)
        found = answer(past, asked, AsOfOptions(features_of(views), place=target), notify)
        tables = [_ViewTable(each, target, stack) for each in views]
        for batch in _with_time(found):
            for table in tables:
                table.add(batch)
    return {each.view.name: each.rows for each in tables}


def _asked(folder: Path, wanted: HistoryRange, stack: ExitStack, place: Path) -> OrderedRequests:
    if wanted.questions is None:
        events = open_selected(folder, wanted.since, wanted.until, KINDS)
        return of_batches((_behind(each) for each in events), "events", stack, place)
    asked = of_file(wanted.questions, stack, place)
    if not asked.by_time:
        right = "A column time alone: a row of a feature store is found by its time."
        raise Invalid((Fault(wanted.questions.name, "It has a column log_position.", right, PAGE),))
    return asked


def _behind(events: Batch) -> Batch:
    """Return a question for each event, a millisecond behind it."""
    columns = {
        "time": pc.add(events.column("log_time"), 1),
        "user_id": events.column("user_id"),
        "session_id": events.column("session_id"),
        "item_id": events.column("item_id").fill_null(NO_ITEM),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _with_time(found: LookupRows) -> Iterator[Batch]:
    """Yield the answers, with ids that are missing as nulls."""
    for batch in found.batches:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        item = columns["item_id"]
        columns["item_id"] = pc.if_else(pc.equal(item, NO_ITEM), pa.scalar(None, pa.string()), item)
        columns[TIMESTAMP] = columns["time"].cast(_TIME)
        yield pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


class _ViewTable:
    """Parquet file of one view; a key has one row of a time."""

    def __init__(self, view: EntityView, folder: Path, stack: ExitStack) -> None:
        self.view = view
        self.rows = 0
        self._last: set[tuple[object, ...]] = set()
        """Rows of the newest time: those of a batch are in the order of time."""
        file = stack.enter_context(WholeFile(folder / f"{view.name}.parquet", OPEN_MODE))
        self._writer: Any = pq.ParquetWriter(file, schema_of(view), compression="zstd")
        stack.callback(self._writer.close)

    def add(self, batch: Batch) -> None:
        """Write the rows that have all ids of the view."""
        for key in self.view.keys:
            if key not in batch.schema.names:
                return
            batch = batch.filter(pc.fill_null(pc.not_equal(batch.column(key), ""), False))  # noqa: FBT003  of pyarrow
        if len(batch):
            batch = batch.take(pa.array(self._first_places(batch)))
        if len(batch):
            self.rows += len(batch)
            self._writer.write_batch(_row_batch(batch, self.view))

    def _first_places(self, batch: Batch) -> list[int]:
        ids = [batch.column(each).to_pylist() for each in (TIMESTAMP, *self.view.keys)]
        found: list[int] = []
        for place, row in enumerate(zip(*ids, strict=True)):
            if self._last and row[0] != next(iter(self._last))[0]:
                self._last.clear()
            if row not in self._last:
                self._last.add(row)
                found.append(place)
        return found


def schema_of(view: EntityView) -> Schema:
    """Return the columns of a view's table: ids, time, values."""
    fields = [pa.field(each, pa.string(), nullable=False) for each in view.keys]
    fields.append(pa.field(TIMESTAMP, _TIME, nullable=False))
    return pa.schema([*fields, *(pa.field(each, pa.float32()) for each in view.columns)])


def _row_batch(batch: Batch, view: EntityView) -> Batch:
    """Return the columns of a view; what is not known is null."""
    columns = [batch.column(each) for each in (*view.keys, TIMESTAMP)]
    for name in view.columns:
        values = batch.column(name)
        columns.append(pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float32()), values))
    return pa.RecordBatch.from_arrays(columns, schema=schema_of(view))
