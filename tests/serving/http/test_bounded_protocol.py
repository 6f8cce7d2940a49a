"""One connection, byte by byte: what the app is told of a request that was read."""

import asyncio
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from midstream.core.durations import Duration
from midstream.serving.http.body_reader import WHOLE
from midstream.serving.http.bounded_protocol import BoundedProtocol
from midstream.serving.http.connection_admission import PlaceLimits, Places
from midstream.serving.http.framing import STEP_BYTES
from midstream.serving.http.read_limits import ConnectionBounds, ReadLimits, uncounted
from midstream.serving.http.responses import AT_ONCE, NO_STORE, Reply, send_reply
from midstream.serving.options import ServerOptions
from tests.serving.conftest import Client
from tests.support.fakes.engine import FakeEngine

HEAD = b"POST /v1/recommendations HTTP/1.1\r\nhost: m\r\ncontent-length: 2\r\n\r\n"
LIMITS = ReadLimits(32_768, 10.0, 262_144, 10.0)

UPGRADE = b"connection: upgrade\r\nupgrade: h2c\r\n"
LONG = b"x" * 3_000
WHOLE_REQUESTS = [
    (b"GET / HTTP/1.1\r\n\r\n", ("GET", b"")),
    (b"\r\nGET / HTTP/1.1\r\n" + UPGRADE + b"\r\n", ("GET", b"")),
    (
        b"POST / HTTP/1.1\r\n" + UPGRADE + b"content-length: 27\r\n\r\nDELETE /x HTTP/1.1\r\na: b\r\n\r",
        ("POST", b"DELETE /x HTTP/1.1\r\na: b\r\n\r"),
    ),
    (b"PUT / HTTP/1.1\r\ncontent-length: 3000\r\n\r\n" + LONG, ("PUT", LONG)),
    (b"PUT / HTTP/1.1\r\nx: " + LONG + b"\r\ncontent-length: 1\r\n\r\n1", ("PUT", b"1")),
    (
        b"POST / HTTP/1.1\r\n"
        + UPGRADE
        + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;e=f\r\nc\r\n0\r\nupgrade: x\r\n\r\n",
        ("POST", b"abc"),
    ),
    (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nbb8\r\n" + LONG + b"\r\n0\r\n\r\n", ("POST", LONG)),
]


class Wire(asyncio.Transport):
    """A transport that nobody reads."""

    def __init__(self):
        """Nothing was written."""
        super().__init__()
        self.written = []
        self.closed = []

    def write(self, data):
        """Take it."""
        self.written.append(bytes(data))

    def close(self):
        """Nothing is left open."""
        self.closed.append(True)

    def pause_reading(self):
        """A request waits for the one before."""

    def resume_reading(self):
        """None does."""

    def write_eof(self):
        """Nobody waits for the end."""

    def is_closing(self):
        """Never."""
        return False

    def get_write_buffer_size(self):
        """Return nothing: whatever is written is gone."""
        return 0

    def get_extra_info(self, name, default=None):
        """Nothing is known."""
        return default


def connected(app, wire, loop=None, bounds=None):
    """Return a connection of an app that was made."""
    config = uvicorn.Config(
        app, interface="asgi3", lifespan="off", log_config=None, access_log=False, proxy_headers=False
    )
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"now"), (b"server", b"us")]
    protocol = BoundedProtocol(config, state, {}, loop, bounds=bounds or ConnectionBounds(LIMITS))
    protocol.connection_made(wire)
    return protocol


def marks(pieces):
    """Read pieces one after another; return after each whether the newest request is said to be whole."""

    async def app(_scope, _receive, _send):
        await asyncio.Event().wait()

    async def read():
        protocol = connected(app, Wire())
        found = []
        for piece in pieces:
            protocol.data_received(piece)
            found.append(WHOLE in protocol.scope)
        protocol.connection_lost(None)
        for task in protocol.tasks:
            task.cancel()
        return found

    return asyncio.run(read())


