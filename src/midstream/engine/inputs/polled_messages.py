"""Messages of one poll, numbered over all partitions: what their events are called, and where a dead letter is from."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np

from midstream.engine.inputs.broker_consumer import PartitionMessages

TOPIC_HASH_BYTES = 5
"""Of a topic's identity, in ids of events: two topics of one name have the same hash once in 10^12."""


def topic_hash(topic_id: str) -> str:
    """Return a short hash of a topic's identity.

    Topics of one name have others: those of two clusters, and one that was deleted and made again.
    """
    return blake2b(topic_id.encode(), digest_size=TOPIC_HASH_BYTES).hexdigest()


class PolledMessages:
    """Messages of all partitions of one poll, one partition behind the other, each in its order."""

    def __init__(self, topic: str, topic_id: str, parts: Sequence[PartitionMessages]) -> None:
        """Number the messages of ``parts`` from 0; ``topic_id`` is the identity of the topic."""
        self.topic = topic
        self._prefix = f"{topic}-{topic_hash(topic_id)}"
        self.values: list[bytes | None] = [value for each in parts for value in each.values]
        """Contents, None = a message without one."""
        self.next: Mapping[str, str] = {each.partition: each.next for each in parts}
        """Position after the messages, by partition."""
        self.parts = parts
        self._starts = np.cumsum([0, *(len(each) for each in parts)])

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self.values)

    def ids(self) -> list[str]:
        """Return the event id that the position of each message makes."""
        return [f"{self._prefix}-{each.partition}-{position}" for each in self.parts for position in each.positions]

    def place(self, number: int) -> tuple[str, str]:
        """Return the partition and the position of a message."""
        messages, place = self._find(number)
        return messages.partition, messages.positions[place]

    def origin(self, number: int, row: int) -> Mapping[str, str]:
        """Return where an event came from, for its dead letter: topic, partition, position, row and headers.

        Args:
            number: Of the message.
            row: Of the event in it; -1 = it is all of the message.
        """
        messages, place = self._find(number)
        origin = {"topic": self.topic, "partition": messages.partition, "position": messages.positions[place]}
        if row >= 0:
            origin["row"] = str(row)
        return origin | {f"header {name}": value for name, value in messages.headers.get(place, {}).items()}

    def _find(self, number: int) -> tuple[PartitionMessages, int]:
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self.parts[part], number - int(self._starts[part])
