"""Supervised client of a store: opened in the background, shared by all that name the same server, called with bounds.

A request waits some milliseconds at most, and is then cut off. What it began goes on here with a time of its own, so
that a late answer costs that request its columns and not the connection, and a connection that takes longer than a
request is made all the same. While the store is down a call fails at once; a new client is tried again and again.

A client belongs to the event loop that made it, and is never used in another process.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Generator, Hashable
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, cast
from weakref import WeakKeyDictionary

from midstream.core.errors import ExtraMissing, StoreUnavailable
from midstream.engine.stores.online_store import StoreRefused

C = TypeVar("C")
T = TypeVar("T")
CALLS_MAX = 256
"""Under way at once, of one client: more than its connections answer within a second of a store that is slow."""
OPEN_S_MAX = 10.0
"""Of one attempt to open: a driver that looks at a cluster's tables takes a second or two."""
AGAIN_S_MIN = 0.1
AGAIN_S_MAX = 1.0
"""Between two attempts to open; doubles from one to the other. With a start of some seconds a store is used again in
less than five after it is back."""
CLOSE_S_MAX = 1.0
REASON_CHARS_MAX = 200
"""Of an error of a server, which may repeat a whole statement."""


class Connector(Generic[C]):
    """One client, and the calls that it has under way."""

    def __init__(
        self,
        name: str,
        make: Callable[[], Awaitable[C]],
        end: Callable[[C], Awaitable[None]],
        failures: Callable[[], tuple[type[Exception], ...]],
        call_s_max: float,
    ) -> None:
        """Prepare a client that is not opened.

        Args:
            name: Of the server, for errors: ``Redis at 10.0.0.1:6379``.
            make: Opens a client and has it answer once.
            end: Closes one.
            failures: Returns the errors of the client library; called once there is a client.
            call_s_max: After it a call is given up.
        """
        self.name = name
        self._make = make
        self._end = end
        self._failures = failures
        self._call_s_max = call_s_max
        self._client: C | None = None
        self._opening: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[Any]] = set()
        self._fault: BaseException | None = None
        self._is_closed = False
        self._places: asyncio.Semaphore | None = None
        self._waiting = 0
        self._left_s_max: float | None = None

    def sharing(self, places: int, left_s_max: float) -> "Connector[C]":
        """Have callers wait for one of some places before they begin, and end soon what they leave to itself.

        Args:
            places: Calls under way at once. Who is cut off in the wait for one has begun nothing.
            left_s_max: How long a call goes on behind a caller that is cut off.
        """
        self._places, self._left_s_max = asyncio.Semaphore(places), left_s_max
        return self

    @property
    def fault(self) -> str:
        """Why there is no client; empty = there is one, or its first attempt is under way."""
        return "" if self._fault is None else str(self._fault) or type(self._fault).__name__

    def start(self) -> None:
        """Open it in the background, unless it is open or being opened."""
        if self._client is None and self._opening is None and not self._is_closed:
            self._opening = asyncio.ensure_future(self._open())

    async def opened(self, wait_s_max: float = OPEN_S_MAX) -> None:
        """Wait until it is open.

        Raises:
            StoreUnavailable: It is not by then.
            StoreRefused: The store refuses the client.
            ExtraMissing: The client library is not installed.
        """
        self.start()
        if (opening := self._opening) is not None:
            await asyncio.wait((opening,), timeout=wait_s_max)
        if self._client is None:
            raise self._unavailable()

    async def call(self, work: Callable[[C], Awaitable[T]], *, goes_on: bool = True) -> T:
        """Return the result of some work with the client.

        Args:
            work: Uses the client.
            goes_on: A caller that is cancelled leaves the work to itself, which keeps its connection. False = the work
                is cancelled too, where that costs no connection.

        Raises:
            StoreUnavailable: There is no client, too many calls are under way, or the work took too long.
            Exception: As the work raises it, but for errors of the client library.
        """
        if self._client is None:
            self.start()
            if self._fault is None and (opening := self._opening) is not None:
                await asyncio.shield(opening)  # the first attempt
            if self._client is None:
                raise self._unavailable()
        if len(self._calls) + self._waiting >= CALLS_MAX:
            message = f"{self.name}: {CALLS_MAX} calls are under way already"
            raise StoreUnavailable(message)
        await self._place()
        task = asyncio.ensure_future(self._bounded(work, self._client))
        self._calls.add(task)
        task.add_done_callback(self._done)
        if not goes_on:
            return await task
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._left_s_max is not None and not task.done():
                ending = asyncio.get_running_loop().call_later(self._left_s_max, task.cancel)
                task.add_done_callback(lambda _: ending.cancel())
            raise

    async def close(self) -> None:
        """End what is under way and close the client."""
        self._is_closed = True
        tasks = [*self._calls, *(() if self._opening is None else (self._opening,))]
        for each in tasks:
            each.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S_MAX)
        client, self._client = self._client, None
        if client is not None:
            await asyncio.wait((asyncio.ensure_future(self._end(client)),), timeout=CLOSE_S_MAX)

    async def _open(self) -> None:
        """Open it; after a failure go on in a task of its own, so that nobody waits for it any more."""
        await self._try()
        self._opening = None
        if self._client is None and not isinstance(self._fault, ExtraMissing):
            self._opening = asyncio.ensure_future(self._open_again())

    async def _open_again(self) -> None:
        wait_s = AGAIN_S_MIN
        while self._client is None:
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, AGAIN_S_MAX)
            await self._try()
        self._opening = None

    async def _try(self) -> None:
        """Make one attempt; whatever the library raises is the state of the connection."""
        (self._fault,) = await asyncio.gather(asyncio.wait_for(self._take(), OPEN_S_MAX), return_exceptions=True)

    async def _take(self) -> None:
        """Keep a client as soon as there is one: whoever closes this meanwhile finds it."""
        self._client = await self._make()

    async def _place(self) -> None:
        """Wait for a place, where there are so many; nothing is awaited between it and the call's task."""
        if self._places is None:
            return
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        if self._client is None:
            self._places.release()
            raise self._unavailable()

    async def _bounded(self, work: Callable[[C], Awaitable[T]], client: C) -> T:
        try:
            return await asyncio.wait_for(work(client), self._call_s_max)
        except TimeoutError as error:
            message = f"{self.name} gave no answer within {self._call_s_max:g} s"
            raise StoreUnavailable(message) from error
        except self._failures() as error:
            message = f"{self.name}: {type(error).__name__}: {str(error)[:REASON_CHARS_MAX]}"
            raise StoreUnavailable(message) from error

    def _done(self, task: asyncio.Task[Any]) -> None:
        """Forget a call; the exception of one that nobody waits for any more is consumed."""
        self._calls.discard(task)
        if self._places is not None:
            self._places.release()
        if not task.cancelled():
            task.exception()

    def _unavailable(self) -> Exception:
        if isinstance(self._fault, (ExtraMissing, StoreRefused)):
            return self._fault
        told = "it is closed" if self._is_closed else self.fault or "it is being connected"
        return StoreUnavailable(f"{self.name} is not connected: {told}")


_OF_LOOPS: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[int, dict[Hashable, Connector[Any]]]] = (
    WeakKeyDictionary()
)
"""By event loop: the process, and its connectors. One loop a process in a server."""


def connector_of(key: Hashable, make: Callable[[], Connector[C]]) -> Connector[C]:
    """Return the connector of the running event loop under a key, which has all that decides the client."""
    loop, own = asyncio.get_running_loop(), os.getpid()
    process, known = _OF_LOOPS.get(loop, (own, {}))
    if process != own:  # of a parent, whose connections are its own
        known = {}
    _OF_LOOPS[loop] = own, known
    if key not in known:
        known[key] = make()
    return cast("Connector[C]", known[key])


async def close_connectors() -> None:
    """Close all clients of the running event loop, at its end."""
    _, known = _OF_LOOPS.pop(asyncio.get_running_loop(), (0, {}))
    await asyncio.gather(*(each.close() for each in known.values()))


@contextmanager
def closing_runner() -> Generator[asyncio.Runner]:
    """Give an event loop of one's own, whose clients are closed at its end."""
    with asyncio.Runner() as runner:
        try:
            yield runner
        finally:
            runner.run(close_connectors())
