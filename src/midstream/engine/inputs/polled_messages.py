"""Messages of one poll, numbered over all partitions: what their events are called, and where a dead letter is from."""

from collections.abc import Mapping, Sequence

import numpy as np

from midstream.engine.inputs.broker_consumer import PartitionMessages


class PolledMessages:
    """Messages of all partitions of one poll, one partition behind the other, each in its order."""

    def __init__(self, topic: str, parts: Sequence[PartitionMessages]) -> None:
        """Number the messages of ``parts`` from 0."""
        self.topic = topic
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
        return [f"{self.topic}-{each.partition}-{position}" for each in self.parts for position in each.positions]

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
