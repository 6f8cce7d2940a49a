"""An event loop in which time is a number: when nothing is ready it jumps to the next timer, and nobody sleeps.

All runs on one thread. What asks for a thread (``asyncio.to_thread``, an executor) runs on the loop after a delay that
the caller of ``VirtualLoop`` draws, so the order of everything follows from seeds. ``only_virtual`` makes real clocks,
sleeps and threads of the standard library out of reach while a simulation runs.
"""

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from contextvars import Context
from typing import Any, NoReturn, TypeVar, TypeVarTuple
from unittest import mock

from midstream.engine.child_process import Pace

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Stuck(Exception):
    """Nothing is ready and no timer is set: whoever waits would wait for ever."""


class _Jump:
    """Stands where a loop asks the system what has happened: nothing, and so much time went by."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        """Let the time pass until the next timer."""
        if timeout is None:
            message = f"at {self._loop.time():.3f} s nothing is ready and no timer is set"
            raise Stuck(message)
        self._loop.spend(timeout)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop with a clock of its own."""

    def __init__(self, delay_s: Callable[[], float]) -> None:
        """Begin at second 0; ``delay_s`` says how long each piece of work takes that is handed to a thread."""
        super().__init__()
        self._selector = _Jump(self)
        self._now = 0.0
        self._delay_s = delay_s
        self.problems: list[BaseException] = []
        """What ended a callback or a task that nobody looked at."""
        self.set_exception_handler(self._note)

    def time(self) -> float:
        """Return virtual seconds since the beginning."""
        return self._now

    def spend(self, seconds: float) -> None:
        """Let time pass without giving way: what runs now takes that long."""
        self._now += seconds

    def call_soon_threadsafe(
        self, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.Handle:
        """Call on the next turn: there is no other thread."""
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], T], *args: *Arguments
    ) -> asyncio.Future[T]:
        """Do the work on this thread, some time later."""

        async def later() -> T:
            await asyncio.sleep(self._delay_s())
            asyncio._set_running_loop(None)
            try:
                return func(*args)
            finally:
                asyncio._set_running_loop(self)

        return self.create_task(later())

    def _process_events(self, event_list: list[object]) -> None:
        """There are no files or sockets that anything could have happened on."""

    def _write_to_self(self) -> None:
        """There is nobody to wake: the loop never sleeps."""

    def _note(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            self.problems.append(error)


@contextmanager
def only_virtual(loop: VirtualLoop) -> Generator[None]:
    """Put the loop's time in the place of real clocks, and refuse real sleeps and threads, inside the block.

    Work that threads share out where they help is done by the one.
    """

    def refuse(*_: object, **__: object) -> NoReturn:
        message = "a simulated run has one thread and no real sleep"
        raise AssertionError(message)

    with ExitStack() as stack:
        for name in ("time.time", "time.monotonic", "time.perf_counter", "time.thread_time"):
            stack.enter_context(mock.patch(name, loop.time))
        for name in ("time.sleep", "threading.Thread.start"):
            stack.enter_context(mock.patch(name, refuse))
        stack.enter_context(mock.patch.object(Pace, "uses_threads", False))  # noqa: FBT003
        yield
