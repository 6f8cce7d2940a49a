"""Every shared topic keeps the same promises: the one in memory that tests of nodes use, and one on a real Kafka."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from midstream.core.errors import MidstreamError
from midstream.engine.replication.shared_topic import (
    MESSAGE_BYTES_MAX,
    SharedTopic,
    TopicMessage,
    TopicRefused,
    TopicUnavailable,
)
from midstream.integrations.kafka.client_options import KafkaClientOptions
from midstream.integrations.kafka.shared_topic import KafkaSharedTopic, SharedTopicOptions
from tests.support.libraries import library
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.shared_topics import FakeTopic, FakeTopicServer

WAIT_S = 0.2
MakeTopic = Callable[[], SharedTopic]
_real = (pytest.mark.integration, pytest.mark.service, pytest.mark.slow)


@pytest.fixture(params=["memory", pytest.param("kafka", marks=_real)])
def make_topic(request: pytest.FixtureRequest) -> Iterator[MakeTopic]:
    """Return what connects another node to one topic, which is not there yet."""
    made: list[SharedTopic] = []
    if request.param == "kafka":
        library("confluent_kafka")
        options = KafkaClientOptions(request.getfixturevalue("kafka").address)
        name = f"contract-{uuid.uuid4().hex}"
        connect: MakeTopic = lambda: KafkaSharedTopic(SharedTopicOptions(options, name, None, 0), {})  # noqa: E731
    else:
        server = FakeTopicServer(topic_id="")
        connect = lambda: FakeTopic(server, is_open=False)  # noqa: E731

    def make() -> SharedTopic:
        made.append(connect())
        return made[-1]

    yield make
    for each in made:
        each.close()


def append(topic: SharedTopic, *values: bytes) -> None:
    """Append messages, and wait until all of them are confirmed."""
    done = threading.Semaphore(0)
    errors: list[MidstreamError | None] = []

    def confirmed(error: MidstreamError | None) -> None:
        errors.append(error)
        done.release()

    for value in values:
        topic.append(value, confirmed)
    for _ in values:
        assert done.acquire(timeout=PATIENCE_S)
    assert errors == [None] * len(values)


def read_all(topic: SharedTopic, offset: int = 0, messages_max: int = 100) -> list[TopicMessage]:
    """Read from an offset until the topic says that nothing is behind."""
    found: list[TopicMessage] = []
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        read = topic.read(offset, messages_max, WAIT_S)
        assert len(read.messages) <= messages_max
        found += read.messages
        offset += len(read.messages)
        if read.is_end:
            return found
    pytest.fail(f"no end after {len(found)} messages")


def test_the_first_opening_creates_it_and_the_next_ones_find_it(make_topic: MakeTopic) -> None:
    """All nodes see one identity, and an empty topic is from 0 to 0."""
    first, second = make_topic(), make_topic()
    facts = first.open()
    assert facts.topic_id
    assert second.open().topic_id == facts.topic_id
    assert second.open(facts.topic_id).topic_id == facts.topic_id
    assert first.span() == second.span() == (0, 0)
    assert read_all(first) == []


def test_nothing_is_created_for_who_knows_another(make_topic: MakeTopic) -> None:
    """A folder that copied a topic never gets a new one in its place."""
    with pytest.raises(TopicRefused, match="none of this name is there"):
        make_topic().open("cluster/gone")
    topic = make_topic()
    found = topic.open().topic_id
    with pytest.raises(TopicRefused, match=found):
        make_topic().open("cluster/gone")


def test_messages_of_a_node_keep_their_order_and_all_nodes_read_them_alike(make_topic: MakeTopic) -> None:
    """Offsets count from 0 without gaps, append times do not go back, and bytes come as they were."""
    nodes = [make_topic() for _ in range(3)]
    for node in nodes:
        node.open()
    values = {n: [f"{n}-{k}".encode() + bytes(range(256)) for k in range(50)] for n in range(3)}
    threads = [threading.Thread(target=append, args=(nodes[n], *values[n])) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [read_all(node) for node in nodes]
    assert found[0] == found[1] == found[2]
    assert [each.offset for each in found[0]] == list(range(150))
    times = [each.appended_ms for each in found[0]]
    assert times == sorted(times)
    for number, sent in values.items():
        assert [each.value for each in found[0] if each.value.startswith(b"%d-" % number)] == sent
    assert nodes[0].span() == (0, 150)


def test_a_read_begins_anywhere_and_has_a_maximum(make_topic: MakeTopic) -> None:
    """Forwards, backwards, one at a time, and at the end, where it waits no longer than it is told."""
    topic = make_topic()
    topic.open()
    append(topic, *(b"%d" % n for n in range(20)))
    assert [each.value for each in read_all(topic, 15)] == [b"15", b"16", b"17", b"18", b"19"]
    assert [each.value for each in read_all(topic, 3, 1)][:2] == [b"3", b"4"]
    assert len(read_all(topic, 0, 7)) == 20
    began = time.monotonic()
    assert read_all(topic, 20) == []
    assert time.monotonic() - began < PATIENCE_S / 10


def test_a_read_waits_for_the_next_message(make_topic: MakeTopic) -> None:
    """One that another node appends meanwhile comes with a read that is under way, or the one after it."""
    reader, writer = make_topic(), make_topic()
    reader.open()
    writer.open()
    assert read_all(reader) == []
    timer = threading.Timer(0.05, append, (writer, b"late"))
    timer.start()
    found: list[TopicMessage] = []

    def has_come() -> bool:
        found.extend(reader.read(0, 10, WAIT_S).messages)
        return bool(found)

    wait_until(has_come)
    timer.join()
    assert [each.value for each in found] == [b"late"]


@pytest.mark.parametrize("offset", [1, 1_000])
def test_an_offset_behind_the_end_is_refused_with_the_span(make_topic: MakeTopic, offset: int) -> None:
    """Both are named, so that an operator sees that messages were lost."""
    topic = make_topic()
    topic.open()
    with pytest.raises(TopicRefused, match=rf"{offset}.* 0 to 0"):
        topic.read(offset, 10, WAIT_S)


def test_the_largest_message_is_taken(make_topic: MakeTopic) -> None:
    """So many bytes, and none of them changed."""
    topic = make_topic()
    topic.open()
    value = bytes(range(256)) * (MESSAGE_BYTES_MAX // 256) + b"end"
    append(topic, value)
    assert [each.value for each in read_all(topic)] == [value]


def test_what_is_not_open_takes_nothing(make_topic: MakeTopic) -> None:
    """Before the identity was compared nothing can be appended or read."""
    topic = make_topic()
    with pytest.raises(TopicUnavailable):
        topic.append(b"early", lambda _: None)
    with pytest.raises(TopicUnavailable):
        topic.read(0, 1, WAIT_S)
    topic.open()
    assert topic.span() == (0, 0)
