"""The end of a topic in Kafka is known while messages come, and again after an outage (broker of librdkafka's own)."""

import logging
import time
from collections.abc import Generator
from typing import Any

import pytest

from midstream.engine.replication.shared_topic import TopicRead, TopicUnavailable
from midstream.integrations.kafka import shared_topic
from midstream.integrations.kafka.client_options import KafkaClientOptions
from midstream.integrations.kafka.library import confluent_kafka
from midstream.integrations.kafka.shared_topic import KafkaSharedTopic, SharedTopicOptions

TURNS_MAX = 600


class Broker:
    """A broker inside the client library, with a topic of three messages, and a node's connection to it."""

    def __init__(self) -> None:
        """Start it."""
        settings = {"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "logger": logging.getLogger("mock")}
        self.producer: Any = confluent_kafka().Producer(settings)
        brokers = self.producer.list_topics(timeout=10).brokers.values()
        servers = ",".join(f"{each.host}:{each.port}" for each in brokers)
        self.append(3)
        self.topic = KafkaSharedTopic(SharedTopicOptions(KafkaClientOptions(servers=servers), "shop-log"), {})
        self.topic._begin()

    def append(self, count: int) -> None:
        """Append messages, and return when they are there."""
        for _ in range(count):
            self.producer.produce("shop-log", b"message", partition=0)
        assert self.producer.flush(10) == 0

    def read_behind(self, offset: int, wanted: int) -> tuple[int, TopicRead]:
        """Return the offset behind ``wanted`` messages, and the read that brought the last of them."""
        for _ in range(TURNS_MAX):
            read = self.topic.read(offset, 1_000, 0.1)
            if read.messages:
                offset, wanted = read.messages[-1].offset + 1, wanted - len(read.messages)
            if wanted <= 0:
                return offset, read
        raise AssertionError(wanted)


@pytest.fixture
def broker() -> Generator[Broker]:
    """Return a broker that runs."""
    found = Broker()
    try:
        yield found
    finally:
        found.topic.close()


def test_the_read_of_the_last_message_says_that_it_is_the_last(broker: Broker) -> None:
    """The library tells the end by itself only where a fetch comes back empty, which a busy topic never does."""
    offset, read = broker.read_behind(0, 3)
    assert read.is_end
    broker.append(2)
    assert broker.read_behind(offset, 2)[1].is_end
    read = broker.topic.read(0, 1, 10.0)
    assert len(read.messages) == 1
    assert not read.is_end


def test_an_idle_topic_is_at_its_end_again_after_an_outage(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library told its end once, before the outage: the probe that succeeds tells it again."""
    monkeypatch.setattr(shared_topic, "PROBE_S", 0.05)
    offset, _ = broker.read_behind(0, 3)
    with monkeypatch.context() as outage:

        def no_answer(_: float) -> tuple[int, int]:
            message = "the broker does not answer"
            raise TopicUnavailable(message)

        outage.setattr(broker.topic, "_span", no_answer)
        time.sleep(0.1)
        for _ in range(3):
            with pytest.raises(TopicUnavailable):
                broker.read_behind(offset, 1)
    assert any(broker.topic.read(offset, 1_000, 0.1).is_end for _ in range(20))
    broker.append(1)
    assert broker.read_behind(offset, 1)[1].is_end
