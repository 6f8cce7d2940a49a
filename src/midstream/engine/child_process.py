"""Child processes beside the server: low priority, paced I/O, ended with the server.

A child with a low priority takes little from the server, but never nothing: on a machine whose cores are all busy a
process of the lowest priority (``SCHED_IDLE``) gets a three-hundredth of a core, so that a due erasure never ends, and
a killed child takes minutes to exit. Two resources have no priority: the disk, where a gigabyte of unwritten pages
delays the log's next sync, and the memory bandwidth that all cores share. So a child writes past the page cache, in
pieces and at a bounded rate, and rests between pieces of work while others are busy. It writes its progress to its
standard output, a line each, and its report at the end.
"""

import asyncio
import errno
import fcntl
import mmap
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self, TypeAlias, TypeVar

import msgspec

from midstream.core.errors import Fault, Invalid, MidstreamError
from midstream.core.tracebacks import raised_of
from midstream.events.file_modes import open_file
from midstream.events.processes.spawned_process import SpawnedProcess, spawn

NICENESS = 10
"""A tenth of the server's share of a core that both want, by the kernel's table of weights (110 of 1,024)."""
PIECE_BYTES = 4 << 20
"""Written at once: 10 ms of a disk that writes 400 MB/s, which is what a sync of the log may have to wait for."""
BYTES_S_MAX = 64 << 20
"""A sixth of such a disk; 2 GB take half a minute."""
PIECE_S = 0.01
"""Work of the processor between two rests."""
BUSY_SHARE = 0.2
"""Of one core: above it, others work and the child rests as long as it works."""
LOOK_S = 0.25
"""Between two looks at how busy others are; the kernel counts in hundredths of a second."""
SAY_S = 0.25
"""Between two lines of progress."""
REST_S_MAX = 0.1
"""However long a piece of work was."""
STALL_S_MAX = 600
"""A child without progress for so long hangs: reading, writing or digesting 3 GiB takes a minute each at its rate."""
LINE_BYTES_MAX = 1 << 28
"""Of a report: that of a rewrite has each erased id and session and a day's events of them, 64 bytes each or so; four
million are as much."""
_ALIGNED_BYTES = 4_096
_PROGRESS = b"progress "
_FAILED = b"failed "
_FAULTS = b"faults "


class _Urgency(msgspec.Struct, frozen=True, kw_only=True):
    hurried: bool = False
    """A caller waits for it: it keeps the server's priority and never rests."""


class WorkOrder(_Urgency, frozen=True):
    """A child's work, as JSON on its standard input."""

    folder: str


AnyOrder = TypeVar("AnyOrder", bound=WorkOrder)
Notify: TypeAlias = Callable[[str, int, int], None]
"""Receives the stage, the amount done, and the total."""


def nobody(_stage: str, _done: int, _total: int) -> None:
    """Ignore progress."""


class Pace:
    """Speed of a child. A hurried one, because a stop waits for it, never rests."""

    def __init__(self, notify: Notify = nobody, *, hurried: bool = False, beside: bool = False) -> None:
        """Begin to work now.

        Args:
            notify: Receives progress.
            hurried: A caller waits.
            beside: The process answers meanwhile: no more than one thread is used.
        """
        self._notify = notify
        self._is_hurried = hurried
        self._is_beside = beside
        self._parent = os.getppid()
        self._said = self._looked = time.monotonic()
        self._busy_before = busy_seconds()
        self._since = self._own_before = time.process_time()
        self._others_are_busy = False
        self._due = 0.0

    @property
    def uses_threads(self) -> bool:
        """Whether the work may be shared out among threads: it never rests, and nothing else waits for a core."""
        return self._is_hurried and not self._is_beside

    def say(self, stage: str, done: int, total: int) -> None:
        """Report progress, a few times a second at most; the end of a stage is always reported."""
        now = time.monotonic()
        if done == total or now - self._said >= SAY_S:
            self._said = now
            self._notify(stage, done, total)

    def rest(self) -> None:
        """Pause after a small piece of work, as long as it took while others are busy.

        Time in which others had the core does not count as work: on a fully loaded machine such a child would hardly
        advance.

        Raises:
            SystemExit: The server is gone, so the result is not needed.
        """
        worked = time.process_time() - self._since
        if worked < PIECE_S:
            return
        if os.getppid() != self._parent:
            sys.exit(0)
        if not self._is_hurried and self._are_others_busy(time.monotonic()):
            time.sleep(min(worked, REST_S_MAX))
        self._since = time.process_time()

    def wrote(self, byte_count: int) -> None:
        """Pause after a piece that was written until the rate is kept."""
        if self._is_hurried:
            return
        now = time.monotonic()
        self._due = max(self._due, now - byte_count / BYTES_S_MAX) + byte_count / BYTES_S_MAX
        if self._due > now:
            time.sleep(self._due - now)
        self._since = time.process_time()

    def _are_others_busy(self, now: float) -> bool:
        if now - self._looked >= LOOK_S:
            busy, own = busy_seconds(), time.process_time()
            others = (busy - self._busy_before) - (own - self._own_before)
            self._others_are_busy = others > BUSY_SHARE * (now - self._looked)
            self._looked, self._busy_before, self._own_before = now, busy, own
        return self._others_are_busy


