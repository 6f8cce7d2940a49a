"""Broker input: a background service that appends the messages of one topic, each exactly once by position.

The events of a poll and one control event with the positions after them are one batch, so they stand in one frame and
are durable together. A start, and every error, goes on from the positions that the state has: what was appended is not
read again, and what was not is. A consumer that was killed, a broker that delivers again and a group that was rewound
therefore change nothing.

Messages that hold no event are dead letters, kept before the positions behind them are durable: after a kill in
between a letter can be there twice, never not at all. Nothing but a stored position that the broker no longer has, and
a topic that was made anew, waits for an operator.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import numpy as np

from midstream.core.errors import MidstreamError
from midstream.core.kinds import Kind
from midstream.engine.background_service import BackgroundService
from midstream.engine.ingest.admitted_batch import AdmittedBatch
from midstream.engine.ingest.ingest_service import IngestService
from midstream.engine.inputs.broker_consumer import BrokerConsumer, GonePosition, OpenedTopic, PartitionMessages
from midstream.engine.inputs.message_decoding import DecodedMessages, origin_of, with_position_ids
from midstream.events.json.decode import Decoded, Rejected, SingleEvent
from midstream.events.schema import Event, build, concat
from midstream.state.control.input_positions import InputPosition, InputRow, encode_input_position
from midstream.state.fold import Fold

if TYPE_CHECKING:
    from midstream.core.types import EventBatch, Index

MESSAGES_MAX = 5_000
"""Messages of one poll: with a row each they are half a frame, five turns of the fold."""
POLL_S = 0.5
"""A poll without messages ends so soon, so that a stop waits no longer."""
PARTITIONS_S = 30.0
"""Between two looks whether the topic has other partitions."""
DecodeMessages: TypeAlias = Callable[[PartitionMessages], DecodedMessages]
T = TypeVar("T")


class InputStopped(MidstreamError):
    """An input that waits for an operator: its positions cannot be read on from."""


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


@dataclass(frozen=True, slots=True)
class InputView:
    """State of an input, for health and metrics."""

    name: str
    topic: str
    is_open: bool
    """Whether the topic is assigned."""
    next: Mapping[str, str]
    """Position of the next message to read, by partition, of what is durable."""
    lag: Mapping[str, int]
    """Messages behind it, by partition, as far as the client knows."""
    events: int
    """Rows that were handed over since the start; again with each try."""
    rejected: int
    """Messages, and events of them, that became dead letters before the engine saw them; counted as ``events`` is."""


class BrokerInput:
    """One input of the configuration. On the event loop's thread, the consumer on a thread of its own."""

    def __init__(
        self,
        name: str,
        engine: InputEngine,
        service: IngestService,
        consumer: BrokerConsumer,
        decode: DecodeMessages,
    ) -> None:
        """Read with ``consumer``, decode with ``decode`` and hand over to ``service``; nothing is started."""
        self.name = name
        self._engine = engine
        self._service = service
        self._consumer = consumer
        self._decode = decode
        self._thread = ThreadPoolExecutor(1, f"midstream-input-{name}")
        self._turn, self._moving = asyncio.Lock(), asyncio.Lock()
        self._opened: OpenedTopic | None = None
        self._ahead: asyncio.Future[Sequence[PartitionMessages]] | None = None
        self._kept: set[tuple[str, str]] = set()
        """Partition and position of messages whose letters are kept and whose positions are not durable yet."""
        self._events = self._rejected = 0
        self._looked_s = 0.0
        self._loop = engine.supervise(f"input_{name}", self._round, 0.0, first_s=0.0)

    def start(self) -> None:
        """Begin on the running event loop."""
        self._loop.start()

    async def stop(self) -> None:
        """End after the batch under way; what was polled and not appended is read again by the next start."""
        await self._loop.stop()
        await self._call(self._consumer.close)
        self._thread.shutdown(wait=False)

    def view(self) -> InputView:
        """Return how it stands."""
        row = self._row
        following: Mapping[str, str] = {} if row is None else row.next
        lag = self._consumer.lag()
        return InputView(
            self.name, self._consumer.topic, self._opened is not None, following, lag, self._events, self._rejected
        )

    async def move(self, positions: Mapping[str, str]) -> None:
        """Read on from other positions, as an operator orders; durable on return.

        Args:
            positions: By partition; the others stay where they are.
        """
        async with self._moving:
            await self._forget()
            topic_id = (await self._call(lambda: self._consumer.open("", {}))).topic_id
            await self._record(None, positions, topic_id)

    @property
    def _row(self) -> InputRow | None:
        return self._engine.fold.inputs.find(self.name)

    async def _call(self, work: Callable[[], T]) -> T:
        """Return what a call of the consumer returns, on its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _round(self) -> None:
        """Open the topic where that is to be done, then append one poll; the next one is polled meanwhile."""
        async with self._moving:
            is_done = False
            try:
                if self._opened is None:
                    self._opened = await self._open()
                    self._looked_s = asyncio.get_running_loop().time()
                polled = await (self._ahead or self._poll())
                self._ahead = self._poll()
                if polled:
                    await self._append(polled, self._opened.topic_id)
                await self._look_at_partitions()
                is_done = True
            finally:
                if not is_done:
                    await self._forget()

    async def _look_at_partitions(self) -> None:
        """Have the next round open the topic where partitions were added to it."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._looked_s >= PARTITIONS_S:
            self._looked_s = now_s
            if await self._call(self._consumer.is_outdated):
                await self._forget()

    def _poll(self) -> "asyncio.Future[Sequence[PartitionMessages]]":
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._thread, self._consumer.poll, MESSAGES_MAX, POLL_S)

    async def _forget(self) -> None:
        """Drop what was polled ahead: the next round opens the topic where the state stands then."""
        self._opened = None
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            await asyncio.wait((ahead,))
            if not ahead.cancelled():
                ahead.exception()  # of a poll whose messages are read again

    async def _open(self) -> OpenedTopic:
        """Assign the topic at the positions of the state; where it has none yet, make the first ones durable.

        Raises:
            InputStopped: The topic is another one than the positions are of.
        """
        row = self._row
        topic_id = "" if row is None else row.topic_id
        stored: Mapping[str, str] = {} if row is None else row.next
        opened = await self._call(lambda: self._consumer.open(topic_id, stored))
        if topic_id and opened.topic_id != topic_id:
            raise InputStopped(_replaced(self.name, self._consumer.topic, topic_id, opened.topic_id))
        fresh = {partition: at for partition, at in opened.next.items() if partition not in stored}
        if fresh:
            await self._record(None, fresh, opened.topic_id)
        if opened.gone:
            self._engine.concerns[self._gone] = "; ".join(_gone(self.name, each) for each in opened.gone)
        else:
            self._engine.concerns.pop(self._gone, None)
        return opened

    @property
    def _gone(self) -> str:
        return f"input-{self.name}-positions"

    async def _append(self, polled: Sequence[PartitionMessages], topic_id: str) -> None:
        """Make the events of a poll and the positions after them durable; first keep what holds no event."""
        admitted = await self._service.on_worker(lambda: self._admitted(polled))
        origins = _Origins(self._consumer.topic, polled)
        places = [origins.place(each.index) for each in admitted.rejected]
        self._service.keep_rejected(
            [each for each, place in zip(admitted.rejected, places, strict=True) if place not in self._kept], origins
        )
        self._kept.update(places)
        self._events += len(admitted.batch)
        self._rejected += len(admitted.rejected)
        await self._record(admitted, {each.partition: each.next for each in polled}, topic_id, origins)
        self._kept.clear()
        await self._call(lambda: self._consumer.show({each.partition: each.next for each in polled}))

    def _admitted(self, polled: Sequence[PartitionMessages]) -> AdmittedBatch:
        """Return the events of a poll; an event's number is that of its message."""
        batches: list[EventBatch] = []
        numbers: list[Index] = []
        rejected: list[Rejected] = []
        before = 0
        for messages in polled:
            decoded = self._decode(messages)
            batches.append(with_position_ids(decoded, self._consumer.topic, messages))
            numbers.append(decoded.message + before)
            rejected += [Rejected(each.index + before, each.fault, each.raw, each.item) for each in decoded.rejected]
            before += len(messages)
        number = np.concatenate(numbers)
        origins = _Origins(self._consumer.topic, polled)
        return self._service.admit(Decoded(concat(batches), number, tuple(rejected), before), origins.event)

    async def _record(
        self,
        admitted: AdmittedBatch | None,
        following: Mapping[str, str],
        topic_id: str,
        origins: "_Origins | None" = None,
    ) -> None:
        """Make events and positions durable, in one frame.

        Raises:
            InputStopped: There is no room for the positions in the state.
        """
        body = InputPosition(self.name, self._consumer.topic, topic_id, dict(following))
        if not self._engine.fold.inputs.takes(body):
            message = f"input {self.name!r} has more partitions than the positions of all inputs have room for"
            raise InputStopped(message)
        control = build((Event(Kind.CONTROL, body=encode_input_position(body)),))
        await self._service.record_with(control, admitted, self._turn, origins)


