"""How long requests wait for their turn: on one thread, overload shows as a queue in the event loop and in its sockets.

The loop reads all sockets that have something, then begins what it read, in that order: a batch. What comes while it
works waits in its socket, where nobody sees it, until the next batch; an answer leaves as soon as it is made. So an
answer is as old as two batches at worst, and how long a batch may take is what decides whether answers come in time.

Only where requests come faster than they are answered is a wait a reason to refuse anybody: a burst is worked off,
and a machine that stood still for a moment is nobody's queue. So nothing is said of waiting until for a tenth of a
second no batch was small. And a batch that is smaller than what was let in of the one before is a queue that goes down:
fewer came than were answered meanwhile. Its last request came last, and waits for this batch alone.

Reference: Nichols and Jacobson, Controlling Queue Delay, ACM Queue 10(5), 2012 (a standing queue, not a long one, is
what is wrong); Maurer, Fail at Scale, ACM Queue 13(8), 2015 (the same in front of requests).
"""

from collections.abc import Callable

from midstream.serving.reply import Scope

STANDING_S = 0.1
"""So long no batch was small: a queue that stands. The interval of CoDel."""
SMALL_BATCH = 8
"""Requests of a batch that are no queue yet: 5 ms of work, CoDel's target."""
_READ_AT = "midstream.read_at"


class Arrivals:
    """What the loop has read, batch by batch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Read nothing so far; ``clock`` gives seconds that never go back."""
        self._clock = clock
        self._calm_at = clock()
        self._read_at = self._calm_at
        self._batch_at = self._calm_at
        self._size = 0
        self._refused = 0
        self._let_in_before = 0
        self._begun = False

    @property
    def goes_down(self) -> bool:
        """Whether fewer requests came during the batch before than were let in of it."""
        return self._size < self._let_in_before

    def refuse(self) -> None:
        """Called with each request of the batch that is not let in."""
        self._refused += 1

    def read(self, scope: Scope) -> None:
        """Called with each request when its head was read. Cost: 0.3 µs."""
        now = self._clock()
        if self._begun:
            is_quiet = now - self._read_at > STANDING_S
            if is_quiet or self._size < SMALL_BATCH:
                self._calm_at = now
            self._batch_at = now
            self._let_in_before = 0 if is_quiet else self._size - self._refused
            self._size, self._refused, self._begun = 0, 0, False
        self._size += 1
        self._read_at = now
        scope[_READ_AT] = now

    def begin(self, scope: Scope) -> tuple[float, float]:
        """Called with each request when it is begun.

        Returns:
            Seconds that it waited in the loop, and seconds that its batch has taken so far: 0 while no queue stands.
        """
        now = self._clock()
        self._begun = True
        waited_s = now - scope.get(_READ_AT, now)
        if self._size < SMALL_BATCH or now - self._calm_at <= STANDING_S:
            return waited_s, 0.0
        return waited_s, now - self._batch_at
