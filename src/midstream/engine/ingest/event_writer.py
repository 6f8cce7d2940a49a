"""Writer of events: what an engine needs of the way into its log, whether the log is its own or several nodes share it.

``LogWriter`` writes a log of one process. ``engine.replication`` has one for a topic that every node appends to and
reads; there ``deliver`` brings events of other nodes too, without entries.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from midstream.core.protocols import EventLog
from midstream.engine.ingest.writer import QueueEntry


class EventWriter(Protocol):
    """A bounded queue in front of a log. What was queued comes back through ``deliver``, each entry once."""

    @property
    def queued_events(self) -> int:
        """Events that wait for the log."""
        ...

    @property
    def submitted_entries(self) -> int:
        """All that were ever queued; as many come back."""
        ...

    def start(self) -> None:
        """Begin to write."""
        ...

    def submit(self, *entries: QueueEntry) -> None:
        """Queue entries, in order; their fate comes through ``deliver``.

        Raises:
            Overloaded: The queue is at its maximum; nothing was queued.
            AppendFailed: The log accepts nothing more.
        """
        ...

    def between_frames(self, work: Callable[[EventLog], EventLog]) -> Future[None]:
        """Run a function on the log thread between two frames; its result is the log from then on.

        Raises:
            Overloaded: The writer is closing, or runs such a function already.
        """
        ...

    def close(self) -> None:
        """Write what is queued, or give it up after a bounded time; return when nothing more is delivered."""
        ...
