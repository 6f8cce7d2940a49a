"""Pulsar producer of an output: records once by deduplication, fencing, and a look behind the last known place.

The Python client has no transactions, so records and position are two writes. The position, with the place of the last
record in each partition, is a message of a topic of its own, written behind the records. A start takes all topics over,
waits until nothing of the process before is on its way, and reads each partition from its place to its end: records
that are found there were delivered by a process that did not come to write their position, and are left out when their
events come again. Within one connection the broker drops what the client repeats (deduplication by producer name).

The broker's own "last sequence id" is not what a start goes by: of a batch it is that of the first message, and it is
forgotten after some hours without the producer. So the answer that a record was there already is no proof either: the
delivery ends as failed, and the next start looks what is there.

Reference: https://pulsar.apache.org/docs/4.0.x/concepts-messaging/#access-mode, and PIP-6 (deduplication).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import msgspec

from midstream.engine.inputs.broker_consumer import BrokerUnavailable
from midstream.engine.outbox.log_destination import DeliveredPosition, DestinationFenced, DestinationUnavailable
from midstream.engine.outbox.output_records import OutputRecord
from midstream.integrations.pulsar.admin import ENABLED, PulsarAdmin, suffixes
from midstream.integrations.pulsar.client_options import PulsarClientOptions, TokenMissing, make_client, token_of
from midstream.integrations.pulsar.library import pulsar
from midstream.integrations.pulsar.output_topics import OutputTopic, entry_of
from midstream.integrations.pulsar.positions import PulsarPlace, full_name, place_of

POSITIONS = "-positions-"
"""Between the name of the topic and that of log and output: the topic of the position."""
SETTLE_S_MAX = 10.0
"""Until all that the process before had sent is stored: a bookie that is slow is given up by the broker after that."""
_SETTLE_S = 0.05
REPORT_S_MAX = 5.0
"""Until what a flush has stored is reported by the threads of the client."""
_OWNER = "midstream-"
"""Begins the names of all producers: behind it are the name of the log and that of the output."""
_ALONE = "give each output a topic of its own"
_NOT_STORED = "the broker says that it had it already; the topic is read to see what is there"
"""It goes by the producer's numbers alone, and a number may have been given to something else."""
_HASH_MASK = 0x7FFF_FFFF


class _Stored(msgspec.Struct, frozen=True):
    """A message of the topic of positions."""

    position: str
    places: dict[str, str]
    """Of the last record of each partition, so that what is behind them was delivered without a position."""


@dataclass(eq=False)
class _Partition:
    """One partition of the topic of the records."""

    topic: OutputTopic
    place: PulsarPlace
    """Behind it are the records in ``found``, and those of the delivery under way."""
    end: PulsarPlace
    """Of its last record."""
    found: set[int] = field(default_factory=set[int])
    """Log positions of records that were delivered, and whose position was not stored."""

    def passed(self, log_position: int) -> PulsarPlace:
        """Return the place up to which all records are of events before a log position."""
        self.found = {each for each in self.found if each >= log_position}
        if not self.found:
            self.place = self.end
        return self.place


@dataclass(eq=False)
class _Session:
    """What a producer has open since its last start."""

    client: Any
    partitions: list[_Partition]
    positions: OutputTopic
    log_position: int
    """Of the position that is stored; −1 = there is none."""


