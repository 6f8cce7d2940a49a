"""Pulsar consumer of one topic by ``pulsar-client``: a reader for each partition at the place that the caller gives.

A reader has no subscription, so nothing is delivered to somebody else and no acknowledgement decides where reading goes
on. It skips what retention has cut, silently: where the ledger of a position is gone, and where a partition goes from
one ledger to the next, the admin interface is asked what was kept.

A durable subscription that is never read keeps Pulsar from removing messages: they are acknowledged up to the entry
before the one that is durable. So the ledger of a position stays as long as nobody else moves the subscription, and a
ledger that is gone says that messages were cut, or expired (TTL), before they were read.

Reference: https://pulsar.apache.org/docs/4.0.x/client-libraries-python/
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from midstream.engine.inputs.broker_consumer import (
    HEADER_CHARS_MAX,
    HEADERS_MAX,
    BrokerUnavailable,
    GonePosition,
    OpenedTopic,
    PartitionMessages,
)
from midstream.integrations.pulsar.admin import Ledgers, PulsarAdmin, suffixes
from midstream.integrations.pulsar.client_options import PulsarClientOptions, make_client, token_of
from midstream.integrations.pulsar.library import pulsar
from midstream.integrations.pulsar.positions import PulsarPlace, full_name, place_of

QUEUE_MAX = 1_000
"""Messages that the client holds ready, of all partitions; Pulsar bounds them by number, 5 MB each at most."""
QUEUE_MIN = 50
"""Of one partition."""
BYTES_MAX = 16 * 1_048_576
"""Of the messages of one poll, 16 MiB, as with Kafka."""
SLICE_MS_MAX = 5
"""A partition is waited for so long before the next one is looked at."""


@dataclass(frozen=True, slots=True)
class PulsarTopicOptions:
    """Options of one topic that is read."""

    client: PulsarClientOptions
    topic: str
    """``persistent://tenant/namespace/name``; a bare name is one of ``public/default``."""
    subscription: str
    """Name of the subscription that keeps unread messages, and shows how far this input is."""
    start: str = "earliest"
    """``earliest``, ``latest``, or milliseconds since 1970 as digits, where a topic without positions begins."""


@dataclass(eq=False)
class _Partition:
    """One partition that is read."""

    number: int
    suffix: str
    """Of its name behind the topic's."""
    reader: Any
    last: PulsarPlace
    """Of the last message that was read."""
    values: list[bytes | None] = field(default_factory=list[bytes | None])
    """Of the messages of this poll."""
    places: list[str] = field(default_factory=list[str])
    headers: dict[int, Mapping[str, str]] = field(default_factory=dict[int, Mapping[str, str]])

    def messages(self) -> PartitionMessages:
        """Return the messages of this poll."""
        return PartitionMessages(str(self.number), self.values, self.places, self.places[-1], self.headers)

    def clear(self) -> None:
        """Begin another poll."""
        self.values, self.places, self.headers = [], [], {}


