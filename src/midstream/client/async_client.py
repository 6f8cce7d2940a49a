"""Client on an event loop: each operation is a coroutine, each list an asynchronous iterator."""

import asyncio
from types import TracebackType
from typing import Self

import httpx

from midstream.client.async_buffer import AsyncEventBuffer
from midstream.client.bound_operations import AwaitingDriver
from midstream.client.event_batches import BufferOptions
from midstream.client.exchange import Attempt, ClientOptions, Exchange, HttpReply, NoReply, Outcome, T
from midstream.client.host import headers_of, no_reply, reply_of, session_of
from midstream.client.operations import Operations


class AsyncClient(Operations, AwaitingDriver):
    """Connection to a server, for one event loop.

    Example:
        >>> async def main():  # doctest: +SKIP
        ...     async with AsyncClient("http://127.0.0.1:8765") as client:
        ...         await client.record({"type": "view", "user_id": "ann", "item_id": "lamp"})
        ...         return (await client.recommend(user_id="ann", n=5)).items
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        options: ClientOptions = ClientOptions(),  # noqa: B008  frozen
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Open no connection yet.

        Args:
            url: Of the server, with the path of a mount behind it.
            key: API key.
            options: Attempts, deadlines, memory.
            transport: Instead of the network, such as ``httpx.ASGITransport`` for an application in this process.

        Raises:
            ValueError: The address is none, or an option is out of its bounds.
        """
        self.session = session_of(url, options)
        self._http = httpx.AsyncClient(headers=headers_of(key), transport=transport)

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def buffer(self, options: BufferOptions = BufferOptions()) -> AsyncEventBuffer:  # noqa: B008  frozen
        """Return a buffer that sends events in batches from a task of its own; use it in an ``async with`` block."""
        return AsyncEventBuffer(self, options)

    async def drive(self, exchange: Exchange[T]) -> T:
        """Return the result of an exchange."""
        outcome: Outcome = None
        while True:
            try:
                step = exchange.send(outcome)
            except StopIteration as ended:
                result: T = ended.value
                return result
            if isinstance(step, Attempt):
                outcome = await self._attempt(step)
            else:
                outcome = None
                await asyncio.sleep(step.seconds)

    async def _attempt(self, attempt: Attempt) -> HttpReply | NoReply:
        request = attempt.request
        headers = {} if request.body is None else {"content-type": request.content_type}
        url = f"{self.session.url}{request.target}"
        try:
            response = await self._http.request(
                request.method, url, content=request.body, headers=headers, timeout=attempt.timeout_s
            )
        except httpx.RequestError as error:
            return no_reply(error)
        return reply_of(response)
