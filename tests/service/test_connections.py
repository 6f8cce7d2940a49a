"""One connection of the real server, byte by byte: what is no usual request is bounded, in time, and never another."""

import json
import signal
import socket
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.bare_http import asked, connect, read_all, served, statuses
from tests.support.patience import PATIENCE_S, wait_until

SERVER = Path(__file__).with_name("fake_server.py")
EVENT = b'{"type": "view", "user_id": "ann", "item_id": "mug"}'
LAST = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
POST_EVENTS = b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
PLACES = 48
"""Of the server: 64 connections less 16 that are kept for health."""


@pytest.fixture(scope="module")
def url():
    """Address of a server that waits for everything as long as it takes."""
    with served(SERVER) as (_, address):
        yield address


@pytest.fixture(scope="module")
def hasty_url():
    """Address of one that waits half a second for what a client does not send."""
    with served(SERVER, "--hasty") as (_, address):
        yield address


def post(path, headers, body=EVENT):
    """Return a request with a body of a length."""
    return (
        b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b"
        % (path, headers, len(body), body)
    )


def count_of(url, reason):
    """Return how often a server counted something."""
    text = httpx.get(f"{url}/metrics", timeout=PATIENCE_S).text
    line = f'midstream_connection_faults_total{{reason="{reason}"}} '
    return next((float(each.removeprefix(line)) for each in text.splitlines() if each.startswith(line)), 0.0)


UPGRADES = [
    pytest.param(b"connection: Upgrade\r\nupgrade: h2c\r\n", id="h2c"),
    pytest.param(
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA\r\n",
        id="h2c with settings",
    ),
    pytest.param(
        b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n",
        id="websocket",
    ),
    pytest.param(b"UPGRADE: a/1, b\r\nupgrade: c\r\nconnection: keep-alive,upgrade\r\n", id="others"),
    pytest.param(b"connection: upgrade\r\n", id="connection alone"),
    pytest.param(b"upgrade: h2c\r\n", id="upgrade alone"),
]


@pytest.mark.parametrize("headers", UPGRADES)
def test_an_upgrade_is_ignored_and_its_body_is_a_body(url, headers):
    """In the packet of its head, in a later one, in chunks: read as one, and what comes behind it is answered."""
    whole = post(b"/v1/events", headers)
    head, body = whole[: -len(EVENT)], whole[-len(EVENT) :]
    chunks = POST_EVENTS + headers + CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT)
    for pieces in ((whole + LAST,), (whole + whole, LAST), (chunks + whole + LAST,)):
        answers = asked(url, *pieces)
        assert statuses(answers) == [200] * (b"".join(pieces).count(b"HTTP/1.1\r\n"))
        assert answers.count(b'"recorded":1') == b"".join(pieces).count(b"POST ")
    with connect(url) as connection:
        connection.sendall(head)
        time.sleep(0.05)
        connection.sendall(body[:5])
        time.sleep(0.05)
        connection.sendall(body[5:] + LAST)
        assert statuses(read_all(connection)) == [200, 200]


def test_a_body_behind_an_upgrade_is_no_request(url):
    """A proxy that lets ``Upgrade`` pass forwards one request; what stands in its body does not become a second one."""
    smuggled = b"DELETE /v1/users/victim HTTP/1.1\r\nhost: localhost\r\n\r\n"
    request = post(b"/v1/events", b"connection: Upgrade\r\nupgrade: h2c\r\n", smuggled)
    with connect(url) as connection:
        connection.sendall(request[: -len(smuggled)])
        time.sleep(0.05)
        connection.sendall(smuggled + LAST)
        assert statuses(read_all(connection)) == [400, 200]


@pytest.mark.parametrize(
    "sent, status",
    [
        (b"CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\nGET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n", 405),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET http:// HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        (b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
    ],
    ids=["CONNECT", "HTTP/2", "TLS", "no path", "no ASCII"],
)
def test_what_is_not_spoken_ends_the_connection_in_words(url, sent, status):
    """A problem document with its four parts, and nothing behind it."""
    answers = asked(url, sent)
    assert statuses(answers) == [status]
    problem = json.loads(answers.partition(b"\r\n\r\n")[2])
    assert (problem["status"], problem["page"]) == (status, "/docs/http.md")
    assert all(problem[part] for part in ("pointer", "came", "right"))


