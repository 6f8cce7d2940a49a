"""Two disks for tests: one that forgets what was not synced, one that fails on purpose.

``ForgetfulDisk`` is a file system in memory that knows, for each file and each name in a folder, what is durable and
what is still only in the cache. It records every call, and ``crash_states`` gives the disks that a power loss after
any of them may leave. ``FailingDisk`` stands in front of one and raises at the n-th call of a kind.

The model is the weakest that POSIX allows a log to rely on: unsynced writes of a file survive up to any point, the
last one torn at a sector or anywhere, or with sectors missing; unsynced names survive in any prefix, or all but one;
contents and names do so independently. After a failed sync the cache still shows the data and it never becomes
durable.

Reference: T. S. Pillai et al., All File Systems Are Not Created Equal, OSDI 2014; A. Rebello et al., Can Applications
Recover from fsync Failures?, USENIX ATC 2020.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from midstream.core.errors import FolderLocked
from midstream.events.disk import Bytes

SECTOR_BYTES = 512
"""The smallest unit that a disk writes whole."""
CHANGES = frozenset({"make_folder", "open", "write", "truncate", "sync", "sync_folder", "rename", "unlink", "lose"})
"""Kinds of calls after which a power loss may leave something new."""


class Call(NamedTuple):
    """One call that was made."""

    kind: str
    """Name of the method."""
    arguments: tuple[object, ...]


class _Change(NamedTuple):
    """Unsynced bytes of a file, or with ``data`` None its unsynced end."""

    start: int
    data: bytes | None


class _Name(NamedTuple):
    """An unsynced change of names: what is removed, and what is linked to which file."""

    removed: Path | None
    linked: Path | None
    file: "_File | None"


@dataclass(eq=False)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    cache: bytearray = field(default_factory=bytearray)
    pending: list[_Change] = field(default_factory=list[_Change])


class ForgetfulDisk:
    """A file system in memory, whose unsynced part a power loss may take."""

    def __init__(
        self, contents: Mapping[Path, bytes] | None = None, folders: Iterable[Path] = (), *, records: bool = True
    ) -> None:
        """Begin with these files, durable, and these folders; without ``records`` calls are not kept."""
        self._records = records
        self.calls: list[Call] = []
        """Every call, oldest first, those that read included."""
        self._folders = set(folders)
        self._names = {path: _File(bytearray(data), bytearray(data)) for path, data in (contents or {}).items()}
        self._durable_names = dict(self._names)
        self._pending_names: list[_Name] = []
        self._open: dict[int, _File] = {}
        self._locks: dict[int, Path] = {}
        self._handle_count = 0

    def make_folder(self, folder: Path) -> None:
        """Create a folder and those above it; their names are durable at once, as the real disk makes them."""
        self._note("make_folder", folder)
        self._folders.update((folder, *folder.parents))

    def list_folder(self, folder: Path) -> list[str]:
        """Return the names of the files in a folder, sorted."""
        self._note("list_folder", folder)
        return sorted(path.name for path in self._names if path.parent == folder)

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable."""
        self._note("sync_folder", folder)
        self._require_folder(folder)
        for change in [each for each in self._pending_names if folder in _folders_of(each)]:
            _apply_name(self._durable_names, change)
            self._pending_names.remove(change)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, replacing what had it."""
        self._note("rename", old, new)
        self._change_name(_Name(old, new, self._at(old)))

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        self._note("unlink", path)
        self._at(path)
        self._change_name(_Name(path, None, None))

    def size(self, path: Path) -> int:
        """Return the number of bytes in a file."""
        self._note("size", path)
        return len(self._at(path).cache)

    def read(self, path: Path, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``, fewer where the file ends before."""
        self._note("read", path, start, length)
        return bytes(self._at(path).cache[start : start + length])

    def open(self, path: Path, *, alone: bool = False) -> int:
        """Open a file for writing, created empty where there is none."""
        self._note("open", path)
        self._require_folder(path.parent)
        if path not in self._names:
            self._change_name(_Name(None, path, _File()))
        return self._handle(self._names[path])

    def write(self, file: int, parts: Sequence[Bytes], start: int) -> None:
        """Write all parts from ``start`` into the cache."""
        data = b"".join(parts)
        self._note("write", file, (data,), start)
        if data:
            self._change(file, _Change(start, data))

    def truncate(self, file: int, length: int) -> None:
        """Cut a file to ``length`` bytes in the cache."""
        self._note("truncate", file, length)
        self._change(file, _Change(length, None))

    def sync(self, file: int) -> None:
        """Make durable what was written since the last sync, as far as the cache still knows that it was not."""
        self._note("sync", file)
        opened = self._open[file]
        for change in opened.pending:
            _apply(opened.durable, change)
        opened.pending.clear()

    def lose(self, file: int) -> None:
        """Be the disk whose sync fails: the cache takes for clean what never became durable."""
        self._note("lose", file)
        self._open[file].pending.clear()

    def close(self, file: int) -> None:
        """Release an open file or a lock."""
        self._note("close", file)
        if self._locks.pop(file, None) is None:
            del self._open[file]

    def is_at(self, file: int, path: Path) -> bool:
        """Return whether a path still leads to an open file."""
        self._note("is_at", file, path)
        return self._names.get(path) is self._open[file]

    def lock(self, path: Path, folder: Path) -> int:
        """Take the lock of a folder."""
        self._note("lock", path, folder)
        if folder in self._locks.values():
            message = f"{path.parent} is in use by process {os.getpid()}"
            raise FolderLocked(message)
        self._handle_count += 1
        self._locks[self._handle_count] = folder
        return self._handle_count

    def take_away(self, path: Path) -> None:
        """Remove a file as a stranger would, who has it open or not; durably. Not recorded."""
        del self._names[path]
        self._durable_names.pop(path, None)

    def damage(self, path: Path, content: bytes) -> None:
        """Put other bytes into a file, durably, as rot or a stranger would. Not recorded."""
        file = self._names[path]
        file.durable, file.cache = bytearray(content), bytearray(content)
        file.pending.clear()

    def contents(self) -> dict[Path, bytes]:
        """Return what the cache shows: the bytes of each file. Not recorded."""
        return {path: bytes(file.cache) for path, file in self._names.items()}

    def crash_states(self, tear: int = SECTOR_BYTES) -> Iterator["ForgetfulDisk"]:
        """Yield the distinct disks that a power loss at this moment may leave, open files and locks gone.

        Args:
            tear: The last write of a file is also torn at each multiple of this many bytes in the file, and with
                each sector missing.
        """
        seen: set[tuple[tuple[Path, bytes], ...]] = set()
        for names in _names_left(self._durable_names, self._pending_names):
            for contents in _contents_left(list(dict.fromkeys(self._names.values())), tear):
                left = {path: contents.get(file, bytes(file.durable)) for path, file in names.items()}
                key = tuple(sorted(left.items()))
                if key not in seen:
                    seen.add(key)
                    yield ForgetfulDisk(left, self._folders)

    def adopt(self, path: Path, content: bytes) -> None:
        """Know a file that was made without this disk, durable as it is. Not recorded."""
        if path not in self._names:
            self._folders.update(path.parents)
            self._names[path] = self._durable_names[path] = _File(bytearray(content), bytearray(content))

    def kill(self) -> None:
        """The process ends: its open files and locks are gone, what it wrote stays in the cache. Not recorded."""
        self._open.clear()
        self._locks.clear()

    def power_loss(self, below: Callable[[int], int]) -> "ForgetfulDisk":
        """Return one disk that a power loss at this moment may leave, open files and locks gone. Not recorded.

        Args:
            below: Gives a number from 0 to before the one it is given: all chance there is.
        """
        ways = list(_names_left(self._durable_names, self._pending_names))
        names = ways[below(len(ways))]
        left: dict[Path, bytes] = {}
        drawn: dict[_File, bytes] = {}
        for path, file in names.items():
            if file not in drawn:
                drawn[file] = _drawn_content(file, below)
            left[path] = drawn[file]
        return ForgetfulDisk(left, self._folders, records=self._records)

    def _note(self, kind: str, *arguments: object) -> None:
        if self._records:
            self.calls.append(Call(kind, arguments))

    def _handle(self, file: _File) -> int:
        self._handle_count += 1
        self._open[self._handle_count] = file
        return self._handle_count

    def _at(self, path: Path) -> _File:
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._names[path]

    def _require_folder(self, folder: Path) -> None:
        if folder not in self._folders:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))

    def _change_name(self, change: _Name) -> None:
        _apply_name(self._names, change)
        self._pending_names.append(change)

    def _change(self, file: int, change: _Change) -> None:
        opened = self._open[file]
        _apply(opened.cache, change)
        opened.pending.append(change)


