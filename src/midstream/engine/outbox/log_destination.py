"""Destination of the log: the small Protocol of systems that events are delivered to by position.

A destination keeps, beside what was delivered, the position up to which that was done, so a restart asks it and nothing
else. Where both are stored in one transaction each event is there once after any kill; where they are not, a delivery
that is repeated has to change nothing.
"""

from dataclasses import dataclass
from typing import Protocol, Self

from midstream.core.errors import MidstreamError
from midstream.core.types import EventBatch, LogPosition, TimestampMs


class DestinationUnavailable(MidstreamError):
    """The destination does not answer, or refuses what came; the same call may succeed later."""


class DestinationFenced(DestinationUnavailable):
    """Another process delivers to the destination under the same name; it was fenced, or it fenced this one."""


@dataclass(frozen=True, slots=True)
class DeliveredPosition:
    """Log position up to which a destination has all events, with what tells logs and histories apart."""

    log: str
    """Public name of the log. A rewrite keeps it, and a backup has it too."""
    log_position: LogPosition
    """Number of events before it."""
    log_time_ms: TimestampMs
    """Log time of the event before it, which a rewrite keeps; 0 = there is none, or it is gone."""

    @property
    def text(self) -> str:
        """Stable form, as destinations store it."""
        return f"{self.log} {self.log_position} {self.log_time_ms}"

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Return the position that ``text`` was made of.

        Raises:
            ValueError: It is none.
        """
        log, position, time_ms = text.split(" ")
        return cls(log, LogPosition(int(position)), TimestampMs(int(time_ms)))


class LogDestination(Protocol):
    """Takes the log in batches. One call at a time; any call may be cancelled, and the next one is then ``resume``."""

    async def resume(self) -> DeliveredPosition | None:
        """Return the position up to which events are durable in the destination, None = it never had one.

        It is called first, and again after each failed or cancelled call: deliveries that are under way are completed,
        undone or fenced before it returns, so that none comes into effect afterwards. A process that delivered under
        the same name before is fenced.

        Raises:
            DestinationUnavailable: The destination could not be reached.
        """
        ...

    async def deliver(self, first: LogPosition, batch: EventBatch, upto: DeliveredPosition) -> None:
        """Store events and the position after them, durable on return.

        Args:
            first: Log position before the first event: the position before, unless an operator moved it.
            batch: Events in the order of the log; none = the position alone is stored, also an earlier one.
            upto: ``first`` plus the number of events, which ``resume`` returns from now on.

        Raises:
            DestinationUnavailable: The events may or may not be durable. They are with their position or, where the
                destination is not atomic, come again and change nothing that is there.
            DestinationFenced: Another process took over.
        """
        ...

    async def close(self) -> None:
        """Release connections and threads."""
        ...
