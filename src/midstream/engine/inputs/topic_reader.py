"""Reader of one topic for an input: its consumer on a thread of its own, one poll ahead of what is appended.

A poll has as many messages as became about a frame of rows, or a message of a shared log of bytes, the time before.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from midstream.core.errors import MidstreamError
from midstream.engine.daemon_thread import DaemonThread
from midstream.engine.ingest.ingest_service import IngestService
from midstream.engine.inputs.broker_consumer import BrokerConsumer, OpenedTopic, PartitionMessages
from midstream.engine.inputs.message_decoding import (
    MESSAGE_ROWS_MAX,
    DecodeMessages,
    nothing,
    too_many,
    with_position_ids,
)
from midstream.engine.inputs.polled_batch import BYTES_AIM, IdlePoll, PolledBatch
from midstream.engine.inputs.polled_messages import PolledMessages
from midstream.engine.inputs.stall_watch import StallWatch

MESSAGES_MAX = 5_000
"""Messages of one poll: with a row each they are half a frame, five turns of the fold."""
MESSAGES_BEGIN = 16
"""Messages of the first poll: with the most rows that each may become they are 160 MB on the way."""
GROWTH = 8
"""A poll has at most so many times the messages of the one before: from 16 to 5,000 in three polls."""
FRAME_ROWS = 10_000
"""Rows of one append that are aimed at, as a frame of events from HTTP has."""
POLL_S = 0.5
"""A poll without messages ends so soon, so that a stop waits no longer."""
Connect: TypeAlias = Callable[[str | None], BrokerConsumer]
"""Makes a consumer that begins at ``earliest``, ``latest`` or a time, None = as configured.

