import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.bare_http import connect, read_all, served
from tests.support.patience import PATIENCE_S, wait_until

EVENT = {"type": "view", "user_id": "ann", "item_id": "mug"}
SERVER = Path(__file__).with_name("fake_server.py")
JSON = {"content-type": "application/json"}
POST_EVENTS = b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def url():
    """Address of a server that all tests of this module share."""
    with served(SERVER) as (_, address):
        yield address


@pytest.fixture(scope="module")
def hasty_url():
    """Address of one that waits half a second for what a client does not send."""
    with served(SERVER, "--hasty") as (_, address):
        yield address


def asking(url):
    """Return a client that waits as long as may be necessary."""
    return httpx.Client(base_url=url, timeout=PATIENCE_S)


def test_events_and_slates_over_one_connection(url):
    """An event, then a slate that has seen it, over a kept connection."""
    with asking(url) as client:
        token = client.post("/v1/events", json=EVENT).json()["log_position"]
        slate = client.post("/v1/recommendations", json={"min_log_position": token}).json()
    assert slate["items"][0]["id"] == "mug"
    assert slate["read_your_writes"] is True


def test_answers_name_no_server_software(url):
    """No header says what the server is made of."""
    with asking(url) as client:
        answer = client.get("/health/live")
    ours = {"cross-origin-resource-policy", "x-content-type-options"}
    assert set(answer.headers) - ours == {"date", "content-type", "content-length", "cache-control"}


@pytest.mark.parametrize(
    "method,path",
    [
        *(("POST", "/v1/recommendations"), ("GET", "/docs"), ("GET", "/v1/items/none"), ("OPTIONS", "/metrics")),
        *(("GET", "/nowhere"), ("HEAD", "/health/live"), ("POST", "/docs")),
    ],
)
@pytest.mark.parametrize("host", [None, "evil.example"])
def test_every_answer_stays_with_its_own_pages(url, method, path, host):
    """Refused or not, hot or not, no page of another origin takes an answer in, or is told that it might."""
    with asking(url) as client:
        headers = JSON | ({} if host is None else {"host": host})
        answer = client.request(method, path, content=b"{}" if method == "POST" else None, headers=headers)
    assert (answer.status_code == 421) == (host is not None)
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("sent", [b"no HTTP at all\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\n"])
def test_what_ends_a_connection_stays_with_its_own_pages(url, sent):
    """The answers that are given without an app say so too."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10.0) as connection:
        connection.sendall(sent)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    head = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert b"cross-origin-resource-policy: same-origin" in head
    assert b"x-content-type-options: nosniff" in head


def test_body_of_a_refused_request_is_no_request(url):
    """What a page sent as a body is passed over, and the connection's next request has its own answer."""
    hidden = b"DELETE /v1/users/ann HTTP/1.1\r\nhost: localhost\r\n\r\n"
    head = POST_EVENTS.replace(b"application/json", b"text/plain") + b"content-length: %d\r\n\r\n" % len(hidden)
    with connect(url) as connection:
        connection.sendall(head)
        answer = connection.recv(65_536)
        connection.sendall(hidden + b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        answer += read_all(connection)
    assert [each[:3] for each in answer.split(b"HTTP/1.1 ")[1:]] == [b"415", b"200"]


@pytest.mark.parametrize(
    "head,status",
    [
        *((b"GET /health/live HTTP/1.0", b"400"), (b"GET /health/live HTTP/1.1", b"400")),
        *(
            (b"GET /health/live HTTP/1.0\r\nhost: localhost", b"200"),
            (b"OPTIONS * HTTP/1.1\r\nhost: localhost", b"400"),
        ),
        (b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nHost: localhost", b"400"),
        (b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n host: evil.example", b"400"),
        (b"GET http://localhost/health/live HTTP/1.1\r\nhost: localhost", b"200"),
        (b"GET http://evil.example/health/live HTTP/1.1\r\nhost: localhost", b"400"),
        (b"GET http://localhost/health/live HTTP/1.1\r\nhost: evil.example", b"421"),
        (b"CONNECT evil.example:80 HTTP/1.1\r\nhost: localhost", b"405"),
    ],
)
def test_host_is_said_once_and_is_the_servers(url, head, status):
    """Over the wire: without one, with two, with one in the request's target that is another."""
    with connect(url) as connection:
        connection.sendall(head + b"\r\nconnection: close\r\n\r\n")
        assert read_all(connection).split(b" ", 2)[1] == status


def test_id_with_a_slash_survives_the_way(url):
    """``%2F`` in a path belongs to the id, over the wire too."""
    with asking(url) as client:
        client.put("/v1/items/a%2Fb%20c", json={"price": 1})
        assert client.get("/v1/items/a%2Fb%20c").json()["item_id"] == "a/b c"


@pytest.mark.parametrize(
    "head",
    [
        POST_EVENTS + b"content-length: 9999999\r\n\r\n",
        POST_EVENTS
        + b"transfer-encoding: chunked\r\n\r\n"
        + b"".join(b"8000\r\n" + b"x" * 0x8000 + b"\r\n" for _ in range(9)),
    ],
    ids=["announced", "chunked"],
)
def test_body_beyond_the_maximum_ends_the_connection(url, head):
    """413, then the connection is closed instead of the rest being read; chunks without a length are counted too."""
    with connect(url) as connection:
        connection.sendall(head)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer


@pytest.mark.parametrize(
    "sent,status",
    [
        (POST_EVENTS + b"content-length: 50\r\n\r\n{", b"HTTP/1.1 408 "),
        (b"GET /health/li", b""),
        (b"", b""),
    ],
    ids=["body", "head", "nothing"],
)
def test_slow_client_is_given_up(hasty_url, sent, status):
    """A body that stops is 408; a head that does not come is closed without a word."""
    with connect(hasty_url) as connection:
        connection.sendall(sent)
        assert read_all(connection)[: len(status) or None] == status


@pytest.mark.parametrize("at_once", [b"", b"GET /health/live HTTP/1.1\r\nho"], ids=["later", "at once"])
def test_second_head_that_stops_is_given_up(hasty_url, at_once):
    """The wait for a head holds for every request of a connection, also where it begins with the end of another."""
    answer = b""
    while not answer:  # this process may stand still for as long as a first head is waited for
        with connect(hasty_url) as connection:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n" + at_once)
            answer = connection.recv(65_536)
            if not at_once:
                connection.sendall(b"GET /health/live HTTP/1.1\r\nho")
            answer += read_all(connection)
    assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200 ") == 1


def test_endless_head_is_refused(url):
    """A header without an end is 431 before it fills the memory."""
    with connect(url) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nx: " + b"y" * 40_000)
        assert read_all(connection).startswith(b"HTTP/1.1 431 ")


def test_slow_clients_do_not_hold_up_others(url):
    """With thirty bodies half sent, others are answered while the slow ones are waited for."""
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(url)) for _ in range(30)]
        for each in slow:
            each.sendall(POST_EVENTS + b"content-length: 50\r\n\r\n{")
        with asking(url) as client:
            assert {client.post("/v1/recommendations", json={}).status_code for _ in range(50)} == {200}
        # None of them was given up meanwhile: their answers have not come yet.
        for each in slow:
            each.setblocking(False)  # noqa: FBT003  the socket's own method
            with pytest.raises(BlockingIOError):
                each.recv(1)


def test_pipelined_requests_are_answered_in_order(url):
    """Two requests sent at once get two answers, first the first."""
    with connect(url) as connection:
        first = b"GET /v1/placements HTTP/1.1\r\nhost: localhost\r\n\r\n"
        connection.sendall(first + b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        answer = read_all(connection)
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert answer.index(b"placements") < answer.index(b"live")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_stop_answers_what_is_in_flight(sign):
    """After the order to stop, requests in flight are answered, the engine is stopped last, and the exit is 0."""
    with served(SERVER, "--slow") as (process, url):
        assert process.stdout
        assert process.stdin
        body = {"event_id": "1"} | EVENT
        with ThreadPoolExecutor(4) as pool:
            waiting = [
                pool.submit(httpx.post, f"{url}/v1/events", json=body | {"event_id": str(n)}, timeout=PATIENCE_S)
                for n in range(4)
            ]
            assert [process.stdout.readline() for _ in waiting] == ["records\n"] * 4
            process.send_signal(sign)
            wait_until(lambda: takes_no_connection(url))
            process.stdin.write("go on\n")
            process.stdin.flush()
            answers = [each.result() for each in waiting]
        assert [each.json()["recorded"] for each in answers] == [1] * 4
        rest, errors = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, rest.strip(), errors) == (0, "stopped with 4 events", "")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_answers_while_health_says_not_ready(sign):
    """From the first signal on health is a 503 with the reason, all else is answered; a second one ends the drain."""
    with served(SERVER, "--drain=10m") as (process, url), asking(url) as client:
        assert client.get("/health/ready").status_code == 200
        process.send_signal(sign)
        wait_until(lambda: client.get("/health/ready").status_code == 503)
        assert "asked to stop" in client.get("/health/ready").json()["reason"]
        for number in range(20):  # each on a connection of its own
            answer = httpx.post(f"{url}/v1/events", json=EVENT | {"event_id": str(number)}, timeout=PATIENCE_S)
            assert answer.status_code == 200
        process.send_signal(sign)
        rest, _ = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, rest.strip()) == (0, "stopped with 20 events")


