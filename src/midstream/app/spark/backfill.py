"""Backfill: an import of rows that a cluster has sorted by time, in slices, each with the memory of one.

Rows are decoded by the tasks for their time alone, sorted there, and brought to the driver in that order; one writer,
the import of files, decodes them again and records them. So what is recorded, refused and left out as known is decided
by the code of ``midstream import``, and a backfill that was broken off goes on when it is run again. A slice ends
between two times, so equal rows are always in one. Each compares its rows with the whole log so far: with many slices
that is what takes longest.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np

from midstream.app.config.schema import Config
from midstream.app.ingest.import_file import IMPORT_LIMITS, ImportSummary, Notify, import_rows
from midstream.app.mapping.batches import RowReader, RowTerms, own_time_ms, row_reader
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.mapping.pieces import CHUNK_ROWS, OpenFile, Piece, RowOrigin, TablePiece
from midstream.app.mapping.readers import TABLE_TEXT_BYTES_MAX
from midstream.app.opening import Outside, accept_of
from midstream.core.errors import Fault, Invalid
from midstream.core.kinds import Kind
from midstream.events.arrow.views import without_inner_views, without_views
from midstream.events.loose_arrow import Batch, pa, pt

PAGE = "/docs/spark.md"
TIME_COLUMN = "_midstream_time"
"""Milliseconds since 1970; 0 = a change of an item or user without a time, or a row that is no event."""
SLICE_ROWS = 10_000_000
"""Rows of one import: 700 MB of memory at 70 B, and half of what one may have: a slice ends where the time changes."""
_UNTIMED_ACT = -1
_LOG_TIME = "log_time"


@dataclass(frozen=True, slots=True)
class BackfillSummary:
    """Result of a backfill: rows = recorded + known + conflicts + refused + rejected, as of an import."""

    rows: int
    recorded: int
    known: int
    conflicts: int
    refused: int
    rejected: int
    log_time: str
    """``event time``; ``now`` where the log's last event was newer than a row that it had not."""
    slices: tuple[ImportSummary, ...]
    """Of each slice, in their order."""


def terms_of(config: Config, columns: ColumnOptions) -> RowTerms:
    """Return how rows become events, as an import of a file has it."""
    now_ms = Outside().clock()
    accept = msgspec.structs.replace(accept_of(config, IMPORT_LIMITS, trusted=True), now_ms=now_ms)
    return RowTerms(columns, accept, now_ms)


