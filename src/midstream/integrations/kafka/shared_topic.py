"""Shared topic in Kafka: one partition, appended to by an idempotent producer with ``acks=all``, read by ``assign``.

The log time of all nodes is the broker's: the topic has ``message.timestamp.type=LogAppendTime``. A message that the
client retries is in the topic once (idempotence). One whose delivery report is an error may be there, and is never sent
again from here. The consumer has no group; an offset that the broker does not have is an error, never a jump.

``linger.ms=0`` and a fetch that returns with the first byte keep an append and its reading to one round trip each; what
is appended meanwhile shares the next request.

Reference: KIP-98 (idempotent producer), KIP-32 (timestamps of messages).
"""

import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from midstream.core.errors import Fault, MidstreamError
from midstream.engine.replication.shared_topic import (
    MESSAGE_BYTES_MAX,
    TopicFacts,
    TopicMessage,
    TopicRead,
    TopicRefused,
    TopicUnavailable,
    require_known,
)
from midstream.engine.replication.topic_position import PAGE
from midstream.integrations.kafka.client_options import KafkaClientOptions, Setting, librdkafka_settings
from midstream.integrations.kafka.library import (
    confluent_kafka,
    confluent_kafka_admin,
    error_text,
    kafka_admin,
    kafka_consumer,
    kafka_producer,
)

T = TypeVar("T")
REQUEST_S_MAX = 5.0
"""Of one request about the topic."""
PROBE_S_MAX = 2.0
"""Of the request whether the broker answers: it is made again and again in an outage, and a stop waits for it."""
PROBE_S = 1.0
"""Without a message for so long the broker is asked for the end of the topic: an idle topic and a broker that is gone
look alike otherwise."""
CONFIRM_MS_MAX = 30_000
"""Until a message that was not confirmed counts as uncertain: three times the wait of a caller, and longer than a
broker takes to be replaced by another (9 s of session)."""
REPLICAS_AIM = 3
IN_SYNC_AIM = 2
"""Of three replicas: one may be away without a stop of appends, and two have each message."""
SEGMENT_MS_MAX = 86_400_000
SEGMENT_MS_DEFAULT = 604_800_000
"""Of a topic that does not say: 7 days, as Kafka has it."""
_POLL_S = 0.05
_MADE_LOOK_S = 0.05
_FLUSH_S = 2.0
_MESSAGE_ROOM = 100_000
"""Bytes of a record batch beyond its message: overhead of Kafka, and as much again."""
_PRODUCER: Mapping[str, Setting] = {
    "enable.idempotence": True,
    "acks": "all",
    "linger.ms": 0,
    "compression.type": "none",
    "message.timeout.ms": CONFIRM_MS_MAX,
    "message.max.bytes": MESSAGE_BYTES_MAX + _MESSAGE_ROOM,
    "queue.buffering.max.messages": 100_000,
    "queue.buffering.max.kbytes": 131_072,
    "reconnect.backoff.max.ms": 1_000,
    "socket.nagle.disable": True,
}
_CONSUMER: Mapping[str, Setting] = {
    "group.id": "midstream-shared-log",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "fetch.wait.max.ms": 100,
    "fetch.min.bytes": 1,
    "fetch.error.backoff.ms": 100,
    "fetch.queue.backoff.ms": 10,
    "queued.max.messages.kbytes": 32_768,
    "reconnect.backoff.max.ms": 1_000,
    "socket.nagle.disable": True,
}


@dataclass(frozen=True, slots=True)
class SharedTopicOptions:
    """Options of the topic of a shared log."""

    client: KafkaClientOptions
    topic: str
    retention_ms: int | None = None
    """How long messages stay; None = for ever."""
    replicas: int = 0
    """0 = three, or as many as there are brokers."""


