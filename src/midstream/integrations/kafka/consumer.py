"""Kafka consumer of one topic by ``confluent-kafka`` (librdkafka), assigned at positions that the caller gives.

There is no group membership, so nothing rebalances and no poll is ever late; the group of the configuration is used
for commits alone, which displays of lag read. ``auto.offset.reset = error``: an offset that the broker does not have is
an error, never a jump. The end of a partition is told as an event, so that a position goes past the control records of
transactions, which no poll returns.

Not reading is the backpressure: librdkafka stops fetching when its queue is full.

Reference: https://docs.confluent.io/platform/current/clients/confluent-kafka-python/html/
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from midstream.engine.inputs.broker_consumer import (
    HEADER_CHARS_MAX,
    HEADERS_MAX,
    BrokerUnavailable,
    OpenedTopic,
    PartitionMessages,
)
from midstream.integrations.kafka.client_options import KafkaClientOptions, Setting, librdkafka_settings
from midstream.integrations.kafka.library import LOGGER, confluent_kafka, error_text, kafka_admin, kafka_consumer
from midstream.integrations.kafka.positions import KafkaPlace, assigned, epoch_of, place_of

QUEUE_KBYTES_MAX = 16_384
"""Fetched and not polled yet, 16 MiB: three polls of 5,000 messages of 1 kB."""
QUEUE_BACKOFF_MS = 5
"""Until a full queue is looked at again; librdkafka's second would be a second without messages each 16 MiB."""
REQUEST_S_MAX = 10.0
"""Of one request about the topic."""
FIXED: Mapping[str, Setting] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "queued.max.messages.kbytes": QUEUE_KBYTES_MAX,
    "fetch.queue.backoff.ms": QUEUE_BACKOFF_MS,
}
"""Settings that the promises stand on: a configuration may not change them."""


@dataclass(frozen=True, slots=True)
class KafkaTopicOptions:
    """Options of one topic that is read."""

    client: KafkaClientOptions
    topic: str
    group: str
    """Name under which the broker shows how far this input is."""
    start: str = "earliest"
    """``earliest``, ``latest``, or milliseconds since 1970 as digits, where a topic without positions begins."""


