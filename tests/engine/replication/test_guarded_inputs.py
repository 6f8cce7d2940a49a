"""Consumers of one input on several nodes: each message of the broker is recorded once, without ids and without leases.

The nodes take their turns one after another, as in ``test_replicated_writer``, and every one of them consumes at any
moment, from the positions that its own state has then.
"""

import itertools
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.ingest.input_guard import NEVER_MOVED, InputGuard
from midstream.engine.ingest.log_reader import batches
from midstream.engine.ingest.writer import QueueEntry
from midstream.engine.replication import replicated_writer
from midstream.engine.replication.shared_topic import MESSAGE_BYTES_MAX
from midstream.engine.replication.topic_message import Events, decode_events, encode_events
from midstream.engine.replication.topic_position import read_topic_position, write_topic_position
from midstream.events.schema import Event, build, event_at
from midstream.state.control.input_positions import InputPosition, encode_input_position
from tests.engine.replication.test_replicated_writer import FAULTS, LOG_ID, Node, events_of, settle
from tests.support.shared_topics import FakeTopicServer


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns one after another wait for nobody."""
    for name in ("READ_WAIT_S", "AGAIN_S", "FULL_AGAIN_S"):
        monkeypatch.setattr(replicated_writer, name, 0.0)


def place_of(node: Node) -> int:
    """Return the offset at which the state of a node goes on."""
    row = node.fold.inputs.find("clicks")
    return 0 if row is None else int(row.next["0"])


def guard_of(node: Node) -> InputGuard:
    """Return the guard of what is read from the positions of the state of a node."""
    row = node.fold.inputs.find("clicks")
    return InputGuard("clicks", NEVER_MOVED if row is None else row.position)


def consumed(first: int, count: int) -> EventBatch:
    """Return the events of some messages and the position after them; the events have no id."""
    body = encode_input_position(InputPosition("clicks", "shop.clicks", "one", {"0": str(first + count)}))
    events = [
        Event(Kind.INTERACTION, action="view", user_id="ann", item_id=f"m{n}") for n in range(first, first + count)
    ]
    return build((*events, Event(Kind.CONTROL, body=body)))


def consume(node: Node, count: int) -> None:
    """Have a node append its next messages."""
    ticket: Any = Future()
    node.writer.submit(QueueEntry(consumed(place_of(node), count), ticket, guard=guard_of(node)))


def messages_in(node: Node) -> list[str]:
    """Return the messages of the broker that a node's log has, in its order."""
    found: list[str] = []
    for _, batch in batches(node.log.read, LogPosition(0), node.log.end):
        found += [event_at(batch, row).item_id for row in range(len(batch))]
    return [each for each in found if each.startswith("m")]


