"""Fair turns of tenants on one event loop: requests of each tenant wait in a queue of its own, the least served first.

One request begins at a time. What the loop does until the next turn is charged to its tenant, and the next turn is that
of the waiting tenant that was charged least; who was away has no credit from before. So a request of a quiet tenant
waits for the answer that is being made and for no further one, however many requests of others came before it. Where
several tenants ask, the loop reads its sockets before it chooses, which takes two passes: else the answer behind the
one that is being made would be chosen before a request that came meanwhile is seen.

A lone request begins at once and costs a comparison. A queue has a maximum: a tenant that sends faster than it is
answered gets refusals, which cost a tenth of an answer, and no other tenant does.

Reference: Goyal, Vin and Cheng, Start-time fair queueing, SIGCOMM 1996 (charged by the start tag, not preempted);
Nagle, On packet switches with infinite storage, RFC 970, 1985 (a queue for each source).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

MIXED_S: Final = 1.0
"""After a request of another tenant the loop reads before it chooses for so long: two passes of 10 µs an answer."""


class FairTurns:
    """Queues of the tenants that wait for their turn."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin without requests.

        Args:
            clock: Seconds that never go back.
        """
        self._clock = clock
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        self._charged: dict[str, float] = {}
        """Seconds of the loop by tenant, on a common scale: one that comes back begins where the others are."""
        self._running = ""
        """Tenant whose turn it is."""
        self._begun_at = 0.0
        self._least = 0.0
        """What the tenant of the newest turn was charged before it."""
        self._is_busy = False
        """Whether a request has begun in this pass of the loop."""
        self._newest = ""
        """Tenant of the newest request."""
        self._mixed_until = 0.0

    def waiting(self, tenant: str) -> int:
        """Return the number of requests of a tenant that wait."""
        queue = self._queues.get(tenant)
        return 0 if queue is None else len(queue)

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
            self._is_busy = True
            self._begin(tenant)
            asyncio.get_running_loop().call_soon(self._end)
            return True
        if self.waiting(tenant) >= waiting_max:
            return False
        queue = self._queues.get(tenant)
        if queue is None:
            queue = self._queues[tenant] = deque()
            self._charged[tenant] = max(self._charged.get(tenant, 0.0), self._least)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(place)
        await place
        return True

    def _begin(self, tenant: str) -> None:
        """Charge what follows to a tenant."""
        self._charged[tenant] = self._least = max(self._charged.get(tenant, 0.0), self._least)
        self._running, self._begun_at = tenant, self._clock()

    def _end(self) -> None:
        """Charge a turn, and choose the next one; where several tenants ask, behind what has come meanwhile."""
        now = self._clock()
        self._charged[self._running] += now - self._begun_at
        if now < self._mixed_until:
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
            place = queue.popleft()
            if not queue:
                del self._queues[tenant]
            if not place.done():
                place.set_result(None)
                self._begin(tenant)
                asyncio.get_running_loop().call_soon(self._end)
                return
        self._charged.clear()
        self._least = 0.0
        self._is_busy = False