class PulsarConsumer:
    """A ``BrokerConsumer`` of a Pulsar topic."""

    def __init__(self, options: PulsarTopicOptions, environ: Mapping[str, str]) -> None:
        """Prepare clients; the broker is asked for nothing yet.

        Args:
            options: Of the topic.
            environ: Variables of the environment, of which the options name that with the token.

        Raises:
            ExtraMissing: ``pulsar-client`` is not installed.
            TokenMissing: The variable of the environment is not set.
        """
        self._options = options
        self._library = pulsar()
        self._name = full_name(options.topic)
        self._token = token_of(options.client, environ)
        self._admin = PulsarAdmin(options.client, self._name, self._token)
        self._client: Any = None
        self._partitions: list[_Partition] = []
        self._count = -1
        self._turn = 0
        self._lag: dict[str, int] = {}
        self._hints: dict[int, Any] = {}

    @property
    def topic(self) -> str:
        """Name of the topic, as the configuration has it."""
        return self._options.topic

    def open(self, topic_id: str, positions: Mapping[str, str]) -> OpenedTopic:
        """Open a reader for each partition, each at its position."""
        self._drop()
        try:
            return self._open(topic_id, positions)
        except self._library.PulsarException as error:
            self._drop()
            raise self._unavailable(error) from error

    def _open(self, topic_id: str, positions: Mapping[str, str]) -> OpenedTopic:
        self._count = self._admin.partitions()
        kept = {number: (suffix, self._admin.ledgers(suffix)) for number, suffix in enumerate(suffixes(self._count))}
        ledgers = kept[0][1]
        # The same of two clients that look at once; ledgers are numbered once in a cluster.
        found = self._admin.identity(f"{ledgers.first.ledger}-{ledgers.created}")
        if topic_id and found != topic_id:
            return OpenedTopic(found, {})
        self._client = make_client(self._options.client, self._token)
        following: dict[str, str] = {}
        gone: list[GonePosition] = []
        for number, (suffix, ledgers) in kept.items():
            self._keep(number, suffix)
            stored = positions.get(str(number))
            place = self._start(suffix, ledgers, is_first=not positions) if stored is None else place_of(stored)
            if place is None or not _is_kept(place, ledgers):
                gone.append(
                    GonePosition(
                        str(number), str(place) if stored is None else stored, str(ledgers.first), str(ledgers.last)
                    )
                )
                continue
            following[str(number)] = str(place)
            self._partitions.append(_Partition(number, suffix, self._reader(suffix, place), place))
            self._lag[str(number)] = ledgers.entries_after(place)
        return OpenedTopic(found, following, tuple(gone))

    def _start(self, suffix: str, ledgers: Ledgers, *, is_first: bool) -> PulsarPlace:
        """Return where a partition without a position begins."""
        start = self._options.start
        if not is_first or start == "earliest":
            return ledgers.first
        return ledgers.last if start == "latest" else self._admin.at_time(suffix, int(start))

    def _reader(self, suffix: str, place: PulsarPlace) -> Any:  # noqa: ANN401  of the library
        queue = max(QUEUE_MIN, QUEUE_MAX // max(1, self._count))
        at = self._library.MessageId(-1, *place)
        return self._client.create_reader(f"{self._name}{suffix}", at, receiver_queue_size=queue)

    def _keep(self, number: int, suffix: str) -> None:
        """Subscribe durably, so that unread messages are kept; where another client has the subscription, it is there.

        It is never read: with a queue of none the broker sends it nothing.
        """
        library = self._library
        try:
            self._hints[number] = self._client.subscribe(
                f"{self._name}{suffix}",
                self._options.subscription,
                consumer_type=library.ConsumerType.Exclusive,
                initial_position=library.InitialPosition.Earliest,
                receiver_queue_size=0,
            )
        except library.ConsumerBusy:
            self._hints.pop(number, None)

    def poll(self, messages_max: int, wait_s: float) -> Sequence[PartitionMessages]:
        """Return the next messages of all partitions, of each in its order."""
        for each in self._partitions:
            each.clear()
        try:
            self._take(messages_max)
            for _ in range(max(1, int(wait_s * 1_000 / SLICE_MS_MAX))):
                if any(each.values for each in self._partitions):
                    break
                self._await_one()
            else:
                self._check_connected()
        except self._library.PulsarException as error:
            raise self._unavailable(error) from error
        return [each.messages() for each in self._partitions if each.values]

    def _take(self, messages_max: int) -> None:
        """Take the messages that are there, of each partition a share; begin with another one each time."""
        count = len(self._partitions)
        self._turn += 1
        share, size = max(1, messages_max // max(1, count)), 0
        for step in range(min(count, messages_max)):
            partition = self._partitions[(self._turn + step) % count]
            while len(partition.values) < share and size < BYTES_MAX:
                message = _read(self._library, partition.reader, 0)
                if message is None:
                    break
                if self._add(partition, message):
                    size += len(partition.values[-1] or b"")

    def _await_one(self) -> None:
        """Wait a moment for a message of one partition, another one each time."""
        if not self._partitions:
            time.sleep(SLICE_MS_MAX / 1_000)
            return
        self._turn += 1
        partition = self._partitions[self._turn % len(self._partitions)]
        message = _read(self._library, partition.reader, SLICE_MS_MAX)
        if message is not None:
            self._add(partition, message)

    def _add(self, partition: _Partition, message: Any) -> bool:  # noqa: ANN401  of the library
        """Keep a message unless it was read before, as after a reconnection; return whether it was kept."""
        told = message.message_id()
        place = PulsarPlace(told.ledger_id(), told.entry_id(), told.batch_index())
        if place.order <= partition.last.order:
            return False
        if place.ledger != partition.last.ledger:
            self._check_whole(partition, place)
        partition.last = place
        if properties := message.properties():
            partition.headers[len(partition.values)] = _headers(properties)
        partition.values.append(None if message.has_null_value() else message.data())
        partition.places.append(str(place))
        return True

    def _check_whole(self, partition: _Partition, place: PulsarPlace) -> None:
        """Check that nothing was cut between the last message and one of another ledger.

        Raises:
            BrokerUnavailable: Something was: ``open`` says what there is.
        """
        ledgers = self._admin.ledgers(partition.suffix)
        skipped = ledgers.entries_after(partition.last) - ledgers.entries_after(
            PulsarPlace(place.ledger, place.entry - 1)
        )
        if not _is_kept(partition.last, ledgers) or skipped:
            message = f"between {partition.last} and {place} of partition {partition.number} messages were cut"
            raise self._unavailable(message)

    def _check_connected(self) -> None:
        """Check that nothing came because there is nothing.

        Raises:
            BrokerUnavailable: A reader has lost its broker.
        """
        for each in self._partitions:
            if not each.reader.is_connected():
                message = f"partition {each.number} is not connected"
                raise self._unavailable(message)
            self._lag[str(each.number)] = 0

    def is_outdated(self) -> bool:
        """Return whether the topic has other partitions than those that are read. One request, and one for each lag."""
        for each in self._partitions:
            self._lag[str(each.number)] = self._admin.ledgers(each.suffix).entries_after(each.last)
        return self._admin.partitions() != self._count

    def lag(self) -> Mapping[str, int]:
        """Return how many entries each partition had behind the last poll; a batch of messages is one entry."""
        return dict(self._lag)

    def delay(self) -> str:
        """Return that nothing is kept back."""
        return ""

    def show(self, positions: Mapping[str, str]) -> None:
        """Acknowledge up to the entry before each position, without waiting; nothing here reads it."""
        for partition, text in positions.items():
            hint, place = self._hints.get(int(partition)), place_of(text)
            if hint is not None and place is not None and place.entry > 0:
                self._acknowledge(hint, place)

    def _acknowledge(self, hint: Any, place: PulsarPlace) -> None:  # noqa: ANN401  of the library
        try:
            hint.acknowledge_cumulative(self._library.MessageId(-1, place.ledger, place.entry - 1, -1))
        except self._library.PulsarException as error:
            _LOGGER.warning("the subscription %s is not shown at %s: %s", self._options.subscription, place, error)

    def close(self) -> None:
        """Release connections and threads."""
        self._drop()
        self._admin.close()

    def _drop(self) -> None:
        """Close what is open; a client that cannot close in order has lost its broker already."""
        self._partitions, self._hints, self._lag = [], {}, {}
        client, self._client = self._client, None
        if client is not None:
            client.shutdown()

    def _unavailable(self, error: object) -> BrokerUnavailable:
        return BrokerUnavailable(f"Pulsar at {self._options.client.service_url}, topic {self._name}: {error}")


_LOGGER = logging.getLogger("midstream.integrations.pulsar")


def _is_kept(place: PulsarPlace, ledgers: Ledgers) -> bool:
    """Return whether all that follows a place is kept, and the place is one that there was.

    An empty ledger is removed without a loss: a place before its first entry is kept by whatever came after it.
    """
    if place.order > ledgers.last.order:
        return False
    return place.ledger in ledgers.entries or (place.entry < 0 and place.ledger < ledgers.first.ledger)


def _read(library: Any, reader: Any, wait_ms: int) -> Any:  # noqa: ANN401  of the library
    """Return the next message, None where none came."""
    try:
        return reader.read_next(wait_ms)
    except library.Timeout:
        return None


def _headers(properties: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value[:HEADER_CHARS_MAX] for name, value in tuple(properties.items())[:HEADERS_MAX]}