def test_what_came_before_bytes_that_are_no_http_is_answered_first(url):
    """Who sees 200 has its event recorded; who does not has none: the first is answered, the malformed one is not."""
    good = post(b"/v1/events", b"")
    assert statuses(asked(url, good + b"no HTTP at all\r\n\r\n" + good)) == [200, 400]
    assert statuses(asked(url, good * 3 + b"\x00" + good)) == [200, 200, 200, 400]
    broken = POST_EVENTS + CHUNKED + b"5\r\n[1,2]\r\nzz\r\n"
    assert statuses(asked(url, good + broken + good)) == [200, 400]
    assert statuses(asked(url, broken + good)) == [400]
    # The path has its answer without its body: 404 is what is said, and there is no second answer to one request.
    assert statuses(asked(url, broken.replace(b"/v1/events", b"/nope"))) == [404]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(b"0\r\nx: " + b"a" * 4_000_000, id="one trailer"),
        pytest.param(b"0\r\n" + b"x: a\r\n" * 600_000, id="many trailers"),
        pytest.param(b"1;" + b"x" * 4_000_000, id="one extension"),
        pytest.param((b"1;" + b"x" * 2_000 + b"\r\na\r\n") * 2_000, id="many extensions"),
    ],
)
def test_what_stands_around_chunks_is_bounded(url, more):
    """On a path that reads its body and on one that does not, where the answer comes first."""
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n" + CHUNKED
    before = count_of(url, "head_too_large")
    answers = asked(url, head % b"/v1/events" + more)
    assert statuses(answers) in ([431], [])  # a client that still sends may lose it in the reset
    assert count_of(url, "head_too_large") == before + 1
    before = count_of(url, "unwanted_body") + count_of(url, "head_too_large")
    assert statuses(asked(url, head % b"/nope" + more)) in ([404], [431], [])
    assert count_of(url, "unwanted_body") + count_of(url, "head_too_large") == before + 1


def test_usual_chunks_and_trailers_are_read(url):
    """Chunks of one byte, an extension and a trailer; a trailer is no header, whatever it is called."""
    chunks = b"".join(b"1\r\n%c\r\n" % each for each in EVENT)
    trailers = b"0;done=yes\r\nsec-fetch-site: cross-site\r\nupgrade: h2c\r\nconnection: upgrade%b\r\n\r\n"
    head = POST_EVENTS + CHUNKED
    assert statuses(asked(url, head + chunks + trailers % b"" + LAST)) == [200, 200]
    assert statuses(asked(url, head + chunks + trailers % b", close" + LAST)) == [200]
    assert statuses(asked(url, head.replace(b"/v1/events", b"/nope") + chunks, trailers % b", close", LAST)) == [404]


@pytest.mark.parametrize(
    "head, status",
    [
        (b"x: " + b"y" * 40_000 + b"\r\n", 431),
        (b"x: y\r\n" * 99, 200),
        (b"x: y\r\n" * 100, 431),
        (b"x: " + b"y" * 32_000 + b"\r\n", 200),
    ],
    ids=["too long", "many", "too many", "long"],
)
def test_a_head_is_measured_by_itself_however_it_comes(url, head, status):
    """In one read, in several, behind another request, and with a long body behind it: the same answer."""
    body = b'{"events": [' + EVENT + b" " * 200_000 + b"]}"
    # Of many two less: type and length are headers as well.
    rest = head.split(b"\r\n", 2)[2] if head.count(b"\r\n") > 1 else head
    whole = POST_EVENTS + rest + b"content-length: %d\r\n\r\n" % len(body)
    first = post(b"/v1/events", b"")
    for pieces, wanted in (
        ((whole + body + LAST,), [status]),
        ((whole[:20_000], whole[20_000:] + body + LAST), [status]),
        ((first + whole + body + LAST,), [200, status]),
    ):
        answers = statuses(asked(url, *pieces))
        assert answers == (wanted if status != 200 else [*wanted, 200])


def test_blank_lines_are_counted_like_a_head(url):
    """A parser skips them before a request for ever."""
    assert statuses(asked(url, b"\r\n" * 5_000 + LAST)) == [200]
    assert statuses(asked(url, b"\r\n" * 100_000)) in ([431], [])