ACTS = st.one_of(
    st.tuples(st.just("consume"), st.integers(0, 2), st.integers(1, 3)),
    st.tuples(st.just("consume"), st.integers(0, 2), st.integers(1, 3)),
    st.tuples(st.just("submit"), st.integers(0, 2), st.integers(1, 2)),
    st.tuples(st.just("produce"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("produce"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("read"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("read"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("kill"), st.integers(0, 2), st.integers(0, 6)),
    st.tuples(st.just("cut"), st.integers(0, 2), st.integers(0, 1)),
    st.tuples(st.just("arrive"), st.just(0), st.just(0)),
)


@given(acts=st.lists(ACTS, min_size=20, max_size=80), faults=st.lists(st.sampled_from(FAULTS), max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_any_interleaving_of_consumers_records_each_message_once(
    acts: list[tuple[str, int, int]], faults: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """0 lost, 0 double, in order, on every node alike, whoever consumes, is killed, and appends late."""
    server = FakeTopicServer()
    drawn = iter(faults)
    folder = tmp_path_factory.mktemp("nodes")
    nodes = [Node(server, folder / f"topic-{n}.json", n, lambda: next(drawn, "")) for n in range(3)]
    ids = itertools.count()
    for name, number, told in acts:
        node = nodes[number]
        if name == "consume":
            consume(node, told)
        elif name == "submit":
            node.submit(*(f"event-{next(ids)}" for _ in range(told)))
        elif name == "produce":
            node.turn(node.writer._producer.turn)
        elif name == "read":
            node.turn(node.writer.turn)
        elif name == "kill":
            node.left = told
        elif name == "cut":
            node.topic.is_cut = bool(told)
        elif name == "arrive":
            server.arrive()
    settle(nodes, server)
    consume(nodes[0], 1)
    settle(nodes, server)
    logs = [events_of(node.log) for node in nodes]
    assert logs[0] == logs[1] == logs[2]
    assert len({node.fold.digest() for node in nodes}) == 1
    assert messages_in(nodes[0]) == [f"m{n}" for n in range(place_of(nodes[0]))]
    assert all(not node.writer.queued_events for node in nodes)


def test_a_dropped_batch_is_told_to_its_consumer_alone(tmp_path: Path) -> None:
    """The first of two batches from one place counts; the other one's ticket has an error, and no log has it."""
    server = FakeTopicServer()
    nodes = [Node(server, tmp_path / f"{n}.json", n) for n in range(2)]
    for node in nodes:
        consume(node, 2)
    settle(nodes, server)
    assert [messages_in(node) for node in nodes] == [["m0", "m1"]] * 2
    assert [node.writer.superseded_messages for node in nodes] == [1, 1]
    assert [len(node.acknowledged) for node in nodes] == [1, 0]
    assert [len(node.unsure) for node in nodes] == [0, 1]


def test_a_move_without_a_guard_fences_what_was_read_before(tmp_path: Path) -> None:
    """An operator's order on one node holds against the batch that another one has under way."""
    server = FakeTopicServer()
    nodes = [Node(server, tmp_path / f"{n}.json", n) for n in range(2)]
    consume(nodes[0], 3)
    settle(nodes, server)
    consume(nodes[0], 2)
    nodes[1].writer.submit(QueueEntry(consumed(0, 0), None))
    settle(nodes[::-1], server)
    assert [place_of(node) for node in nodes] == [0, 0]
    assert messages_in(nodes[0]) == messages_in(nodes[1]) == ["m0", "m1", "m2"]


def test_a_restart_far_back_drops_what_was_dropped_before(tmp_path: Path) -> None:
    """The versions stand in each pair of the topic position, so counting from any of them gives the same positions."""
    server = FakeTopicServer()
    nodes = [Node(server, tmp_path / f"{n}.json", n) for n in range(2)]
    for _ in range(5):
        for node in nodes:
            consume(node, 2)
        settle(nodes, server)
    known = read_topic_position(nodes[0].path)
    assert known is not None
    assert len(known.pairs) > 3
    assert known.newest.inputs == {"clicks": nodes[0].log.end - 1}
    want = messages_in(nodes[0])
    for count in range(1, len(known.pairs) + 1):
        late = Node(server, tmp_path / f"late-{count}.json", 7)
        late.log = nodes[0].log
        write_topic_position(late.path, replace(known, pairs=known.pairs[:count]))
        late.begin()
        late.writer.turn()
        assert late.writer._tail.position == late.log.end
        assert late.writer.position.newest.inputs == known.newest.inputs
        assert messages_in(late) == want


def test_the_condition_is_part_of_what_the_checksum_covers() -> None:
    """A message whose condition was changed, or taken off, holds no event of this log."""
    events = Events(consumed(0, 1), b"p" * 16, 1, keeps_event_time=False, guard=InputGuard("clicks", 41))
    value = encode_events(events, LOG_ID)
    found = decode_events(value, LOG_ID, "topic", 0)
    assert found is not None
    assert found.guard == InputGuard("clicks", 41)
    for other in (value.replace(b"41", b"42", 1), value.partition(b"\n")[2], b'{"guard":' + value, b'{"guard":\n'):
        assert decode_events(other, LOG_ID, "topic", 0) is None


def test_a_message_with_the_longest_condition_fits() -> None:
    """The room that pieces leave is enough for a name of the maximum, each byte of it escaped."""
    guard = InputGuard("\x01" * 512, 2**62)
    one = Events(build((Event(Kind.TICK),)), b"p" * 16, 1, keeps_event_time=False)
    bare = len(encode_events(one, LOG_ID))
    value = encode_events(Events(one.batch, one.process, 1, keeps_event_time=False, guard=guard), LOG_ID)
    assert len(value) - bare < 4_096
    assert decode_events(value, LOG_ID, "topic", 0) is not None
    assert len(value) < MESSAGE_BYTES_MAX
