"""A topic that a test does things to, whatever broker it is on."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from midstream.engine.inputs.broker_consumer import BrokerConsumer


class Topic(Protocol):
    """A topic of one broker, made for one test."""

    def consumer(self, start: str = "earliest") -> BrokerConsumer:
        """Return another consumer of it, all of one group."""
        ...

    def send(self, partition: int, values: Sequence[bytes | None], headers: Mapping[str, str] | None = None) -> None:
        """Send messages to a partition, as few batches as possible, and wait until the broker has them."""
        ...

    def now_ms(self) -> int:
        """Return a time behind all that was sent so far, and before what is sent then."""
        ...

    def grow(self, partitions: int) -> None:
        """Add partitions until there are so many."""
        ...

    def cut(self, partition: int) -> None:
        """Have retention remove all messages that a partition has."""
        ...

    def remake(self) -> None:
        """Delete it, and make another one under its name."""
        ...

    def shown(self) -> Mapping[str, str]:
        """Return what the broker shows of how far the group is, by partition; without those it shows nothing of."""
        ...

    def rewind(self) -> None:
        """Have the broker show that the group has read nothing."""
        ...

    def down(self) -> None:
        """Kill the broker."""
        ...

    def up(self) -> None:
        """Start it again."""
        ...
