"""Recording of event batches: from their admission to the acknowledgement that they are durable and applied.

Runs on the thread that owns the state. A batch of new events, as nearly all are, takes one coroutine and one wake: its
ticket is resolved behind the fold, and its release there wakes the request (``Deduplication.release``).
"""

import asyncio
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from midstream.core.columns import has_any
from midstream.core.errors import MidstreamError, Overloaded
from midstream.core.types import EventBatch
from midstream.engine.ingest.commit_dispatcher import BEHIND_EVENTS_MAX, CommitDispatcher, CommitState
from midstream.engine.ingest.commit_spans import CommitSpans
from midstream.engine.ingest.dedupe import Admitted, Deduplication
from midstream.engine.ingest.fold_scheduler import FoldScheduler
from midstream.engine.ingest.input_guard import InputGuard
from midstream.engine.ingest.served_buffer import ServedBuffer
from midstream.engine.ingest.waiting import Deadlines, done_by
from midstream.engine.ingest.writer import QueueEntry, RepeatedEvent, Ticket
from midstream.engine.types import Outcome, Recorded
from midstream.monitoring.metrics import EventOutcome, Metrics
from midstream.monitoring.tracing import current

_OUTCOMES: tuple[tuple[int, EventOutcome], ...] = (
    (int(Outcome.RECORDED), "recorded"),
    (int(Outcome.DUPLICATE), "duplicate"),
    (int(Outcome.CONFLICT), "conflict"),
    (int(Outcome.REFUSED), "refused"),
)


class EventRecording:
    """Admits batches, queues them for the log, and waits until they are applied."""

    def __init__(
        self,
        live: CommitState,
        monotonic: Callable[[], float],
        folding: FoldScheduler,
        commits: CommitDispatcher,
        intake: Deduplication,
        outbox: ServedBuffer,
    ) -> None:
        """Record into the log of ``live``, through ``outbox``; ``monotonic`` gives seconds that never go back."""
        self._live = live
        self._monotonic = monotonic
        self._folding = folding
        self._commits = commits
        self._intake = intake
        self._outbox = outbox
        self._deadlines = Deadlines(monotonic)
        self._late: set[asyncio.Task[Recorded]] = set()
        """Events whose senders wait no more."""

    async def record(self, batch: EventBatch, guard: InputGuard | None, within_s: float | None) -> Recorded:
        """Make events durable and apply them, as ``Engine.record`` does."""
        self._require_open()
        if self._intake.ends_in_positions(batch):
            await self._intake.await_copies(batch)
        loop = asyncio.get_running_loop()
        ticket: Ticket = loop.create_future()
        admitted = self._intake.admit(batch, ticket)
        spans = None if (trace := current()) is None else CommitSpans(trace)
        if has_rows := len(admitted.batch.rows) > 0:
            self._submit(QueueEntry(admitted.batch, ticket, admitted.prints, guard, spans), admitted, ticket)
        try:
            if has_rows and admitted.is_new:  # without a coroutine that each wake would enter too
                waiter = admitted.waiter = loop.create_future()
                if within_s is not None:
                    self._deadlines.add(waiter, within_s)
                try:
                    await waiter
                finally:
                    self._deadlines.until.pop(waiter, None)
                recorded = self._acknowledged(admitted, _result(ticket))
            else:
                recorded = await self._settled(admitted, ticket, within_s)
        except (TimeoutError, asyncio.CancelledError):  # its events go on, and count when they are applied
            late = asyncio.create_task(self._settled(admitted, ticket, None))
            self._late.add(late)
            late.add_done_callback(self._hear_late)
            raise
        if spans is not None:
            spans.note_applied()
        return recorded

    def _require_open(self) -> None:
        """Refuse events that could not be appended and applied now.

        Raises:
            AppendFailed: The log accepts nothing more.
            Overloaded: Too many durable events wait to be applied.
        """
        if self._folding.failure is not None:
            raise self._folding.failure
        if self._commits.refusal is not None and self._commits.is_closed:
            raise self._commits.refusal
        live = self._live
        behind = live.log.end - live.fold.log_position
        if behind > BEHIND_EVENTS_MAX:
            live.metrics.count_overload("events")
            message = f"{behind} durable events wait to be applied, at most {BEHIND_EVENTS_MAX} may"
            raise Overloaded(message)

    def _submit(self, entry: QueueEntry, admitted: Admitted, ticket: Ticket) -> None:
        """Queue admitted events for the log; where there is no room they are released, and an error is raised."""
        try:
            self._outbox.submit(entry)
        except MidstreamError as error:
            if isinstance(error, Overloaded):
                self._live.metrics.count_overload("events")
            ticket.cancel()
            self._intake.release(admitted, ticket)
            raise
        ticket.add_done_callback(partial(self._intake.release, admitted))

    def _hear_late(self, late: asyncio.Task[Recorded]) -> None:
        self._late.discard(late)
        if not late.cancelled():
            late.exception()  # seen: its waiter was told that nothing is known

    async def _settled(self, admitted: Admitted, ticket: Ticket, within_s: float | None) -> Recorded:
        """Return the outcome of events once they are durable and applied, as are those that they are copies of.

        Raises:
            TimeoutError: The time is over; nothing is counted.
            MidstreamError: An event, or the first copy of one, was not stored; what was is counted.
        """
        monotonic = self._monotonic
        until = None if within_s is None else monotonic() + within_s
        copies: tuple[RepeatedEvent, ...] = ()
        if len(admitted.batch.rows):
            copies = await done_by(ticket, until, monotonic)
            admitted.note(copies)
        try:
            for first_copy in admitted.first_copies:
                await done_by(first_copy, until, monotonic)
        except MidstreamError:  # what this batch itself recorded is durable, and a copy when all of it comes again
            count_outcomes(admitted.outcome[admitted.outcome == Outcome.RECORDED], self._live.metrics)
            raise
        return self._acknowledged(admitted, copies)

    def _acknowledged(self, admitted: Admitted, copies: tuple[RepeatedEvent, ...]) -> Recorded:
        """Return the outcome of events that are applied, ``copies`` perhaps among them, and count it."""
        if copies:
            admitted.note(copies)
        outcome, live = admitted.outcome, self._live
        if admitted.is_new:
            live.metrics.count_events("recorded", len(outcome))
        else:
            count_outcomes(outcome, live.metrics)
        return Recorded(live.fold.log_position, outcome, admitted.erased, is_plain=admitted.is_new)


def _result(ticket: Ticket) -> tuple[RepeatedEvent, ...]:
    """Return the result of a ticket whose waiter was woken.

    Raises:
        TimeoutError: The time was over before.
    """
    if not ticket.done():
        raise TimeoutError
    return ticket.result()


def count_outcomes(outcome: NDArray[np.uint8], metrics: Metrics) -> None:
    """Count outcomes of events."""
    if not has_any(outcome):  # as of nearly every batch
        if len(outcome):
            metrics.count_events("recorded", len(outcome))
        return
    counts = np.bincount(outcome, minlength=len(_OUTCOMES)).tolist()
    for each, name in _OUTCOMES:
        if counts[each]:
            metrics.count_events(name, counts[each])
