"""Batching of events: one queue with a bound, batches by count and by time, and the outcome of each event.

The queue decides what is due; two buffers wait and send for it, one by a thread and one by a task. One batch is under
way at a time, so events reach the log in the order in which they were added.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from midstream.client.client_errors import ClientError, EventsRejected, RequestTooLarge
from midstream.client.requests import Event, with_event_ids
from midstream.core.answers.events import EventsAnswer, Rejection

W = TypeVar("W")
RECORDED, FAILED = "recorded", "failed"
BYTES_MAX = 262_144
"""Of one request (docs/events.md); an event that is larger by itself is sent alone."""


class BufferOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a buffer sends, and how much it holds."""

    batch_max: int = 200
    """Events of one request: the server takes 500. Fewer are sent where these would exceed 256 KiB."""
    age_s_max: float = 1.0
    """How long an event waits for others before it is sent."""
    events_max: int = 10_000
    """Events that are held, those under way included: some 10 MB. Adding waits while there are as many."""
    room_s_max: float = 10.0
    """How long adding waits for room: as long as the deadline of a call."""


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """Result of one event of a buffer."""

    event_id: str
    outcome: str
    """``recorded``, ``duplicate``, ``conflict``, ``rejected``, or ``failed`` when its batch was not acknowledged."""
    rejection: Rejection | None = None
    """Why it was rejected."""
    error: ClientError | None = None
    """Why its batch failed. The event may have been recorded all the same; sent again with its id it counts once."""


@dataclass(frozen=True, slots=True)
class Queued(Generic[W]):
    """An event that waits, with the waiter for its outcome."""

    event: Mapping[str, object]
    added_s: float
    waiter: W
    bytes_count: int
    """Of the event as JSON."""


class BatchQueue(Generic[W]):
    """Events that wait, oldest first; not for several threads at once."""

    def __init__(self, options: BufferOptions, new_id: Callable[[], str]) -> None:
        """Hold nothing yet.

        Raises:
            ValueError: An option is out of its bounds.
        """
        if not 1 <= options.batch_max <= options.events_max:
            message = f"batch_max={options.batch_max} is from 1 to events_max={options.events_max}"
            raise ValueError(message)
        self._options = options
        self._new_id = new_id
        self._waiting: deque[Queued[W]] = deque()
        self._under_way: list[Queued[W]] = []
        self._flushed = 0
        self._returned = 0
        self._returned_max = 0
        self.counts: Counter[str] = Counter()
        """Events by outcome."""

    @property
    def has_room(self) -> bool:
        """Whether one more event may be added."""
        return len(self._waiting) + len(self._under_way) < self._options.events_max

    @property
    def settled(self) -> int:
        """Number of events that have their outcome."""
        return self.counts.total()

    def add(self, event: Event, now_s: float, waiter: W) -> None:
        """Add a copy of an event at the end, with an id where it has none.

        Raises:
            TypeError: A value of the event has no form in JSON.
            ValueError: As above, such as a text that is no Unicode.
        """
        (named,) = with_event_ids(event, self._new_id)
        encoded = msgspec.json.encode(named)
        kept = msgspec.json.decode(encoded, type=dict[str, object])
        self._waiting.append(Queued(kept, now_s, waiter, len(encoded)))

    def flush(self) -> int:
        """Make all events that wait now due; return the number of events that were ever added."""
        self._flushed = len(self._waiting)
        return self.settled + len(self._under_way) + len(self._waiting)

    def due_in_s(self, now_s: float) -> float | None:
        """Return the seconds until a batch is due, 0 = it is; None = nothing waits."""
        if not self._waiting:
            return None
        if self._flushed or len(self._waiting) >= self._options.batch_max:
            return 0.0
        return max(0.0, self._waiting[0].added_s + self._options.age_s_max - now_s)

    def take(self) -> list[Queued[W]]:
        """Return the oldest events as a batch that is under way until ``settle``."""
        count_max = min(self._returned, self._returned_max) or self._options.batch_max
        batch: list[Queued[W]] = []
        left = BYTES_MAX - 1  # a bracket; each event has a comma or the other bracket behind it
        while self._waiting and len(batch) < count_max:
            left -= self._waiting[0].bytes_count + 1
            if batch and left < 0:
                break
            batch.append(self._waiting.popleft())
        self._flushed = max(0, self._flushed - len(batch))
        self._returned = max(0, self._returned - len(batch))
        self._under_way = batch
        return batch

    def settle(self, batch: Sequence[Queued[W]], result: EventsAnswer | ClientError) -> list[EventOutcome]:
        """Return the outcome of each event of a batch, in order, and count them.

        A batch of several events that is too large for the server has none yet: its halves are due, in its place.
        """
        self._under_way = []
        if isinstance(result, RequestTooLarge) and len(batch) > 1:
            self._waiting.extendleft(reversed(batch))
            self._returned += len(batch)
            self._returned_max = len(batch) // 2
            self._flushed = max(self._flushed + len(batch), self._returned)
            return []
        found = outcomes_of([str(each.event["event_id"]) for each in batch], result)
        self.counts.update(each.outcome for each in found)
        return found

    def fail(self, error: ClientError) -> list[tuple[W, EventOutcome]]:
        """Take all events, those under way included; return the waiter and the outcome of each, and count them."""
        rest = [*self._under_way, *self._waiting]
        self._waiting.clear()
        self._flushed = self._returned = 0
        return list(zip((each.waiter for each in rest), self.settle(rest, error), strict=True))


def outcomes_of(event_ids: Sequence[str], result: EventsAnswer | ClientError) -> list[EventOutcome]:
    """Return the outcomes of a batch: an answer names every event that was not recorded."""
    if isinstance(result, EventsRejected) and isinstance(result.answer, EventsAnswer):
        result = result.answer
    if isinstance(result, ClientError):
        return [EventOutcome(each, FAILED, error=result) for each in event_ids]
    other = {each.index: each.outcome for each in result.results}
    reasons = {each.index: each for each in reversed(result.rejected)}
    return [EventOutcome(each, other.get(place, RECORDED), reasons.get(place)) for place, each in enumerate(event_ids)]
