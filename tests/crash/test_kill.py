"""kill -9 of the real server under load: the oracle is the client's own list of acknowledged ids, and plain dicts.

A killed process loses no page cache, so this proves restart and dedupe; power loss is ``tests/events/test_power_loss``.
``MIDSTREAM_KILLS=50 scripts/test tests/crash`` runs it longer.
"""

import http.client
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from midstream.app.opening import config_of, open_running
from midstream.app.operate.seal import seal_folder
from midstream.core.errors import FolderLocked
from midstream.core.kinds import Kind, Operation
from midstream.core.types import LogPosition
from midstream.engine.ingest.log_reader import batches
from midstream.events.schema import Event, event_at
from midstream.state.fold import Fold
from midstream.state.structures.hashing import IdKey, id_hash
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.reference import Reference

KILLS = int(os.environ.get("MIDSTREAM_KILLS", "5"))
CLOCK_KILLS = int(os.environ.get("MIDSTREAM_CLOCK_KILLS", "2"))
HOUR_MS = 3_600_000
CLIENTS = 3
JSON = {"content-type": "application/json"}
CONFIG = '[snapshots]\ninterval = "1s"\n'
ACTIONS = ("view", "view", "view", "cart", "purchase", "dismiss")


@dataclass
class Client:
    """Sends events of its own ids, one request after another, and knows which of them were acknowledged."""

    number: int
    port: int
    random: random.Random
    acknowledged: set[str] = field(default_factory=set)
    sent: dict[str, dict[str, object]] = field(default_factory=dict)
    doubtful: list[dict[str, object]] = field(default_factory=list)
    """Sent, and the connection broke before an answer came: sent again, with the same ids."""
    erased: int = 0
    """Erasures that were acknowledged."""
    merged: int = 0
    """Merges that were acknowledged."""

    def run(self, stop: threading.Event) -> None:
        """Send until the server is gone or the test says stop."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)) as connection:
            while not stop.is_set() and self.send(connection):
                continue

    def send(self, connection: http.client.HTTPConnection) -> bool:
        """Send what is in doubt, or something new; return False when the connection broke."""
        if not self.doubtful and self.random.random() < 0.02:
            return self.erase(connection)
        events = self.doubtful[:50] or [self.event() for _ in range(self.random.choice((1, 1, 2, 5)))]
        self.doubtful = self.doubtful or list(events)
        try:
            connection.request("POST", "/v1/events", json.dumps({"events": events}), JSON)
            answer = connection.getresponse()
            content = json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            return False
        assert answer.status in {200, 422}, content
        rejected = {each["index"]: each["pointer"] for each in content["rejected"]}
        assert content["recorded"] + content["duplicates"] + len(rejected) == len(events), content
        assert all(pointer.endswith("/user_id") for pointer in rejected.values()), content  # late, of an erased user
        taken = [event for number, event in enumerate(events) if number not in rejected]
        self.acknowledged.update(str(event["event_id"]) for event in taken)
        self.merged += sum("operation" in event for event in taken)
        self.doubtful = self.doubtful[len(events) :]
        return True

    def erase(self, connection: http.client.HTTPConnection) -> bool:
        """Erase one of this client's own users; return False when the connection broke."""
        try:
            connection.request("DELETE", f"/v1/users/{self.user()}")
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            return False
        assert answer.status == 202, content
        self.erased += 1
        return True

    def user(self) -> str:
        """Return one of the users whose events this client alone sends."""
        return f"u{self.number}-{self.random.randrange(14)}"

    def time(self) -> int:
        """Return a time of the last seconds."""
        return int(time.time() * 1_000) - self.random.randrange(10_000)

    def event(self) -> dict[str, object]:
        """Return a new event with an id of its own."""
        event_id = f"{self.number}-{len(self.sent)}"
        if self.random.random() < 0.03:
            event: dict[str, object] = {"event_id": event_id, "type": "user", "operation": "merge"}
            event |= {"user_id": self.user(), "attributes": {"from": self.user()}, "time": self.time()}
            self.sent[event_id] = event
            return event
        event = {
            "event_id": event_id,
            "type": self.random.choice(ACTIONS),
            "user_id": self.user(),
            "item_id": f"i{self.random.randrange(60)}",
            "time": self.time(),
        }
        if self.random.random() < 0.5:
            event["session_id"] = f"s{self.random.randrange(30)}"
        self.sent[event_id] = event
        return event


