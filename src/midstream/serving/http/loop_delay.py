"""Queueing delay of requests: on one thread, overload is a queue in the event loop and in its sockets.

The loop reads all sockets that have something, then begins what it read, in that order: a batch. What comes while it
works waits in its socket, where nobody sees it, until the next batch; an answer leaves as soon as it is made. So an
answer is as old as two batches at worst, and how long a batch may take is what decides whether answers come in time.

Only where requests come faster than they are answered is a wait a reason to refuse anybody: a burst is worked off,
and a machine that stood still for a moment is nobody's queue. So nothing is said of waiting until for a tenth of a
second no batch was small, and none came after a pause as long; a batch that takes so long itself is no pause. And a
batch that is smaller than what was let in of the one before is a queue that goes down: fewer came than were answered
meanwhile. Its last request came last, and waits for this batch alone.

Of most connections more is known: whoever waits for an answer before the next question cannot have sent it before that
answer left. Where that was during the batch before, the question is no older than that.

Reference: Nichols and Jacobson, Controlling Queue Delay, ACM Queue 10(5), 2012 (a standing queue, not a long one, is
what is wrong); Maurer, Fail at Scale, ACM Queue 13(8), 2015 (the same in front of requests).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from midstream.serving.http.responses import Scope

STANDING_S = 0.1
"""So long no batch was small: a queue that stands. The interval of CoDel."""
SMALL_S = 0.005
"""A batch that takes less until its last request is begun, with none refused, is no queue yet: CoDel's target."""
FEW = 8
"""Fewer requests than these are no queue whatever they take: a few callers that ask one question after another, of a
placement whose answers take long. Of the fastest answers, 0.3 ms, 17 make ``SMALL_S``."""
_READ_AT = "midstream.read_at"
_FREE_AT = "midstream.free_at"


class Wait(NamedTuple):
    """How long a request that begins now has waited, in seconds."""

    loop_s: float
    """Since its head was read."""
    batch_s: float
    """What its batch has taken so far; 0 while no queue stands."""
    age_s_max: float
    """Since the answer before it on its connection left, so that it is no older; infinite = none left yet."""


class LoopArrivals:
    """Batches of the loop's reads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Read nothing so far; ``clock`` gives seconds that never go back."""
        self._clock = clock
        self._calm_at = clock()
        self._begun_at = self._calm_at
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
        """Called with each request of the batch that is refused."""
        self._refused += 1

    def now(self) -> float:
        """Return the seconds that the others are measured by."""
        return self._clock()

    def read(self, scope: Scope, free_at: float | None = None) -> None:
        """Called with each request when its head was read, and when the answer before it left. Cost: 0.3 µs.

        Args:
            scope: Of the request.
            free_at: By ``now``, when its connection had nothing under way any more; None = it is not known.
        """
        now = self._clock()
        if self._begun:
            is_quiet = now - self._begun_at > STANDING_S
            is_small = self._begun_at - self._batch_at < SMALL_S and not self._refused  # refusals take no time
            if is_quiet or self._size < FEW or is_small:
                self._calm_at = now
            self._batch_at = now
            self._let_in_before = 0 if is_quiet else self._size - self._refused
            self._size, self._refused, self._begun = 0, 0, False
        self._size += 1
        scope[_READ_AT] = now
        scope[_FREE_AT] = free_at

    def take_over(self, scope: Scope) -> None:
        """Called with a request that other arrivals of the same loop have read: it is counted here as it came there."""
        read_at = scope.get(_READ_AT)
        self.read(scope, scope.get(_FREE_AT))
        if read_at is not None:
            scope[_READ_AT] = read_at

    def note_begin(self) -> None:
        """Called, in place of ``begin``, with each request whose wait nobody asks for."""
        self._begun = True
        self._begun_at = self._clock()

    def begin(self, scope: Scope) -> Wait:
        """Called with each request when it is begun; return how long it has waited."""
        now = self._clock()
        self._begun = True
        self._begun_at = now
        waited_s = now - scope.get(_READ_AT, now)
        if self._size < FEW or now - self._calm_at <= STANDING_S:
            return Wait(waited_s, 0.0, math.inf)
        free_at = scope.get(_FREE_AT)
        return Wait(waited_s, now - self._batch_at, math.inf if free_at is None else now - free_at)
