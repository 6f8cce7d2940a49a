"""Nodes on one topic: whatever is lost, late, doubled or killed, positions and states are equal, nothing counts twice.

The nodes take their turns one after another, in any order that Hypothesis draws, without threads: so a failure is the
same each time. ``test_shared_engines`` has whole engines with their threads.
"""

import itertools
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midstream.core.errors import AppendFailed, CommitTooSlow, DiskFull, Overloaded, TooLarge
from midstream.core.kinds import Kind
from midstream.core.protocols import EventLog
from midstream.core.types import EventBatch, LogPosition, TimestampMs
from midstream.engine.ingest.log_reader import batches, catch_up
from midstream.engine.ingest.writer import QUEUE_EVENTS_MAX, QueueEntry, WrittenFrame
from midstream.engine.replication import replicated_writer
from midstream.engine.replication.replicated_writer import ReplicatedWriter, SharedLog
from midstream.engine.replication.shared_topic import MESSAGE_BYTES_MAX, TopicRefused
from midstream.engine.replication.topic_message import Events, encode_events, fingerprint_of, shared_log_id
from midstream.engine.replication.topic_position import TopicPair, TopicPosition, read_topic_position
from midstream.events.memory import MemoryLog
from midstream.events.schema import Event, build, cut, event_at
from midstream.events.segments import frames
from midstream.state.fold import Fold
from tests.support.rig import SMALL
from tests.support.shared_topics import START_MS, FakeTopic, FakeTopicServer

KEY = b"k" * 32
LOG_ID = shared_log_id(KEY, "cluster/topic")
SETTINGS = SMALL.fold_settings()
FAULTS = ("", "", "", "lost", "unheard", "late", "twice", "full")


class Killed(BaseException):
    """The process ends here."""


@dataclass(eq=False)
class Disk(MemoryLog):
    """A log that outlives its process, and may have no room."""

    has_room: bool = True
    called: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        """Begin empty."""
        super().__init__()

    def append(self, batch: EventBatch) -> LogPosition:
        """Store a batch; the process may end before and after."""
        self.called("store")
        if not self.has_room:
            raise DiskFull("no room")
        end = super().append(batch)
        self.called("stored")
        return end


@dataclass(eq=False)
class Node:
    """One node: what outlives a process, and the process."""

    server: FakeTopicServer
    path: Path
    number: int
    draw_fault: Callable[[], str] = str
    log: Disk = field(default_factory=Disk)
    left: int | None = None
    """Calls until the process ends."""
    fold: Fold = field(init=False)
    writer: ReplicatedWriter = field(init=False)
    topic: FakeTopic = field(init=False)
    tickets: dict[str, "Future[None]"] = field(default_factory=dict[str, "Future[None]"])
    acknowledged: set[str] = field(default_factory=set[str])
    unsure: set[str] = field(default_factory=set[str])
    processes: Any = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        """Begin a process."""
        self.begin()

    def begin(self) -> None:
        """Begin a process with what the one before left."""
        self.left = None
        self.log.called = self.topic_called
        self.topic = FakeTopic(self.server, self.draw_fault, called=self.topic_called)
        self.tickets = {}
        self.fold = Fold(SETTINGS)
        catch_up(self.fold, self.log.read, self.log.end)
        known = read_topic_position(self.path) or TopicPosition(
            "shop-log", "cluster/topic", fingerprint_of(LOG_ID), (TopicPair(0, 0, {}),)
        )
        process = f"{self.number} {next(self.processes)}".encode().ljust(16)
        shared = SharedLog(self.topic, LOG_ID, process, known, self.path)
        seconds = itertools.count(step=7)  # so that the position is written at every turn
        self.writer = ReplicatedWriter(
            shared,
            self.log,
            lambda: TimestampMs(START_MS),
            lambda: float(next(seconds)),
            self.delivered,
            SETTINGS.hash_key(),
            keeps_event_time=False,
        )

    def topic_called(self, _: str) -> None:
        """End the process when its time has come."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed

    def delivered(self, written: WrittenFrame) -> None:
        """Fold what is durable, and keep what each entry was told."""
        for entry in written.entries:
            self.tell(entry, written.error)
        if written.error is None:
            assert written.first == self.fold.log_position
            self.fold.apply(written.first, written.batch, written.prints)

    def tell(self, entry: QueueEntry, error: AppendFailed | CommitTooSlow | None) -> None:
        """Note the fate of an entry."""
        ids = {event_at(entry.batch, row).event_id for row in range(len(entry.batch))}
        if error is None and entry.ticket is not None:
            self.acknowledged |= ids
        elif error is not None:
            self.unsure |= ids

    def submit(self, *ids: str) -> None:
        """Submit one entry with some events, if there is room."""
        events = [Event(Kind.INTERACTION, event_id=each, action="view", user_id="ann", item_id="lamp") for each in ids]
        ticket: Any = Future()
        try:
            self.writer.submit(QueueEntry(build(events), ticket))
        except Overloaded:
            return

    def turn(self, call: Callable[[], object]) -> None:
        """Have the process do something; it may end with it, and the next one begins."""
        try:
            call()
        except Killed:
            self.begin()


def settle(nodes: list[Node], server: FakeTopicServer) -> None:
    """Let all faults end and every node read to the end."""
    server.is_down = False
    server.arrive()
    for node in nodes:
        node.left, node.topic.is_cut, node.topic.fault, node.log.has_room = None, False, str, True
    for node in nodes:
        while node.writer._producer.turn():
            node.writer.turn()
    for node in nodes:
        for _ in range(3):
            node.writer.turn()


def events_of(log: EventLog) -> list[tuple[str, int]]:
    """Return id and log time of each event, in order."""
    found: list[tuple[str, int]] = []
    for _, batch in batches(log.read, LogPosition(0), log.end):
        found += [(event_at(batch, row).event_id, int(batch.rows["log_time_ms"][row])) for row in range(len(batch))]
    return found


ACTS = st.one_of(
    st.tuples(st.just("submit"), st.integers(0, 2), st.integers(1, 3)),
    st.tuples(st.just("same"), st.integers(0, 2), st.integers(0, 5)),
    st.tuples(st.just("produce"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("read"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("kill"), st.integers(0, 2), st.integers(0, 6)),
    st.tuples(st.just("cut"), st.integers(0, 2), st.integers(0, 1)),
    st.tuples(st.just("down"), st.just(0), st.integers(0, 1)),
    st.tuples(st.just("arrive"), st.just(0), st.just(0)),
    st.tuples(st.just("time"), st.just(0), st.integers(-5_000, 60_000)),
)


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns one after another wait for nobody."""
    for name in ("READ_WAIT_S", "AGAIN_S", "FULL_AGAIN_S"):
        monkeypatch.setattr(replicated_writer, name, 0.0)


