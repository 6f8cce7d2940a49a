"""The Python API without HTTP: the same engine, on an event loop of its own in a thread of its own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypedDict, TypeVar, Unpack

from midstream.core.errors import RequestInvalid
from midstream.engine.running import Running
from midstream.engine.types import Answer, Ask, Recorded, Value
from midstream.events.decode import decode_objects
from midstream.events.wire import Accept

T = TypeVar("T")


class Request(TypedDict, total=False):
    """What a recommendation may be asked with, as in ``Ask``."""

    user_id: str | None
    session_id: str | None
    n: int | None
    items: tuple[str, ...]
    exclude: tuple[str, ...]
    filter: str | None
    context: Mapping[str, Value]
    fields: tuple[str, ...]


class Shop:
    """One open data folder for programs that embed the engine. Use it in a ``with`` block.

    Every method waits for its answer; several threads may call at once.
    """

    def __init__(self, running: Running, accept: Callable[[], Accept]) -> None:
        """Serve from ``running``; ``accept`` says what events may look like now."""
        self.running = running
        self._accept = accept
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="midstream", daemon=True)

    def __enter__(self) -> Self:
        """Start the engine."""
        self._thread.start()
        self._wait(self.running.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop gracefully: what was recorded is durable, the state is in a snapshot."""
        self.close()

    def close(self) -> None:
        """Stop gracefully; a second call does nothing."""
        if self._loop.is_closed():
            return
        if self._thread.is_alive():
            self._wait(self.running.stop)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        else:  # it was never entered, so nothing was started
            self.running.engine.log.close()
        self._loop.close()

    def record(self, events: Mapping[str, object] | Sequence[Mapping[str, object]]) -> Recorded:
        """Record an event or several, of the same form as ``POST /v1/events`` takes; durable and applied on return.

        Raises:
            RequestInvalid: An event cannot be used; every fault is named, and nothing was recorded.
            AppendFailed: The log could not be made durable.
            Overloaded: Too many events wait.
        """
        decoded = decode_objects([events] if isinstance(events, Mapping) else events, self._accept())
        if decoded.rejected:
            raise RequestInvalid(tuple(each.fault for each in decoded.rejected))
        return self._wait(lambda: self.running.engine.record(decoded.batch))

    def recommend(self, placement: str = "default", **request: Unpack[Request]) -> Answer:
        """Answer with a slate that has seen everything recorded before.

        Raises:
            NotFound: The placement is not configured.
            RequestInvalid: The filter, the context or the size cannot be used.
        """
        return self._wait(lambda: self.running.engine.recommend(Ask(placement, **request)))

    def item(self, item_id: str) -> Mapping[str, object] | None:
        """Return what is known of an item, None = nothing."""
        return self._call(lambda: self.running.engine.item(item_id))

    def user(self, user_id: str) -> Mapping[str, object] | None:
        """Return what is known of a user, None = nothing."""
        return self._call(lambda: self.running.engine.user(user_id))

    def _wait(self, work: Callable[[], Awaitable[T]]) -> T:
        if not self._thread.is_alive():
            message = "the shop is not open: use it inside a with block"
            raise RuntimeError(message)

        async def run() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def _call(self, read: Callable[[], T]) -> T:
        """Run a read on the thread that owns the state."""

        async def run() -> T:
            return read()

        return self._wait(run)