@contextmanager
def serving(folder: Path, port: int, clock: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server, by a ``clock`` that is wrong by what a file says, until the block ends; kill it then."""
    program = ["midstream"] if clock is None else ["tests.support.leaping_server", str(clock)]
    command = [sys.executable, "-m", *program, "serve", "--folder", str(folder), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            wait_until_ready(process, port)
            yield process
        finally:
            process.kill()


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Return when the server answers; fail when it ends or takes too long."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        try:
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    pytest.fail(f"not ready after {PATIENCE_S} s")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


@pytest.mark.crash
@pytest.mark.timeout(600 + 30 * KILLS)
def test_no_acknowledged_event_is_lost_and_none_is_applied_twice(tmp_path: Path) -> None:
    """Whenever the server is killed: acknowledged ids exactly once, others at most once, state = plain reference."""
    (tmp_path / "midstream.toml").write_text(CONFIG)
    seed = int(os.environ.get("MIDSTREAM_SEED", str(random.SystemRandom().randrange(2**32))))
    print(f"MIDSTREAM_SEED={seed}")
    chance = random.Random(seed)  # noqa: S311  a load, no secret
    clients = [Client(number, 0, random.Random(chance.random())) for number in range(CLIENTS)]  # noqa: S311
    for _ in range(KILLS - 1):
        cycle(tmp_path, clients, chance.uniform(0.1, 1.5))
    cycle(tmp_path, clients, chance.uniform(0.1, 1.5), least=10 * KILLS + 1)
    events, fold = read_back(tmp_path)
    sent = [event for event in events if event.kind in {Kind.INTERACTION, Kind.USER}]
    times = Counter(event.event_id for event in sent)
    acknowledged = set().union(*(client.acknowledged for client in clients))
    assert len(acknowledged) > 10 * KILLS
    assert Operation.MERGE in {event.operation for event in events}
    assert sum(event.kind == Kind.ERASE for event in events) >= sum(client.erased for client in clients) > 0
    assert {event_id: times[event_id] for event_id in acknowledged if times[event_id] != 1} == {}
    assert {event_id: count for event_id, count in times.items() if count > 1} == {}
    require_equal(fold, events)


@pytest.mark.crash
def test_a_graceful_stop_loses_nothing_and_ends_well(tmp_path: Path) -> None:
    """On SIGTERM under load what was acknowledged is in the log once, the snapshot is good and the exit status is 0."""
    (tmp_path / "midstream.toml").write_text(CONFIG)
    clients = [Client(number, 0, random.Random(number)) for number in range(CLIENTS)]  # noqa: S311  a load, no secret
    assert cycle(tmp_path, clients, 1.0, signal.SIGTERM, least=11) == 0
    events, fold = read_back(tmp_path)
    sent = [event for event in events if event.kind in {Kind.INTERACTION, Kind.USER}]
    times = Counter(event.event_id for event in sent)
    acknowledged = set().union(*(client.acknowledged for client in clients))
    assert len(acknowledged) > 10
    assert {times[event_id] for event_id in acknowledged} == {1}
    require_equal(fold, events)


@pytest.mark.crash
@pytest.mark.timeout(600 + 60 * CLOCK_KILLS)
def test_a_clock_that_leaps_under_load_loses_nothing(tmp_path: Path) -> None:
    """Forward and back by an hour, a day and a year, killed meanwhile, started an hour ahead: acknowledged ids once,
    log time in order and by no leap further, nothing cut, and erasures due when they were promised.
    """
    (tmp_path / "midstream.toml").write_text(f'{CONFIG}[history]\nhot = "1h"\nkeep = "2d"\n')
    clock = tmp_path / "clock"
    clients = [Client(number, 0, random.Random(number)) for number in range(CLIENTS)]  # noqa: S311  a load, no secret
    for number in range(CLOCK_KILLS):
        clock.write_text(str(number % 2 * HOUR_MS))
        cycle(tmp_path, clients, 1.5, least=20 * (number + 1), clock=clock)
    events, fold = read_back(tmp_path)
    times = Counter(event.event_id for event in events if event.kind in {Kind.INTERACTION, Kind.USER})
    acknowledged = set().union(*(client.acknowledged for client in clients))
    assert {times[event_id] for event_id in acknowledged} == {1}
    assert {event_id: count for event_id, count in times.items() if count > 1} == {}
    log_times = [event.log_time_ms for event in events]
    assert log_times == sorted(log_times)
    assert log_times[-1] <= time.time() * 1_000 + HOUR_MS
    require_equal(fold, events)
    assert sealed_begin(tmp_path) == 0
    running = open_running(tmp_path, config_of(tmp_path))
    due = running.engine.erasures()
    running.engine.log.close()
    assert due
    assert max(each.erase_by_ms for each in due) <= time.time() * 1_000 + 7 * 24 * HOUR_MS


def sealed_begin(folder: Path) -> int:
    """Seal a folder; return where its log begins. A child of a killed server may still be at it, and then ends."""
    begins: list[int] = []

    def is_sealed() -> bool:
        try:
            begins.append(seal_folder(folder, config_of(folder)).begin)
        except FolderLocked:
            return False
        return True

    wait_until(is_sealed)
    return begins[0]


@contextmanager
def moved(clock: Path) -> Iterator[None]:
    """Set a clock wrong and right again, over and over, until the block ends."""
    leaps = [sign * size for size in (HOUR_MS, 24 * HOUR_MS, 365 * 24 * HOUR_MS) for sign in (1, -1)]
    stop = threading.Event()

    def move() -> None:
        for wrong_by_ms in itertools.chain.from_iterable((leap, 0) for leap in itertools.cycle(leaps)):
            if stop.wait(0.05):
                return
            clock.write_text(str(wrong_by_ms))

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def cycle(
    folder: Path,
    clients: list[Client],
    seconds: float,
    end: signal.Signals = signal.SIGKILL,
    least: int = 0,
    clock: Path | None = None,
) -> int:
    """Serve under load for a while, and until so many events were acknowledged in all and each kind of act among them,
    then end the server; return its exit status.
    """

    def is_enough() -> bool:
        if sum(len(client.acknowledged) for client in clients) < least:
            return False
        return not least or (any(client.erased for client in clients) and any(client.merged for client in clients))

    port = free_port()
    with serving(folder, port, clock) as server, nullcontext() if clock is None else moved(clock):
        stop = threading.Event()
        threads = []
        for client in clients:
            client.port = port
            threads.append(threading.Thread(target=client.run, args=(stop,)))
            threads[-1].start()
        time.sleep(seconds)
        wait_until(is_enough)
        server.send_signal(end)
        server.wait()
        stop.set()
        for thread in threads:
            thread.join()
    return server.returncode


def read_back(folder: Path) -> tuple[list[Event], Fold]:
    """Return all events of the log, and the state after snapshot and tail."""
    running = open_running(folder, config_of(folder))
    log, fold = running.engine.log, running.engine.fold
    pairs = list(batches(log.read, LogPosition(0), log.end))
    events = [event_at(batch, index) for _, batch in pairs for index in range(len(batch))]
    log.close()
    assert fold.log_position == len(events)
    whole = Fold(fold.settings)
    for first, batch in pairs:
        whole.apply(first, batch)
    assert whole.digest() == fold.digest(), "snapshot + tail is another state than the fold from the beginning"
    return events, fold


def require_equal(fold: Fold, events: list[Event]) -> None:
    """Compare counters, rings, pairs and sessions with the plain reference over the same events."""
    settings = fold.settings
    weights = {name: kind.weight for name, kind in settings.types.items()}
    limits = settings.limits
    reference = Reference(weights, settings.session_gap.ms, limits.user_ring_max, limits.session_items_max)
    reference.fold(events)
    names = settings.action_names()
    items = known_items(fold)
    one_by_one = {
        (item, name): int(
            fold.items.window_count(
                name, 30 * 86_400_000, fold.log_time_ms, np.array([fold.vocabulary.item_index(item)], dtype=np.int32)
            )[0]
        )
        for item in items
        for name in names
    }
    assert {key: count for key, count in one_by_one.items() if count} == dict(reference.item_counts)
    for user in {event.user_id for event in events} - {""}:
        index, who = fold.vocabulary.user_index(user), reference.who(user)
        assert fold.vocabulary.user_hash_of(user) == id_hash(who, fold.vocabulary.id_key)
        if index < 0:
            assert not reference.rings[who]
            continue
        recent = fold.users.recent(index)
        ring = list(
            zip(
                fold.vocabulary.item_ids(recent.item_index),
                [names[action] for action in recent.action.tolist()],
                recent.event_time_ms.tolist(),
                strict=True,
            )
        )
        assert ring == reference.rings[who]
        assert {(who, name): count for name, count in fold.users.counts(index).items() if count} == {
            key: count for key, count in reference.user_counts.items() if key[0] == who
        }
    for item in items:
        row, weights_now = fold.pairs.neighbours(fold.vocabulary.item_index(item), fold.log_time_ms)
        held, beside = set(fold.vocabulary.item_ids(row)), reference.neighbours[item]
        assert held <= beside
        assert len(held) == len(row) == min(len(beside), limits.pair_neighbours_max)
        assert (weights_now > 0).all()
    assert fold.sessions.next_number == reference.session_count
    for (kind, name), expected in reference.sessions.items():
        session, user = (name, "") if kind == "session" else ("", name)
        if fold.log_time_ms - expected.last_log_time_ms > settings.session_gap.ms:
            continue
        found = fold.sessions.find(*hashes(session, user, fold.vocabulary.id_key), fold.log_time_ms)
        assert found is not None
        assert found.number == expected.number
        assert fold.vocabulary.item_ids(found.item_index) == expected.items


def known_items(fold: Fold) -> set[str]:
    """Return the items that the state has."""
    return set(fold.vocabulary.item_ids(np.arange(fold.vocabulary.item_count, dtype=np.int32)))


def hashes(session_id: str, user_id: str, key: IdKey) -> tuple[int, int]:
    """Return what ``Sessions.find`` is asked with."""
    return id_hash(session_id, key), id_hash(user_id, key)