@pytest.mark.parametrize(
    "sent, drips, wanted",
    [
        (
            b"POST /nope HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n",
            b"a",
            [404],
        ),
        (
            b"POST /nope HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n" + CHUNKED,
            b"1\r\na\r\n",
            [404],
        ),
        (b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n" + CHUNKED + b"0\r\n", b"x: y\r\n", [200]),
        (POST_EVENTS + CHUNKED + b"0\r\n", b"x: y\r\n", [408]),
        (POST_EVENTS + CHUNKED + b"1;", b"x", [408]),
        (b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n", b"x: y\r\n", []),
        (LAST.replace(b"connection: close\r\n", b""), b"\r\n", [200]),
    ],
    ids=["body to nobody", "chunks to nobody", "trailers to nobody", "trailers", "extension", "head", "blank lines"],
)
def test_what_comes_drop_by_drop_is_waited_for_no_longer(hasty_url, sent, drips, wanted):
    """Each drop is in time, all together are not: the connection ends half a second later, whatever the drops are."""
    with connect(hasty_url) as connection:
        connection.sendall(sent)
        connection.settimeout(0.02)
        answers, until = b"", time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                connection.sendall(drips)
                piece = connection.recv(65_536)
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
            answers += piece
            if not piece:
                break
        else:
            pytest.fail("it was never given up")
    assert statuses(answers) == wanted


def test_a_body_that_nobody_reads_leaves_the_connection_as_it_was(hasty_url):
    """Where it comes at once, whole, and is no longer than a body may be, the next request is answered."""
    assert statuses(asked(hasty_url, post(b"/nope", b"", b"a" * 100_000) + LAST)) == [404, 200]


def openapi_count(url):
    """Return how many documents a server has made."""
    text = httpx.get(f"{url}/metrics", timeout=PATIENCE_S).text
    line = 'midstream_requests_total{route="/openapi.json",status="200"} '
    return next((float(each.removeprefix(line)) for each in text.splitlines() if each.startswith(line)), 0.0)


def test_requests_are_begun_no_faster_than_their_answers_are_read(url):
    """Pipelined by the hundred and unread, only a few are begun; others are answered; who reads gets all of them."""
    one = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
    before, clients, requests = openapi_count(url), 8, 60
    with ExitStack() as stack:
        held = []
        for number in range(clients):
            connection = stack.enter_context(connect(url))
            if number:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.sendall(one * requests + LAST)
            held.append(connection)
        begun = -1.0
        while begun != (begun := openapi_count(url)):
            time.sleep(0.2)
        assert begun - before < clients * requests / 4
        assert statuses(read_all(held[0])) == [200] * (requests + 1)
    wait_until(lambda: httpx.get(f"{url}/health/live", timeout=PATIENCE_S).status_code == 200)


def test_idle_connections_make_room():
    """All places are held by connections that ask nothing any more: whoever comes has the place of the longest idle.

    The server is the test's own: connections that an earlier test has just left would leave places while it looks.
    """
    one = LAST.replace(b"connection: close\r\n", b"")
    with ExitStack() as stack:
        _, url = stack.enter_context(served(SERVER))
        held = [stack.enter_context(connect(url)) for _ in range(PLACES)]
        for each in held:
            each.sendall(one)
            answer = b""
            while not answer.endswith(b'{"status":"live"}'):
                answer += each.recv(1_000)
            assert statuses(answer) == [200]
            time.sleep(0.005)  # the server's clock counts milliseconds: of two within one, either has been idle longest
        for _ in range(3):
            assert statuses(asked(url, post(b"/v1/events", b"connection: close\r\n"))) == [200]
        assert read_all(held[0]) == b""
        held[-1].sendall(LAST)
        assert statuses(read_all(held[-1])) == [200]
        assert count_of(url, "client_full") >= 1


def test_health_is_answered_when_every_place_is_in_use(url):
    """Nobody can be asked to leave: health and metrics are answered, anything else is told to come again in words."""
    half = post(b"/v1/events", b"")[:-1]
    with ExitStack() as stack:
        held = [stack.enter_context(connect(url)) for _ in range(PLACES)]
        for each in held:
            each.sendall(half)
        wait_until(lambda: statuses(asked(url, post(b"/v1/events", b"connection: close\r\n"))) == [503])
        for path in (b"/health/live", b"/health/ready", b"/metrics"):
            request = b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n" % path
            assert statuses(asked(url, request)) == [200]  # and is closed: the place is somebody else's
        answer = asked(url, post(b"/v1/events", b""))
        problem = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert (problem["type"], problem["status"]) == ("urn:midstream:no-place", 503)
        assert b"retry-after: " in answer
        # Those that are heard and say nothing do not keep an operator out: the newest is heard.
        for _ in range(70):
            stack.enter_context(connect(url))
        assert statuses(asked(url, LAST)) == [200]
        held.pop().sendall(EVENT[-1:])
    wait_until(lambda: statuses(asked(url, post(b"/v1/events", b"connection: close\r\n"))) == [200])


def test_what_clients_do_wrong_fills_no_log():
    """Malformed requests, upgrades and clients that leave before their answers: a few lines and a number."""
    with served(SERVER) as (process, url):
        for _ in range(200):
            assert statuses(asked(url, b"nonsense\r\n\r\n")) == [400]
        for _ in range(20):
            asked(url, post(b"/v1/events", b"connection: Upgrade\r\nupgrade: h2c\r\n") + LAST)
        assert (count_of(url, "malformed"), count_of(url, "upgrade_ignored")) == (200, 20)
        one = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
        for _ in range(20):
            with connect(url) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                connection.sendall(one * 100)
                connection.recv(1_000)
        wait_until(lambda: count_of(url, "left") >= 1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in said
    lines = said.splitlines()
    assert len(lines) == 6
    assert lines[-1].endswith("log_lines_held_back reasons={'uvicorn.error': 195}")


GOOD = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
CLOSE = b"connection: close\r\n"


@pytest.mark.parametrize(
    "sent, wanted",
    [
        pytest.param(GOOD + b"no HTTP at all\r\n\r\n", [200, 400], id="malformed"),
        pytest.param(GOOD[:-2] + CHUNKED + b"zz\r\n", [200], id="chunks of no body"),
        pytest.param(POST_EVENTS.replace(b"json", b"x") + CHUNKED + b"zz\r\n", [415], id="chunks of a body"),
        pytest.param(POST_EVENTS + CLOSE + b"content-length: 500000\r\n\r\n", [413], id="last answer"),
        pytest.param(POST_EVENTS + b"content-length: 1000000\r\n\r\n", [413], id="answer"),
    ],
)
def test_answers_survive_what_comes_behind_the_last_of_them(url, sent, wanted):
    """A client that goes on sending, whatever ended the connection, reads all its answers: it is not reset."""
    for _ in range(8):
        with connect(url) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(sent)
            for _ in range(30):
                connection.sendall(b"and more of it\r\n" * 1_000)
                time.sleep(0.001)
            connection.shutdown(socket.SHUT_WR)
            assert statuses(b"".join(iter(partial(connection.recv, 65_536), b""))) == wanted


@pytest.mark.parametrize("piece, wait_s", [(b"x" * 65_536, 0.0), (b"x", 0.05)], ids=["much", "long"])
def test_who_sends_for_ever_behind_the_last_answer_is_cut_off(url, piece, wait_s):
    """What is thrown away is bounded in bytes and in time, and is not nothing."""
    with connect(url) as connection:
        connection.sendall(b"no HTTP at all\r\n\r\n")
        sent = 0
        with suppress(BrokenPipeError, ConnectionResetError):
            while sent < 1 << 28:
                connection.sendall(piece)
                sent += len(piece)
                time.sleep(wait_s)
    assert 5 * len(piece) < sent < 1 << 28


def test_a_connection_whose_body_broke_off_gives_its_place_up(url):
    """One that lingers is spare, also where the app has not answered: whoever comes has its place at once."""
    with ExitStack() as stack:
        for _ in range(PLACES):
            held = stack.enter_context(connect(url))
            held.sendall(POST_EVENTS + CHUNKED + b"zz\r\n")
            assert statuses(held.recv(1_000)) == [400]
        assert statuses(asked(url, post(b"/v1/events", CLOSE))) == [200]
