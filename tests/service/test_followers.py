"""Several processes behind one port, for real: own writes through any of them, and whichever of them is killed."""

import http.client
import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from base64 import urlsafe_b64decode
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from midstream.app.server_address import read_address, server_of
from midstream.engine.folder import DataFolder
from midstream.serving.cluster.unix_socket import connect_to
from midstream.serving.http.connection_sharing import STOP_SEEN_S_MAX
from tests.support.bare_http import read_all, statuses
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.traces import collecting

pytestmark = pytest.mark.crash
CONFIG = """
[server]
answer_wait_max = "60s"
[limits]
users_max = 20_000
items_max = 20_000
click_items_max = 20_000
sessions_max = 20_000
index_sessions_max = 20_000
event_ids_max = 100_000
requests_max = 20_000
document_bytes_max = 1_000_000
[[features]]
name = "mine"
kind = "count"
scope = "user"
actions = ["view"]
[[placements]]
deadline = "10s"
features = ["mine"]
log_features = 0.1
"""
PROBES = re.compile(r"midstream_freshness_probes_total\{([^}]*)\} (\S+)")
IDLE_S = 0.01
"""Of a client that looks or writes while such a child is at work."""


class Server:
    """A leader and its followers."""

    def __init__(self, process, folder, followers):
        self.process = process
        self.folder = folder
        self.followers = followers
        self.port = None

    def wait_until_ready(self):
        """Return when every process takes connections."""
        wait_until(self.is_ready)

    def is_ready(self):
        """Return whether every process takes connections; fail when there is none."""
        assert self.process.poll() is None, self.said()
        address = read_address(self.folder / "data")
        if address is not None:
            self.port = int(address.url.rpartition(":")[2])
            told = self.health_if_told()  # none by the address of one that was killed before
            return told and [each["state"] for each in told["followers"]] == ["serving"] * self.followers
        return False

    def said(self):
        """Return what the processes wrote to their standard error."""
        return (self.folder / "said.txt").read_text()

    def connect(self):
        """Open a connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def health(self):
        """Ask for health."""
        told: list[dict[str, object]] = []

        def is_told():
            told[:] = [self.health_if_told()]
            return told[0]

        wait_until(is_told)
        return told[0]

    def health_if_told(self):
        """Ask once; return nothing where nobody listens, or a process that is being exchanged took the connection."""
        with suppress(OSError, http.client.HTTPException), closing(self.connect()) as connection:
            return ask(connection, "GET", "/health/ready")[1]
        return None

    def children(self):
        """Return the process ids of the followers."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(each) for each in found if b"midstream.app.server.follower" in command_of(each)]

    def digests(self):
        """Return log position and digest of every process, once they stand at the same position."""
        names = ["leader-inside", *(f"follower-{number}" for number in range(1, self.followers + 1))]
        found: list[dict[str, object]] = []

        def are_level():
            found[:] = [digest(self.folder / "data" / "sockets" / name) for name in names]
            return len({each["log_position"] for each in found}) == 1

        wait_until(are_level)
        return found


