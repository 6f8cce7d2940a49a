"""Every consumer of a broker's topic keeps the same promises: the one in memory here, the others on real brokers."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import pytest

from midstream.engine.inputs.broker_consumer import BrokerConsumer, BrokerUnavailable, OpenedTopic
from midstream.integrations.kafka.consumer import KafkaConsumer
from midstream.integrations.kafka.python_consumer import PythonKafkaConsumer
from tests.support.libraries import library
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.topics.in_memory import MemoryTopic
from tests.support.topics.on_kafka import KafkaTopic
from tests.support.topics.on_pulsar import PulsarTopic
from tests.support.topics.topic import Topic

WAIT_S = 0.1
MESSAGES_MAX = 100
BIG = 3_000_000
MakeTopic = Callable[[int], Topic]
_numbers = itertools.count()
_real = (pytest.mark.integration, pytest.mark.service, pytest.mark.slow)


def _name(request: pytest.FixtureRequest) -> str:
    way = request.node.name.partition("[")
    return f"{way[0].removeprefix('test_')[:60]}-{way[2].rstrip(']')}-{next(_numbers)}"


@pytest.fixture(
    params=[
        "memory",
        pytest.param("confluent-kafka", marks=_real),
        pytest.param("kafka-python", marks=_real),
        pytest.param("pulsar", marks=_real),
    ]
)
def make_topic(request: pytest.FixtureRequest) -> MakeTopic:
    """Return what makes a topic of so many partitions on a broker."""
    way = request.param
    if way == "memory":
        return MemoryTopic
    library({"pulsar": "pulsar", "kafka-python": "kafka", "confluent-kafka": "confluent_kafka"}[way])
    if way == "pulsar":
        return partial(PulsarTopic, request.getfixturevalue("pulsar"), _name(request))
    consumer = PythonKafkaConsumer if way == "kafka-python" else KafkaConsumer
    server = request.getfixturevalue("kafka")
    return lambda count: KafkaTopic(server, _name(request), count, consumer)


@contextmanager
def consuming(topic: Topic, start: str = "earliest") -> Iterator[BrokerConsumer]:
    """Have a consumer of a topic, which is closed behind the block."""
    consumer = topic.consumer(start)
    try:
        yield consumer
    finally:
        consumer.close()


class Reading:
    """What a consumer has returned since it was opened."""

    def __init__(
        self, consumer: BrokerConsumer, topic_id: str = "", positions: Mapping[str, str] | None = None
    ) -> None:
        """Open."""
        self.consumer = consumer
        self.opened: OpenedTopic = consumer.open(topic_id, positions or {})
        self.values: dict[str, list[bytes | None]] = {}
        self.positions: dict[str, list[str]] = {}
        self.next = dict(self.opened.next)
        self.headers: dict[str, list[Mapping[str, str]]] = {}

    def poll(self, messages_max: int = MESSAGES_MAX) -> int:
        """Poll once; return the number of messages."""
        polled = self.consumer.poll(messages_max, WAIT_S)
        assert len({each.partition for each in polled}) == len(polled)
        assert sum(map(len, polled)) <= messages_max
        for each in polled:
            assert len(each.positions) == len(each.values)
            self.values.setdefault(each.partition, []).extend(each.values)
            self.positions.setdefault(each.partition, []).extend(each.positions)
            headers = [each.headers.get(place, {}) for place in range(len(each))]
            self.headers.setdefault(each.partition, []).extend(headers)
            assert each.next != self.next[each.partition], "a position is returned only where it moved"
            self.next[each.partition] = each.next
        return sum(map(len, polled))

    def to(self, count: int) -> "Reading":
        """Poll until there were so many messages, and none more."""
        wait_until(lambda: self.poll() < 0 or self.count >= count)
        self.poll()
        assert self.count == count, self.values
        return self

    @property
    def count(self) -> int:
        """Number of messages."""
        return sum(map(len, self.values.values()))


def named(*names: str) -> list[bytes]:
    """Return the contents of messages."""
    return [each.encode() for each in names]


def numbered(count: int, prefix: str = "m") -> list[bytes]:
    """Return the contents of many messages."""
    return [f"{prefix}{number}".encode() for number in range(count)]


def test_all_partitions_are_read_from_their_beginning_in_their_order(make_topic: MakeTopic) -> None:
    """Each message has a position of its own, the same in every reading."""
    topic = make_topic(2)
    for part in (0, 1):
        topic.send(part, numbered(30, f"{part}-"))
    with consuming(topic) as first, consuming(topic) as second:
        one, two = Reading(first).to(60), Reading(second).to(60)
    assert one.values == {str(part): numbered(30, f"{part}-") for part in (0, 1)}
    assert one.positions == two.positions
    assert all(len(set(each)) == 30 for each in one.positions.values())
    assert one.opened.topic_id == two.opened.topic_id != ""
    assert set(one.opened.next) == {"0", "1"}


def test_reading_goes_on_behind_any_message(make_topic: MakeTopic) -> None:
    """Also behind one in the middle of a batch."""
    topic = make_topic(1)
    topic.send(0, numbered(4))
    topic.send(0, numbered(3, "n"))
    whole = [*numbered(4), *numbered(3, "n")]
    with consuming(topic) as consumer:
        reading = Reading(consumer)
        places = [reading.next["0"]]
        while reading.count < len(whole):
            if reading.poll(1):
                places.append(reading.next["0"])
        for behind, place in enumerate(places):
            again = Reading(consumer, reading.opened.topic_id, {"0": place}).to(len(whole) - behind)
            assert again.values.get("0", []) == whole[behind:]
            assert again.positions.get("0", []) == reading.positions["0"][behind:]


def test_latest_and_a_time_are_where_reading_begins_without_positions(make_topic: MakeTopic) -> None:
    """The place is told at once: what comes between two openings at it is not missed."""
    topic = make_topic(1)
    topic.send(0, named("a", "b"))
    between_ms = topic.now_ms()
    topic.send(0, named("c"))
    for start, expected in (("latest", []), (str(between_ms), named("c")), (str(topic.now_ms() + 60_000), [])):
        with consuming(topic, start) as consumer:
            opened = consumer.open("", {})
            count = int(len(expected) > 0)
            assert Reading(consumer, opened.topic_id, opened.next).to(count).values.get("0", []) == expected
    with consuming(topic, "latest") as consumer:
        opened = consumer.open("", {})
    topic.send(0, named("d"))
    with consuming(topic, "latest") as consumer:
        assert Reading(consumer, opened.topic_id, opened.next).to(1).values == {"0": named("d")}


def test_a_partition_that_was_added_begins_at_its_beginning(make_topic: MakeTopic) -> None:
    """Whatever the start is; that there is one is seen by a question, and the topic is still the same."""
    topic = make_topic(1)
    topic.send(0, named("a"))
    with consuming(topic, "latest") as consumer:
        opened = consumer.open("", {})
        assert not consumer.is_outdated()
        topic.grow(3)
        topic.send(2, named("b"))
        wait_until(consumer.is_outdated)
        reading = Reading(consumer, opened.topic_id, opened.next).to(1)
        assert reading.values == {"2": named("b")}
        assert set(reading.opened.next) == {"0", "1", "2"}
        assert reading.opened.topic_id == opened.topic_id
        assert not consumer.is_outdated()


def test_a_position_that_retention_has_cut_is_told_and_not_read(make_topic: MakeTopic) -> None:
    """With what was stored and what there is; the other partitions are read, and that one from where it is told."""
    topic = make_topic(2)
    for part in (0, 1):
        topic.send(part, numbered(5))
    with consuming(topic) as consumer:
        reading = Reading(consumer)
        while len(reading.values.get("0", [])) < 1:
            reading.poll(2)
        stored = reading.next
    read = len(reading.values["0"])
    assert read < 5
    topic.cut(0)
    topic.send(0, numbered(4, "later"))
    topic.send(1, named("more"))
    with consuming(topic) as consumer:
        rest = 6 - len(reading.values.get("1", []))
        again = Reading(consumer, reading.opened.topic_id, stored).to(rest)
        assert again.values["1"][-1] == b"more"
        (gone,) = again.opened.gone
        assert (gone.partition, gone.stored) == ("0", stored["0"])
        assert len({gone.stored, gone.first, gone.end}) == 3
        assert set(again.opened.next) == {"1"}
        begun = Reading(consumer, reading.opened.topic_id, {**again.next, "0": gone.first}).to(4)
        assert begun.values == {"0": numbered(4, "later")}
        assert Reading(consumer, reading.opened.topic_id, {**begun.next, "0": gone.end}).to(0).opened.gone == ()


def test_a_position_that_there_never_was_is_told(make_topic: MakeTopic) -> None:
    """One behind the end, and a text that is none: nothing is read in place of it."""
    topic = make_topic(1)
    topic.send(0, named("a"))
    with consuming(topic) as consumer:
        opened = consumer.open("", {})
        for text in ("1000000000000", "earliest", "", "7:7:7", "99999999:0:-1", "-1"):
            again = consumer.open(opened.topic_id, {"0": text})
            assert [(each.partition, each.stored) for each in again.gone] == [("0", text)]
            assert again.next == {}
        assert not consumer.poll(MESSAGES_MAX, WAIT_S)


def test_a_topic_that_is_made_again_has_another_identity(make_topic: MakeTopic) -> None:
    """Nothing of it is read at the old one's positions."""
    topic = make_topic(1)
    topic.send(0, numbered(3))
    with consuming(topic) as consumer:
        reading = Reading(consumer).to(3)
    topic.remake()
    topic.send(0, numbered(5, "again"))
    with consuming(topic) as consumer:
        again = Reading(consumer, reading.opened.topic_id, reading.next).to(0)
        assert again.opened.topic_id not in {"", reading.opened.topic_id}
        assert again.opened.next == {}
        assert Reading(consumer, "", {}).to(5).opened.topic_id == again.opened.topic_id


