"""Daemon thread of one client: its blocking calls, one after another, awaited on an event loop.

It runs no event loop of its own, since the client may start one there. A daemon holds up no end of a process.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class ClientThread:
    """Calls functions in the order in which they were given; begins at once."""

    def __init__(self, name: str) -> None:
        """Start it."""
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._began: float | None = None
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def busy_s(self) -> float:
        """Time since the call under way began; 0 = there is none."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    @property
    def is_alive(self) -> bool:
        """Whether it runs, maybe in a call that does not end."""
        return self._thread.is_alive()

    def call(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Call ``work`` behind all that was given before, unless the future is cancelled by then."""
        told: Future[T] = Future()
        self._calls.put((work, told))
        return asyncio.wrap_future(told)

    def end(self) -> None:
        """End it behind the calls that it was given; nobody waits for that."""
        self._calls.put(None)

    def _serve(self) -> None:
        while (each := self._calls.get()) is not None:
            work, told = each
            if not told.set_running_or_notify_cancel():
                continue
            self._began = time.monotonic()
            with _Telling(told):
                told.set_result(work())
            self._began = None


class _Telling:
    """Gives an error of its block to whoever waits for the future, as an executor does."""

    def __init__(self, told: "Future[Any]") -> None:
        self._told = told

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        """End; the error goes no further."""
        if error is not None:
            self._told.set_exception(error)
        return True
