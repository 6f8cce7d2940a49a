"""Output as a destination of the log: events become records, which a producer of a broker stores with the position.

A producer may block, so it has a thread of its own; a call that was cancelled goes on there, and the next one waits for
its end. The thread is a daemon: the process ends also while a broker that is gone is waited for.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from midstream.core.errors import EventsGone, NotFound
from midstream.core.protocols import LogReader
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.daemon_thread import DaemonThread
from midstream.engine.outbox.log_destination import DeliveredPosition
from midstream.engine.outbox.output_records import OutputRecord, RecordOptions, records_of, requests_in
from midstream.events.schema import texts_of
from midstream.ranking.record.served import ServedRecord, decode_served
from midstream.state.fold import Fold
from midstream.state.structures.hashing import id_hash

FOUND_AT_ONCE = 200
"""Requests that are looked up between two turns of others: 1 ms."""
_BODY = 6
T = TypeVar("T")


class RecordProducer(Protocol):
    """Stores records in a topic, and with them the position after them. One thread at a time; calls may block."""

    def resume(self) -> str | None:
        """Return the text of the position up to which records are stored, None = there is none yet.

        Deliveries that were under way are completed or undone first, and another process under the same name is fenced
        or keeps this one out.

        Raises:
            DestinationUnavailable: The broker could not be reached, or lacks the topic.
        """
        ...

    def deliver(self, records: Sequence[OutputRecord], upto: DeliveredPosition) -> None:
        """Store records, none or more, and ``upto.text``; durable on return.

        Raises:
            DestinationUnavailable: The records may or may not be stored; ``resume`` says which.
        """
        ...

    def close(self) -> None:
        """Release connections and threads."""
        ...


class OutputDestination:
    """A ``LogDestination`` that makes records and hands them to a producer."""

    def __init__(
        self,
        name: str,
        options: RecordOptions,
        producer: RecordProducer,
        fold: Callable[[], Fold],
        open_log: Callable[[], LogReader],
    ) -> None:
        """Deliver to ``producer``.

        Args:
            name: Of the output.
            options: Which records.
            producer: Taken over; it is used on one thread alone.
            fold: Returns the state in service, which knows where served records are.
            open_log: Opens a reader of the log, to read these; on the thread of the producer.
        """
        self._options = options
        self._producer = producer
        self._fold = fold
        self._open_log = open_log
        self._thread = DaemonThread(f"midstream-output-{name}")

    async def resume(self) -> DeliveredPosition | None:
        """Return where the topic stands."""
        text = await self._call(self._producer.resume)
        return None if text is None else DeliveredPosition.of_text(text)

    async def deliver(self, first: LogPosition, batch: EventBatch, upto: DeliveredPosition) -> None:
        """Store the records of some events, with the position after them."""
        names = await self._call(lambda: requests_in(batch, self._options))
        places = await self._places(names)
        end = upto.log_position

        def work() -> None:
            served = _served(self._open_log(), places, end) if places else {}
            records = records_of(first, batch, self._options, served.get)
            self._producer.deliver(records, upto)

        await self._call(work)

    async def close(self) -> None:
        """Close the producer behind what is under way; the thread ends after that, however long it takes."""
        try:
            await self._call(self._producer.close)
        finally:
            self._thread.end()

    async def _call(self, work: Callable[[], T]) -> T:
        return await self._thread.call(work)

    async def _places(self, request_ids: frozenset[str]) -> dict[str, LogPosition]:
        """Return where the served records of some requests are, of those that are known."""
        found: dict[str, LogPosition] = {}
        for number, request_id in enumerate(sorted(request_ids)):
            if number % FOUND_AT_ONCE == FOUND_AT_ONCE - 1:
                await asyncio.sleep(0)
            fold = self._fold()
            place = fold.requests.find(id_hash(request_id, fold.vocabulary.id_key))
            if place is not None:
                found[request_id] = place
        return found


def _served(log: LogReader, places: dict[str, LogPosition], durable: LogPosition) -> dict[str, ServedRecord]:
    """Return the served records at some positions, by request id; one that was erased or cut is not there."""
    found: dict[str, ServedRecord] = {}
    for request_id, place in sorted(places.items(), key=lambda each: each[1]):
        try:
            ((_, batch), *_) = log.read(place, 1, max(durable, LogPosition(place + 1)))
            record = decode_served(texts_of(batch, 0)[_BODY])
        except (EventsGone, NotFound):
            continue
        if record.query.request_id == request_id:
            found[request_id] = record
    return found