def test_a_message_has_its_headers_and_may_have_no_content(make_topic: MakeTopic) -> None:
    """Headers are those of their message alone; long ones are cut."""
    topic = make_topic(1)
    topic.send(0, [b"a", None])
    topic.send(0, named("b"), {"source": "till", "long": "x" * 5_000})
    topic.send(0, [None, b""], {"source": "shop"})
    with consuming(topic) as consumer:
        reading = Reading(consumer).to(5)
    assert reading.values["0"] == [b"a", None, b"b", None, b""]
    sources = [each.get("source") for each in reading.headers["0"]]
    assert sources == [None, None, "till", "shop", "shop"]
    assert reading.headers["0"][2]["long"].startswith("x" * 1_000)


def test_big_messages_come_whole(make_topic: MakeTopic) -> None:
    """Larger than what a client asks for at once, between small ones."""
    topic = make_topic(1)
    big = b"x" * BIG
    for value in (b"small", big, big + b"y", b"end"):
        topic.send(0, [value])
    with consuming(topic) as consumer:
        assert Reading(consumer).to(4).values["0"] == [b"small", big, big + b"y", b"end"]


def test_an_empty_topic_is_read_when_something_comes(make_topic: MakeTopic) -> None:
    """A poll of it ends in time, and its place holds across openings."""
    topic = make_topic(2)
    with consuming(topic) as consumer:
        reading = Reading(consumer)
        began = time.monotonic()
        assert reading.poll() == 0
        assert time.monotonic() - began < PATIENCE_S
        assert set(reading.next) == {"0", "1"}
        assert set(consumer.lag().values()) <= {0}
        topic.send(1, named("a"))
        assert reading.to(1).values == {"1": named("a")}
        again = Reading(consumer, reading.opened.topic_id, reading.opened.next).to(1)
        assert again.values == {"1": named("a")}


