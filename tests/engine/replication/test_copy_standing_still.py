"""A copy that stands still is told apart from a broker that is gone, and bounds hold while it does."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from midstream.app.replicas.shared_log import NodeLog
from midstream.core.errors import AppendFailed, DiskFull
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition, TimestampMs
from midstream.engine.ingest.writer import QueueEntry, WrittenFrame
from midstream.engine.replication import replicated_writer
from midstream.engine.replication.ready_gate import BEHIND_MS, ReadyGate
from midstream.engine.replication.replicated_writer import CLOSE_S_MAX, POSITION_S, ReplicatedWriter, SharedLog
from midstream.engine.replication.shared_topic import TopicFacts, TopicRead, TopicUnavailable
from midstream.engine.replication.topic_message import Events, encode_events, fingerprint_of, shared_log_id
from midstream.engine.replication.topic_position import TopicPair, TopicPosition
from midstream.events.memory import MemoryLog
from midstream.events.schema import Event, build
from tests.support.rig import SMALL
from tests.support.shared_topics import START_MS, FakeTopic, FakeTopicServer

if TYPE_CHECKING:
    from concurrent.futures import Future

LOG_ID = shared_log_id(b"k" * 32, "cluster/topic")
TRIES_MAX = 20


class Disk(MemoryLog):
    """A log that may have no room."""

    has_room = True

    def append(self, batch: EventBatch) -> LogPosition:
        """Append where there is room."""
        if not self.has_room:
            message = "no room"
            raise DiskFull(message)
        return super().append(batch)


class Node:
    """A writer whose turns a test takes, with its clocks and its gate."""

    def __init__(self, path: Path, prepare: Callable[[], TopicFacts] | None = None) -> None:
        """Begin with an empty log; ``path`` is the file of the position."""
        self.server = FakeTopicServer()
        self.topic = FakeTopic(self.server)
        self.log = Disk()
        self.now_s = 0.0
        self.wall_ms = START_MS
        self.frames: list[WrittenFrame] = []
        known = TopicPosition("shop-log", "cluster/topic", fingerprint_of(LOG_ID), (TopicPair(0, 0, {}),))
        shared = SharedLog(self.topic, LOG_ID, b"p" * 16, known, path, prepare)
        self.node_log = NodeLog(shared)
        self.writer: ReplicatedWriter = self.node_log.writer(
            self.log,
            lambda: TimestampMs(self.wall_ms),
            lambda: self.now_s,
            self.delivered,
            SMALL.fold_settings().hash_key(),
            keeps_event_time=False,
        )
        self.gate = ReadyGate(self.node_log, lambda: self.wall_ms)

    def delivered(self, written: WrittenFrame) -> None:
        """Keep a frame."""
        self.frames.append(written)
        if len(self.frames) > TRIES_MAX:
            message = "the writer goes round for ever"
            raise AssertionError(message)

    def append(self, *events: Event) -> None:
        """Append a message of another node."""
        self.server.append(encode_events(Events(build(events), b"x" * 16, 1, keeps_event_time=False), LOG_ID))

    def pass_s(self, seconds: float) -> None:
        """Move both clocks, and the broker's."""
        self.now_s += seconds
        self.wall_ms += int(seconds * 1_000)
        self.server.now_ms += int(seconds * 1_000)


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns wait for nobody."""
    for name in ("READ_WAIT_S", "AGAIN_S", "FULL_AGAIN_S"):
        monkeypatch.setattr(replicated_writer, name, 0.0)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Return a node that has read an empty topic to its end, and is ready."""
    found = Node(tmp_path / "topic.json")
    found.writer.turn()
    assert found.gate.wait() == ""
    return found


def test_a_node_with_a_full_disk_is_not_ready_and_the_broker_is_not_blamed(node: Node) -> None:
    """Its copy stands still, though the broker answers."""
    node.log.has_room = False
    node.append(Event(Kind.TICK))

    def wait(_: float) -> bool:
        node.pass_s(BEHIND_MS / 4_000)
        assert node.gate.concern().said == ""
        node.log.has_room = bool(node.gate.wait())
        return False

    node.writer._pause.wait = wait  # type: ignore[assignment,method-assign]
    node.writer.turn()
    assert node.now_s == BEHIND_MS / 1_000
    assert node.gate.wait() == ""


def test_a_writer_that_ended_is_not_ready_and_says_why(node: Node) -> None:
    """At once: nothing of the shop reaches this node any more."""
    node.server.messages.clear()
    node.append(Event(Kind.TICK))
    node.server.first = 1
    node.writer._run()
    assert "offset 0" in node.gate.wait()
    assert node.gate.concern().said == ""
    assert "ended" in node.node_log.concern().said


def test_an_errand_that_hangs_in_an_outage_is_no_outage_for_ever(node: Node) -> None:
    """The broker counts as gone while it is asked and does not answer, not while nobody asks it."""
    node.topic.is_cut = True
    for _ in range(20):
        node.writer.turn()
        node.pass_s(5.0)
        assert node.gate.wait() == ""
        assert node.gate.concern().said
    node.pass_s(60.0)
    assert "behind" in node.gate.wait()
    node.writer.turn()
    node.topic.is_cut = False
    node.writer.turn()
    assert node.gate.wait() == ""


