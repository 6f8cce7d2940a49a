"""Fold scheduler: applies durable events in log order, in short turns between answers.

One thread owns the state; folding and answering take turns on it. A folding turn applies at most 1,000 events or takes
about 1 ms, and while answers are in progress folding gets at most half of the time. Where nothing else is to be folded
events have their turn as soon as they are handed over, one turn in a pass of the event loop: a task that is woken for
it comes behind all that is ready.
"""

import asyncio
import heapq
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import Overloaded
from midstream.core.fold_step import Fingerprints
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.ingest.log_reader import Read, batches
from midstream.engine.ingest.writer import RepeatedEvent, Ticket
from midstream.monitoring.metrics import Metrics
from midstream.state.fold import Fold

TURN_EVENTS_MAX = 1_000
TURN_S_MAX = 0.001
STEP_COST = 250
"""Work between two looks at the clock, an interaction being 1: about 0.3 ms."""
STEP_COST_ALONE = TURN_EVENTS_MAX
"""The same while no answers are made: a whole turn, 1 ms. A step itself costs as much as 30 events, and tables put each
other out of the cache at each: 500 take a tenth more an event."""
SHARED_TURN_S_MAX = 0.0003
"""Of a turn where several engines share the loop and answers are made: those of others wait for it too."""
SHARED_STEP_MIN = 8
"""Events of a step there at least, however long each took: a step costs as much as 30 interactions."""
DOCUMENT_COST = 25
"""An item or user event: its JSON is read and merged, 30 µs where an interaction takes 1. A retraction is a step of the
fold by itself, and costs as much as 30."""
SERVED_BYTES = 2_048
"""Bytes of a served record's body that take the time of one interaction: a request's own items make some 300 kB."""
WAITERS_MAX = 1_000
"""Requests that wait for a log position; each holds a connection, and more would only time out."""


_ITEM = int(Kind.ITEM)
_USER = int(Kind.USER)
_SERVED = int(Kind.SERVED)
_RETRACTION = int(Kind.RETRACTION)
_LIGHT = bytes(kind for kind in range(256) if kind not in {_ITEM, _USER, _SERVED, _RETRACTION})
"""Kinds of events that take no more than an interaction."""


@dataclass(slots=True)
class Durable:
    """Events that are durable and not applied yet."""

    first: LogPosition
    batch: EventBatch
    prints: Fingerprints | None = None
    """Of the batch, where they were taken already."""
    tells_copies: bool = False
    """Whether those who wait are told which of the events were copies."""
    applied: int = 0
    """Events of the batch that are in the state."""


@dataclass(slots=True, order=True)
class _Waiter:
    position: int
    number: int
    future: asyncio.Future[None] = field(compare=False)


@dataclass(slots=True)
class FoldShare:
    """Folding and answers of all engines of one event loop: together they fold half of the time while any answers."""

    answers: int = 0
    """Answers made by any of them."""
    next_at: float = 0.0
    """Before this nobody begins a further turn: the one before took as long as there is from its end to here."""
    is_shared: bool = False
    """Whether there is more than one engine."""


