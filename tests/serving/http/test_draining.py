"""A drain takes as long as is stated, and begins with the first order to stop."""

import asyncio
import signal
import socket

import pytest
import uvicorn
import uvloop
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable

from midstream.engine.replication.shared_board import LEADER, Board
from midstream.serving.http.connection_admission import place_limits
from midstream.serving.http.connection_sharing import STOP_SEEN_S_MAX, Share, SharingServer
from midstream.serving.http.connections import bounded_protocol
from midstream.serving.http.draining import AT_ONCE, DrainingServer
from midstream.serving.http.read_limits import read_limits
from midstream.serving.options import ServerOptions
from tests.support.patience import PATIENCE_S


async def _app(_scope: object, _receive: object, _send: object) -> None:
    """Answer nothing."""


def server(drain_s: float) -> DrainingServer:
    """Return a server that does not serve."""
    return DrainingServer(uvicorn.Config(_app, log_config=None), drain_s)


@pytest.mark.parametrize("later_s", [0.0, 100.0])
def test_a_drain_lasts_from_the_first_look_after_the_order(monkeypatch: pytest.MonkeyPatch, later_s: float) -> None:
    """However long the server had run before; until then it goes on and is not ready."""
    draining = server(5.0)

    async def work() -> None:
        now_s = 0.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now_s)
        assert (await draining.on_tick(1), draining.wait()) == (False, "")
        now_s = later_s
        draining.handle_exit(signal.SIGTERM, None)
        for past_s, is_over in ((0.0, False), (4.9, False), (5.0, True), (6.0, True)):
            now_s = later_s + past_s
            assert await draining.on_tick(1) is is_over
            assert draining.wait()

    asyncio.run(work())


@pytest.mark.parametrize("is_draining", [False, True])
def test_the_owner_of_the_port_ends_a_follower_at_once(*, is_draining: bool) -> None:
    """It has drained itself, or puts another process in its place."""
    stopping = server(600.0)

    async def work() -> bool:
        if is_draining:
            stopping.handle_exit(signal.SIGTERM, None)
            assert not await stopping.on_tick(1)
        stopping.handle_exit(AT_ONCE, None)
        return await stopping.on_tick(1)

    assert asyncio.run(work())
    assert not stopping.force_exit


@pytest.mark.parametrize("leader_stops", [False, True])
def test_a_follower_drains_until_the_leader_ends_it(monkeypatch: pytest.MonkeyPatch, *, leader_stops: bool) -> None:
    """However much longer than its own drain that is; one that alone was signalled ends soon."""
    board = Board.make()

    async def work() -> None:
        now_s = 0.0
        listener = socket.socket()
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now_s)
        leader, follower = (
            SharingServer(uvicorn.Config(_app, log_config=None), Share(listener, board, each, lambda _: False), 0.1)
            for each in (LEADER, LEADER + 1)
        )
        follower.handle_exit(signal.SIGTERM, None)
        assert not board.stops
        assert not await follower.on_tick(1)
        now_s = STOP_SEEN_S_MAX / 2
        assert not await follower.on_tick(1)
        if leader_stops:
            leader.handle_exit(signal.SIGTERM, None)
        now_s = 1e6
        assert await follower.on_tick(1) is not leader_stops
        follower.handle_exit(AT_ONCE, None)
        assert await follower.on_tick(1)
        listener.close()

    asyncio.run(work())


@pytest.mark.parametrize("drain_s, signals", [(0.0, 1), (600.0, 2)])
def test_a_stop_is_at_once_without_a_drain_and_at_the_second_order(drain_s: float, signals: int) -> None:
    """Whoever cannot wait does not have to."""
    stopping = server(drain_s)

    async def work() -> list[bool]:
        found = [await stopping.on_tick(1)]
        for _ in range(signals):
            stopping.handle_exit(signal.SIGINT, None)
            found.append(await stopping.on_tick(1))
        return found

    assert asyncio.run(work()) == [False] * signals + [True]
    assert not stopping.force_exit, "requests in flight are answered"


async def is_ended(connection: socket.socket) -> bool:
    """Return whether the other side has ended a connection, however it did."""
    try:
        return not await asyncio.get_running_loop().sock_recv(connection, 1)
    except ConnectionError:
        return True


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("passes", range(5))
def test_a_connection_that_was_just_accepted_does_not_hold_up_a_stop(
    monkeypatch: pytest.MonkeyPatch, passes: int, *, shares: bool
) -> None:
    """It is ended as any other; left alone, its client could ask on, and the stop took all of its time."""
    client = socket.socket()

    async def work(listener: socket.socket) -> None:
        config = uvicorn.Config(_app, log_config=None, lifespan="off", timeout_graceful_shutdown=3_600)
        share = Share(listener, Board.make(), LEADER, lambda _: True)
        stopping = SharingServer(config, share) if shares else DrainingServer(config)
        tick = stopping.on_tick

        async def connected_before(counter: int) -> bool:
            if stopping.should_exit:
                client.connect(listener.getsockname())
                client.settimeout(0)
                for _ in range(passes):
                    await asyncio.sleep(0)
            return await tick(counter)

        monkeypatch.setattr(stopping, "on_tick", connected_before)
        served = asyncio.create_task(stopping.serve([listener]))
        while not stopping.started:  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # it accepts from its first tick on
        stopping.should_exit = True  # a signal would be raised again behind the stop
        await asyncio.wait_for(served, PATIENCE_S)
        listener.close()  # what is in the queue of a shared one is for other processes
        assert await asyncio.wait_for(is_ended(client), PATIENCE_S)

    with client, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work(listener))


async def _events(_scope: object, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Answer by one event, and send no other until the client goes."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass  # the request itself


def test_a_stream_of_events_does_not_hold_up_a_stop() -> None:
    """A page that is left open has one for ever; its browser opens the next one at the server that is started then."""
    options = ServerOptions()
    protocol = bounded_protocol(read_limits(options), _events, place_limits(options))

    async def work() -> None:
        config = uvicorn.Config(_events, http=protocol, log_config=None, lifespan="off", port=0)
        stopping = DrainingServer(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            served = asyncio.create_task(stopping.serve([listener]))
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await asyncio.wait_for(reader.readuntil(b"data: 1\n\n"), PATIENCE_S)
            stopping.should_exit = True
            await asyncio.wait_for(served, PATIENCE_S)
            writer.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())