def command_of(pid):
    """Return what a process was started with; nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def is_alive(pid):
    """Return whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def connections_of(pid, port):
    """Return how many connections to a port a process has open."""
    open_files = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            open_files.add(str(each.readlink()))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = [row for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"]  # established
    return sum(f"socket:[{row[9]}]" in open_files for row in ours)


def ask(connection, method, path, body=None):
    """Send a request; return status and content."""
    headers = {} if body is None else {"content-type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    content = answer.read()
    return answer.status, json.loads(content) if content.startswith((b"{", b"[")) else content


def position(token):
    """Return the number in a log position's text."""
    return int.from_bytes(urlsafe_b64decode(token)[4:])


def digest(path):
    """Ask a process for its digest, where no client can."""
    with connect_to(path) as connection:
        connection.settimeout(PATIENCE_S)
        connection.sendall(b"GET /digest HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        with connection.makefile("rb") as file:
            return json.loads(file.read().partition(b"\r\n\r\n")[2])


@contextmanager
def serving(folder, followers, port=0, drain="0s", more=""):
    """Serve a folder in several processes until the block ends; kill what still lives then."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "midstream.toml").write_text(CONFIG.replace("[server]", f'{more}\n[server]\ndrain = "{drain}"'))
    command = [sys.executable, "-P", "-m", "midstream", "serve", "-f", str(folder), "--port", str(port)]
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen([*command, "--followers", str(followers)], stdout=subprocess.DEVNULL, stderr=said)
    with process:
        try:
            server = Server(process, folder, followers)
            server.wait_until_ready()
            yield server
        finally:
            process.kill()


def stop(server):
    """Ask a server to stop; return its exit status."""
    server.process.send_signal(signal.SIGTERM)
    return server.process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Three processes that the tests of this module share; no test ends the first of them."""
    with serving(tmp_path_factory.mktemp("shop"), 2) as running:
        yield running
        assert stop(running) == 0
        assert "Traceback" not in running.said()


@contextmanager
def meanwhile(work, count):
    """Let threads do ``work(number, is_over)`` until the block ends, however it does; raise what they raised."""
    over = threading.Event()
    with ThreadPoolExecutor(count) as pool:
        jobs = [pool.submit(work, number, over.is_set) for number in range(count)]
        try:
            yield
        finally:
            over.set()
    for each in jobs:
        each.result()


@contextmanager
def connections(server, count):
    """Open connections at once: each process has its share of them."""
    opened = [server.connect() for _ in range(count)]
    for each in opened:
        each.connect()
    time.sleep(0.05)
    try:
        yield opened
    finally:
        for each in opened:
            each.close()


def metrics(server):
    """Return the metrics of all processes: those of one that is busy for seconds are not among them."""
    names = [f'process="follower-{number}"' for number in range(1, server.followers + 1)]
    text = ""

    def are_all_there():
        nonlocal text
        with closing(server.connect()) as connection:
            text = ask_anew(connection, "GET", "/metrics")[1].decode()
        return all(name in text for name in names)

    wait_until(are_all_there)
    return text


def metric(server, name):
    """Return a metric's sum by process."""
    text = metrics(server)
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if line.startswith(f"{name}{{process="):
            found[line.split('"')[1]] += int(float(line.rpartition(" ")[2]))
    return found


def test_no_process_answers_to_another_name(server):
    """Whichever process of the port takes the connection, a page whose name was made to point here is refused by it."""
    name = "midstream_foreign_requests_total"
    before = metric(server, name)
    with connections(server, 24) as opened:
        for each in opened:
            each.request("GET", "/v1/recommendations", headers={"host": "rebind.example"})
            answer = each.getresponse()
            assert (answer.status, json.loads(answer.read())["type"]) == (421, "urn:midstream:misdirected")
            each.request("DELETE", "/v1/users/ann", headers={"origin": "http://evil.example"})
            answer = each.getresponse()
            assert (answer.status, json.loads(answer.read())["type"]) == (403, "urn:midstream:cross-site")
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    refused = metric(server, name) - before
    assert set(refused) == {"leader", "follower-1", "follower-2"}
    assert refused.total() == 48


def write_and_ask(server, seed, count):
    """Send an event through one connection; ask through others whether they have seen it; again and again."""
    chance = random.Random(seed)  # noqa: S311  no secret
    with connections(server, 6) as opened:
        for number in range(count):
            one, other, third = chance.sample(opened, 3)
            user, item = f"u{seed}-{number}", f"i{number % 300}"
            event = {"type": "view", "user_id": user, "session_id": user, "item_id": item, "event_id": user}
            status, answer = ask(one, "POST", "/v1/events", event)
            assert (status, answer["recorded"]) == (200, 1)
            question = {"session_id": user, "min_log_position": answer["log_position"], "n": 5}
            status, slate = ask(other, "POST", "/v1/recommendations", question)
            assert (status, slate["read_your_writes"], slate["tier"]) == (200, True, "full")
            assert position(slate["applied_log_position"]) >= position(answer["log_position"])
            if number % 10 == 0:
                status, known = ask(third, "GET", f"/v1/users/{user}")
                assert (status, [each["item_id"] for each in known["recent"]]) == (200, [item])
                wanted = {"user_id": user, "items": [item, "never"], "min_log_position": answer["log_position"]}
                status, read = ask(third, "POST", "/v1/features/read", wanted)
                assert (status, read["features"], read["read_your_writes"]) == (200, ["mine"], True)
                assert [each["values"] for each in read["items"]] == [[1.0], [1.0]]


def test_own_writes_are_seen_through_any_process(server):
    """A thousand times: an event through one connection; the next slate and lookup through others have seen it."""
    before = metric(server, "midstream_answers_total")
    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(write_and_ask, server, seed, 250) for seed in range(4)]:
            each.result()
    answers = metric(server, "midstream_answers_total") - before
    assert sum(answers.values()) == 1_000
    assert set(answers) == {"leader", "follower-1", "follower-2"}  # how many each: as the machine wakes them


def test_events_that_come_with_a_question_are_seen(server):
    """Whichever process is asked: the leader records them, then the answer has them, and says so."""
    with connections(server, 6) as opened:
        for number, connection in enumerate(opened):
            event = {"type": "view", "session_id": f"q{number}", "item_id": f"asked{number}", "event_id": f"q{number}"}
            body = {"events": [event, {"type": "vieew"}], "session_id": f"q{number}"}
            status, slate = ask(connection, "POST", "/v1/recommendations", body)
            assert (status, slate["read_your_writes"]) == (200, True)
            assert (slate["events"]["recorded"], len(slate["events"]["rejected"])) == (1, 1)
            assert ask(connection, "GET", f"/v1/items/asked{number}")[0] == 200
            assert ask(connection, "POST", "/v1/recommendations", {"events": 7, "n": 2})[0] == 400


def test_every_process_answers_alike(server):
    """Refusals, lookups and what is passed on: status and content are the same through every connection."""
    questions = [
        (
            "POST",
            "/v1/events?dry_run=true",
            [{"type": "view", "user_id": "a", "item_id": "b", "time": 1_700_000_000_000}],
        ),
        ("POST", "/v1/events", [{"type": "vieew"}]),
        ("POST", "/v1/events", "x" * 300_000),
        ("DELETE", "/v1/events", None),
        ("GET", "/v1/items/nothing%2Fknown", None),
        ("GET", "/nowhere", None),
        ("GET", "/v1/placements", None),
        ("GET", "/v1/features/mien", None),
        ("POST", "/v1/features/read", {"items": ["i1"], "features": ["mien"]}),
        ("GET", "/v1/recommendations?n=0", None),
        ("GET", "/v1/recommendations?min_log_position=AAAA", None),
        ("POST", "/v1/recommendations", {"uzer_id": "x"}),
        ("GET", "/v1/dead-letters?limit=1", None),
        ("GET", "/v1/rebuild", None),
        ("GET", "/health/live", None),
        ("GET", "/served", None),
        ("GET", "/digest", None),
    ]
    with connections(server, 6) as opened:
        for method, path, body in questions:
            answers = [ask(connection, method, path, body) for connection in opened]
            assert all(each == answers[0] for each in answers[1:]), (method, path, answers)
        assert ask(opened[0], "GET", "/served")[0] == 404
        assert ask(opened[0], "GET", "/health/live")[1]["pid"] == server.process.pid
    assert server_of(DataFolder(server.folder / "data")) is not None  # whichever process was asked


def test_an_answer_can_be_looked_up_through_any_process(server):
    """What one process served is found through the others, a moment later."""
    with connections(server, 6) as opened:
        ids = [ask(each, "GET", "/v1/recommendations")[1]["request_id"] for each in opened]
        wait_until(lambda: all(ask(opened[0], "GET", f"/v1/requests/{each}")[0] == 200 for each in ids))
        for connection, request_id in itertools.product(opened, ids):
            status, record = ask(connection, "GET", f"/v1/requests/{request_id}")
            assert (status, record["query"]["request_id"]) == (200, request_id)
            click = {"type": "click", "item_id": "i1", "user_id": "u1", "request_id": request_id}
            assert ask(connection, "POST", "/v1/events", click)[1]["recorded"] == 1


def told_of(server, *sent):
    """Return what comes back through six connections, each to its process, until the server closes them."""
    with connections(server, 6) as opened:
        for connection, piece in itertools.product(opened, sent):
            connection.sock.sendall(piece)
        return [read_all(each.sock) for each in opened]


def test_every_process_reads_a_connection_alike(server):
    """Upgrades, what is pipelined, trailers without an end, bodies that nobody reads: by the byte, at each process."""
    event = b'{"type": "view", "user_id": "wire", "item_id": "wire"}'
    last = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    json_to = b"POST /v1/%b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    head = json_to % b"events" + b"content-length: %d\r\n" % len(event)
    upgrade = head + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n" + event
    assert [statuses(each) for each in told_of(server, upgrade * 2 + last)] == [[200] * 3] * 6
    good = head + b"\r\n" + event
    for answers in told_of(server, good + b"no HTTP\r\n\r\n"):
        assert statuses(answers) == [200, 400]
        assert b'"recorded":1' in answers
    chunked = json_to + b"transfer-encoding: chunked\r\n\r\n1\r\n[\r\n0\r\nx: "
    for path in (b"events", b"nowhere"):
        for answers in told_of(server, chunked % path + b"a" * 40_000, b"a" * 300_000):
            assert statuses(answers) in ([431], [404])
    with connections(server, 6) as opened:
        for each in opened:
            each.sock.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 500)
    for answers in told_of(server, good + last):
        assert statuses(answers) == [200, 200]


@contextmanager
def one_of_each(server):
    """Open a connection to each process, by its name."""
    found: dict[str, object] = {}
    with ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(closing(server.connect()))
            before = metric(server, "midstream_answers_total")
            assert ask(connection, "GET", "/v1/recommendations")[0] == 200
            (name,) = metric(server, "midstream_answers_total") - before
            found.setdefault(name, connection)
            if len(found) == server.followers + 1:
                break
        yield found


def pages_of(first, processes):
    """Read a slate on to its end, each page through the next of some processes; return all pages."""
    pages = [first]
    for connection in processes:
        if "cursor" not in pages[-1]:
            return pages
        body = {"cursor": pages[-1]["cursor"], "deadline": "10s"}  # as long as its record may be behind
        status, page = ask(connection, "POST", "/v1/recommendations", body)
        assert status == 200, page
        pages.append(page)
    return pages


def test_a_slate_is_continued_through_any_process(server):
    """From each process to each other and back, at once: every position once, no item twice, the order of the first."""
    views = [{"type": "view", "user_id": f"p{n % 7}", "item_id": f"page{n}", "event_id": f"page{n}"} for n in range(60)]
    with one_of_each(server) as opened:
        assert opened.keys() == {"leader", "follower-1", "follower-2"}
        status, recorded = ask(opened["leader"], "POST", "/v1/events", {"events": views})
        assert (status, recorded["recorded"]) == (200, 60)
        for one, other in itertools.permutations(opened, 2):
            body = {"session_id": "pages", "n": 9, "cursor": True, "min_log_position": recorded["log_position"]}
            first = ask(opened[one], "POST", "/v1/recommendations", body)[1]
            pages = pages_of(first, itertools.cycle([opened[other], opened[one]]))
            items = [item for page in pages for item in page["items"]]
            assert [item["position"] for item in items] == list(range(len(items)))
            assert len({item["id"] for item in items}) == len(items) >= 60
            assert len({page["request_id"] for page in pages}) == len(pages) > 6
            alone = pages_of(first, itertools.repeat(opened[one]))
            assert [page["items"] for page in alone] == [page["items"] for page in pages]


def test_all_states_are_the_same(server):
    """At one log position every process has the same digest; no client reaches what says so."""
    with closing(server.connect()) as connection:
        ask(connection, "POST", "/v1/events", {"type": "view", "user_id": "a", "item_id": "b"})
    found = server.digests()
    assert len({each["digest"] for each in found}) == 1
    assert found[0]["log_position"] > 0


class Load:
    """Clients that send events and ask, each over a connection of its own that it opens anew when it breaks."""

    def __init__(self, server, count):
        self.server = server
        self.acknowledged = set()
        self.answered = 0
        self.broken = 0
        self.wrong = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]

    def __enter__(self):
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for each in self._threads:
            each.join()

    def _run(self, client):
        connection = self.server.connect()
        number = 0
        while not self._stop.is_set():
            number += 1
            event_id = f"load{client}-{number}-{id(self)}"
            event = {"type": "view", "user_id": f"l{client}", "item_id": f"i{number % 50}", "event_id": event_id}
            try:
                status, answer = ask(connection, "POST", "/v1/events", event)
                if status == 200:
                    token = answer["log_position"]
                    with self._lock:
                        self.acknowledged.add(event_id)
                    body = {"user_id": f"l{client}", "min_log_position": token}
                    status, answer = ask(connection, "POST", "/v1/recommendations", body)
            except (OSError, http.client.HTTPException):
                with self._lock:
                    self.broken += 1
                connection.close()
                time.sleep(0.01)
                continue
            with self._lock:
                self.answered += 1
                if status != 200 or not answer["read_your_writes"]:
                    self.wrong.append((status, answer))
        connection.close()


