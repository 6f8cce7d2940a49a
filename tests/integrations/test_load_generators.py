"""Compiled load generators send messages and requests as given, at a stated rate, and count them."""

import io
import json
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

import pyarrow as pa
import pyarrow.ipc
import pytest

from benchmarks.generator import http_load, kafka_load
from benchmarks.generator.http_load import LOG_POSITION, load, request, write_requests
from benchmarks.generator.kafka_load import Shop, arrow_message, messages_of, produce, write_messages
from tests.support.libraries import library, missing
from tests.support.services.faults import Unavailable

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
WAIT_S = 120
RATE = 500
SECONDS = 1.0


@pytest.fixture(autouse=True)
def compilers():
    """A JDK and a compiler of C."""
    try:
        kafka_load.compiled()
        http_load.compiled()
    except (Unavailable, FileNotFoundError) as fault:
        missing(str(fault))


def made_topic(address, name):
    """Make a topic of one partition."""
    admin = library("confluent_kafka.admin")
    operator = admin.AdminClient({"bootstrap.servers": address})
    operator.create_topics([admin.NewTopic(name, 1, 1)], operation_timeout=WAIT_S)[name].result(WAIT_S)


def contents(address, name):
    """All messages of its partition, in order."""
    confluent = library("confluent_kafka")
    consumer = confluent.Consumer(
        {"bootstrap.servers": address, "group.id": name, "auto.offset.reset": "error", "enable.partition.eof": True}
    )
    consumer.assign([confluent.TopicPartition(name, 0, 0)])
    found = []
    while (message := consumer.poll(WAIT_S)) is not None and message.error() is None:
        found.append(message.value())
    consumer.close()
    return found


def test_messages_come_in_order_each_with_the_time_of_its_sending(kafka, tmp_path):
    """Of all formats, and from the beginning again when all were sent, with other times then."""
    made_topic(kafka.address, "generated")
    columns = Shop(items=50, users=20).columns(8)
    given = [*messages_of("json", columns, 1), *messages_of("ndjson", columns, 4), arrow_message(columns)]
    path = write_messages(tmp_path / "messages", given)
    began_ms = int(time.time() * 1_000)
    sent = produce(kafka.address, "generated", path, rate=0, seconds=60, messages_max=2 * len(given))
    ended_ms = int(time.time() * 1_000)
    found = contents(kafka.address, "generated")
    assert (sent.count, sent.errors, len(found)) == (2 * len(given), 0, 2 * len(given))
    assert sent.bytes == sum(map(len, found)) == 2 * sum(map(len, given))
    for start in (0, len(given)):
        *texts, arrow = found[start : start + len(given)]
        rows = [json.loads(line) for text in texts for line in text.splitlines()]
        table = pyarrow.ipc.open_stream(io.BytesIO(arrow)).read_all()
        times = table["time"].cast(pa.int64()).to_pylist()
        rows += [dict(row, time=time_ms) for row, time_ms in zip(table.to_pylist(), times, strict=True)]
        assert all(began_ms <= row["time"] <= ended_ms for row in rows)
        assert [row["item_id"] for row in rows] == columns["item_id"] * 3


def test_a_rate_is_kept_and_lateness_is_said(kafka, tmp_path):
    """An open loop sends what is due however long answers take; a message's lateness counts from when it was due."""
    made_topic(kafka.address, "paced")
    path = write_messages(tmp_path / "messages", messages_of("json", Shop(items=50, users=20).columns(10), 1))
    sent = produce(kafka.address, "paced", path, rate=RATE, seconds=SECONDS)
    print(sent)
    assert RATE * SECONDS * 0.7 < sent.count < RATE * SECONDS * 1.3
    assert sent.count == len(contents(kafka.address, "paced"))
    assert 0 <= sent.late_p50_us <= sent.late_p99_us <= sent.late_max_us
    assert 0 < sent.acked_p50_us <= sent.acked_p99_us <= sent.acked_max_us