@pytest.mark.parametrize(
    "pieces, wanted",
    [
        ([HEAD + b"{}"], [True]),
        ([HEAD, b"{", b"}"], [False, False, True]),
        ([HEAD + b"{}", HEAD + b"{"], [True, False]),
    ],
)
def test_a_body_is_called_whole_once_its_last_byte_came(pieces, wanted):
    """Before that it is waited for, under a time-out; one that is whole needs none. Each request has its own mark."""
    assert marks(pieces) == wanted


def written(sent, reply, *, forgets=False):
    """Return what is written when an app gives one answer to each request, by the long way if it ``forgets`` the short.

    ``sent`` comes in one piece.
    """

    async def app(scope, receive, send):
        if forgets:
            del scope[AT_ONCE]
        await receive()
        await send_reply(scope, send, reply)

    async def read():
        wire = Wire()
        protocol = connected(app, wire)
        protocol.data_received(sent)
        while protocol.tasks:
            await asyncio.wait(tuple(protocol.tasks))
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        assert protocol.server_state.total_requests == sent.count(b" HTTP/")
        return wire

    return asyncio.run(read())


USUAL = Reply(200, b'{"items":[]}', headers=NO_STORE)


@pytest.mark.parametrize(
    "sent, reply, pieces",
    [
        (HEAD + b"{}", USUAL, 1),
        (HEAD + b"{}" + HEAD + b"{}", USUAL, 2),
        (HEAD.replace(b"1.1", b"1.0") + b"{}", USUAL, 2),
        (HEAD.replace(b"host", b"connection: close\r\nhost") + b"{}", USUAL, 2),
        (HEAD.replace(b"POST", b"HEAD") + b"{}", USUAL, 1),
        (HEAD + b"{}", Reply(503, b"{}", headers=NO_STORE), 2),
        (HEAD + b"{}", Reply(200, b"{}", b"text/plain", NO_STORE), 2),
        (HEAD + b"{}", Reply(200, b"{}", headers=(*NO_STORE, (b"connection", b"close"))), 2),
    ],
)
def test_what_is_written_at_once_is_what_uvicorn_writes_in_two_pieces(sent, reply, pieces):
    """An answer that is not the usual one, or must wait or end the connection, goes the long way."""
    short, long = written(sent, reply), written(sent, reply, forgets=True)
    assert b"".join(short.written) == b"".join(long.written)
    assert len(short.written) == pieces
    assert short.closed == long.closed


@pytest.mark.parametrize("more", [b"", HEAD[:20]])
def test_an_answer_to_nobody_is_not_written(more):
    """The client is gone, within the next head or before: what is sent to it goes nowhere, and is no error."""

    async def gone():
        wire, came = Wire(), asyncio.Event()

        async def app(scope, _receive, send):
            await came.wait()
            await send_reply(scope, send, USUAL)

        protocol = connected(app, wire)
        protocol.data_received(HEAD + b"{}" + more)
        (task,) = protocol.tasks
        protocol.connection_lost(ConnectionResetError())
        came.set()
        await task
        return wire.written

    assert asyncio.run(gone()) == []


class Later:
    """A loop whose time stands; what is to be called later is called by hand."""

    def __init__(self, loop):
        """Begin at 0; tasks run on ``loop``."""
        self.now = 0.0
        self.create_task = loop.create_task
        self.set = []

    def time(self):
        """Return where it stands."""
        return self.now

    def call_later(self, wait_s, callback):
        """Keep what is to be called, and when."""
        handle = asyncio.TimerHandle(self.now + wait_s, callback, (), asyncio.get_running_loop())
        self.set.append(handle)
        return handle


