"""Consumer of one topic of a broker: the small Protocol that each client library is adapted to.

A consumer is assigned every partition of its topic at positions that the caller gives: there is no group, no
rebalance, and what a broker keeps of a group's progress is never read. All calls may block, and come from one thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from midstream.core.errors import MidstreamError

HEADERS_MAX = 32
"""Of a message, kept for its dead letter."""
HEADER_CHARS_MAX = 1_024
"""Of a header's value, of which the rest is cut off."""


class BrokerUnavailable(MidstreamError):
    """The broker does not answer, or refuses the client; the same call may succeed later."""


@dataclass(frozen=True, slots=True, eq=False)
class PartitionMessages:
    """Messages of one partition, in its order, as one poll returned them.

    There may be none: then a position has passed what holds no message for consumers, such as the end of a transaction.
    """

    partition: str
    values: Sequence[bytes | None]
    """Contents; None = a message without one, as a tombstone is."""
    positions: Sequence[str]
    """Position of each message, as long as ``values``: an offset of Kafka, an id of Pulsar."""
    next: str
    """Position after the last message, where reading goes on."""
    headers: Mapping[int, Mapping[str, str]] = field(default_factory=dict[int, Mapping[str, str]])
    """Headers of those messages that have some, by place in ``values``."""

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self.values)


@dataclass(frozen=True, slots=True)
class GonePosition:
    """A stored position that the broker does not have any more, or never had."""

    partition: str
    stored: str
    first: str
    """Oldest position that can be read."""
    end: str
    """Position after the newest message."""


@dataclass(frozen=True, slots=True)
class OpenedTopic:
    """A topic as a consumer found it."""

    topic_id: str
    """Identity, which a topic that is deleted and made again under the same name does not keep."""
    next: Mapping[str, str]
    """Position at which each partition is read on, by partition; those in ``gone`` are not read."""
    gone: tuple[GonePosition, ...] = ()


class BrokerConsumer(Protocol):
    """Reads one topic. One thread at a time."""

    @property
    def topic(self) -> str:
        """Name of the topic."""
        ...

    def open(self, topic_id: str, positions: Mapping[str, str]) -> OpenedTopic:
        """Assign all partitions, each at its position; what was assigned before is dropped.

        Args:
            topic_id: Identity of the topic that the positions are of; empty = there are none yet.
            positions: By partition. A partition without one begins where the configuration says, or, where others
                have one, at its beginning, as it was added to the topic later.

        Returns:
            What is assigned. Of a topic of another identity nothing is: then ``next`` is empty.

        Raises:
            BrokerUnavailable: The broker could not be reached, or does not have the topic.
        """
        ...

    def poll(self, messages_max: int, wait_s: float) -> Sequence[PartitionMessages]:
        """Return the next messages, at most ``messages_max``, after at most ``wait_s`` without any.

        Each partition is named once at most.

        Raises:
            BrokerUnavailable: The broker is gone, or a partition cannot be read: open again.
        """
        ...

    def is_outdated(self) -> bool:
        """Return whether the topic has other partitions than those that are assigned.

        Every assigned partition is asked for its end as well, which ``lag`` knows then: few requests, as many as there
        are partitions at most.

        Raises:
            BrokerUnavailable: The broker, or the one that leads a partition, could not be reached.
        """
        ...

    def lag(self) -> Mapping[str, int]:
        """Return how many messages each partition has behind the last poll, as far as the client knows.

        No request, and from any thread.
        """
        ...

    def delay(self) -> str:
        """Return what messages that are there wait for, though the broker answers; empty = nothing keeps them back.

        No request, and from any thread.
        """
        ...

    def show(self, positions: Mapping[str, str]) -> None:
        """Tell the broker how far the events are durable, for its own displays of lag; a failure changes nothing."""
        ...

    def close(self) -> None:
        """Release connections and threads."""
        ...
