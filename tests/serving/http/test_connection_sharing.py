"""What processes at one socket promise: each has its share of the connections, and none waits for one that is gone."""

import asyncio
import socket
from collections import Counter
from functools import partial

import pytest
import uvloop

from midstream.core.types import LogPosition
from midstream.engine.replication.shared_board import Board, BoardRow
from midstream.serving.http import connection_sharing
from midstream.serving.http.connection_sharing import Acceptor, Share
from tests.support.patience import PATIENCE_S


class Greeter(asyncio.Protocol):
    """Says which process took the connection."""

    def __init__(self, process, open_ones):
        self._process = process
        self._open = open_ones

    def connection_made(self, transport):
        self._open[self._process] += 1
        self._transport = transport
        transport.write(b"%d" % self._process)

    def connection_lost(self, _error):
        self._open[self._process] -= 1


def share(listener, board, process):
    """Return a part in a port whose process takes connections."""
    board.write(process, BoardRow(connections=0, accepts=True, applied=LogPosition(0), is_ready=True))
    return Share(listener, board, process, lambda _: True)


async def taken(port, count):
    """Connect ``count`` times at once; return how many connections each process took."""
    pairs = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(count)))
    greetings = await asyncio.gather(*(asyncio.wait_for(reader.read(1), PATIENCE_S) for reader, _ in pairs))
    return Counter(int(each) for each in greetings), [writer for _, writer in pairs]


def run(processes, play):
    """Let ``play`` connect to a port that ``processes`` share, on one loop."""

    async def go():
        board = Board.make()
        open_ones: Counter[int] = Counter()
        with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
            listener.settimeout(0)
            acceptors = [
                Acceptor(
                    share(listener.dup(), board, process),
                    partial(Greeter, process, open_ones),
                    partial(open_ones.__getitem__, process),
                )
                for process in range(processes)
            ]
            for each in acceptors:
                each.turn(on=True)
            try:
                return await play(listener.getsockname()[1], acceptors, board)
            finally:
                for each in acceptors:
                    each.turn(on=False)
                    each._share.listener.close()
                await asyncio.sleep(0.01)  # what is closed is closed in the next turns of the loop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(go())


@pytest.mark.parametrize("processes,count", [(2, 16), (3, 16), (4, 50)])
def test_connections_are_spread_evenly(processes, count, monkeypatch):
    """Made at once, no process has more than one connection more than another, where none is held up for too long."""
    monkeypatch.setattr(connection_sharing, "YIELD_S", 0.05)  # a machine that is busy holds this loop up for 2 ms

    async def play(port, _acceptors, _board):
        found, writers = await taken(port, count)
        for each in writers:
            each.close()
        return found

    found = run(processes, play)
    assert sum(found.values()) == count
    assert max(found.values()) - min(found[process] for process in range(processes)) <= 1


def test_connections_one_after_another_are_spread_evenly(monkeypatch):
    """Each goes to a process with the fewest, not to the one that always wakes first."""
    monkeypatch.setattr(connection_sharing, "YIELD_S", 0.05)

    async def play(port, _acceptors, _board):
        total: Counter[int] = Counter()
        writers = []
        for _ in range(9):
            found, more = await taken(port, 1)
            total += found
            writers += more
        for each in writers:
            each.close()
        return total

    assert run(3, play) == Counter({0: 3, 1: 3, 2: 3})


def test_others_take_what_one_leaves():
    """A process that takes no connections gets none, and holds up nobody; afterwards it gets those that it lacks."""

    async def play(port, acceptors, board):
        acceptors[0].turn(on=False)
        board.write(0, BoardRow(connections=0, accepts=False, applied=LogPosition(0), is_ready=True))
        without, first = await taken(port, 6)
        acceptors[0].turn(on=True)
        board.write(0, BoardRow(connections=0, accepts=True, applied=LogPosition(0), is_ready=True))
        after, second = await taken(port, 6)
        for each in (*first, *second):
            each.close()
        return without, after

    without, after = run(2, play)
    assert without == Counter({1: 6})
    assert after[0] >= 5  # the other takes one where this loop is held up for longer than it waits


def test_a_process_that_says_nothing_delays_only():
    """One that hangs with fewer connections than the others: they take them all the same, a moment later."""

    async def play(port, acceptors, _board):
        acceptors[0].turn(on=False)  # and its line on the board says that it takes them
        found, writers = await taken(port, 5)
        for each in writers:
            each.close()
        return found

    assert run(2, play) == Counter({1: 5})
