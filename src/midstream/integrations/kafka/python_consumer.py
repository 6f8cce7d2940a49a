"""Kafka consumer of one topic by ``kafka-python``, in pure Python: the promises and positions of ``consumer``.

For machines on which librdkafka cannot be installed; a message costs several times the CPU. The client cannot be given
the leader epoch of a stored position: that a log was cut back below it is noticed while it reads, not when it opens.

Reference: https://kafka-python.readthedocs.io/
"""

import base64
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from midstream.engine.inputs.broker_consumer import BrokerUnavailable, OpenedTopic, PartitionMessages
from midstream.integrations.kafka.client_options import Setting, kafka_python_settings
from midstream.integrations.kafka.consumer import KafkaTopicOptions, headers_of
from midstream.integrations.kafka.library import kafka_python, kafka_python_connections
from midstream.integrations.kafka.positions import KafkaPlace, assigned, epoch_of, place_of

REQUEST_MS_MAX = 10_000
"""Of one request about the topic."""
FETCH_BYTES_MAX = 16 * 1_048_576
"""Of one answer: 16 MiB, as much as the other client holds ready."""
CLOSE_MS_MAX = 1_000
FIXED: Mapping[str, Setting] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "none",
    "isolation_level": "read_committed",
    "fetch_max_bytes": FETCH_BYTES_MAX,
    "max_partition_fetch_bytes": FETCH_BYTES_MAX,
    "metrics_enabled": False,
}
"""Settings that the promises stand on: a configuration may not change them."""


