"""What a request promises that goes on to another process: it arrives as it came, its answer comes back as given."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import Overloaded
from midstream.serving.cluster import proxy
from midstream.serving.cluster.proxy import LeaderGone, Passage
from midstream.serving.cluster.unix_server import served_at
from midstream.serving.cluster.unix_socket import connect_to, listen_at
from midstream.serving.http.problems import Disconnected
from midstream.serving.options import ServerOptions
from tests.support.patience import PATIENCE_S


class Echo:
    """Answers with what came; ``refuse`` does so before it has read."""

    def __init__(self):
        self.seen = []
        self.connections = set()

    async def __call__(self, scope, receive, send):
        if scope["path"] == "/refuse":
            await send({"type": "http.response.start", "status": 413, "headers": [(b"connection", b"close")]})
            await send({"type": "http.response.body", "body": b"too large"})
            return
        if scope["path"] == "/early":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})
            return
        if scope["path"] == "/silent":
            while (await receive())["type"] == "http.request":
                continue
            return
        body, more = bytearray(), True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.seen.append(
            (scope["method"], scope["raw_path"], scope["query_string"], dict(scope["headers"]), bytes(body))
        )
        status = 204 if scope["path"] == "/nothing" else 207
        await send({"type": "http.response.start", "status": status, "headers": [(b"x-a", b"1"), (b"x-a", b"2")]})
        if status != 204:
            await send({"type": "http.response.body", "body": bytes(body[:10]), "more_body": True})
            await send({"type": "http.response.body", "body": bytes(body[10:])})
        else:
            await send({"type": "http.response.body", "body": b""})


class Client:
    """An ASGI caller: sends a body in pieces, keeps what is sent back."""

    def __init__(self, method="POST", path=b"/echo", query=b"", headers=(), pieces=(b"",), *, leaves=False):
        self.scope = {
            "type": "http",
            "method": method,
            "path": path.decode(),
            "raw_path": path,
            "query_string": query,
            "headers": list(headers),
        }
        ends = [False] * len(pieces) if leaves else [*([True] * (len(pieces) - 1)), False]
        self.messages = [
            {"type": "http.request", "body": piece, "more_body": more or leaves}
            for piece, more in zip(pieces, ends, strict=True)
        ]
        if leaves:
            self.messages.append({"type": "http.disconnect"})
        self.asked = 0
        self.sent = []

    async def receive(self):
        if self.asked == len(self.messages):
            await asyncio.sleep(60)
        self.asked += 1
        await asyncio.sleep(0)
        return self.messages[self.asked - 1]

    async def send(self, message):
        self.sent.append(message)

    @property
    def answer(self):
        """Status, headers and body that came back."""
        start, *rest = self.sent
        assert [each.get("more_body", False) for each in rest] == [*([True] * (len(rest) - 1)), False]
        return start["status"], start["headers"], b"".join(each["body"] for each in rest)


@asynccontextmanager
async def way(folder, wait_s_max=10.0):
    """A passage to an echo, and the echo."""
    echo = Echo()
    passage = Passage(folder / "socket", wait_s_max)
    async with served_at(folder / "socket", echo, ServerOptions()):
        try:
            yield passage, echo
        finally:
            passage.close()
            await asyncio.sleep(0.01)  # what is closed is closed in the next turns of the loop


def run(folder, play, **options):
    """Let ``play`` use a passage and its echo."""

    async def go():
        async with way(folder, **options) as (passage, echo):
            return await play(passage, echo)

    return asyncio.run(go())


BODY = b"0123456789" * 3
LENGTH = (b"content-length", b"30")


@pytest.mark.parametrize("pieces", [(BODY,), (BODY[:7], BODY[7:]), (b"", BODY, b"")])
@pytest.mark.parametrize("framing", [LENGTH, (b"transfer-encoding", b"chunked")])
def test_request_and_answer_are_the_same_on_both_sides(tmp_path, pieces, framing):
    """Method, path, query, headers and body, however the body is cut; status, headers and body of the answer."""

    async def play(passage, echo):
        client = Client("PUT", b"/v1/items/a%2Fb", b"x=1&y=%20", [(b"x-b", b"2"), framing], pieces)
        await passage.pass_on(client.scope, client.receive, client.send)
        return client.answer, echo.seen

    (status, headers, body), ((method, path, query, came, sent),) = run(tmp_path, play)
    assert (method, path, query, came[b"x-b"], sent) == ("PUT", b"/v1/items/a%2Fb", b"x=1&y=%20", b"2", BODY)
    assert (status, headers, body) == (207, [(b"x-a", b"1"), (b"x-a", b"2")], BODY)


def test_a_length_beside_chunks_is_not_passed_on(tmp_path):
    """The body ends where it ends: what is left of a wrong length can be no request of its own."""

    async def play(passage, echo):
        hidden = b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n"
        headers = [(b"content-length", b"3"), (b"transfer-encoding", b"chunked")]
        for _ in range(3):
            client = Client(headers=headers, pieces=[b"abc", hidden])
            await passage.pass_on(client.scope, client.receive, client.send)
        return [(path, body) for _, path, _, _, body in echo.seen], hidden

    seen, hidden = run(tmp_path, play)
    assert seen == [(b"/echo", b"abc" + hidden)] * 3


def test_headers_of_one_hop_stay_there(tmp_path):
    """What is about a connection is about that one alone."""

    async def play(passage, echo):
        hop = [(b"connection", b"close"), (b"keep-alive", b"5"), (b"expect", b"100-continue"), (b"te", b"trailers")]
        client = Client("GET", headers=[*hop, (b"accept", b"x")])
        await passage.pass_on(client.scope, client.receive, client.send)
        return echo.seen[0][3]

    assert set(run(tmp_path, play)) == {b"accept", b"host"}


def test_large_bodies_go_through_in_pieces(tmp_path):
    """Ten megabytes, in both directions, with no more than a piece waiting at a time."""
    piece = b"x" * 100_000

    async def play(passage, _echo):
        client = Client(headers=[(b"content-length", b"10000000")], pieces=[piece] * 100)
        await passage.pass_on(client.scope, client.receive, client.send)
        return client.answer, max(len(each.get("body", b"")) for each in client.sent)

    (status, _, body), largest = run(tmp_path, play)
    assert (status, len(body)) == (207, 10_000_000)
    assert largest <= proxy.PIECE_BYTES_MAX


def test_refusal_before_the_end_of_the_body_comes_back(tmp_path):
    """The answer is given although the body goes on, and the connection is to be closed on both sides."""

    async def play(passage, _echo):
        client = Client(path=b"/refuse", headers=[(b"transfer-encoding", b"chunked")], pieces=[b"x" * 60_000] * 500)
        await passage.pass_on(client.scope, client.receive, client.send)
        return client.answer, client.asked, len(passage._idle)

    (status, headers, body), asked, kept = run(tmp_path, play)
    assert (status, headers, body) == (413, [(b"connection", b"close")], b"too large")
    assert asked < 500
    assert kept == 0


def test_connection_whose_request_has_no_end_is_not_kept(tmp_path):
    """An answer that came before the end of the body is given; what would follow on that connection is still body."""

    async def play(passage, _echo):
        client = Client(
            path=b"/early", headers=[(b"content-length", b"100")], pieces=[b"x" * 10, b"y" * 10], leaves=True
        )
        client.messages.pop()  # it does not leave: it goes on as slowly
        await passage.pass_on(client.scope, client.receive, client.send)
        return client.answer, len(passage._idle), passage._count

    (status, _, body), kept, count = run(tmp_path, play)
    assert (status, body, kept, count) == (200, b"ok", 0, 0)


def test_connections_are_kept(tmp_path):
    """One connection serves one request after another; several at once have one each."""

    async def play(passage, _echo):
        for _ in range(5):
            await passage.ask("GET", "/echo")
        one = len(passage._idle)
        await asyncio.gather(*(passage.ask("GET", "/echo") for _ in range(5)))
        return one, len(passage._idle)

    assert run(tmp_path, play) == (1, 5)


def test_head_and_no_content_have_no_body(tmp_path):
    """They end with their head, whatever it says."""

    async def play(passage, _echo):
        nothing = await passage.ask("POST", "/nothing", b"x")
        client = Client("HEAD")
        await passage.pass_on(client.scope, client.receive, client.send)
        return nothing.status, nothing.body, client.answer[0], client.answer[2]

    assert run(tmp_path, play) == (204, b"", 207, b"")


def test_client_that_goes_away_is_told(tmp_path):
    """Its body has no end, so nothing is answered, and the connection is not used again."""

    async def play(passage, _echo):
        client = Client(headers=[(b"content-length", b"9")], pieces=[b"abc"], leaves=True)
        with pytest.raises(Disconnected):
            await passage.pass_on(client.scope, client.receive, client.send)
        return client.sent, len(passage._idle), passage._count

    assert run(tmp_path, play) == ([], 0, 0)


def test_silence_is_bounded(tmp_path):
    """An answer that does not come is given up."""

    async def play(passage, _echo):
        with pytest.raises(LeaderGone, match="within"):
            await passage.ask("GET", "/silent")
        return passage._count

    assert run(tmp_path, play, wait_s_max=0.05) == 0


def test_too_many_at_once_are_refused(tmp_path, monkeypatch):
    """A maximum of requests is under way; the next one is told so."""
    monkeypatch.setattr(proxy, "LINES_MAX", 2)

    async def play(passage, _echo):
        waiting = [asyncio.ensure_future(passage.ask("GET", "/silent")) for _ in range(2)]
        while passage._count < 2:  # noqa: ASYNC110  they tell nobody
            await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await passage.ask("GET", "/echo")
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return (await passage.ask("GET", "/echo")).status

    assert run(tmp_path, play) == 207


@asynccontextmanager
async def speaking(speak, path):
    """Let ``speak`` write to whoever connects to a path."""
    async with await asyncio.start_unix_server(speak, sock=listen_at(path)):
        yield
        await asyncio.sleep(0.01)


def test_nobody_there_is_an_expected_failure(tmp_path):
    """Before it listens, after it ended, and when it ends in the middle of an answer."""

    async def cut(_reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
        await writer.drain()
        writer.close()

    async def play():
        passage = Passage(tmp_path / "socket", 5.0)
        with pytest.raises(LeaderGone, match="cannot be reached"):
            await passage.ask("GET", "/")
        async with speaking(cut, tmp_path / "socket"):
            with pytest.raises(LeaderGone, match="ended"):
                await passage.ask("GET", "/")

    asyncio.run(play())


@given(st.binary(max_size=400), st.lists(st.integers(1, 50), max_size=20))
def test_what_is_no_answer_is_an_expected_failure(tmp_path_factory, garbage, cuts):
    """Whatever bytes come in whatever pieces: an answer or a failure that is expected."""
    folder = tmp_path_factory.mktemp("line")

    async def speak(_reader, writer):
        rest = garbage
        for cut in cuts:
            writer.write(rest[:cut])
            rest = rest[cut:]
            await asyncio.sleep(0)
        writer.write(rest)
        writer.close()
        with suppress(OSError):  # the other end has closed it
            await writer.wait_closed()

    async def play():
        async with speaking(speak, folder / "s"):
            with pytest.raises(LeaderGone):
                await Passage(folder / "s", 5.0).ask("GET", "/")

    asyncio.run(play())


def test_sockets_are_their_owners_alone(tmp_path):
    """Nobody else may connect; a path longer than a socket's name may be works as any other; leftovers are replaced."""
    folder = tmp_path.joinpath(*["a" * 60] * 3)
    for _ in range(2):
        with listen_at(folder / "leader"), connect_to(folder / "leader") as connection:
            assert connection.getpeername()
            assert (folder / "leader").stat().st_mode & 0o777 == 0o600
            assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(ConnectionRefusedError):
        connect_to(folder / "leader")