class PulsarOutputProducer:
    """A ``RecordProducer`` of one topic of Pulsar, which nobody else produces to meanwhile."""

    def __init__(self, client: PulsarClientOptions, topic: str, key: str, environ: Mapping[str, str]) -> None:
        """Prepare a producer; the broker is asked for nothing yet.

        Args:
            client: Of the connection.
            topic: Of the records; it must exist.
            key: Of log and output, with a dash between: names the position, and the process that may deliver.
            environ: Variables with tokens.

        Raises:
            ExtraMissing: ``pulsar-client`` is not installed.
            DestinationUnavailable: A variable is not set.
        """
        self._library = pulsar()
        self._client, self._owner = client, f"{_OWNER}{key}"
        self._shop = f"{_OWNER}{key.partition('-')[0]}-"
        self._name = full_name(topic)
        self._positions = f"{self._name}{POSITIONS}{key}"
        try:
            self._token = token_of(client, environ)
        except TokenMissing as error:
            raise DestinationUnavailable(str(error)) from error
        self._session: _Session | None = None

    def resume(self) -> str | None:
        """Fence whoever delivered before, and return the position that is stored."""
        self._drop()
        admins = [PulsarAdmin(self._client, name, self._token) for name in (self._name, self._positions)]
        client = make_client(self._client, self._token)
        try:
            self._session, text = self._open(client, *admins)
        except (self._library.PulsarException, BrokerUnavailable) as error:
            raise self._unavailable(error) from error
        finally:
            for each in admins:
                each.close()
            if self._session is None:
                client.shutdown()
        return text

    def _open(self, client: Any, records: PulsarAdmin, positions: PulsarAdmin) -> tuple[_Session, str | None]:  # noqa: ANN401  of the library
        """Take the topics over, that of the position first: so no older one is written behind what is read here."""
        parts = suffixes(records.partitions())
        self._require_alone([name for each in parts for name in records.producers(each)])
        positions.make()
        own = OutputTopic(client, self._positions, self._owner, is_batched=False)
        topics = [OutputTopic(client, f"{self._name}{each}", self._owner, is_batched=True) for each in parts]
        self._require_deduplication([records.deduplication(each) for each in parts])
        _settled(positions, "")
        stored, place = _newest(own, positions.ledgers("").newest)
        own.keep_from(place)
        partitions: list[_Partition] = []
        for number, (suffix, topic) in enumerate(zip(parts, topics, strict=True)):
            _settled(records, suffix)
            ledgers = records.ledgers(suffix)
            if stored is None:
                partitions.append(_Partition(topic, ledgers.last, ledgers.last))
            else:
                known = place_of(stored.places.get(str(number), "")) or ledgers.first
                partitions.append(_read_on(topic, known, ledgers.newest))
        text = None if stored is None else stored.position
        position = -1 if text is None else DeliveredPosition.of_text(text).log_position
        return _Session(client, partitions, own, position), text

    def _require_alone(self, producers: Sequence[str]) -> None:
        """Refuse a topic to which another output of this log delivers now: both would fence each other for ever.

        The configuration tells it where both name the cluster alike.

        Raises:
            DestinationUnavailable: There is one.
        """
        for each in producers:
            if each.startswith(self._shop) and each != self._owner:
                other = each.removeprefix(self._shop)
                raise self._unavailable(f'the output "{other}" of this shop delivers there: {_ALONE}')

    def _require_deduplication(self, found: Sequence[str]) -> None:
        """Refuse topics in which a message that the client sends again is there twice.

        Raises:
            DestinationUnavailable: There is one.
        """
        if off := {each for each in found if each != ENABLED}:
            namespace = self._name.partition("://")[2].rpartition("/")[0]
            right = f"`pulsar-admin namespaces set-deduplication {namespace} --enable` turns it on"
            message = f"deduplication is {', '.join(sorted(off))}, and an output needs it; {right}"
            raise self._unavailable(message)

    def deliver(self, records: Sequence[OutputRecord], upto: DeliveredPosition) -> None:
        """Store the records that are not there yet, then the position."""
        session = self._session
        if session is None:
            message = f"Pulsar at {self._client.service_url}: the delivery before failed"
            raise DestinationUnavailable(message)
        is_done = False
        try:
            self._send(session, records, upto)
            is_done = True
        except self._library.PulsarException as error:
            raise self._unavailable(error) from error
        finally:
            if not is_done:  # what became of it is read by the next start
                self._drop()

    def _send(self, session: _Session, records: Sequence[OutputRecord], upto: DeliveredPosition) -> None:
        partitions = session.partitions
        if upto.log_position <= session.log_position:  # an operator moved it back: all after it comes again
            for each in partitions:
                each.found.clear()
        results: SimpleQueue[Any] = SimpleQueue()
        sent_count = 0
        for record in records:
            partition = partitions[_partition(record, len(partitions))]
            if record.log_position not in partition.found:
                _send(partition, record, self._reported(partition, results))
                sent_count += 1
        for each in partitions:
            each.topic.producer.flush()
        self._require_stored(results, sent_count)
        places = {str(number): str(each.passed(upto.log_position)) for number, each in enumerate(partitions)}
        body = msgspec.json.encode(_Stored(upto.text, places))
        stored = entry_of(session.positions.producer.send(body))
        if stored.entry < 0:
            raise self._unavailable(f"of the position {_NOT_STORED}")
        session.log_position = upto.log_position
        session.positions.keep_from(stored)
        for each in partitions:
            each.topic.keep_from(each.place)

    def _reported(self, partition: _Partition, results: SimpleQueue[Any]) -> Callable[[Any, Any], None]:
        """Return what is called when the broker has answered; a record that it took for a copy has no place."""

        def reported(result: Any, found: Any) -> None:  # noqa: ANN401  of the library
            is_stored = result == self._library.Result.Ok
            place = entry_of(found) if is_stored else partition.end
            if place.order > partition.end.order:
                partition.end = place
            results.put(f"of a record {_NOT_STORED}" if place.entry < 0 and is_stored else result)

        return reported

    def _require_stored(self, results: SimpleQueue[Any], sent_count: int) -> None:
        """Refuse a delivery of which a record failed, or was not reported on.

        The client's threads report some time after a flush has returned: they wait for the interpreter's lock.

        Raises:
            DestinationUnavailable: There is one.
        """
        until = time.monotonic() + REPORT_S_MAX
        for number in range(sent_count):
            try:
                result = results.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                raise self._unavailable(f"{number} of {sent_count} records were confirmed") from None
            if result != self._library.Result.Ok:
                raise self._unavailable(result)

    def close(self) -> None:
        """Release connections and threads."""
        self._drop()

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.client.shutdown()

    def _unavailable(self, error: object) -> DestinationUnavailable:
        message = f"Pulsar at {self._client.service_url}, topic {self._name}: {error}"
        library = self._library
        if isinstance(error, library.ProducerFenced) or error == library.Result.ProducerFenced:
            return DestinationFenced(f"{message}: another process delivers there, or another output: {_ALONE}")
        return DestinationUnavailable(message)