class PythonKafkaConsumer:
    """A ``BrokerConsumer`` of a Kafka topic, by the client in pure Python."""

    def __init__(self, options: KafkaTopicOptions, environ: Mapping[str, str]) -> None:
        """Prepare the settings; the client is made by the first ``open``, as it connects at once.

        Args:
            options: Of the topic; further settings of ``client`` are those of kafka-python.
            environ: Variables of the environment, of which the options name those with passwords.

        Raises:
            ExtraMissing: ``kafka-python`` is not installed.
            SecretMissing: A variable of the environment is not set.
        """
        self._options = options
        self._library = kafka_python()
        self._settings = kafka_python_settings(options.client, environ) | {
            "request_timeout_ms": REQUEST_MS_MAX,
            "bootstrap_timeout_ms": REQUEST_MS_MAX,
        }
        self._consumer: Any = None
        self._group: Any = None
        """Client for displays alone: polls of one with a group return nothing while its coordinator is not known."""
        self._admin: Any = None
        self._partitions: frozenset[int] = frozenset()
        self._next: dict[int, KafkaPlace] = {}
        self._doubtful: dict[int, int] = {}
        self._lag: dict[str, int] = {}

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self._options.topic

    def open(self, topic_id: str, positions: Mapping[str, str]) -> OpenedTopic:
        """Assign all partitions, each at its position."""
        # A client that is used again knows for minutes of no partition that was added, and fails at it.
        self._drop()
        try:
            return self._open(topic_id, positions)
        except self._failures as error:
            self._drop()
            raise self._unavailable(error) from error

    @property
    def _failures(self) -> tuple[type[Exception], ...]:
        return (self._library.errors.KafkaError, OSError, ValueError)

    def _open(self, topic_id: str, positions: Mapping[str, str]) -> OpenedTopic:
        self._next, self._lag = {}, {}
        self._admin = self._made(self._library.KafkaAdminClient)
        self._consumer = self._made(self._library.KafkaConsumer, **FIXED)
        self._group = self._made(self._library.KafkaConsumer, **FIXED, group_id=self._options.group)
        found, numbers = self._described()
        if topic_id and found != topic_id:
            return OpenedTopic(found, {})
        ranges = self._ranges(numbers)
        fresh = tuple(number for number in numbers if str(number) not in positions)
        starts = self._starts(fresh, ranges, is_first=not positions)
        plan = assigned(positions, ranges, starts, self._doubtful)
        self._consumer.assign([self._partition(number) for number in plan.places])
        for number, place in plan.places.items():
            self._consumer.seek(self._partition(number), place.offset)
        self._partitions = frozenset(numbers)
        self._next = dict(plan.places)
        for number in plan.places:
            self._doubtful.pop(number, None)
        self._lag = {str(number): ranges[number][1] - place.offset for number, place in plan.places.items()}
        return OpenedTopic(found, plan.next(), plan.gone)

    def _made(self, role: Callable[..., Any], **settings: Setting) -> Any:  # noqa: ANN401  of the library
        """Return a client of the library; one that cannot connect would leave its thread behind."""
        connections: list[Any] = []

        def connect(**own: object) -> object:
            connections.append(connecting(**own))
            return connections[-1]

        connecting = kafka_python_connections()
        try:
            return role(**(self._settings | settings), kafka_client=connect)
        except self._failures:
            for each in connections:
                each.close()
            raise

    def _partition(self, number: int) -> Any:  # noqa: ANN401  of the library
        return self._library.TopicPartition(self.topic, number)

    def _described(self) -> tuple[str, Sequence[int]]:
        """Return the identity of the topic, its cluster's and its own, and the numbers of its partitions."""
        (topic,) = self._admin.describe_topics([self.topic])
        if topic["error_code"]:
            raise self._library.errors.for_code(topic["error_code"])
        own = base64.urlsafe_b64encode(uuid.UUID(str(topic["topic_id"])).bytes).decode("ascii").rstrip("=")
        cluster = self._admin.describe_cluster()["cluster_id"]
        return f"{cluster}/{own}", sorted(each["partition_index"] for each in topic["partitions"])

    def _ranges(self, numbers: Sequence[int]) -> Mapping[int, tuple[int, int]]:
        """Return the oldest offset of each partition and the one after its newest message."""
        wanted = [self._partition(number) for number in numbers]
        firsts = self._consumer.beginning_offsets(wanted, timeout_ms=REQUEST_MS_MAX)
        ends = self._consumer.end_offsets(wanted, timeout_ms=REQUEST_MS_MAX)
        return {each.partition: (firsts[each], ends[each]) for each in wanted}

    def _starts(
        self, numbers: Sequence[int], ranges: Mapping[int, tuple[int, int]], *, is_first: bool
    ) -> Mapping[int, int]:
        """Return where partitions without a position begin; as in ``KafkaConsumer``."""
        start = self._options.start
        if not is_first or start == "earliest" or not numbers:
            return {number: ranges[number][0] for number in numbers}
        if start == "latest":
            return {number: ranges[number][1] for number in numbers}
        wanted = {self._partition(number): int(start) for number in numbers}
        found = self._consumer.offsets_for_times(wanted, timeout_ms=REQUEST_MS_MAX)
        # No message is so late: the end.
        return {each.partition: at.offset if at else ranges[each.partition][1] for each, at in found.items()}

    def poll(self, messages_max: int, wait_s: float) -> Sequence[PartitionMessages]:
        """Return the next messages of all partitions, of each in its order."""
        try:
            records = self._consumer.poll(timeout_ms=int(wait_s * 1_000), max_records=messages_max)
            found = [self._polled(number, records.get(self._partition(number), ())) for number in tuple(self._next)]
        except self._library.errors.LogTruncationError as error:
            for each in error.divergent_offsets:
                self._doubtful[each.partition] = self._next[each.partition].epoch or 0
            raise self._unavailable(error) from error
        except self._failures as error:
            raise self._unavailable(error) from error
        return [each for each in found if each is not None]

    def _polled(self, number: int, records: Sequence[Any]) -> PartitionMessages | None:
        """Return the messages of a partition, None where nothing was passed.

        A position is passed by control records of transactions and by what compaction removed, too.
        """
        partition, before = self._partition(number), self._next[number]
        # Without waiting: it is known, as the place was given.
        told = self._consumer.position(partition, timeout_ms=0)
        offset = max(before.offset if told is None else told, records[-1].offset + 1 if records else 0)
        if offset <= before.offset:
            return None
        epoch = epoch_of(records[-1].leader_epoch) if records else None
        self._next[number] = following = KafkaPlace(offset, before.epoch if epoch is None else epoch)
        end = self._consumer.highwater(partition)
        self._lag[str(number)] = max(0, (offset if end is None else end) - offset)
        return PartitionMessages(
            str(number),
            [each.value for each in records],
            [str(each.offset) for each in records],
            str(following),
            {place: headers_of(each.headers) for place, each in enumerate(records) if each.headers},
        )

    def is_outdated(self) -> bool:
        """Return whether the topic has other partitions than those that are assigned; as in ``KafkaConsumer``."""
        try:
            wanted = [self._partition(number) for number in self._next]
            ends = self._consumer.end_offsets(wanted, timeout_ms=REQUEST_MS_MAX)
            (topic,) = self._admin.describe_topics([self.topic])
        except self._failures as error:
            raise self._unavailable(error) from error
        self._lag |= {
            str(each.partition): max(0, end - self._next[each.partition].offset) for each, end in ends.items()
        }
        return frozenset(each["partition_index"] for each in topic["partitions"]) != self._partitions

    def lag(self) -> Mapping[str, int]:
        """Return how many offsets each partition had behind the last poll, as the last fetch or look said."""
        return dict(self._lag)

    def delay(self) -> str:
        """Return that nothing is kept back."""
        return ""

    def show(self, positions: Mapping[str, str]) -> None:
        """Commit the positions for the group, without waiting; nothing here reads them."""
        kind = self._library.OffsetAndMetadata
        self._group.commit_async(
            {self._partition(int(each)): kind(place_of(at).offset, "", -1) for each, at in positions.items()}
        )

    def close(self) -> None:
        """Release connections and threads."""
        self._drop()

    def _drop(self) -> None:
        """Forget the clients: the next ``open`` makes new ones."""
        consumers, admin = (self._consumer, self._group), self._admin
        self._consumer = self._group = self._admin = None
        for consumer in consumers:
            if consumer is not None:
                consumer.close(autocommit=False, timeout_ms=CLOSE_MS_MAX)
        if admin is not None:
            admin.close()

    def _unavailable(self, error: object) -> BrokerUnavailable:
        return BrokerUnavailable(f"Kafka at {self._options.client.servers}, topic {self.topic!r}: {error!r}")
