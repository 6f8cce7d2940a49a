"""Positions in a partition of Kafka: an offset, and the leader epoch of the message before it behind an ``@``.

Every client writes them alike, so that an input goes on at the same place when its client is changed. By the epoch a
broker can tell that its log was cut back below the position, and that what stands there now is something else.

Reference: KIP-320, "Allow fetchers to detect and handle log truncation".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from midstream.engine.inputs.broker_consumer import GonePosition

_POSITION = re.compile(r"(\d{1,19})(?:@(\d{1,10}))?\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class KafkaPlace:
    """One position, taken apart."""

    offset: int
    """Of the next message; −1 where the text is no position."""
    epoch: int | None = None
    """Of the leader that wrote the message before it; None = not known."""

    def __str__(self) -> str:
        """Return the text of the position."""
        return str(self.offset) if self.epoch is None else f"{self.offset}@{self.epoch}"


def place_of(text: str) -> KafkaPlace:
    """Return the place that a text names.

    Example:
        >>> place_of("17@3")
        KafkaPlace(offset=17, epoch=3)
    """
    found = _POSITION.match(text)
    if found is None:
        return KafkaPlace(-1)
    return KafkaPlace(int(found[1]), None if found[2] is None else int(found[2]))


def epoch_of(told: int | None) -> int | None:
    """Return an epoch as a client tells it: −1 and None are none."""
    return None if told is None or told < 0 else told


@dataclass(frozen=True, slots=True)
class Assignment:
    """Partitions and where they are read on."""

    places: Mapping[int, KafkaPlace]
    gone: tuple[GonePosition, ...]

    def next(self) -> Mapping[str, str]:
        """Return the positions as texts."""
        return {str(number): str(place) for number, place in self.places.items()}


def assigned(
    positions: Mapping[str, str],
    ranges: Mapping[int, tuple[int, int]],
    starts: Mapping[int, int],
    doubtful: Mapping[int, int],
) -> Assignment:
    """Return where each partition is read on, and which positions the broker does not have.

    Args:
        positions: Stored ones, by partition.
        ranges: Oldest offset of each partition and the one after its newest message.
        starts: Where partitions without a stored position begin.
        doubtful: Epochs up to which positions are in doubt, by partition, as the log was cut back since.
    """
    places: dict[int, KafkaPlace] = {}
    gone: list[GonePosition] = []
    for number, (first, end) in ranges.items():
        stored = positions[str(number)] if str(number) in positions else str(starts[number])
        place = place_of(stored)
        is_doubtful = place.epoch is not None and place.epoch <= doubtful.get(number, -1)
        if first <= place.offset <= end and not is_doubtful:
            places[number] = place
        else:
            gone.append(GonePosition(str(number), stored, str(first), str(end)))
    return Assignment(places, tuple(gone))