class Node(BaseHTTPRequestHandler):
    """Answers an event with a log position of its own, and keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    server: "NodeServer"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.counting:
            self.server.asked.append((self.path, body, self.client_address))
            number = len(self.server.asked)
        if self.server.refusal and number % 3 == 0:
            self.wfile.write(b"HTTP/1.1 %d No\r\ncontent-length: 0\r\n\r\n" % self.server.refusal)
            return
        token = f"{self.server.server_port:011d}{number:05d}"
        content = json.dumps({"log_position": token}, separators=(",", ":")).encode()
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content) + content)

    def log_message(self, format, *args):  # noqa: A002  # the name of the library's
        """Print nothing."""


class NodeServer(ThreadingHTTPServer):
    """Listens for one node."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Node)
        self.counting = Lock()
        self.asked: list[tuple[str, dict[str, object], object]] = []
        self.refusal = 0
        """Status of each third answer; 0 = all are 200."""


@contextmanager
def nodes(count):
    """Small servers on loopback."""
    servers = [NodeServer() for _ in range(count)]
    threads = [Thread(target=each.serve_forever, kwargs={"poll_interval": 0.05}) for each in servers]
    for thread in threads:
        thread.start()
    try:
        yield servers
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join(WAIT_S)
            server.server_close()


def test_requests_are_spread_over_nodes(tmp_path):
    """Connections are dealt out in turn, so that each node has as many of them."""
    file = write_requests(tmp_path / "requests", [request("/v1/recommendations", {})])
    with nodes(3) as servers:
        addresses = [servers[0].server_port, *(f"127.0.0.1:{each.server_port}" for each in servers[1:])]
        found = load(addresses, file, connections=6, rate=300, seconds=0.5)
    assert found["errors"] == found["unfinished"] == 0
    assert sum(len(each.asked) for each in servers) == found["count"] > 0
    assert [len({address for _, _, address in each.asked}) for each in servers] == [2, 2, 2]


@pytest.mark.parametrize("status, deadline_ms", [(503, 0), (503, 10_000), (429, 0), (500, 0), (500, 10_000)])
def test_what_is_no_answer_counts_as_none(tmp_path, status, deadline_ms):
    """Rate and latencies are those of answers alone: a refusal is cheap, and would make a busy server look fast."""
    file = write_requests(tmp_path / "requests", [request("/v1/recommendations", {})])
    with nodes(1) as (server,):
        server.refusal = status
        found = load([server.server_port], file, connections=2, rate=0, seconds=0.2, deadline_ms=deadline_ms)
    others = len(server.asked) // 3
    is_refusal = status != 500
    assert (found["count"], others > 0) == (len(server.asked) - others, True)
    assert found["refused"] == (others if is_refusal else 0)
    assert found["errors"] == (0 if is_refusal and deadline_ms else others)
    assert found["per_second"] <= found["count"] / 0.2
    assert found.get("good", found["count"]) == found["count"]


@pytest.mark.parametrize("mode", ["pair", "across"])
def test_a_question_follows_its_event_to_the_node_that_is_meant(tmp_path, mode):
    """With the position that the event was acknowledged at: the same node's, or that of the node before."""
    pair = [request("/v1/events", {}), request("/v1/recommendations", {"min_log_position": LOG_POSITION})]
    file = write_requests(tmp_path / "requests", pair)
    with nodes(3) as servers:
        ports = [each.server_port for each in servers]
        found = load(ports, file, connections=3, rate=200, seconds=0.5, mode=mode)
    assert found["errors"] == found["unfinished"] == 0
    assert found["count"] > 0
    step = 1 if mode == "across" else 0
    for place, server in enumerate(servers):
        writer = ports[(place - step) % 3]
        tokens = [body["min_log_position"] for path, body, _ in server.asked if path == "/v1/recommendations"]
        assert tokens
        assert {int(each[:11]) for each in tokens} == {writer}