def test_a_killed_follower_costs_its_own_connections_alone(server):
    """Under load: only requests in flight on its connections break, and it is started again and comes level."""
    with Load(server, 6) as load:
        wait_until(lambda: len({each.partition("-")[0] for each in list(load.acknowledged)}) == 6)
        victim = server.children()[0]
        restarts = sum(each["restarts"] for each in server.health()["followers"])
        held = connections_of(victim, server.port)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: not is_alive(victim))
        wait_until(lambda: "is started again" in server.health()["reason"])
        wait_until(lambda: [each["state"] for each in server.health()["followers"]] == ["serving"] * 2)
        answered = load.answered
        wait_until(lambda: load.answered > answered + 50)
    health = server.health()
    assert sum(each["restarts"] for each in health["followers"]) == restarts + 1
    assert sum(metric(server, "midstream_follower_restarts_total").values()) == restarts + 1
    wait_until(lambda: not server.health()["reason"])
    assert load.wrong == []
    assert load.broken <= held
    assert len({each["digest"] for each in server.digests()}) == 1


def equal_digests(server):
    """Return whether all processes are there and have one state; a follower that is exchanged is not there yet."""
    try:
        return len({each["digest"] for each in server.digests()}) == 1
    except OSError:
        return False


def ask_anew(connection, method, path, body=None):
    """Send a request until it is answered.

    Over a new connection where the one there was is idle and its process has been exchanged; again where a process
    that has just begun, on a machine that is busy, refuses early what it could not answer in time.
    """
    answers = []

    def is_answered():
        try:
            answers.append(ask(connection, method, path, body))
        except (OSError, http.client.HTTPException):
            connection.close()
        return answers and answers[-1][0] != 503

    wait_until(is_answered)
    return answers[-1]