def test_a_frame_that_was_stored_is_not_stored_again_when_its_delivery_fails(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second copy of its events would have no place in the topic."""
    monkeypatch.setattr(replicated_writer, "FRAME_EVENTS_MAX", 1)

    def fails(_: WrittenFrame) -> None:
        message = "a bug of the owner"
        raise RuntimeError(message)

    node.writer._deliver = fails
    node.append(Event(Kind.TICK))
    with pytest.raises(RuntimeError):
        node.writer.turn()
    assert node.log.end == 1


def test_a_position_that_cannot_be_written_is_named_until_it_is(tmp_path: Path) -> None:
    """A read that succeeds is no end of it."""
    folder = tmp_path / "data"
    folder.write_text("in the way")
    node = Node(folder / "topic.json")
    for _ in range(3):
        node.append(Event(Kind.TICK))
        node.pass_s(POSITION_S)
        node.writer.turn()
    node.writer.turn()
    assert "topic.json could not be written" in node.node_log.concern().said
    folder.unlink()
    folder.mkdir()
    node.pass_s(POSITION_S)
    node.writer.turn()
    assert node.node_log.concern().said == ""


def test_an_errand_is_done_while_the_disk_is_full(node: Node) -> None:
    """It may be the one that makes room, such as a rewrite after an erasure."""
    node.log.has_room = False
    node.append(Event(Kind.TICK))
    done = node.writer.between_frames(lambda log: log)
    node.writer._do_errand()
    assert done.done()

    def makes_room(log: object) -> Disk:
        assert log is node.log
        node.log.has_room = True
        return node.log

    asked: list[Future[None]] = []

    def wait(_: float) -> bool:
        if not asked:
            asked.append(node.writer.between_frames(makes_room))
        return False

    node.writer._pause.wait = wait  # type: ignore[assignment,method-assign]
    node.writer.turn()
    assert asked[0].done()
    assert node.log.end == 1


def test_frames_are_bounded_in_bytes(node: Node) -> None:
    """Large messages are few events."""
    for number in range(12):
        node.append(Event(Kind.ITEM, item_id=f"lamp-{number}", body=b"x" * 850_000))
    node.writer.turn()
    sizes = [each.batch.rows.nbytes + len(each.batch.text) for each in node.frames]
    assert node.log.end == 12
    assert max(sizes) <= replicated_writer.FRAME_BYTES_AIM + 900_000
    assert len(sizes) == 2


def test_a_writer_that_closes_begins_no_call_that_blocks(tmp_path: Path) -> None:
    """Neither the checks of a topic that never answered, nor a read once its time is over."""
    called: list[str] = []

    def prepare() -> TopicFacts:
        called.append("prepare")
        message = "no answer"
        raise TopicUnavailable(message)

    node = Node(tmp_path / "topic.json", prepare)
    node.writer.submit(QueueEntry(build((Event(Kind.TICK),)), None))
    node.writer.turn()
    assert called == ["prepare"]
    node.writer._closing_s = node.now_s
    node.writer.turn()
    assert called == ["prepare"]
    assert node.writer._is_over()
    node.writer._end(None)
    late = Node(tmp_path / "late.json")
    late.writer.submit(QueueEntry(build((Event(Kind.TICK),)), None))
    late.writer._closing_s = late.now_s
    late.topic.called = called.append
    late.writer.turn()
    assert called == ["prepare", "read"]
    late.pass_s(CLOSE_S_MAX + 1)
    late.writer.turn()
    assert called == ["prepare", "read"]


def test_lag_is_no_difference_of_clocks(node: Node) -> None:
    """A node that was at the end of the topic a moment ago is at most that far behind, whatever its clock shows."""
    node.wall_ms += 60_000
    node.topic.read = _never_at_the_end(node.topic)  # type: ignore[assignment, method-assign]
    for _ in range(3):
        node.append(Event(Kind.TICK))
        node.pass_s(0.5)
        node.writer.turn()
    assert node.writer.lag_ms == 1_500
    node.wall_ms = node.server.now_ms - 60_000
    assert node.writer.lag_ms == 1_500
    node.wall_ms = node.server.now_ms
    assert node.writer.lag_ms == 500


def test_facts_of_a_topic_that_answered_late_are_kept_for_receipts(tmp_path: Path) -> None:
    """Until it answers, how long it keeps messages is unknown, and the receipt says so."""
    node = Node(tmp_path / "topic.json", lambda: TopicFacts("cluster/topic", retention_ms=3_600_000, segment_ms=60_000))
    assert "unknown" in node.node_log.said_of_erasures()
    node.writer.turn()
    assert "61m" in node.node_log.said_of_erasures()


def test_a_failure_of_the_log_ends_the_writer_by_name(node: Node) -> None:
    """A log that takes nothing more is the node's own trouble, not the broker's."""

    def fails(batch: EventBatch) -> LogPosition:
        message = f"fsync of {len(batch)} events failed"
        raise AppendFailed(message)

    node.log.append = fails  # type: ignore[method-assign]
    node.append(Event(Kind.TICK))
    node.writer._run()
    assert "fsync of 1 events failed" in node.gate.wait()


def _never_at_the_end(topic: FakeTopic) -> Callable[[int, int, float], TopicRead]:
    read = topic.read

    def behind(offset: int, messages_max: int, wait_s: float) -> TopicRead:
        return read(offset, messages_max, wait_s)._replace(is_end=False)

    return behind