@dataclass(frozen=True, slots=True)
class DiskFault:
    """Which call fails, and how."""

    kind: str
    """Name of the method."""
    nth: int = 1
    """Which of its calls from now on, the first is 1."""
    error: int = errno.EIO
    """Error number."""
    written: float = 0.5
    """Share of the bytes of a failing write that still arrive: a short write."""
    for_good: bool = False
    """All later calls of the kind fail too, until ``heal``."""


class FailingDisk:
    """Stands in front of a forgetful disk and raises where it is told to."""

    def __init__(self, inner: ForgetfulDisk) -> None:
        """Let everything pass until ``fail``."""
        self._inner = inner
        self._fault: DiskFault | None = None
        self._then: DiskFault | None = None
        self._count = 0
        self.failed = 0
        """Number of calls that were made to fail."""

    def fail(self, fault: DiskFault, then: DiskFault | None = None) -> None:
        """Fail as told, counting calls from now; once it was met, fail as told by ``then``."""
        self._fault = fault
        self._then = then
        self._count = 0

    def heal(self) -> None:
        """Fail no more."""
        self._fault = self._then = None

    def make_folder(self, folder: Path) -> None:
        """Create a folder, or fail."""
        self._meet("make_folder")
        self._inner.make_folder(folder)

    def list_folder(self, folder: Path) -> list[str]:
        """Return the names in a folder, or fail."""
        self._meet("list_folder")
        return self._inner.list_folder(folder)

    def sync_folder(self, folder: Path) -> None:
        """Make names durable, or fail."""
        self._meet("sync_folder")
        self._inner.sync_folder(folder)

    def rename(self, old: Path, new: Path) -> None:
        """Rename, or fail."""
        self._meet("rename")
        self._inner.rename(old, new)

    def unlink(self, path: Path) -> None:
        """Remove, or fail."""
        self._meet("unlink")
        self._inner.unlink(path)

    def size(self, path: Path) -> int:
        """Return the size, or fail."""
        self._meet("size")
        return self._inner.size(path)

    def read(self, path: Path, start: int, length: int) -> bytes:
        """Read, or fail."""
        self._meet("read")
        return self._inner.read(path, start, length)

    def open(self, path: Path, *, alone: bool = False) -> int:
        """Open, or fail."""
        self._meet("open")
        return self._inner.open(path, alone=alone)

    def write(self, file: int, parts: Sequence[Bytes], start: int) -> None:
        """Write all; or only the first share of it, and fail."""
        fault = self._due("write")
        if fault is not None:
            data = b"".join(parts)
            self._inner.write(file, [data[: int(len(data) * fault.written)]], start)
            raise self._error(fault)
        self._inner.write(file, parts, start)

    def truncate(self, file: int, length: int) -> None:
        """Cut, or fail."""
        self._meet("truncate")
        self._inner.truncate(file, length)

    def sync(self, file: int) -> None:
        """Sync; or fail, and with it lose what was to become durable."""
        fault = self._due("sync")
        if fault is not None:
            self._inner.lose(file)
            raise self._error(fault)
        self._inner.sync(file)

    def close(self, file: int) -> None:
        """Release a file."""
        self._inner.close(file)

    def is_at(self, file: int, path: Path) -> bool:
        """Return whether a path leads to an open file, or fail."""
        self._meet("is_at")
        return self._inner.is_at(file, path)

    def lock(self, path: Path, folder: Path) -> int:
        """Take a lock, or fail."""
        self._meet("lock")
        return self._inner.lock(path, folder)

    def _due(self, kind: str) -> DiskFault | None:
        """Count a call; return the fault when it is this call that fails."""
        fault = self._fault
        if fault is None or kind != fault.kind:
            return None
        self._count += 1
        is_due = self._count == fault.nth or (fault.for_good and self._count > fault.nth)
        if not is_due:
            return None
        if self._then is not None:
            self.fail(self._then)
        return fault

    def _error(self, fault: DiskFault) -> OSError:
        self.failed += 1
        return OSError(fault.error, os.strerror(fault.error))

    def _meet(self, kind: str) -> None:
        fault = self._due(kind)
        if fault is not None:
            raise self._error(fault)