class PacedFile:
    """A file written from its beginning to its end, and durable when it is closed. Use it in a ``with`` block."""

    def __init__(self, path: Path, pace: Pace) -> None:
        """Begin an empty file, past the page cache where the file system offers that."""
        self._pace = pace
        self._buffer = mmap.mmap(-1, PIECE_BYTES)  # begins at a page, as direct writes ask
        self._filled = 0
        self._size = 0
        flags = os.O_WRONLY | os.O_TRUNC
        try:
            self._file = open_file(path, flags | os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._file = open_file(path, flags)

    def write(self, content: memoryview) -> None:
        """Add bytes.

        Raises:
            OSError: The disk.
        """
        start = 0
        while start < len(content):
            count = min(len(content) - start, PIECE_BYTES - self._filled)
            self._buffer[self._filled : self._filled + count] = content[start : start + count]
            self._filled += count
            start += count
            if self._filled == PIECE_BYTES:
                self._flush()

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Make the file durable, unless it failed, and let go of it."""
        try:
            if kind is None:
                self._flush()
                os.ftruncate(self._file, self._size)
                os.fsync(self._file)
        finally:
            os.close(self._file)
            self._buffer.close()

    def _flush(self) -> None:
        """Write what is in the buffer, to the next whole page: what is too much is cut off at the end."""
        if not self._filled:
            return
        padded = -(-self._filled // _ALIGNED_BYTES) * _ALIGNED_BYTES
        with memoryview(self._buffer) as whole, whole[:padded] as piece:
            written = 0
            while written < padded:
                with piece[written:] as rest:
                    written += self._write(rest, self._size + written)
        if self._filled == PIECE_BYTES:  # of the last piece it is done when the file has its length
            os.fdatasync(self._file)
        self._size += self._filled
        self._pace.wrote(self._filled)
        self._filled = 0

    def _write(self, piece: memoryview, start: int) -> int:
        try:
            return os.pwrite(self._file, piece, start)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        # Some file systems open a file for direct writes and then refuse them.
        flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
        fcntl.fcntl(self._file, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        return os.pwrite(self._file, piece, start)


def busy_seconds() -> float:
    """Return the busy time of this machine's cores since its start; 0 where it is not available."""
    try:
        first = Path("/proc/stat").read_bytes().partition(b"\n")[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _idle, _wait, irq, soft = (int(each) for each in first[:7])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def step_behind(process: int) -> None:
    """Lower the rank of a process that has just begun below that of this one: a child that no caller waits for.

    By itself it would do so when all is imported, half a second later. Where a system refuses it the child has no rank
    of its own.
    """
    with suppress(OSError):
        _step_behind(process)


def _step_behind(process: int) -> None:
    if os.sched_getscheduler(process) == os.SCHED_IDLE:  # as the server itself: nobody leaves that without a privilege
        return
    # Behind a server that is behind others too, unless that is the last in rank.
    os.setpriority(os.PRIO_PROCESS, process, os.getpriority(os.PRIO_PROCESS, process) + NICENESS)
    os.sched_setscheduler(process, os.SCHED_BATCH, os.sched_param(0))


def say_progress(stage: str, done: int, total: int) -> None:
    """Report progress to the server: the ``Notify`` of a child."""
    sys.stdout.buffer.write(b"%s%s %d %d\n" % (_PROGRESS, stage.encode(), done, total))
    sys.stdout.buffer.flush()


def report(line: bytes) -> None:
    """Send the result to the server: the last line of a successful child."""
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def fail(error: BaseException) -> NoReturn:
    """Send the reason of a failure to the server, in one line, and exit; an ``Invalid`` with all its faults."""
    if isinstance(error, Invalid):
        report(_FAULTS + msgspec.json.encode(error.faults))
    else:
        report(_FAILED + f"{type(error).__name__}: {_in_one_line(str(error))}".encode())
    sys.exit(1)


def tell_bugs() -> None:
    """Report unexpected exceptions by type and stack alone: the first call of a server's child.

    Standard error, where Python would write the exception's text, is the server's log.
    """
    sys.excepthook = _tell_bug


def _tell_bug(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    raised = raised_of(error)
    report(_FAILED + f"a bug: {raised.kind} at {' < '.join(raised.lines())}".encode())


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended."""

    line: bytes
    """Its report; empty when it failed."""
    reason: str
    """Why not, in words; empty when it did."""
    is_told: bool = False
    """The child reported the reason; otherwise it could not."""
    faults: tuple[Fault, ...] = ()
    """The faults of an ``Invalid``."""


def main(kind: type[AnyOrder], work: Callable[[AnyOrder, Pace], object], *, logs_bugs: bool = True) -> None:
    """Run the child's side of a process: read the order, do the work, report its result.

    Args:
        kind: The order on standard input.
        work: Does it at a pace; its result is reported as JSON.
        logs_bugs: Standard error is the server's log, so a bug is reported by its type and stack alone; otherwise
            Python writes it there.
    """
    if logs_bugs:
        tell_bugs()
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=kind)
    try:
        done = work(order, Pace(say_progress, hurried=order.hurried))
    except (MidstreamError, OSError, MemoryError) as error:
        fail(error)
    report(msgspec.json.encode(done))


async def run(
    module: str,
    order: WorkOrder,
    notify: Notify = nobody,
    *,
    stall_s: float = STALL_S_MAX,
    time_s_max: float | None = None,
    variables: Mapping[str, str] | None = None,
) -> Ended:
    """Run a child of this package until its end; cancelled, end it.

    Args:
        module: Dotted name; run with ``-m``.
        order: Goes to its standard input.
        notify: Receives its progress, on the running event loop.
        stall_s: It is killed after so long without output.
        time_s_max: It is killed after so long; None = no limit.
        variables: Of its environment, beside this process's.
    """
    limit = asyncio.timeout(time_s_max)
    try:
        async with limit:
            return await _run(module, order, notify, stall_s, variables or {})
    except TimeoutError:
        if not limit.expired():
            raise
        return Ended(b"", f"its process took longer than {time_s_max:g} s and was ended")


async def _run(module: str, order: WorkOrder, notify: Notify, stall_s: float, variables: Mapping[str, str]) -> Ended:
    # -P: nothing of the current folder is imported.
    command = (sys.executable, "-P", "-m", module)
    try:
        began = None if order.hurried else step_behind
        process = await spawn(command, limit=LINE_BYTES_MAX, variables=variables, began=began)
    except OSError as error:  # no memory or no process to be had now
        return Ended(b"", f"no process could be started: {error}")
    try:
        return await _followed(process, msgspec.json.encode(order), notify, stall_s)
    finally:
        await process.end()  # unless it has ended


async def _followed(process: SpawnedProcess, order: bytes, notify: Notify, stall_s: float) -> Ended:
    """Hand the order over and read line by line until the child ends."""
    last = b""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(stall_s) as stall:
            line = await _sent(process, order)
            while line:
                stall.reschedule(loop.time() + stall_s)
                if line.startswith(_PROGRESS):
                    notify(*_progress(line))
                else:
                    last = line.rstrip(b"\n")
                line = await _line(process)
            await process.wait()
    except TimeoutError:
        return Ended(b"", f"its process said nothing for {stall_s:g} s and was ended")
    except (_Unreadable, OSError) as error:
        return Ended(b"", f"what its process said could not be read, and it was ended: {error}")
    if last.startswith(_FAILED):
        return Ended(b"", last.removeprefix(_FAILED).decode(errors="replace"), is_told=True)
    if last.startswith(_FAULTS):
        return _invalid(last.removeprefix(_FAULTS))
    if process.returncode != 0:
        return Ended(b"", f"its process ended with status {process.returncode}; standard error says why")
    return Ended(last, "" if last else "its process ended without a report")


def _invalid(line: bytes) -> Ended:
    """Return the end of a child that reported faults."""
    try:
        faults = msgspec.json.decode(line, type=tuple[Fault, ...])
    except msgspec.MsgspecError as error:
        return Ended(b"", f"what its process said could not be read: {error}")
    return Ended(b"", f"Invalid: {_in_one_line(str(Invalid(faults)))}", is_told=True, faults=faults)


async def _sent(process: SpawnedProcess, order: bytes) -> bytes:
    """Hand the order over; return the first line that comes."""
    process.send(order)
    if process.stdin is not None:
        process.stdin.close()
    return await _line(process)


class _Unreadable(Exception):
    """Output of a child that is no valid message."""


def _progress(line: bytes) -> tuple[str, int, int]:
    try:
        stage, done, total = line.removeprefix(_PROGRESS).decode().split()
        return stage, int(done), int(total)
    except ValueError as error:
        raise _Unreadable(repr(line[:100])) from error


async def _line(process: SpawnedProcess) -> bytes:
    """Return the next line, empty at the end."""
    try:
        return b"" if process.stdout is None else await process.stdout.readline()
    except ValueError as error:  # too long: asyncio has dropped it
        message = f"a line of more than {LINE_BYTES_MAX:,} bytes"
        raise _Unreadable(message) from error
