"""The file calls that storage makes, behind one small interface, so that a test can stand in for the disk.

Three disks exist: this folder's real one, and in ``midstream.testing.disks`` one that forgets what was not synced and
one that fails. What is promised after a crash rests on the calls made here and on nothing else: contents are durable
after ``sync``, names (a created, renamed or removed file) after ``sync_folder``.
"""

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from midstream.core.errors import FolderLocked
from midstream.events.file_modes import FOLDER, open_file

Bytes: TypeAlias = bytes | bytearray | memoryview
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a write that a later one may not meet again: device full, quota or file size limit reached."""


class Disk(Protocol):
    """What storage asks of a file system. An open file is an integer; every call may raise ``OSError``."""

    def make_folder(self, folder: Path) -> None:
        """Create a folder and those above it where they are missing, and make their names durable."""
        ...

    def list_folder(self, folder: Path) -> list[str]:
        """Return the names of the files in a folder, sorted; none when there is no such folder."""
        ...

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, replacing what had it. Atomic, and durable after ``sync_folder``."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a file. Durable after ``sync_folder``."""
        ...

    def size(self, path: Path) -> int:
        """Return the number of bytes in a file."""
        ...

    def read(self, path: Path, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``, fewer where the file ends before."""
        ...

    def open(self, path: Path) -> int:
        """Open a file for writing, created empty where there is none."""
        ...

    def write(self, file: int, parts: Sequence[Bytes], start: int) -> None:
        """Write all parts one after another from ``start``. When it raises, any part of them may be in the file."""
        ...

    def truncate(self, file: int, length: int) -> None:
        """Cut a file to ``length`` bytes. Durable after ``sync``."""
        ...

    def sync(self, file: int) -> None:
        """Make the contents durable. After a failure nothing is known of them, and a further sync proves nothing."""
        ...

    def close(self, file: int) -> None:
        """Release an open file or a lock."""
        ...

    def lock(self, path: Path) -> int:
        """Take the lock that a file stands for, until ``close`` or the end of the process.

        Raises:
            FolderLocked: Another holds it; the text names its process.
        """
        ...


class RealDisk:
    """Plain calls of the operating system. It keeps nothing, so one serves all threads."""

    def make_folder(self, folder: Path) -> None:
        """Create a folder and those above it where they are missing, and make their names durable."""
        if folder.is_dir():
            return
        self.make_folder(folder.parent)
        folder.mkdir(mode=FOLDER, exist_ok=True)
        self.sync_folder(folder.parent)

    def list_folder(self, folder: Path) -> list[str]:
        """Return the names of the files in a folder, sorted; none when there is no such folder."""
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable."""
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, replacing what had it."""
        old.replace(new)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def size(self, path: Path) -> int:
        """Return the number of bytes in a file."""
        return path.stat().st_size

    def read(self, path: Path, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``, fewer where the file ends before."""
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.pread(file, length, start)
            while len(found) < length:
                more = os.pread(file, length - len(found), start + len(found))
                if not more:
                    break
                found += more
            return found
        finally:
            os.close(file)

    def open(self, path: Path) -> int:
        """Open a file for writing, created empty where there is none."""
        return open_file(path, os.O_RDWR)

    def write(self, file: int, parts: Sequence[Bytes], start: int) -> None:
        """Write all parts from ``start``; the system may take them in several pieces, and is asked until it has all."""
        length = sum(memoryview(part).nbytes for part in parts)
        done = os.pwritev(file, parts, start)
        if done == length:
            return
        rest = memoryview(b"".join(parts))
        while done < length:
            done += os.pwrite(file, rest[done:], start + done)

    def truncate(self, file: int, length: int) -> None:
        """Cut a file to ``length`` bytes."""
        os.ftruncate(file, length)

    def sync(self, file: int) -> None:
        """Make the contents durable, and of the rest what is needed to read them back."""
        os.fdatasync(file)

    def close(self, file: int) -> None:
        """Release an open file or a lock."""
        os.close(file)

    def lock(self, path: Path) -> int:
        """Take the lock that a file stands for; the file then holds this process's id.

        The lock belongs to the open file: a child made by fork shares it, one that starts a new program does not.
        """
        file = open_file(path, os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as error:
            holder = os.pread(file, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(file)
            message = f"{path.parent} is in use by process {holder}; one process at a time may write to it"
            raise FolderLocked(message) from error
        except OSError:
            os.close(file)
            raise
        return file
