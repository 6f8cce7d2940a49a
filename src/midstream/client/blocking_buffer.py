"""Buffer of events with a thread of its own that sends them in batches."""

import sys
import threading
from collections import Counter
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Self

from midstream.client.client_errors import BufferEnded, BufferFull, ClientError
from midstream.client.event_batches import BatchQueue, BufferOptions, EventOutcome
from midstream.client.requests import Event

if TYPE_CHECKING:
    from midstream.client.blocking_client import Client
    from midstream.core.answers.events import EventsAnswer


class EventBuffer:
    """Events on their way to a server; several threads may add."""

    def __init__(self, client: "Client", options: BufferOptions) -> None:
        """Start the thread."""
        self._client = client
        self._options = options
        self._monotonic = client.session.edge.monotonic
        self._queue: BatchQueue[Future[EventOutcome]] = BatchQueue(options, client.session.edge.new_id)
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._send, name="midstream-events", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Return the buffer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what waits, and end the thread."""
        self.close()

    @property
    def counts(self) -> Counter[str]:
        """Events by outcome so far."""
        with self._changed:
            return self._queue.counts.copy()

    def add(self, event: Event) -> "Future[EventOutcome]":
        """Add an event; the future has its outcome once its batch was answered.

        Raises:
            BufferFull: There was no room within ``room_s_max``.
            TypeError: A value of the event has no form in JSON; the buffer goes on without it.
            ValueError: The buffer is closed, or has ended by an error; or a text of the event is no Unicode.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._queue.has_room or self._is_closed, self._options.room_s_max):
                raise BufferFull(f"{self._options.events_max} events wait for the server; none left in time.")
            if self._is_closed:
                message = "the buffer is closed"
                raise ValueError(message)
            waiter: Future[EventOutcome] = Future()
            self._queue.add(event, self._monotonic(), waiter)
            self._changed.notify_all()
            return waiter

    def flush(self) -> None:
        """Send what waits, and return when each event added before has its outcome."""
        with self._changed:
            added = self._queue.flush()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._queue.settled >= added)

    def close(self) -> None:
        """Send what waits, and end the thread; each batch has the deadline of a call."""
        with self._changed:
            self._is_closed = True
            self._queue.flush()
            self._changed.notify_all()
        self._thread.join()

    def _send(self) -> None:
        try:
            self._send_batches()
        finally:
            with self._changed:
                self._is_closed = True
                for waiter, outcome in self._queue.fail(BufferEnded(f"The buffer ended: {sys.exception()!r}.")):
                    if not waiter.done():
                        waiter.set_result(outcome)
                self._changed.notify_all()

    def _send_batches(self) -> None:
        while True:
            with self._changed:
                while (due_s := self._queue.due_in_s(self._monotonic())) != 0:
                    if due_s is None and self._is_closed:
                        return
                    self._changed.wait(due_s)
                batch = self._queue.take()
            try:
                result: EventsAnswer | ClientError = self._client.record([each.event for each in batch])
            except ClientError as error:
                result = error
            with self._changed:
                outcomes = self._queue.settle(batch, result)
                for each, outcome in zip(batch, outcomes, strict=False):
                    if each.waiter.set_running_or_notify_cancel():
                        each.waiter.set_result(outcome)
                self._changed.notify_all()