def segment_ms(retention_ms: int) -> int:
    """Return the span of a segment of a topic: the broker removes whole ones, so a message stays so much longer.

    A tenth of the retention, or a day where that is less: a year is 365 segments then.
    """
    return min(SEGMENT_MS_MAX, max(1, retention_ms // 10))


class KafkaSharedTopic:
    """A ``SharedTopic``. One thread appends, one other reads."""

    def __init__(self, options: SharedTopicOptions, environ: Mapping[str, str]) -> None:
        """Prepare clients; the broker is asked for nothing yet.

        Raises:
            ExtraMissing: ``confluent-kafka`` is not installed.
            SecretMissing: A variable with a password is not set.
        """
        self._options = options
        self._library, self._admin_library = confluent_kafka(), confluent_kafka_admin()
        self._settings = librdkafka_settings(options.client, environ)
        self._producer: Any = None
        self._consumer: Any = None
        self._next: int | None = None
        """Offset at which the consumer stands."""
        self._is_end = False
        self._heard_s = 0.0
        """Monotonic time of the last sign of the broker."""
        self._is_closed = False
        self._is_fatal = False
        self._poller: threading.Thread | None = None

    @property
    def name(self) -> str:
        """Name for messages to people."""
        return f"{self._options.topic} at {self._options.client.servers}"

    def open(self, known_id: str | None = None) -> TopicFacts:
        """Create the topic if there is none and none is known, compare identities, and check its settings."""
        library = self._library
        admin = kafka_admin(self._settings)
        try:
            is_new = self._create(admin, known_id)
            metadata, topic_id = self._when_known(lambda: self._described(admin))
            config = self._when_known(lambda: self._config(admin))
        except (library.KafkaException, TimeoutError) as error:
            raise self._unavailable(error) from error
        identity = f"{metadata.cluster_id}/{topic_id}"
        require_known(self.name, known_id, identity)
        partitions = metadata.topics[self._options.topic].partitions
        replicas = min((len(each.replicas) for each in partitions.values()), default=0)
        in_sync = int(config.get("min.insync.replicas", "1"))
        self._require(len(partitions), replicas, in_sync, config)
        retention = int(config.get("retention.ms", "-1"))
        self._begin()
        segment = int(config.get("segment.ms", SEGMENT_MS_DEFAULT))
        return TopicFacts(identity, replicas, in_sync, retention if retention >= 0 else None, segment, is_new)

    def _when_known(self, ask: Callable[[], T], wait_s: float = REQUEST_S_MAX) -> T:
        """Ask until all of the broker knows the topic and its leader, as it does a moment after the topic was made."""
        library, until = self._library, time.monotonic() + wait_s
        names = library.KafkaError
        passing = {names.UNKNOWN_TOPIC_OR_PART, names.LEADER_NOT_AVAILABLE, names.NOT_LEADER_FOR_PARTITION}
        while True:
            try:
                return ask()
            except library.KafkaException as error:
                if error.args[0].code() not in passing or time.monotonic() > until:
                    raise
            time.sleep(_MADE_LOOK_S)

    def _described(self, admin: Any) -> tuple[Any, str]:  # noqa: ANN401  the library has no types
        """Return the metadata of the cluster with the topic, and the id of the topic."""
        library, topic = self._library, self._options.topic
        metadata = admin.list_topics(topic, timeout=REQUEST_S_MAX)
        if (error := metadata.topics[topic].error) is not None:
            raise library.KafkaException(error)
        asked = admin.describe_topics(library.TopicCollection([topic]), request_timeout=REQUEST_S_MAX)
        return metadata, str(asked[topic].result(timeout=REQUEST_S_MAX).topic_id)

    def _begin(self) -> None:
        """Make the clients that append and read."""
        if self._producer is None:
            self._producer = self._made_producer()
            self._poller = threading.Thread(target=self._poll, name="midstream-confirm", daemon=True)
            self._poller.start()
        if self._consumer is None:
            self._consumer = kafka_consumer({**self._settings, **_CONSUMER})

    def _create(self, admin: Any, known_id: str | None) -> bool:  # noqa: ANN401  the library has no types
        """Create the topic; return False where it is there already.

        Raises:
            TopicRefused: It is not, and a topic is known.
        """
        library, options = self._library, self._options
        metadata = admin.list_topics(timeout=REQUEST_S_MAX)
        if options.topic in metadata.topics:
            return False
        require_known(self.name, known_id, "")
        replicas = options.replicas or min(REPLICAS_AIM, len(metadata.brokers))
        config = {
            "message.timestamp.type": "LogAppendTime",
            "cleanup.policy": "delete",
            "retention.ms": str(-1 if options.retention_ms is None else options.retention_ms),
            "retention.bytes": "-1",
            "max.message.bytes": str(MESSAGE_BYTES_MAX + _MESSAGE_ROOM),
            "min.insync.replicas": str(IN_SYNC_AIM if replicas >= REPLICAS_AIM else 1),
            "unclean.leader.election.enable": "false",
        }
        if options.retention_ms is not None:
            config["segment.ms"] = str(segment_ms(options.retention_ms))
        fresh = self._admin_library.NewTopic(
            options.topic, num_partitions=1, replication_factor=replicas, config=config
        )
        asked = admin.create_topics([fresh], request_timeout=REQUEST_S_MAX)
        try:
            asked[options.topic].result(timeout=REQUEST_S_MAX)
        except library.KafkaException as error:
            if error.args[0].code() != library.KafkaError.TOPIC_ALREADY_EXISTS:  # another node was faster
                raise
            return False
        return True

    def _config(self, admin: Any) -> Mapping[str, str]:  # noqa: ANN401  as above
        resource = self._admin_library.ConfigResource(self._admin_library.ResourceType.TOPIC, self._options.topic)
        asked = admin.describe_configs([resource], request_timeout=REQUEST_S_MAX)
        found = asked[resource].result(timeout=REQUEST_S_MAX)
        return {name: each.value for name, each in found.items() if each.value is not None}

    def _require(self, partitions: int, replicas: int, in_sync: int, config: Mapping[str, str]) -> None:
        """Refuse a topic whose settings break a promise; every one is named.

        Raises:
            TopicRefused: There is one.
        """
        came: list[str] = []
        right: list[str] = []

        def look(name: str, value: object, wanted: str, *, is_good: bool) -> None:
            if not is_good:
                came.append(f"{name} = {value}")
                right.append(f"{name} = {wanted}")

        clock = config.get("message.timestamp.type", "CreateTime")
        look("partitions", partitions, "1", is_good=partitions == 1)
        look("message.timestamp.type", clock, "LogAppendTime", is_good=clock == "LogAppendTime")
        policy = config.get("cleanup.policy", "delete")
        look("cleanup.policy", policy, "delete", is_good=policy == "delete")
        kept = config.get("retention.bytes", "-1")
        look("retention.bytes", kept, "-1", is_good=kept == "-1")
        size = int(config.get("max.message.bytes", "1048588"))
        wanted = MESSAGE_BYTES_MAX + _MESSAGE_ROOM
        look("max.message.bytes", size, f"{wanted} or more", is_good=size >= wanted)
        unclean = config.get("unclean.leader.election.enable", "false")
        look("unclean.leader.election.enable", unclean, "false", is_good=unclean == "false")
        look(
            "min.insync.replicas",
            in_sync,
            f"{IN_SYNC_AIM} or more, with {replicas} replicas",
            is_good=replicas < REPLICAS_AIM or in_sync >= IN_SYNC_AIM,
        )
        if came:
            told = f"The topic has {', '.join(came)}."
            raise TopicRefused((Fault(self.name, told, f"{', '.join(right)}.", PAGE),))

    def append(self, value: bytes, confirmed: Callable[[MidstreamError | None], None]) -> None:
        """Append one message behind all that this node appended before."""
        if self._producer is None or self._is_closed:
            message = f"{self.name}: it is not open"
            raise TopicUnavailable(message)

        def delivered(error: object, _: object) -> None:
            confirmed(None if error is None else self._unavailable(error))

        try:
            self._producer.produce(self._options.topic, value=value, partition=0, on_delivery=delivered)
        except BufferError as error:
            raise self._unavailable(error) from error
        except self._library.KafkaException as error:
            raise self._unavailable(error) from error

    def _made_producer(self) -> Any:  # noqa: ANN401  the library has no types
        self._is_fatal = False
        return kafka_producer({**self._settings, **_PRODUCER, "error_cb": self._heard_error})

    def _heard_error(self, error: Any) -> None:  # noqa: ANN401  as above
        """Note that an idempotent producer ended for good, such as after its state was lost on the broker."""
        self._is_fatal = self._is_fatal or bool(error.fatal())

    def _poll(self) -> None:
        """Serve delivery reports, until the end; a producer that can send no more is replaced by another.

        What it had and was not confirmed is reported as uncertain.
        """
        while not self._is_closed:
            self._producer.poll(_POLL_S)
            if self._is_fatal:
                before, self._producer = self._producer, self._made_producer()
                before.purge()
                before.flush(_FLUSH_S)

    def read(self, offset: int, messages_max: int, wait_s: float) -> TopicRead:
        """Return the messages at and after an offset, oldest first; wait a while for the first of them."""
        if self._consumer is None:
            message = f"{self.name}: it is not open"
            raise TopicUnavailable(message)
        library = self._library
        try:
            if self._next != offset:
                self._seek(offset)
            polled = [each for each in (self._consumer.poll(wait_s),) if each is not None]
            if polled and messages_max > 1:  # the others are those that are there: a wait would be for all of them
                polled += self._consumer.consume(messages_max - 1, 0.0)
        except library.KafkaException as error:
            self._next = None
            raise self._unavailable(error) from error
        found = [message for message in polled if self._is_message(message)]
        if found:
            self._heard_s = time.monotonic()
            self._next = int(found[-1].offset()) + 1
            self._is_end = self._is_end or self._next >= self._end_known()
        elif time.monotonic() - self._heard_s > PROBE_S:
            self._probe(offset)
        return TopicRead(
            [TopicMessage(each.offset(), each.timestamp()[1], each.value() or b"") for each in found], self._is_end
        )

    def _seek(self, offset: int) -> None:
        """Have the consumer stand at an offset that the broker has.

        Raises:
            TopicRefused: It has not.
        """
        first, end = self.span()
        if not first <= offset <= end:
            came = f"This node goes on at offset {offset}; the topic has {first} to {end}."
            right = (
                "A snapshot of another node: move the data folder aside and join by it."
                if offset < first
                else "The topic as it was: it has lost messages that this node has read."
            )
            raise TopicRefused((Fault(self.name, came, right, PAGE),))
        self._consumer.assign([self._library.TopicPartition(self._options.topic, 0, offset)])
        self._next = offset
        self._is_end = False

    def _is_message(self, message: Any) -> bool:  # noqa: ANN401  as above
        """Return whether a message came, and not news of the partition; keep whether the end was reached.

        Raises:
            TopicUnavailable: The partition cannot be read now, or the offset is gone, which the next read tells.
        """
        error = message.error()
        if error is None:
            self._is_end = False
            return True
        if error.code() == self._library.KafkaError._PARTITION_EOF:  # noqa: SLF001  its public name begins so
            self._is_end = True
            self._heard_s = time.monotonic()
            return False
        if not error.retriable():
            self._next = None
            raise self._unavailable(error)
        return False

    def _end_known(self) -> int:
        """Return the end of the topic as the last fetch had it; nothing is asked."""
        partition = self._library.TopicPartition(self._options.topic, 0)
        _, end = self._consumer.get_watermark_offsets(partition, cached=True)
        return int(end) if end >= 0 else sys.maxsize

    def _probe(self, offset: int) -> None:
        """Ask for the end of the topic, whether the broker answers.

        The library tells an end once, which may have been before an outage: what is asked here tells it again.

        Raises:
            TopicUnavailable: It does not.
        """
        try:
            _, end = self._span(PROBE_S_MAX)
        except TopicUnavailable:
            self._is_end = False
            raise
        self._heard_s = time.monotonic()
        self._is_end = end == offset

    def span(self) -> tuple[int, int]:
        """Return the offset of the oldest message, and the one that the next message gets."""
        return self._span(REQUEST_S_MAX)

    def _span(self, timeout_s: float) -> tuple[int, int]:
        library = self._library
        if self._consumer is None:
            message = f"{self.name}: it is not open"
            raise TopicUnavailable(message)
        partition, consumer = library.TopicPartition(self._options.topic, 0), self._consumer
        try:
            first, end = self._when_known(
                lambda: consumer.get_watermark_offsets(partition, timeout=timeout_s), timeout_s
            )
        except library.KafkaException as error:
            raise self._unavailable(error) from error
        return int(first), int(end)

    def close(self) -> None:
        """Release connections and threads."""
        self._is_closed = True
        if self._poller is not None:
            self._poller.join()
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(_FLUSH_S)
        if self._consumer is not None:
            self._consumer.close()

    def _unavailable(self, error: object) -> TopicUnavailable:
        where = f"Kafka at {self._options.client.servers}, topic {self._options.topic!r}"
        return TopicUnavailable(f"{where}: {error_text(error)}")
