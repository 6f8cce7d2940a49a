"""Load balancing of one port's connections between several processes: each accepts its share.

All of them accept from one shared socket, so a process that ends loses no queued connection, as separate sockets on one
port (SO_REUSEPORT) would. Without balancing the first process to wake would empty the queue. So each accepts one at a
time, and leaves it to the others for a moment while one of them has fewer.

Reference: measured, 16 connections at once to 2 processes: 1 to 15 and 16 to 0 at a shared socket as it is, 3 to 13
and 12 to 4 with SO_REUSEPORT, 8 to 8 here.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import cast

import uvicorn

from midstream.engine.replication.shared_board import LEADER, Board
from midstream.serving.http.draining import DrainingServer

YIELD_S = 0.002
"""Time for which a connection is left to a process with fewer: ten times the time to wake."""
NO_ROOM_S = 1.0
"""Without descriptors or memory it is tried again after this."""
STOP_SEEN_S_MAX = 1.0
"""Within this after a signal to a follower the leader has the same one, if all processes of a server are signalled."""
_NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """One process's part in a port."""

    listener: socket.socket
    """Bound and listening; the others have it too."""
    board: Board
    process: int
    """Its number on the board."""
    tick: Callable[[int], bool]
    """Called ten times a second with the number of open connections; returns whether to take further ones."""


class Acceptor:
    """Takes connections off a shared socket, one at a time."""

    def __init__(self, share: Share, protocol: Callable[[], asyncio.Protocol], count: Callable[[], int]) -> None:
        """Give each connection a ``protocol``; ``count`` returns the number of connections."""
        self._share = share
        self._protocol = protocol
        self._count = count
        self._opening: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.is_on = False

    def turn(self, *, on: bool) -> None:
        """Begin or stop accepting connections; queued ones go to other processes."""
        if on == self.is_on:
            return
        self.is_on = on
        loop = asyncio.get_running_loop()
        if on:
            loop.add_reader(self._share.listener, self._on_waiting)
            return
        loop.remove_reader(self._share.listener)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def settle(self) -> None:
        """Return when each connection that was taken has its protocol."""
        if self._opening:
            await asyncio.wait(self._opening)

    def _on_waiting(self) -> None:
        """A connection is queued: accept it, or leave it to the others for a moment."""
        share = self._share
        share.board.count_connections(share.process, self._count() + len(self._opening))
        if share.board.is_fuller_than_another(share.process):
            self._come_back(YIELD_S)
        else:
            self._take()

    def _come_back(self, after_s: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._share.listener)
        self._timer = loop.call_later(after_s, self._take_after_all)

    def _take_after_all(self) -> None:
        self._timer = None
        asyncio.get_running_loop().add_reader(self._share.listener, self._on_waiting)
        self._take()

    def _take(self) -> None:
        try:
            connection, _ = self._share.listener.accept()
        except OSError as error:  # also when another process was faster, or the client is gone again
            if error.errno in _NO_ROOM:
                self._come_back(NO_ROOM_S)
            return
        connection.settimeout(0)
        task = asyncio.get_running_loop().create_task(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        self._share.board.count_connections(self._share.process, self._count() + len(self._opening))

    async def _open(self, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        except OSError:
            connection.close()


class SharingServer(DrainingServer):
    """A server with an acceptor in place of a listening socket of its own."""

    def __init__(self, config: uvicorn.Config, share: Share, drain_s: float = 0.0) -> None:
        """Serve what ``share`` gives; drain for so long before a stop."""
        super().__init__(config, drain_s)
        self._share = share
        self._acceptor = Acceptor(share, self._protocol, lambda: len(self.server_state.connections))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain, or to stop; that of the leader is on the board."""
        if self._share.process == LEADER:
            self._share.board.say_stop()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start without a socket; the first tick begins to accept."""
        await super().startup(sockets=[])

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: write this process's numbers, accept or not."""
        is_over = await super().on_tick(counter)
        takes = self._share.tick(len(self.server_state.connections))
        self._acceptor.turn(on=takes and not is_over)
        return is_over

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Leave further connections to others, then end those that are open when they have their answers."""
        self._acceptor.turn(on=False)
        await self._acceptor.settle()
        await super().shutdown(sockets=[])

    def _is_drained(self, for_s: float) -> bool:
        """Return whether a drain is over; that of a follower ends with the leader's, which ends the follower.

        One that alone was signalled stops: the others serve, and it is started again.
        """
        if self._share.process == LEADER:
            return super()._is_drained(for_s)
        return for_s >= STOP_SEEN_S_MAX and not self._share.board.stops

    def _protocol(self) -> asyncio.Protocol:
        make = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