def test_an_idle_connection_is_closed_by_a_timer_that_is_set_once_and_not_with_each_request():
    """It looks for how long nothing came: the time since the last answer counts, and none while one is made."""

    async def idle():
        later, wire, go = Later(asyncio.get_running_loop()), Wire(), asyncio.Event()
        go.set()

        async def app(scope, receive, send):
            await go.wait()
            await receive()
            await send_reply(scope, send, USUAL)

        async def ask(at):
            later.now = at
            protocol.data_received(HEAD + b"{}")
            while go.is_set() and protocol.tasks:
                await asyncio.wait(tuple(protocol.tasks))
                await asyncio.sleep(0)

        protocol = connected(app, wire, later)
        wait_s = protocol.timeout_keep_alive
        begun = len(later.set)
        for at in (1.0, 2.0, 3.0):
            await ask(at)
        (timer,) = later.set[begun:]
        assert timer.when() == 1.0 + wait_s

        later.now = timer.when()
        timer._run()
        assert not wire.closed
        assert later.set[-1].when() == 3.0 + wait_s

        go.clear()
        await ask(later.now + 1.0)
        later.now = later.set[-1].when()
        later.set[-1]._run()
        assert not wire.closed  # an answer is being made
        go.set()
        await asyncio.wait(tuple(protocol.tasks))
        assert later.set[-1].when() == later.now + wait_s

        later.now += wait_s
        later.set[-1]._run()
        assert len(wire.closed) == 1

    asyncio.run(idle())


def test_a_connection_that_ends_leaves_no_timer():
    """Nor does it keep itself: its last request's scope names it no more."""

    async def end():
        async def app(scope, receive, send):
            await receive()
            await send_reply(scope, send, USUAL)

        later = Later(asyncio.get_running_loop())
        protocol = connected(app, Wire(), later)
        protocol.data_received(HEAD + b"{}")
        await asyncio.wait(tuple(protocol.tasks))
        protocol.connection_lost(ConnectionResetError())
        assert all(each.cancelled() for each in later.set)
        assert AT_ONCE not in protocol.scope

    asyncio.run(end())


class Slow(Wire):
    """A transport whose other side reads when it is told to."""

    def __init__(self):
        """Everything is unread."""
        super().__init__()
        self.unread = 0
        self.reads = True
        self.is_aborted = False
        self.on_write = None

    def write(self, data):
        """Keep it; say that it is too much, where somebody wants to know."""
        super().write(data)
        self.unread += len(data)
        if self.on_write is not None:
            self.on_write()

    def get_write_buffer_size(self):
        """Return what is unread."""
        return self.unread

    def pause_reading(self):
        """Nothing more comes."""
        self.reads = False

    def resume_reading(self):
        """More may come."""
        self.reads = True

    def is_closing(self):
        """Return whether it was closed."""
        return bool(self.closed)

    def abort(self):
        """Throw away what is unread."""
        self.is_aborted = True


async def answer_usually(scope, receive, send):
    """Answer as most routes do."""
    await receive()
    await send_reply(scope, send, USUAL)


async def settled(protocol):
    """Return when all that was begun is answered."""
    while protocol.tasks:
        await asyncio.wait(tuple(protocol.tasks))
        await asyncio.sleep(0)


def test_while_answers_are_unread_nothing_is_read_or_begun():
    """It goes on where it stopped once they are read; all of it is answered, each once."""

    async def go():
        wire, begun = Slow(), []

        async def app(scope, receive, send):
            begun.append(scope["path"])
            await answer_usually(scope, receive, send)

        protocol = connected(app, wire)
        wire.on_write = protocol.pause_writing
        protocol.data_received((HEAD + b"{}") * 3)
        await settled(protocol)
        assert (len(begun), len(protocol.pipeline)) == (1, 2)
        assert not wire.reads
        wire.on_write = None
        protocol.resume_writing()
        await settled(protocol)
        assert (protocol.server_state.total_requests, len(begun)) == (3, 3)
        assert wire.reads
        protocol.connection_lost(None)

    asyncio.run(go())


@pytest.mark.parametrize(
    "sent, status", [(b"no HTTP\r\n\r\n", b" 400 "), (HEAD.replace(b"host: m", b"host: " + b"m" * 70_000), b" 431 ")]
)
def test_an_error_that_an_app_handles_is_not_taken_for_the_parsers(caplog, sent, status):
    """What is pipelined is parsed while the answer before it is made, maybe in a handler of exceptions: Python names
    what that handles as the cause of all that is raised meanwhile.
    """

    async def go():
        wire = Wire()
        protocol = connected(answer_usually, wire)
        with ExitStack() as stack:
            stack.push(lambda *_: protocol.data_received(sent) or True)
            raise LookupError
        await settled(protocol)
        assert status in b"".join(wire.written)
        protocol.connection_lost(None)

    asyncio.run(go())
    assert [record for record in caplog.records if record.exc_info] == []


