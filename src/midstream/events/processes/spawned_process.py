"""Processes spawned beside an event loop: a program started without a copy of this process's memory, with its pipes.

The loop's own way (uvloop's) forks. A fork copies the page tables, and marks each page, so that each that is written
next is a fault: of 1.5 GB the loop stood still for 46 ms, and 117 ms more went to 119,000 faults. ``subprocess`` shares
the memory with the child until that has its program (``vfork``), which takes 0.5 to 0.8 ms of any size.
"""

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final

ENDED_S: Final = 0.02
"""Between two looks whether a process has ended, where a descriptor of the process does not say so."""
KILLED_S_MAX: Final = 5.0
"""Wait for one that was killed: it ends at once, unless a disk or a network file system holds it."""


class SpawnedProcess:
    """One process, from its start until it is waited for."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        """Take over a process; ``spawn`` makes one with its pipes."""
        self._process = process
        self.stdin: asyncio.WriteTransport | None = None
        """Goes to its standard input."""
        self.stdout: asyncio.StreamReader | None = None
        """Of its standard output; None = it has none that is read."""
        self._reading: asyncio.ReadTransport | None = None

    async def connect(self, limit: int) -> None:
        """Hand its pipes to the running event loop; ``limit`` is the longest line that is read."""
        loop = asyncio.get_running_loop()
        if self._process.stdin is not None:
            self.stdin, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, self._process.stdin)
        if self._process.stdout is not None:
            stdout = asyncio.StreamReader(limit)
            self._reading, _ = await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(stdout), self._process.stdout
            )
            self.stdout = stdout

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative = the signal that ended it; None = it has not ended."""
        return self._process.poll()

    def send(self, text: bytes) -> bool:
        """Write to its standard input; return False where it has ended, or has not read what was sent before.

        So nothing piles up. What is sent to one that ends just then is lost.
        """
        if self.stdin is None or self.stdin.is_closing() or self.stdin.get_write_buffer_size():
            return False
        try:
            self.stdin.write(text)
        except RuntimeError:  # uvloop has closed the pipe, and says so a pass later
            return False
        return True

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, unless it has ended."""
        self._process.kill()

    async def wait(self) -> int:
        """Return its exit status once it has ended. Its pipes are closed then: what was not read is lost."""
        while (status := self.returncode) is None:
            await self._end()
            if self.returncode is None:
                await asyncio.sleep(ENDED_S)
        self._close()
        return status

    def _close(self) -> None:
        for pipe in (self.stdin, self._reading):
            if pipe is not None:
                pipe.close()

    async def end(self) -> None:
        """Kill it unless it has ended, and return once it has; a cancellation does not keep it from being waited for.

        A loop that closes cancels all of its tasks, also one that was cancelled before and cleans up.
        """
        self.kill()
        until_s = asyncio.get_running_loop().time() + KILLED_S_MAX
        while self.returncode is None and asyncio.get_running_loop().time() < until_s:
            with suppress(asyncio.CancelledError, TimeoutError):
                async with asyncio.timeout_at(until_s):
                    await self.wait()
        self._close()

    async def _end(self) -> None:
        """Wait until a descriptor says that it has ended; return at once where there is none."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # neither every kernel nor every build of Python has them
            return
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        try:
            loop.add_reader(descriptor, ended.set)
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)


async def spawn(
    command: Sequence[str],
    *,
    limit: int = 1 << 16,
    variables: Mapping[str, str] | None = None,
    descriptors: Collection[int] = (),
    has_own_session: bool = False,
    began: Callable[[int], None] | None = None,
) -> SpawnedProcess:
    """Start a program; its standard input is a pipe.

    Args:
        command: The program and its arguments.
        limit: Bytes of the longest line that is read; 0 = its standard output is not read and goes nowhere.
        variables: Of its environment, beside this process's.
        descriptors: Which it gets, by the same numbers.
        has_own_session: Signals of the terminal do not reach it.
        began: Called with its id right behind its start, before other work of the loop.

    Raises:
        OSError: There is no memory, no process or no descriptor to be had now, or no such program.
    """
    _keep_ends()
    process = subprocess.Popen(  # noqa: ASYNC220, S603  it returns within a millisecond; our own program
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if limit else subprocess.DEVNULL,
        env={**os.environ, **(variables or {})},
        pass_fds=tuple(descriptors),
        start_new_session=has_own_session,
    )
    if began is not None:
        began(process.pid)
    spawned = SpawnedProcess(process)
    connecting = asyncio.ensure_future(spawned.connect(limit))
    try:
        await asyncio.shield(connecting)
    except (OSError, asyncio.CancelledError):
        while not connecting.done():  # a few passes of the loop: what is half connected cannot be closed
            with suppress(asyncio.CancelledError):
                await asyncio.wait([connecting])
        await spawned.end()
        raise
    return spawned


def _keep_ends() -> None:
    """Have the kernel keep how processes end: whoever started this one may have told it not to."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
