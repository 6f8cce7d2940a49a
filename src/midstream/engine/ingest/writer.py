"""Log writer thread with group commit: takes the queue, writes one frame, syncs, returns the tickets.

Requests that arrive during a sync share the next one, so the rate of events does not depend on the latency of a sync.
The thread uses the log and the clock; it never touches state.
"""

import sys
import threading
from asyncio import Future
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future as ConcurrentFuture
from queue import SimpleQueue
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np

from midstream.core.errors import AppendFailed, CommitTooSlow, DiskFull, MidstreamError, Overloaded
from midstream.core.fold_step import Fingerprints
from midstream.core.kinds import Kind
from midstream.core.protocols import EventLog
from midstream.core.types import Clock, EventBatch, LogPosition, TimestampMs
from midstream.engine.ingest.commit_spans import CommitSpans
from midstream.engine.ingest.input_guard import InputGuard
from midstream.engine.ingest.thread_slice import LOG_SLICE_NS, shorten_slice
from midstream.events.schema import ROW, TIME_SENT, build, concat
from midstream.monitoring.facts import Fact, FieldValue
from midstream.state.ids.event_ids import fingerprints, joined
from midstream.state.structures.hashing import IdKey

_TICK = int(Kind.TICK)
FRAME_EVENTS_MAX = 10_000
"""Events in one frame: 2 MB at 200 B, so that a sync stays in the milliseconds."""
QUEUE_EVENTS_MAX = 100_000
"""Events that wait for the log: 20 MB at 200 B, and a second of work at the slowest measured rate."""
QUEUE_BYTES_MAX = 64 << 20
"""Bytes of those events, 64 MiB: three times 20 MB, and 16 of the largest requests, which are 4 MiB of text each."""
TICK_STEP_MS_MAX = 3_600_000
"""A tick alone moves log time by an hour at most: one ends every session with a gap of up to an hour, later ones the
others. So a clock that is a year ahead does not move the log by a year while no event arrives."""


class RepeatedEvent(NamedTuple):
    """An event that the fold left out, as one of its id was in the log before it: another node had appended that."""

    id_hash: int
    check: int
    """Both of its fingerprint."""
    admission: int
    """``EventAdmission``, not ``NEW``."""


Ticket: TypeAlias = Future[tuple[RepeatedEvent, ...]]
"""Of one request's events: resolved when they are applied, with the copies among them, and maybe some of others."""


class QueueEntry(msgspec.Struct, frozen=True, eq=False):
    """One request's events on their way into the log."""

    batch: EventBatch
    """Not empty."""
    ticket: Ticket | None
    """Resolved by the owner when the events are applied, or were not stored; None without a waiter."""
    prints: Fingerprints | None = None
    """Of the batch, where they were taken already."""
    guard: InputGuard | None = None
    """Condition in a log that several nodes share; a log of one process has one consumer of an input, so none."""
    spans: CommitSpans | None = None
    """Of a traced request; None = it is not traced."""

    @property
    def bytes_count(self) -> int:
        """Bytes of its rows and their texts."""
        return self.batch.rows.nbytes + len(self.batch.text)


class WrittenFrame(msgspec.Struct, frozen=True, eq=False):
    """One frame, or a part of one, handed back to the owner: durable, or not stored because of ``error``."""

    first: LogPosition
    batch: EventBatch
    """All events of the frame, log times stamped."""
    entries: tuple[QueueEntry, ...]
    """Entries of its events, in order; empty for events of another node."""
    error: AppendFailed | CommitTooSlow | None
    """``CommitTooSlow``: of these events alone it is not known whether they are durable, or come to be."""
    append_s: float
    """Seconds that the append took, sync included."""
    prints: Fingerprints | None = None
    """Fingerprints of all events, for the fold; None for events that were not stored."""

    def tickets(self) -> list[tuple[LogPosition, Ticket]]:
        """Return the ticket of each entry with a waiter, with the position after its last event."""
        found: list[tuple[LogPosition, Ticket]] = []
        position = self.first
        for entry in self.entries:
            position = LogPosition(position + len(entry.batch.rows))
            if entry.ticket is not None:
                found.append((position, entry.ticket))
        return found


class Errand:
    """Work for the log thread between two frames, which may put another log in the place of the one it has."""

    def __init__(self, work: Callable[[EventLog], EventLog]) -> None:
        """Call ``work`` with the log; its result is the log from then on."""
        self.work = work
        self.done: ConcurrentFuture[None] = ConcurrentFuture()

    def done_with(self, log: EventLog) -> tuple[EventLog, AppendFailed | None]:
        """Do the work; return the log from then on, and why nothing more may be accepted, None = it may.

        A bug, or no memory, ends the thread that calls this, and whoever waits hears of it.
        """
        try:
            log = self.work(log)
            self.done.set_result(None)
        except AppendFailed as error:
            self.done.set_exception(error)
            return log, error
        except (MidstreamError, OSError) as error:
            self.done.set_exception(error)
        finally:
            if not self.done.done():
                self.done.set_exception(sys.exception())
        return log, None