@given(acts=st.lists(ACTS, min_size=20, max_size=60), faults=st.lists(st.sampled_from(FAULTS), max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
def test_any_interleaving_gives_equal_positions_and_states(
    acts: list[tuple[str, int, int]], faults: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """0 lost, 0 double, equal events at equal positions and equal digests, in any order, with kills at any call."""
    server = FakeTopicServer()
    drawn = iter(faults)
    folder = tmp_path_factory.mktemp("nodes")
    nodes = [Node(server, folder / f"topic-{n}.json", n, lambda: next(drawn, "")) for n in range(3)]
    ids = itertools.count()
    digests: dict[int, str] = {}
    seen = [0, 0, 0]
    for name, number, told in acts:
        node = nodes[number]
        if name == "submit":
            node.submit(*(f"event-{next(ids)}" for _ in range(told)))
        elif name == "same":  # several nodes may take the same id at once
            node.submit(f"same-{told}")
        elif name == "produce":
            node.turn(node.writer._producer.turn)
        elif name == "read":
            node.turn(node.writer.turn)
        elif name == "kill":
            node.left = told
        elif name == "cut":
            node.topic.is_cut = bool(told)
        elif name == "down":
            server.is_down = bool(told)
        elif name == "arrive":
            server.arrive()
        elif name == "time":
            server.now_ms += told
        if (position := node.fold.log_position) != seen[number]:
            seen[number] = position
            digest = node.fold.digest()
            assert digests.setdefault(position, digest) == digest
    settle(nodes, server)
    logs = [events_of(node.log) for node in nodes]
    assert logs[0] == logs[1] == logs[2]
    assert len({node.fold.digest() for node in nodes}) == 1
    times = [at for _, at in logs[0]]
    assert times == sorted(times)
    counts = Counter(each for each, _ in logs[0])
    assert set().union(*(node.acknowledged for node in nodes)) <= counts.keys()
    folded = nodes[0].fold.counts()
    assert len(logs[0]) - folded["duplicate"] == len(counts)
    assert folded["conflict"] == 0


@dataclass(eq=False)
class Pair:
    """A server with one node."""

    server: FakeTopicServer
    node: Node

    def go(self) -> None:
        """Append and read all that is there."""
        settle([self.node], self.server)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """One node that has read nothing."""
    server = FakeTopicServer()
    return Pair(server, Node(server, tmp_path / "topic.json", 0))


def test_a_lost_answer_is_told_and_not_sent_again(pair: Pair) -> None:
    """A message that was not confirmed is given back as uncertain; read after all, its events count once."""
    pair.node.topic.fault = lambda: "late"
    pair.node.submit("a")
    pair.node.writer._producer.turn()
    pair.node.writer.turn()
    assert pair.node.unsure == {"a"}
    assert pair.node.acknowledged == set()
    assert pair.node.writer.queued_events == 0
    pair.go()
    assert [each for each, _ in events_of(pair.node.log)] == ["a"]
    assert len(pair.server.messages) == 1


def test_log_time_never_goes_back_and_a_tick_alone_moves_it_an_hour(pair: Pair) -> None:
    """It is the running maximum of the times at which the broker appended."""
    for step, each in ((0, "a"), (-10_000, "b"), (20_000, "c")):
        pair.server.now_ms += step
        pair.node.submit(each)
        pair.go()
    assert [at - START_MS for _, at in events_of(pair.node.log)] == [0, 0, 10_000]
    pair.server.now_ms += 365 * 86_400_000
    pair.node.writer.submit(QueueEntry(build((Event(Kind.TICK, event_id="tick-1"),)), None))
    pair.go()
    assert pair.node.log.last_log_time_ms == START_MS + 10_000 + 3_600_000


def test_rubbish_is_skipped_on_every_node_alike_and_counted(pair: Pair, tmp_path: Path) -> None:
    """Bytes that are no message of this log take no position; those of another key are rubbish."""
    events = Events(build((Event(Kind.TICK),)), b"p" * 16, 1, keeps_event_time=False)
    good = encode_events(events, LOG_ID)
    foreign = encode_events(events, shared_log_id(b"o" * 32, "cluster/topic"))
    flipped = bytes((*good[:-1], good[-1] ^ 1))
    for value in (b"", b"\x00" * 200, good[:-8], flipped, foreign, b'{"midstream":1,"key":"00"}', good):
        pair.server.append(value)
    other = Node(pair.server, tmp_path / "other.json", 1)
    settle([pair.node, other], pair.server)
    assert pair.node.log.end == other.log.end == 1
    assert pair.node.writer.skipped_messages == other.writer.skipped_messages == 5


def test_another_schema_version_ends_the_writer_before_the_message(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events of a version that is not read are never skipped: what stands before them is kept, nothing behind."""
    pair.node.submit("a")
    pair.node.writer._producer.turn()
    events = Events(build((Event(Kind.TICK),)), b"p" * 16, 1, keeps_event_time=False)
    with monkeypatch.context() as newer:
        newer.setattr(frames, "SCHEMA_VERSION", 3)
        pair.server.append(encode_events(events, LOG_ID))
    with pytest.raises(TopicRefused, match="schema version 3"):
        pair.node.writer.turn()
    assert pair.node.acknowledged == {"a"}
    pair.node.begin()  # and a restart does not pass it by
    with pytest.raises(TopicRefused, match="schema version 3"):
        pair.node.writer.turn()


def test_retention_that_cut_the_place_is_an_error_with_both_offsets(pair: Pair) -> None:
    """A node that was away for too long is told so, and jumps over nothing."""
    for each in "abc":
        pair.node.submit(each)
        pair.node.writer._producer.turn()
    pair.server.first = 2
    with pytest.raises(TopicRefused, match=r"offset 0 .* 2 to 3"):
        pair.node.writer.turn()
    assert pair.node.log.end == 0


def test_an_entry_in_parts_is_whole_or_uncertain(pair: Pair) -> None:
    """A later part is never in the topic without the one before it, and the ticket fails with any part."""
    bodies = [Event(Kind.ITEM, item_id=f"lamp-{n}", body=b'{"name":"%s"}' % (b"x" * 200_000)) for n in range(12)]
    told: Any = Future()
    pair.node.writer.submit(QueueEntry(build(bodies), told))
    faults = iter(("", "lost"))
    pair.node.topic.fault = lambda: next(faults, "")
    for _ in range(6):
        pair.node.writer._producer.turn()
        pair.node.writer.turn()
    assert len(pair.server.messages) == 1
    assert all(len(each.value) <= MESSAGE_BYTES_MAX for each in pair.server.messages)
    assert pair.node.writer.queued_events == 0
    assert pair.node.log.end == 4
    pair.node.writer.submit(QueueEntry(build(bodies), told))
    for _ in range(6):
        pair.node.writer._producer.turn()
        pair.node.writer.turn()
    assert pair.node.log.end == 4 + 12
    assert pair.node.writer.submitted_entries == 6


def test_an_event_that_fits_into_no_message_is_refused(pair: Pair) -> None:
    """It is an error of the caller, in four parts, and nothing was queued."""
    big = build((Event(Kind.ITEM, item_id="lamp", body=b"x" * MESSAGE_BYTES_MAX),))
    with pytest.raises(TooLarge, match="message of the shared log"):
        pair.node.writer.submit(QueueEntry(big, None))
    assert pair.node.writer.queued_events == 0


def test_a_full_disk_of_one_node_stops_its_copy_alone(pair: Pair) -> None:
    """Events stay in the topic until there is room; nothing is lost and nothing is written twice."""
    told: list[WrittenFrame] = []
    deliver = pair.node.writer._deliver

    def heard(written: WrittenFrame) -> None:
        told.append(written)
        pair.node.log.has_room = len(told) > 2
        deliver(written)

    pair.node.writer._deliver = heard
    pair.node.log.has_room = False
    pair.node.submit("a")
    pair.node.writer._producer.turn()
    pair.node.writer.turn()
    assert [type(each.error) for each in told] == [DiskFull, DiskFull, DiskFull, type(None)]
    assert told[0].error is told[1].error
    assert pair.node.log.end == 1


def test_what_waits_for_the_broker_is_bounded(pair: Pair) -> None:
    """What was sent and not read back takes room, as what is queued does."""
    batch = build([Event(Kind.TICK)] * 10_000)
    for _ in range(QUEUE_EVENTS_MAX // 10_000):
        pair.node.writer.submit(QueueEntry(batch, None))
    pair.node.topic.fault = lambda: "full"
    with pytest.raises(Overloaded):
        pair.node.writer.submit(QueueEntry(batch, None))


def test_a_log_that_ends_before_every_known_place_is_refused(pair: Pair, tmp_path: Path) -> None:
    """Going on from such a place would pass by events that the log has not."""
    known = TopicPosition("shop-log", "cluster/topic", fingerprint_of(LOG_ID), (TopicPair(5, 9, {}),))
    shared = SharedLog(pair.node.topic, LOG_ID, b"p" * 16, known, tmp_path / "topic.json")
    with pytest.raises(TopicRefused, match="log position 0"):
        ReplicatedWriter(
            shared,
            MemoryLog(),
            lambda: TimestampMs(0),
            float,
            lambda _: None,
            SETTINGS.hash_key(),
            keeps_event_time=False,
        )


def test_a_place_ahead_of_the_log_is_not_kept(pair: Pair) -> None:
    """A frame that could not be written is read again after a restart."""
    pair.node.submit("a")
    pair.node.writer._producer.turn()
    pair.node.log.has_room = False
    pair.node.writer.close = lambda: None  # type: ignore[method-assign]
    pair.node.writer._closing_s = 1e9  # just now
    with pytest.raises(DiskFull):
        pair.node.writer.turn()
    pair.node.writer._end(AppendFailed("the disk"))
    kept = read_topic_position(pair.node.path)
    assert kept is None or kept.newest.log_position <= pair.node.log.end
    pair.node.log.has_room = True
    pair.node.begin()
    pair.go()
    assert [each for each, _ in events_of(pair.node.log)] == ["a"]


def test_a_log_that_ends_inside_a_message_goes_on_there(pair: Pair, tmp_path: Path) -> None:
    """A snapshot may lie between two events of a message: the node that joins by it takes the rest, each event once."""
    pair.node.submit("a", "b", "c")
    pair.go()
    joined = Node(pair.server, tmp_path / "joined.json", 1)
    ((_, batch),) = pair.node.log.read(LogPosition(0), 1)
    joined.log.append(cut(batch, 0, 2))
    joined.begin()
    settle([joined], pair.server)
    assert events_of(joined.log) == events_of(pair.node.log)
    assert joined.fold.digest() == pair.node.fold.digest()


@pytest.mark.parametrize("left", range(10))
def test_a_kill_at_each_call_loses_and_doubles_nothing(left: int, tmp_path: Path) -> None:
    """A process that ends at any of its calls goes on where its log ends; the topic has its events once."""
    server = FakeTopicServer()
    nodes = [Node(server, tmp_path / f"{n}.json", n) for n in range(2)]
    nodes[1].submit("z")
    nodes[1].turn(nodes[1].writer._producer.turn)
    nodes[0].submit("a", "b")
    nodes[0].left = left
    for _ in range(3):
        nodes[0].turn(nodes[0].writer._producer.turn)
        nodes[0].turn(nodes[0].writer.turn)
    settle(nodes, server)
    found = [events_of(node.log) for node in nodes]
    assert found[0] == found[1]
    assert [each for each, _ in found[0]] in (["z", "a", "b"], ["z"])
    assert ("a" in nodes[0].acknowledged) <= (len(found[0]) == 3)
    assert nodes[0].fold.digest() == nodes[1].fold.digest()
