"""Topics of an output in Pulsar: producers that fence, messages that stay, and what is behind a place.

A producer of access mode ``ExclusiveWithFencing`` ends all others of its topic, and what they still send is refused. A
durable subscription that is never read keeps messages from being removed: it is acknowledged up to the entry before the
place from which a start would read.

Reference: PIP-68 (exclusive producer), PIP-6 (guaranteed message deduplication).
"""

from collections.abc import Iterator
from typing import Any

from midstream.integrations.pulsar.library import pulsar
from midstream.integrations.pulsar.positions import PulsarPlace

SEND_MS_MAX = 20_000
"""Until a message that is not acknowledged has failed: less than a relay waits for a call."""
READ_MS_MAX = 5_000
"""For a message that the broker says is there."""
LINGER_MS = 2
"""A batch waits for further messages: a delivery hands over all it has at once."""


class OutputTopic:
    """One topic, or one partition, that an output writes alone. One thread at a time."""

    def __init__(self, client: Any, name: str, owner: str, *, is_batched: bool) -> None:  # noqa: ANN401  of the library
        """Take the topic over: every other producer of it is fenced.

        Args:
            client: Of the library.
            name: Full name.
            owner: Of the producer and of the subscription.
            is_batched: Whether messages share entries.

        Raises:
            PulsarException: The broker refuses, or does not answer.
        """
        library = pulsar()
        self._client, self._name, self._owner, self._library = client, name, owner, library
        self._hint: Any = client.subscribe(
            name,
            owner,
            consumer_type=library.ConsumerType.Failover,
            initial_position=library.InitialPosition.Earliest,
            receiver_queue_size=0,
        )
        self.producer: Any = client.create_producer(
            name,
            producer_name=owner,
            access_mode=library.ProducerAccessMode.ExclusiveWithFencing,
            send_timeout_millis=SEND_MS_MAX,
            block_if_queue_full=True,
            compression_type=library.CompressionType.LZ4,
            batching_enabled=is_batched,
            batching_max_publish_delay_ms=LINGER_MS,
        )

    def behind(self, place: PulsarPlace, newest: PulsarPlace) -> Iterator[tuple[PulsarPlace, Any]]:
        """Yield the messages behind an entry, each with the place of its own entry, up to the end of the topic.

        Args:
            place: Of a whole entry: a broker stores a batch or nothing of it.
            newest: Of the newest entry. Where it is known already no reader is made: one says of the end of a batch
                that a message follows.

        Raises:
            PulsarException: The broker does not answer, or a message does not come in time.
        """
        if newest.entry < 0 or place.order >= newest.order:
            return
        reader = self._client.create_reader(self._name, self._library.MessageId(-1, *place))
        try:
            while reader.has_message_available():
                message = reader.read_next(READ_MS_MAX)
                found = entry_of(message.message_id())
                if found.order > place.order:
                    yield found, message
        finally:
            reader.close()

    def is_own(self, message: Any) -> bool:  # noqa: ANN401  of the library
        """Return whether a producer of this owner wrote a message."""
        return bool(message.producer_name() == self._owner)

    def keep_from(self, place: PulsarPlace) -> None:
        """Let the broker remove what is before an entry."""
        if place.entry > 0:
            self._hint.acknowledge_cumulative(self._library.MessageId(-1, place.ledger, place.entry - 1, -1))


def entry_of(found: Any) -> PulsarPlace:  # noqa: ANN401  of the library
    """Return the place of the whole entry of a ``MessageId``."""
    return PulsarPlace(found.ledger_id(), found.entry_id())