class FoldScheduler:
    """Queue of durable events, the turns that apply them, and waiters for a log position."""

    def __init__(
        self, fold: Fold, monotonic: Callable[[], float], metrics: Metrics, share: FoldShare | None = None
    ) -> None:
        """Fold into ``fold``; a failure in a table ends the turns for good and is kept in ``failure``.

        Args:
            fold: The state.
            monotonic: Seconds that never go back.
            metrics: Counts.
            share: Of all engines of the event loop; None = there is no other.
        """
        self.fold = fold
        """The state in service. Another one at the same log position may take its place between two turns."""
        self.failure: BaseException | None = None
        self._monotonic = monotonic
        self._metrics = metrics
        self._durable: deque[Durable] = deque()
        self._tickets: deque[tuple[LogPosition, Ticket]] = deque()
        self._copies: deque[tuple[LogPosition, RepeatedEvent]] = deque()
        """Since the last ticket, with the position before each: of an entry in parts the last one has its ticket."""
        self._waiters: list[_Waiter] = []
        self._numbers = count()
        self._work = asyncio.Event()
        self._emptied: asyncio.Event | None = None
        """Of the stop that waits until all is folded."""
        self._share = share or FoldShare()
        self._answers_before = self._share.answers
        """Their count at the turn before."""
        self._step_cost = STEP_COST
        self._event_s = 0.0
        """Of an event in the newest steps, where engines share the loop: a served record takes as long as 20 acts."""
        self._rests = False
        """Whether all is folded, and the last turn has made room."""
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Requests that wait for a log position."""
        return len(self._waiters)

    def start(self) -> None:
        """Begin to take turns on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="midstream-fold")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Apply all that is durable, then end."""
        if self._durable and self.failure is None:
            self._emptied = asyncio.Event()
            await self._emptied.wait()
        self._rests = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def add(
        self,
        first: LogPosition,
        batch: EventBatch,
        tickets: Iterable[tuple[LogPosition, Ticket]],
        prints: Fingerprints | None = None,
        *,
        tells_copies: bool = False,
    ) -> None:
        """Queue durable events, or fold them; each ticket is resolved when the state reaches its position, in order.

        With ``tells_copies`` it is resolved with the copies among them, of which others may have appended the first
        ones meanwhile: ``prints`` have to be there, and no two of the events may have one id. Else there are none.
        """
        self._tickets.extend(tickets)
        if self.failure is not None:
            self._give_up()
            return
        self._durable.append(Durable(first, batch, prints, tells_copies))
        if self._rests and not (self._share.is_shared and self._is_others_turn()):
            self._begin_at_once()
        else:
            self._rests = False
            self._work.set()

    def _is_others_turn(self) -> bool:
        """Return whether answers have the time that the last turn of any engine of this loop took."""
        return self._share.is_shared and self._monotonic() < self._share.next_at

    def _begin_at_once(self) -> None:
        """Take the first turn of what was queued. An error ends the turns as one of the task does, and is raised."""
        self._rests, is_whole = False, False
        try:
            self._take_turn(self._monotonic())
            is_whole = True
        finally:
            if not is_whole:
                self._end(sys.exception())
        self._answers_before = self._share.answers
        if self._durable:
            self._work.set()
        else:  # one turn in a pass of the event loop: what else is handed over in it is the task's
            asyncio.get_running_loop().call_soon(self._rest)

    def _rest(self) -> None:
        """Take the next events at once, if nothing is queued and the turns have not ended."""
        task = self._task
        is_ended = task is None or task.done() or task.cancelling() > 0
        self._rests = not (is_ended or self._durable or self._work.is_set())

    def note_answer(self) -> None:
        """An answer was made: while there are answers, folding keeps to half of the time."""
        self._share.answers += 1

    async def reached(self, position: LogPosition, timeout_s: float) -> bool:
        """Wait until a position is applied; return False when the time is over before.

        Raises:
            Overloaded: As many requests wait as may.
        """
        if self.fold.log_position >= position:
            return True
        if len(self._waiters) >= WAITERS_MAX:
            message = f"{WAITERS_MAX} requests wait for a log position already"
            raise Overloaded(message)
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, _Waiter(position, next(self._numbers), future))
        try:
            await asyncio.wait((future,), timeout=max(timeout_s, 0.0))
        finally:
            is_reached = future.done()
            if not is_reached:  # the time is over, or whoever asked is gone: its place is another's
                future.cancel()
                self._waiters = [waiter for waiter in self._waiters if not waiter.future.cancelled()]
                heapq.heapify(self._waiters)
        return is_reached

    async def progress(self, timeout_s: float) -> bool:
        """Wait until anything more is applied; return False when the time is over before.

        Raises:
            Overloaded: As many requests wait as may.
        """
        return await self.reached(LogPosition(self.fold.log_position + 1), timeout_s)

    async def bring_up(self, fold: Fold, read: Read) -> None:
        """Fold the log into a state beside the one in service, until both are at the same position.

        Its turns are twice as long as those of the state in service, so that it catches up at any rate of events;
        answers in progress get half of the time, as beside any folding. After its return nothing has been awaited since
        the two were equal, so they can be swapped.

        Args:
            fold: At or behind the position of the state in service.
            read: Of the log.
        """
        answers = self._share.answers
        ahead: Iterator[tuple[LogPosition, EventBatch]] = iter(())
        while True:
            began = self._monotonic()
            budget = 2 * TURN_EVENTS_MAX
            while budget > 0 and self._monotonic() < began + 2 * TURN_S_MAX:
                first, batch = next(ahead, (fold.log_position, None))
                if batch is None:
                    if fold.log_position == self.fold.log_position:
                        return
                    ahead = steps(batches(read, fold.log_position, self.fold.log_position))
                    continue
                fold.apply(first, batch)
                budget -= len(batch)
            answers = await self._make_room(answers, began, waits=True)
            if self.failure is not None:
                raise self.failure

    async def _run(self) -> None:
        self._answers_before = self._share.answers
        while True:
            self._rests = not self._durable
            await self._work.wait()
            while self._is_others_turn():  # noqa: ASYNC110  as below
                await asyncio.sleep(0)
            began = self._monotonic()
            self._take_turn(began)
            if not self._durable:
                self._work.clear()
            self._answers_before = await self._make_room(self._answers_before, began, waits=bool(self._durable))

    def _take_turn(self, began: float) -> None:
        is_beside_answers = self._share.answers > self._answers_before
        self._step_cost = STEP_COST if is_beside_answers else STEP_COST_ALONE
        is_short = is_beside_answers and self._share.is_shared
        if is_short and self._event_s:
            self._step_cost = max(SHARED_STEP_MIN, min(STEP_COST, int(SHARED_TURN_S_MAX / self._event_s)))
        self._turn(began + (SHARED_TURN_S_MAX if is_short else TURN_S_MAX))
        ended = self._monotonic()
        self._metrics.turn_seconds.observe(ended - began)
        if self._share.answers > self._answers_before:
            self._share.next_at = ended + (ended - began)
        if not self._durable and self._emptied is not None:
            self._emptied.set()

    async def _make_room(self, answers: int, began: float, *, waits: bool) -> int:
        """Let others take turns, for as long as this turn took while answers run; return the count of answers.

        Args:
            answers: Their count at the turn before.
            began: Start of this turn.
            waits: More events are queued; otherwise the next turn begins at once.
        """
        ended = self._monotonic()
        made = self._share.answers
        await asyncio.sleep(0)
        is_due = waits and made > answers
        while is_due and self._monotonic() - ended < ended - began:  # noqa: ASYNC110  a timer sleeps 1 ms
            await asyncio.sleep(0)
        return made

    def _turn(self, until: float) -> None:
        budget = TURN_EVENTS_MAX
        while self._durable and budget > 0:
            head = self._durable[0]
            start, rows, step, prints = head.applied, head.batch.rows, head.batch, head.prints
            count = len(rows)
            stop = start + step_length(rows[start : start + min(self._step_cost, budget)])
            if stop - start < count:
                # Views: a step reads texts by where they lie, whatever lies before and behind them.
                step = EventBatch(rows[start:stop], head.batch.text)
                prints = None if prints is None else prints[start:stop]
            if head.tells_copies and prints is not None:
                self._copies.extend(self._found_copies(prints))
            began = self._monotonic() if self._share.is_shared else 0.0
            self.fold.apply(LogPosition(head.first + start), step, prints)
            head.applied = stop
            budget -= stop - start
            if stop == count:
                self._durable.popleft()
            now = self._monotonic()
            if self._share.is_shared:
                self._event_s = max((now - began) / (stop - start), self._event_s / 2)
            if now >= until:
                break
        while self._tickets and self._tickets[0][0] <= self.fold.log_position:
            stop, ticket = self._tickets.popleft()
            copies = self._copies_before(stop) if self._copies else ()
            if not ticket.done():
                ticket.set_result(copies)
        while self._waiters and self._waiters[0].position <= self.fold.log_position:
            waiter = heapq.heappop(self._waiters)
            if not waiter.future.done():
                waiter.future.set_result(None)

    def _found_copies(self, prints: Fingerprints) -> Iterator[tuple[LogPosition, RepeatedEvent]]:
        """Yield those of the next events, of which no two have one id, that the state has already."""
        found = self.fold.event_ids.find(prints)
        for row in np.flatnonzero(found).tolist():
            copy = RepeatedEvent(int(prints.id_hash[row]), int(prints.check[row]), int(found[row]))
            yield LogPosition(self.fold.log_position + row), copy

    def _copies_before(self, stop: LogPosition) -> tuple[RepeatedEvent, ...]:
        """Return the copies before a position; they are told once."""
        told: list[RepeatedEvent] = []
        while self._copies and self._copies[0][0] < stop:
            told.append(self._copies.popleft()[1])
        return tuple(told)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Keep the error that ended the turns: a table that raises is a bug, and nothing is applied after it."""
        if not task.cancelled():
            self._end(task.exception())

    def _end(self, failure: BaseException | None) -> None:
        self.failure = failure
        if self._emptied is not None:
            self._emptied.set()
        self._give_up()

    def _give_up(self) -> None:
        """Drop queued events that will never be applied, and fail their waiters."""
        self._durable.clear()
        self._copies.clear()
        while self._tickets:
            ticket = self._tickets.popleft()[1]
            if not ticket.done() and self.failure is not None:
                ticket.set_exception(self.failure)


