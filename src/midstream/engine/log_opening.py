"""Opening of a data folder's log for writing: its lock, its completeness, then the log."""

import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from midstream.core.errors import FolderLocked
from midstream.engine.folder import DataFolder, lock_history
from midstream.engine.log_completeness import known_end
from midstream.events.disk import Disk, RealDisk
from midstream.events.segments.segments import SegmentLog

_WAITS_S = (0.1,) * 300
"""A child rests after each row group, 50 ms on a slow machine, and after each segment, 1 s. With the tenth of a core
that it has beside others that is 10 s, and three times as long where many others want the machine."""


def open_log(data: DataFolder, new_id: bytes, segment_bytes: int, disk: Disk | None = None) -> SegmentLog:
    """Take the lock of a data folder and open its log; closing the log releases both.

    Args:
        data: Made if it does not exist.
        new_id: 16 random bytes that identify a new log.
        segment_bytes: A commit that would make a segment larger than this begins the next one.
        disk: Makes the file calls of the log; None = the real one.

    Raises:
        FolderLocked: Another process has it open, or rewrites its history.
        LogIncomplete: The log is gone, or ends before a position that other files of the folder prove durable.
        LogDamaged: The log cannot be trusted; nothing was changed.
        LogUnreadable: It is of another schema version.
        AppendFailed: The log's end could not be made durable.
        OSError: A file could not be opened or read.
    """
    disk = disk or RealDisk()
    disk.make_folder(data.root)
    with ExitStack() as undo:
        # Before anything is looked at that another process may be replacing.
        lock = disk.lock(data.lock, data.root)
        undo.callback(disk.close, lock)
        known = known_end(data, disk)
        disk.make_folder(data.log)
        history_lock = wait_for_history(data, disk)
        undo.pop_all()
    try:
        return SegmentLog(data.log, disk, new_id, segment_bytes, lock, known)
    finally:
        disk.close(history_lock)


@contextmanager
def locked(data: DataFolder, disk: Disk) -> Generator[None]:
    """Hold the lock of a data folder for what is done there before its log is opened.

    Args:
        data: Made if it does not exist.
        disk: Takes the lock.

    Raises:
        FolderLocked: Another process has it open.
    """
    disk.make_folder(data.root)
    lock = disk.lock(data.lock, data.root)
    try:
        yield
    finally:
        disk.close(lock)


def wait_for_history(data: DataFolder, disk: Disk) -> int:
    """Take the lock of history; a child of a server that died has it until its next rest, and then ends.

    Raises:
        FolderLocked: Another process has it for longer.
    """
    for wait_s in _WAITS_S:
        try:
            return lock_history(data, disk)
        except FolderLocked:
            time.sleep(wait_s)
    return lock_history(data, disk)
