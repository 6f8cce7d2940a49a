"""A broker in memory, with partitions, retention, a topic made anew and failures on order."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from midstream.engine.inputs.broker_consumer import (
    BrokerUnavailable,
    GonePosition,
    OpenedTopic,
    PartitionMessages,
)


@dataclass
class FakeTopic:
    """Messages by partition; those before ``first`` were cut by retention."""

    partitions: list[list[bytes | None]]
    topic_id: str = "one"
    first: dict[int, int] = field(default_factory=dict[int, int])
    headers: dict[tuple[int, int], Mapping[str, str]] = field(default_factory=dict[tuple[int, int], Mapping[str, str]])
    hidden: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    """Partition and offset of what is no message, as the end of a transaction is."""
    sent_ms: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    """When messages were sent; the others at 0."""
    is_up: bool = True
    delay: str = ""
    """What messages wait for that are there and not given out; empty = they are given out."""
    shown: dict[str, str] = field(default_factory=dict[str, str])
    """What consumers told the broker for its displays."""


class FakeConsumer:
    """A ``BrokerConsumer`` of a ``FakeTopic``."""

    topic = "events"

    def __init__(self, broker: FakeTopic, start: str = "earliest", each_max: int = 3) -> None:
        """Return at most ``each_max`` messages of a partition in one poll."""
        self.broker = broker
        self.start = start
        self.each_max = each_max
        self.opens = 0
        self.is_closed = False
        self._next: dict[int, int] = {}

    @property
    def place(self) -> int:
        """Messages that were polled since the topic was opened, less those ahead of one append."""
        return max(0, sum(self._next.values()) - 2 * self.each_max)

    def open(self, topic_id: str, positions: Mapping[str, str]) -> OpenedTopic:
        """Assign all partitions."""
        self._check()
        self.opens += 1
        self._next = {}
        broker = self.broker
        if topic_id and topic_id != broker.topic_id:
            return OpenedTopic(broker.topic_id, {})
        gone: list[GonePosition] = []
        for number, messages in enumerate(broker.partitions):
            first, end = broker.first.get(number, 0), len(messages)
            stored = positions.get(str(number))
            place = self._begin(number, first, end, is_first=not positions) if stored is None else _offset(stored)
            if first <= place <= end:
                self._next[number] = place
            else:
                gone.append(GonePosition(str(number), str(place) if stored is None else stored, str(first), str(end)))
        return OpenedTopic(broker.topic_id, {str(each): str(at) for each, at in self._next.items()}, tuple(gone))

    def _begin(self, number: int, first: int, end: int, *, is_first: bool) -> int:
        if not is_first or self.start in {"earliest", "latest"}:
            return end if is_first and self.start == "latest" else first
        late = (at for at in range(first, end) if self.broker.sent_ms.get((number, at), 0) >= int(self.start))
        return next(late, end)

    def poll(self, messages_max: int, wait_s: float) -> Sequence[PartitionMessages]:
        """Return the next messages of each partition."""
        self._check()
        found: list[PartitionMessages] = []
        left = 0 if self.broker.delay else messages_max
        for number, place in self._next.items():
            stop = min(place + min(self.each_max, left), len(self.broker.partitions[number]))
            if stop > place:
                offsets = [at for at in range(place, stop) if (number, at) not in self.broker.hidden]
                headers = {
                    at: self.broker.headers[number, offset]
                    for at, offset in enumerate(offsets)
                    if (number, offset) in self.broker.headers
                }
                values = [self.broker.partitions[number][offset] for offset in offsets]
                found.append(PartitionMessages(str(number), values, list(map(str, offsets)), str(stop), headers))
                self._next[number] = stop
                left -= len(offsets)
        if not found:
            time.sleep(min(wait_s, 0.01))
        return found

    def is_outdated(self) -> bool:
        """Return whether there are other partitions."""
        self._check()
        return set(self._next) != set(range(len(self.broker.partitions)))

    def lag(self) -> Mapping[str, int]:
        """Return what is behind."""
        return {str(each): len(self.broker.partitions[each]) - at for each, at in self._next.items()}

    def delay(self) -> str:
        """Return what the broker has messages wait for."""
        return self.broker.delay

    def show(self, positions: Mapping[str, str]) -> None:
        """Keep what is told."""
        self.broker.shown.update(positions)

    def close(self) -> None:
        """Be closed."""
        self.is_closed = True

    def _check(self) -> None:
        if not self.broker.is_up:
            message = "the broker is down"
            raise BrokerUnavailable(message)


def _offset(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def arrow_message(items: Sequence[str], action: str = "view", *, dictionary: bool = False) -> bytes:
    """Return acts on items as an Arrow IPC stream, the content of a message."""
    column = pa.array(items)
    table = pa.record_batch(
        {
            "type": pa.array([action] * len(items)),
            "user_id": pa.array(["u"] * len(items)),
            "item_id": column.dictionary_encode() if dictionary else column,
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table)
    return bytes(sink.getvalue().to_pybytes())
