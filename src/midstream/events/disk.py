"""Disk interface: the file calls of storage, so that a test can replace the disk.

There are three disks: the real one here, and in ``tests.support.disks`` one that forgets unsynced data and one that
fails. All promises after a crash rest on these calls alone: contents are durable after ``sync``, names (a created,
renamed or removed file) after ``sync_folder``.
"""

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from midstream.core.errors import FolderLocked
from midstream.events.file_modes import make_missing, open_file

Bytes: TypeAlias = bytes | bytearray | memoryview
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a write that a later one may not meet again: device full, quota or file size limit reached."""
_NO_FOLDER_LOCKS = frozenset({errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOTSUP})
"""What a network file system says that locks only what is open for writing, which no folder ever is."""


class Disk(Protocol):
    """File-system calls of storage. An open file is an integer; every call may raise ``OSError``."""

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

    def open(self, path: Path, *, alone: bool = False) -> int:
        """Open a file for writing, created empty where there is none.

        Raises:
            FolderLocked: ``alone`` is asked for, and had by another open file.
        """
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

    def is_at(self, file: int, path: Path) -> bool:
        """Return whether a path still leads to an open file: neither it nor a folder of it was removed or replaced.

        Links and mounts on the way make no difference: the file is compared, not its name.
        """
        ...

    def lock(self, path: Path, folder: Path) -> int:
        """Take the lock of a folder until ``close`` or the end of the process.

        It belongs to the folder itself, so it cannot be had a second time by removing a file, nor by another path.

        Args:
            path: The file that says which process has it.
            folder: What is locked; it is there.

        Raises:
            FolderLocked: Another holds it; the text names its process.
        """
        ...


class RealDisk:
    """Plain calls of the operating system. One serves all threads."""

    def __init__(self) -> None:
        """Have no file open."""
        self._opened: dict[int, tuple[int, int]] = {}
        """Number and device of each open file: a file that is open keeps both."""

    def make_folder(self, folder: Path) -> None:
        """Create a folder and those above it where they are missing, and make their names durable."""
        if folder.is_dir():
            return
        self.make_folder(folder.parent)
        make_missing(folder)
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

    def open(self, path: Path, *, alone: bool = False) -> int:
        """Open a file for writing, created empty where there is none; ``alone`` with a lock that ``close`` gives up."""
        file = open_file(path, os.O_RDWR)
        try:
            if alone:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(file)
        except BlockingIOError as error:
            os.close(file)
            message = f"{path.parent} is in use by another process, maybe of a data folder that links to it"
            raise FolderLocked(message) from error
        except OSError:
            os.close(file)
            raise
        self._opened[file] = found.st_ino, found.st_dev
        return file

    def write(self, file: int, parts: Sequence[Bytes], start: int) -> None:
        """Write all parts from ``start``; the system may take them in several pieces, and is asked until it has all."""
        length = 0
        for part in parts:
            length += memoryview(part).nbytes
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
        self._opened.pop(file, None)
        os.close(file)

    def is_at(self, file: int, path: Path) -> bool:
        """Return whether a path still leads to an open file. Cost: one call of the system, 1.5 µs."""
        try:
            found = os.stat(path)  # noqa: PTH116  on the way of each commit; ``Path.stat`` takes longer than the call
        except (FileNotFoundError, NotADirectoryError):
            return False
        return (found.st_ino, found.st_dev) == self._opened[file]

    def lock(self, path: Path, folder: Path) -> int:
        """Take the lock of a folder; ``path`` then holds this process's id.

        The lock belongs to the open folder: a child made by fork shares it, one that starts a new program does not.
        Where the file system locks no folders, as some over a network, it is the file's, and holds until that is
        removed.
        """
        file = open_file(path, os.O_RDWR)
        try:
            held = _locked(file, folder)
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
        if held != file:
            os.close(file)
        return held


def _locked(file: int, folder: Path) -> int:
    """Return the descriptor that now has the lock: of the folder, or where there is no such lock, of the file."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(place)
        if error.errno not in _NO_FOLDER_LOCKS:
            raise
    else:
        return place
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file