def test_who_has_no_place_stands_in_no_queue():
    """Requests that are refused for want of a place are never let in, so no question seems to wait behind them."""

    async def go():
        read: list[dict[str, object]] = []
        arrivals: Any = SimpleNamespace(read=lambda scope, _: read.append(scope), now=lambda: 0.0)
        places = Places(PlaceLimits(0, 0, 1), uncounted)
        bounds = ConnectionBounds(LIMITS, places, arrivals)
        protocol = connected(answer_usually, Wire(), bounds=bounds)
        protocol.data_received(HEAD + b"{}")
        await settled(protocol)
        assert not read
        protocol.connection_lost(None)
        heard = connected(answer_usually, Wire(), bounds=bounds)
        heard.data_received(HEAD.replace(b"/v1/recommendations", b"/health/live") + b"{}")
        await settled(heard)
        assert [each["path"] for each in read] == ["/health/live"]
        heard.connection_lost(None)

    asyncio.run(go())


def test_it_is_known_when_the_answer_before_left():
    """Of a question that came alone, after it; not of a connection's first one, nor of one sent behind another."""

    async def go():
        told: list[float | None] = []
        arrivals: Any = SimpleNamespace(read=lambda _, free_at: told.append(free_at), now=lambda: 7.0 + len(told))
        protocol = connected(answer_usually, Wire(), bounds=ConnectionBounds(LIMITS, None, arrivals))
        for data in (HEAD + b"{}", HEAD + b"{}", 2 * (HEAD + b"{}"), HEAD + b"{}"):
            protocol.data_received(data)
            await settled(protocol)
        assert told == [None, 8.0, 9.0, None, 11.0]
        protocol.connection_lost(None)

    asyncio.run(go())


def test_no_more_than_a_step_is_parsed_before_its_turn():
    """Thousands of requests in one read are bytes until then."""

    async def go():
        wire, go_on = Slow(), asyncio.Event()

        async def app(scope, receive, send):
            await go_on.wait()
            await answer_usually(scope, receive, send)

        protocol = connected(app, wire)
        shortest = b"GET / HTTP/1.1\r\n\r\n"
        protocol.data_received(shortest * 10_000)
        assert len(protocol.pipeline) < STEP_BYTES / len(shortest)
        assert not wire.reads
        go_on.set()
        await settled(protocol)
        assert protocol.server_state.total_requests == 10_000
        assert wire.reads
        protocol.connection_lost(None)

    asyncio.run(go())


def test_a_client_that_reads_nothing_is_cut_off_and_one_that_reads_slowly_is_not():
    """What is left in the buffer is looked at after the time of an idle connection, closed or not."""

    async def go(*, closes):
        later, wire = Later(asyncio.get_running_loop()), Slow()
        protocol = connected(answer_usually, wire, later)
        wire.write(b"x" * 100)
        if closes:
            protocol.close()
        else:
            protocol.pause_writing()
        for _ in range(3):
            wire.unread -= 10
            later.set[-1]._run()
            assert not wire.is_aborted
        later.set[-1]._run()
        assert wire.is_aborted
        protocol.connection_lost(ConnectionAbortedError())

    asyncio.run(go(closes=True))
    asyncio.run(go(closes=False))


def test_a_client_that_left_has_nothing_begun_for_it():
    """What waited for the answer before goes with it, and what runs hears of it."""

    async def go():
        heard, begun = [], []

        async def app(scope, receive, _send):
            begun.append(scope["path"])
            await receive()
            heard.append((await receive())["type"])

        protocol = connected(app, Slow())
        protocol.data_received((HEAD + b"{}") * 3)
        await asyncio.sleep(0)
        protocol.connection_lost(ConnectionResetError())
        await settled(protocol)
        assert (len(begun), heard) == (1, ["http.disconnect"])

    asyncio.run(go())


