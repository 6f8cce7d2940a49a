"""Both clients of Kafka read transactions, compacted topics and cut logs, and each goes on where the other ended."""

import itertools
import socket
import threading
import time
from collections.abc import Mapping

import pytest

from midstream.engine.inputs.broker_consumer import BrokerConsumer, BrokerUnavailable
from midstream.integrations.kafka import python_consumer
from midstream.integrations.kafka.client_options import KafkaClientOptions
from midstream.integrations.kafka.consumer import KafkaConsumer, KafkaTopicOptions
from midstream.integrations.kafka.python_consumer import PythonKafkaConsumer
from tests.contract.test_broker_consumer import Reading, consuming, named, numbered
from tests.support.libraries import library
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.services.server import Server
from tests.support.topics.on_kafka import KafkaTopic, MakeConsumer

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
CONSUMERS: Mapping[str, MakeConsumer] = {"confluent-kafka": KafkaConsumer, "kafka-python": PythonKafkaConsumer}
_numbers = itertools.count()


@pytest.fixture(params=CONSUMERS)
def client(request: pytest.FixtureRequest) -> str:
    """Name of a client library that is installed."""
    library("kafka")
    library("confluent_kafka")
    name: str = request.param
    return name


def topic_on(server: Server, client: str, partitions: int = 1, **config: str) -> KafkaTopic:
    """Return a new topic that a client reads."""
    return KafkaTopic(server, f"{client}-{next(_numbers)}", partitions, CONSUMERS[client], **config)


def test_the_end_of_a_transaction_is_passed(kafka: Server, client: str) -> None:
    """What was aborted is not read, and reading catches up though the last offsets hold no message.

    So a position is never before what retention removes behind it, and lag is 0 at the end.
    """
    topic = topic_on(kafka, client)
    producer = topic.producer(**{"transactional.id": topic.name})
    producer.init_transactions(PATIENCE_S)
    for value, is_kept in ((b"a", True), (b"aborted", False), (b"b", True), (b"aborted too", False)):
        producer.begin_transaction()
        producer.produce(topic.name, value)
        assert producer.flush(PATIENCE_S) == 0
        (producer.commit_transaction if is_kept else producer.abort_transaction)(PATIENCE_S)
    with consuming(topic) as consumer:
        reading = Reading(consumer).to(2)
        wait_until(lambda: reading.poll() or reading.next["0"].partition("@")[0] == "8")
        wait_until(lambda: reading.poll() or consumer.lag() == {"0": 0})
        assert reading.values == {"0": named("a", "b")}
        assert reading.positions == {"0": ["0", "4"]}
        topic.cut(0)
        assert Reading(consumer, reading.opened.topic_id, reading.next).to(0).opened.gone == ()


def test_messages_come_while_no_coordinator_of_the_group_is_known(
    kafka: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is for displays alone. kafka-python's polls of a client with a group return nothing until it is found."""
    base, future = library("kafka.coordinator.base"), library("kafka.future")
    monkeypatch.setattr(base.BaseCoordinator, "lookup_coordinator", lambda _: future.Future())
    topic = topic_on(kafka, "kafka-python")
    topic.send(0, numbered(5))
    with consuming(topic) as consumer:
        reading = Reading(consumer).to(5)
        consumer.show(reading.next)
        topic.send(0, numbered(1))
        reading.to(6)


@pytest.mark.long
def test_each_client_goes_on_where_the_other_ended(kafka: Server, client: str) -> None:
    """The identity of the topic and the positions are the same texts."""
    topic = topic_on(kafka, client, partitions=2)
    for part in (0, 1):
        topic.send(part, numbered(5))
    other = next(make for name, make in CONSUMERS.items() if name != client)(topic.options(), {})
    with consuming(topic) as consumer:
        whole = Reading(consumer).to(10)
        reading = Reading(consumer)
        while reading.count < 3:
            reading.poll(1)
    rest = Reading(other, reading.opened.topic_id, reading.next).to(10 - reading.count)
    other.close()
    assert rest.opened.topic_id == reading.opened.topic_id
    for number in ("0", "1"):
        positions = [*reading.positions.get(number, []), *rest.positions.get(number, [])]
        assert positions == whole.positions[number]
    assert rest.next == whole.next


def test_a_log_that_was_cut_back_is_not_read_on_in_silence(kafka: Server) -> None:
    """After a broker lost its newest messages, and got others at their offsets, the position is told as gone.

    By librdkafka, while it reads: it looks when the leader's epoch changes, not when it is assigned.
    """
    topic = topic_on(kafka, "confluent-kafka")
    topic.send(0, numbered(5))
    size = kept_bytes(kafka, topic)
    topic.send(0, numbered(5, "lost"))
    with consuming(topic) as consumer:
        reading = Reading(consumer).to(10)
        kafka.kill()
        lose(kafka, topic, size)
        kafka.up()
        topic.send(0, numbered(10, "other"))
        wait_until(lambda: "runcat" in failure_of(consumer))
        again = Reading(consumer, reading.opened.topic_id, reading.next).to(0)
        assert [(each.stored, each.first, each.end) for each in again.opened.gone] == [(reading.next["0"], "0", "15")]
        assert Reading(consumer, reading.opened.topic_id, {"0": "5"}).to(10).values == {"0": numbered(10, "other")}


def failure_of(consumer: BrokerConsumer) -> str:
    """Return how a poll failed, empty where it did not."""
    try:
        assert not consumer.poll(100, 0.1)
    except BrokerUnavailable as error:
        return str(error)
    return ""


def kept_bytes(server: Server, topic: KafkaTopic) -> int:
    """Return the size of the log of a partition."""
    return next((server.folder / "data" / f"{topic.name}-0").glob("*.log")).stat().st_size


def lose(server: Server, topic: KafkaTopic, size: int) -> None:
    """Cut the log of a partition of a broker that is down, as an unclean choice of a leader does."""
    folder = server.folder / "data" / f"{topic.name}-0"
    with next(folder.glob("*.log")).open("r+b") as log:
        log.truncate(size)
    for each in (*folder.glob("*.index"), *folder.glob("*.timeindex"), *folder.glob("*.snapshot")):
        each.unlink()


@pytest.mark.long
def test_what_compaction_removed_is_passed(kafka: Server, client: str) -> None:
    """Offsets have gaps then, in the middle and at the end; all that is there is read."""
    config = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.ms": "200"}
    topic = topic_on(kafka, client, 1, **config)
    producer = topic.producer()
    for number in range(40):
        producer.produce(topic.name, f"{number}".encode(), f"key {number % 3}".encode())
        assert producer.flush(PATIENCE_S) == 0
        time.sleep(0.03)

    def read() -> Reading:
        with consuming(topic) as consumer:
            reading = Reading(consumer)
            while reading.next["0"].partition("@")[0] != "40":
                reading.poll()
            return reading

    wait_until(lambda: read().count < 40)
    reading = read()
    values, positions = reading.values["0"], reading.positions["0"]
    assert values == [position.encode() for position in positions]
    assert positions[-1] == "39"


def test_a_client_that_cannot_connect_leaves_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try fails in time, and what the library began for it ends."""
    library("kafka")
    monkeypatch.setattr(python_consumer, "REQUEST_MS_MAX", 1_000)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    options = KafkaTopicOptions(KafkaClientOptions(f"127.0.0.1:{port}"), "topic", "group")
    before = threading.active_count()
    consumer = PythonKafkaConsumer(options, {})
    for _ in range(2):
        with pytest.raises(BrokerUnavailable, match=str(port)):
            consumer.open("", {})
    consumer.close()
    wait_until(lambda: threading.active_count() <= before)
