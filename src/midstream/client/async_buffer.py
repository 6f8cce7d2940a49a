"""Buffer of events with a task of its own that sends them in batches."""

import asyncio
import sys
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

from midstream.client.client_errors import BufferEnded, BufferFull, ClientError
from midstream.client.event_batches import BatchQueue, BufferOptions, EventOutcome
from midstream.client.requests import Event

if TYPE_CHECKING:
    from midstream.client.async_client import AsyncClient
    from midstream.core.answers.events import EventsAnswer


class AsyncEventBuffer:
    """Events on their way to a server, for one event loop."""

    def __init__(self, client: "AsyncClient", options: BufferOptions) -> None:
        """Hold nothing yet; the task starts with ``async with``."""
        self._client = client
        self._options = options
        self._monotonic = client.session.edge.monotonic
        self._queue: BatchQueue[asyncio.Future[EventOutcome]] = BatchQueue(options, client.session.edge.new_id)
        self._changed = asyncio.Condition()
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the task."""
        self._task = asyncio.create_task(self._send())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what waits, and end the task."""
        await self.close()

    @property
    def counts(self) -> Counter[str]:
        """Events by outcome so far."""
        return self._queue.counts.copy()

    async def add(self, event: Event) -> "asyncio.Future[EventOutcome]":
        """Add an event; the future has its outcome once its batch was answered.

        Raises:
            BufferFull: There was no room within ``room_s_max``.
            TypeError: A value of the event has no form in JSON; the buffer goes on without it.
            ValueError: The buffer is closed, has ended by an error, or was not opened; or a text of the event is no
                Unicode.
        """
        async with self._changed:
            try:
                async with asyncio.timeout(self._options.room_s_max):
                    await self._changed.wait_for(lambda: self._queue.has_room or self._is_closed)
            except TimeoutError as error:
                raise BufferFull(
                    f"{self._options.events_max} events wait for the server; none left in time."
                ) from error
            if self._is_closed or self._task is None:
                message = "the buffer is closed" if self._is_closed else "the buffer is opened by async with"
                raise ValueError(message)
            waiter: asyncio.Future[EventOutcome] = asyncio.get_running_loop().create_future()
            self._queue.add(event, self._monotonic(), waiter)
            self._changed.notify_all()
            return waiter

    async def flush(self) -> None:
        """Send what waits, and return when each event added before has its outcome."""
        async with self._changed:
            added = self._queue.flush()
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._queue.settled >= added)

    async def close(self) -> None:
        """Send what waits, and end the task; each batch has the deadline of a call.

        Where the caller is cancelled, the task goes on; closing again waits for it.
        """
        async with self._changed:
            self._is_closed = True
            self._queue.flush()
            self._changed.notify_all()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _send(self) -> None:
        try:
            await self._send_batches()
        finally:
            error = BufferEnded(f"The buffer ended: {sys.exception()!r}.")
            async with self._changed:
                self._is_closed = True
                for waiter, outcome in self._queue.fail(error):
                    if not waiter.done():
                        waiter.set_result(outcome)
                self._changed.notify_all()

    async def _send_batches(self) -> None:
        while True:
            async with self._changed:
                while (due_s := self._queue.due_in_s(self._monotonic())) != 0:
                    if due_s is None and self._is_closed:
                        return
                    await self._wait(due_s)
                batch = self._queue.take()
            try:
                result: EventsAnswer | ClientError = await self._client.record([each.event for each in batch])
            except ClientError as error:
                result = error
            async with self._changed:
                outcomes = self._queue.settle(batch, result)
                for each, outcome in zip(batch, outcomes, strict=False):
                    if not each.waiter.done():
                        each.waiter.set_result(outcome)
                self._changed.notify_all()

    async def _wait(self, due_s: float | None) -> None:
        """Wait for a change of the queue, ``due_s`` at most; None = for as long as it takes."""
        try:
            async with asyncio.timeout(due_s):
                await self._changed.wait()
        except TimeoutError:
            return
