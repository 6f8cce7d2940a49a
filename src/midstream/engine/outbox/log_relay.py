"""Message relay of a transactional outbox: delivers the log to a destination, by position, as it is applied.

An event is in the log or it never was, so the log itself is the outbox: nothing is written twice, and what a crash
takes back was never delivered. The relay asks the destination how far it has come, reads on from there up to the
position that is durable and applied, and delivers bounded batches, one at a time and in order. After any error it asks
again, as the failed delivery may have come into effect. So each event is delivered, and none twice where the
destination stores events and position in one transaction.

The position names the log and the log time before it. A log of another name, one that ends before the position, and
one with another event there (a backup was restored and went on) stop the relay until an operator moves it, and so does
a log that was cut after the position. A rewrite by an erasure keeps positions and times: the relay goes on in it.

Reference: Richardson, "Microservices Patterns", 2018, chapter 3 (transactional outbox, message relay).
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from midstream.core.errors import EventsGone, LogRewritten, MidstreamError, Overloaded
from midstream.core.protocols import EventLog, LogReader
from midstream.core.types import EventBatch, LogPosition, TimestampMs
from midstream.engine.background_service import BackgroundService
from midstream.engine.lease import OWN, Lease
from midstream.engine.listeners import Listener, Listeners
from midstream.engine.outbox.batch_reading import BatchReading
from midstream.engine.outbox.log_destination import DeliveredPosition, DestinationUnavailable, LogDestination
from midstream.events.schema import build
from midstream.state.fold import Fold

EVENTS_MAX = 5_000
"""Events of one delivery: 1 MB at 200 B, and few enough that a fold turn is never waited for long."""
DELIVER_S_MAX = 60.0
"""Of one call of the destination: twice as long as brokers wait before they give a transaction up."""
BACK_OFF_S_MAX = 2.0
"""Longest wait after an error, so that a destination that is back has events within five seconds."""
STOP_S_MAX = 2.0
"""How long a stop waits for the delivery under way; after that it is cancelled, and the next start asks how it went."""
LOOK_S_MAX = 1.0
"""Between two looks for events when nothing tells of a commit."""
CROWDED_S = 0.01
"""Between two looks while as many requests wait for a log position as may."""
MOVE_S_MAX = 70.0
"""How long an order to move waits: for one call of the destination, then its own."""
STOPPED_S = 5.0
"""A relay that waits for an operator asks the destination again so often where other nodes may be told to move it."""
STAND_BY_S = 0.25
"""Between two looks whether this node is to deliver."""
END_LOOK_S = 0.05
"""Between two looks whether the destination has all events."""
Start = Literal["now", "beginning"]
State = Literal["starting", "delivering", "idle", "standing_by", "failing", "stopped"]
T = TypeVar("T")


class RelayStopped(MidstreamError):
    """The log cannot be read on from where the destination stands; an operator has to move the relay."""


class RelayEngine(Protocol):
    """The engine as a relay sees it."""

    @property
    def fold(self) -> Fold:
        """The state in service; its position is durable and applied."""
        ...

    @property
    def log(self) -> EventLog:
        """The log in service."""
        ...

    @property
    def listeners(self) -> Listeners:
        """What is called after commits and swaps."""
        ...

    @property
    def concerns(self) -> MutableMapping[str, str]:
        """Texts for an operator, by subject; health shows them."""
        ...

    async def reached(self, position: LogPosition, timeout_s: float) -> bool:
        """Wait for a log position."""
        ...

    def supervise(
        self, name: str, one_round: Callable[[], Awaitable[None]], pause_s: float, *, first_s: float | None = None
    ) -> BackgroundService:
        """Return a loop whose errors are named by health and metrics."""
        ...


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """Options of one relay."""

    name: str
    """Stable, ``snake_case``, such as ``output_orders``: of its task, its metrics and its concerns."""
    log: str
    """Public name of the log."""
    start: Start = "beginning"
    """Where a destination without a position begins: at the oldest event, or behind the newest one."""
    is_shared: bool = False
    """Other machines deliver the same log too, one at a time, so the destination may be ahead of this one."""
    events_max: int = EVENTS_MAX
    move_command: str = "midstream outputs move"
    """Named in the concern of a relay that stopped."""


@dataclass(frozen=True, slots=True)
class RelayView:
    """State of a relay, for health and metrics."""

    name: str
    state: State
    reason: str
    """Why it stopped or fails; empty while all is well."""
    position: LogPosition | None
    """Where the destination stands, as far as is known; None = it was not reached yet."""
    lag_events: int
    """Applied events that the destination has not; -1 = not known."""
    lag_ms: int
    """Log time between the newest applied event and the last delivered one; 0 when none is missing, -1 = not known."""
    delivered: int
    """Events that were delivered since the start."""
    deliveries: int
    """Batches of them."""
    owner: str = ""
    """Node of a shared log that delivers; empty = none, or the log is that of one node."""


class LogRelay:
    """Delivers one log to one destination. On the event loop's thread; files are read on another one."""

    def __init__(
        self,
        options: RelayOptions,
        engine: RelayEngine,
        open_log: Callable[[], LogReader],
        destination: LogDestination,
    ) -> None:
        """Prepare a relay that is not started.

        Args:
            options: Name, log, where to begin.
            engine: Its applied events are delivered.
            open_log: Opens a reader of the log as it is now; called again after a rewrite, on another thread.
            destination: Taken over: closed by ``stop``.
        """
        self.lease: Lease = OWN
        """Right to deliver; to be set before the start."""
        self._options = options
        self._engine = engine
        self._open_log = open_log
        self._destination = destination
        self._turn = asyncio.Lock()
        self._news, self._moved = asyncio.Event(), asyncio.Event()
        self._is_stopping = False
        self._writing = 0
        """How often another writing of the log, or another state, was put in service."""
        self._reading: BatchReading | None = None
        self._position: DeliveredPosition | None = None
        """Where the destination stands; None = it has to be asked."""
        self._known: DeliveredPosition | None = None
        """The same, as far as it was last known."""
        self._stopped = ""
        self._delivered = self._deliveries = 0
        self._loop = engine.supervise(options.name, self._round, 0.0, first_s=0.0)
        self._loop.back_off_s_max = BACK_OFF_S_MAX
        engine.listeners.add(Listener(name=options.name, committed=self._news.set, swapped=self._forget_log))

    def start(self) -> None:
        """Begin on the running event loop."""
        self._loop.start()

    async def stop(self) -> None:
        """End after the delivery under way, where it does within ``STOP_S_MAX``; then close the destination."""
        self._is_stopping = True
        self._news.set()
        self._moved.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S_MAX), self._turn:
                pass
        await self._loop.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S_MAX):
                await self._destination.close()

    def view(self) -> RelayView:
        """Return how it stands."""
        known, end = self._delivered_position, self._engine.fold.log_position
        lag = -1 if known is None else max(0, end - known)
        return RelayView(
            name=self._options.name,
            state=self._state(lag),
            reason=self._stopped or self._loop.health(),
            position=known,
            lag_events=lag,
            lag_ms=self._lag_ms(lag),
            delivered=self._delivered,
            deliveries=self._deliveries,
            owner=self.lease.owner,
        )

    @property
    def _delivered_position(self) -> LogPosition | None:
        """Where the destination stands, as far as is known here: another node that delivers tells it."""
        if not self.lease.is_held and self.lease.position >= 0:
            return LogPosition(self.lease.position)
        return None if self._known is None else self._known.log_position

    def _state(self, lag: int) -> State:
        if self._stopped:
            return "stopped"
        if not self.lease.is_held:
            return "standing_by"
        if self._loop.errors:
            return "failing"
        if lag < 0:
            return "starting"
        return "delivering" if lag else "idle"

    def _lag_ms(self, lag: int) -> int:
        if not self.lease.is_held:
            return 0 if lag == 0 else -1
        if self._known is None or not lag:
            return lag
        return max(0, self._engine.log.last_log_time_ms - self._known.log_time_ms)

    async def reaches_end(self, timeout_s: float) -> bool:
        """Wait until the destination has all that is applied now; return whether it did in time.

        A relay that stopped, for an operator to move it, is not waited for.
        """
        end, until_s = self._engine.fold.log_position, asyncio.get_running_loop().time() + timeout_s
        while (known := self._delivered_position) is None or known < end:
            left_s = until_s - asyncio.get_running_loop().time()
            if self._stopped or left_s <= 0:
                return False
            await asyncio.sleep(min(END_LOOK_S, left_s))
        return True

    async def bounds(self) -> tuple[LogPosition, LogPosition]:
        """Return the oldest log position that can be read, and the one after the newest applied event."""
        return (await asyncio.to_thread(self._open_log)).begin, self._engine.fold.log_position

    async def move(self, to: LogPosition) -> None:
        """Go on from another position, as an operator orders; durable in the destination on return.

        Events between where it stood and a later position are not delivered; those after an earlier one come again.

        Raises:
            EventsGone: The log begins later.
            RelayStopped: The log ends before it.
            DestinationUnavailable: The destination could not be reached.
        """
        try:
            async with asyncio.timeout(MOVE_S_MAX), self._turn:
                self._drop()
                await self._called(self._destination.resume())
                reader = await asyncio.to_thread(self._open_log)
                if to < reader.begin:
                    message = f"log position {to} is before the oldest event, {reader.begin}"
                    raise EventsGone(message)
                if to > self._engine.fold.log_position:
                    message = f"log position {to} is after the newest event, {self._engine.fold.log_position}"
                    raise RelayStopped(message)
                await self._begin_at(to, reader)
                self._resume_service()
        except TimeoutError as error:
            message = f"{self._options.name}: the order to move to {to} had no answer within {MOVE_S_MAX:.0f} s"
            raise DestinationUnavailable(message) from error

    def _resume_service(self) -> None:
        self._stopped = ""
        self._engine.concerns.pop(self._options.name, None)
        self._moved.set()

    async def _round(self) -> None:
        """Deliver one batch, or wait for one; after an error the next round asks the destination where it stands.

        On a node without the lease: wait. When it comes, the destination is asked where it stands.
        """
        if not self.lease.is_held:
            await self._stand_by()
            return
        if self._stopped:
            self._moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOPPED_S if self.lease.is_shared else None):
                    await self._moved.wait()
                    return
        async with self._turn:
            has_more = self._is_stopping or await self._step()
        if not has_more:
            await self._wait()

    async def _stand_by(self) -> None:
        """Know nothing of the destination while another node delivers; what stopped this one is that node's to say."""
        if self._position is not None or self._stopped:
            async with self._turn:
                self._drop()
                self._resume_service()
        await asyncio.sleep(STAND_BY_S)

    async def _step(self) -> bool:
        """Deliver one batch; return whether there may be more."""
        is_done = False
        try:
            if self._position is None:
                self._position = self._known = await self._resumed()
                if self._stopped:
                    self._resume_service()
                self.lease.tell(self._position.log_position)
            has_more = await self._deliver_next(self._position)
            is_done = True
        except RelayStopped as error:
            self._stopped = self._engine.concerns[self._options.name] = str(error)
            return True
        except LogRewritten:
            self._forget_log()
            is_done = True
            return True
        finally:
            if not is_done:
                self._drop()
        return has_more

    def _drop(self) -> None:
        """Forget where the destination stands, and what was read ahead; a thread may still read that."""
        self._position = None
        self._reading = None

    def _forget_log(self) -> None:
        """Another writing of the log is in service: what was read of the one before is not delivered."""
        self._writing += 1
        self._reading = None
        self._news.set()

    async def _deliver_next(self, position: DeliveredPosition) -> bool:
        """Deliver the next batch; return False when there is none."""
        upto = self._engine.fold.log_position
        if position.log_position >= upto:
            return False
        writing = self._writing
        reading, batch = await asyncio.to_thread(self._read, self._reading, position.log_position, upto)
        if writing != self._writing:  # what was read may name a user who is erased by now
            return True
        self._reading = reading
        await self._send(position.log_position, batch)
        return True

    def _read(
        self, reading: BatchReading | None, after: LogPosition, upto: LogPosition
    ) -> tuple[BatchReading, EventBatch]:
        """Return the next batch, and the reading that goes on behind it; on another thread.

        Raises:
            RelayStopped: The log was cut after the position.
        """
        try:
            reading = reading or BatchReading(self._open_log(), self._options.events_max)
            return reading, reading.next(after, upto)
        except EventsGone as error:
            raise self._cut(after, self._open_log()) from error

    async def _send(self, first: LogPosition, batch: EventBatch) -> None:
        upto = DeliveredPosition(
            self._options.log, LogPosition(first + len(batch)), TimestampMs(int(batch.rows["log_time_ms"][-1]))
        )
        await self._called(self._destination.deliver(first, batch, upto))
        self._position = self._known = upto
        self.lease.tell(upto.log_position)
        self._delivered += len(batch)
        self._deliveries += 1

    async def _called(self, call: Awaitable[T]) -> T:
        """Return what a call of the destination returns, within its time."""
        timer = asyncio.timeout(DELIVER_S_MAX)
        try:
            async with timer:
                return await call
        except TimeoutError as error:
            if not timer.expired():
                raise
            message = f"the destination of {self._options.name} had no answer within {DELIVER_S_MAX:.0f} s"
            raise DestinationUnavailable(message) from error

    async def _resumed(self) -> DeliveredPosition:
        """Return where the destination stands, after a check that the log goes on from there.

        Raises:
            RelayStopped: It does not.
            DestinationUnavailable: The destination could not be reached, or is ahead of this machine.
        """
        found = await self._called(self._destination.resume())
        reader = await asyncio.to_thread(self._open_log)
        if found is None:
            start = reader.begin if self._options.start == "beginning" else self._engine.fold.log_position
            return await self._begin_at(start, reader)
        await self._check(found, reader)
        return found

    async def _begin_at(self, position: LogPosition, reader: LogReader) -> DeliveredPosition:
        """Store a position in the destination, without events."""
        time_ms = await asyncio.to_thread(_log_time_before, reader, position)
        upto = DeliveredPosition(self._options.log, position, time_ms)
        await self._called(self._destination.deliver(position, build(()), upto))
        return upto

    async def _check(self, found: DeliveredPosition, reader: LogReader) -> None:
        """Require that this log goes on from a position."""
        options, end = self._options, self._engine.fold.log_position
        if found.log != options.log:
            raise self._stop(f"the destination has events of the log {found.log}, and this is {options.log}")
        if found.log_position > end:
            if options.is_shared:
                message = f"the destination stands at log position {found.log_position}, this machine at {end}"
                raise DestinationUnavailable(message)
            raise self._stop(
                f"the destination has events up to log position {found.log_position} and the log ends at {end}: "
                "a backup was restored, or the log was repaired"
            )
        if found.log_position < reader.begin:
            raise self._cut(found.log_position, reader)
        here_ms = await asyncio.to_thread(_log_time_before, reader, found.log_position)
        if here_ms and found.log_time_ms and here_ms != found.log_time_ms:
            raise self._stop(
                f"the event before log position {found.log_position} is of log time {here_ms}, and the destination has "
                f"one of {found.log_time_ms}: a backup was restored and went on with other events"
            )

    def _cut(self, position: LogPosition, reader: LogReader) -> RelayStopped:
        return self._stop(
            f"the destination has events up to log position {position} and the log begins at {reader.begin}: retention "
            f"cut the {reader.begin - position} events between"
        )

    def _stop(self, what: str) -> RelayStopped:
        options = self._options
        return RelayStopped(f"{options.name} waits for an order: {what}. `{options.move_command}` says where to go on")

    async def _wait(self) -> None:
        """Wait until more is applied, or for ``LOOK_S_MAX``."""
        self._news.clear()
        engine = self._engine
        applied = engine.fold.log_position
        if self._position is None or self._position.log_position < applied or self._is_stopping:
            return
        if engine.log.end > applied:
            try:
                await engine.reached(LogPosition(applied + 1), LOOK_S_MAX)
            except Overloaded:
                await asyncio.sleep(CROWDED_S)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S_MAX):
                await self._news.wait()


def _log_time_before(reader: LogReader, position: LogPosition) -> TimestampMs:
    """Return the log time of the event before a position, 0 = there is none, or it was cut."""
    if position <= reader.begin:
        return TimestampMs(0)
    ((_, batch),) = reader.read(LogPosition(position - 1), 1, position)
    return TimestampMs(int(batch.rows["log_time_ms"][0]))