def replayed(calls: Sequence[Call]) -> Iterator[tuple[int, ForgetfulDisk]]:
    """Yield the disk after each of the calls that changed it, with how many calls that were.

    It is the same object each time, made again from nothing: look at it before asking for the next.
    """
    disk = ForgetfulDisk()
    for number, (kind, arguments) in enumerate(calls, start=1):
        if kind in CHANGES or kind in {"lock", "close"}:  # these two count handles
            getattr(disk, kind)(*arguments)
        if kind in CHANGES:
            yield number, disk


def _apply_name(names: dict[Path, _File], change: _Name) -> None:
    if change.removed is not None:
        names.pop(change.removed, None)
    if change.linked is not None and change.file is not None:
        names[change.linked] = change.file


def _folders_of(change: _Name) -> set[Path]:
    return {path.parent for path in (change.removed, change.linked) if path is not None}


def _content(durable: Bytes, changes: Sequence[_Change]) -> bytes:
    """Return a file's bytes after the changes."""
    content = bytearray(durable)
    for change in changes:
        _apply(content, change)
    return bytes(content)


def _apply(content: bytearray, change: _Change) -> None:
    """Make one change; what lies between the end of the file and a later write reads as zeros."""
    start, data = change
    if len(content) < start:
        content.extend(bytes(start - len(content)))
    if data is None:
        del content[start:]
    else:
        content[start : start + len(data)] = data