class _Origins:
    """Names of the messages of a poll, by their number in it."""

    def __init__(self, topic: str, polled: Sequence[PartitionMessages]) -> None:
        self._topic = topic
        self._polled = polled
        self._starts = np.cumsum([0, *(len(each) for each in polled)])

    def _find(self, number: int) -> tuple[PartitionMessages, int]:
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self._polled[part], number - int(self._starts[part])

    def place(self, number: int) -> tuple[str, str]:
        """Return the partition and the position of a message."""
        messages, place = self._find(number)
        return messages.partition, messages.positions[place]

    def event(self, number: int) -> SingleEvent:
        """Return a message as an event to be named."""
        messages, place = self._find(number)
        return SingleEvent("", messages.values[place] or b"", None)

    def __call__(self, number: int) -> Mapping[str, str]:
        """Return the origin of a message, for its dead letter."""
        return origin_of(self._topic, *self._find(number))


def _replaced(name: str, topic: str, stored: str, found: str) -> str:
    return (
        f"input {name!r} has positions of topic {topic!r} with the id {stored}, and the broker has one with the id "
        f"{found or 'unknown'}: it was deleted and made again; order where to begin with `midstream inputs move {name}`"
    )


def _gone(name: str, gone: GonePosition) -> str:
    return (
        f"input {name!r} stopped in partition {gone.partition}: its position {gone.stored} is gone, the broker has "
        f"{gone.first} to {gone.end}; order where to go on with `midstream inputs move {name}`"
    )
