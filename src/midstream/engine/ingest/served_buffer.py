"""Buffer of served records on their way to the log: no caller waits for them, so they are written in small batches.

Records for which the queue has no room are kept and submitted again, up to a maximum; beyond it the oldest are lost,
counted, and reported in health. A record leaves the buffer only when the queue has it, and returns when the disk was
full. One that reaches the log twice counts once, as the fold deduplicates by request id.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress

from midstream.core.errors import AppendFailed, CommitTooSlow, DiskFull, Overloaded
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch
from midstream.engine.ingest.event_writer import EventWriter
from midstream.engine.ingest.served_forwarder import Forwarding
from midstream.engine.ingest.writer import QueueEntry, WrittenFrame
from midstream.events.schema import Event, build, event_at
from midstream.monitoring.metrics import Metrics

LINGER_S = 0.02
"""A record waits this long for others, or for the next event: at 1,000 answers a second 20 share one sync."""
LOT_EVENTS_MAX = 256
"""150 kB at 600 bytes a record: goes at once."""
LOT_BYTES_MAX = 1 << 20
"""Of bodies; the one that reaches it goes at once. A ranking of 1,000 items has 30 kB, with a field of each 60."""
KEPT_EVENTS_MAX = 10_000
"""Records that the log has no room for: ten seconds at 1,000 answers a second, 6 MB at 600 bytes."""
KEPT_BYTES_MAX = 16 << 20
"""Bytes of those, 16 MiB: a quarter of what may wait for the log itself."""
AGAIN_S = 0.1
"""Retry interval of kept records: a queue of 100,000 events takes a second."""
AGAIN_FULL_S = 1.0
"""Retry interval after the disk was full, which an operator has to end."""
STOP_S_MAX = 5.0
"""How long the end of a process waits for room."""
LOST_SHOWN_S = 600.0
"""Time for which health reports lost records, after the last of them."""
CONCERN = "served"


class ServedBuffer:
    """Collects served records; they reach the log before any later event of a caller."""

    def __init__(
        self,
        writer: EventWriter | Forwarding,
        is_refused: Callable[[], bool],
        metrics: Metrics,
        concerns: dict[str, str] | None = None,
    ) -> None:
        """Submit to ``writer`` unless ``is_refused`` returns that the log is closed; report losses in both."""
        self.on_lost: Callable[[Collection[str]], object] = len
        """Told the ids of the requests whose records are lost: nobody needs to wait for them."""
        self._writer = writer
        self._is_refused = is_refused
        self._metrics = metrics
        self._concerns = {} if concerns is None else concerns
        self._events: list[Event] = []
        self._bytes = 0
        self._lots: deque[QueueEntry] = deque()
        """What was collected before, and is not handed over."""
        self._lost = 0
        self._returned = 0
        """Entries of the frames that were handed back."""
        self._timer: asyncio.TimerHandle | None = None
        self._shown: asyncio.TimerHandle | None = None

    def add(self, event: Event) -> None:
        """Take a record; it is in the log some milliseconds later."""
        self._events.append(event)
        self._bytes += len(event.body)
        if len(self._events) >= LOT_EVENTS_MAX or self._bytes >= LOT_BYTES_MAX:
            self.flush()
        elif self._timer is None:
            self._again_in(LINGER_S)

    def add_lot(self, lot: EventBatch) -> None:
        """Take records that another process collected."""
        self._pack()
        self._lots.append(QueueEntry(lot, None))
        self.flush()

    def submit(self, entry: QueueEntry) -> None:
        """Submit an event with all records collected before it, in one commit, or nothing of either.

        Raises:
            Overloaded: The queue is at its maximum; collected records stay here.
            AppendFailed: The log accepts nothing more.
        """
        if self._events:
            self._pack()
        if not self._lots:
            self._writer.submit(entry)
            return
        if self._is_refused():
            self._lose(self._lots)
        self._writer.submit(*self._lots, entry)
        self._lots.clear()
        self._stop_timer()

    def flush(self) -> None:
        """Submit the collected records; where there is no room, keep them and try again."""
        self._stop_timer()
        self._pack()
        if self._is_refused():
            self._lose(self._lots)
        try:
            with suppress(Overloaded):  # then there may be room for some of them
                if len(self._lots) > 1:  # in one commit: alone, one that is given back behind another would be lost
                    self._writer.submit(*self._lots)
                    self._lots.clear()
            while self._lots:
                self._writer.submit(self._lots[0])
                self._lots.popleft()
        except Overloaded:
            self._metrics.count_overload("served")
            self._keep(AGAIN_S)
        except AppendFailed:
            self._lose(self._lots)

    def handed_back(self, written: WrittenFrame) -> None:
        """Take back submitted records that were not stored for want of room; called for every frame.

        They go in front of all later ones, so only where nothing else was queued since; otherwise they are lost.
        """
        self._returned += len(written.entries)
        if written.error is None:
            return
        served = [
            each for each in written.entries if each.ticket is None and (each.batch.rows["kind"] == Kind.SERVED).all()
        ]
        self._lots.extendleft(reversed(served))
        is_last = not isinstance(self._writer, Forwarding) and self._writer.submitted_entries == self._returned
        if not isinstance(written.error, DiskFull | CommitTooSlow):
            self._lose(self._lots)
        elif served and is_last:
            self._keep(AGAIN_FULL_S)
        elif served:
            self._lose(deque(self._lots.popleft() for _ in served))

    async def drain(self) -> None:
        """Submit all records before the writer closes, waiting a little for room; the rest is lost."""
        loop = asyncio.get_running_loop()
        until = loop.time() + STOP_S_MAX
        self.flush()
        while self._lots and loop.time() < until:
            await asyncio.sleep(AGAIN_S)
            self.flush()
        self._lose(self._lots)
        self._stop_timer()

    def _pack(self) -> None:
        events, self._events, self._bytes = self._events, [], 0
        if events:
            self._lots.append(QueueEntry(build(events), None))

    def _keep(self, again_s: float) -> None:
        """Keep the newest records within the maximum: the next slate reads the latest ones."""
        events = sum(len(lot.batch) for lot in self._lots)
        bytes_count = sum(lot.bytes_count for lot in self._lots)
        surplus: deque[QueueEntry] = deque()
        while self._lots and (events > KEPT_EVENTS_MAX or bytes_count > KEPT_BYTES_MAX):
            lot = self._lots.popleft()
            events, bytes_count = events - len(lot.batch), bytes_count - lot.bytes_count
            surplus.append(lot)
        self._lose(surplus)
        self._again_in(again_s)

    def _lose(self, lots: deque[QueueEntry]) -> None:
        """Drop batches, and report it."""
        if not lots:
            return
        gone = {event_at(lot.batch, row).request_id for lot in lots for row in range(len(lot.batch))}
        lots.clear()
        self._lost += len(gone)
        self._metrics.served_lost.inc(len(gone))
        self.on_lost(gone)
        self._concerns[CONCERN] = (
            f"{self._lost} served records were lost since the start, as the log took no more: their slates cannot be "
            "explained, and what follows from them teaches nothing"
        )
        if self._shown is not None:
            self._shown.cancel()
        self._shown = asyncio.get_running_loop().call_later(LOST_SHOWN_S, self._concerns.pop, CONCERN, None)

    def _again_in(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.flush)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
