"""A topic in memory."""

from collections.abc import Mapping, Sequence

from midstream.engine.inputs.broker_consumer import BrokerConsumer
from tests.support.brokers import FakeConsumer, FakeTopic

EACH_MAX = 100


class MemoryTopic:
    """A ``Topic`` in memory."""

    def __init__(self, partitions: int) -> None:
        """Begin empty."""
        self._topic = FakeTopic([[] for _ in range(partitions)])
        self._clock_ms = 0

    def consumer(self, start: str = "earliest") -> BrokerConsumer:
        """Return another consumer."""
        return FakeConsumer(self._topic, start, EACH_MAX)

    def send(self, partition: int, values: Sequence[bytes | None], headers: Mapping[str, str] | None = None) -> None:
        """Append."""
        for value in values:
            at = partition, len(self._topic.partitions[partition])
            self._topic.sent_ms[at] = self._clock_ms
            self._topic.headers[at] = headers or {}
            self._topic.partitions[partition].append(value)

    def now_ms(self) -> int:
        """Return a later time than before."""
        self._clock_ms += 10
        return self._clock_ms

    def grow(self, partitions: int) -> None:
        """Add empty partitions."""
        while len(self._topic.partitions) < partitions:
            self._topic.partitions.append([])

    def cut(self, partition: int) -> None:
        """Move the beginning."""
        self._topic.first[partition] = len(self._topic.partitions[partition])

    def remake(self) -> None:
        """Empty it, and give it another id."""
        self._topic.topic_id += " again"
        self._topic.first.clear()
        for each in self._topic.partitions:
            each.clear()

    def shown(self) -> Mapping[str, str]:
        """Return what consumers told."""
        return self._topic.shown

    def rewind(self) -> None:
        """Set it back."""
        self._topic.shown = dict.fromkeys(self._topic.shown, "0")

    def down(self) -> None:
        """Let it not answer."""
        self._topic.is_up = False

    def up(self) -> None:
        """Let it answer."""
        self._topic.is_up = True