def test_lag_tells_what_is_behind_and_that_all_is_read(make_topic: MakeTopic) -> None:
    """By partition, without asking the broker."""
    topic = make_topic(2)
    with consuming(topic) as consumer:
        reading = Reading(consumer)
        topic.send(0, numbered(20))
        reading.to(20)
        wait_until(lambda: reading.poll() == 0 and consumer.lag() == {"0": 0, "1": 0})
        opened = Reading(consumer, reading.opened.topic_id, reading.opened.next)
        wait_until(lambda: opened.poll(1) and consumer.lag().get("0", 0) >= 0)


def test_a_look_knows_of_messages_that_no_poll_has_returned(make_topic: MakeTopic) -> None:
    """So a client that stands still is noticed: what it knows by itself is as old as what it returned."""
    topic = make_topic(2)
    with consuming(topic) as consumer:
        Reading(consumer)
        topic.send(1, numbered(5))
        assert not consumer.is_outdated()
        lag = consumer.lag()
        assert lag["1"] > 0
        assert lag.get("0", 0) == 0


def test_what_the_broker_shows_of_the_group_is_read_by_nobody(make_topic: MakeTopic) -> None:
    """It shows how far the events are durable; when it is set back nothing comes twice."""
    topic = make_topic(1)
    for number in range(4):
        topic.send(0, [f"m{number}".encode()])
    with consuming(topic) as consumer:
        reading = Reading(consumer).to(4)
        consumer.show(reading.next)
        wait_until(topic.shown)
        topic.rewind()
        consumer.poll(MESSAGES_MAX, WAIT_S)
    with consuming(topic) as consumer:
        assert Reading(consumer, reading.opened.topic_id, reading.next).to(0).opened.gone == ()


@pytest.mark.long
def test_a_broker_that_is_killed_is_an_error_until_it_is_back(make_topic: MakeTopic) -> None:
    """The same consumer goes on where it is told, without a message lost or twice."""
    topic = make_topic(1)
    topic.send(0, named("a"))
    with consuming(topic) as consumer:
        opened = consumer.open("", {})
        topic.down()
        with pytest.raises(BrokerUnavailable):
            poll_until_failure(consumer)
        with pytest.raises(BrokerUnavailable):
            consumer.open(opened.topic_id, opened.next)
        topic.up()
        open_again(consumer, opened)
        assert Reading(consumer, opened.topic_id, opened.next).to(1).values == {"0": named("a")}


def open_again(consumer: BrokerConsumer, opened: OpenedTopic) -> None:
    """Open a topic whose broker came back, as often as an input would: a broker that just started may not answer."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            consumer.open(opened.topic_id, opened.next)
        except BrokerUnavailable:
            if time.monotonic() >= until:
                raise
            time.sleep(WAIT_S)
        else:
            return


def poll_until_failure(consumer: BrokerConsumer) -> None:
    """Poll, and look whether there are other partitions, as an input does, until one fails."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        consumer.poll(MESSAGES_MAX, WAIT_S)
        consumer.is_outdated()