class LogWriter:
    """A bounded queue in front of the log, and the thread that empties it."""

    def __init__(
        self,
        log: EventLog,
        clock: Clock,
        monotonic: Callable[[], float],
        deliver: Callable[[WrittenFrame], None],
        key: IdKey,
        *,
        keeps_event_time: bool,
    ) -> None:
        """Write to ``log``; call ``deliver`` from the log thread after each frame.

        With ``keeps_event_time`` the events bring their own log time, as in an import into an empty log and in a replay
        that has its own clock. ``key`` is that of ids, for fingerprints of events without an id.
        """
        self._log = log
        self._clock = clock
        self._monotonic = monotonic
        self._deliver = deliver
        self._key = key
        self._keeps_event_time = keeps_event_time
        self._queue: deque[QueueEntry] = deque()
        self._queued = 0
        self._queued_bytes = 0
        self.submitted_entries = 0
        """All that were ever queued; as many come back through ``deliver``, in the same order."""
        self._closing = False
        self._errand: Errand | None = None
        self._failure: AppendFailed | None = None
        self._lock = threading.Lock()
        """Of all that both threads change."""
        self._bell: SimpleQueue[None] = SimpleQueue()
        """The log thread waits here; no lock that Python's own code hands on is taken for it."""
        self._is_rung = False
        """The log thread is awake, or is going to be: it looks at the queue before it waits."""
        self._thread = threading.Thread(target=self._run, name="midstream-log", daemon=True)

    @property
    def queued_events(self) -> int:
        """Events that wait for the log."""
        return self._queued

    def start(self) -> None:
        """Start the log thread."""
        self._thread.start()

    def submit(self, *entries: QueueEntry) -> None:
        """Queue entries, in order and for one commit; their fate comes through ``deliver``.

        Raises:
            Overloaded: The queue is at its maximum, of events or of bytes; nothing was queued.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._closing:
                message = "the log is closing"
                raise Overloaded(message)
            count, bytes_count = require_room(entries, self._queued, self._queued_bytes)
            self._queue.extend(entries)
            self.submitted_entries += len(entries)
            self._queued += count
            self._queued_bytes += bytes_count
            rings, self._is_rung = not self._is_rung, True
        if rings:  # outside of the lock, which the woken thread takes first
            self._bell.put(None)

    def between_frames(self, work: Callable[[EventLog], EventLog]) -> ConcurrentFuture[None]:
        """Run a function on the log thread between two frames.

        Args:
            work: Gets the log; returns the one to write to from then on. If it raises a ``MidstreamError`` or
                ``OSError`` the log stays as it is, except for ``AppendFailed``: the log may accept nothing more. After
                any other exception its state is unknown, and nothing more is accepted either.

        Raises:
            Overloaded: The writer is closing, or runs such a function already.
        """
        errand = Errand(work)
        with self._lock:
            if self._closing or self._errand is not None:
                message = "the log is closing, or being replaced already"
                raise Overloaded(message)
            self._errand = errand
            self._is_rung = True
            self._bell.put(None)
        return errand.done

    def close(self) -> None:
        """Write the queue, then end the thread. Returns when it has ended."""
        with self._lock:
            self._closing = self._is_rung = True
            self._bell.put(None)
        self._thread.join()

    def _run(self) -> None:
        entries: tuple[QueueEntry, ...] = ()
        is_over = False
        try:
            shorten_slice(LOG_SLICE_NS)  # where the kernel has none the thread waits longer for its turns
            while (entries := self._take()) or self._errand is not None:
                if entries:
                    self._deliver(self._append(entries))
                    entries = ()
                if self._errand is not None:
                    self._do_errand()
            is_over = True
        finally:
            if not is_over:
                bug = AppendFailed("the log thread ended by a bug; the log of the process says which")
                self._give_up(entries, bug)

    def _do_errand(self) -> None:
        with self._lock:
            errand, self._errand = self._errand, None
        # Marked as begun: whoever gives up from here on does not leave this thread with nowhere to put the outcome.
        if errand is None or not errand.done.set_running_or_notify_cancel():
            return
        self._log, failure = errand.done_with(self._log)
        if failure is not None:
            self._give_up((), failure)

    def _give_up(self, entries: tuple[QueueEntry, ...], failure: AppendFailed) -> None:
        """Accept nothing more, and fail all waiters: the thread ends."""
        with self._lock:
            self._closing = True
            self._failure = failure
            left = (*entries, *self._queue)
            self._queue.clear()
            self._queued = self._queued_bytes = 0
            errand, self._errand = self._errand, None
        if errand is not None and errand.done.set_running_or_notify_cancel():
            errand.done.set_exception(failure)
        # With nobody's events too: the owner is to know that nothing is taken any more.
        self._deliver(WrittenFrame(self._log.end, left[0].batch if left else build(()), left, failure, 0.0))

    def _take(self) -> tuple[QueueEntry, ...]:
        """Return the entries of the next frame; empty when there is an errand, or nothing will come any more."""
        while True:
            with self._lock:
                if self._queue or self._closing or self._errand is not None:
                    return self._taken()
                self._is_rung = False
            self._bell.get()

    def _taken(self) -> tuple[QueueEntry, ...]:
        """Take the entries of the next frame out of the queue."""
        if self._queued <= FRAME_EVENTS_MAX:
            taken = tuple(self._queue)
            self._queue.clear()
            self._queued = self._queued_bytes = 0
            return taken
        some: list[QueueEntry] = []
        count = 0
        while self._queue and (not some or count + len(self._queue[0].batch) <= FRAME_EVENTS_MAX):
            entry = self._queue.popleft()
            some.append(entry)
            count += len(entry.batch)
        self._queued -= count
        self._queued_bytes -= sum(entry.bytes_count for entry in some)
        return tuple(some)

    def _append(self, entries: tuple[QueueEntry, ...]) -> WrittenFrame:
        began = self._monotonic()
        now_ms = None if self._keeps_event_time else self._clock()
        log, last_ms = self._log, self._log.last_log_time_ms
        batch, prints = entries[0].batch, entries[0].prints
        if len(entries) > 1:
            batch = concat([entry.batch for entry in entries])
            prints = joined([entry.prints or fingerprints(entry.batch, self._key) for entry in entries])
        elif prints is None:
            prints = fingerprints(batch, self._key)
        if now_ms is not None and batch.rows["kind"].item(0) == _TICK and len(batch.rows) == 1:
            now_ms = TimestampMs(min(now_ms, last_ms + TICK_STEP_MS_MAX))
        batch = stamp(batch, last_ms, now_ms)
        first = log.end
        error: AppendFailed | None = None
        try:
            log.append(batch)
        except AppendFailed as failure:  # DiskFull is one: the owner tells them apart
            error = failure
        return WrittenFrame(first, batch, entries, error, self._monotonic() - began, prints)


def stamp(batch: EventBatch, last_log_time_ms: int, now_ms: int | None) -> EventBatch:
    """Return the batch with log times that never go back.

    Args:
        batch: Not empty.
        last_log_time_ms: Of the event before.
        now_ms: The writer's clock; None = each event's own time, for an import into an empty log and a replay with a
            clock of its own: its log time, as from an export, else its event time.

    Returns:
        Rows with ``log_time_ms`` = max(last, now), or the running maximum of the events' times.
    """
    rows = np.frombuffer(bytearray(batch.rows.tobytes()), dtype=ROW)  # a copy field by field takes ten times as long
    if now_ms is None:
        sent = np.where(rows["flags"] & TIME_SENT, rows["event_time_ms"], last_log_time_ms)
        own = np.where(rows["log_time_ms"] > 0, rows["log_time_ms"], sent)
        rows["log_time_ms"] = np.maximum.accumulate(np.maximum(own, last_log_time_ms))
    else:
        rows["log_time_ms"] = max(last_log_time_ms, now_ms)
    return EventBatch(rows, batch.text)


def require_room(entries: Iterable[QueueEntry], queued: int, queued_bytes: int) -> tuple[int, int]:
    """Return the number of events and bytes of entries for which there is room behind what waits already.

    Bytes that are too many by themselves (an import's) are taken when nothing else waits: sent again they would not be
    fewer.

    Raises:
        Overloaded: The queue is at its maximum, of events or of bytes.
    """
    count, bytes_count = 0, 0
    for entry in entries:
        rows = entry.batch.rows
        count += len(rows)
        bytes_count += rows.nbytes + len(entry.batch.text)
    if queued + count > QUEUE_EVENTS_MAX:
        message = f"{queued} events wait for the log, at most {QUEUE_EVENTS_MAX} may"
        raise Overloaded(message)
    if queued and queued_bytes + bytes_count > QUEUE_BYTES_MAX:
        message = f"{queued_bytes} bytes of events wait for the log, at most {QUEUE_BYTES_MAX} may"
        raise Overloaded(message)
    return count, bytes_count


def append_fact(error: AppendFailed | None, end: LogPosition) -> Fact:
    """Return that events cannot be made durable, or (None) can be again, with the end of the log."""
    fields: dict[str, FieldValue] = {"log_position": end}
    if error is None:
        return Fact("append_resumed", fields=fields)
    event = "disk_full" if isinstance(error, DiskFull) else "append_failed"
    return Fact(event, "error", {**fields, "reason": str(error)})