def test_a_placement_that_is_set_answers_the_next_request_of_every_process(server):
    """Through whichever process it is set: from its answer on no slate is of the one before, and no process ends."""
    children = server.children()
    for size in (3, 4):
        question = {"placement": f"set-{size}"}
        with connections(server, 6) as opened:
            body = {"author": "ann", "placement": {"slate_size": size, "deadline": "10s"}}
            path = f"/v1/placements/set-{size}"
            status, told = ask_anew(opened[size], "PUT", path, body)
            assert (status, told["origin"]) == (200, "api"), told
            for each in opened:
                status, slate = ask_anew(each, "POST", "/v1/recommendations", question)
                assert (status, slate["placement"]) == (200, f"set-{size}")
                assert ask_anew(each, "GET", path)[1] == told
        server.wait_until_ready()
        with connections(server, 6) as opened:
            slates = [ask_anew(each, "POST", "/v1/recommendations", question) for each in opened]
        assert [slate for status, slate in slates if status != 200] == []
        assert len({slate["config_hash"] for _, slate in slates}) == 1
    for size in (3, 4):
        with connections(server, 1) as (connection,):
            assert ask_anew(connection, "DELETE", f"/v1/placements/set-{size}?author=ann")[0] == 200
            assert ask_anew(connection, "POST", "/v1/recommendations", {"placement": f"set-{size}"})[0] == 400
    wait_until(lambda: equal_digests(server))
    server.wait_until_ready()
    assert server.children() == children


