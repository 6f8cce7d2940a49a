"""A topic whose leader was just chosen: a broker that does not know it yet is asked again, another failure is not."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from midstream.engine.replication.shared_topic import TopicUnavailable
from midstream.integrations.kafka.client_options import KafkaClientOptions
from midstream.integrations.kafka.shared_topic import KafkaSharedTopic, SharedTopicOptions


class Consumer:
    """Fails as often as it is told, then knows the span."""

    def __init__(self, code, failures):
        self.code = code
        self.failures = failures
        self.asked = 0

    def get_watermark_offsets(self, _partition, timeout):
        self.asked += 1
        if self.asked <= self.failures:
            raise KafkaException(KafkaError(self.code))
        return 0, 7


def topic_with(consumer):
    topic = KafkaSharedTopic(SharedTopicOptions(KafkaClientOptions(servers="localhost:1"), "shop"), {})
    topic._consumer = consumer
    return topic


@pytest.mark.parametrize(
    "code",
    [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART],
)
def test_a_leader_that_is_not_known_yet_is_waited_for(code):
    """A start that comes a moment after the topic was made goes on."""
    consumer = Consumer(code, failures=2)
    assert topic_with(consumer).span() == (0, 7)
    assert consumer.asked == 3


def test_another_failure_is_told_at_once():
    """What waiting does not mend is the caller's to know."""
    consumer = Consumer(KafkaError.TOPIC_AUTHORIZATION_FAILED, failures=1)
    with pytest.raises(TopicUnavailable):
        topic_with(consumer).span()
    assert consumer.asked == 1