def with_times(terms: RowTerms, header: Sequence[str], batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield record batches with the time of each row behind their columns; runs in tasks.

    Args:
        terms: How rows become events.
        header: Columns that are rows of; others go along.
        batches: The rows.
    """
    reader = row_reader(terms, tuple(header), has_types=True)
    for whole in batches:
        for start in range(0, len(whole), CHUNK_ROWS):
            batch = whole.slice(start, CHUNK_ROWS)
            times = pa.array(_times_of(reader, batch.select(list(header))))
            yield pa.RecordBatch.from_arrays([*batch.columns, times], names=[*batch.schema.names, TIME_COLUMN])


def _times_of(reader: RowReader, rows: Batch) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    found = reader.part(TablePiece(_plain(rows), np.arange(len(rows))))
    kinds, times = found.batch.rows["kind"], own_time_ms(found.batch)
    is_act = (kinds != Kind.ITEM) & (kinds != Kind.USER)
    times = np.where(is_act & (times == 0), _UNTIMED_ACT, times)
    keys = np.zeros(len(rows), dtype=np.int64)
    keys[found.lines] = times  # the rows of an order have one time
    return keys


def _plain(rows: Batch) -> Batch:
    """Return rows as an import reads them; the log time of a history is a number there."""
    plain = without_views(without_inner_views(rows, TABLE_TEXT_BYTES_MAX), TABLE_TEXT_BYTES_MAX)
    at = plain.schema.get_field_index(_LOG_TIME)
    if at < 0 or not pt.is_timestamp(plain.schema.field(at).type):
        return plain
    zone = plain.schema.field(at).type.tz
    times = plain.column(at).cast(pa.timestamp("ms", zone), safe=False).cast(pa.int64())
    return plain.set_column(at, _LOG_TIME, times)


def import_sorted(
    folder: Path,
    config: Config,
    columns: ColumnOptions,
    batches: Iterator[Batch],
    notify: Notify | None = None,
    slice_rows: int = SLICE_ROWS,
) -> BackfillSummary:
    """Record rows in the order in which they come, with their times as the last column.

    Raises:
        Invalid: An act has no time, or the options do not fit; nothing was recorded. Or somebody wrote between two
            slices, so that the rest would not be folded as it happened; what earlier slices recorded stays.
        MidstreamError: As of ``import_rows``; what earlier slices recorded stays, and the next run goes on.
    """
    first = next(batches, None)
    found: list[ImportSummary] = []
    if first is not None:
        _require_times(first)
        for number, part in enumerate(slices(chain((first,), batches), slice_rows)):
            is_event_time = any(each.recorded and each.log_time == "event time" for each in found)
            origin = replace(_origin(first, part, number), needs_event_time=is_event_time)
            found.append(import_rows(folder, config, origin, columns, notify))

    def total(name: str) -> int:
        return sum(int(getattr(each, name)) for each in found)

    is_as_it_happened = all(each.log_time == "event time" for each in found if each.recorded)
    return BackfillSummary(
        rows=total("rows"),
        recorded=total("recorded"),
        known=total("known"),
        conflicts=total("conflicts"),
        refused=total("refused"),
        rejected=total("rejected"),
        log_time="event time" if is_as_it_happened else "now",
        slices=tuple(found),
    )


def _require_times(first: Batch) -> None:
    """Refuse acts without a time: those that have none come first."""
    if len(first) and first.column(TIME_COLUMN)[0].as_py() == _UNTIMED_ACT:
        came = "A row is an act without a time."
        right = "A time in each row that is no item and no user: a history is folded as it happened."
        raise Invalid((Fault("time", came, right, PAGE),))


def _origin(like: Batch, rows: Iterator[Batch], number: int) -> RowOrigin:
    """Return one slice as an import takes a file."""
    header = tuple(name for name in like.schema.names if name != TIME_COLUMN)

    @contextmanager
    def opened() -> Generator[OpenFile]:
        count = 0

        def pieces(columns: Sequence[str] | None) -> Iterator[Piece]:
            nonlocal count
            chosen = header if columns is None else tuple(name for name in header if name in columns) or header[:1]
            for batch in rows:
                yield TablePiece(_plain(batch.select(list(chosen))), np.arange(count + 1, count + 1 + len(batch)))
                count += len(batch)

        yield OpenFile(header, pieces, lambda: count)
        for _ in rows:  # of an import that stopped reading, so that the next slice begins where it does
            continue

    return RowOrigin(f"DataFrame, slice {number + 1}", opened, is_part=True)


def slices(batches: Iterator[Batch], rows: int) -> Iterator[Iterator[Batch]]:
    """Yield the batches in slices of so many rows or more, each up to where the time changes.

    A slice is read to its end before the next one is asked for.
    """
    rest: list[Batch] = []

    def one() -> Iterator[Batch]:
        count, last = 0, 0
        while True:
            batch = rest.pop() if rest else next(batches, None)
            if batch is None:
                return
            if not len(batch):
                continue
            times = np.asarray(batch.column(TIME_COLUMN))
            if count < rows:
                yield batch
                count, last = count + len(batch), int(times[-1])
                continue
            same = int(np.searchsorted(times, last, side="right"))
            if same:
                yield batch.slice(0, same)
            if same < len(batch):
                rest.append(batch.slice(same))
                return

    while True:
        if not rest:
            batch = next(batches, None)
            if batch is None:
                return
            rest.append(batch)
        yield one()