def test_every_process_gives_a_unit_the_same_variant(server):
    """From the answer to the start on, through whichever process it is asked; after the stop none has one."""
    question = {"placement": "tried"}
    users = [f"unit-{number}" for number in range(12)]
    order = {
        "placement": "tried",
        "author": "ann",
        "variants": [{"name": "a"}, {"name": "b", "change": {"slate_size": 2}}],
    }

    def variants(opened, user):
        answers = [ask_anew(each, "POST", "/v1/recommendations", {**question, "user_id": user}) for each in opened]
        assert [each for each in answers if each[0] != 200] == []
        return {(slate.get("experiment", ""), slate.get("variant", "")) for _, slate in answers}

    with connections(server, 6) as opened:
        body = {"author": "ann", "placement": {"slate_size": 3, "deadline": "10s"}}
        assert ask_anew(opened[0], "PUT", "/v1/placements/tried", body)[0] == 200
        status, told = ask_anew(opened[1], "POST", "/v1/experiments/pair", order)
        assert (status, told["state"]) == (200, "running"), told
        found = [variants(opened, user) for user in users]
        assert all(len(each) == 1 for each in found)
        assert set.union(*found) == {("pair", "a"), ("pair", "b")}
        server.wait_until_ready()
    with connections(server, 6) as opened:
        assert [variants(opened, user) for user in users] == found
        assert ask_anew(opened[2], "DELETE", "/v1/placements/tried?author=ann")[0] == 400
        stop_order = {"reason": "enough", "author": "ann"}
        assert ask_anew(opened[3], "POST", "/v1/experiments/pair/stop", stop_order)[1]["stopped_by"] == "person"
        assert set.union(*(variants(opened, user) for user in users)) == {("", "")}
        assert ask_anew(opened[4], "DELETE", "/v1/placements/tried?author=ann")[0] == 200
    server.wait_until_ready()