def _names_left(durable: dict[Path, _File], pending: Sequence[_Name]) -> Iterator[dict[Path, _File]]:
    """Yield the names that may be left: each prefix of the pending changes, and all of them but one."""
    kept = [pending[:count] for count in range(len(pending) + 1)]
    kept += [[each for each in pending if each is not missing] for missing in pending[:-1]]
    for changes in kept:
        names = dict(durable)
        for change in changes:
            _apply_name(names, change)
        yield names


def _contents_left(files: Sequence[_File], tear: int) -> Iterator[dict[_File, bytes]]:
    """Yield what may be left in the files: all of it, or of one file less, the others whole or not at all."""
    # What a failed sync lost shows in the cache and is in no pending change: durable is all there is of it.
    whole = {file: _content(file.durable, file.pending) for file in files}
    lost = {file: bytes(file.durable) for file in files}
    yield whole
    yield lost
    for file in files:
        for left in _versions(file, tear):
            yield {**whole, file: left}
            yield {**lost, file: left}


def _drawn_content(file: _File, below: Callable[[int], int]) -> bytes:
    """Return what is left of a file: some of its unsynced changes, the last of them torn, or rotten where it is new."""
    kept = below(len(file.pending) + 1)
    content = _content(file.durable, file.pending[:kept])
    if kept == len(file.pending) or below(2):
        return content
    ways = list(_torn(file.pending[kept], SECTOR_BYTES))
    if not ways:
        return content
    torn = bytearray(_content(content, ways[below(len(ways))]))
    if len(torn) > len(content) and below(4) == 0:
        # A sector that was being written holds anything; one that held these bytes before holds them still.
        torn[len(content) + below(len(torn) - len(content))] ^= 1 << below(8)
    return bytes(torn)


def _versions(file: _File, tear: int) -> Iterator[bytes]:
    for count, change in enumerate(file.pending):
        before = file.pending[:count]
        yield _content(file.durable, before)
        for torn in _torn(change, tear):
            yield _content(file.durable, [*before, *torn])


def _torn(change: _Change, tear: int) -> Iterator[list[_Change]]:
    """Yield what may be left of one write: up to any multiple of ``tear``, all but one sector, or its length alone."""
    start, data = change
    if data is None:
        return
    end = start + len(data)
    for stop in range(start + tear - start % tear, end, tear):
        yield [_Change(start, data[: stop - start])]
    for sector in range(start - start % SECTOR_BYTES, end, SECTOR_BYTES):
        begin, stop = max(sector, start), min(sector + SECTOR_BYTES, end)
        yield [_Change(start, data[: begin - start]), _Change(stop, data[stop - start :])]
    yield [_Change(end, b"")]
