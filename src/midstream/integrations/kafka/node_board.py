"""Node board in Kafka: a topic of one partition, compacted by node, in which the newest message of a node counts.

Messages older than a day go, so a node that was taken out of service for good is forgotten by itself.

Reference: https://kafka.apache.org/documentation/#compaction
"""

import time
from collections.abc import Mapping
from typing import Any

from midstream.engine.replication.shared_topic import TopicUnavailable
from midstream.integrations.kafka.client_options import KafkaClientOptions, librdkafka_settings
from midstream.integrations.kafka.library import (
    confluent_kafka,
    confluent_kafka_admin,
    error_text,
    kafka_admin,
    kafka_consumer,
    kafka_producer,
)

SUFFIX = "-nodes"
"""Behind the name of the log's topic."""
WAIT_S_MAX = 5.0
"""Of one write or read: a heartbeat's interval."""
_POLL_S = 0.2
_BATCH = 500
_CONFIG = {
    "cleanup.policy": "compact,delete",
    "retention.ms": "86400000",
    "segment.ms": "600000",
    "min.cleanable.dirty.ratio": "0.1",
}


class KafkaNodeBoard:
    """A ``NodeBoard``."""

    def __init__(
        self, options: KafkaClientOptions, log_topic: str, environ: Mapping[str, str], replicas: int = -1
    ) -> None:
        """Prepare clients; the broker is asked at the first write or read.

        Args:
            options: Of the connection.
            log_topic: Name of the topic of the log.
            environ: Has the passwords that the options name.
            replicas: Of the topic where it has to be created; -1 = as the broker has it.

        Raises:
            ExtraMissing: ``confluent-kafka`` is not installed.
            SecretMissing: A variable of the environment is not set.
        """
        self._library, self._admin_library = confluent_kafka(), confluent_kafka_admin()
        self._settings = librdkafka_settings(options, environ)
        self._topic = f"{log_topic}{SUFFIX}"
        self._replicas = replicas
        self._producer: Any = None
        self._consumer: Any = None
        self._is_there = False
        self._found: dict[str, bytes] = {}
        self._next = 0
        """Offset of the next message."""

    def write(self, node: str, message: bytes) -> None:
        """Append a message under the node's name."""
        failures: list[object] = []

        def delivered(error: object, _message: object) -> None:
            if error is not None:
                failures.append(error)

        try:
            self._require_topic()
            if self._producer is None:
                timeout = {"message.timeout.ms": int(WAIT_S_MAX * 1_000), "acks": "all"}
                self._producer = kafka_producer({**self._settings, **timeout})
            self._producer.produce(self._topic, message, node, partition=0, on_delivery=delivered)
            left = self._producer.flush(WAIT_S_MAX)
        except (self._library.KafkaException, BufferError, TimeoutError) as error:
            raise self._unavailable(error) from error
        if failures or left:
            raise self._unavailable(failures[0] if failures else "it does not confirm in time")

    def read(self) -> Mapping[str, bytes]:
        """Return the newest message of each node, after reading to the end that the topic has now."""
        try:
            self._require_topic()
            self._read_on()
        except (self._library.KafkaException, TimeoutError) as error:
            raise self._unavailable(error) from error
        return self._found

    def close(self) -> None:
        """Leave the broker."""
        if self._consumer is not None:
            self._consumer.close()
        self._consumer = self._producer = None

    def _read_on(self) -> None:
        library = self._library
        partition = library.TopicPartition(self._topic, 0, library.OFFSET_BEGINNING)
        if self._consumer is None:
            own = {"group.id": self._topic, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
            self._consumer = kafka_consumer({**self._settings, **own})
            self._consumer.assign([partition])
        first, end = self._consumer.get_watermark_offsets(partition, timeout=WAIT_S_MAX)
        until = time.monotonic() + WAIT_S_MAX
        # The newest message is never compacted away, so the end is reached; where all are too old there is none.
        while self._next < end and first < end:
            for message in self._consumer.consume(_BATCH, _POLL_S):
                if message.error() is not None:
                    raise library.KafkaException(message.error())
                self._next = message.offset() + 1
                self._found[bytes(message.key() or b"").decode("utf-8", "replace")] = bytes(message.value() or b"")
            if time.monotonic() > until:
                raise self._unavailable("its end was not reached in time")

    def _require_topic(self) -> None:
        """Create the topic unless it is there."""
        if self._is_there:
            return
        library = self._library
        operator = kafka_admin(self._settings)
        if self._topic not in operator.list_topics(timeout=WAIT_S_MAX).topics:
            topic = self._admin_library.NewTopic(self._topic, 1, self._replicas, config=dict(_CONFIG))
            asked = operator.create_topics([topic], request_timeout=WAIT_S_MAX)
            try:
                asked[self._topic].result(WAIT_S_MAX)
            except library.KafkaException as error:
                if error.args[0].code() != library.KafkaError.TOPIC_ALREADY_EXISTS:  # another node was first
                    raise
        self._is_there = True

    def _unavailable(self, error: object) -> TopicUnavailable:
        return TopicUnavailable(f"{self._topic} at {self._settings['bootstrap.servers']}: {error_text(error)}")