class Slow(Echo):
    """Takes its time before its answer, or in the middle of it; knows when it began, and that somebody went away."""

    def __init__(self, took_s):
        super().__init__()
        self.took_s = took_s
        self.has_begun = asyncio.Event()
        self.is_left = asyncio.Event()

    async def __call__(self, scope, receive, send):
        while (await receive()).get("more_body", False):
            continue
        self.has_begun.set()
        if scope["path"] == "/never":
            while (await receive())["type"] != "http.disconnect":
                continue
            self.is_left.set()
            return
        await asyncio.sleep(self.took_s)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"do", "more_body": True})
        await asyncio.sleep(self.took_s)
        await send({"type": "http.response.body", "body": b"ne"})


def slowly(folder, play, took_s=0.2, wait_s_max=0.05):
    """Let ``play`` ask a side that takes several times as long as anything else may."""

    async def go():
        slow = Slow(took_s)
        passage = Passage(folder / "socket", wait_s_max)
        async with served_at(folder / "socket", slow, ServerOptions()):
            try:
                return await play(passage, slow)
            finally:
                passage.close()
                await asyncio.sleep(0.01)  # what is closed is closed in the next turns of the loop

    return asyncio.run(go())


SENT = [
    {"method": "GET", "pieces": [b""]},
    {"method": "PUT", "headers": [LENGTH], "pieces": [BODY]},
    {"method": "POST", "headers": [LENGTH], "pieces": [BODY[:10], BODY[10:]]},
    {"method": "POST", "headers": [(b"transfer-encoding", b"chunked")], "pieces": [BODY[:10], BODY[10:]]},
]


