"""Broker input: a background service that appends the messages of one topic, each exactly once by position.

The events of a poll and one control event with the positions after them are one batch, so they stand in one frame and
are durable together. A start, and every error, goes on from the positions that the state has: what was appended is not
read again, and what was not is. A consumer that was killed, a broker that delivers again and a group that was rewound
therefore change nothing.

Messages that hold no event are dead letters, kept before the positions behind them are durable: after a kill in
between a letter can be there twice, never not at all. Nothing but a stored position that the broker no longer has, a
topic that was made anew, and the topic of the shared log itself, waits for an operator.

Where several nodes share the log, one of them reads at a time, by a lease. A batch has a guard there, the version of
the positions that it was read from: every node drops it alike where another batch moved them since. So a consumer that
lost the lease and does not know it yet changes nothing.

A full log pauses the input: what was polled waits, the next poll is not made, and the broker keeps the rest.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from midstream.core.errors import Invalid
from midstream.core.kinds import Kind
from midstream.engine.background_service import BackgroundService
from midstream.engine.ingest.admitted_batch import AdmittedBatch
from midstream.engine.ingest.ingest_service import IngestService
from midstream.engine.ingest.input_guard import NEVER_MOVED, InputGuard, Superseded
from midstream.engine.inputs.broker_consumer import BrokerUnavailable, GonePosition, OpenedTopic
from midstream.engine.inputs.polled_batch import IdlePoll, PolledBatch
from midstream.engine.inputs.position_faults import (
    gone_text,
    log_topic_text,
    position_faults,
    replaced_text,
    stalled_text,
)
from midstream.engine.inputs.topic_reader import InputSource, InputStopped, TopicReader
from midstream.engine.lease import OWN, Lease
from midstream.engine.types import InputState, InputView, PartitionView
from midstream.events.schema import Event, build
from midstream.state.control.input_positions import InputPosition, InputRow, encode_input_position
from midstream.state.fold import Fold

STAND_BY_S = 0.25
"""Between two looks whether this node is to read."""
STOP_S_MAX = 2.0
"""A stop waits so long for a consumer that is in a call, then leaves it to its thread."""
RETRY_S_MAX = 5.0
"""A broker that is back is read again so soon."""
QUIET_S = 3.0
"""Without a message, and with messages behind it as far as is known, the broker is asked whether it is there."""
EMPTY_POLLS = 2
"""Without a message after the broker has answered, until a topic counts as read; the first began before the answer."""
PARTITIONS_S = 30.0
"""Between two looks whether the topic has other partitions."""


class InputEngine(Protocol):
    """The engine as an input sees it."""

    @property
    def fold(self) -> Fold:
        """The state in service."""
        ...

    @property
    def concerns(self) -> MutableMapping[str, str]:
        """Texts for an operator, by subject; health shows them."""
        ...

    def supervise(
        self, name: str, one_round: Callable[[], Awaitable[None]], pause_s: float, *, first_s: float | None = None
    ) -> BackgroundService:
        """Return a loop whose errors are named by health and metrics."""
        ...


@dataclass(slots=True)
class _Progress:
    """What an input has done since its start."""

    events: int = 0
    rejected: int = 0
    lag: Mapping[str, int] = field(default_factory=dict[str, int])
    gone: tuple[GonePosition, ...] = ()
    waits: str = ""
    """Why it waits for an operator; empty = it does not."""


class BrokerInput:
    """One input of the configuration. On the event loop's thread, the consumer on a thread of its own."""

    def __init__(self, source: InputSource, engine: InputEngine, service: IngestService) -> None:
        """Read ``source`` and hand over to ``service``; nothing is started."""
        self.name = source.name
        self.lease: Lease = OWN
        """Right to read; to be set before the start."""
        self.shared_topic_id = ""
        """Identity of the topic that is the log, empty = none is; to be set before the start."""
        self._topic = source.topic
        self._engine = engine
        self._service = service
        self._reader = TopicReader(source, service)
        self._turn, self._moving = asyncio.Lock(), asyncio.Lock()
        self._opened: OpenedTopic | None = None
        self._at: Mapping[str, str] = {}
        """Positions that the next batch goes on from, of all partitions that have one."""
        self._kept: set[tuple[str, str, int, int]] = set()
        """Places of events whose letters are kept and whose positions are not durable yet."""
        self._progress = _Progress()
        self._looked_s = self._came_s = 0.0
        self._empty_polls: int | None = None
        """Since the broker answered after ``QUIET_S`` without a message; None = it was not asked since the last one."""
        self._loop = engine.supervise(f"input_{source.name}", self._round, 0.0, first_s=0.0)
        self._loop.back_off_s_max = RETRY_S_MAX

    def start(self) -> None:
        """Begin on the running event loop."""
        self._loop.start()

    async def stop(self) -> None:
        """End after the batch under way; what was polled and not appended is read again by the next start."""
        await self._loop.stop()
        closing = asyncio.ensure_future(self._closed())
        await asyncio.wait((closing,), timeout=STOP_S_MAX)
        closing.cancel()
        self._reader.end()

    async def _closed(self) -> None:
        """Drop what was polled ahead, and close the consumer."""
        await self._forget()
        await self._reader.close()

    def view(self) -> InputView:
        """Return how it stands."""
        row, progress = self._row, self._progress
        following: Mapping[str, str] = {} if row is None else row.next
        gone = {each.partition: each for each in progress.gone}
        partitions = tuple(
            PartitionView(
                partition,
                position,
                progress.lag.get(partition),
                f"the broker has {gone[partition].first} to {gone[partition].end}" if partition in gone else "",
            )
            for partition, position in following.items()
        )
        return InputView(
            self.name,
            self._topic,
            self._state,
            partitions,
            sum(progress.lag.values()),
            progress.events,
            progress.rejected,
            progress.waits or self._loop.health() or self._delay,
            self.lease.owner,
            self.is_idle,
        )

    @property
    def is_at_end(self) -> bool:
        """Whether all that the topic had at the last poll is durable, in every partition."""
        return self.is_idle and not self._progress.waits

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left that can be read: every open partition is at its end, or nothing comes any more.

        Behind the last message of a topic that is written in transactions there are marks that are no messages: its
        lag may never become 0. Then the broker has to answer first: one that is gone is quiet as well. What the broker
        keeps back is still to come.
        """
        if self._opened is None or self._loop.health():
            return self._opened is None and bool(self._progress.waits)
        return self._is_known_end or ((self._empty_polls or 0) >= EMPTY_POLLS and not self._delay)

    @property
    def _is_known_end(self) -> bool:
        """Whether the client knows of each open partition that no message is behind the last poll."""
        opened, lag = self._opened, self._progress.lag
        return opened is not None and lag.keys() == opened.next.keys() and not any(lag.values())

    async def move(self, positions: Mapping[str, str] | str) -> InputView:
        """Read on from other positions, as an operator orders; durable on return.

        Args:
            positions: By partition, the others stay where they are; or ``earliest``, ``latest`` or a time, as digits,
                for all partitions.

        Raises:
            Invalid: The broker has no such partition or position; nothing was changed.
            BrokerUnavailable: The broker could not be asked; nothing was changed.
            MidstreamError: There is no consumer to be had, or the positions could not be made durable.
        """
        async with self._moving:
            self._opened = None
            opened = await self._reader.look_up(positions)
            if faults := position_faults(positions, opened):
                raise Invalid(faults)
            self._require_other_topic(opened)
            following = opened.next if isinstance(positions, str) else positions
            await self._record(None, following, opened.topic_id)
            if self._loop.is_running:  # it may be in the wait after an error
                await self._loop.stop()
                self._loop.start()
        return self.view()

    @property
    def _state(self) -> InputState:
        if self._progress.waits:
            return "stopped"
        if not self.lease.is_held:
            return "standing_by"
        if self._loop.health():
            return "failing"
        return "starting" if self._opened is None else "reading"

    @property
    def _delay(self) -> str:
        """What the broker has messages wait for, while they are read."""
        return "" if self._opened is None else self._reader.delay

    @property
    def _row(self) -> InputRow | None:
        return self._engine.fold.inputs.find(self.name)

    async def _round(self) -> None:
        """Open the topic where that is to be done, then append one poll; the next one is polled meanwhile.

        On a node without the lease: wait.
        """
        if not self.lease.is_held:
            await self._stand_by()
            return
        async with self._moving:
            is_done = False
            try:
                opened = self._opened or await self._open()
                in_message = self.lease.is_shared
                polled = await self._reader.next(opened.topic_id, in_message=in_message)
                if isinstance(polled, IdlePoll) or polled.fits(in_message=in_message):
                    self._reader.read_ahead(opened.topic_id, in_message=in_message)
                    await self._append(polled, opened.topic_id)
                    await self._look_at_partitions()
                else:
                    self._reader.shrink(polled)
                    await self._forget()
                is_done = True
            except Superseded:  # another node moved the positions: the next round reads on from there
                self._service.metrics.input_superseded.labels(self.name).inc()
            finally:
                if not is_done:
                    await self._forget()

    async def _stand_by(self) -> None:
        """Have no consumer, and what the broker says of none, while another node reads."""
        if self._reader.is_connected or self._opened is not None:
            async with self._moving:
                await self._forget()
                await self._reader.close()
                self._progress.lag, self._empty_polls = {}, None
                self._wait_for_operator(())
        await asyncio.sleep(STAND_BY_S)

    async def _look_at_partitions(self) -> None:
        """Have the next round open the topic where partitions were added to it.

        It is asked sooner where no message comes and some are to come: by that a broker that is gone is found out, and
        a client that stands still.

        Raises:
            BrokerUnavailable: It does not answer, or nothing comes of a partition though it has messages.
        """
        now_s = asyncio.get_running_loop().time()
        is_quiet = now_s - self._came_s >= QUIET_S and not self._is_known_end
        is_soon = is_quiet or self._reader.is_watching
        if now_s - self._looked_s >= (QUIET_S if is_soon else PARTITIONS_S):
            self._looked_s = now_s
            if await self._reader.is_outdated():
                await self._forget()
            elif stalled := self._reader.stalled():
                await self._reader.close()  # with it what it has wrong of the broker
                raise BrokerUnavailable(stalled_text(self.name, self._topic, stalled))
            elif is_quiet and self._empty_polls is None:
                self._empty_polls = 0

    async def _forget(self) -> None:
        """Drop what was polled ahead: the next round opens the topic where the state stands then."""
        self._opened = None
        await self._reader.forget()

    async def _open(self) -> OpenedTopic:
        """Assign the topic at the positions of the state; where it has none yet, make the first ones durable.

        Raises:
            InputStopped: The topic is another one than the positions are of, or that of the shared log.
        """
        row = self._row
        topic_id = "" if row is None else row.topic_id
        stored: Mapping[str, str] = {} if row is None else row.next
        opened = await self._reader.open(topic_id, stored)
        self._wait_for_operator(opened.gone)
        if topic_id and opened.topic_id != topic_id:
            self._progress.waits = replaced_text(self.name, self._topic, topic_id, opened.topic_id)
            raise InputStopped(self._progress.waits)
        self._require_other_topic(opened)
        fresh = {partition: at for partition, at in opened.next.items() if partition not in stored}
        self._at = stored
        if fresh:
            await self._record(None, fresh, opened.topic_id, guard=self._guard())
        self._progress.lag, self._empty_polls = {}, None
        self._looked_s = self._came_s = asyncio.get_running_loop().time()
        self._opened = opened
        return opened

    def _require_other_topic(self, opened: OpenedTopic) -> None:
        """Refuse the topic that is the log, by whatever address: its positions there would be its next messages.

        Raises:
            InputStopped: It is that topic.
        """
        if self.shared_topic_id and opened.topic_id == self.shared_topic_id:
            self._progress.waits = log_topic_text(self.name, self._topic, opened.topic_id)
            raise InputStopped(self._progress.waits)

    def _wait_for_operator(self, gone: Sequence[GonePosition]) -> None:
        """Name the positions that the broker does not have any more; no concern without any."""
        self._progress.gone = tuple(gone)
        self._progress.waits = "; ".join(gone_text(self.name, each) for each in gone)
        subject = f"input-{self.name}-positions"
        if gone:
            self._engine.concerns[subject] = self._progress.waits
        else:
            self._engine.concerns.pop(subject, None)

    async def _append(self, polled: PolledBatch | IdlePoll, topic_id: str) -> None:
        """Make the events of a poll and the positions after them durable; first keep what holds no event."""
        progress = self._progress
        if isinstance(polled, IdlePoll):
            progress.lag = polled.lag
            self._guard()
            if self._empty_polls is not None:
                self._empty_polls += 1
            return
        self._came_s, self._empty_polls, admitted = inf, None, polled.admitted  # not quiet before this is durable
        waiting = {each.partition: len(each) for each in polled.messages.parts}
        progress.lag = {part: behind + waiting.get(part, 0) for part, behind in polled.lag.items()}
        fresh = [each for each in admitted.rejected if polled.place(each) not in self._kept]
        self._service.keep_rejected(fresh, polled.origin)
        self._kept.update(map(polled.place, fresh))
        progress.rejected += len(fresh)
        self._service.metrics.input_rejected.labels(self.name).inc(len(fresh))
        await self._record(admitted, polled.messages.next, topic_id, polled, guard=self._guard())
        self._kept.clear()
        events = polled.decoded.decoded.event_count - len({each.index for each in admitted.rejected if each.item < 0})
        progress.events += events
        self._service.metrics.input_events.labels(self.name).inc(events)
        progress.lag, self._came_s = polled.lag, asyncio.get_running_loop().time()
        self._reader.show(polled.messages.next)

    async def _record(
        self,
        admitted: AdmittedBatch | None,
        following: Mapping[str, str],
        topic_id: str,
        polled: PolledBatch | None = None,
        *,
        guard: InputGuard | None = None,
    ) -> None:
        """Make events and positions durable, in one frame.

        Raises:
            Superseded: The guard does not hold; nothing of it is in the log.
            InputStopped: There is no room for the positions in the state.
        """
        body = InputPosition(self.name, self._topic, topic_id, dict(following))
        if not self._engine.fold.inputs.takes(body):
            message = f"input {self.name!r} has more partitions than the positions of all inputs have room for"
            raise InputStopped(message)
        control = build((Event(Kind.CONTROL, body=encode_input_position(body)),))
        origin = None if polled is None else polled.origin
        await self._service.record_with(control, admitted, self._turn, origin, guard)
        self._at = {**self._at, **following}

    def _guard(self) -> InputGuard | None:
        """Return the condition under which a batch from the positions at hand counts; None = this node alone reads.

        Raises:
            Superseded: The state has other positions: they were moved by another node.
        """
        if not self.lease.is_shared:
            return None
        row = self._row
        guard = InputGuard(self.name, NEVER_MOVED if row is None else row.position)
        if self._at != ({} if row is None else row.next):
            raise Superseded(guard)
        return guard