@pytest.mark.parametrize(
    "change",
    ["{}slate_size = 7\n", "[events.types]\nview = {{ weight = 2.0 }}\nclick = {{}}\n{}"],
    ids=["plans", "state"],
)
def test_another_configuration_is_served_by_all_at_once(server, change):
    """From the swap on no answer is of what was in service before, through any process; no request fails for it."""
    path = server.folder / "midstream.toml"
    seen = []

    def look(_number, is_over):
        with closing(server.connect()) as connection:
            while not is_over():
                time.sleep(IDLE_S)
                try:
                    began = time.monotonic()
                    seen.append((began, ask(connection, "GET", "/v1/recommendations")[1]["config_hash"]))
                except (OSError, http.client.HTTPException):
                    connection.close()  # a process that was exchanged closes what is idle

    with connections(server, 4) as opened:
        before = {ask(each, "GET", "/v1/recommendations")[1]["config_hash"] for each in opened}
    assert len(before) == 1
    with meanwhile(look, 4):
        wait_until(lambda: seen)
        path.write_text(change.format(path.read_text()))
        with closing(server.connect()) as connection:
            status, view = ask(connection, "POST", "/v1/rebuild")
            assert status in {200, 202}, view
            wait_until(lambda: {ask_anew(connection, "GET", "/v1/rebuild")[1]["config_hash"]} != before)
        swapped = time.monotonic()
        server.wait_until_ready()
        wait_until(lambda: any(began > swapped for began, _ in list(seen)))
    old, after = before.pop(), {name for began, name in seen if began > swapped}
    assert len(after) == 1
    assert old not in after
    assert old in {name for _, name in seen}
    assert sum(each["restarts"] for each in server.health()["followers"]) == restarts_of(server)
    wait_until(lambda: equal_digests(server))
    assert len({each["fold_version"] for each in server.digests()}) == 1


