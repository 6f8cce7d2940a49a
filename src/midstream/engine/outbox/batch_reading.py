"""Sequential reading of a log in bounded batches, beside the process that appends; it goes on where it stopped."""

from collections.abc import Iterator

from midstream.core.protocols import LogReader
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.ingest.log_reader import batches
from midstream.events.schema import cut


class BatchReading:
    """Reads forward with one reader, which knows where the last read ended. One thread at a time."""

    def __init__(self, reader: LogReader, events_max: int) -> None:
        """Read with ``reader``, at most ``events_max`` events at once."""
        self._reader = reader
        self._events_max = events_max
        self._ahead: Iterator[tuple[LogPosition, EventBatch]] = iter(())
        self._next = LogPosition(-1)

    def next(self, after: LogPosition, upto: LogPosition) -> EventBatch:
        """Return the events at and after a position, at least one.

        Args:
            after: Where the batch begins.
            upto: All events before it are durable; it is after ``after``.

        Raises:
            LogDamaged: A checksum does not match.
            LogRewritten: The log was rewritten.
            EventsGone: The log was cut after the position.
        """
        first, batch = next(self._ahead, (LogPosition(-1), None)) if after == self._next else (LogPosition(-1), None)
        if batch is None or first != after:
            self._ahead = self._batches(after, upto)
            _, batch = next(self._ahead)
        self._next = LogPosition(after + len(batch))
        return batch

    def _batches(self, after: LogPosition, upto: LogPosition) -> Iterator[tuple[LogPosition, EventBatch]]:
        for first, batch in batches(lambda at, limit: self._reader.read(at, limit, upto), after, upto):
            for start in range(0, len(batch), self._events_max):
                yield LogPosition(first + start), cut(batch, start, min(start + self._events_max, len(batch)))
