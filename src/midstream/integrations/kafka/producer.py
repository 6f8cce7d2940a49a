"""Kafka producer of an output: records and the position after them in one transaction, by ``confluent-kafka``.

The position lies in a compacted topic beside the records', ``<topic>-positions``, under the name of log and output: the
offsets of a group would expire. It is written in the transaction of the records, so a reader with
``isolation.level = read_committed`` finds each record once after any kill. The transactional id is of log and output:
whoever begins under it fences the one before, and what that left open is aborted.

Reference: https://cwiki.apache.org/confluence/display/KAFKA/KIP-98, transactional ids and fencing.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from midstream.engine.outbox.log_destination import DeliveredPosition, DestinationFenced, DestinationUnavailable
from midstream.engine.outbox.output_records import OutputRecord
from midstream.integrations.kafka.client_options import KafkaClientOptions, SecretMissing, Setting, librdkafka_settings
from midstream.integrations.kafka.library import (
    confluent_kafka,
    confluent_kafka_admin,
    kafka_admin,
    kafka_consumer,
    kafka_producer,
)

WAIT_S_MAX = 20.0
"""Of one request: less than a relay waits for a call."""
TRANSACTION_MS_MAX = 30_000
"""After which the broker aborts a transaction whose producer is gone: so long do its records hold back readers."""
TAIL_MAX = 2_000
"""Newest positions that are read first: mostly the one that is looked for is among them."""
POSITIONS = "-positions"
_FIXED: Mapping[str, Setting] = {
    "enable.idempotence": True,
    "transaction.timeout.ms": TRANSACTION_MS_MAX,
    "message.timeout.ms": TRANSACTION_MS_MAX - 5_000,
}
_DEFAULTS: Mapping[str, Setting] = {"linger.ms": 5, "compression.type": "lz4", "partitioner": "murmur2_random"}
_CLIENT: Mapping[str, Setting] = {"reconnect.backoff.max.ms": 1_000}
"""Of every client: a broker that is back is found within a second."""
_COMPACTED = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 << 20),
    "segment.ms": "3600000",
    "min.cleanable.dirty.ratio": "0.1",
}
"""A position of 100 bytes a transaction, 100 of them a second: 36 MB an hour, of which one is kept."""


class KafkaOutputProducer:
    """A ``RecordProducer`` of one topic of Kafka."""

    def __init__(
        self, client: KafkaClientOptions, topic: str, key: str, environ: Mapping[str, str], *, log_topic_id: str = ""
    ) -> None:
        """Prepare a producer; the broker is asked for nothing yet.

        Args:
            client: Of the connection.
            topic: Of the records; it must exist.
            key: Of log and output: names the position, and the process that may deliver.
            environ: Variables with passwords.
            log_topic_id: Cluster and id of the topic of the shared log, which no output may write to; empty = the log
                is in none.

        Raises:
            ExtraMissing: ``confluent-kafka`` is not installed.
            DestinationUnavailable: A variable is not set.
        """
        self._library, self._admin_library = confluent_kafka(), confluent_kafka_admin()
        self._topic, self._positions, self._key = topic, f"{topic}{POSITIONS}", key
        try:
            self._settings = {**_CLIENT, **librdkafka_settings(client, environ)}
        except SecretMissing as error:
            raise DestinationUnavailable(str(error)) from error
        self._servers = client.servers
        self._log_topic_id = log_topic_id
        self._producer: Any = None

    def resume(self) -> str | None:
        """Fence whoever delivered before, and return the position that is stored."""
        self._drop()
        try:
            admin = kafka_admin(self._settings)
            self._require_topics(admin)
            own = {**_DEFAULTS, **self._settings, **_FIXED, "transactional.id": f"midstream-{self._key}"}
            producer = kafka_producer(own)
            producer.init_transactions(WAIT_S_MAX)
            self._producer = producer
            return self._stored(admin)
        except self._library.KafkaException as error:
            self._drop()
            raise self._unavailable(error) from error

    def deliver(self, records: Sequence[OutputRecord], upto: DeliveredPosition) -> None:
        """Store records and position in one transaction."""
        if self._producer is None:
            message = f"Kafka at {self._servers}: the transaction before failed"
            raise DestinationUnavailable(message)
        is_done = False
        try:
            self._producer.begin_transaction()
            for each in records:
                headers = [(name, value.encode()) for name, value in each.headers]
                self._produce(self._topic, each.key or None, each.value, headers)
            self._produce(self._positions, self._key, upto.text.encode(), [])
            self._producer.commit_transaction(WAIT_S_MAX)
            is_done = True
        except (self._library.KafkaException, BufferError) as error:
            raise self._unavailable(error) from error
        finally:
            if not is_done:  # what became of it is asked by the next one of the same transactional id
                self._drop()

    def close(self) -> None:
        """Release connections and threads."""
        self._drop()

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()

    def _produce(self, topic: str, key: str | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        """Queue one record; while the queue is full let it be sent."""
        until = time.monotonic() + WAIT_S_MAX
        while True:
            try:
                self._producer.produce(topic, value=value, key=key, headers=headers)
            except BufferError:
                if time.monotonic() > until:
                    raise
                self._producer.poll(0.05)
            else:
                self._producer.poll(0)
                return

    def _require_topics(self, admin: Any) -> None:  # noqa: ANN401  of the library
        """Require the topic of the records, and make that of the positions where there is none.

        Raises:
            DestinationUnavailable: There is no topic for the records, or it is that of the shared log.
        """
        cluster = admin.list_topics(timeout=WAIT_S_MAX)
        found = cluster.topics
        if self._topic not in found:
            message = (
                f"Kafka at {self._servers} has no topic {self._topic!r}; make it with the partitions it is to have"
            )
            raise DestinationUnavailable(message)
        if self._log_topic_id:
            self._require_other_topic(admin, str(cluster.cluster_id))
        if self._positions in found:
            return
        fresh = self._admin_library.NewTopic(self._positions, 1, -1, config=_COMPACTED)
        try:
            admin.create_topics([fresh], operation_timeout=WAIT_S_MAX)[self._positions].result(WAIT_S_MAX)
        except self._library.KafkaException as error:
            if error.args[0].code() != self._library.KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    def _require_other_topic(self, admin: Any, cluster_id: str) -> None:  # noqa: ANN401  of the library
        """Refuse the topic of the shared log, under whichever name of the cluster: all nodes read what is there.

        Raises:
            DestinationUnavailable: It is that.
        """
        wanted = self._library.TopicCollection([self._topic])
        asked = admin.describe_topics(wanted, request_timeout=WAIT_S_MAX)[self._topic].result(WAIT_S_MAX)
        if f"{cluster_id}/{asked.topic_id}" == self._log_topic_id:
            text = f"it is the topic of the shared log ({self._log_topic_id}), nothing is written there; name another"
            raise self._unavailable(text)

    def _stored(self, admin: Any) -> str | None:  # noqa: ANN401  of the library
        """Return the newest committed position of this log and output."""
        place = self._library.TopicPartition(self._positions, 0)
        end = self._offset(admin, place, self._admin_library.OffsetSpec.latest())
        begin = self._offset(admin, place, self._admin_library.OffsetSpec.earliest())
        for start in sorted({max(begin, end - TAIL_MAX), begin}, reverse=True):
            found = self._newest(start, end)
            if found is not None:
                return found
        return None

    def _offset(self, admin: Any, place: Any, spec: Any) -> int:  # noqa: ANN401  of the library
        """Return an offset of a partition, also behind transactions that are open."""
        level = self._library.IsolationLevel.READ_UNCOMMITTED
        asked = admin.list_offsets({place: spec}, isolation_level=level, request_timeout=WAIT_S_MAX)
        return int(asked[place].result(WAIT_S_MAX).offset)

    def _newest(self, start: int, end: int) -> str | None:
        """Return the newest position from an offset on, None = none.

        It is read up to ``end``: a transaction of another output that is open holds back what was committed behind it.

        Raises:
            DestinationUnavailable: Such a transaction did not end in time.
        """
        own: dict[str, Setting] = {
            "group.id": "midstream-positions",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
        }
        consumer = kafka_consumer({**self._settings, **own})
        try:
            consumer.assign([self._library.TopicPartition(self._positions, 0, start)])
            found, until, at = None, time.monotonic() + WAIT_S_MAX, start
            while at < end:
                message = consumer.poll(0.2)
                if message is not None and message.error() is None:
                    at = message.offset() + 1
                    if message.key() == self._key.encode() and message.value() is not None:
                        found = message.value().decode()
                elif message is not None and message.error().code() == self._library.KafkaError._PARTITION_EOF:  # noqa: SLF001  its name
                    at = max(at, message.offset())
                elif message is not None:
                    raise self._unavailable(message.error())
                if time.monotonic() > until:
                    text = f"positions up to offset {end} cannot be read yet, an open transaction stands at {at}"
                    raise self._unavailable(text)
            return found
        finally:
            consumer.close()

    def _unavailable(self, error: Any) -> DestinationUnavailable:  # noqa: ANN401  an error of the library, or a text
        message = f"Kafka at {self._servers}, topic {self._topic!r}: {error}"
        cause: Any = error.args[0] if isinstance(error, self._library.KafkaException) else error
        kinds = self._library.KafkaError
        fenced = {kinds._FENCED, kinds.PRODUCER_FENCED, kinds.INVALID_PRODUCER_EPOCH}  # noqa: SLF001  its name
        if isinstance(cause, kinds) and cause.code() in fenced:
            return DestinationFenced(f"{message}: another process delivers under the same name")
        return DestinationUnavailable(message)
