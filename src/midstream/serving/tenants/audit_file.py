"""Audit of the root: two JSON lines for each change of a tenant, one before it and one behind it, both durable.

A change that a crash or a cancellation ends has its first line alone, so it is seen. The root has no event log: the
file is appended to, and it is read by ``midstream tenants audit``.

Reference: Mohan and others, ARIES, ACM Transactions on Database Systems 17(1), 1992 (the log is written ahead).
"""

import asyncio
import errno
import fcntl
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPMethod, HTTPStatus
from pathlib import Path
from typing import Final

import msgspec

from midstream.core.errors import AppendFailed, DiskFull, MidstreamError
from midstream.core.tracebacks import raised_of
from midstream.events.disk import NO_ROOM
from midstream.events.file_modes import make_folder, open_file
from midstream.monitoring.fact_logger import log_fact
from midstream.monitoring.facts import Fact
from midstream.serving.http.problems import problem_of

BEGUN: Final = 0
"""Status of the first line of a change."""
_BREAKS: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)
"""Errors that end a change between any two of its steps."""


class TenantChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line."""

    id: str
    """Random; both lines of a change have it."""
    time: int
    """Milliseconds of the wall clock."""
    who: str
    address: str
    method: str
    route: str
    tenant: str
    status: int = BEGUN
    """Of the answer; ``BEGUN`` = the change begins."""


class AuditFile:
    """The file, opened at each line: they are few."""

    def __init__(self, path: Path, wall_ms: Callable[[], int]) -> None:
        """Append to ``path``."""
        self._path = path
        self._wall_ms = wall_ms

    @asynccontextmanager
    async def recorded(self, who: str, address: str, method: str, route: str, tenant: str) -> AsyncGenerator[None]:
        """Record a change that is made in the block: that it begins, and how it ended.

        Raises:
            AppendFailed: The first line could not be written; the block was not entered.
        """
        begun = TenantChange(secrets.token_hex(8), self._wall_ms(), who, address, method, route, tenant)
        await asyncio.to_thread(append_begun, self._path, begun)
        end = _End()
        try:
            with end:
                yield
        finally:
            if end.status != BEGUN:
                ended = msgspec.structs.replace(begun, time=self._wall_ms(), status=end.status)
                await asyncio.to_thread(_append_ended, self._path, ended)


@contextmanager
def recorded_change(path: Path, begun: TenantChange, now_ms: Callable[[], int]) -> Generator[None]:
    """Record a change that is made in the block by a command: that it begins, and how it ended.

    Raises:
        AppendFailed: The first line could not be written; the block was not entered.
    """
    append_begun(path, begun)
    end = _End()
    try:
        with end:
            yield
    finally:
        if end.status != BEGUN:
            _append_ended(path, msgspec.structs.replace(begun, time=now_ms(), status=end.status))


class _End:
    """Status with which the change in a block ended."""

    def __init__(self) -> None:
        self.status = BEGUN
        """``BEGUN`` = it was broken off, and has no last line."""

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Keep how it ended."""
        if error is None:
            self.status = int(HTTPStatus.OK)
        elif isinstance(error, MidstreamError):
            self.status = problem_of(error).status
        elif not isinstance(error, _BREAKS):
            self.status = int(HTTPStatus.INTERNAL_SERVER_ERROR)


def append_begun(path: Path, begun: TenantChange) -> None:
    """Append the first line of a change.

    Raises:
        AppendFailed: The disk; nothing may be changed.
    """
    try:
        append_change(path, begun)
    except OSError as error:
        message = f"nothing was changed: the audit of tenants cannot be written: {error.strerror}"
        raise (DiskFull if error.errno in NO_ROOM else AppendFailed)(message) from error


def _append_ended(path: Path, ended: TenantChange) -> None:
    """Append the last line of a change; what was made is answered all the same, as its first line is there."""
    try:
        append_change(path, ended)
    except OSError as error:
        log_fact(Fact("audit_lost", "error", {"route": ended.route}, raised=raised_of(error)))


def append_change(path: Path, change: TenantChange) -> None:
    """Append a line to a file and make it durable; a line that a crash cut short is ended before.

    A command and a server may append at the same time, one after another.

    Raises:
        OSError: The disk; nothing of the line is left.
    """
    make_folder(path.parent)
    descriptor = open_file(path, os.O_RDWR | os.O_APPEND)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        is_cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        try:
            _write_whole(descriptor, b"\n" * is_cut + msgspec.json.encode(change) + b"\n")
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def _write_whole(descriptor: int, content: bytes) -> None:
    """Write all of a content; a disk that is nearly full takes a part of it first.

    Raises:
        OSError: The disk; a part may be written.
    """
    left = memoryview(content)
    while left:
        written = os.write(descriptor, left)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left = left[written:]


def changes_of(path: Path, limit: int) -> tuple[list[TenantChange], int]:
    """Return the newest changes, the newest first, and the number of lines that cannot be read.

    A change that was made is its last line. One with its first line alone has the status ``BEGUN``: it is under way, or
    it was broken off, and it may be made or not. So may one that ended with a status from 500 on. One that was refused
    before anything was changed is left out. A crash cuts a line short; the others are whole.

    Args:
        path: Of the file.
        limit: At most so many changes.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], 0
    found: list[TenantChange] = []
    ended: set[str] = set()
    unreadable = 0
    for line in filter(None, reversed(lines)):
        try:
            change = msgspec.json.decode(line, type=TenantChange)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            unreadable += 1
            continue
        if change.id not in ended and not _is_refused(change):
            found.append(change)
        ended.add(change.id)
    return found[:limit], unreadable


def _is_refused(change: TenantChange) -> bool:
    """Return whether a change ended before anything was changed; a deletion has closed the tenant before its 409."""
    if change.method == HTTPMethod.DELETE and change.status == HTTPStatus.CONFLICT:
        return False
    return HTTPStatus.BAD_REQUEST <= change.status < HTTPStatus.INTERNAL_SERVER_ERROR