def steps(events: Iterable[tuple[LogPosition, EventBatch]]) -> Iterator[tuple[LogPosition, EventBatch]]:
    """Yield events in parts of one step's work."""
    for first, batch in events:
        start = 0
        while start < len(batch):
            stop = start + step_length(batch.rows[start : start + STEP_COST])
            yield LogPosition(first + start), EventBatch(batch.rows[start:stop], batch.text)
            start = stop


def step_length(rows: NDArray[np.void]) -> int:
    """Return the number of events, rows of a batch, at least one, that make one step.

    Cost: 1 µs where all are interactions, or for a few of usual size, such as a batch of served records; 20 µs where
    they must be counted.
    """
    if len(rows) == 1 or not rows["kind"].tobytes().translate(None, _LIGHT):
        return len(rows)
    bodies = int(rows["body_length"].sum()) // SERVED_BYTES
    if len(rows) * DOCUMENT_COST + bodies <= STEP_COST:
        return len(rows)
    kind = rows["kind"]
    is_document = (kind == _ITEM) | (kind == _USER) | (kind == _RETRACTION)
    if not is_document.any() and len(rows) + bodies <= STEP_COST:
        return len(rows)
    is_served = kind == _SERVED
    cost = np.where(is_document, DOCUMENT_COST, 1 + is_served * (rows["body_length"] // SERVED_BYTES)).cumsum()
    return max(1, int(np.searchsorted(cost, STEP_COST, side="right")))