def _newest(topic: OutputTopic, place: PulsarPlace) -> tuple[_Stored | None, PulsarPlace]:
    """Return the newest stored position and its place, from that of the newest entry."""
    found, at = None, place
    for each, message in topic.behind(place._replace(entry=max(-1, place.entry - 1)), place):
        found, at = msgspec.json.decode(message.data(), type=_Stored), each
    return found, at


def _read_on(topic: OutputTopic, place: PulsarPlace, newest: PulsarPlace) -> _Partition:
    """Return a partition whose records behind a place are known."""
    partition = _Partition(topic, place, place)
    for partition.end, message in topic.behind(place, newest):
        if topic.is_own(message):
            partition.found.add(int(message.properties()["log_position"]))
    return partition


def _settled(admin: PulsarAdmin, suffix: str) -> None:
    """Wait until all that a partition was sent is stored.

    Raises:
        BrokerUnavailable: It is not in time.
    """
    until = time.monotonic() + SETTLE_S_MAX
    while admin.pending(suffix):
        if time.monotonic() > until:
            message = "entries of the process before are not stored yet"
            raise BrokerUnavailable(message)
        time.sleep(_SETTLE_S)


def _send(partition: _Partition, record: OutputRecord, sent: Callable[[Any, Any], None]) -> None:
    key = record.key or None
    partition.topic.producer.send_async(record.value, sent, properties=dict(record.headers), partition_key=key)


def _partition(record: OutputRecord, count: int) -> int:
    """Return the partition of a record, by its key as Java's client has it; of one without a key by its log position.

    It is the same whenever the record comes.
    """
    if count == 1 or not record.key:
        return record.log_position % count
    units, found = record.key.encode("utf-16-le", "surrogatepass"), 0
    for low, high in zip(units[::2], units[1::2], strict=True):
        found = (31 * found + (high << 8 | low)) & 0xFFFF_FFFF
    return (found & _HASH_MASK) % count
