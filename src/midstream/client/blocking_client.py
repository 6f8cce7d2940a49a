"""Client that blocks: each operation returns its result on the calling thread."""

import time
from types import TracebackType
from typing import Self

import httpx

from midstream.client.blocking_buffer import EventBuffer
from midstream.client.bound_operations import BlockingDriver
from midstream.client.event_batches import BufferOptions
from midstream.client.exchange import Attempt, ClientOptions, Exchange, HttpReply, NoReply, Outcome, T
from midstream.client.host import headers_of, no_reply, reply_of, session_of
from midstream.client.operations import Operations


class Client(Operations, BlockingDriver):
    """Connection to a server, for threads: several may share one client.

    Example:
        >>> with Client("http://127.0.0.1:8765", key="ms_…") as client:  # doctest: +SKIP
        ...     client.record({"type": "view", "user_id": "ann", "item_id": "lamp"})
        ...     client.recommend(user_id="ann", n=5).items
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        options: ClientOptions = ClientOptions(),  # noqa: B008  frozen
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Open no connection yet.

        Args:
            url: Of the server, with the path of a mount behind it.
            key: API key.
            options: Attempts, deadlines, memory.
            transport: Instead of the network.

        Raises:
            ValueError: The address is none, or an option is out of its bounds.
        """
        self.session = session_of(url, options)
        self._http = httpx.Client(headers=headers_of(key), transport=transport)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def buffer(self, options: BufferOptions = BufferOptions()) -> EventBuffer:  # noqa: B008  frozen
        """Return a buffer that sends events in batches from a thread of its own; use it in a ``with`` block."""
        return EventBuffer(self, options)

    def drive(self, exchange: Exchange[T]) -> T:
        """Return the result of an exchange."""
        outcome: Outcome = None
        while True:
            try:
                step = exchange.send(outcome)
            except StopIteration as ended:
                result: T = ended.value
                return result
            if isinstance(step, Attempt):
                outcome = self._attempt(step)
            else:
                outcome = None
                time.sleep(step.seconds)

    def _attempt(self, attempt: Attempt) -> HttpReply | NoReply:
        request = attempt.request
        headers = {} if request.body is None else {"content-type": request.content_type}
        url = f"{self.session.url}{request.target}"
        try:
            response = self._http.request(
                request.method, url, content=request.body, headers=headers, timeout=attempt.timeout_s
            )
        except httpx.RequestError as error:
            return no_reply(error)
        return reply_of(response)
