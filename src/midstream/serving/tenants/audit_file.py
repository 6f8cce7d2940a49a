"""Audit of the root: one JSON line for each change of a tenant, durable before the change is answered.

The root has no event log. The file is appended to and never rewritten; it is read by ``midstream tenants audit``.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from midstream.events.file_modes import make_folder, open_file


class TenantChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line."""

    time: int
    """Milliseconds of the wall clock."""
    who: str
    address: str
    method: str
    route: str
    tenant: str
    status: int


class AuditFile:
    """The file, opened at each change: they are few."""

    def __init__(self, path: Path, wall_ms: Callable[[], int]) -> None:
        """Append to ``path``."""
        self._path = path
        self._wall_ms = wall_ms

    async def note(self, change: TenantChange) -> None:
        """Append a change and make it durable.

        Raises:
            OSError: The disk.
        """
        await asyncio.to_thread(append_change, self._path, msgspec.structs.replace(change, time=self._wall_ms()))


def append_change(path: Path, change: TenantChange) -> None:
    """Append a change to a file and make it durable; a line that a crash cut short is ended before.

    Raises:
        OSError: The disk.
    """
    make_folder(path.parent)
    descriptor = open_file(path, os.O_RDWR | os.O_APPEND)
    try:
        size = os.fstat(descriptor).st_size
        is_cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, b"\n" * is_cut + msgspec.json.encode(change) + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def changes_of(path: Path, limit: int) -> tuple[list[TenantChange], int]:
    """Return the newest changes, the newest first, and the number of lines that cannot be read.

    A crash cuts a line short; the others are whole.

    Args:
        path: Of the file.
        limit: At most so many.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], 0
    found: list[TenantChange] = []
    unreadable = 0
    for line in filter(None, reversed(lines)):
        try:
            found.append(msgspec.json.decode(line, type=TenantChange))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            unreadable += 1
    return found[:limit], unreadable
