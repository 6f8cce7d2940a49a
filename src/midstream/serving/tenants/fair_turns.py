"""Fair turns of tenants on one event loop: requests of each tenant wait in a queue of its own, served in rounds.

A round lets one request of each waiting tenant begin, then the loop reads its sockets again. So a request of a quiet
tenant waits for two rounds at most, however many requests of another one came before it. A lone request begins at once
and costs a comparison. A queue has a maximum: a tenant that sends faster than it is answered gets refusals, which cost
a tenth of an answer, and no other tenant does.

Reference: Nagle, On packet switches with infinite storage, RFC 970, 1985 (a queue for each source, served in turn).
"""

import asyncio
from collections import deque


class FairTurns:
    """Queues of the tenants that wait for their turn."""

    def __init__(self) -> None:
        """Begin without requests."""
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        self._is_busy = False
        """Whether a request has begun in this pass of the loop."""

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
        if not self._is_busy:
            self._is_busy = True
            asyncio.get_running_loop().call_soon(self._round)
            return True
        queue = self._queues.setdefault(tenant, deque())
        if len(queue) >= waiting_max:
            return False
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(place)
        await place
        return True

    def _round(self) -> None:
        """Let one request of each tenant begin; one whose client is gone takes no turn."""
        begun = 0
        for tenant, queue in tuple(self._queues.items()):
            while queue:
                place = queue.popleft()
                if not place.done():
                    place.set_result(None)
                    begun += 1
                    break
            if not queue:
                del self._queues[tenant]
        self._is_busy = begun > 0
        if self._is_busy:
            asyncio.get_running_loop().call_soon(self._round)