class KafkaConsumer:
    """A ``BrokerConsumer`` of a Kafka topic."""

    def __init__(self, options: KafkaTopicOptions, environ: Mapping[str, str]) -> None:
        """Prepare a client; the broker is asked for nothing yet.

        Args:
            options: Of the topic.
            environ: Variables of the environment, of which the options name those with passwords.

        Raises:
            ExtraMissing: ``confluent-kafka`` is not installed.
            SecretMissing: A variable of the environment is not set.
            BrokerUnavailable: librdkafka refuses the settings.
        """
        self._options = options
        self._library = confluent_kafka()
        self._settings = librdkafka_settings(options.client, environ)
        settings = {**self._settings, "group.id": options.group, **FIXED}
        try:
            self._consumer: Any = kafka_consumer(settings)
        except (self._library.KafkaException, ValueError, TypeError) as error:
            message = f"Kafka at {options.client.servers}: {error}"
            raise BrokerUnavailable(message) from error
        self._admin: Any = None
        self._partitions: frozenset[int] = frozenset()
        self._next: dict[int, KafkaPlace] = {}
        self._ends: Mapping[int, int] = {}
        """Of the last look; a client that stands still does not learn of later ones."""
        self._doubtful: dict[int, int] = {}

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self._options.topic

    def open(self, topic_id: str, positions: Mapping[str, str]) -> OpenedTopic:
        """Assign all partitions, each at its position."""
        try:
            return self._open(topic_id, positions)
        except (self._library.KafkaException, TimeoutError) as error:  # the latter of a request of the admin client
            raise self._unavailable(error) from error

    def _open(self, topic_id: str, positions: Mapping[str, str]) -> OpenedTopic:
        library = self._library
        self._consumer.unassign()
        self._next, self._ends = {}, {}
        found, numbers = self._described()
        if topic_id and found != topic_id:
            return OpenedTopic(found, {})
        ranges = {number: self._range(number) for number in numbers}
        fresh = tuple(number for number in numbers if str(number) not in positions)
        starts = self._starts(fresh, ranges, is_first=not positions)
        plan = assigned(positions, ranges, starts, self._doubtful)
        self._consumer.assign(
            [
                library.TopicPartition(self.topic, number, place.offset)
                if place.epoch is None
                else library.TopicPartition(self.topic, number, place.offset, leader_epoch=place.epoch)
                for number, place in plan.places.items()
            ]
        )
        self._partitions = frozenset(numbers)
        self._next = dict(plan.places)
        for number in plan.places:
            self._doubtful.pop(number, None)
        return OpenedTopic(found, plan.next(), plan.gone)

    def _described(self) -> tuple[str, Sequence[int]]:
        """Return the identity of the topic, its cluster's and its own, and the numbers of its partitions."""
        library = self._library
        if self._admin is None:
            self._admin = kafka_admin(self._settings)
        self._admin.poll(0)  # lines of its log, which nothing else takes
        metadata = self._consumer.list_topics(self.topic, timeout=REQUEST_S_MAX)
        topic = metadata.topics[self.topic]
        if topic.error is not None:
            raise library.KafkaException(topic.error)
        asked = self._admin.describe_topics(library.TopicCollection([self.topic]), request_timeout=REQUEST_S_MAX)
        described = asked[self.topic].result(timeout=REQUEST_S_MAX)
        return f"{metadata.cluster_id}/{described.topic_id}", sorted(topic.partitions)

    def _range(self, number: int) -> tuple[int, int]:
        """Return the oldest offset of a partition and the one after its newest message."""
        partition = self._library.TopicPartition(self.topic, number)
        first, end = self._consumer.get_watermark_offsets(partition, timeout=REQUEST_S_MAX)
        return int(first), int(end)

    def _starts(
        self, numbers: Sequence[int], ranges: Mapping[int, tuple[int, int]], *, is_first: bool
    ) -> Mapping[int, int]:
        """Return where partitions without a position begin.

        Args:
            numbers: Of the partitions.
            ranges: Oldest and next offset of each.
            is_first: No partition has a position yet: they begin where the configuration says, else at their beginning.
        """
        start = self._options.start
        if not is_first or start == "earliest" or not numbers:
            return {number: ranges[number][0] for number in numbers}
        if start == "latest":
            return {number: ranges[number][1] for number in numbers}
        wanted = [self._library.TopicPartition(self.topic, number, int(start)) for number in numbers]
        found = self._consumer.offsets_for_times(wanted, timeout=REQUEST_S_MAX)
        # No message is so late: the end.
        return {each.partition: each.offset if each.offset >= 0 else ranges[each.partition][1] for each in found}

    def poll(self, messages_max: int, wait_s: float) -> Sequence[PartitionMessages]:
        """Return the next messages of all partitions, of each in its order."""
        try:
            first = self._consumer.poll(wait_s)
            # Waiting for a number of messages would hold back those that are there.
            more: list[Any] = self._consumer.consume(messages_max - 1, 0) if first and messages_max > 1 else []
        except self._library.KafkaException as error:
            raise self._unavailable(error) from error
        by_partition: dict[int, list[Any]] = {}
        for message in [first, *more] if first else ():
            if (failure := message.error()) is None:
                by_partition.setdefault(message.partition(), []).append(message)
            elif failure.code() == self._library.KafkaError._PARTITION_EOF:  # noqa: SLF001  its name in the library
                ended = by_partition.setdefault(message.partition(), [])
                if message.offset() > self._after(message.partition(), ended):
                    ended.append(message)
            elif not failure.retriable():
                raise self._failed(message, failure)
        return [self._polled(number, each) for number, each in by_partition.items() if each]

    def _after(self, number: int, messages: Sequence[Any]) -> int:
        """Return the offset behind the messages of a partition."""
        return messages[-1].offset() + 1 if messages else self._next[number].offset

    def _polled(self, number: int, told: Sequence[Any]) -> PartitionMessages:
        last = told[-1]
        messages = [each for each in told if each.error() is None]
        offset = last.offset() if last.error() else last.offset() + 1
        epoch = epoch_of(last.leader_epoch())
        self._next[number] = following = KafkaPlace(offset, self._next[number].epoch if epoch is None else epoch)
        return PartitionMessages(
            str(number),
            [each.value() for each in messages],
            [str(each.offset()) for each in messages],
            str(following),
            {place: headers_of(own) for place, each in enumerate(messages) if (own := each.headers())},
        )

    def _failed(self, message: Any, failure: Any) -> BrokerUnavailable:  # noqa: ANN401  of the library
        """Return the error of a partition.

        Where its position is none any more, what was read under the epoch before is in doubt: the log may have been cut
        back, and written again.
        """
        if failure.code() == self._library.KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001  its name in the library
            number = message.partition()
            self._doubtful[number] = self._next[number].epoch or 0
        return self._unavailable(failure)

    def is_outdated(self) -> bool:
        """Return whether the topic has other partitions than those that are assigned.

        The leader of each is asked for its end: a fetch from a leader that is gone returns nothing, and no error.
        """
        try:
            metadata = self._consumer.list_topics(self.topic, timeout=REQUEST_S_MAX)
            self._ends = {number: self._range(number)[1] for number in self._next}
        except self._library.KafkaException as error:
            raise self._unavailable(error) from error
        return frozenset(metadata.topics[self.topic].partitions) != self._partitions

    def lag(self) -> Mapping[str, int]:
        """Return how many offsets each partition has behind the last poll, as the last fetch or look said."""
        found: dict[str, int] = {}
        ends = self._ends
        for number, place in tuple(self._next.items()):
            partition = self._library.TopicPartition(self.topic, number)
            told = self._consumer.get_watermark_offsets(partition, cached=True)
            end = max(-1 if told is None else told[1], ends.get(number, -1))
            if end >= 0:
                found[str(number)] = max(0, end - place.offset)
        return found

    def delay(self) -> str:
        """Return that nothing is kept back."""
        return ""

    def show(self, positions: Mapping[str, str]) -> None:
        """Commit the positions for the group, without waiting; nothing here reads them."""
        library = self._library
        offsets = [library.TopicPartition(self.topic, int(each), place_of(at).offset) for each, at in positions.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except library.KafkaException as error:
            LOGGER.warning("the group %s is not shown at %s: %s", self._options.group, self.topic, error)

    def close(self) -> None:
        """Release connections and threads."""
        self._consumer.close()
        self._admin = None

    def _unavailable(self, error: object) -> BrokerUnavailable:
        where = f"Kafka at {self._options.client.servers}, topic {self.topic!r}"
        return BrokerUnavailable(f"{where}: {error_text(error)}")


def headers_of(headers: Sequence[tuple[str, bytes | None]]) -> Mapping[str, str]:
    """Return the headers of a message as texts, of either client, for its dead letter."""
    return {
        name: (value or b"").decode(errors="backslashreplace")[:HEADER_CHARS_MAX]
        for name, value in headers[:HEADERS_MAX]
    }