def test_another_writing_of_the_log_is_followed_by_all(server):
    """When erased users are taken out of the log, no process answers from the old one or refuses a token of either."""
    refused: list[tuple[int, dict[str, str]]] = []
    taken: list[tuple[int, dict[str, str]]] = []

    def write(client, is_over):
        one, other = server.connect(), server.connect()
        while not is_over():
            time.sleep(IDLE_S)
            try:
                event = {"type": "view", "user_id": f"w{client}", "item_id": "i1"}
                token = ask(one, "POST", "/v1/events", event)[1]["log_position"]
                status, answer = ask(other, "POST", "/v1/recommendations", {"min_log_position": token})
            except (OSError, http.client.HTTPException):
                one.close()
                other.close()  # a process that was exchanged closes what is idle
                continue
            (taken if status == 200 else refused).append((generation(token), answer))
        one.close()
        other.close()

    with closing(server.connect()) as connection:
        ask(connection, "POST", "/v1/events", {"type": "view", "user_id": "gone", "item_id": "i1"})
        assert ask(connection, "DELETE", "/v1/users/gone")[0] == 202
        before = generation(ask(connection, "GET", "/v1/recommendations")[1]["applied_log_position"])
        with meanwhile(write, 4):
            wait_until(lambda: taken or refused)
            assert ask(connection, "POST", "/v1/erasures/run")[0] == 202
            wait_until(lambda: rewrite_state(server) in {"done", "failed"})
            time.sleep(0.3)
            server.wait_until_ready()
            wait_until(lambda: refused or any(token > before for token, _ in list(taken)))
        assert rewrite_state(server) == "done"
    assert refused == []
    assert {token for token, _ in taken} == {before, before + 1}
    for token, answer in taken:  # of a token of the old writing the new one says that it does not know
        ahead = generation(answer["applied_log_position"]) - token
        assert ahead in ({0, 1} if token == before else {0})
        assert not (ahead and answer["read_your_writes"])
    assert server.health()["reason"] == ""
    assert len({each["digest"] for each in server.digests()}) == 1


def rewrite_state(server):
    """Return how far the rewrite of the log is."""
    with closing(server.connect()) as connection:
        return ask_anew(connection, "GET", "/v1/erasures")[1]["rewrite"]["state"]


def generation(token):
    """Return the generation in a log position's text."""
    return int.from_bytes(urlsafe_b64decode(token)[:4])


def restarts_of(server):
    """Return how often a follower ended by itself."""
    return sum(metric(server, "midstream_follower_restarts_total").values())


def test_a_stop_of_all_processes_drains_each(tmp_path):
    """A supervisor that signals a whole group ends no follower before the port: all are not ready, and all answer.

    The leader ends the followers, however long it drains.
    """
    with serving(tmp_path, 1, drain="10m") as server:
        (child,) = server.children()
        with connections(server, 12) as opened:

            def found(path, body=None):
                return {ask(each, "POST" if body is not None else "GET", path, body)[0] for each in opened}

            assert found("/health/ready") == {200}
            assert connections_of(child, server.port) > 0
            for each in (child, server.process.pid):
                os.kill(each, signal.SIGTERM)
            wait_until(lambda: found("/health/ready") == {503})
            time.sleep(STOP_SEEN_S_MAX + 0.5)
            assert found("/v1/recommendations", {"user_id": "ann"}) == {200}
            assert server.children() == [child]
        assert stop(server) == 0
        assert not is_alive(child)
        assert "is started again" not in server.said()


def test_a_follower_that_alone_is_stopped_is_replaced(tmp_path):
    """The others serve, so the port is ready at each look, and the follower drains for nobody."""
    with serving(tmp_path, 1, drain="10m") as server:
        (child,) = server.children()
        with closing(server.connect()) as connection:
            found = set()

            def looks(number):
                with suppress(OSError, http.client.HTTPException):
                    found.add(ask_anew(connection, "GET", "/health/ready")[0])
                return number not in server.children()

            os.kill(child, signal.SIGTERM)
            wait_until(lambda: looks(child))
        assert found == {200}
        server.wait_until_ready()
        wait_until(lambda: len(server.children()) == 1)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.health()["reason"])
        assert stop(server) == 0


