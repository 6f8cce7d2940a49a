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
    """Append a change to a file and make it durable.

    Raises:
        OSError: The disk.
    """
    make_folder(path.parent)
    descriptor = open_file(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, msgspec.json.encode(change) + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def changes_of(path: Path, limit: int) -> list[TenantChange]:
    """Return the newest changes, the newest first; a line that a crash cut short is left out.

    Args:
        path: Of the file.
        limit: At most so many.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    whole = [each for each in lines if each.endswith(b"\n")][-limit:]
    return [msgspec.json.decode(each, type=TenantChange) for each in reversed(whole)]
