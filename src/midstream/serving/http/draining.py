"""Drain of a server before its stop: health says not ready, and requests are taken as before, for a stated time.

A load balancer looks at health now and then, and sends requests until it has seen that a server is not ready. A server
that closes its port at the order to stop refuses those. With a drain longer than the balancer's interval none is.

Reference: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
"""

import asyncio
import signal
import socket
from types import FrameType

import uvicorn

AT_ONCE = signal.SIGUSR1
"""Ends a follower, also one that drains: the process that owns the port sends it, and has drained where that is due."""
ACCEPT_PASSES = 5
"""Passes of the loop after which a connection is known that was accepted last; uvloop takes one or two."""
DRAINING = "this server is asked to stop, and answers until a balancer has seen that"


class DrainingServer(uvicorn.Server):
    """uvicorn's server, which goes on for a while after the first signal; a second one ends it at once."""

    def __init__(self, config: uvicorn.Config, drain_s: float = 0.0) -> None:
        """Serve as ``config`` has it; drain for so long, 0 = stop at the first signal."""
        super().__init__(config)
        self._drain_s = drain_s
        self._is_draining = False
        self._began_s: float | None = None
        """Time of the loop at which the drain began; None = it has not."""

    def wait(self) -> str:
        """Return why the server is not ready; empty = it does not drain."""
        return DRAINING if self._is_draining else ""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain, or to stop."""
        super().handle_exit(sig, frame)
        if self._drain_s and not self._is_draining and sig != AT_ONCE:
            self._is_draining, self.should_exit = True, False

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: return whether the server is to stop."""
        is_over = await super().on_tick(counter)
        if not self._is_draining:
            return is_over
        now_s = asyncio.get_running_loop().time()
        self._began_s = now_s if self._began_s is None else self._began_s
        return is_over or self._is_drained(now_s - self._began_s)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no further connection, then end those that are open when they have their answers.

        uvicorn tells those that it knows of. One that was just accepted would go on as if nothing were, hold up the
        stop for all of its time, and have its last request cut off.
        """
        for server in self.servers:
            server.close()
        for _ in range(ACCEPT_PASSES):
            await asyncio.sleep(0)
        await super().shutdown(sockets)

    def _is_drained(self, for_s: float) -> bool:
        """Return whether a drain is over that began so long ago."""
        return for_s >= self._drain_s
