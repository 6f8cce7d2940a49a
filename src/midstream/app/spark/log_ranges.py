"""Log ranges: a log cut by position, each range read by a task of its own, sealed Parquet and segments alike.

A range is read by the reader of servers and followers: with every checksum, sealed events from their Parquet files and
the rest from segments. Which log is meant goes along with a range, so that a task never mixes the log with another one,
or with a writing of it without erased users that took its place meanwhile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import DATA_NAME
from midstream.core.errors import LogRewritten
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches
from midstream.engine.log_readers import FolderLog, open_reader
from midstream.events.arrow.to_arrow import SCHEMA
from midstream.events.loose_arrow import Batch, Schema, pa
from midstream.events.segments.log_identity import LogIdentity

RANGE_EVENTS = 262_144
"""Events of one task: 16 row groups of history, 0.3 s of work; a task begins within 0.05 s, and reads two row groups of
its neighbours at most."""
RANGES_MAX = 100_000
"""Tasks of one job; of a longer log each takes more events."""
_TIME = pa.timestamp("us", "UTC")
_TIMES = ("time", "log_time")
LOG_SCHEMA: Schema = pa.schema(
    [
        pa.field("log_position", pa.int64()),
        *(pa.field(each.name, _TIME if each.name in _TIMES else each.type) for each in SCHEMA),
    ]
)
"""Columns of an export with the log position; times to the microsecond, as Spark has them."""


class LogRange(NamedTuple):
    """Events from one log position to before another."""

    first: int
    stop: int


def encode_range(part: LogRange) -> bytes:
    """Return a range as it goes to a task."""
    return msgspec.msgpack.encode(part)


def decode_range(piece: bytes) -> LogRange:
    """Return the range of ``encode_range``."""
    return msgspec.msgpack.decode(piece, type=LogRange)


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Which log is read, and up to where."""

    folder: str
    """Holds ``data``; every machine that reads it has it under this path."""
    log_id: str
    """Empty = there is no log yet."""
    generation: int
    begin: int
    """Log position of the first event that is kept."""
    end: int
    """Log position before which all is durable."""
    log_name: str = ""
    """Public name of the log."""

    def ranges(self, first: int, stop: int, events: int = RANGE_EVENTS) -> list[LogRange]:
        """Return the events from one position to before another, within the log, cut into ranges."""
        first, stop = max(first, self.begin), min(stop, self.end)
        step = max(events, -(-(stop - first) // RANGES_MAX))
        return [LogRange(at, min(at + step, stop)) for at in range(first, stop, step)]


def place_of(folder: Path, view: LogView | None = None) -> LogPlace:
    """Return the log of a folder as it stands now. Cost: that of ``LogView``.

    Raises:
        LogDamaged: It cannot be trusted.
    """
    log = view or LogView(folder)
    path = str(folder.absolute())
    if log.reader is None:
        return LogPlace(path, "", 0, 0, 0)
    return LogPlace(path, log.identity.log_id, log.identity.generation, log.begin, log.end, log.identity.public_name)


def place_and_time(folder: Path) -> tuple[LogPlace, int]:
    """Return the log of a folder as it stands now, and the log time of its last event, 0 = it has none.

    Raises:
        LogDamaged: It cannot be trusted.
    """
    view = LogView(folder)
    last_ms = 0
    if view.end > view.begin:
        ((_, batch), *_) = view.read(LogPosition(view.end - 1), 1)
        last_ms = int(batch.rows["log_time_ms"][-1])
    return place_of(folder, view), last_ms


def rewritten(folder: Path, place: LogPlace, now: LogIdentity | None) -> LogRewritten:
    """Return the error of a job whose log is another one now, or none."""
    found = "none" if now is None else f"generation {now.generation} of {now.public_name}"
    return LogRewritten(
        f"{folder}: the log is {found}, and the job began with generation {place.generation} of "
        f"{place.log_name or 'none'}: it was rewritten meanwhile, as erasures have it done. Run the job again"
    )


def event_batches(
    place: LogPlace, part: LogRange, *, any_generation: bool = False
) -> Iterator[tuple[LogPosition, EventBatch]]:
    """Yield the events of a range, some thousand at a time, with the position of each batch's first one.

    Args:
        place: The log.
        part: The range.
        any_generation: A writing without erased users that took its place is read as well: it has as many events, at
            the same positions.

    Raises:
        LogRewritten: The folder has another log, or another writing of it.
        LogDamaged: It cannot be trusted.
    """
    reader = _reader(place, any_generation=any_generation)
    end = LogPosition(part.stop)
    yield from batches(lambda after, limit: reader.read(after, limit, end), LogPosition(part.first), end)


def events_at(place: LogPlace, positions: NDArray[np.int64]) -> Iterator[tuple[LogPosition, EventBatch]]:
    """Yield single events by their log positions, ascending; raises as ``event_batches``.

    Cost: some 10 µs an event in a segment; of history a row group is unpacked, in 10 ms, for all events of it.
    """
    if not len(positions):
        return
    reader = _reader(place)
    for position in positions.tolist():
        yield from reader.read(LogPosition(position), 1, LogPosition(position + 1))


def _reader(place: LogPlace, *, any_generation: bool = False) -> FolderLog:
    reader = open_reader(DataFolder(Path(place.folder) / DATA_NAME))
    identity = reader.identity
    is_same = identity.log_id == place.log_id and (any_generation or identity.generation == place.generation)
    if not is_same:
        raise rewritten(reader.folder, place, identity)
    return reader


def with_positions(positions: object, events: Batch) -> Batch:
    """Return events, as columns, with their log positions: a record batch of ``LOG_SCHEMA``."""
    columns = [pa.array(positions, pa.int64())]
    for field, column in zip(SCHEMA, events.columns, strict=True):
        columns.append(column.cast(pa.timestamp("ms", "UTC")).cast(_TIME) if field.name in _TIMES else column)
    return pa.RecordBatch.from_arrays(columns, schema=LOG_SCHEMA)
