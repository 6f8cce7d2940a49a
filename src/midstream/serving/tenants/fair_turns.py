"""Fair turns of tenants on one event loop: requests of each tenant wait in a queue of its own, the least served first.

One request begins at a time. Each step of an answer, from one wait to the next, is timed and charged to its tenant, and
the next turn is that of the waiting tenant that was charged least; who was away has no credit from before. So a request
of a quiet tenant waits for the step that is being made and for no further one, however many requests of others came
before it. Where several tenants ask, the loop reads its sockets before it chooses, which takes two passes: else the
answer behind the one that is being made would be chosen before a request that came meanwhile is seen.

A step behind a wait (for a body, a disk, an outside system) takes a turn again where several tenants ask, in front of
its tenant's requests that have not begun. It goes on at once where its tenant is not ahead of the others: a wait for
the disk costs no turn. Work in other tasks than that of the request, such as folding, is not charged.

A lone request begins at once and costs some readings of the clock a step. A queue has a maximum: a tenant that sends
faster than it is answered gets refusals, which cost a tenth of an answer, and no other tenant does.

Reference: Goyal, Vin and Cheng, Start-time fair queueing, SIGCOMM 1996 (charged by the start tag, not preempted);
Nagle, On packet switches with infinite storage, RFC 970, 1985 (a queue for each source).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeAlias, TypeVar, cast

Result = TypeVar("Result")
Place: TypeAlias = asyncio.Future[None]
AGAIN_S_MAX: Final = 0.0005
"""A step behind a wait takes no turn where the steps since the last choice took less, and its tenant was charged no
more than this beyond that choice."""
MIXED_S: Final = 1.0
"""After a request of another tenant the loop reads before it chooses for so long: two passes of 10 µs an answer."""


@dataclass(slots=True)
class _Queue:
    """Requests of one tenant that wait for a turn."""

    begun: deque[Place] = field(default_factory=deque[Place])
    """Their next step comes behind a wait."""
    new: deque[Place] = field(default_factory=deque[Place])

    def take(self) -> Place:
        """Return the next one; there is one."""
        return self.begun.popleft() if self.begun else self.new.popleft()

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self.begun or self.new)


class FairTurns:
    """Queues of the tenants that wait for their turn."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin without requests.

        Args:
            clock: Seconds that never go back.
        """
        self._clock = clock
        self._queues: dict[str, _Queue] = {}
        self._charged: dict[str, float] = {}
        """Seconds of the loop by tenant, on a common scale: one that comes back begins where the others are."""
        self._steps_s = 0.0
        """What the steps of all tenants took since the newest turn began."""
        self._least = 0.0
        """What the tenant of the newest turn was charged before it."""
        self._is_busy = False
        """Whether a tenant has the turn, or the next one is to be chosen."""
        self._newest = ""
        """Tenant of the newest request."""
        self._mixed_until = 0.0

    def waiting(self, tenant: str) -> int:
        """Return the number of requests of a tenant that wait and have not begun."""
        queue = self._queues.get(tenant)
        return 0 if queue is None else len(queue.new)

    async def turn(self, tenant: str, waiting_max: int) -> bool:
        """Wait for the turn of a request; return False at once where as many of its tenant wait as may.

        Args:
            tenant: Name.
            waiting_max: Requests of the tenant that wait.
        """
        if tenant != self._newest:
            self._newest = tenant
            self._mixed_until = self._clock() + MIXED_S
        if not self._is_busy:
            self._begin(tenant)
            return True
        if self.waiting(tenant) >= waiting_max:
            return False
        place: Place = asyncio.get_running_loop().create_future()
        self._queue(tenant).new.append(place)
        await place
        return True

    def steps(self, tenant: str, answer: Coroutine[object, None, Result]) -> "Steps[Result]":
        """Return an awaitable in place of an answer that has its turn: its steps are charged to a tenant."""
        return Steps(self, self._clock, tenant, answer)

    def again(self, tenant: str) -> Place | None:
        """Return what the next step of an answer waits for behind a wait of its own, None = it goes on at once."""
        if self._clock() >= self._mixed_until:
            return None
        if not self._is_busy:
            self._begin(tenant)
            return None
        if self._steps_s < AGAIN_S_MAX and self._charged.get(tenant, 0.0) < self._least + AGAIN_S_MAX:
            return None
        place: Place = asyncio.get_running_loop().create_future()
        self._queue(tenant).begun.append(place)
        return place

    def charge(self, tenant: str, seconds: float) -> None:
        """Charge a step; while nobody takes turns there is nothing to share."""
        if self._is_busy:
            self._steps_s += seconds
            self._charged[tenant] = max(self._charged.get(tenant, 0.0), self._least) + seconds

    def _queue(self, tenant: str) -> _Queue:
        """Return the queue of a tenant; one that was away begins with what the others have."""
        queue = self._queues.get(tenant)
        if queue is None:
            queue = self._queues[tenant] = _Queue()
            self._charged[tenant] = max(self._charged.get(tenant, 0.0), self._least)
        return queue

    def _begin(self, tenant: str) -> None:
        """Give a turn to a tenant until the end of this pass of the loop."""
        self._is_busy = True
        self._charged[tenant] = self._least = max(self._charged.get(tenant, 0.0), self._least)
        self._steps_s = 0.0
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        """Choose the next turn; where several tenants ask, behind what has come meanwhile."""
        if self._clock() < self._mixed_until:
            asyncio.get_running_loop().call_soon(self._read)
        else:
            self._choose()

    def _read(self) -> None:
        """Let requests that were read behind the last pass come to their queues."""
        asyncio.get_running_loop().call_soon(self._choose)

    def _choose(self) -> None:
        """Let a request of the tenant begin that was charged least; one whose client is gone takes no turn."""
        while self._queues:
            tenant = min(self._queues, key=self._charged.__getitem__)
            queue = self._queues[tenant]
            place = queue.take()
            if not queue:
                del self._queues[tenant]
            if not place.done():
                place.set_result(None)
                self._begin(tenant)
                return
        self._charged.clear()
        self._least = 0.0
        self._is_busy = False


class Steps(Generic[Result]):
    """Awaitable and iterator of an answer, in the task that awaits it; errors and cancellations go to the answer."""

    __slots__ = ("_answer", "_clock", "_is_begun", "_place", "_tenant", "_turns")

    def __init__(
        self, turns: FairTurns, clock: Callable[[], float], tenant: str, answer: Coroutine[object, None, Result]
    ) -> None:
        """Front of an answer that has its turn."""
        self._turns = turns
        self._clock = clock
        self._tenant = tenant
        self._answer = answer
        self._is_begun = False
        self._place: Place | None = None
        """What the next step waits for."""

    def __await__(self) -> Generator[object, None, Result]:
        """Return the iterator that a task drives."""
        return cast("Generator[object, None, Result]", self)

    def __iter__(self) -> "Steps[Result]":
        """Return itself."""
        return self

    def __next__(self) -> object:
        """Make the next step; return what the answer waits for behind it."""
        if self._place is not None:
            self._place = None
        elif self._is_begun:
            self._place = self._turns.again(self._tenant)
            if self._place is not None:
                return next(iter(self._place.__await__()))
        self._is_begun = True
        began = self._clock()
        try:
            return self._answer.send(None)
        finally:
            self._turns.charge(self._tenant, self._clock() - began)

    def throw(self, error: BaseException) -> object:
        """Make the next step with the error of what the answer waited for, or a cancellation."""
        self._place = None
        began = self._clock()
        try:
            return self._answer.throw(error)
        finally:
            self._turns.charge(self._tenant, self._clock() - began)

    def close(self) -> None:
        """End the answer."""
        self._answer.close()