def test_questions_of_clients_that_left_while_they_waited_make_no_slate(monkeypatch):
    """They are counted as such: a slate and its served record would be of nobody."""

    async def go():
        engine, asked, place = FakeEngine(), [], asyncio.Event()
        recommend = FakeEngine.recommend

        async def slow(self, *given, **named):
            asked.append(given)
            await place.wait()
            return await recommend(self, *given, **named)

        monkeypatch.setattr(FakeEngine, "recommend", slow)
        app = Client(engine, ServerOptions(answers_max=1, answer_wait_max=Duration("1m"))).app
        first, *others = (connected(app, Wire()) for _ in range(4))
        for each in (first, *others):
            each.data_received(HEAD.replace(b"host: m", b"host: test\r\ncontent-type: application/json") + b"{}")
            await asyncio.sleep(0.01)
        for each in others:
            each.connection_lost(None)
        place.set()
        for each in (first, *others):
            await settled(each)
        assert len(asked) == 1
        assert b'status="499"} 3.0' in engine.metrics.text()

    asyncio.run(go())


@given(st.data())
def test_cutting_what_comes_changes_no_answer(data):
    """Any requests, upgrades, trailers and what follows them, cut anywhere: as many requests with the same bodies."""
    requests = data.draw(st.lists(st.sampled_from(WHOLE_REQUESTS), min_size=1, max_size=6))
    sent = b"".join(each for each, _ in requests)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sent) - 1), max_size=8)))
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]

    async def go():
        seen = []

        async def app(scope, receive, send):
            body, more = b"", True
            while more:
                message = await receive()
                body, more = body + message["body"], message["more_body"]
            seen.append((scope["method"], body))
            await send_reply(scope, send, USUAL)

        wire = Slow()
        protocol = connected(app, wire)
        for piece in pieces:
            for _ in range(100):  # as often as it takes: it is to read on
                if wire.reads:
                    break
                await asyncio.sleep(0)
            assert wire.reads
            protocol.data_received(piece)
        await settled(protocol)
        assert seen == [wanted for _, wanted in requests]
        assert not wire.closed
        protocol.connection_lost(None)

    asyncio.run(go())


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nconnection: close, upgrade\r\nupgrade: h2c\r\n\r\n",
        b"GET / HTTP/1.1\r\nconnection: upgrade\r\nconnection: close\r\nupgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.0\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    ],
)
def test_a_last_request_that_offers_an_upgrade_is_answered(head):
    """The parser that met both would take nothing more: the client would wait for its answer until it is cut off."""

    async def app(scope, _receive, send):
        await send_reply(scope, send, Reply(200, b"{}"))

    async def answer():
        wire = Wire()
        protocol = connected(app, wire)
        protocol.data_received(head)
        await asyncio.sleep(0.01)
        protocol.connection_lost(None)
        return b"".join(wire.written), wire.closed

    text, closed = asyncio.run(answer())
    assert text.startswith(b"HTTP/1.1 200 OK\r\n")
    assert text.endswith(b"{}")
    assert closed


@pytest.mark.parametrize(
    "header, waits",
    [
        (b"expect: 100-continue", True),
        (b"Expect: 100-Continue", True),
        (b"expect: 200-ok", False),
        (b"x: 100-continue", False),
        (b"x: y", False),
    ],
)
def test_only_a_client_that_waits_for_it_is_told_to_send_its_body(header, waits):
    """Once, before the answer; to others it would be an answer that they did not ask for."""

    async def app(scope, receive, send):
        await receive()
        await send_reply(scope, send, Reply(200, b"{}"))

    async def answer():
        wire = Wire()
        protocol = connected(app, wire)
        protocol.data_received(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n" + header + b"\r\n\r\n")
        for _ in range(5):
            await asyncio.sleep(0)
        before = b"".join(wire.written)
        protocol.data_received(b"{}")
        while protocol.tasks:
            await asyncio.wait(tuple(protocol.tasks))
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        return before, b"".join(wire.written)

    before, whole = asyncio.run(answer())
    assert before == (b"HTTP/1.1 100 Continue\r\n\r\n" if waits else b"")
    assert whole.removeprefix(before).startswith(b"HTTP/1.1 200 OK\r\n")