def test_a_killed_leader_takes_its_followers_along(tmp_path):
    """They are gone at once and the port with them; the next start has what was acknowledged, in a long path too."""
    folder = tmp_path.joinpath(*["deep" * 15] * 2)
    with serving(folder, 1) as server:
        port, children = server.port, server.children()
        assert len(children) == 1
        with Load(server, 4) as load:
            wait_until(lambda: len(load.acknowledged) > 20)
            server.process.kill()
            server.process.wait()
            wait_until(lambda: not any(is_alive(each) for each in children))
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port))
    assert {status for status, _ in load.wrong} <= {503}  # a follower that outlived its leader by a moment
    with serving(folder, 1, port) as server:
        assert len({each["digest"] for each in server.digests()}) == 1
        with closing(server.connect()) as connection:
            for event_id in sorted(load.acknowledged):
                client = event_id[4]
                number = int(event_id.split("-")[1])
                event = {"type": "view", "user_id": f"l{client}", "item_id": f"i{number % 50}", "event_id": event_id}
                assert ask(connection, "POST", "/v1/events", event)[1]["duplicates"] == 1
        children = server.children()
        with Load(server, 4) as load:
            wait_until(lambda: len(load.acknowledged) > 20)
            assert stop(server) == 0
        assert load.wrong == []
        assert not any(is_alive(each) for each in children)
        assert list((folder / "data" / "sockets").iterdir()) == []


def test_each_process_measures_how_fresh_it_is(tmp_path):
    """The leader and its follower probe by users of their own; each has its times, and none has a reason in health."""
    with serving(tmp_path / "shop", 1, more='[probe]\nevery = "1s"\nwithin = "10s"') as server:

        def probed():
            with closing(server.connect()) as connection:
                connection.request("GET", "/metrics")
                text = connection.getresponse().read().decode()
            counts = [(labels, float(count)) for labels, count in PROBES.findall(text) if 'outcome="fresh"' in labels]
            found = {re.findall(r'process="([^"]+)"', labels)[0]: count for labels, count in counts}
            return len(found) == 2 and all(found.values()) and found

        wait_until(probed)
        assert probed().keys() == {"leader", "follower-1"}
        assert "freshness" not in server.health()["reason"]
        with closing(server.connect()) as connection:
            users = [
                ask(connection, "GET", f"/v1/users/midstream-probe{name}")[0] for name in ("", "-follower-1", "-9")
            ]
        assert users == [200, 200, 404]
        assert stop(server) == 0
        assert "Traceback" not in server.said()


def test_a_trace_goes_on_from_a_follower_to_its_leader(tmp_path):
    """Events that come with a question are recorded by the leader, in a span below that of the follower's call."""
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    body = {"session_id": "s", "n": 1, "events": [{"type": "view", "session_id": "s", "item_id": "a"}]}
    with collecting() as collector:
        more = f'[tracing]\nendpoint = "{collector.url}"\nsample_ratio = 0.0'
        with serving(tmp_path / "shop", 1, more=more) as server:

            def called():
                with closing(server.connect()) as connection:
                    headers = {"content-type": "application/json", "traceparent": parent}
                    connection.request("POST", "/v1/recommendations", json.dumps(body), headers)
                    assert connection.getresponse().status == 200
                return [each for each in collector.spans() if each.name == "leader"]

            wait_until(called)
            assert stop(server) == 0
            assert "Traceback" not in server.said()
        spans = collector.spans()
        assert {each.trace_id.hex() for each in spans} == {parent.split("-")[1]}
        calls = {each.span_id: each for each in spans if each.name == "leader"}
        events = [each for each in spans if each.name == "POST /v1/events" and each.parent_span_id in calls]
        assert events
        for each in events:
            call = calls[each.parent_span_id]
            assert call.start_time_unix_nano <= each.start_time_unix_nano
            below = {one.name for one in spans if one.parent_span_id == each.span_id}
            assert {"decode", "queue", "log append and sync", "fold"} <= below
