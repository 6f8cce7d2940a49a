"""Outputs to a real Kafka: each record once for readers of committed records, whatever is killed, and in log order."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest

from midstream.core.types import LogPosition, TimestampMs
from midstream.engine.outbox.log_destination import DeliveredPosition, DestinationUnavailable
from midstream.engine.outbox.output_destination import OutputDestination
from midstream.engine.outbox.output_records import RecordOptions
from midstream.integrations.kafka.client_options import KafkaClientOptions
from midstream.integrations.kafka.producer import KafkaOutputProducer
from midstream.testing.log_conformance import sample_batch
from tests.support.destinations import check_destination
from tests.support.libraries import library

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
WAIT_S = 120
LOG = "f" * 32


def make_topic(address: str, name: str, partitions: int = 1) -> None:
    """Make a topic, as whoever runs the broker does."""
    admin = library("confluent_kafka.admin")
    operator = admin.AdminClient({"bootstrap.servers": address})
    operator.create_topics([admin.NewTopic(name, partitions, 1)], operation_timeout=WAIT_S)[name].result(WAIT_S)


def committed(address: str, topic: str) -> list[Any]:
    """Return all committed records of a topic of one partition, in its order."""
    confluent = library("confluent_kafka")
    consumer = confluent.Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    consumer.assign([confluent.TopicPartition(topic, 0, 0)])
    found: list[Any] = []
    while True:
        message = consumer.poll(WAIT_S)
        assert message is not None, f"no end of {topic} within {WAIT_S} s"
        if message.error() is not None:
            assert message.error().code() == confluent.KafkaError._PARTITION_EOF
            consumer.close()
            return found
        found.append(message)


def header(message: Any, name: str) -> str:
    """Return a header of a record."""
    found: bytes = dict(message.headers())[name]
    return found.decode()


def destination(address: str, topic: str, name: str = "shop") -> OutputDestination:
    """Return a destination of all events."""
    producer = KafkaOutputProducer(KafkaClientOptions(address), topic, f"{LOG}-{name}", os.environ)
    return OutputDestination(name, RecordOptions("events", LOG), producer, _nothing, _nothing)


def _nothing() -> Any:
    raise AssertionError


def test_a_topic_keeps_the_promises_of_a_destination(kafka):
    """Position and records are there together, a process that was replaced is fenced, an operator may move it back."""
    address = kafka.address
    make_topic(address, "out-promises")

    async def found() -> list[int]:
        return [int(header(each, "log_position")) for each in committed(address, "out-promises")]

    asyncio.run(check_destination(lambda: destination(address, "out-promises"), found))


def test_a_topic_that_is_not_there_is_named(kafka):
    """No topic is made with settings that nobody chose."""
    with pytest.raises(DestinationUnavailable, match="has no topic 'out-nowhere'"):
        asyncio.run(destination(kafka.address, "out-nowhere").resume())


def test_an_open_transaction_of_another_output_hides_no_position(kafka):
    """What was committed behind it is waited for: a position that is passed by would have records come twice."""
    address = kafka.address
    make_topic(address, "out-open")
    confluent = library("confluent_kafka")
    other = confluent.Producer({"bootstrap.servers": address, "transactional.id": "other"})

    async def work(then: Callable[[], None]) -> DeliveredPosition | None:
        first = destination(address, "out-open")
        assert await first.resume() is None
        other.init_transactions(WAIT_S)
        other.begin_transaction()
        other.produce("out-open-positions", b"x", b"other")
        other.flush(WAIT_S)
        upto = DeliveredPosition(LOG, LogPosition(2), TimestampMs(10))
        await first.deliver(LogPosition(0), sample_batch(0, 2, 10), upto)
        await first.close()
        second = destination(address, "out-open")
        asking = asyncio.ensure_future(second.resume())
        await asyncio.sleep(1)
        assert not asking.done()
        then()
        found = await asking
        await second.close()
        return found

    found = asyncio.run(work(lambda: other.commit_transaction(WAIT_S)))
    assert found is not None
    assert found.log_position == 2


def test_the_topic_of_the_shared_log_is_refused_by_its_id(kafka):
    """Under whichever name of the cluster: what an output writes there all nodes would read."""
    make_topic(kafka.address, "out-log")
    make_topic(kafka.address, "out-other")
    client = KafkaClientOptions(f"localhost:{kafka.address.partition(':')[2]}")
    admin = library("confluent_kafka.admin").AdminClient({"bootstrap.servers": kafka.address})
    names = library("confluent_kafka").TopicCollection(["out-log"])
    topic_id = admin.describe_topics(names)["out-log"].result(WAIT_S).topic_id
    identity = f"{admin.list_topics(timeout=WAIT_S).cluster_id}/{topic_id}"
    refused = KafkaOutputProducer(client, "out-log", f"{LOG}-shop", os.environ, log_topic_id=identity)
    with pytest.raises(DestinationUnavailable, match=rf"topic of the shared log \({identity}\)"):
        refused.resume()
    taken = KafkaOutputProducer(client, "out-other", f"{LOG}-shop", os.environ, log_topic_id=identity)
    assert taken.resume() is None
    taken.close()
    refused.close()