Raises ``MidstreamError`` where it cannot, such as for an extra that is not installed.
"""


class InputStopped(MidstreamError):
    """An input that waits for an operator: its positions cannot be read on from."""


@dataclass(frozen=True, slots=True)
class InputSource:
    """One input as configured: where its messages come from, and what they are."""

    name: str
    topic: str
    connect: Connect
    decode: DecodeMessages


class TopicReader:
    """Consumer of one input. On the event loop's thread, the consumer's calls on another one."""

    def __init__(self, source: InputSource, service: IngestService) -> None:
        """Read ``source``, and decode on the worker of ``service``; nothing is connected."""
        self.source = source
        self._service = service
        self._thread = DaemonThread(f"midstream-input-{source.name}")
        self._consumer: BrokerConsumer | None = None
        self._ahead: asyncio.Task[PolledBatch | IdlePoll] | None = None
        self._messages_max = MESSAGES_BEGIN
        self._to_show: dict[str, str] = {}
        """Positions that are durable and that the broker was not told of."""
        self._stall = StallWatch()

    @property
    def is_connected(self) -> bool:
        """Whether there is a consumer."""
        return self._consumer is not None

    @property
    def is_watching(self) -> bool:
        """Whether a partition may stand still, so that another look is due soon."""
        return self._stall.is_watching

    @property
    def delay(self) -> str:
        """What the broker has messages wait for; empty = nothing, or there is no consumer."""
        return "" if self._consumer is None else self._consumer.delay()

    async def open(self, topic_id: str, positions: Mapping[str, str]) -> OpenedTopic:
        """Assign the topic at positions, as ``BrokerConsumer.open`` does, by a new consumer where there is none."""
        opened = await self._thread.call(lambda: self._connected(None).open(topic_id, positions))
        self._stall.opened()
        return opened

    async def look_up(self, positions: Mapping[str, str] | str) -> OpenedTopic:
        """Return the topic at positions that an operator names; no consumer is left.

        Args:
            positions: By partition; or ``earliest``, ``latest`` or a time, for all.
        """

        def found() -> OpenedTopic:
            self._close()
            if isinstance(positions, str):
                return self._connected(positions).open("", {})
            return self._connected(None).open("", positions)

        await self.forget()
        try:
            return await self._thread.call(found)
        finally:
            await self.close()

    async def next(self, topic_id: str, *, in_message: bool) -> PolledBatch | IdlePoll:
        """Return what was polled ahead, or the next poll where nothing was.

        Args:
            topic_id: Identity of the topic that is open.
            in_message: What a poll becomes is one message of a shared log.
        """
        return await (self._ahead or self.read_ahead(topic_id, in_message=in_message))

    def read_ahead(self, topic_id: str, *, in_message: bool) -> asyncio.Task[PolledBatch | IdlePoll]:
        """Begin the next poll, and return it; the arguments are those of ``next``."""
        poll = self._read(topic_id, in_message=in_message)
        self._ahead = asyncio.get_running_loop().create_task(poll, name=f"midstream-input-{self.source.name}-poll")
        return self._ahead

    async def forget(self) -> None:
        """Drop what was polled ahead; the topic is to be opened again."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            await asyncio.wait((ahead,))
            if not ahead.cancelled():
                ahead.exception()  # of a poll whose messages are read again

    def shrink(self, polled: PolledBatch) -> None:
        """Poll fewer messages from now on than became too many rows."""
        self._messages_max = max(1, len(polled.messages) // GROWTH)

    def show(self, positions: Mapping[str, str]) -> None:
        """Have the broker be told, by the next poll, how far events are durable."""
        self._to_show |= positions

    async def is_outdated(self) -> bool:
        """Return whether the topic has other partitions than those that are assigned; the broker is asked."""
        consumer = self._consumer
        return consumer is not None and await self._thread.call(consumer.is_outdated)

    def stalled(self) -> Sequence[str]:
        """Return partitions of which nothing comes though the broker, which was just asked, gives messages out."""
        consumer = self._consumer
        return () if consumer is None else self._stall.looked({} if consumer.delay() else consumer.lag())

    async def close(self) -> None:
        """Close the consumer, if there is one."""
        await self._thread.call(self._close)

    def end(self) -> None:
        """End the thread."""
        self._thread.end()

    def _close(self) -> None:
        """Close the consumer, which tells the broker how far it was; on the thread."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _connected(self, start: str | None) -> BrokerConsumer:
        """Return the consumer, a new one where there is none; on the thread."""
        if self._consumer is None:
            self._consumer = self.source.connect(start)
        return self._consumer

    async def _read(self, topic_id: str, *, in_message: bool) -> PolledBatch | IdlePoll:
        """Poll, and decode what came."""
        consumer = self._consumer
        if consumer is None:
            message = f"input {self.source.name!r} has no consumer"
            raise InputStopped(message)
        shown, self._to_show = self._to_show, {}
        messages_max = self._messages_max

        def poll() -> tuple[Sequence[PartitionMessages], Mapping[str, int]]:
            if shown:
                consumer.show(shown)
            return consumer.poll(messages_max, POLL_S), consumer.lag()

        began_s = asyncio.get_running_loop().time()
        parts, lag = await self._thread.call(poll)
        waited_s = asyncio.get_running_loop().time() - began_s
        self._stall.polled([each.partition for each in parts], waited_s)
        if not parts:
            return IdlePoll(lag)
        messages = PolledMessages(self.source.topic, topic_id, parts)
        polled = await self._service.on_worker(lambda: self._admitted(messages, lag))
        if messages:  # otherwise the poll passed positions alone, and nothing is known of the rows of a message
            by_rows = FRAME_ROWS * len(messages) // max(1, len(polled.admitted.batch))
            by_bytes = BYTES_AIM * len(messages) // max(1, polled.bytes) if in_message else by_rows
            self._messages_max = max(1, min(by_rows, by_bytes, GROWTH * messages_max, MESSAGES_MAX))
        return polled

    def _admitted(self, messages: PolledMessages, lag: Mapping[str, int]) -> PolledBatch:
        """Return the events of a poll; on the thread that decodes."""
        found = self.source.decode(messages.values)
        rows = len(found.decoded.batch)
        if len(messages) == 1 and rows > MESSAGE_ROWS_MAX:
            found = nothing(0, messages.values[0] or b"", too_many(rows))
        decoded = replace(found.decoded, batch=with_position_ids(found, messages))
        return PolledBatch(messages, self._service.admit(decoded, found.part), found, lag)