@pytest.mark.parametrize("sent", SENT, ids=["no body", "whole", "in pieces", "in chunks"])
def test_an_answer_is_waited_for_as_long_as_the_client_waits(tmp_path, monkeypatch, sent):
    """What takes longer than the other side may be silent otherwise is answered as by one process, with or without
    an eye on the client.
    """

    async def play(passage, _slow):
        for watch_s in (10.0, 0.01):
            monkeypatch.setattr(proxy, "WATCH_S", watch_s)
            client = Client(**sent)
            assert await passage.pass_on(client.scope, client.receive, client.send) == 200
            assert (client.answer[0], client.answer[2]) == (200, b"done")
        return len(passage._idle), passage._count

    assert slowly(tmp_path, play) == (1, 0)


@pytest.mark.parametrize("sent", SENT, ids=["no body", "whole", "in pieces", "in chunks"])
def test_a_client_that_waits_no_longer_frees_its_place(tmp_path, monkeypatch, sent):
    """The other side learns of it, as it would of a client of its own."""
    monkeypatch.setattr(proxy, "WATCH_S", 0.01)

    async def play(passage, slow):
        client = Client(path=b"/never", **sent)
        client.messages.append({"type": "http.disconnect"})
        asked = client.receive

        async def receive():
            if client.asked == len(client.messages) - 1:
                await slow.has_begun.wait()
            return await asked()

        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(Disconnected):
                await passage.pass_on(client.scope, receive, client.send)
            await slow.is_left.wait()
        return client.sent, len(passage._idle), passage._count

    assert slowly(tmp_path, play) == ([], 0, 0)


def test_the_end_of_the_other_process_is_told_at_once(tmp_path):
    """Whatever it was asked to do may have been done; nothing else is waited for."""

    async def ends(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def play():
        passage = Passage(tmp_path / "socket", 3_600.0)
        client = Client("PUT", headers=[LENGTH], pieces=[BODY])
        async with speaking(ends, tmp_path / "socket"), asyncio.timeout(PATIENCE_S):
            with pytest.raises(LeaderGone, match="may have been done all the same"):
                await passage.pass_on(client.scope, client.receive, client.send)
        return client.sent, passage._count

    assert asyncio.run(play()) == ([], 0)