def takes_no_connection(url):
    """Return whether a server has heard that it is to stop."""
    try:
        connect(url).close()
    except ConnectionRefusedError:
        return True
    return False


def test_message_of_a_problem_is_json_over_the_wire(url):
    """A problem document arrives whole, with its type."""
    with asking(url) as client:
        answer = client.post("/v1/events", content=b"[", headers=JSON)
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(answer.content)["status"] == answer.status_code == 400


def test_a_stream_over_the_wire(url):
    """Chunk by chunk, longer than any single request may be; the connection is used again."""
    line = b'{"type": "view", "event_id": "w%d", "user_id": "ann", "item_id": "mug", "context": {"page": "%b"}}\n'

    def chunks():
        for start in range(0, 6_000, 50):
            yield b"".join(line % (n, b"x" * 100) for n in range(start, start + 50))

    with asking(url) as client:
        headers = {"content-type": "application/x-ndjson"}
        answer = client.post("/v1/events/bulk", content=chunks(), headers=headers)
        assert (answer.status_code, answer.json()["recorded"]) == (200, 6_000)
        assert client.get("/health/live").status_code == 200


def test_a_client_that_leaves_in_a_stream_harms_nobody(url):
    """Five in a row, more than may stream at once: each gives its place back."""
    head = b"POST /v1/events/bulk HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n"
    head += b"transfer-encoding: chunked\r\n\r\n"
    for number in range(5):
        event = b'{"type": "view", "event_id": "l%d", "user_id": "ann", "item_id": "mug"}\n' % number
        with connect(url) as connection:
            connection.sendall(head + b"%x\r\n%b\r\n" % (len(event), event))
    headers = {"content-type": "application/x-ndjson"}
    with asking(url) as client:
        wait_until(lambda: client.post("/v1/events/bulk", content=b"", headers=headers).status_code == 200)
